"""What a method is: the contract, the base classes that methods share, and how method files are found.

Imports primitives, records and the vocabulary.
"""
