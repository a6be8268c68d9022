"""The series of a matrix that tunes: which of its cells get one choice, what they are called, and what they may try."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fedfore.cell import Cell
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError, suggestion
from fedfore.execution.matrix import PlannedCell, changed
from fedfore.execution.shared_params import keys_of
from fedfore.execution.tune_table import SWITCH_OFF, Tune, grid_of, lacks_keys, require_free
from fedfore.judgement.choices import Grid, is_ordered
from fedfore.judgement.contrasts import contrasts, pairings, problem
from fedfore.judgement.selection import fitting, short, telling, varying
from fedfore.records.choices import series_name
from fedfore.records.table import settings_table

UNEVALUATED: Mapping[str, Any] = {
    "train.eval_every": None, "train.ntk": False, "train.ntk_seeds": None, "train.compare_masks": False,
    "train.recalibrate": False,
}  # fmt: skip
"""What trials leave out: it looks at a cell, and changes nothing of what it learns."""
_BUDGETS = ("train.rounds", "train.data_passes")


@dataclass(frozen=True)
class Series:
    """What gets one choice.

    `base` is a trial of it at the whole budget, with every tuned key at its default; `where` are the filters that name
    it, `grid` what is tried before anything is added at an edge.
    """

    base: Cell
    where: Mapping[str, Any]
    grid: Grid

    @property
    def points(self) -> int:
        """How many points its grid has; 0 where there is nothing to tune."""
        return math.prod(map(len, self.grid.values())) if self.grid else 0

    @property
    def shape(self) -> Mapping[str, tuple[int, bool]]:
        """Of each key how many values are tried, and whether more may be added at an edge."""
        return {key: (len(values), is_ordered(values)) for key, values in self.grid.items()}


def series_of(
    document: Mapping[str, Any], methods: Mapping[str, MethodEntry], tune: Tune, reported: Sequence[PlannedCell]
) -> tuple[list[Series], dict[str, int]]:
    """Return the series of a matrix, and the place of each reported cell's by its id; cells that are skipped have none.

    Raises ConfigError for what cannot be tuned: without validation data, by a seed that is reported, a key that is set,
    trials that are no cells, and contrasts of a family whose sides are not tried equally often.
    """
    live = [item.cell for item in reported if item.skip is None]
    _require_apart(tune, live)
    bases: dict[str, Cell] = {}
    ids = {}
    for cell in live:
        base = changed_while_tuning(cell, {**tune.at, "seed": tune.seed[0], **UNEVALUATED, "stage": "tune2"}, methods)
        bases.setdefault(base.id, base)
        ids[cell.id] = base.id
    for base in bases.values():
        _require_learning(base)
    _require_reported(tune, live)
    keys = {base.method: keys_of(lookup(methods, base.method)) for base in bases.values()}
    _require_tried(tune, {key for own in keys.values() for key in own})
    grids = {method: grid_of(tune, method, own) for method, own in keys.items()}
    require_free(document, methods, grids)
    names = wheres(list(bases.values()))
    found = [Series(base, where, grids[base.method]) for base, where in zip(bases.values(), names, strict=True)]
    places = {one.base.id: place for place, one in enumerate(found)}
    own_place = {cell: places[base] for cell, base in ids.items()}
    exempt = {method for method, own in keys.items() if lacks_keys(tune, method, own)}
    for sentence in _unequal(document, live, [found[own_place[cell.id]] for cell in live], exempt):
        raise ConfigError(sentence)
    return found, own_place


def changed_while_tuning(cell: Cell, point: Mapping[str, Any], methods: Mapping[str, MethodEntry]) -> Cell:
    """Return a trial's cell (see `changed`). Raises ConfigError, which names the table, where it could not be."""
    try:
        return changed(cell, point, methods)
    except ConfigError as error:
        raise ConfigError(f"[tune]: {error}") from None


def _require_apart(tune: Tune, cells: Sequence[Cell]) -> None:
    for cell in cells:
        if cell.seed in tune.seed:
            raise ConfigError(f"tune.seed holds {cell.seed}, which [grid] reports; tune on other seeds ({SWITCH_OFF}).")


def _require_learning(base: Cell) -> None:
    train = base.train
    if not train.budget:
        raise ConfigError(f"[tune] needs training, and train.setup_only or meter_only leave none ({SWITCH_OFF}).")
    if not train.validation_fraction:
        raise ConfigError(
            "[tune] chooses on validation data, and there are none: give train.validation_fraction, such as 0.1 "
            f"({SWITCH_OFF})."
        )


def _require_reported(tune: Tune, cells: Sequence[Cell]) -> None:
    """Raise ConfigError where tuning fixes an axis at a value that no reported cell has, or the budget."""
    table = settings_table(cells)
    for axis, value in tune.at.items():
        if axis in _BUDGETS:
            raise ConfigError(f"tune.at fixes {axis}, which is the budget; tune.horizon is what shortens it.")
        wanted = {axis: "none" if value is None else value}
        if cells and not axis.startswith("train.") and not fitting(table, wanted).any():
            raise ConfigError(
                f"tune.at fixes {axis} at {value!r}, which no cell has that is reported; give a value that one has."
            )


def _require_tried(tune: Tune, keys: Collection[str]) -> None:
    """Raise ConfigError where a key of the shared grid is one of no method that is reported."""
    for key, values in tune.grid.items():
        if not isinstance(values, Mapping) and keys and key not in keys:
            raise ConfigError(f'tune.grid: no method of the grid has a key "{key}".{suggestion(key, keys)}')


def wheres(cells: Sequence[Cell]) -> list[dict[str, Any]]:
    """Return the filters that name the settings of each cell among these: its method, and what tells its cells apart.

    The filters are those of `fedfore.judgement.selection.fitting`, their values of TOML's types.
    """
    if not cells:
        return []
    table = settings_table(cells)
    found: list[dict[str, Any]] = [{}] * len(cells)
    for method, rows in table.groupby("method", sort=False):
        names = telling(rows, varying(rows))
        for row in rows.index:
            found[row] = {"method": method, **{short(name): _plain(rows.loc[row, name]) for name in names}}
    return found


def _plain(value: Any) -> Any:
    """Return a value of a table as a filter has it: "none" for none."""
    if value is None or value != value:
        return "none"
    return value.item() if hasattr(value, "item") else value


def _unequal(
    document: Mapping[str, Any], cells: Sequence[Cell], own: Sequence[Series], exempt: set[str]
) -> Iterator[str]:
    """Yield a sentence where contrasts of one family compare series that have not equally many trials."""
    table = settings_table(cells)
    families: dict[str, dict[str, Series]] = {}
    for contrast in contrasts(document) if cells else ():
        if problem(table, contrast):
            continue
        for pairing in pairings(table, contrast):
            for row in (*pairing.of, *pairing.against):
                if own[row].base.method not in exempt:
                    families.setdefault(contrast.family, {})[own[row].base.id] = own[row]
    for family, members in families.items():
        first, *others = members.values()
        for one in others:
            if one.points != first.points:
                yield (
                    f'Family "{family}" of contrasts is not tuned equally: {series_name(first.where)} tries '
                    f"{first.points} points and {series_name(one.where)} {one.points}; give both as many in [tune] "
                    "grid."
                )
            elif one.shape != first.shape:
                yield (
                    f'Family "{family}" of contrasts is not tuned equally once a value is added at an edge: '
                    f"{series_name(first.where)} and {series_name(one.where)} try as many points, and not as many "
                    "values of each key; give both as many in [tune] grid."
                )
