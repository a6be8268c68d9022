"""The conformance suite: tries every rule of the plug-in contract on a method, with tiny settings on real digits."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from bench.cell import Cell, Estimator, Protocol
from bench.contract import Method, Update
from bench.data import Dataset, load
from bench.errors import ContractError, FedForeError, Skip
from bench.federated import Federation, Result
from bench.metrics import METRICS
from bench.primitives.flat import model_tensors
from bench.registry import MethodEntry

Outcome = Literal["ok", "skip", "broken"]
TINY = Protocol(clients=4, participation=0.5, batch_size=16, rounds=2, ntk=False)
SPARSITY = 0.8
SMALL = {"num_perturbations": 4, "iterations": 2, "draws": 1, "inputs_per_draw": 8}
"""Values of parameters that cost time, for methods that have them."""


@dataclass(frozen=True)
class Finding:
    """One rule tried on one method; `sentence` says why it is skipped or how it is broken."""

    method: str
    rule: str
    outcome: Outcome
    sentence: str = ""


def check_method(entry: MethodEntry) -> list[Finding]:
    """Try every rule on a method, on one torch thread as in a run, and return what was found, in order."""
    torch.set_num_threads(1)
    if entry.method is None:
        return [Finding(entry.name, "import", "broken", entry.problem or "")]
    return [_tried(entry.name, entry.method, rule, check) for rule, check in _checks(entry.method)]


def _tried(name: str, method: type[Method], rule: str, check: Callable[[], None]) -> Finding:
    try:
        with plugin_border(method.__name__, Path(inspect.getfile(method))):
            check()
        return Finding(name, rule, "ok")
    except Skip as skip:
        return Finding(name, rule, "skip", str(skip))
    except ContractError as error:
        return Finding(name, error.rule, "broken", error.message)
    except FedForeError as error:
        return Finding(name, rule, "broken", str(error))


def _checks(method: type[Method]) -> Iterator[tuple[str, Callable[[], None]]]:
    yield "definition", lambda: _definition(method)
    yield "runs", lambda: _runs(method, _cell(method))
    yield "repeatable", lambda: _repeatable(method)
    if method.client_updates is not None:
        yield "vectorised", lambda: _vectorised(method)
    if "sparsity" in method.uses:
        yield "dense", lambda: _runs(method, replace(_cell(method), sparsity=0.0))
    if "estimator" in method.uses:
        for estimator in get_args(Estimator):
            yield f"estimator {estimator}", partial(_runs, method, replace(_cell(method), estimator=estimator))


def _cell(method: type[Method]) -> Cell:
    params = dataclasses.asdict(method.Config())
    params |= {name: value for name, value in SMALL.items() if name in params}
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


def _federation(method: type[Method], cell: Cell, **options: Any) -> Federation:
    method(method.Config(**cell.params)).check(cell)
    return Federation(cell, method, _tiny_digits(), torch.device("cpu"), **options)


def _runs(method: type[Method], cell: Cell) -> None:
    _federation(method, cell).run()


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


def _repeatable(method: type[Method]) -> None:
    first, second = (_federation(method, _cell(method)).run() for _ in range(2))
    if first.totals != second.totals:
        raise ContractError("repeatable", "Two runs of one cell used different bytes, FLOPs or batches.")
    for name, tensor in _weights(first).items():
        if not torch.equal(tensor, _weights(second)[name]):
            raise ContractError("repeatable", f'Two runs of one cell end with different weights in "{name}".')


def _weights(result: Result) -> dict[str, Tensor]:
    return model_tensors(result.model)


def _vectorised(method: type[Method]) -> None:
    cell = replace(_cell(method), train=replace(TINY, rounds=1))
    sent: dict[bool, list[Update]] = {True: [], False: []}
    bytes_up = {}
    for vectorised, updates in sent.items():
        result = _federation(method, cell, vectorised=vectorised, on_update=updates.append).run()
        bytes_up[vectorised] = result.totals["train"].uplink_bytes
    if bytes_up[True] != bytes_up[False]:
        raise ContractError("vectorised", "client_updates sends other bytes than the loop over client_update.")
    for one, other in zip(sent[True], sent[False], strict=True):
        for name, tensor in _named(one).items():
            if not torch.allclose(tensor, _named(other)[name], rtol=1e-5, atol=1e-8):
                raise ContractError("vectorised", f"client_updates and the loop over client_update differ in {name}.")


def _named(update: Update) -> dict[str, Tensor]:
    scalars = {} if update.scalars is None else {"scalars": update.scalars}
    return {**scalars, **update.tensors, **(update.weights or {})}
