"""What is learnt: data sets, their partition over clients, and models.

Imports primitives, records and the vocabulary.
"""
