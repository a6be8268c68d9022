"""The conformance suite: tries every rule of the plug-in contract on a method, with tiny settings on real digits."""

from __future__ import annotations

import dataclasses
import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from fedfore.cell import Cell, Estimator, Protocol
from fedfore.contract.border import plugin_border
from fedfore.contract.config import declared_keys
from fedfore.contract.exchange import Update
from fedfore.contract.instance import make_config
from fedfore.contract.method import Method
from fedfore.contract.registry import MethodEntry
from fedfore.errors import ContractError, FedForeError, Skip
from fedfore.execution.dead_keys import OF_LOCAL_SGD, Changes, dead_keys, own_changes, writes_its_own_loop
from fedfore.execution.finding import Finding
from fedfore.execution.hidden_state import hidden_state
from fedfore.execution.linear_cost import LinearityCheck, declares_linear
from fedfore.execution.remedies import remedy
from fedfore.federation.assembly import federation_of
from fedfore.federation.clients import Clients, ClientsOneByOne
from fedfore.federation.loop import Federation
from fedfore.federation.observers.cost_meter import CostMeter
from fedfore.federation.observers.observer import Observer, View, Work
from fedfore.primitives.flat import model_tensors
from fedfore.records.metrics import METRICS
from fedfore.tasks.examples import Dataset
from fedfore.tasks.loading import load

TINY = Protocol(clients=4, participation=0.5, batch_size=16, rounds=2, ntk=False)
SPARSITY = 0.8


@dataclass(frozen=True)
class Trial:
    """A tiny cell that was run: its federation, the server's model before training, what changed that must not."""

    federation: Federation
    before: Mapping[str, Tensor]
    remembered: Sequence[str]


class Odd(FedForeError):
    """Something that is no breach of the contract and surely not what the author meant."""


def check_method(entry: MethodEntry) -> list[Finding]:
    """Try every rule on a method, on one torch thread as in a run, and return what was found, in order.

    Whatever its code raises is a finding. A method that cannot run at all is tried no further, and dead keys are looked
    for where nothing is broken.
    """
    torch.set_num_threads(1)
    if entry.method is None:
        return [Finding(entry.name, "import", "broken", entry.problem or "")]
    findings: list[Finding] = []
    for rule, check in _checks(entry.method):
        if rule == "dead_keys" and any(finding.outcome == "broken" for finding in findings):
            break
        findings.append(_tried(entry.name, entry.method, rule, check))
        if rule == "runs" and findings[-1].outcome == "broken":
            break
    return findings


def _tried(name: str, method: type[Method], rule: str, check: Callable[[], object]) -> Finding:
    try:
        with plugin_border(method.__name__, Path(inspect.getfile(method))):
            check()
        return Finding(name, rule, "ok")
    except Skip as skip:
        return Finding(name, rule, "skip", str(skip))
    except ContractError as error:
        return Finding(name, error.rule, "broken", f"{error.message} {remedy(error.rule)}".rstrip())
    except Odd as odd:
        return Finding(name, rule, "warning", str(odd))
    except FedForeError as error:
        return Finding(name, rule, "broken", str(error))


def _checks(method: type[Method]) -> Iterator[tuple[str, Callable[[], object]]]:
    @cache
    def usual() -> Trial:
        return _run(method, _cell(method))

    yield "definition", lambda: _definition(method)
    yield "runs", usual
    yield "trains", lambda: _trains(usual())
    yield "notes", lambda: _notes(usual())
    yield "hidden_state", lambda: _hidden_state(usual())
    yield "repeatable", lambda: _repeatable(usual(), _run(method, _cell(method)))
    if method.client_updates is not None:
        yield "vectorised", lambda: _vectorised(method)
    if "sparsity" in method.uses:
        yield "dense", lambda: _trains(_run(method, replace(_cell(method), sparsity=0.0)))
    if "estimator" in method.uses:
        for estimator in get_args(Estimator):
            cell = replace(_cell(method), estimator=estimator)
            yield f"estimator {estimator}", lambda cell=cell: _trains(_run(method, cell))  # type: ignore[misc]
    if declares_linear(method):
        yield "linear_cost", lambda: _watched(method, _cell(method), also=[LinearityCheck()])
    if writes_its_own_loop(method):
        yield "dead_keys", lambda: _inherited_keys(method)
    if own := own_changes(method):
        yield "dead_keys", lambda: _own_keys(method, own)


