"""From a run's records to the verdicts of its matrix' contrasts: pairs of seeds, what withholds a point, families."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from typing import Any

import pandas as pd

from fedfore.errors import ConfigError, StoreError
from fedfore.judgement.certificates import needs_certificate, scalar_errors
from fedfore.judgement.choices import tuned_columns, with_choices
from fedfore.judgement.contrasts import (
    Contrast,
    Control,
    Pairing,
    answerable,
    contrasts,
    controls,
    is_control,
    pairings,
)
from fedfore.judgement.estimates import Difference, DifferenceScale, paired
from fedfore.judgement.sides import Side, chance_accuracies, difference, is_accuracy, is_metered, side, withheld
from fedfore.judgement.verdicts import Answer, Question, Verdict, answers
from fedfore.records.metrics import METRICS
from fedfore.records.packed import MATRIX
from fedfore.records.run import Run
from fedfore.records.table import load_table


@dataclass(frozen=True)
class Judged:
    """A comparison of a contrast and its verdict.

    `difference` is on the contrast's scale: of minus against, or the logarithm of their ratio; None where the two
    sides share nothing. `level` is that of the interval by which `better` and `worse` were decided. `reason` says why
    something is not tested; `remarks` what is to be known of a verdict.
    """

    pairing: Pairing
    of: Side
    against: Side
    difference: Difference | None
    verdict: Verdict = "not tested"
    level: float = 1.0
    reason: str = ""
    remarks: tuple[str, ...] = ()

    @property
    def contrast(self) -> Contrast:
        """The contrast that this is a comparison of."""
        return self.pairing.contrast

    def interval(self, level: float | None = None) -> tuple[float, float]:
        """Return the interval of the difference, or of the ratio, at a level: by default its family's step level.

        Where there is no chance in it, from the lowest to the highest of the seeds; both NaN where it is not known.
        """
        if self.difference is None:
            return math.nan, math.nan
        if is_metered(self.contrast.metric):
            low, high = min(self.difference.values), max(self.difference.values)
        else:
            low, high = self.difference.interval(self.level if level is None else level)
        return (math.exp(low), math.exp(high)) if self.contrast.compare == "ratio" else (low, high)

    @property
    def value(self) -> float:
        """The difference in the metric's unit, or the ratio; NaN where it is not known."""
        if self.difference is None:
            return math.nan
        mean = self.difference.mean
        return math.exp(mean) if self.contrast.compare == "ratio" else mean


def evidence(run: Run) -> pd.DataFrame:
    """Return a run's table with what judging needs beside its records.

    `study` is the folder's name, `scalar_errors` those of a cell by milestone (see `certificates`), `control` whether
    it competes with nobody; what tuning says of it is that of `choices.with_choices`. Chance is
    that of `sides.chance_accuracies`. Raises StoreError or ConfigError for a run or a matrix that cannot be read.
    """
    cells = load_table(run)
    needing = cells[needs_certificate(cells)] if len(cells) else cells
    errors = {index: scalar_errors(run, cell_id) for index, cell_id in needing.get("cell_id", {}).items()}
    known = pd.Series(errors, cells.index, dtype=object)
    cells = cells.assign(study=run.path.resolve().name, scalar_errors=known, chance_accuracy=chance_accuracies(cells))
    return with_choices(run, cells.assign(control=is_control(cells, controls_of(run))))


def contrasts_of(run: Run) -> list[Contrast]:
    """Return the contrasts of a run's matrix, none where it has no matrix. Raises StoreError or ConfigError."""
    return contrasts(_matrix(run))


def controls_of(run: Run) -> list[Control]:
    """Return the controls of a run's matrix, none where it has no matrix. Raises StoreError or ConfigError."""
    return controls(_matrix(run))


def _matrix(run: Run) -> Mapping[str, Any]:
    path = run.path / MATRIX
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig")) if path.is_file() else {}
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}.") from None


def judged_of(run: Run, known: pd.DataFrame | None = None) -> list[Judged]:
    """Return every comparison that a run's matrix asks for, judged; a contrast whose cells it left out is not asked.

    `known` is the run's `evidence`, for who has it already. Raises StoreError or ConfigError for a run or a matrix that
    cannot be read.
    """
    asked = contrasts_of(run)
    if not asked:
        return []
    cells, tuned = evidence(run) if known is None else known, tuned_columns(run)
    return judged_pairings(cells, list(answerable(cells, asked, tuned)))


