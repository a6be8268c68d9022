"""The unit of a benchmark: one cell, its protocol, and the id that names its record. Pure data, no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, NonNegativeInt, PositiveFloat, TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from fedfore.errors import ConfigError

MOST = 2**31 - 1
"""The largest count that a protocol can ask for, and the largest position that an int32 index of a message can name."""

Count = Annotated[int, Field(ge=1, le=MOST)]
Fraction = Annotated[float, Field(gt=0.0, le=1.0)]
Participation = Annotated[float, Field(ge=1e-9, le=1.0)]
Passes = Annotated[float, Field(gt=0.0, le=MOST)]
OpenFraction = Annotated[float, Field(ge=0.0, lt=1.0)]
WirePrecision = Literal["float32", "float16", "bfloat16"]
Initialiser = Literal["kaiming", "pytorch"]
InputScaling = Literal["standardised", "unit"]
Estimator = Literal["finite_difference", "directional", "moment", "exact"]
Phase = Literal["setup", "train"]
Stage = Literal["tune1", "tune2", "report"]
Account = Literal["parameters", "gradients", "activations", "perturbation", "optimizer", "messages"]
"""What a device's memory holds."""
SIMULATED = frozenset({"moment"})
"""Estimators whose updates carry, beside what is sent, something that no device could send."""


@dataclass(frozen=True)
class Protocol:
    """How every method of a matrix is trained: the `[train]` table.

    Exactly one of `data_passes` and `rounds` is the budget; a cell ends after the round in which the budget is reached.
    Cells of `setup_only` and `meter_only` have none.
    """

    clients: Count = 10
    """Number of clients that the training data are dealt to."""
    participation: Participation = 1.0
    """Share of the clients in a round's cohort, drawn anew for every round; at least one client."""
    batch_size: Count = 32
    """Examples of a mini-batch on a device."""
    min_client_examples: Count = 10
    """The partition is drawn again until every client has at least as many training examples."""
    data_passes: Passes | None = None
    """The budget in passes over the union of the clients' data, counted in examples really drawn."""
    rounds: Count | None = None
    """The budget in rounds of the method. A round's length differs between methods: compare by `data_passes`."""
    eval_every: PositiveFloat | None = None
    """Distance between two evaluations, in the unit of the budget and at most the budget; unset, a twentieth of it. The
    evaluations of the headline come beside these.
    """
    validation_fraction: OpenFraction = 0.0
    """Share of the training data that is held out; only then is there a `validation_accuracy`."""
    split_seed: NonNegativeInt | None = None
    """Seed of the clients' shares and of what is held out, apart from the seed of everything else: with a fixed one,
    the seeds of a cell train on the same split. Unset, the seed of the cell.
    """
    setup_only: bool = False
    """End before training, unevaluated: for questions about masks and kernels."""
    meter_only: bool = False
    """Run nothing but the meters, on random images and without data files: for questions about costs."""
    augment: bool = False
    """Pad by 4 with reflection, crop at random, flip at random. CIFAR only."""
    ntk: bool = True
    """Measure the kernels that clients see at the initial weights; it takes half of a small cell's time."""
    ntk_seeds: Count | None = None
    """Measure kernels only in cells of a seed below this number; unset, in all."""
    compare_masks: bool = False
    """Run the setup of a foresight-pruned cell four times more, on pooled data, to see how far its mask is from the
    centralised one.
    """
    wire_precision: WirePrecision = "float32"
    """Type in which floats travel, both ways: a receiver computes with the rounded values, a sender keeps its own."""
    recalibrate: bool = False
    """Evaluate a second time at each evaluation, on a copy of the model whose batch-norm statistics are computed anew
    from training examples.
    """
    init: Initialiser = "kaiming"
    """Distribution of every method's initial weights, and of those that a saliency draws anew: `kaiming` is He-normal
    with biases 0, `pytorch` is torch.nn's default, 0.41 times as large and with biases.
    """
    input_scaling: InputScaling = "standardised"
    """Scaling of all images, in training, scoring and evaluation: `standardised` has mean 0 and deviation 1 over the
    training set, `unit` is grey levels from 0 to 1.
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def budget(self) -> float:
        """The budget, in data passes or in rounds; 0 where there is none."""
        return float(self.data_passes or self.rounds or 0)

    @property
    def cohort_size(self) -> int:
        """The number of clients that take part in a round."""
        return max(1, int(self.participation * self.clients + 0.5))

    def without_kernels(self, seed: int) -> str | None:
        """Return why no kernel is measured in a cell of this seed, or None where it is."""
        if not self.ntk:
            return "The protocol says train.ntk = false."
        if self.ntk_seeds is not None and seed >= self.ntk_seeds:
            return f"The protocol says train.ntk_seeds = {self.ntk_seeds}: kernels are measured at smaller seeds."
        return None

    @property
    def evaluation_interval(self) -> float:
        """The distance between two evaluations, in the unit of the budget."""
        return self.budget / 20 if self.eval_every is None else self.eval_every


@dataclass(frozen=True)
class Cell:
    """One point of a matrix: a method on a data set, model, sparsity, heterogeneity and seed."""

    method: str
    """Name of the method (`fedfore ls methods`)."""
    dataset: str
    """Name of the data set (`fedfore ls datasets`)."""
    model: str
    """Name of the model (`fedfore ls models`), with options as in "resnet20:norm=group,activation=relu"."""
    train: Protocol
    """The protocol."""
    sparsity: OpenFraction = 0.0
    """Fraction of zeros among prunable weights, those of convolutions and linear layers; 0 for a method to which the
    axis means nothing.
    """
    alpha: str | float = "iid"
    """Heterogeneity of the clients: "iid"; the concentration of a Dirichlet distribution of labels (small is skewed);
    "shards:s", s shards of sorted labels a client; "quantity:q", the concentration of one of the clients' sizes, alone
    or behind that of labels, "0.1,quantity:0.5"; "natural", the owners that the data set names; or "file:PATH", a
    partition file.
    """
    seed: NonNegativeInt = 0
    """Seed of everything random in the cell."""
    estimator: Estimator | None = None
    """How zeroth-order methods estimate a gradient; none for a method to which the axis means nothing."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """The method's whole configuration with its defaults filled in."""
    stage: Stage = "report"
    """What the cell is for: a trial of the first or second step of tuning, or a result that is reported."""
    id: str = ""
    """`<method>-<12 hex>` (see `cell_id`)."""

    @property
    def is_trial(self) -> bool:
        """Whether the cell only tunes: it is evaluated on validation data, and enters nothing that is reported."""
        return self.stage != "report"

    def seed_of(self, role: str) -> int:
        """Return the seed from which the random streams of a role are drawn (see `fedfore.streams`)."""
        if role == "partition" and self.train.split_seed is not None:
            return self.train.split_seed
        return self.seed

    __pydantic_config__ = ConfigDict(extra="forbid")


