"""The unit of a benchmark: one cell, its protocol, and the id that names its record. Pure data, no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat

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
SIMULATED = frozenset({"moment"})
"""Estimators whose updates carry, beside what is sent, something that no device could send."""


@dataclass(frozen=True)
class Protocol:
    """How every method of a matrix is trained (the `[train]` table).

    Exactly one of `data_passes` (passes over the union of the clients' data, counted in examples really drawn) and
    `rounds` is the budget; a cell ends after the round in which the budget is reached. `setup_only` cells have none:
    they end before training, unevaluated, and answer questions about masks and kernels. `meter_only` cells have none
    either: they run nothing but the meters, without data files (see `fedfore.execution.metering`). `eval_every` is in
    the unit of the budget and defaults to a twentieth of it. `ntk` measures the kernels that clients see, only in
    cells of a smaller seed where `ntk_seeds` is given; `compare_masks` runs the
    setup of a foresight-pruned cell four times more, on pooled data, to see how far its mask is from the centralised
    one. `wire_precision` is the type in which floats travel, both ways: a receiver computes with the rounded values, a
    sender keeps its own. `recalibrate` evaluates a second time at each evaluation, on a copy of the model whose
    batch-norm statistics are computed anew from training examples. `init` is the distribution of every method's initial
    weights, and of those that a saliency draws anew (see `fedfore.tasks.models.initialise`). `input_scaling` is that
    of all images, in training, scoring and evaluation: mean 0 and deviation 1 over the training set, or grey levels
    from 0 to 1 (`unit`).
    """

    clients: Count = 10
    participation: Participation = 1.0
    batch_size: Count = 32
    min_client_examples: Count = 10
    data_passes: Passes | None = None
    rounds: Count | None = None
    eval_every: PositiveFloat | None = None
    validation_fraction: OpenFraction = 0.0
    setup_only: bool = False
    meter_only: bool = False
    augment: bool = False
    ntk: bool = True
    ntk_seeds: Count | None = None
    compare_masks: bool = False
    wire_precision: WirePrecision = "float32"
    recalibrate: bool = False
    init: Initialiser = "kaiming"
    input_scaling: InputScaling = "standardised"

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
    """One point of a matrix: a method on a data set, model, sparsity, heterogeneity and seed.

    `params` is the method's whole configuration with its defaults filled in. `estimator` is None, and `sparsity` 0, for
    a method to which that axis means nothing.
    """

    method: str
    dataset: str
    model: str
    train: Protocol
    sparsity: OpenFraction = 0.0
    alpha: str | float = "iid"
    seed: NonNegativeInt = 0
    estimator: Estimator | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    id: str = ""


def cell_id(cell: Cell, param_defaults: Mapping[str, Any]) -> str:
    """Return `<method>-<12 hex>`: a hash of the scientific fields that differ from their defaults.

    A new field or parameter with a default that changes nothing therefore renames no stored record.
    """
    differing: dict[str, Any] = {}
    for item in fields(Cell):
        value = getattr(cell, item.name)
        if item.name not in ("train", "params", "id") and value != item.default:
            differing[item.name] = value
    plain = Protocol()
    differing["train"] = {k: v for k, v in asdict(cell.train).items() if v != getattr(plain, k)}
    differing["params"] = {k: v for k, v in cell.params.items() if v != param_defaults.get(k)}
    canonical = json.dumps(differing, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return f"{cell.method}-{hashlib.sha256(canonical.encode()).hexdigest()[:12]}"


def cell_to_json(cell: Cell) -> dict[str, Any]:
    """Return the cell as plain JSON types."""
    return asdict(cell)


def cell_from_json(data: Mapping[str, Any]) -> Cell:
    """Return the cell that `cell_to_json` wrote."""
    return Cell(**{**data, "train": Protocol(**data["train"])})
