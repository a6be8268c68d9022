"""The suite's own methods: one file each, found by its place. The file's name is the method's name."""