def _cell(method: type[Method]) -> Cell:
    params = dataclasses.asdict(method.Config())
    params |= {name: key.tiny for name, key in declared_keys(method.Config).items() if key.tiny is not None}
    return Cell(
        method=method.__module__.rpartition(".")[2],
        dataset="digits",
        model="lenet5",
        train=TINY,
        sparsity=SPARSITY if "sparsity" in method.uses else 0.0,
        alpha=1.0,
        estimator=get_args(Estimator)[0] if "estimator" in method.uses else None,
        params=params,
    )


@cache
def _tiny_digits() -> Dataset:
    whole = load("digits")
    return replace(whole, train=whole.train.subset(torch.arange(160)), test=whole.test.subset(torch.arange(100)))


class Watcher(Observer):
    """Keeps the parameters with which training begins, and every update that the server receives."""

    def __init__(self) -> None:
        self.before: dict[str, Tensor] = {}
        self.updates: list[Update] = []

    def after_setup(self, view: View) -> None:
        self.before = {name: p.detach().clone() for name, p in view.server.model.named_parameters()}

    def after_work(self, view: View, work: Work) -> None:
        self.updates += work.updates


def _watched(
    method: type[Method], cell: Cell, clients: type[Clients] = Clients, also: Sequence[Observer] = ()
) -> tuple[Federation, Watcher]:
    """Run a cell; return its federation and who watched it."""
    method(method.Config(**cell.params)).check(cell)
    watcher = Watcher()
    federation = federation_of(
        cell, method, _tiny_digits(), torch.device("cpu"), also=[watcher, *also], clients=clients
    )
    return federation.run(), watcher


def _run(method: type[Method], cell: Cell) -> Trial:
    """Run a tiny cell. Raises ContractError (`data`) where it overwrites the data set, which is then made anew."""
    data, remembered = _digest(_tiny_digits()), hidden_state(method)
    try:
        federation, watcher = _watched(method, cell)
    finally:
        overwritten = _digest(_tiny_digits()) != data
        if overwritten:
            _tiny_digits.cache_clear()
    if overwritten:
        raise ContractError("data", f"{method.__name__} overwrites the data set; change a copy of what it is given.")
    now = hidden_state(method)
    changed = [name for name in {**remembered, **now} if remembered.get(name) != now.get(name)]
    return Trial(federation, watcher.before, changed)


def _digest(dataset: Dataset) -> bytes:
    digest = hashlib.sha256()
    for examples in (dataset.train, dataset.test):
        for tensor in examples.tensors.values():
            digest.update(tensor.numpy().tobytes())
    return digest.digest()


def _definition(method: type[Method]) -> None:
    if not inspect.cleandoc(method.__doc__ or ""):
        raise ContractError(
            "definition", "The class has no docstring; say what the method is and which paper it follows."
        )
    if not dataclasses.is_dataclass(method.Config) or not method.Config.__dataclass_params__.frozen:  # type: ignore[attr-defined]
        raise ContractError("definition", "Config must be a frozen dataclass.")
    for name in vars(method):
        if name in METRICS and not hasattr(Method, name):
            raise ContractError("own_metric", f'The class defines "{name}"; metrics are measured by the harness alone.')


def _trains(trial: Trial) -> None:
    server = trial.federation.server
    kept = {} if server.mask is None else dict(server.mask)
    for name, parameter in server.model.named_parameters():
        moved = parameter.detach() != trial.before[name]
        if bool((moved & kept[name] if name in kept else moved).any()):
            return
    raise ContractError(
        "trains",
        f"No weight moved in {TINY.rounds} rounds; model_tensors(model) are the weights themselves, "
        "so copy them with .clone() before training.",
    )


