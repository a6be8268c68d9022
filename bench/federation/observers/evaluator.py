"""Evaluations of the server's model along the budget, and what they come to."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
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
from fedfore.records.lines import CLIENTS, ROUNDS
from fedfore.records.probes import HEADLINE_EVALUATIONS

EVALUATIONS = ("test", "validation", "recalibrated")
"""The evaluations of a point, by name."""


@dataclass(frozen=True)
class Point:
    """The state of training at one evaluation. `spent` is in the unit of the budget, bytes and FLOPs are totals."""

    round: int
    data_passes: float
    spent: float
    uplink_bytes: int
    downlink_bytes: int
    device_flops: float
    test: Evaluation
    validation: Evaluation | None
    recalibrated: Evaluation | None
    """On test data, with batch-norm statistics computed anew; None where not asked for or without batch norm."""


class Evaluator(Observer):
    """Evaluates before training and whenever the spent budget has reached a multiple of the protocol's interval."""

    def __init__(self) -> None:
        self.points: list[Point] = []
        self._due = 0.0
        self._other_weights = False

    def after_setup(self, view: View) -> None:
        train = view.world.cell.train
        if not train.setup_only:
            self._evaluate(view)
        self._due = train.evaluation_interval

    def after_round(self, view: View) -> None:
        ledger, interval = view.ledger, view.world.cell.train.evaluation_interval
        if ledger.spent >= self._due - 1e-9 or ledger.is_spent:
            self._evaluate(view)
            self._due = interval * (math.floor((ledger.spent + 1e-9) / interval) + 1)

    def fields(self, view: View) -> Mapping[str, Any]:
        return {"evaluates_other_weights": self._other_weights, **self._accuracies(view)}

    def log(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {ROUNDS: [round_line(point) for point in self.points]}

    def lines(self, view: View) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {CLIENTS: self._clients(view)}

    def state_dict(self) -> dict[str, Any]:
        return {
            "points": [_point_state(point) for point in self.points],
            "due": self._due,
            "other_weights": self._other_weights,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.points = [_point_of(point) for point in state["points"]]
        self._due, self._other_weights = state["due"], state["other_weights"]

    def _accuracies(self, view: View) -> dict[str, Any]:
        trained = self.points[1:]
        if not trained:
            return {}
        window, last = trained[-HEADLINE_EVALUATIONS:], trained[-1]
        tests = [point.test.accuracy for point in trained]
        validations = [point.validation.accuracy for point in trained if point.validation is not None]
        anew = [point.recalibrated.accuracy for point in trained if point.recalibrated is not None]
        clients = client_accuracies(last.test, self._counts(view))
        return {
            "test_accuracy": _headline(tests),
            "test_accuracy_span": (last.spent - window[0].spent) / view.world.cell.train.budget,
            "final_test_accuracy": tests[-1],
            "best_test_accuracy": max(tests),
            "test_accuracy_recalibrated": _headline(anew),
            "test_loss": last.test.loss,
            "validation_accuracy": _headline(validations),
            "client_accuracy_mean": float(clients.mean()),
            "client_accuracy_min": float(clients.min()),
            "client_accuracy_p10": float(np.quantile(clients, 0.1)),
        }

    def _clients(self, view: View) -> list[dict[str, Any]]:
        """Return the lines of clients.jsonl: what clients hold, and their accuracies at the last evaluation."""
        counts = self._counts(view)
        accuracies = client_accuracies(self.points[-1].test, counts) if self.points else [None] * len(counts)
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
        classes, torch_device = world.spec.num_classes, world.torch_device
        with view.clock.charge("evaluate"):
            other = view.server.evaluation_weights(view.server.context("train", 0, view.ledger.progress))
            self._other_weights = other is not None
            model = view.clients.scratch(view.server.model)
            load_tensors(model, other or {})
            test = evaluate(model, world.test_set, classes, torch_device)
            validation = evaluate(model, world.validation_set, classes, torch_device) if world.validation_set else None
            anew = self._recalibrated(view) if world.cell.train.recalibrate else None
        if not math.isfinite(test.loss):
            raise Diverged(
                f"The test loss is not finite after train round {train.rounds}; try a smaller learning rate."
            )
        self.points.append(
            Point(
                round=train.rounds,
                data_passes=view.ledger.data_passes,
                spent=view.ledger.spent,
                uplink_bytes=setup.uplink_bytes + train.uplink_bytes,
                downlink_bytes=setup.downlink_bytes + train.downlink_bytes,
                device_flops=setup.flops + train.flops,
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
        "test_accuracy": point.test.accuracy,
        "test_loss": point.test.loss,
        "test_accuracy_recalibrated": point.recalibrated.accuracy if point.recalibrated else None,
    }


def _headline(accuracies: Sequence[float]) -> float | None:
    """Return the mean of the last evaluations that the headline stands for; None where there is none."""
    return float(np.mean(accuracies[-HEADLINE_EVALUATIONS:])) if accuracies else None


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
