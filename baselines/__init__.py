"""Published methods to compare with: one file each, found by its place. The file's name is the method's name."""
