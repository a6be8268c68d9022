"""What is said of a plan: its cells, the stages of its tuning, and what was chosen. No torch."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from fedfore.cell import Cell
from fedfore.records.choices import Choice, Tuning, values_text

if TYPE_CHECKING:
    from fedfore.execution.tuning import StagedPlan


def plan_lines(plan: StagedPlan) -> Iterator[str]:
    """Yield a line a cell that is known by now, with the settings in which cells of its method differ, and counts.

    Where the matrix tunes, the stages follow, and the choices as far as they are known.
    """
    planned = plan.cells
    varying = _varying_settings([item.cell for item in planned])
    for item in planned:
        cell = item.cell
        words = [cell.dataset, cell.model, f"sparsity={cell.sparsity:g}", f"alpha={cell.alpha}", f"seed={cell.seed}"]
        if cell.stage != "report":
            words.insert(0, cell.stage)
        if cell.estimator:
            words.append(cell.estimator)
        words += [f"{key}={value}" for key, value in _settings(cell).items() if (cell.method, key) in varying]
        yield f"{cell.id:<32} {' '.join(words)}{f'  skipped: {item.skip}' if item.skip else ''}"
    skipped = sum(item.skip is not None for item in planned)
    yield f"{len(planned)} cells, {skipped} of them skipped"
    yield from tuning_lines(plan)


def tuning_lines(plan: StagedPlan) -> Iterator[str]:
    """Yield what a plan's tuning comes to: its stages, series without one, and the choices once they are known."""
    if plan.tuning is None:
        return
    if plan.tuning.is_by_trials:
        yield f"stages: {', '.join(f'{stage} {count} cells' for stage, count in plan.expected.items())}"
    for name in plan.untuned:
        yield f"nothing tuned: {name}"
    yield from choice_lines(plan.tuning, [item.cell for item in plan.cells])


def choice_lines(tuning: Tuning, cells: Sequence[Cell]) -> Iterator[str]:
    """Yield a line a choice for a method of these cells, none before there are any."""
    methods = {cell.method for cell in cells}
    for choice in tuning.choices or ():
        if choice.where["method"] not in methods:
            continue
        edge = ", which lies at an edge of its grid" if choice.at_edge else ""
        chosen = choice.reason or f"{values_text(choice)}{_of_trials(choice)}{edge}"
        yield f"chosen for {choice.name}: {chosen}"


def _of_trials(choice: Choice) -> str:
    if choice.chosen is None:
        return ""
    return f" (validation accuracy {choice.chosen.mean:.4f}, the best of {choice.points} points)"


def _settings(cell: Cell) -> dict[str, Any]:
    return dict(cell.params) | {f"train.{key}": value for key, value in vars(cell.train).items()}


def _varying_settings(cells: Sequence[Cell]) -> set[tuple[str, str]]:
    """Return each (method, parameter or protocol key) in which cells of that method differ."""
    seen = {(cell.method, key, repr(value)) for cell in cells for key, value in _settings(cell).items()}
    values = Counter((method, key) for method, key, _ in seen)
    return {pair for pair, count in values.items() if count > 1}