_ADAPTER = TypeAdapter(Cell)


def cell_id(cell: Cell, param_defaults: Mapping[str, Any]) -> str:
    """Return `<method>-<12 hex>`: a hash of the scientific fields that differ from their defaults.

    A new field or parameter with a default that changes nothing therefore renames no stored record.
    """
    differing: dict[str, Any] = {}
    for item in fields(Cell):
        value = getattr(cell, item.name)
        if item.name not in ("train", "params", "id") and value != item.default:
            differing[item.name] = value
    protocol = {item.name: (getattr(cell.train, item.name), item.default) for item in fields(Protocol)}
    differing["train"] = {key: value for key, (value, default) in protocol.items() if value != default}
    differing["params"] = {k: v for k, v in cell.params.items() if v != param_defaults.get(k)}
    canonical = json.dumps(differing, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{cell.method}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """Return the cell as plain JSON types."""
    plain: dict[str, Any] = _ADAPTER.dump_python(cell, mode="json")
    return plain


def cell_from_json(data: Mapping[str, Any]) -> Cell:
    """Return the cell that `cell_to_json` wrote.

    Raises ConfigError, which names the field, for one that is unknown or missing and for a value that it cannot have.
    """
    try:
        return _ADAPTER.validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        which = f' "{data["id"]}"' if isinstance(data, Mapping) and "id" in data else ""
        raise ConfigError(f"The stored cell{which} {_fault(error.errors()[0])}.") from None


def _fault(error: ErrorDetails) -> str:
    """Return what pydantic finds wrong with a cell, as a verb phrase that names the field."""
    place = error["loc"]
    if not place:
        return "is no JSON object"
    name = ".".join(map(str, place[:2] if place[0] == "train" else place[:1]))
    match error["type"]:
        case "unexpected_keyword_argument":
            return f'has a field "{name}", which this version of fedfore does not know'
        case "missing":
            return f'lacks the field "{name}"'
    return f"has {name} = {error['input']!r}: {error['msg'][0].lower()}{error['msg'][1:]}"
