"""What figures know of the suite's own settings: how they are called, and which of them name a series first.

A setting that is not listed, such as a plug-in's, is called by its key.
"""

from __future__ import annotations

from fedfore.errors import printable
from fedfore.plots.looks import SALIENCIES

SALIENCY = "params.saliency"
"""Names a series of its own for each known value."""
SWITCHES = ("train.ntk", "train.ntk_seeds", "train.compare_masks")
"""Settings that choose what is measured: they name a series only where nothing else tells its cells apart."""
SIGMA, FORM, PRECISION = "params.sigma", "params.form", "params.precision"
"""The size, the form and the float type of finite differences."""
_FIRST, _LAST = "params.num_perturbations", "params.lr"
_SHORT_NAMES = {"num_perturbations": "K", "scoring_micro_batch": "inputs a pass"}
_PHRASES: dict[tuple[str, object], str] = {
    ("inputs", "gaussian"): "Gaussian inputs",
    ("inputs", "real"): "real inputs",
    ("memory", "none"): "",
    ("memory", "checkpoint"): "checkpointing",
    ("memory", "accumulate"): "accumulation",
    ("memory", "optimizer_in_backward"): "optimizer in backward",
    ("restore", "seed"): "restores from the seed",
    ("restore", "as_released"): "restores as released",
    ("restore", "copy"): "restores from a copy",
    ("scoring_micro_batch", None): "",
    ("shuffle", False): "",
    ("shuffle", True): "shuffled",
    ("upload", "scores"): "uploads scores",
    ("upload", "masks"): "uploads masks",
    ("where", "devices"): "scored by devices",
    ("where", "devices_forward"): "scored by devices' forward passes",
    ("where", "server"): "scored by the server",
    **{("saliency", name): one.label for name, one in SALIENCIES.items()},
}
"""Values that say what they are without their field's name; an empty one need not be said."""


def telling(column: str) -> tuple[bool, bool, bool]:
    """Return a key that sorts columns of settings by how well they name a series, the best first."""
    return column != _FIRST, column in SWITCHES, column == _LAST


def field_label(column: str, value: object) -> str:
    """Return a field and its value for a legend: `params.num_perturbations`, 100.0 -> "K=100"; maybe nothing."""
    name = column.split(".", 1)[-1]
    return _PHRASES.get(
        (name, value if value == value else None), f"{_SHORT_NAMES.get(name, name)}={value_label(value)}"
    )


def value_label(value: object) -> str:
    """Return a parameter's value as a reader would write it."""
    if value is None or value != value:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else printable(str(value).replace("_", " "))
