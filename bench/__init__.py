"""FedFore, a benchmarking suite for federated learning on low-memory devices: the one package that installs.

Its rooms, from the doors down; each `__init__` says what its room may import, which stands below it:

    cli, api, docs  the doors: for people, for plug-in files, and the pages that describe both
    execution       from a matrix to records
    federation      the training loop in parts
    measure, tasks  what looks at a model or a device; what is learnt
    contract        what a method is
    primitives      what methods are made of
    judgement       what records say against one another: estimates, contrasts, verdicts
    records         what is stored, and read without torch
    matrices        the matrices that ship
    templates       the plug-in files that `fedfore new` writes
    errors, cell, streams, masks: the vocabulary that everybody may import

`fedfore.plots`, `fedfore.methods` and `fedfore.baselines` lie beside this folder.
"""

from importlib.metadata import version

if __name__ != "fedfore":
    raise ImportError(f"The suite is imported as fedfore, not as {__name__}: write `from fedfore.api import Method`.")

__version__ = version("fedfore")
