"""What a cell is measured to be while it runs and at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import nn

from fedfore.masks import Mask
from fedfore.measure.clock import Clock
from fedfore.measure.device import DeviceCost
from fedfore.measure.diagnostics import Diagnosis
from fedfore.measure.evaluation import Evaluation
from fedfore.measure.flops import ForwardMacs
from fedfore.measure.mask_changes import MaskChanges
from fedfore.tasks.examples import Examples


@dataclass
class Totals:
    """What a phase used so far, over all clients: `client_rounds` counts every client of every round."""

    rounds: int = 0
    client_rounds: int = 0
    examples: int = 0
    uplink_bytes: int = 0
    downlink_bytes: int = 0
    flops: float = 0.0


@dataclass(frozen=True)
class Point:
    """The state of training at one evaluation."""

    round: int
    data_passes: float
    uplink_bytes: int
    downlink_bytes: int
    device_flops: float
    test: Evaluation
    validation: Evaluation | None
    recalibrated: Evaluation | None
    """On test data, with batch-norm statistics computed anew; None where not asked for or without batch norm."""


@dataclass(frozen=True)
class Result:
    """All that a cell was measured to be; `fedfore.execution.record_fields` turns it into fields.

    parts: every client's indices into `train`, one int64 vector (examples,) a client. approximation: the record's
    fields on the federated kernel and the mask. totals and costs are by phase, costs one a metered kind of round.
    """

    model: nn.Module
    macs: ForwardMacs
    mask: Mask | None
    mask_changes: MaskChanges
    train: Examples
    parts: Sequence[np.ndarray]
    points: Sequence[Point]
    diagnoses: Sequence[Diagnosis]
    energy_at_start: float | None
    evaluates_other_weights: bool
    approximation: Mapping[str, float | str | None]
    notes: Mapping[str, Any]
    totals: Mapping[str, Totals]
    costs: Mapping[str, Sequence[DeviceCost]]
    clock: Clock
