"""The clients of a round shared among processes: no number changes, no fault is lost, and nobody is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any, ClassVar

import pytest
import torch
from torch import nn

from fedfore.api import Client, ClientContext, Method, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.baffle_erk import BaffleERK
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.cell import Estimator
from fedfore.errors import ContractError
from fedfore.federation.clients import Clients
from fedfore.federation.forks import MOST_TOKENS, shared
from fedfore.federation.loop import Federation
from fedfore.methods.fed_ntk_fedavg import FedNTKFedAvg
from tests.test_executors import is_alive
from tests.test_resume import CELLS, SMALL, TRAIN, seen
from tests.test_runner import wait_until

HERE = os.getpid()
Make = Callable[..., Federation]
TWO = {"clients": partial(Clients, processes=2)}
FEW: dict[str, Any] = {"num_perturbations": 3}
SCORING: dict[str, Any] = {"iterations": 2, "draws": 1, "inputs_per_draw": 4}
BP_FREE: tuple[Estimator, ...] = ("finite_difference", "directional", "moment", "exact")
ROUNDS: dict[str, tuple[type[Method], dict[str, Any]]] = {
    **CELLS,
    **{f"baffle {one}": (Baffle, {"given": FEW, "estimator": one, "alpha": 1.0}) for one in BP_FREE},
    "baffle_erk": (BaffleERK, {"given": FEW, "estimator": "moment", "sparsity": 0.8}),
    "epochs": (Baffle, {"given": {**FEW, "communication": "epoch"}, "estimator": "directional"}),
    "fedavg_erk": (FedAvgERK, {"sparsity": 0.8}),
    "fed_ntk_fedavg": (FedNTKFedAvg, {"given": SCORING, "sparsity": 0.8}),
}
IN_FAST_TESTS = ("client state", "moving average", "extrusion", "foresight", "baffle moment")


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name in IN_FAST_TESTS else pytest.mark.slow) for name in ROUNDS]
)
@pytest.mark.thorough
def test_rounds_that_are_now_shared_and_now_not_end_as_those_of_one_process(federation: Make, name: str) -> None:
    method, settings = ROUNDS[name]
    settings = {"train": TRAIN, "model": SMALL, **settings}
    alone, made, steps = federation(method, **settings).run(), federation(method, options=TWO, **settings), 0
    while made.advance():
        state, steps = made.state_dict(), steps + 1
        made = federation(method, options={} if steps % 3 == 0 else TWO, **settings)
        made.load_state_dict(state)
    assert seen(made) == seen(alone)
    mine = made.model.state_dict()
    assert all(torch.equal(tensor, mine[key]) for key, tensor in alone.model.state_dict().items())


class Faulty(Method):
    """Does something odd on its second client."""

    fault: ClassVar[Callable[[], object]]

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Update:
        update = super().client_update(model, client, ctx)
        if client.id == 1:
            type(self).fault()
        return update


def give_up() -> None:
    raise ArithmeticError("client 1 gives up")


def edit_data() -> None:
    for clients in (one for one in FEDERATIONS):
        clients.world.train_set.labels.zero_()


FEDERATIONS: list[Federation] = []


@pytest.mark.parametrize(
    ("fault", "error", "words"),
    [
        (give_up, ArithmeticError, "client 1 gives up"),
        (lambda: torch.rand(1), ContractError, "used a global random generator"),
        (edit_data, ContractError, "overwrites the data set"),
    ],
    ids=["raises", "global generator", "data"],
)
def test_a_fault_is_the_one_that_a_process_alone_would_have(
    federation: Make, monkeypatch: pytest.MonkeyPatch, fault: Callable[[], object], error: type[Exception], words: str
) -> None:
    monkeypatch.setattr(Faulty, "fault", staticmethod(fault), raising=False)
    for options in ({}, TWO):
        made = federation(Faulty, TRAIN, options=options, given={"local_steps": 1}, model=SMALL)
        monkeypatch.setattr(sys.modules[__name__], "FEDERATIONS", [made])
        labels = made.world.train_set.labels
        kept = labels.clone()
        with (
            torch.set_grad_enabled(True),
            pytest.warns(UserWarning, match="ended early") if options else nullcontext(),
            pytest.raises(error, match=words),
        ):
            made.run()
        labels.copy_(kept)


def test_what_only_the_next_client_of_a_process_alone_would_feel_is_named_where_it_is_shared(
    federation: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        Faulty, "fault", lambda: setattr(Faulty, "hidden", 1) or torch.set_grad_enabled(False), raising=False
    )
    alone, both = (
        federation(Faulty, TRAIN, options=options, given={"local_steps": 1}, model=SMALL) for options in ({}, TWO)
    )
    with torch.set_grad_enabled(True), pytest.raises(RuntimeError, match="does not require grad"):
        alone.run()
    with (
        torch.set_grad_enabled(True),
        pytest.warns(UserWarning, match="ended early"),
        pytest.raises(ContractError, match="changes whether gradients are recorded"),
    ):
        both.run()


@pytest.mark.thorough
def test_nobody_waits_for_a_thread_that_is_left_behind(federation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def leave_a_thread() -> None:
        if os.getpid() != HERE:
            threading.Thread(target=threading.Event().wait, args=(600,)).start()

    monkeypatch.setattr(Faulty, "fault", staticmethod(leave_a_thread), raising=False)
    settings: dict[str, Any] = {"given": {"local_steps": 1}, "model": SMALL}
    before = time.monotonic()
    made = federation(Faulty, TRAIN, options=TWO, **settings).run()
    assert time.monotonic() - before < 120
    assert seen(made) == seen(federation(Faulty, TRAIN, **settings).run())


def test_the_work_of_a_process_that_is_killed_is_done_again(federation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        Faulty, "fault", lambda: os.getpid() == HERE or os.kill(os.getpid(), signal.SIGKILL), raising=False
    )
    settings: dict[str, Any] = {"given": {"local_steps": 1}, "model": SMALL}
    alone = federation(Faulty, TRAIN, **settings).run()
    with pytest.warns(UserWarning, match="ended early: "):
        made = federation(Faulty, TRAIN, options=TWO, **settings).run()
    assert seen(made) == seen(alone)


def test_items_are_worked_on_once_each_and_come_back_in_order() -> None:
    items = range(3 * MOST_TOKENS + 1)
    made = list(shared(lambda item: (item, os.getpid()), items, 3, nullcontext))
    assert [item for item, _ in made] == list(items)
    assert HERE not in {process for _, process in made}


SLEEPERS = """
import os, time
from contextlib import nullcontext
from fedfore.federation.forks import shared
def work(item):
    os.write(1, b"%d\\n" % os.getpid())
    time.sleep(600)
list(shared(work, [1, 2], 2, nullcontext))
"""


@pytest.mark.parametrize("which", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_no_process_outlives_the_one_that_it_was_forked_from(which: signal.Signals) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", SLEEPERS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as parent:
        assert parent.stdout is not None
        forked = [int(parent.stdout.readline()) for _ in range(2)]
        assert all(map(is_alive, forked))
        parent.send_signal(which)
        parent.wait(timeout=30)
    wait_until(lambda: not any(map(is_alive, forked)), 20)
