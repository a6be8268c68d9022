"""From what a finished cell was measured to be, to the flat numeric fields of its record
(`fedfore.records.metrics`)."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

import numpy as np

from fedfore.cell import Cell
from fedfore.federation.result import Point, Result
from fedfore.federation.rules import measured_sparsity
from fedfore.masks import dead_channels, prunable_weights
from fedfore.measure.clock import CLOCKS
from fedfore.measure.device import DeviceCost
from fedfore.measure.diagnostics import Diagnosis, summary
from fedfore.measure.evaluation import client_accuracies
from fedfore.measure.memory import ACCOUNTS
from fedfore.primitives.offset import used_weights
from fedfore.tasks.partition import label_skew_tv

HEADLINE_EVALUATIONS = 5
DIRECTIONS = ("uplink", "downlink")


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


def diagnosis_line(diagnosis: Diagnosis) -> dict[str, Any]:
    """Return one line of diagnostics.jsonl."""
    return asdict(diagnosis)


def layer_lines(result: Result) -> list[dict[str, Any]]:
    """Return one line of layers.jsonl a prunable layer: its size, kept weights and dense forward MACs an example."""
    return [
        {
            "layer": name,
            "size": weight.numel(),
            "kept": result.mask.layer_kept[name] if result.mask else weight.numel(),
            "forward_macs_dense": result.macs.layers[name],
        }
        for name, weight in prunable_weights(result.model).items()
    ]


def adjustment_lines(result: Result) -> list[dict[str, Any]]:
    """Return one line of adjustments.jsonl a change of the mask in training."""
    return [asdict(change) for change in result.mask_changes.changes]


def measured_fields(cell: Cell, result: Result) -> dict[str, Any]:
    """Return every measured field of a cell's record."""
    labels = result.train.labels.cpu().numpy()
    variant = result.notes.get("variant")
    return {
        "method_variant": None if variant is None else str(variant),
        **_accuracy(result),
        "budget_used": _budget_used(cell, result),
        **cost_fields(result),
        **_totals(result),
        **result.approximation,
        "churn": result.mask_changes.churn,
        "mask_moved": result.mask_changes.moved(result.mask) if result.mask else None,
        **summary(result.diagnoses, result.energy_at_start),
        "label_skew_tv": label_skew_tv(labels, list(result.parts), int(labels.max()) + 1),
        "evaluates_other_weights": result.evaluates_other_weights,
        "min_client_examples": min(len(part) for part in result.parts),
    }


def cost_fields(result: Result) -> dict[str, Any]:
    """Return the fields that are metered and counted, whatever was learnt meanwhile: what a device pays a step."""
    return {
        **_compute(result),
        **_memory(result),
        **_per_client_round(result),
        **_sparsity(result),
        **{f"{name}_seconds": result.clock.seconds[name] for name in CLOCKS},
    }


def spent_fields(result: Result) -> dict[str, Any]:
    """Return the fields that hold of a cell which did not come to its end: totals until then, and what a step costs.

    The latter only where a round of training ended: before that neither the mask nor the dearest step is known.
    """
    return {**(cost_fields(result) if result.totals["train"].rounds else {}), **_totals(result)}


def _accuracy(result: Result) -> dict[str, Any]:
    trained = result.points[1:]
    if not trained:
        return {"data_passes": 0.0, "server_updates": 0, "setup_rounds": result.totals["setup"].rounds}
    tests = [point.test.accuracy for point in trained]
    validations = [point.validation.accuracy for point in trained if point.validation is not None]
    anew = [point.recalibrated.accuracy for point in trained if point.recalibrated is not None]
    clients = client_accuracies(trained[-1].test, result.train.labels.cpu(), result.parts)
    return {
        "test_accuracy": float(np.mean(tests[-HEADLINE_EVALUATIONS:])),
        "final_test_accuracy": tests[-1],
        "best_test_accuracy": max(tests),
        "test_accuracy_recalibrated": float(np.mean(anew[-HEADLINE_EVALUATIONS:])) if anew else None,
        "test_loss": trained[-1].test.loss,
        "validation_accuracy": float(np.mean(validations[-HEADLINE_EVALUATIONS:])) if validations else None,
        "client_accuracy_mean": float(clients.mean()),
        "client_accuracy_min": float(clients.min()),
        "data_passes": trained[-1].data_passes,
        "server_updates": result.totals["train"].rounds,
        "setup_rounds": result.totals["setup"].rounds,
    }