def _notes(trial: Trial) -> None:
    try:
        json.dumps(trial.federation.server.notes, allow_nan=False)
    except ValueError:
        raise ContractError("notes", "A note holds a number that is not finite.") from None
    except TypeError as error:
        raise ContractError("notes", f"The notes hold what is no JSON ({error}); write them by ctx.note.") from None


def _hidden_state(trial: Trial) -> None:
    if trial.remembered:
        raise ContractError(
            "hidden_state",
            f"{trial.remembered[0]} changes in a run; the server's memory is ctx.state, a device's is client.state.",
        )


def _repeatable(first: Trial, second: Trial) -> None:
    if first.federation.ledger != second.federation.ledger:
        raise ContractError("repeatable", "Two runs of one cell used different bytes, FLOPs or batches.")
    others = model_tensors(second.federation.server.model)
    for name, tensor in model_tensors(first.federation.server.model).items():
        if not torch.equal(tensor, others[name]):
            raise ContractError("repeatable", f'Two runs of one cell end with different weights in "{name}".')


def _inherited_keys(method: type[Method]) -> None:
    """Raise Odd where keys of local SGD change neither what two rounds of one device send nor what they cost."""
    one_device = replace(TINY, clients=10, participation=0.1, batch_size=8)
    cell = replace(_cell(method), train=one_device, alpha="iid", sparsity=0.0)
    dead = _dead_keys(method, cell, OF_LOCAL_SGD)
    if dead:
        raise Odd(
            f"The keys {', '.join(dead)} of LocalSGDConfig change neither what a device sends nor what it costs; "
            "train with local_sgd, or declare the keys that are read."
        )


def _own_keys(method: type[Method], changes: Changes) -> None:
    """Raise Odd where a key that the method defines changes nothing of two rounds."""
    dead = _dead_keys(method, _cell(method), changes)
    if dead:
        keys = ", ".join(dead)
        raise Odd(f"Nothing of a tiny run changes with {keys}; read self.config.{dead[0]}, or take the key out.")


def _dead_keys(method: type[Method], cell: Cell, changes: Changes) -> list[str]:
    def observe(params: Mapping[str, Any]) -> object:
        changed = replace(cell, params=dataclasses.asdict(make_config(method, {**cell.params, **params}, "params")))
        federation, watcher = _watched(method, changed)
        held = [_named(update) for update in watcher.updates] + [model_tensors(federation.server.model)]
        held.append(dict(federation.mask or {}))
        seen = [[tensor.numpy().tobytes() for tensor in tensors.values()] for tensors in held]
        return seen, federation.ledger, federation.seen_by(CostMeter).state_dict()

    return dead_keys(observe, changes)


def _vectorised(method: type[Method]) -> None:
    cell = replace(_cell(method), train=replace(TINY, rounds=1))
    (together, sent_together), (apart, sent_apart) = (
        _watched(method, cell, clients) for clients in (Clients, ClientsOneByOne)
    )
    bytes_up = [federation.ledger.totals["train"].uplink_bytes for federation in (together, apart)]
    if bytes_up[0] != bytes_up[1]:
        raise ContractError("vectorised", "client_updates sends other bytes than the loop over client_update.")
    for one, other in zip(sent_together.updates, sent_apart.updates, strict=True):
        for name, tensor in _named(one).items():
            if not torch.allclose(tensor, _named(other)[name], rtol=1e-5, atol=1e-8):
                raise ContractError("vectorised", f"client_updates and the loop over client_update differ in {name}.")


def _named(update: Update) -> dict[str, Tensor]:
    scalars = {} if update.scalars is None else {"scalars": update.scalars}
    return {**scalars, **update.tensors, **(update.weights or {})}
