"""How far the mask that clients agree on is from centralised ones.

A mask is compared with what the same setup makes of one client that holds all data, at as many draws as all clients
make together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor, nn

from fedfore.federation.observers.kernels import probe_examples, probe_generator
from fedfore.federation.observers.observer import Observer, View
from fedfore.federation.rules import expect
from fedfore.masks import Mask
from fedfore.measure.ntk import empirical_ntk
from fedfore.measure.ntk_errors import layer_density_l1, mask_iou, shuffled_iou, spectrum, spectrum_distance

Ideal = Callable[[View, Any, int], Mask]
"""`ideal(view, config, number)` makes the mask of a method's Config without federation, one that is independent of
other numbers'."""


@dataclass(frozen=True)
class Ideals:
    """Masks made without federation: on the method's own inputs and on real ones, and of each an independent one."""

    own: Mask
    other_own: Mask
    real: Mask
    other_real: Mask


class MaskComparison(Observer):
    """Compares the first mask of training with centralised ones, where the protocol asks for it and there are any."""

    def __init__(self, ideal: Ideal) -> None:
        self._ideal = ideal
        self._fields: dict[str, float] = {}

    def after_setup(self, view: View) -> None:
        cell, mask = view.world.cell, view.server.mask
        if not cell.train.compare_masks or mask is None:
            return
        configs = [view.server.method.centralised(cell.train.cohort_size, real_inputs=real) for real in (False, True)]
        for config in configs:
            if config is not None:
                expect(config, view.server.method.Config, "centralised")
        if None not in configs:
            with view.clock.charge("ntk"):
                federated = [self._ideal(view, config, number) for config in configs for number in (0, 1)]
                self._fields = mask_fields(view, mask, Ideals(*federated))

    def fields(self, view: View) -> Mapping[str, Any]:
        return self._fields

    def state_dict(self) -> dict[str, Any]:
        return {"fields": dict(self._fields)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._fields = dict(state["fields"])


def mask_fields(view: View, mask: Mask, ideals: Ideals) -> dict[str, float]:
    """Return the fields of a cell's record that compare its mask with centralised ones.

    The two spectra of `target_spectrum_error` are those of the kernels of the dense initial weights under either mask,
    on the same real probes.
    """
    central, target = ideals.own, ideals.real
    distances = {
        "layer_density_l1": layer_density_l1(mask, central),
        "layer_density_l1_null": layer_density_l1(central, ideals.other_own),
        "target_layer_density_l1": layer_density_l1(mask, target),
        "target_layer_density_l1_null": layer_density_l1(target, ideals.other_real),
    }
    model, world = view.server.dense_start(), view.world
    probes = probe_examples(world, np.arange(len(world.train_set)), probe_generator(world, 2))
    return {
        **distances,
        **{name.replace("layer_density_l1", "moved_weights"): value / 2 for name, value in distances.items()},
        "mask_iou": mask_iou(mask, central),
        "mask_iou_null": mask_iou(central, ideals.other_own),
        "mask_iou_shuffled": shuffled_iou(mask, central),
        "target_spectrum_error": spectrum_distance(*(_masked_spectrum(model, one, probes) for one in (mask, target))),
    }


def _masked_spectrum(model: nn.Module, mask: Mask, probes: Tensor) -> Tensor:
    masked = copy.deepcopy(model)
    mask.apply_(dict(masked.named_parameters()))
    return spectrum(empirical_ntk(masked, probes, mask))