def _budget_used(cell: Cell, result: Result) -> float | None:
    train = result.totals["train"]
    spent = train.rounds if cell.train.data_passes is None else train.examples / len(result.train)
    return spent / cell.train.budget if cell.train.budget else None


def _compute(result: Result) -> dict[str, Any]:
    step, scoring = (_heaviest(result, phase) for phase in ("train", "setup"))
    uncounted = set(result.macs.uncounted).union(*(cost.uncounted for costs in result.costs.values() for cost in costs))
    return {
        "forward_macs_dense": result.macs.dense,
        "forward_macs_masked": result.macs.masked(result.mask),
        "uncounted_ops": ",".join(sorted(uncounted)),
        "device_step_flops": step.flops_per_batch if step else None,
        "device_setup_flops": scoring.flops(1, 1.0) if scoring else None,
        "perturbation_ops": step.perturbation_ops if step else None,
        "metered_batch": next((cost.batch for cost in (step, scoring) if cost), None),
    }


def _heaviest(result: Result, phase: str) -> DeviceCost | None:
    return max(result.costs[phase], key=lambda cost: cost.peak_bytes, default=None)


def _memory(result: Result) -> dict[str, Any]:
    peaks = {phase: _heaviest(result, phase) for phase in ("setup", "train")}
    fields: dict[str, Any] = {
        f"peak_device_bytes_{phase}": cost.peak_bytes if cost else 0 for phase, cost in peaks.items()
    }
    highest = max((cost for cost in peaks.values() if cost), key=lambda cost: cost.peak_bytes, default=None)
    if highest is None:
        return {}
    return {
        **fields,
        "peak_device_bytes": highest.peak_bytes,
        **{f"peak_device_bytes_{name}": highest.peak[name] for name in ACCOUNTS},
        "peak_device_bytes_sparse": max(cost.peak_bytes_sparse for costs in result.costs.values() for cost in costs),
    }


def _per_client_round(result: Result) -> dict[str, Any]:
    train = result.totals["train"]
    return {
        f"{direction}_bytes_per_client_round": (
            getattr(train, f"{direction}_bytes") / train.client_rounds if train.client_rounds else None
        )
        for direction in DIRECTIONS
    }


def _totals(result: Result) -> dict[str, Any]:
    fields: dict[str, Any] = {f"{phase}_flops_total": totals.flops for phase, totals in result.totals.items()}
    for direction in DIRECTIONS:
        by_phase = {phase: getattr(totals, f"{direction}_bytes") for phase, totals in result.totals.items()}
        fields[f"{direction}_bytes"] = sum(by_phase.values())
        fields |= {f"{direction}_bytes_{phase}": value for phase, value in by_phase.items()}
    return fields


def _sparsity(result: Result) -> dict[str, Any]:
    total = sum(parameter.numel() for parameter in result.model.parameters())
    prunable = sum(weight.numel() for weight in prunable_weights(result.model).values())
    sparsity = measured_sparsity(result.model, result.mask)
    return {
        "num_parameters": total,
        "num_prunable": prunable,
        "sparsity_measured": sparsity,
        "sparsity_all_parameters": sparsity * prunable / total,
        "layer_density_min": min(result.mask.layer_densities().values()) if result.mask else 1.0,
        "dead_channels": sum(int(dead_channels(weight).sum()) for _, weight in used_weights(result.model)),
    }
