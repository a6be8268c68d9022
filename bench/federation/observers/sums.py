"""Sums and sizes: what was used, what a device sends a round, what the clients hold, how large the model is."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, ClassVar

import numpy as np

from fedfore.federation.observers.observer import Observer, View
from fedfore.federation.rules import measured_sparsity
from fedfore.masks import dead_channels, prunable_weights
from fedfore.primitives.offset import used_weights
from fedfore.records.lines import ADJUSTMENTS, LAYERS
from fedfore.tasks.partition import label_skew_tv

DIRECTIONS = ("uplink_bytes", "downlink_bytes")


class Budget(Observer):
    """How much of its budget training used."""

    def fields(self, view: View) -> Mapping[str, Any]:
        budget, train = view.world.cell.train.budget, view.ledger.totals["train"]
        return {
            "data_passes": view.ledger.data_passes,
            "budget_used": view.ledger.spent / budget if budget else None,
            "server_updates": train.rounds,
            "setup_rounds": view.ledger.totals["setup"].rounds,
        }


class Variant(Observer):
    """What the method calls the form in which it runs."""

    def fields(self, view: View) -> Mapping[str, Any]:
        variant = view.server.notes.get("variant")
        return {"method_variant": None if variant is None else str(variant)}


class Spending(Observer):
    """Bytes and FLOPs over all clients and rounds."""

    tells_of: ClassVar = "spending"

    def fields(self, view: View) -> Mapping[str, Any]:
        totals = view.ledger.totals
        fields: dict[str, Any] = {f"{phase}_flops_total": used.flops for phase, used in totals.items()}
        for direction in DIRECTIONS:
            by_phase = {phase: getattr(used, direction) for phase, used in totals.items()}
            fields[direction] = sum(by_phase.values())
            fields |= {f"{direction}_{phase}": value for phase, value in by_phase.items()}
        return fields


class DeviceTraffic(Observer):
    """Bytes of one client in one round of training."""

    tells_of: ClassVar = "device"

    def fields(self, view: View) -> Mapping[str, Any]:
        train = view.ledger.totals["train"]
        return {
            f"{direction}_per_client_round": (
                getattr(train, direction) / train.client_rounds if train.client_rounds else None
            )
            for direction in DIRECTIONS
        }


class Stopwatch(Observer):
    """Seconds of simulation, by what they were used for."""

    tells_of: ClassVar = "device"

    def fields(self, view: View) -> Mapping[str, Any]:
        return {f"{name}_seconds": seconds for name, seconds in view.clock.seconds.items()}


class ModelSize(Observer):
    """Parameters, and what is left of them under the mask, by layer."""

    tells_of: ClassVar = "device"

    def fields(self, view: View) -> Mapping[str, Any]:
        model, mask = view.server.model, view.server.mask
        total = sum(parameter.numel() for parameter in model.parameters())
        prunable = sum(weight.numel() for weight in prunable_weights(model).values())
        sparsity = measured_sparsity(model, mask)
        return {
            "num_parameters": total,
            "num_prunable": prunable,
            "sparsity_measured": sparsity,
            "sparsity_all_parameters": sparsity * prunable / total,
            "layer_density_min": min(mask.layer_densities().values()) if mask else 1.0,
            "dead_channels": sum(int(dead_channels(weight).sum()) for _, weight in used_weights(model)),
        }

    def lines(self, view: View) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        mask, macs = view.server.mask, view.server.macs
        return {
            LAYERS: [
                {
                    "layer": name,
                    "size": weight.numel(),
                    "kept": mask.layer_kept[name] if mask else weight.numel(),
                    "forward_macs_dense": macs.layers[name],
                }
                for name, weight in prunable_weights(view.server.model).items()
            ]
        }


class MaskMovement(Observer):
    """How the mask moved in training."""

    def fields(self, view: View) -> Mapping[str, Any]:
        changes, mask = view.server.mask_changes, view.server.mask
        return {"churn": changes.churn, "mask_moved": changes.moved(mask) if mask else None}

    def lines(self, view: View) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        changes = view.server.mask_changes.changes
        return {ADJUSTMENTS: [asdict(change) for change in changes]} if changes else {}


class Partition(Observer):
    """What the clients were dealt."""

    def fields(self, view: View) -> Mapping[str, Any]:
        labels, parts = view.world.train_set.labels.cpu().numpy(), view.world.parts
        return {
            "label_skew_tv": label_skew_tv(labels, list(parts), int(labels.max()) + 1),
            "min_client_examples": min(len(part) for part in parts),
            "partition_sha256": partition_sha256(view.world.shares),
        }


def partition_sha256(parts: Sequence[np.ndarray]) -> str:
    """Return the SHA-256 of the clients' example indices: of every client their number and they, as 8-byte integers."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(np.concatenate(([len(part)], part)).astype("<i8").tobytes())
    return digest.hexdigest()
