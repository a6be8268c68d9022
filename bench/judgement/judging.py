"""From a run's records to the verdicts of its matrix' contrasts: pairs of seeds, what withholds a point, families."""

from __future__ import annotations

import math
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from fedfore.errors import ConfigError, StoreError
from fedfore.judgement.certificates import SIMULATING, WITHHELD, certificate, needs_certificate, scalar_errors
from fedfore.judgement.contrasts import Contrast, Pairing, contrasts, pairings, problem
from fedfore.judgement.estimates import Difference, Scale, paired, welch
from fedfore.judgement.selection import several
from fedfore.judgement.verdicts import Answer, Question, Verdict, answers
from fedfore.records.metrics import METRICS
from fedfore.records.packed import MATRIX
from fedfore.records.run import Run
from fedfore.records.table import load_table

FAILED = ("failed", "diverged", "timeout", "out_of_memory")
"""Endings that count against a method: as chance accuracy."""
WIDEST_SPAN = 0.1
"""The largest share of the budget that a headline may span while masks still move."""
_METERED = ("peak_device_bytes", "device_", "forward_macs", "perturbation_ops", "uplink_bytes", "downlink_bytes")
"""How the names of metrics begin that metering makes, without chance."""


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its cells, and the values of the contrast's metric by seed.

    A seed that failed has an accuracy of chance, and no value of another metric.
    """

    cells: pd.DataFrame
    values: pd.Series[float]

    @property
    def failed(self) -> int:
        """The number of seeds that failed."""
        return int(self.cells["status"].isin(FAILED).sum())

    @property
    def method(self) -> str:
        """The method of the cells, of several the first."""
        return str(self.cells["method"].iloc[0])


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

        Both ends are the value itself where there is no chance in it, and NaN where it is not known.
        """
        if self.difference is None:
            return math.nan, math.nan
        if is_metered(self.contrast.metric):
            return self.value, self.value
        low, high = self.difference.interval(self.level if level is None else level)
        return (math.exp(low), math.exp(high)) if self.contrast.compare == "ratio" else (low, high)

    @property
    def value(self) -> float:
        """The difference in the metric's unit, or the ratio; NaN where it is not known."""
        if self.difference is None:
            return math.nan
        mean = self.difference.mean
        return math.exp(mean) if self.contrast.compare == "ratio" else mean


def is_accuracy(metric: str) -> bool:
    """Return whether a metric is an accuracy, which a failed seed has by chance."""
    return "accuracy" in metric and METRICS[metric].direction == "higher"


def is_metered(metric: str) -> bool:
    """Return whether metering makes a metric, or all parts of a sum, so that it has no chance and needs no seeds."""
    return all(name.startswith(_METERED) for name in METRICS[metric].parts or (metric,))


def evidence(run: Run) -> pd.DataFrame:
    """Return a run's table with what judging needs beside: `study`, its folder's name, and `scalar_errors` by cell.

    Raises StoreError for a run that cannot be read.
    """
    cells = load_table(run)
    needing = cells[needs_certificate(cells)] if len(cells) else cells
    errors = {index: scalar_errors(run, cell_id) for index, cell_id in needing.get("cell_id", {}).items()}
    return cells.assign(study=run.path.name, scalar_errors=pd.Series(errors, cells.index, dtype=object))


def contrasts_of(run: Run) -> list[Contrast]:
    """Return the contrasts of a run's matrix, none where it has no matrix. Raises StoreError or ConfigError."""
    path = run.path / MATRIX
    try:
        return contrasts(tomllib.loads(path.read_text(encoding="utf-8-sig"))) if path.is_file() else []
    except OSError as error:
        raise StoreError(f"{path} cannot be read ({error.strerror}).") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid TOML: {error}.") from None


def judged_of(run: Run) -> list[Judged]:
    """Return every comparison that a run's matrix asks for, judged; a contrast whose cells it left out is not asked.

    Raises StoreError or ConfigError for a run or a matrix that cannot be read.
    """
    cells = evidence(run)
    return judged(cells, [one for one in contrasts_of(run) if not problem(cells, one)])


