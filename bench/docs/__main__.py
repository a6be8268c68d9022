"""Write the tables of the reference pages again."""

from fedfore.docs.pages import refresh

if __name__ == "__main__":
    refresh()
