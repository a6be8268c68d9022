"""The training loop in parts, with the wire between server and devices and the rules that methods keep.

May import `measure`, `tasks`, `contract`, `records`, `primitives` and the vocabulary.
"""
