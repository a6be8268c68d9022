"""The server of a federation: its model, its mask, its memory, and the rules that its side of a method keeps."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from fedfore.cell import Phase
from fedfore.contract.context import ClientContext, Context, ServerContext
from fedfore.contract.exchange import Message, Update
from fedfore.contract.instance import fingerprint, instantiate
from fedfore.contract.method import Method
from fedfore.errors import ContractError, Diverged
from fedfore.federation.rules import (
    check_last_batches,
    check_named,
    check_plain,
    check_revival,
    check_sparsity,
    check_tensors,
    check_unchanged,
    check_untouched,
    expect,
    storages_of,
)
from fedfore.federation.states import load_buffers, mask_of, mask_state, packed, unpacked
from fedfore.federation.untouched import unchanged_modules, unchanged_values
from fedfore.federation.wire import Layout
from fedfore.federation.world import World
from fedfore.masks import Mask
from fedfore.measure.flops import ForwardMacs, forward_macs
from fedfore.measure.mask_changes import MaskChanges
from fedfore.primitives.flat import flat_parameters, load_tensors, model_tensors


class Server:
    """What the server holds and does. `mask_version` counts its masks, `state` is the method's memory, `notes` what it
    has told of itself.

    `active` are the indices of the model's values that travel under the mask, None for all. `started` are the
    parameters that `start` left, before any mask; nothing once training begins. Every hook raises ContractError where
    the method breaks a rule.
    """

    def __init__(self, method: type[Method], world: World) -> None:
        self.method = instantiate(method, world.cell.params)
        self.world = world
        self.model = world.initial_model(self.method)
        sizes = [len(part) for part in world.parts]
        check_last_batches(self.model, sizes, world.cell.train.batch_size, world.spec.input_shape)
        self.layout = Layout.of(self.model)
        self.mask: Mask | None = None
        self.mask_version = 0
        self.mask_changes = MaskChanges()
        self.state: dict[str, Any] = {}
        self.notes: dict[str, Any] = {}
        self.started: Mapping[str, Tensor] = {}
        self.active: Tensor | None = None
        self._own_mask: Mask | None = None
        self._fingerprint = fingerprint(self.method)

    def context(self, phase: Phase, round: int, progress: float, cohort: tuple[int, ...] = ()) -> ServerContext:
        """Return the server's context of a round."""
        common = self.world.context(phase, round, self.mask, progress)
        return ServerContext(**common, state=self.state, cohort=cohort, notes=self.notes)

    def cohort(self, phase: Phase, round: int) -> tuple[int, ...]:
        """Return the clients of a round, in order."""
        one_cohort = phase == "setup" and self.method.one_setup_cohort
        return self.world.cohort(phase, 0 if one_cohort else round)

    def start(self) -> int:
        """Start the method; return the number of its setup rounds."""
        with unchanged_modules(self.model, type(self.method), "start"):
            mask = self.method.start(self.model, self.context("setup", 0, 0.0))
        check_plain(self.state, "ctx.state", storages_of(self.model))
        self.started = {name: own.detach().clone() for name, own in self.model.named_parameters()}
        self.adopt(mask)
        skips_setup = self.world.cell.sparsity == 0 and "sparsity" in self.method.uses
        rounds = 0 if skips_setup else self.method.setup_rounds(self.world.cell)
        expect(rounds, int, "setup_rounds")
        if isinstance(rounds, bool) or rounds < 0:
            name = type(self.method).__name__
            raise ContractError("hook_type", f"{name}.setup_rounds returns {rounds!r}; it is a number from 0 on.")
        return rounds

    def message(self, ctx: ServerContext) -> Message:
        """Return what the server sends in a round."""
        with unchanged_modules(self.model, type(self.method), "broadcast"):
            message = self.method.broadcast(self.model, ctx)
        expect(message, Message, "broadcast")
        check_named(message.tensors, "the server")
        return message

    def aggregate(self, updates: Sequence[Update], ctx: ServerContext) -> None:
        """Let the method end a round. Raises Diverged at the first weight that is not finite."""
        with unchanged_modules(self.model, type(self.method), "aggregate"):
            mask = self.method.aggregate(self.model, updates, ctx)
        self.adopt(mask, ctx.round + 1 if ctx.phase == "train" else None)
        if not bool(torch.isfinite(flat_parameters(self.model)).all()):
            raise Diverged(
                f"The server's weights are not finite after {ctx.phase} round {ctx.round + 1}; try a smaller learning "
                "rate."
            )
        where = f"the server after {ctx.phase} round {ctx.round}"
        check_tensors(model_tensors(self.model), self.layout, self.mask, where)
        check_plain(self.state, "ctx.state", storages_of(self.model))

    def evaluation_weights(self, ctx: ServerContext) -> Mapping[str, Tensor] | None:
        """Return the tensors that are evaluated in place of the model's, by name, or None."""
        method, hook = type(self.method), "evaluation_weights"
        with unchanged_modules(self.model, method, hook), unchanged_values(self.model, self.state, method, hook):
            other = self.method.evaluation_weights(self.model, ctx)
        if other is None:
            return None
        expect(other, Mapping, "evaluation_weights")
        tensors = model_tensors(self.model) | dict(other)
        check_tensors(tensors, self.layout, self.mask, "evaluation_weights")
        return tensors

    def adopt(self, mask: Mask | None, trained_rounds: int | None = None) -> None:
        """Make a mask of `start` or `aggregate` the present one; `trained_rounds` are those of training, in training.

        None changes nothing.
        """
        if mask is None:
            return
        expect(mask, Mask, "start and aggregate")
        mask.check_fits(self.model)
        mask = mask.to(self.world.torch_device)
        if mask.same_as(self.mask):
            return
        if trained_rounds is not None:
            check_revival(mask, self.mask, type(self.method))
            if self.mask is not None:
                self.mask_changes.see(trained_rounds, self.mask, mask)
        self._hold(mask)
        self.mask_version += 1
        mask.apply_(model_tensors(self.model))

    def check_sparsity(self) -> None:
        """Raise ContractError (`sparsity`) where the model is not as sparse as the cell asks."""
        check_sparsity(self.world.cell, type(self.method), self.model, self.mask)

    def check_mask(self) -> None:
        """Raise ContractError (`mask_edit`) where somebody has edited the mask that all share."""
        check_untouched(self.mask, self._own_mask, type(self.method))

    def check_self(self) -> None:
        """Raise ContractError (`self_state`) where the method has changed data on itself."""
        check_unchanged(self.method, self._fingerprint)

    def dense_start(self) -> nn.Module:
        """Return the initial model with the parameters that `start` gave it, before any mask.

        Buffers are those of the initial model: what `start` put there may already stand for what the mask prunes.
        """
        model = self.world.initial_model(self.method)
        load_tensors(model, self.started)
        return model

    def forget_start(self) -> None:
        """Drop what only `dense_start` reads, once training begins."""
        self.started = {}

    @cached_property
    def macs(self) -> ForwardMacs:
        """The model's forward MACs an example, which no weight and no mask changes."""
        return forward_macs(self.model, self.world.spec.input_shape)

    def state_dict(self) -> dict[str, Any]:
        """Return all that rounds change, as tensors, numbers, strings, lists and dicts of these."""
        return {
            "parameters": {name: own.detach() for name, own in self.model.named_parameters()},
            "buffers": dict(self.model.named_buffers()),
            "mask": mask_state(self.mask),
            "mask_version": self.mask_version,
            "mask_changes": self.mask_changes.state_dict(),
            "started": dict(self.started),
            "state": packed(self.state),
            "notes": copy.deepcopy(self.notes),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        load_tensors(self.model, state["parameters"])
        load_buffers(self.model, state["buffers"])
        mask = mask_of(state["mask"])
        if mask is not None:
            self._hold(mask.to(self.world.torch_device))
        self.mask_version = state["mask_version"]
        self.mask_changes.load_state_dict(state["mask_changes"])
        self.started = dict(state["started"])
        self.state = unpacked(state["state"])
        self.notes = copy.deepcopy(state["notes"])

    def _hold(self, mask: Mask) -> None:
        self.mask = mask
        self.active = self.layout.active(mask)
        self._own_mask = Mask(mask)


def client_context(ctx: ServerContext, received: Mapping[str, Tensor]) -> ClientContext:
    """Return the devices' side of a round, with the tensors that they received."""
    return ClientContext(**{item.name: getattr(ctx, item.name) for item in fields(Context)}, received=received)
