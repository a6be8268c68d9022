"""Published methods to compare with: one file each, found by its place. The file's name is the method's name.

May import `api` and `primitives`.
"""

if __name__ != "fedfore.baselines":
    raise ImportError(f"This folder is imported as fedfore.baselines, not as {__name__}.")
