"""What tuning chose, as it lies with a plan: the table that asked, every trial, and each series' choice. No torch.

A series is all that differs in more than its seed and its tuned keys. A trial is a point of a series' grid in one
stage, over all tuning seeds.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ConfigDict, TypeAdapter, ValidationError

from fedfore.cell import Stage

TUNING = "tuning"
"""The key of a plan that holds them."""
TRIALS: tuple[Stage, ...] = ("tune1", "tune2")
"""The stages of tuning, in their order."""


@dataclass(frozen=True)
class Trial:
    """A point of a grid in one stage: its tuned `values`, and its validation accuracies, one a tuning seed.

    `failed` of the seeds did not end ok and have the accuracy of chance. `mean` is that of the accuracies.
    """

    stage: Literal["tune1", "tune2"]
    values: Mapping[str, Any]
    accuracies: tuple[float, ...]
    mean: float
    failed: int

    __pydantic_config__ = ConfigDict(extra="forbid")


@dataclass(frozen=True)
class Choice:
    """The `values` of tuned keys that a series is reported with; None, for a `reason`, where no trial of it ended.

    `where` are the filters that name the series (see `fedfore.judgement.selection`). `grid` is what was tried, by key,
    with what was added at its edges; empty where there was nothing to tune. `at_edge`: a chosen value is the first or
    last of its key, so that a better one may lie outside.
    """

    where: Mapping[str, Any]
    values: Mapping[str, Any] | None
    at_edge: bool = False
    reason: str | None = None
    grid: Mapping[str, tuple[Any, ...]] | None = None
    seeds: tuple[int, ...] = ()
    trials: tuple[Trial, ...] = ()

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def name(self) -> str:
        """The name of the series."""
        return series_name(self.where)

    @property
    def points(self) -> int:
        """How many points of the grid were tried: those of the first stage."""
        return sum(one.stage == self.trials[0].stage for one in self.trials)

    @property
    def finalists(self) -> tuple[Trial, ...]:
        """The trials of the last stage, one of which was chosen."""
        return tuple(one for one in self.trials if one.stage == self.trials[-1].stage)

    @property
    def chosen(self) -> Trial | None:
        """The trial that was chosen, None where there were no trials or no trial ended."""
        return next((one for one in self.finalists if one.values == self.values), None)


def series_name(where: Mapping[str, Any]) -> str:
    """Return the name of a series, from the filters that name it: "baffle, num_perturbations 50"."""
    return ", ".join([where["method"], *_texts({key: value for key, value in where.items() if key != "method"})])


def values_text(choice: Choice) -> str:
    """Return what a choice chose, in words: "lr 0.01, init_scale 1"; "nothing" where there is nothing to choose."""
    return ", ".join(_texts(choice.values or {})) or "nothing"


def _texts(values: Mapping[str, Any]) -> list[str]:
    return [f"{key} {value:g}" if isinstance(value, float) else f"{key} {value}" for key, value in values.items()]


@dataclass(frozen=True)
class Tuning:
    """The `[tune]` table of a plan, and the choices by it: None until its trials have ended.

    `asked` are the ids of what is to be reported, as they would be with every tuned key at its default; none where the
    choices are taken from a published study, and all cells known at once.
    """

    table: Mapping[str, Any]
    asked: tuple[str, ...]
    choices: tuple[Choice, ...] | None = None

    __pydantic_config__ = ConfigDict(extra="forbid")

    @property
    def is_by_trials(self) -> bool:
        """Whether the plan has trials of its own."""
        return bool(self.asked)

    def asks_as(self, other: Tuning | None) -> bool:
        """Return whether another tuning asks for the same, whatever has been chosen since."""
        return other is not None and (self.table, self.asked) == (other.table, other.asked)

    @property
    def keys(self) -> tuple[str, ...]:
        """The keys that are tuned for some series."""
        tuned = (key for choice in self.choices or () for key in choice.values or choice.grid or {})
        return tuple(dict.fromkeys(tuned))


_ADAPTER = TypeAdapter(Tuning)


def tuning_to_json(tuning: Tuning) -> dict[str, Any]:
    """Return the tuning of a plan as plain JSON types."""
    plain: dict[str, Any] = _ADAPTER.dump_python(tuning, mode="json")
    return plain


def tuning_from_json(data: Any) -> Tuning:
    """Return what `tuning_to_json` wrote. Raises ValueError for what is no such thing."""
    try:
        return _ADAPTER.validate_json(json.dumps(data), strict=True)
    except ValidationError as error:
        raise ValueError(str(error.errors()[0]["loc"])) from None
