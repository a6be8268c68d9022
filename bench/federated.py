"""The only training loop: phases, rounds, cohorts, the wire, and the rules that hold a method to its contract."""

from __future__ import annotations

import copy
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from bench.cell import SIMULATED, Cell
from bench.contract import Client, ClientContext, Message, Method, ServerContext, Update, fingerprint, instantiate
from bench.data import Dataset, Examples, augment, split_validation
from bench.diagnostics import (
    MOMENTS,
    PROBE_EXAMPLES,
    Diagnosis,
    estimate_quality,
    gradient_energy,
    variance_ratio,
    zeroth_order_config,
)
from bench.errors import ContractError, Diverged
from bench.evaluation import Evaluation, evaluate
from bench.masks import Mask, prunable_weights
from bench.meters import Clock, DeviceCost, DeviceSetting, meter_device
from bench.models import build, initialise
from bench.partition import partition
from bench.primitives.flat import flat_parameters, load_tensors, model_tensors
from bench.primitives.gradients import Batch
from bench.streams import numpy_generator, stream_seed, torch_generator
from bench.wire import Layout, Packet, decode, encode

SPARSITY_TOLERANCE = 0.01
PHASES = ("setup", "train")


@dataclass
class Totals:
    """What a phase used so far, over all clients."""

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


@dataclass(frozen=True)
class Result:
    """All that a finished cell was measured to be; `bench.record` turns it into fields."""

    model: nn.Module
    mask: Mask | None
    train: Examples
    parts: Sequence[np.ndarray]
    points: Sequence[Point]
    diagnoses: Sequence[Diagnosis]
    energy_at_start: float | None
    evaluates_other_weights: bool
    totals: Mapping[str, Totals]
    costs: Mapping[str, Sequence[DeviceCost]]
    clock: Clock


@dataclass
class _Device:
    """What the harness keeps of one client: its data, one `Client` a phase, and what it last received."""

    clients: dict[str, Client]
    state: dict[str, Any]
    model: Mapping[str, Tensor] | None = None
    mask_version: int = 0


