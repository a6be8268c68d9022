"""What methods are made of: local SGD, zeroth-order estimates, saliencies, prune and grow, and their like.

A method file imports these and `fedfore.api`, nothing else of the suite. May import the vocabulary.
"""
