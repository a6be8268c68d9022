"""The only training loop: phases, rounds, cohorts, the wire, and the rules that hold a method to its contract."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from fedfore.cell import SIMULATED, Cell
from fedfore.contract.border import words
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, ServerContext
from fedfore.contract.exchange import Message, Update
from fedfore.contract.instance import fingerprint, instantiate
from fedfore.contract.method import Method
from fedfore.errors import ContractError, Diverged
from fedfore.federation.approximation import kernel_fields, mask_fields
from fedfore.federation.clients import PHASES, Device, Fleet
from fedfore.federation.result import Point, Result, Totals
from fedfore.federation.rules import (
    check_global_rng,
    check_last_batches,
    check_named,
    check_plain,
    check_revival,
    check_sparsity,
    check_tensors,
    check_untouched,
    check_update,
    expect,
    global_rng,
)
from fedfore.federation.wire import Layout, Packet, decode, encode
from fedfore.masks import Mask
from fedfore.measure.clock import Clock
from fedfore.measure.device import DeviceCost, DeviceSetting, meter_device
from fedfore.measure.diagnostics import (
    Diagnosis,
    estimate_quality,
    gradient_energy,
    has_finite_gradient,
    variance_ratio,
    zeroth_order_config,
)
from fedfore.measure.evaluation import RECALIBRATION_EXAMPLES, Evaluation, evaluate, recalibrated
from fedfore.measure.flops import ForwardMacs, forward_macs
from fedfore.measure.mask_changes import MaskChanges
from fedfore.measure.memory import storage_bytes, tensors_in
from fedfore.primitives.flat import flat_parameters, load_tensors, model_tensors
from fedfore.primitives.gradients import Batch
from fedfore.primitives.zeroth_order import Step, ZerothOrderConfig
from fedfore.records.probes import MILESTONES, PROBE_EXAMPLES
from fedfore.streams import numpy_generator, stream_seed, torch_generator
from fedfore.tasks.examples import Dataset, Examples
from fedfore.tasks.models import build, initialise
from fedfore.tasks.partition import partition
from fedfore.tasks.validation import split_validation


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
    pooled: int | None = None
    """The id of one client that holds all of the data and is every cohort: the centralised reference of a setup."""

    def __post_init__(self) -> None:
        cell = self.cell
        self.dataset = self.dataset.scaled(cell.train.input_scaling)
        with self.clock.charge("data"):
            self.train, self.validation = self._split()
            self.parts = self._partition()
        self.server_side = instantiate(self.method, cell.params)
        self.client_side = instantiate(self.method, cell.params)
        self._fingerprints = [fingerprint(self.server_side), fingerprint(self.client_side)]
        self.model = self._initial_model()
        check_last_batches(
            self.model, [len(part) for part in self.parts], cell.train.batch_size, self.dataset.spec.input_shape
        )
        self.client_model = copy.deepcopy(self.model)
        flat_parameters(self.client_model)
        frozen = {name for name, p in self.model.named_parameters() if not p.requires_grad}
        self.no_model = {
            name: own.clone() if name in frozen else torch.full_like(own, math.nan)
            for name, own in model_tensors(self.model).items()
        }
        self.layout = Layout.of(self.model)
        self.mask: Mask | None = None
        self.mask_version = 0
        self.mask_changes = MaskChanges()
        self.active: Tensor | None = None
        self.state: dict[str, Any] = {}
        self.notes: dict[str, Any] = {}
        self.fleet = Fleet(cell, self.train, self.parts, self.device)
        self.devices: list[Device] = self.fleet.make()
        self.totals = {phase: Totals() for phase in PHASES}
        self.costs: dict[tuple[Any, ...], DeviceCost] = {}
        self.started: Mapping[str, Tensor] = {}
        self.evaluates_other_weights = False
        self.points: list[Point] = []
        self.diagnoses: list[Diagnosis] = []
        self.probe = self._numpy("probe").permutation(len(self.train))[:PROBE_EXAMPLES]

    def run(self) -> Result:
        """Run setup and training to the end of the budget."""
        cell = self.cell
        globals_before = global_rng()
        self.setup()
        energy_at_start = self._energy_at_start()
        approximation = self._approximation()
        if not cell.train.setup_only:
            self._evaluate()
        self._diagnose()
        due = interval = cell.train.evaluation_interval
        while not self._finished():
            self._round("train", self.totals["train"].rounds)
            self._check_mask()
            check_global_rng(globals_before, self.method)
            if self._spent() >= due - 1e-9 or self._finished():
                self._evaluate()
                due = interval * (math.floor((self._spent() + 1e-9) / interval) + 1)
            self._diagnose()
        if [fingerprint(self.server_side), fingerprint(self.client_side)] != self._fingerprints:
            raise ContractError(
                "self_state", f"{self.method.__name__} changed data on self; keep it in ctx.state or client.state."
            )
        return self.result(energy_at_start, approximation)

    def setup(self) -> Mask | None:
        """Run `start` and the setup rounds alone; return the mask that training begins with."""
        for round in range(self._start()):
            self._round("setup", round)
        self._check_mask()
        return self.mask

    def meter(self, stand_in: Callable[[nn.Module], Mask], periods: Iterable[int]) -> Result:
        """Meter one device's update in a round of every kind, and train nothing.

        The setup runs up to the first round of its last kind, which is metered; `stand_in(model)` makes the mask of
        training where `start` left it to the setup. Training is imagined once for each of the `periods`, in rounds, in
        which kinds may recur: with the budget of rounds times the period, and its multiples and what follows each
        looked at. `Result.totals` are those of the first training round, its mask having been sent before; where
        devices keep a state or the server sends nothing but zeros in it, one device trains, and they are of the second.
        """
        kinds = [
            self.client_side.round_kind(ClientContext(**self._context("setup", round)))
            for round in range(self._start())
        ]
        if kinds:
            last = kinds.index(kinds[-1])
            for round in range(last):
                self._round("setup", round)
            self._meter_round("setup", last)
        if self.cell.sparsity > 0 and self.mask is None:
            self._adopt(stand_in(self.model), "setup")
        self._check_mask()
        for device in self.devices:
            device.mask_version = self.mask_version
        cost, starts_empty = self._meter_round("train", 0)
        if cost.kept_bytes or starts_empty:
            self._round("train", 0, self._cohort("train", 0)[:1])
            self.totals["train"] = Totals()
            cost, _ = self._meter_round("train", 1, again=True)
        totals = self.totals["train"]
        totals.client_rounds = self.cell.train.cohort_size
        totals.uplink_bytes = cost.uplink_bytes * totals.client_rounds
        first, state, train = replace(totals), copy.deepcopy(self.state), self.cell.train
        rounds = train.rounds or 0
        for period in periods:
            self.state = copy.deepcopy(state)
            self.cell = replace(self.cell, train=replace(train, rounds=rounds * period))
            for totals.rounds in sorted({period * n + after for n in range(1, rounds) for after in (0, 1)}):
                self._meter_round("train", totals.rounds)
        self.totals["train"] = first
        return self.result()

    def _start(self) -> int:
        """Run `start`; return the number of setup rounds."""
        with self.clock.charge("setup"):
            mask = self.server_side.start(self.model, self._server_context("setup", 0, ()))
            self.started = {name: own.detach().clone() for name, own in self.model.named_parameters()}
            self._adopt(mask, "setup")
        skips_setup = self.cell.sparsity == 0 and "sparsity" in self.method.uses
        rounds = 0 if skips_setup else self.server_side.setup_rounds(self.cell)
        expect(rounds, int, "setup_rounds")
        return rounds

    def result(
        self, energy_at_start: float | None = None, approximation: Mapping[str, float | str | None] = {}
    ) -> Result:
        """Return all that has been measured so far, beside what was computed before training."""
        costs = {phase: [cost for key, cost in self.costs.items() if key[0] == phase] for phase in PHASES}
        return Result(
            self.model,
            self.macs,
            self.mask,
            self.mask_changes,
            self.train,
            self.parts,
            self.points,
            self.diagnoses,
            energy_at_start,
            self.evaluates_other_weights,
            approximation,
            self.notes,
            self.totals,
            costs,
            self.clock,
        )

    # -- one round ----------------------------------------------------------------------------------------------------

    def _round(self, phase: str, round: int, cohort: tuple[int, ...] | None = None) -> None:
        with self.clock.charge(phase):
            cohort = cohort or self._cohort(phase, round)
            server = self._server_context(phase, round, cohort)
            tensors = self._send_down(self._message(server), server)
            ctx = ClientContext(**self._context(phase, round), received=tensors)
        cost = self._cost(ctx, cohort) if self.pooled is None else None
        with self.clock.charge(phase):
            clients = [self.devices[client].clients[phase] for client in cohort]
            drawn_before = sum(client.examples_drawn for client in clients)
            updates = self._updates(clients, ctx)
            totals = self.totals[phase]
            drawn = sum(client.examples_drawn for client in clients) - drawn_before
            totals.rounds += 1
            totals.client_rounds += len(cohort)
            totals.examples += drawn
            if cost is not None:
                totals.flops += cost.flops_of([client.num_examples for client in clients], drawn)
            self._adopt(self.server_side.aggregate(self.model, updates, server), phase)
            self._check_server_model(phase, round)
            check_plain(self.state, "ctx.state")

    def _meter_round(self, phase: str, round: int, again: bool = False) -> tuple[DeviceCost, bool]:
        """Return the cost of a round's device, and whether the server sends a tensor of zeros beside the model.

        Its message is sent if no round of this kind has been metered, or `again`.
        """
        cohort = self._cohort(phase, round)
        server = self._server_context(phase, round, cohort)
        message = self._message(server)
        ctx = ClientContext(**self._context(phase, round), received=message.tensors)
        if again or self._cost_key(ctx) not in self.costs:
            ctx = replace(ctx, received=self._send_down(message, server))
        zeros = any(tensor.numel() > 1 and not bool(tensor.any()) for tensor in message.tensors.values())
        return self._cost(ctx, cohort), zeros

    def _message(self, server: ServerContext) -> Message:
        message = self.server_side.broadcast(self.model, server)
        expect(message, Message, "broadcast")
        check_named(message.tensors, "the server")
        return message

    def _send_down(self, message: Message, server: ServerContext) -> Mapping[str, Tensor]:
        """Send the server's message to the cohort; return its decoded tensors.

        Whether a client gets the mask beside them or not, all decode the same model: it is made once.
        """
        encoded: dict[bool, bytes] = {}
        received = Packet()
        for client in server.cohort:
            device = self.devices[client]
            news = self.mask is not None and device.mask_version != self.mask_version
            if news not in encoded:
                packet = Packet(
                    mask=self.mask if news else None,
                    model=model_tensors(self.model) if message.model else None,
                    tensors=message.tensors,
                )
                encoded[news] = self._encode(packet)
                if len(encoded) == 1:
                    received = decode(encoded[news], self.layout, self.active, self.device)
            self.totals[server.phase].downlink_bytes += len(encoded[news])
            device.mask_version = self.mask_version
            device.model = device.model if received.model is None else received.model
        return received.tensors

    def _updates(self, clients: Sequence[Client], ctx: ClientContext) -> list[Update]:
        method = self.client_side
        models = [self.devices[client.id].model for client in clients]
        if self.vectorised and method.client_updates is not None and all(model is models[0] for model in models):
            self._load_received(clients[0], ctx.phase)
            updates: Iterable[Update] = method.client_updates(self.client_model, clients, ctx)
            if not isinstance(updates, list) or len(updates) != len(clients):
                raise ContractError("hook_type", f"{self.method.__name__}.client_updates returns one Update a client.")
        else:
            updates = (self._own_update(client, ctx) for client in clients)
        received = [self._send_up(update, client, ctx) for update, client in zip(updates, clients, strict=True)]
        check_untouched(self.mask, self.active, self.layout, self.method)
        return received

    def _own_update(self, client: Client, ctx: ClientContext) -> Update:
        """Return one device's update, made from copies of its own of all that it received."""
        self._load_received(client, ctx.phase)
        own = {name: tensor.clone() for name, tensor in ctx.received.items()}
        return self.client_side.client_update(self.client_model, client, replace(ctx, received=own))

    def _load_received(self, client: Client, phase: str) -> None:
        model = self.devices[client.id].model
        if model is None and phase != "setup":
            raise ContractError(
                "no_model", f"Client {client.id} takes part in a round without a model and has never received one."
            )
        load_tensors(self.client_model, model or self.no_model)
        self.client_model.train()

    def _send_up(self, update: Update, client: Client, ctx: ClientContext) -> Update:
        """Check, encode, count and decode one client's update."""
        check_plain(client.state, "client.state")
        data = self._encoded(update, client.id, ctx)
        self.totals[ctx.phase].uplink_bytes += len(data)
        got = decode(data, self.layout, self.active, self.device)
        if update.bypass is not None and self.cell.estimator not in SIMULATED:
            raise ContractError("bypass", f"{self.method.__name__} hands the server more than it sends over the wire.")
        decoded = Update(got.num_examples, got.model, got.scalars, got.tensors, update.bypass)
        self.on_update(decoded)
        return decoded

    def _encode(self, packet: Packet) -> bytes:
        return encode(packet, self.layout, self.active, self.cell.train.wire_precision)

    def _encoded(self, update: Update, client: int, ctx: ClientContext) -> bytes:
        who = f"client {client} in {ctx.phase} round {ctx.round}"
        check_update(update, who)
        if update.weights is not None:
            self._check_tensors(update.weights, who)
        return self._encode(Packet(update.num_examples, None, update.weights, update.scalars, update.tensors))

    # -- rules --------------------------------------------------------------------------------------------------------

    def _adopt(self, mask: Mask | None, phase: str) -> None:
        """Make a mask that `start` or `aggregate` returned the present one."""
        if mask is None:
            return
        expect(mask, Mask, "start and aggregate")
        mask.check_fits(self.model)
        mask = mask.to(self.device)
        if mask.same_as(self.mask):
            return
        if phase == "train":
            check_revival(mask, self.mask, self.method)
            if self.mask is not None:
                self.mask_changes.see(self.totals[phase].rounds, self.mask, mask)
        self.mask = mask
        self.mask_version += 1
        self.active = self.layout.active(mask)
        mask.apply_(model_tensors(self.model))

    def _check_tensors(self, tensors: Mapping[str, Tensor], who: str) -> None:
        check_tensors(tensors, self.layout, self.mask, who)

    def _check_server_model(self, phase: str, round: int) -> None:
        where = f"{phase} round {round}"
        if not bool(torch.isfinite(flat_parameters(self.model)).all()):
            raise Diverged(
                f"The server's weights are not finite after {phase} round {round + 1}; try a smaller learning rate."
            )
        self._check_tensors(model_tensors(self.model), f"the server after {where}")

    def _check_mask(self) -> None:
        check_sparsity(self.cell, self.method, self.model, self.mask)

    # -- evaluation, budget, cost -------------------------------------------------------------------------------------

    def _spent(self) -> float:
        train = self.totals["train"]
        return train.examples / len(self.train) if self.cell.train.data_passes is not None else train.rounds

    def _progress(self) -> float:
        budget = self.cell.train.budget
        return min(self._spent() / budget, 1.0) if budget else 0.0

    def _finished(self) -> bool:
        return self._spent() >= self.cell.train.budget - 1e-9

    def _evaluate(self) -> None:
        with self.clock.charge("evaluate"):
            tensors = model_tensors(self.model)
            other = self.server_side.evaluation_weights(self.model, self._server_context("train", 0, ()))
            self.evaluates_other_weights = other is not None
            if other is not None:
                expect(other, Mapping, "evaluation_weights")
                tensors = tensors | dict(other)
                self._check_tensors(tensors, "evaluation_weights")
            load_tensors(self.client_model, tensors)
            classes = self.dataset.spec.num_classes
            test = evaluate(self.client_model, self.dataset.test, classes, self.device)
            validation = (
                evaluate(self.client_model, self.validation, classes, self.device) if len(self.validation) else None
            )
            anew = self._evaluate_recalibrated() if self.cell.train.recalibrate else None
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
            recalibrated=anew,
        )
        self.points.append(point)
        self.on_point(point)

    def _evaluate_recalibrated(self) -> Evaluation | None:
        """Evaluate the model that is being evaluated with batch-norm statistics of training examples, if it has any.

        The examples are the same for all methods and rounds of a seed, as they are, without augmentation.
        """
        chosen = self._numpy("probe", "recalibrate").permutation(len(self.train))[:RECALIBRATION_EXAMPLES]
        model = recalibrated(self.client_model, self.train.subset(torch.from_numpy(chosen)), self.device)
        if model is None:
            return None
        return evaluate(model, self.dataset.test, self.dataset.spec.num_classes, self.device)

    def _cost(self, ctx: ClientContext, cohort: Sequence[int]) -> DeviceCost:
        """Return the metered cost of this kind of round under this mask, on the device that keeps most.

        It is metered the first time, and again when a device brings more from earlier rounds than any did before.
        """
        key = self._cost_key(ctx)
        held = {client: storage_bytes(tensors_in(self.devices[client].state)) for client in cohort}
        client = max(held, key=held.__getitem__)
        before = self.costs.get(key)
        if before is None or held[client] > before.state_bytes:
            with self.clock.charge("meter"):
                device, train = self.devices[client], replace(self.cell.train, batch_size=self.fleet.largest_batch)
                self._load_received(device.clients[ctx.phase], ctx.phase)
                state = copy.deepcopy(device.state)
                setting = DeviceSetting(
                    self.method,
                    self.cell.params,
                    self.client_model,
                    replace(ctx, cell=replace(self.cell, train=train)),
                    lambda n: self.fleet.metered_client(n, state, ctx.phase),
                    self.fleet.largest,
                    lambda update: len(self._encoded(update, client, ctx)),
                )
                cost = meter_device(setting)
                self.costs[key] = cost if before is None else cost.with_peak_of(before)
        return self.costs[key]

    def _cost_key(self, ctx: ClientContext) -> tuple[Any, ...]:
        kept = () if self.mask is None else tuple(self.mask.layer_kept.values())
        return ctx.phase, self.client_side.round_kind(ctx), kept

    # -- diagnostics --------------------------------------------------------------------------------------------------

    def _diagnose(self) -> None:
        """Diagnose once for the latest milestone of the budget that has been reached and not been diagnosed.

        Raises Diverged where training has come to weights without a finite gradient.
        """
        reached = [milestone for milestone in MILESTONES if self._progress() >= milestone - 1e-9]
        if self.diagnoses and self.diagnoses[-1].moment == reached[-1]:
            return
        rounds, config = self.totals["train"].rounds, zeroth_order_config(self.cell)
        with self.clock.charge("diagnose"):
            seen = self.fleet.batch(self.probe[: self.cell.train.batch_size])
            if (config or self.mask) and not has_finite_gradient(self._scratch(), seen):
                raise Diverged(
                    f"The gradient of probe examples is not finite after train round {rounds}; try a smaller learning "
                    "rate."
                )
            quality = self._estimate_quality(seen, config) if config else {}
            energy = gradient_energy(self._scratch(), self.fleet.batch(self.probe), self.mask) if self.mask else None
            diagnosis = Diagnosis(reached[-1], rounds, **quality, grad_energy=energy)
        self.diagnoses.append(diagnosis)
        self.on_diagnosis(diagnosis)

    def _estimate_quality(self, seen: Batch, config: ZerothOrderConfig) -> dict[str, float | None]:
        """Rehearse the round that would come next with one client whose data are a batch, and judge what it sends.

        States are copies and the batch is drawn by a stream of its own, so that training does not notice.
        """
        size, round = self.cell.train.batch_size, self.totals["train"].rounds
        context = self._context("train", round) | {"progress": min(self._progress(), math.nextafter(1.0, 0.0))}
        server = ServerContext(**context, state=copy.deepcopy(self.state), cohort=(0,))
        message = self.server_side.broadcast(self._scratch(), server)
        if "seed" not in message.tensors:
            return {}
        state = copy.deepcopy(self.devices[0].state)
        client = self.fleet.client(0, self.probe[:size], state, "probe", as_they_are=True)
        ctx = ClientContext(**context, received=message.tensors)
        update = self.client_side.client_update(self._scratch(), client, ctx)
        step = Step(self.cell.estimator or "finite_difference", config, int(message.tensors["seed"]), round)
        batches = [self.fleet.batch(part[:size]) for part in self.parts]
        sizes = [len(part) for part in self.parts]
        return {
            **estimate_quality(self._scratch(), seen, update, step, 0, self.mask),
            "variance_ratio": variance_ratio(self._scratch(), batches, sizes, self.mask),
        }

    def _energy_at_start(self) -> float | None:
        """Return the share of gradient energy that the first mask keeps at the dense initial weights."""
        if self.mask is None:
            return None
        with self.clock.charge("diagnose"):
            return gradient_energy(self._dense_start(), self.fleet.batch(self.probe), self.mask)

    def _dense_start(self) -> nn.Module:
        """Return the initial model with the parameters that `start` gave it, before any mask.

        Buffers are those of the initial model: what `start` put there may already stand for what the mask prunes.
        """
        model = self._initial_model()
        load_tensors(model, self.started)
        return model

    def _scratch(self) -> nn.Module:
        """Return the clients' model with the server's weights: whatever happens to it, nobody will see."""
        load_tensors(self.client_model, model_tensors(self.model))
        return self.client_model.train()

    def _approximation(self) -> dict[str, float | str | None]:
        """Return the fields of the record on the federated kernel and, where the protocol asks for it, the mask."""
        fields: dict[str, float | str | None] = {"ntk_reason": self.cell.train.without_kernels(self.cell.seed)}
        with self.clock.charge("ntk"):
            if fields["ntk_reason"] is None:
                classes = self.dataset.spec.num_classes
                try:
                    fields = kernel_fields(self.model, self.mask, self.fleet, classes, self.macs.dense)
                except Exception as error:  # noqa: BLE001
                    fields = {"ntk_reason": f"The kernel of this model cannot be computed: {words(error)}."}
            if self.cell.train.compare_masks and self.mask is not None and "draws" in self.cell.params:
                fields |= mask_fields(self.mask, self._reference_mask, self._dense_start(), self.fleet)
        return fields

    def _reference_mask(self, number: int, params: Mapping[str, str]) -> Mask:
        """Return the mask that the setup makes of all data on one client, at all clients' draws together."""
        draws = self.cell.params["draws"] * self.cell.train.cohort_size
        own = {"where": "devices", "shuffle": False, "draws": draws}
        cell = replace(self.cell, params={**self.cell.params, **own, **params})
        central = Federation(cell, self.method, self.dataset, self.device, pooled=cell.train.clients + number)
        mask = central.setup()
        assert mask is not None, "a cell with a mask has one when its data are pooled"
        return mask

    # -- making things ------------------------------------------------------------------------------------------------

    @cached_property
    def _initialise(self) -> Callable[[nn.Module, torch.Generator], None]:
        return partial(initialise, init=self.cell.train.init)

    @cached_property
    def macs(self) -> ForwardMacs:
        """The model's forward MACs an example, which no weight and no mask changes."""
        return forward_macs(self.model, self.dataset.spec.input_shape)

    def _initial_model(self) -> nn.Module:
        spec = self.dataset.spec
        model = self.server_side.prepare(build(self.cell.model, spec.input_shape, spec.num_classes))
        expect(model, nn.Module, "prepare")
        self._initialise(model, torch_generator(stream_seed(self.cell.seed, "init")))
        return model.to(self.device)

    def _partition(self) -> Sequence[np.ndarray]:
        train = self.cell.train
        if self.pooled is not None:
            return [np.arange(len(self.train))] * (self.pooled + 1)
        labels = self.train.labels.cpu().numpy()
        return partition(labels, train.clients, self.cell.alpha, train.min_client_examples, self._numpy("partition"))

    def _split(self) -> tuple[Examples, Examples]:
        train, validation = split_validation(
            self.dataset.train, self.cell.train.validation_fraction, self._numpy("partition", "validation")
        )
        return train.to(self.device), validation.to(self.device)

    def _numpy(self, role: str, phase: str = "", round: int = 0) -> np.random.Generator:
        return numpy_generator(stream_seed(self.cell.seed_of(role), role, phase, round))

    def _cohort(self, phase: str, round: int) -> tuple[int, ...]:
        if self.pooled is not None:
            return (self.pooled,)
        train = self.cell.train
        if phase == "setup" and self.method.one_setup_cohort:
            round = 0
        chosen = self._numpy("cohort", phase, round).choice(train.clients, size=train.cohort_size, replace=False)
        return tuple(sorted(int(client) for client in chosen))

    def _context(self, phase: str, round: int) -> dict[str, Any]:
        return {
            "cell": self.cell,
            "phase": phase,
            "round": round,
            "mask": self.mask,
            "progress": self._progress(),
            "device": self.device,
            "input_shape": self.dataset.spec.input_shape,
            "initialise": self._initialise,
        }

    def _server_context(self, phase: str, round: int, cohort: tuple[int, ...]) -> ServerContext:
        return ServerContext(**self._context(phase, round), state=self.state, cohort=cohort, notes=self.notes)
