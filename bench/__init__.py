"""FedFore, a benchmarking suite for federated learning on low-memory devices: the one package that installs.

Its rooms, from the doors down; a room imports what stands below it, and `records` only the vocabulary:

    cli, api        the doors: for people, for plug-in files
    execution       from a matrix to records
    federation      the training loop in parts
    measure, tasks  what looks at a model or a device; what is learnt
    contract        what a method is
    primitives      what methods are made of
    records         what is stored, and read without torch
    errors, cell, streams, masks: the vocabulary that everybody may import

`fedfore.plots`, `fedfore.methods` and `fedfore.baselines` lie beside this folder.
"""

from importlib.metadata import version

if __name__ != "fedfore":
    raise ImportError(f"The suite is imported as fedfore, not as {__name__}: write `from fedfore.api import Method`.")

__version__ = version("fedfore")