def judged(
    cells: pd.DataFrame, asked: Iterable[Contrast], tuned: Sequence[str] = (), agreeing: Sequence[str] = ()
) -> list[Judged]:
    """Return every comparison of these contrasts among an `evidence` table, judged within its family.

    `tuned` and `agreeing` are those of `pairings`. Raises ConfigError for a contrast that the table cannot answer
    because it is misspelt.
    """
    return judged_pairings(cells, [one for contrast in asked for one in pairings(cells, contrast, tuned, agreeing)])


def judged_pairings(cells: pd.DataFrame, asked: Iterable[Pairing]) -> list[Judged]:
    """Return comparisons among an `evidence` table, judged within their families. Raises as `judged` does."""
    found = [_compared(cells, one) for one in asked]
    families: dict[str, list[int]] = {}
    for place, one in enumerate(found):
        families.setdefault(one.contrast.family, []).append(place)
    verdicts: dict[int, Answer] = {}
    for places in families.values():
        own = answers([_question(found[place]) for place in places])
        verdicts |= dict(zip(places, own, strict=True))
    return [_answered(one, verdicts[place]) for place, one in enumerate(found)]


def _question(one: Judged) -> Question:
    contrast, margin = one.contrast, one.contrast.margin
    if margin is not None and contrast.compare == "ratio":
        margin = math.log1p(margin)
    unknown = Difference(math.nan, math.nan, math.nan, 0, paired=True)
    return Question(
        one.difference if one.difference is not None and not one.reason else unknown,
        margin,
        METRICS[contrast.metric].direction == "higher",
        is_metered(contrast.metric),
    )


def _answered(one: Judged, answer: Answer) -> Judged:
    verdict: Verdict = "not tested" if one.reason else answer.verdict
    return replace(one, verdict=verdict, level=answer.level)


def _compared(cells: pd.DataFrame, pairing: Pairing) -> Judged:
    """Return a comparison with its difference, before its family judges it."""
    contrast = pairing.contrast
    try:
        of, against = (side(cells.loc[index], contrast.metric) for index in (pairing.of, pairing.against))
    except ConfigError as error:
        raise ConfigError(f'Contrast "{contrast.name}": {error}') from None
    sides = [of, against]
    if isinstance(contrast.against, float):
        against, sides = replace(against, values=pd.Series(contrast.against, of.values.index)), [of]
    scale: DifferenceScale = "log" if contrast.compare == "ratio" else "linear"
    in_pairs = is_metered(contrast.metric) or len(sides) == 1
    found = paired(of.values, against.values, scale) if in_pairs else difference(of, against, scale)
    return Judged(
        pairing,
        of,
        against,
        found if found.n else None,
        reason=next(chain(_exceeded(cells, pairing), _reasons(sides, found, scale)), ""),
        remarks=tuple(_remarks(sides, found)),
    )


def _exceeded(cells: pd.DataFrame, pairing: Pairing) -> Iterator[str]:
    """Yield what is above the most that a contrast allows for a verdict."""
    for name, most in pairing.contrast.at_most.items():
        for index in filter(len, (pairing.of, pairing.against)):
            own = cells.loc[index]
            mean = pd.to_numeric(own[name]).mean()
            if mean > most:
                yield f"{name} is {mean:.2g} on average, above {most:g} ({own['method'].iloc[0]})"


def _reasons(sides: Sequence[Side], found: Difference, scale: DifferenceScale) -> Iterator[str]:
    """Yield why a comparison is not judged."""
    alone, metric = len(sides) == 1, sides[0].metric
    for one in sides:
        yield from (f"{reason} ({one.method})" for reason in withheld(one))
        none = int((one.values <= 0).sum())
        if scale == "log" and none:
            yield f"{metric} is not above 0 at {none} of {len(one.values)} seeds, which have no ratio ({one.method})"
    if all(one.has_failed for one in sides):
        yield f"every seed{'' if alone else ' of both sides'} failed ({', '.join(one.method for one in sides)})"
    if not found.n:
        yield f"no seed knows {metric}" if alone else f"the two sides share no seed that knows {metric}"


def _remarks(sides: Sequence[Side], found: Difference) -> Iterator[str]:
    metric = sides[0].metric
    if is_metered(metric):
        yield from (f"{one.failures} ({one.method}), which are left out" for one in sides if one.failures)
        return
    if not found.paired:
        yield "Welch's test: the two sides do not train on the same partitions"
    if found.is_constant:
        yield "the difference is the same at every seed, so that signs decide in place of a t test"
    for one in sides if is_accuracy(metric) else ():
        if one.failures:
            widening = "" if one.has_failed else " and widen the interval"
            yield f"{one.failures} ({one.method}), which count as chance{widening}"


def setting_text(setting: Mapping[str, Any]) -> str:
    """Return the setting of a comparison in words: {"alpha": 0.1} -> "alpha 0.1"; nothing for none."""
    texts = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in setting.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