def judged(cells: pd.DataFrame, asked: Iterable[Contrast], tuned: Sequence[str] = ()) -> list[Judged]:
    """Return every comparison of these contrasts among an `evidence` table, judged within its family.

    Raises ConfigError for a contrast that the table cannot answer because it is misspelt.
    """
    found = [_compared(cells, one) for contrast in asked for one in pairings(cells, contrast, tuned)]
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
    of, against = (_side(cells.loc[index], contrast) for index in (pairing.of, pairing.against))
    scale: Scale = "log" if contrast.compare == "ratio" else "linear"
    share = _same_partition(of.cells, against.cells)
    difference = (paired if share else welch)(of.values, against.values, scale)
    reason = next(_withheld((of.cells, against.cells), contrast.metric), "")
    if not difference.n:
        reason = reason or f"the two sides share no seed that knows {contrast.metric}"
    remarks = tuple(_remarks(of, against, contrast.metric, share=share))
    return Judged(pairing, of, against, difference if difference.n else None, reason=reason, remarks=remarks)


def _remarks(of: Side, against: Side, metric: str, *, share: bool) -> Iterator[str]:
    if not share:
        yield "Welch's test: the two sides do not train on the same partitions"
    for side in (of, against) if is_accuracy(metric) else ():
        if side.failed:
            yield f"{side.failed} of {len(side.cells)} seeds of {side.method} count as chance"


def _side(rows: pd.DataFrame, contrast: Contrast) -> Side:
    """Return one side. Raises ConfigError for two cells of one seed."""
    values = pd.Series(pd.to_numeric(rows[contrast.metric]).to_numpy(dtype=float), rows["seed"].to_numpy())
    failed = rows["status"].isin(FAILED).to_numpy()
    if is_accuracy(contrast.metric):
        values = values.mask(failed, rows["chance_accuracy"].to_numpy(dtype=float))
    else:
        values = values.mask(failed)
    repeated = values.index[values.index.duplicated()]
    if len(repeated):
        differing = several(rows, rows[["seed"]])
        raise ConfigError(
            f'Contrast "{contrast.name}": cells of one side share seed {repeated[0]}; they differ in {differing}.'
        )
    return Side(rows, values if contrast.compare == "difference" else values.where(values > 0))


def _same_partition(of: pd.DataFrame, against: pd.DataFrame) -> bool:
    """Return whether both sides train on the same partition at every seed that they share, as far as that is known."""
    known = [rows.set_index("seed")["partition_sha256"].dropna() for rows in (of, against)]
    both = known[0].index.intersection(known[1].index)
    return bool((known[0][both] == known[1][both]).all())


def _withheld(sides: Sequence[pd.DataFrame], metric: str) -> Iterator[str]:
    """Yield why a comparison is not judged: cells without a result, no such number, no certificate, moving masks."""
    for rows in sides:
        lacking = int(rows["status"].isin(["missing", "skipped"]).sum())
        if lacking:
            yield f"{lacking} of {len(rows)} cells have no result ({_named(rows)})"
    for rows in sides:
        ok = rows[rows["status"] == "ok"]
        if len(ok) and ok[metric].isna().any():
            old = metric == "test_accuracy" and ok["test_accuracy_last5"].notna().any()
            yield "its records were made before there was a headline" if old else f"some records lack {metric}"
        if is_metered(metric):
            continue
        simulated = ok[ok["estimator"].isin(SIMULATING) & ok["scalar_errors"].notna()]
        if len(simulated):
            found = certificate(list(simulated["scalar_errors"]))
            if found in WITHHELD:
                yield f"its simulation is not certified ({_named(rows)}: {found})"
        if metric.startswith("test_accuracy"):
            wide = ok["test_accuracy_span"].gt(WIDEST_SPAN * (1 + 1e-9)) & ok["churn"].notna()
            if wide.any():
                yield f"masks move inside the headline's window ({_named(rows)})"
        if "choice_at_edge" in rows and rows["choice_at_edge"].eq(True).any():
            yield f"the tuned values lie at an edge of their grid ({_named(rows)})"


def _named(rows: pd.DataFrame) -> str:
    return str(np.unique(rows["method"].astype(str))[0])


def setting_text(setting: Mapping[str, Any]) -> str:
    """Return the setting of a comparison in words: {"alpha": 0.1} -> "alpha 0.1"; nothing for none."""
    texts = {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in setting.items()}
    return ", ".join(f"{name} {text}" for name, text in texts.items())
