"""How far a federated cell is from its centralised ideal: the kernel its clients see, and the mask they agree on.

Kernels are those of the masked initial model, before the first training round. Masks are compared with what the same
setup makes of one client that holds all data, at as many draws as all clients make together.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor, nn

from fedfore.federation.clients import Fleet
from fedfore.masks import Mask, prunable_weights
from fedfore.measure.ntk import affordable, empirical_ntk
from fedfore.measure.ntk_errors import (
    layer_density_l1,
    mask_iou,
    measure,
    shuffled_iou,
    spectrum,
    spectrum_distance,
)
from fedfore.records.probes import MIN_PROBES, MOST_CLIENTS
from fedfore.streams import stream_seed, torch_generator


def kernel_fields(
    model: nn.Module, mask: Mask | None, fleet: Fleet, num_classes: int, forward_macs: int
) -> dict[str, float | str | None]:
    """Return the fields `ntk_*` of a cell's record, for real and for Gaussian probes, or the reason for their absence.

    Every client gives `MIN_PROBES` examples of its own; Gaussian probes are as many.
    """
    fields: dict[str, float | str | None] = {}
    if not prunable_weights(model):
        return {"ntk_reason": "The model has no prunable weight, with respect to which the kernel is taken."}
    order = _generator(fleet, 0)
    clients = [
        i for i in torch.randperm(len(fleet.parts), generator=order).tolist() if len(fleet.parts[i]) >= MIN_PROBES
    ]
    clients = clients[:MOST_CLIENTS]
    if len(clients) < 2:
        return {"ntk_reason": f"Fewer than two clients have {MIN_PROBES} examples."}
    reason = affordable(model, MIN_PROBES * len(clients), num_classes, forward_macs, mask)
    if reason is not None:
        return {"ntk_reason": reason}
    shares = [float(len(fleet.parts[client])) for client in clients]
    real = [_examples(fleet, fleet.parts[client], order) for client in clients]
    gaussian = [torch.empty(x.shape).normal_(generator=order).to(x.device) for x in real]
    for suffix, probes in (("", real), ("_gaussian", gaussian)):
        errors = measure(model, probes, shares, mask, _generator(fleet, 1))
        if errors is None:
            return {"ntk_reason": "The kernel is zero or not finite."}
        for name in ("rel_frobenius_error", "mmd2", "spectrum_error"):
            one = getattr(errors, name)
            fields |= {f"ntk_{name}{suffix}": one.value, f"ntk_{name}{suffix}_iid": one.iid}
    return {"ntk_reason": None, **fields}


def mask_fields(
    mask: Mask, reference: Callable[[int, Mapping[str, str]], Mask], model: nn.Module, fleet: Fleet
) -> dict[str, float]:
    """Return the fields of a cell's record that compare its first mask with centralised ones.

    `reference(number, params)` makes a centralised mask, independent of other numbers', with other parameters of the
    method. `model` holds the dense initial weights: the two spectra of `target_spectrum_error` are those of its kernels
    under either mask, on the same real probes.
    """
    central, independent, target = reference(0, {}), reference(1, {}), reference(0, {"inputs": "real"})
    probes = _examples(fleet, np.arange(len(fleet.train)), _generator(fleet, 2))
    distances = {
        "layer_density_l1": layer_density_l1(mask, central),
        "layer_density_l1_null": layer_density_l1(central, independent),
        "target_layer_density_l1": layer_density_l1(mask, target),
        "target_layer_density_l1_null": layer_density_l1(target, reference(1, {"inputs": "real"})),
    }
    return {
        **distances,
        **{name.replace("layer_density_l1", "moved_weights"): value / 2 for name, value in distances.items()},
        "mask_iou": mask_iou(mask, central),
        "mask_iou_null": mask_iou(central, independent),
        "mask_iou_shuffled": shuffled_iou(mask, central),
        "target_spectrum_error": spectrum_distance(*(_masked_spectrum(model, one, probes) for one in (mask, target))),
    }


def _masked_spectrum(model: nn.Module, mask: Mask, probes: Tensor) -> Tensor:
    masked = copy.deepcopy(model)
    mask.apply_(dict(masked.named_parameters()))
    return spectrum(empirical_ntk(masked, probes, mask))


def _examples(fleet: Fleet, indices: np.ndarray, generator: torch.Generator) -> Tensor:
    chosen = torch.randperm(len(indices), generator=generator)[:MIN_PROBES]
    return fleet.batch(indices[chosen.numpy()]).x


def _generator(fleet: Fleet, number: int) -> torch.Generator:
    return torch_generator(stream_seed(fleet.cell.seed, "probe", "ntk", number))
