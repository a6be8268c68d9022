"""What a method is: the contract, the base classes that methods share, and how method files are found.

May import `records`, `primitives` and the vocabulary.
"""
