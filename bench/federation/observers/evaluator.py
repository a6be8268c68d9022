"""Evaluations of the server's model along the budget, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from fedfore.errors import Diverged
from fedfore.federation.observers.observer import Observer, View
from fedfore.measure.evaluation import (
    RECALIBRATION_EXAMPLES,
    Evaluation,
    client_accuracies,
    evaluate,
    label_counts,
    recalibrated,
)
from fedfore.primitives.flat import load_tensors
from fedfore.records.headline import Schedule, window_span, window_start
from fedfore.records.lines import CLIENTS, ROUNDS

EVALUATIONS = ("test", "validation", "recalibrated")
"""The evaluations of a point, by name."""


@dataclass(frozen=True)
class Point:
    """The state of training at one evaluation. `spent` is in the unit of the budget, bytes and FLOPs are totals.

    A trial of tuning is not metered, and not evaluated on test data.
    """

    round: int
    data_passes: float
    spent: float
    uplink_bytes: int
    downlink_bytes: int
    device_flops: float | None
    test: Evaluation | None
    validation: Evaluation | None
    recalibrated: Evaluation | None
    """On test data, with batch-norm statistics computed anew; None where not asked for or without batch norm."""


class Evaluator(Observer):
    """Evaluates before training, at the protocol's interval, and for the headline; a trial for the headline alone."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._schedule = Schedule(0.0)
        self._other_weights = False

    def after_setup(self, view: View) -> None:
        cell = view.world.cell
        interval = None if cell.is_trial else cell.train.evaluation_interval
        self._schedule = Schedule(cell.train.budget, interval)
        if not (cell.is_trial or cell.train.setup_only):
            self._evaluate(view)

    def after_round(self, view: View) -> None:
        if self._schedule.is_due(view.ledger.spent):
            self._evaluate(view)

    def fields(self, view: View) -> Mapping[str, Any]:
        return {"evaluates_other_weights": self._other_weights, **self._accuracies(view)}

    def log(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {ROUNDS: [round_line(point) for point in self.points]}

    def lines(self, view: View) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {} if view.world.cell.is_trial else {CLIENTS: self._clients(view)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "points": [_point_state(point) for point in self.points],
            "schedule": asdict(self._schedule),
            "other_weights": self._other_weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.points = [_point_of(point) for point in state["points"]]
        self._schedule, self._other_weights = Schedule(**state["schedule"]), state["other_weights"]

    def _accuracies(self, view: View) -> dict[str, Any]:
        trained = [point for point in self.points if point.round > 0]
        if not trained:
            return {}
        spent, budget = [point.spent for point in trained], view.world.cell.train.budget
        window, last = trained[window_start(spent, budget) :], trained[-1].test
        fields = {
            "test_accuracy": _mean_accuracy(point.test for point in window),
            "test_accuracy_span": window_span(spent, budget),
            "test_accuracy_recalibrated": _mean_accuracy(point.recalibrated for point in window),
            "validation_accuracy": _mean_accuracy(point.validation for point in window),
        }
        if last is None:
            return fields
        clients = client_accuracies(last, self._counts(view))
        return {
            **fields,
            "final_test_accuracy": last.accuracy,
            "best_test_accuracy": max(point.test.accuracy for point in trained if point.test is not None),
            "test_loss": last.loss,
            "headline_mask_changes": _mask_changes(view, window[0].round, window[-1].round),
            "client_accuracy_mean": float(clients.mean()),
            "client_accuracy_min": float(clients.min()),
            "client_accuracy_p10": float(np.quantile(clients, 0.1)),
        }

    def _clients(self, view: View) -> list[dict[str, Any]]:
        """Return the lines of clients.jsonl: what clients hold, and their accuracies at the last evaluation."""
        counts = self._counts(view)
        last = self.points[-1].test if self.points else None
        accuracies = client_accuracies(last, counts) if last is not None else [None] * len(counts)
        return [
            {
                "client": client,
                "examples": int(of_classes.sum()),
                "class_counts": of_classes.tolist(),
                "test_accuracy": None if accuracy is None else float(accuracy),
            }
            for client, (of_classes, accuracy) in enumerate(zip(counts, accuracies, strict=True))
        ]

    def _counts(self, view: View) -> np.ndarray:
        world = view.world
        return label_counts(world.train_set.labels, world.parts, world.spec.num_classes)

    def _evaluate(self, view: View) -> None:
        world, train, setup = view.world, view.ledger.totals["train"], view.ledger.totals["setup"]
        is_trial = world.cell.is_trial
        classes, torch_device = world.spec.num_classes, world.torch_device
        with view.clock.charge("evaluate"):
            other = view.server.evaluation_weights(view.server.context("train", 0, view.ledger.progress))
            self._other_weights = other is not None
            model = view.clients.scratch(view.server.model)
            load_tensors(model, other or {})
            test = None if is_trial else evaluate(model, world.test_set, classes, torch_device)
            validation = evaluate(model, world.validation_set, classes, torch_device) if world.validation_set else None
            anew = self._recalibrated(view) if world.cell.train.recalibrate and not is_trial else None
        for name, found in (("test", test), ("validation", validation)):
            if found is not None and not math.isfinite(found.loss):
                raise Diverged(
                    f"The {name} loss is not finite after train round {train.rounds}; try a smaller learning rate."
                )
        self.points.append(
            Point(
                round=train.rounds,
                data_passes=view.ledger.data_passes,
                spent=view.ledger.spent,
                uplink_bytes=setup.uplink_bytes + train.uplink_bytes,
                downlink_bytes=setup.downlink_bytes + train.downlink_bytes,
                device_flops=None if is_trial else setup.flops + train.flops,
                test=test,
                validation=validation,
                recalibrated=anew,
            )
        )

    def _recalibrated(self, view: View) -> Evaluation | None:
        """Evaluate the model that is being evaluated with batch-norm statistics of training examples, if it has any.

        The examples are the same for all methods and rounds of a seed, as they are, without augmentation.
        """
        world = view.world
        order = world.generator("probe", "recalibrate").permutation(len(world.train_set))
        chosen = torch.from_numpy(order[:RECALIBRATION_EXAMPLES])
        model = recalibrated(view.clients.model, world.train_set.subset(chosen), world.torch_device)
        if model is None:
            return None
        return evaluate(model, world.test_set, world.spec.num_classes, world.torch_device)


def round_line(point: Point) -> dict[str, Any]:
    """Return one line of rounds.jsonl."""
    return {
        "round": point.round,
        "data_passes": point.data_passes,
        "uplink_bytes": point.uplink_bytes,
        "downlink_bytes": point.downlink_bytes,
        "device_flops": point.device_flops,
        "test_accuracy": point.test.accuracy if point.test else None,
        "test_loss": point.test.loss if point.test else None,
        "test_accuracy_recalibrated": point.recalibrated.accuracy if point.recalibrated else None,
        "validation_accuracy": point.validation.accuracy if point.validation else None,
    }


def _mask_changes(view: View, first: int, last: int) -> int | None:
    """Return how often the mask changed after round `first` and by round `last`; None where there is none."""
    if view.server.mask is None:
        return None
    return sum(first < change.round <= last for change in view.server.mask_changes.changes)


def _mean_accuracy(evaluations: Iterable[Evaluation | None]) -> float | None:
    """Return the mean accuracy of the evaluations that there are; None where there is none."""
    accuracies = [one.accuracy for one in evaluations if one is not None]
    return float(np.mean(accuracies)) if accuracies else None


def _point_state(point: Point) -> dict[str, Any]:
    found = asdict(point)
    for name in EVALUATIONS:
        if found[name] is not None:
            found[name]["class_accuracy"] = torch.from_numpy(found[name]["class_accuracy"])
    return found


def _point_of(state: Mapping[str, Any]) -> Point:
    found = dict(state)
    for name in EVALUATIONS:
        if found[name] is not None:
            found[name] = Evaluation(**{**found[name], "class_accuracy": found[name]["class_accuracy"].numpy()})
    return Point(**found)
