"""What figures know of the suite's own settings: how they are called, and which of them name a series first.

A series is named by what differs from its method's reference setting, so that such values are said by nothing. A
setting that is not listed, such as a plug-in's, is called by its key, and each of its values is said.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from fedfore.errors import printable
from fedfore.plots.looks import SALIENCIES

SALIENCY = "params.saliency"
"""Names a series of its own for each known value."""
SWITCHES = ("train.ntk", "train.ntk_seeds", "train.compare_masks")
"""Settings that choose what is measured: they name a series only where nothing else tells its cells apart."""
SIGMA, FORM, PRECISION = "params.sigma", "params.form", "params.precision"
"""The size, the form and the float type of finite differences."""
UPLOAD = "params.upload"
"""What devices send of a mask."""
NUM_PERTURBATIONS = "params.num_perturbations"
OF_ESTIMATES = (NUM_PERTURBATIONS, SIGMA, FORM)
"""What the exact gradient has no use for."""
EXACT = "exact"
"""The estimator of a control, which replaces the estimate by the gradient itself."""
LEARNING_RATE, INIT_SCALE = "params.lr", "params.init_scale"
"""What is tuned for each series; the rate names one only where nothing else does."""
_SHORT_NAMES = {"num_perturbations": "K", "batch_size": "B", "sigma": "\N{GREEK SMALL LETTER SIGMA}"}
_FORMATS = {
    "clients": "{} clients",
    "init_scale": "init \N{MULTIPLICATION SIGN} {}",
    "sap_rate": "{} of activations pruned",
    "scoring_micro_batch": "{} inputs a pass",
}
_PHRASES: dict[tuple[str, str], str] = {
    ("adjust_every", "1"): "mask stays",
    ("estimator", EXACT): "exact gradient",
    ("estimator", "finite difference"): "finite differences",
    ("estimator", "directional"): "directional",
    ("estimator", "moment"): "moment",
    ("form", "forward"): "forward",
    ("form", "central"): "central",
    ("init_scale", "1"): "",
    ("inputs", "gaussian"): "Gaussian inputs",
    ("inputs", "real"): "real inputs",
    ("mask_perturbations_only", "false"): "",
    ("mask_perturbations_only", "true"): "mask on perturbations alone",
    ("memory", "none"): "",
    ("memory", "checkpoint"): "checkpointing",
    ("memory", "accumulate"): "accumulation",
    ("memory", "optimizer in backward"): "optimizer in backward",
    ("nsconv", "true"): "",
    ("nsconv", "false"): "without NSConv",
    ("perturbations", "shared"): "shared perturbations",
    ("perturbations", "independent"): "independent perturbations",
    ("precision", "float32"): "",
    ("precision", "float16"): "float16",
    ("precision", "bfloat16"): "bfloat16",
    ("restore", "seed"): "restores from the seed",
    ("restore", "as released"): "restores as released",
    ("restore", "copy"): "restores from a copy",
    ("sap_rate", "0"): "without SAP",
    ("sap_rate", "0.9"): "",
    ("scoring_micro_batch", "1"): "one input a pass",
    ("shuffle", "false"): "",
    ("shuffle", "true"): "shuffled",
    ("upload", "scores"): "uploads scores",
    ("upload", "masks"): "uploads masks",
    ("where", "devices"): "scored by devices",
    ("where", "devices forward"): "scored by devices' forward passes",
    ("where", "server"): "scored by the server",
    **{("saliency", name): one.label for name, one in SALIENCIES.items()},
}
"""What values are called, by the text of `value_label`; an empty one need not be said."""

_DATASETS = {"mnist": "MNIST", "fashion_mnist": "Fashion-MNIST", "cifar10": "CIFAR-10", "cifar100": "CIFAR-100"}
_MODELS = {"lenet5": "LeNet-5", "baffle_lenet": "BAFFLE's LeNet", "mobilenet_v2": "MobileNetV2"}
_NORMS = {"norm=none": "no norm", "norm=batch": "batch norm", "norm=group": "group norm"}


def short_datasets(names: Iterable[str]) -> dict[str, str]:
    """Return each data set's name, that of arrays of one's own by its file's stem; with its hash where two have one."""
    found = {name: re.sub(r"^(?:npz|folder):(?:.*/)?([^/]*?)(?:\.npz)?(?::\d+)?@\w+$", r"\1", name) for name in names}
    short = list(found.values())
    return {
        name: stem if short.count(stem) == 1 else f"{stem} {name.rpartition('@')[2]}" for name, stem in found.items()
    }


def dataset_label(name: str) -> str:
    """Return a data set's name as papers write it; one that does not ship has its own."""
    return _DATASETS.get(name, printable(name))


def model_label(name: str) -> str:
    """Return a model's name as papers write it, its options behind: "resnet14:norm=none" -> "ResNet-14, no norm"."""
    base, _, options = name.partition(":")
    words = [_NORMS.get(option, option.replace("=", " ")) for option in options.split(",") if option]
    known = _MODELS.get(base) or re.sub(r"^resnet(?=\d)", "ResNet-", base)
    return ", ".join(map(printable, (known, *words)))


def telling(column: str) -> tuple[bool, bool, bool]:
    """Return a key that sorts columns of settings by how well they name a series, the best first."""
    return column != NUM_PERTURBATIONS, column in SWITCHES, column == LEARNING_RATE


def field_name(column: str) -> str:
    """Return a field's name: `params.num_perturbations` -> "K"."""
    name = column.split(".", 1)[-1]
    return _SHORT_NAMES.get(name, name.replace("_", " "))


def field_label(column: str, value: object) -> str:
    """Return a field and its value for a legend: `params.num_perturbations`, 100.0 -> "K=100".

    Nothing for a value that need not be said, and for None, which is said of cells that have no such setting.
    """
    if value is None or value != value:
        return ""
    name, text = column.split(".", 1)[-1], value_label(value)
    if (name, text) in _PHRASES:
        return _PHRASES[name, text]
    if isinstance(value, bool):
        return f"{'' if value else 'without '}{field_name(column)}"
    return _FORMATS.get(name, f"{field_name(column)}={{}}").format(text)


def value_label(value: object) -> str:
    """Return a parameter's value as a reader would write it."""
    if value is None or value != value:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, int | float) else printable(str(value).replace("_", " "))
