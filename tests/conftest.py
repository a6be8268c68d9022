"""What several test files share: a tiny real data set, a way to run one cell of it, and the suite as a wheel."""

import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedfore.api import Method, Update
from fedfore.cell import Cell, Protocol
from fedfore.execution.executors.inline import Inline
from fedfore.federation.assembly import federation_of
from fedfore.federation.loop import Federation
from fedfore.federation.observers.observer import Observer, View, Work
from fedfore.records.sources import BESIDE, ROOT
from fedfore.tasks.examples import Dataset
from fedfore.tasks.loading import load

torch.set_num_threads(1)


def run_in_this_process(patch: pytest.MonkeyPatch, executor: type[Inline] = Inline) -> None:
    """Have every command run its cells in this process, with no worker to start."""
    patch.setattr("fedfore.execution.executors.choice.executor_of", lambda *_, **__: executor())
    patch.setattr("fedfore.execution.executors.warm_server.warm_up", lambda: None)


@pytest.fixture(scope="session")
def wheel_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel of a copy of the shipped files, without a network."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("bench", *BESIDE):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('made')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (file,) = (source / "made").iterdir()
    return file


class Received(Observer):
    """Keeps every update that the server received."""

    def __init__(self) -> None:
        self.updates: list[Update] = []

    def after_work(self, view: View, work: Work) -> None:
        self.updates += work.updates


TINY = Protocol(clients=4, batch_size=16, rounds=2)


@pytest.fixture(scope="session")
def tiny_digits() -> Dataset:
    whole = load("digits")
    return replace(whole, train=whole.train.subset(torch.arange(160)), test=whole.test.subset(torch.arange(100)))


def make_cell(
    method: type[Method],
    train: Protocol = TINY,
    *,
    given: dict[str, Any] | None = None,
    ntk: bool = False,
    **fields: Any,
) -> Cell:
    fields = {
        "dataset": "digits",
        "model": "lenet5",
        "alpha": "iid",
        "params": asdict(method.Config(**(given or {}))),
        **fields,
    }
    return Cell(method=method.__name__, train=replace(train, ntk=ntk), **fields)


@pytest.fixture
def federation(tiny_digits: Dataset) -> Callable[..., Federation]:
    def make(method: type[Method], *args: Any, options: dict[str, Any] | None = None, **fields: Any) -> Federation:
        cell = make_cell(method, *args, **fields)
        return federation_of(cell, method, tiny_digits, torch.device("cpu"), **(options or {}))

    return make
