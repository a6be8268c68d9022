"""How far a cell is from its centralised ideal: the kernel that its clients see, before the first training round.

Kernels are those of the masked initial model, on examples of the clients' own and on Gaussian inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from fedfore.contract.border import words
from fedfore.federation.observers.observer import Observer, View
from fedfore.federation.world import World
from fedfore.masks import prunable_weights
from fedfore.measure.ntk import affordable
from fedfore.measure.ntk_errors import NtkErrors, measure
from fedfore.records.lines import EIGENVALUES
from fedfore.records.probes import MIN_PROBES, MOST_CLIENTS
from fedfore.streams import stream_seed, torch_generator

ERRORS = ("rel_frobenius_error", "mmd2", "spectrum_error")


@dataclass(frozen=True)
class Kernels:
    """The fields `ntk_*` of a record, or the reason for their absence, and the lines of eigenvalues.jsonl."""

    fields: Mapping[str, float | str | None]
    lines: Sequence[Mapping[str, Any]] = field(default_factory=list)

    @classmethod
    def absent(cls, reason: str) -> Kernels:
        """Return what is said where kernels are not measured."""
        return cls({"ntk_reason": reason})


class KernelProbe(Observer):
    """Measures kernels where the protocol asks for them and they are worth their cost."""

    def __init__(self) -> None:
        self.kernels = Kernels({})

    def after_setup(self, view: View) -> None:
        cell = view.world.cell
        reason = cell.train.without_kernels(cell.seed)
        with view.clock.charge("ntk"):
            self.kernels = Kernels.absent(reason) if reason else _observed(view)

    def fields(self, view: View) -> Mapping[str, Any]:
        return self.kernels.fields

    def lines(self, view: View) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {EIGENVALUES: self.kernels.lines} if self.kernels.lines else {}

    def state_dict(self) -> dict[str, Any]:
        return {"fields": dict(self.kernels.fields), "lines": [dict(line) for line in self.kernels.lines]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.kernels = Kernels(state["fields"], state["lines"])


def _observed(view: View) -> Kernels:
    try:
        return kernels(view, view.server.macs.dense)
    except Exception as error:  # noqa: BLE001
        return Kernels.absent(f"The kernel of this model cannot be computed: {words(error)}.")


def kernels(view: View, forward_macs: int) -> Kernels:
    """Measure the kernels of the server's model, whose forward pass takes so many MACs an example.

    Every client gives `MIN_PROBES` examples of its own; Gaussian probes are as many.
    """
    world, model, mask = view.world, view.server.model, view.server.mask
    if not prunable_weights(model):
        return Kernels.absent("The model has no prunable weight, with respect to which the kernel is taken.")
    order = probe_generator(world, 0)
    shuffled = torch.randperm(len(world.parts), generator=order).tolist()
    clients = [client for client in shuffled if len(world.parts[client]) >= MIN_PROBES][:MOST_CLIENTS]
    if len(clients) < 2:
        return Kernels.absent(f"Fewer than two clients have {MIN_PROBES} examples.")
    reason = affordable(model, MIN_PROBES * len(clients), world.spec.num_classes, forward_macs, mask)
    if reason is not None:
        return Kernels.absent(reason)
    shares = [float(len(world.parts[client])) for client in clients]
    real = [probe_examples(world, world.parts[client], order) for client in clients]
    gaussian = [torch.empty(x.shape).normal_(generator=order).to(x.device) for x in real]
    fields: dict[str, float | str | None] = {"ntk_reason": None}
    lines: list[Mapping[str, Any]] = []
    for inputs, probes in (("real", real), ("gaussian", gaussian)):
        errors = measure(model, probes, shares, mask, probe_generator(world, 1))
        if errors is None:
            return Kernels.absent("The kernel is zero or not finite.")
        suffix = "" if inputs == "real" else f"_{inputs}"
        for name in ERRORS:
            one = getattr(errors, name)
            fields |= {f"ntk_{name}{suffix}": one.value, f"ntk_{name}{suffix}_iid": one.iid}
        lines += _spectra(errors, clients, inputs)
    return Kernels(fields, lines)


def _spectra(errors: NtkErrors, clients: Sequence[int], inputs: str) -> list[dict[str, Any]]:
    """Return one line a kernel; `client` is null for the kernel over all clients' probes."""
    owners = ((None, errors.spectrum), *zip(clients, errors.client_spectra, strict=True))
    return [{"client": owner, "inputs": inputs, "eigenvalues": spectrum.tolist()} for owner, spectrum in owners]


def probe_examples(world: World, indices: np.ndarray, generator: torch.Generator) -> Tensor:
    """Return `MIN_PROBES` of the training examples `indices`, drawn without replacement: [n, C, H, W]."""
    chosen = torch.randperm(len(indices), generator=generator)[:MIN_PROBES]
    return world.batch(indices[chosen.numpy()]).x


def probe_generator(world: World, number: int) -> torch.Generator:
    """Return the seed's generator of what kernels are measured on, by number."""
    return torch_generator(stream_seed(world.cell.seed, "probe", "ntk", number))