@dataclass
class Federation:
    """A server, its clients and the wire between them, for one cell.

    Raises ContractError where the method breaks a rule, Diverged at the first non-finite weight, Skip where the method
    does not apply.
    """

    cell: Cell
    method: type[Method]
    dataset: Dataset
    device: torch.device
    on_point: Callable[[Point], None] = lambda point: None
    on_update: Callable[[Update], None] = lambda update: None
    on_diagnosis: Callable[[Diagnosis], None] = lambda diagnosis: None
    clock: Clock = field(default_factory=Clock)
    vectorised: bool = True
    """Whether a method's `client_updates` is used where it has one; the conformance suite compares both ways."""

    def __post_init__(self) -> None:
        cell = self.cell
        with self.clock.charge("data"):
            self.train, self.validation = self._split()
            labels = self.train.labels.cpu().numpy()
            self.parts = partition(
                labels, cell.train.clients, cell.alpha, cell.train.min_client_examples, self._numpy("partition")
            )
        self.server_side = instantiate(self.method, cell.params)
        self.client_side = instantiate(self.method, cell.params)
        self._fingerprints = [fingerprint(self.server_side), fingerprint(self.client_side)]
        self.model = self._initial_model()
        self.client_model = copy.deepcopy(self.model)
        flat_parameters(self.client_model)
        self.layout = Layout.of(self.model)
        self.mask: Mask | None = None
        self.mask_version = 0
        self.active: Tensor | None = None
        self.state: dict[str, Any] = {}
        self.devices = [self._make_device(client) for client in range(cell.train.clients)]
        self.totals = {phase: Totals() for phase in PHASES}
        self.costs: dict[tuple[Any, ...], DeviceCost] = {}
        self.evaluates_other_weights = False
        self.points: list[Point] = []
        self.diagnoses: list[Diagnosis] = []
        self.probe = self._numpy("probe").permutation(len(self.train))[:PROBE_EXAMPLES]

    def run(self) -> Result:
        """Run setup and training to the end of the budget."""
        cell = self.cell
        globals_before = _global_rng()
        with self.clock.charge("setup"):
            self._adopt(self.server_side.start(self.model, self._server_context("setup", 0, ())))
        skips_setup = cell.sparsity == 0 and "sparsity" in self.method.uses
        for round in range(0 if skips_setup else self.server_side.setup_rounds(cell)):
            self._round("setup", round)
        self._check_mask()
        energy_at_start = self._energy_at_start()
        self._evaluate()
        self._diagnose()
        due = cell.train.evaluation_interval
        while not self._finished():
            self._round("train", self.totals["train"].rounds)
            self._check_mask()
            if _global_rng() != globals_before:
                raise ContractError(
                    "global_rng",
                    f"{self.method.__name__} used a global random generator; draw from ctx.rng(role) instead.",
                )
            if self._spent() >= due - 1e-9 or self._finished():
                self._evaluate()
                while due <= self._spent() + 1e-9:
                    due += cell.train.evaluation_interval
            self._diagnose()
        if [fingerprint(self.server_side), fingerprint(self.client_side)] != self._fingerprints:
            raise ContractError(
                "self_state", f"{self.method.__name__} changed data on self; keep it in ctx.state or client.state."
            )
        costs = {phase: [cost for key, cost in self.costs.items() if key[0] == phase] for phase in PHASES}
        return Result(
            self.model,
            self.mask,
            self.train,
            self.parts,
            self.points,
            self.diagnoses,
            energy_at_start,
            self.evaluates_other_weights,
            self.totals,
            costs,
            self.clock,
        )

    # -- one round ----------------------------------------------------------------------------------------------------

    def _round(self, phase: str, round: int) -> None:
        with self.clock.charge(phase):
            cohort = self._cohort(phase, round)
            server = self._server_context(phase, round, cohort)
            tensors = self._broadcast(server)
            ctx = ClientContext(**self._context(phase, round), received=tensors)
        cost = self._cost(ctx, cohort[0])
        with self.clock.charge(phase):
            clients = [self.devices[client].clients[phase] for client in cohort]
            drawn_before = sum(client.examples_drawn for client in clients)
            updates = self._updates(clients, ctx)
            totals = self.totals[phase]
            drawn = sum(client.examples_drawn for client in clients) - drawn_before
            totals.rounds += 1
            totals.client_rounds += len(cohort)
            totals.examples += drawn
            totals.flops += cost.flops(len(cohort), drawn / self.cell.train.batch_size)
            self._adopt(self.server_side.aggregate(self.model, updates, server))
            _check_plain(self.state, "ctx.state")
            self._check_server_model(phase, round)

    def _broadcast(self, server: ServerContext) -> Mapping[str, Tensor]:
        """Send the server's message to the cohort; return its decoded tensors."""
        message = self.server_side.broadcast(self.model, server)
        _expect(message, Message, "broadcast")
        encoded: dict[bool, bytes] = {}
        model: Mapping[str, Tensor] | None = None
        tensors: Mapping[str, Tensor] = {}
        for client in server.cohort:
            device = self.devices[client]
            news = self.mask is not None and device.mask_version != self.mask_version
            if news not in encoded:
                packet = Packet(
                    mask=self.mask if news else None,
                    model=model_tensors(self.model) if message.model else None,
                    tensors=message.tensors,
                )
                encoded[news] = encode(packet, self.layout, self.active)
                received = decode(encoded[news], self.layout, self.active, self.device)
                model, tensors = received.model, received.tensors
            self.totals[server.phase].downlink_bytes += len(encoded[news])
            device.mask_version = self.mask_version
            device.model = device.model if model is None else model
        return tensors

    def _updates(self, clients: Sequence[Client], ctx: ClientContext) -> list[Update]:
        method = self.client_side
        models = [self.devices[client.id].model for client in clients]
        if self.vectorised and method.client_updates is not None and all(model is models[0] for model in models):
            self._load_received(clients[0])
            updates = method.client_updates(self.client_model, clients, ctx)
            if not isinstance(updates, list) or len(updates) != len(clients):
                raise ContractError("hook_type", f"{self.method.__name__}.client_updates returns one Update a client.")
            return [self._send_up(update, client, ctx) for update, client in zip(updates, clients, strict=True)]
        received = []
        for client in clients:
            self._load_received(client)
            received.append(self._send_up(method.client_update(self.client_model, client, ctx), client, ctx))
        return received

    def _load_received(self, client: Client) -> None:
        model = self.devices[client.id].model
        if model is None:
            raise ContractError(
                "no_model", f"Client {client.id} takes part in a round without a model and has never received one."
            )
        load_tensors(self.client_model, model)
        self.client_model.train()

    def _send_up(self, update: Update, client: Client, ctx: ClientContext) -> Update:
        """Check, encode, count and decode one client's update."""
        _expect(update, Update, "client_update")
        _check_plain(client.state, "client.state")
        if update.weights is not None:
            self._check_tensors(update.weights, f"client {client.id} in {ctx.phase} round {ctx.round}")
        packet = Packet(update.num_examples, None, update.weights, update.scalars, update.tensors)
        data = encode(packet, self.layout, self.active)
        self.totals[ctx.phase].uplink_bytes += len(data)
        got = decode(data, self.layout, self.active, self.device)
        if update.bypass is not None and self.cell.estimator not in SIMULATED:
            raise ContractError("bypass", f"{self.method.__name__} hands the server more than it sends over the wire.")
        decoded = Update(got.num_examples, got.model, got.scalars, got.tensors, update.bypass)
        self.on_update(decoded)
        return decoded

    # -- rules --------------------------------------------------------------------------------------------------------

    def _adopt(self, mask: Mask | None) -> None:
        """Make a mask that `start` or `aggregate` returned the present one."""
        if mask is None:
            return
        _expect(mask, Mask, "start and aggregate")
        mask.check_fits(self.model)
        mask = mask.to(self.device)
        if mask.same_as(self.mask):
            return
        if not self.method.grows and not mask.within(self.mask):
            raise ContractError(
                "revival", f"{self.method.__name__} revives pruned weights; a method that may do so sets grows = True."
            )
        self.mask = mask
        self.mask_version += 1
        self.active = self.layout.active(mask)
        mask.apply_(model_tensors(self.model))

    def _check_tensors(self, tensors: Mapping[str, Tensor], who: str) -> None:
        for name, shape in self.layout.shapes.items():
            if name not in tensors or tensors[name].shape != shape:
                raise ContractError("weights", f'The weights of {who} lack "{name}" of shape {tuple(shape)}.')
        leak = self.mask.leak(tensors) if self.mask is not None else None
        if leak is not None:
            raise ContractError("mask_leak", f'The weights of {who} are not zero where the mask prunes "{leak}".')

    def _check_server_model(self, phase: str, round: int) -> None:
        where = f"{phase} round {round}"
        if not bool(torch.isfinite(flat_parameters(self.model)).all()):
            raise Diverged(f"The server's weights are not finite after {where}; try a smaller learning rate.")
        self._check_tensors(model_tensors(self.model), f"the server after {where}")

    def _check_mask(self) -> None:
        """Raise ContractError (`sparsity`) where the model is not as sparse as the cell asks."""
        if "sparsity" in self.method.uses:
            measured = measured_sparsity(self.model, self.mask)
            if abs(measured - self.cell.sparsity) > SPARSITY_TOLERANCE:
                raise ContractError(
                    "sparsity", f"The cell asks for sparsity {self.cell.sparsity:g}, and {measured:.4f} was measured."
                )

    # -- evaluation, budget, cost -------------------------------------------------------------------------------------

    def _spent(self) -> float:
        train = self.totals["train"]
        return train.rounds if self.cell.train.rounds is not None else train.examples / len(self.train)

    def _finished(self) -> bool:
        return self._spent() >= self.cell.train.budget - 1e-9

    def _evaluate(self) -> None:
        with self.clock.charge("evaluate"):
            tensors = model_tensors(self.model)
            other = self.server_side.evaluation_weights(self.model, self._server_context("train", 0, ()))
            self.evaluates_other_weights = other is not None
            if other is not None:
                tensors = tensors | dict(other)
                self._check_tensors(tensors, "evaluation_weights")
            load_tensors(self.client_model, tensors)
            classes = self.dataset.spec.num_classes
            test = evaluate(self.client_model, self.dataset.test, classes, self.device)
            validation = (
                evaluate(self.client_model, self.validation, classes, self.device) if len(self.validation) else None
            )
        train, setup = self.totals["train"], self.totals["setup"]
        if not math.isfinite(test.loss):
            raise Diverged(
                f"The test loss is not finite after train round {train.rounds}; try a smaller learning rate."
            )
        point = Point(
            round=train.rounds,
            data_passes=train.examples / len(self.train),
            uplink_bytes=setup.uplink_bytes + train.uplink_bytes,
            downlink_bytes=setup.downlink_bytes + train.downlink_bytes,
            device_flops=setup.flops + train.flops,
            test=test,
            validation=validation,
        )
        self.points.append(point)
        self.on_point(point)

    def _cost(self, ctx: ClientContext, client: int) -> DeviceCost:
        """Return the metered cost of this kind of round under this mask, metering it the first time."""
        kept = () if self.mask is None else tuple(self.mask.layer_kept.values())
        key = (ctx.phase, self.client_side.round_kind(ctx), kept)
        if key not in self.costs:
            with self.clock.charge("meter"):
                device = self.devices[client]
                model = copy.deepcopy(self.client_model)
                load_tensors(model, device.model or {})
                state = copy.deepcopy(device.state)
                setting = DeviceSetting(
                    self.method,
                    self.cell.params,
                    model.train(),
                    ctx,
                    lambda n: self._metered_client(n, state, ctx.phase),
                )
                self.costs[key] = meter_device(setting)
        return self.costs[key]

    # -- diagnostics --------------------------------------------------------------------------------------------------

    def _diagnose(self) -> None:
        """Diagnose once for the latest moment of the budget that has been reached and not been diagnosed."""
        reached = [moment for moment in MOMENTS if self._spent() / self.cell.train.budget >= moment - 1e-9]
        if self.diagnoses and self.diagnoses[-1].moment == reached[-1]:
            return
        with self.clock.charge("diagnose"):
            quality = self._estimate_quality(len(reached)) if zeroth_order_config(self.cell) else {}
            energy = gradient_energy(self._copy_of_model(), self._batch(self.probe), self.mask) if self.mask else None
            diagnosis = Diagnosis(reached[-1], self.totals["train"].rounds, **quality, grad_energy=energy)
        self.diagnoses.append(diagnosis)
        self.on_diagnosis(diagnosis)

    def _estimate_quality(self, round: int) -> dict[str, float | None]:
        server = replace(self._server_context("probe", round, (0,)), state=copy.deepcopy(self.state))
        message = self.server_side.broadcast(self._copy_of_model(), server)
        if "seed" not in message.tensors:
            return {}
        size = self.cell.train.batch_size
        indices = torch.from_numpy(self.probe[:size]).to(self.device)
        client = self._make_client(0, indices, copy.deepcopy(self.devices[0].state), "probe")
        ctx = ClientContext(**self._context("probe", round), received=message.tensors)
        update = self.client_side.client_update(self._copy_of_model(), client, ctx)
        batches = [self._batch(part[:size]) for part in self.parts]
        sizes = [len(part) for part in self.parts]
        return {
            **estimate_quality(
                self._copy_of_model(),
                self._batch(self.probe[:size]),
                update,
                self.cell,
                int(message.tensors["seed"]),
                round,
                0,
                self.mask,
            ),
            "variance_ratio": variance_ratio(self._copy_of_model(), batches, sizes, self.mask),
        }

    def _energy_at_start(self) -> float | None:
        """Return the share of gradient energy that the first mask keeps at the dense initial weights."""
        if self.mask is None:
            return None
        with self.clock.charge("diagnose"):
            return gradient_energy(self._initial_model(), self._batch(self.probe), self.mask)

    def _copy_of_model(self) -> nn.Module:
        model = copy.deepcopy(self.model)
        flat_parameters(model)
        return model.train()

    def _batch(self, indices: np.ndarray) -> Batch:
        return Batch(*self.train.batch(torch.from_numpy(indices).to(self.device)))

    # -- making things ------------------------------------------------------------------------------------------------

    def _initial_model(self) -> nn.Module:
        spec = self.dataset.spec
        model = self.server_side.prepare(build(self.cell.model, spec.input_shape, spec.num_classes))
        initialise(model, torch_generator(stream_seed(self.cell.seed, "init")))
        return model.to(self.device)

    def _split(self) -> tuple[Examples, Examples]:
        train, validation = split_validation(
            self.dataset.train, self.cell.train.validation_fraction, self._numpy("partition", "validation")
        )
        return train.to(self.device), validation.to(self.device)

    def _numpy(self, role: str, phase: str = "", round: int = 0) -> np.random.Generator:
        return numpy_generator(stream_seed(self.cell.seed, role, phase, round))

    def _cohort(self, phase: str, round: int) -> tuple[int, ...]:
        clients = self.cell.train.clients
        size = max(1, int(self.cell.train.participation * clients + 0.5))
        chosen = self._numpy("cohort", phase, round).choice(clients, size=size, replace=False)
        return tuple(sorted(int(client) for client in chosen))

    def _context(self, phase: str, round: int) -> dict[str, Any]:
        return {
            "cell": self.cell,
            "phase": phase,
            "round": round,
            "mask": self.mask,
            "progress": min(self._spent() / self.cell.train.budget, 1.0),
            "device": self.device,
            "initialise": initialise,
        }

    def _server_context(self, phase: str, round: int, cohort: tuple[int, ...]) -> ServerContext:
        return ServerContext(**self._context(phase, round), state=self.state, cohort=cohort)

    def _make_device(self, client: int) -> _Device:
        state: dict[str, Any] = {}
        indices = torch.from_numpy(self.parts[client]).to(self.device)
        return _Device({phase: self._make_client(client, indices, state, phase) for phase in PHASES}, state)

    def _make_client(self, client: int, indices: Tensor, state: dict[str, Any], phase: str) -> Client:
        def batch(chosen: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
            x, y = self.train.batch(indices[chosen.to(indices.device)])
            return (augment(x, generator) if self.cell.train.augment else x), y

        def stream(epoch: int) -> int:
            return stream_seed(self.cell.seed, "batches", phase, epoch, client)

        return Client(client, len(indices), state, batch, self.cell.train.batch_size, stream)

    def _metered_client(self, batches: int, state: dict[str, Any], phase: str) -> Client:
        indices = torch.arange(batches * self.cell.train.batch_size, device=self.device) % len(self.train)
        return self._make_client(0, indices, copy.deepcopy(state), phase)


def measured_sparsity(model: nn.Module, mask: Mask | None) -> float:
    """Return zeros / prunable weights: of the mask, or of the weights themselves where there is no mask."""
    if mask is not None:
        return mask.sparsity
    weights = list(prunable_weights(model).values())
    return 1.0 - sum(int(torch.count_nonzero(weight)) for weight in weights) / sum(weight.numel() for weight in weights)


def _expect(value: object, kind: type, hook: str) -> None:
    if not isinstance(value, kind):
        raise ContractError(
            "hook_type",
            f"{hook} must return {kind.__name__}, got {type(value).__name__}; the harness does the measuring.",
        )


def _check_plain(state: object, where: str) -> None:
    if isinstance(state, dict):
        for value in state.values():
            _check_plain(value, where)
    elif isinstance(state, list | tuple):
        for value in state:
            _check_plain(value, where)
    elif not (state is None or isinstance(state, Tensor | str | int | float)):
        raise ContractError(
            "state_type", f"{where} holds a {type(state).__name__}; it keeps tensors, numbers and strings only."
        )


def _global_rng() -> tuple[object, ...]:
    numpy_state: Any = np.random.get_state()  # noqa: NPY002
    return (
        torch.get_rng_state().numpy().tobytes(),
        numpy_state[1].tobytes(),
        numpy_state[2:],
        random.getstate(),
    )
