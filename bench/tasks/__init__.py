"""What is learnt: data sets, their partition over clients, and models.

May import `records`, `primitives` and the vocabulary.
"""
