"""What the cells of a plan share: a model is prepared again only for other values of what `prepare` reads."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from fedfore.api import Method, Skip
from fedfore.contract.registry import MethodEntry
from fedfore.execution.matrix import resolve
from fedfore.tasks import models

RATES = [0.01 * step for step in range(1, 21)]


@dataclass(frozen=True)
class Config:
    lr: float = 0.1
    width: int = 1
    deep: bool = False


Read = Callable[[Config], object]


class Reader(Method):
    """Notes every model that it prepares."""

    Config = Config
    prepared: list[object] = []  # noqa: RUF012 - one list a test

    def prepare(self, model: nn.Module) -> nn.Module:
        self.prepared.append(model)
        return model


class Eager(Reader):
    """Reads its configuration when it is made."""

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.rate = config.lr

    def prepare(self, model: nn.Module) -> nn.Module:
        self.prepared.append(self.rate)
        return model


def planned(kind: type[Method], **axes: list[Any]) -> list[str | None]:
    """Return why each cell of a matrix is skipped."""
    grid = {"method": ["reader"], "dataset": ["digits"], "model": ["lenet5"]}
    own = {f"params.reader.{key}": values for key, values in axes.items()}
    entry = MethodEntry("reader", "plugin", Path(__file__), kind)
    found = resolve({"grid": {**grid, **own}, "train": {"rounds": 2}}, {"reader": entry})
    return [item.skip for item in found]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Reader, "prepared", [])


@pytest.mark.parametrize(
    ("read", "times"),
    [
        (lambda config: None, 1),
        (lambda config: config.width, 2),
        (lambda config: (config.width, config.deep), 4),
        (lambda config: config.width > 1 and config.deep, 3),
        (lambda config: asdict(config)["width"], 4 * len(RATES)),
        (lambda config: vars(config)["width"], 4 * len(RATES)),
        (lambda config: config == Config(), 4 * len(RATES)),
    ],
    ids=["nothing", "a key", "two keys", "a key, and another where it matters", "asdict", "vars", "equality"],
)
def test_a_model_is_prepared_once_for_all_cells_that_are_alike_in_what_is_read(
    read: Read, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "prepare", lambda self, model: self.prepared.append(read(self.config)) or model)
    assert planned(Reader, lr=RATES, width=[1, 2], deep=[False, True]) == [None] * 4 * len(RATES)
    assert len(Reader.prepared) == times


def test_a_watched_configuration_is_like_the_one_it_stands_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def seen(config: Config) -> tuple[object, ...]:
        return (
            config == Config(),
            config.__class__ is Config,
            isinstance(config, Config),
            replace(config, width=2),
            hash(config),
        )

    monkeypatch.setattr(Reader, "prepare", lambda self, model: self.prepared.append(seen(self.config)) or model)
    planned(Reader, lr=[0.1])
    assert Reader.prepared == [seen(Config())]


def test_a_skip_of_prepare_is_of_the_cells_that_it_is_true_of(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(self: Reader, model: nn.Module) -> nn.Module:
        if self.config.width == 3:
            raise Skip("three is too wide")
        return model

    monkeypatch.setattr(Reader, "prepare", prepare)
    skips = planned(Reader, lr=RATES, width=[1, 3, 2])
    assert skips == [None, "three is too wide", None] * len(RATES)


def test_a_method_that_reads_its_configuration_when_it_is_made_is_prepared_for_each() -> None:
    assert planned(Eager, lr=RATES) == [None] * len(RATES)
    assert Eager.prepared == RATES


def test_each_model_is_outlined_once(monkeypatch: pytest.MonkeyPatch) -> None:
    outlined: list[str] = []
    outline = models.outline
    monkeypatch.setattr(models, "outline", lambda *args: outlined.append(args[0]) or outline(*args))
    planned(Reader, lr=RATES)
    assert outlined == ["lenet5"]
