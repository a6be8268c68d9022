"""The suite's own methods: one file each, found by its place. The file's name is the method's name.

May import `api` and `primitives`.
"""

if __name__ != "fedfore.methods":
    raise ImportError(f"This folder is imported as fedfore.methods, not as {__name__}.")
