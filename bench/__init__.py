"""FedFore, a benchmarking suite for federated learning on low-memory devices: the one package that installs.

In Python and notebooks, `fedfore.run` runs a matrix, `fedfore.load` reads runs and published studies, `fedfore.plot`
draws them, `fedfore.compare` judges them, and `fedfore.cost` says what a device would pay. Errors are
`fedfore.FedForeError`. Each name is imported when it is asked for, so `import fedfore` costs next to nothing.

Its rooms, from the doors down; each `__init__` says what its room may import, which stands below it:

    cli, python, api, docs
                    the doors: for people, for their own code, for plug-in files, and the pages that describe them
    display         what a person sees of a run that is planned or goes on
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

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if __name__ != "fedfore":
    raise ImportError(f"The suite is imported as fedfore, not as {__name__}: write `from fedfore.api import Method`.")

__version__ = version("fedfore")
__all__ = ["Comparisons", "Cost", "FedForeError", "Results", "compare", "cost", "load", "plot", "run"]

if TYPE_CHECKING:
    from fedfore.errors import FedForeError
    from fedfore.python.costs import Cost, cost
    from fedfore.python.drawing import plot
    from fedfore.python.judging import Comparisons, compare
    from fedfore.python.results import Results, load
    from fedfore.python.running import run
else:
    _HOMES = {
        "Comparisons": "fedfore.python.judging",
        "Cost": "fedfore.python.costs",
        "FedForeError": "fedfore.errors",
        "Results": "fedfore.python.results",
        "compare": "fedfore.python.judging",
        "cost": "fedfore.python.costs",
        "load": "fedfore.python.results",
        "plot": "fedfore.python.drawing",
        "run": "fedfore.python.running",
    }

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return globals().setdefault(name, getattr(import_module(_HOMES[name]), name))

    def __dir__() -> list[str]:
        return sorted({*globals(), *_HOMES})
