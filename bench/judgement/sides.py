"""One side of a comparison: its cells, its values by seed, failures counted against it, and what withholds it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from fedfore.errors import ConfigError
from fedfore.judgement.certificates import SIMULATING, WITHHELD, certificate
from fedfore.judgement.estimates import (
    Difference,
    DifferenceScale,
    Estimate,
    estimate,
    paired,
    scale_of_fractions,
    welch,
)
from fedfore.judgement.selection import several
from fedfore.records.metrics import METRICS

FAILED = {
    "failed": "failed", "diverged": "diverged", "timeout": "ran out of time", "out_of_memory": "ran out of memory",
}  # fmt: skip
"""Endings that count against a method, as chance accuracy, in words."""
_NEEDED = (
    "method", "status", "seed", "control", "chance_accuracy", "partition_sha256", "estimator", "scalar_errors",
    "test_accuracy_last5", "test_accuracy_span", "headline_mask_changes", "choice_at_edge", "lacks_choice",
)  # fmt: skip
"""The columns that a side is judged by, beside those of its metric."""
WITHOUT_RESULT = ("missing", "skipped")
_WORST_CLIENTS = ("client_accuracy_min", "client_accuracy_p10")
WIDEST_SPAN = 0.1
"""The largest share of the budget that a headline may span while masks still move."""
_METERED = ("peak_device_bytes", "device_step_flops", "device_setup_flops", "forward_macs", "perturbation_ops",
            "uplink_bytes", "downlink_bytes", "train_flops_total", "setup_flops_total")  # fmt: skip
"""How the names of metrics begin that metering makes, without chance."""
_UNCERTIFIED: Mapping[str, str] = {
    "uncertified": "its simulation is not certified",
    "unknown": "how far its simulation is from a device is not known",
}


@dataclass(frozen=True)
class Side:
    """One side of a comparison: its cells, and the values of a metric by seed.

    A seed that failed has an accuracy of chance, and no value of another metric.
    """

    cells: pd.DataFrame
    metric: str
    values: pd.Series[float]

    @property
    def failures(self) -> str:
        """How many seeds ended in which failure: "2 of 3 seeds diverged"; nothing where none did."""
        ended = self.cells["status"]
        counts = {words: count for status, words in FAILED.items() if (count := int((ended == status).sum()))}
        of = f"{sum(counts.values())} of {len(ended)} seeds"
        if len(counts) > 1:
            return f"{of} failed ({', '.join(f'{count} {words}' for words, count in counts.items())})"
        return "".join(f"{of} {words}" for words in counts)

    @property
    def has_failed(self) -> bool:
        """Whether every seed failed."""
        return bool(self.cells["status"].isin(FAILED).all())

    @property
    def method(self) -> str:
        """The method of the cells, of several the first."""
        return str(np.unique(self.cells["method"].astype(str))[0])


def is_percent(metric: str) -> bool:
    """Return whether a metric is a fraction of which more is better, such as an accuracy: it is shown in percent."""
    return metric in METRICS and METRICS[metric].unit == "fraction" and METRICS[metric].direction == "higher"


def is_accuracy(metric: str) -> bool:
    """Return whether a metric is an accuracy, which a failed seed has by chance."""
    return "accuracy" in metric and is_percent(metric)


def is_metered(metric: str) -> bool:
    """Return whether metering makes a metric, or all parts of a sum, so that it has no chance and needs no seeds."""
    return all(name.startswith(_METERED) for name in METRICS[metric].parts or (metric,))


def chance_accuracies(cells: pd.DataFrame) -> pd.Series[float]:
    """Return the accuracy of chance of each row; a record that does not know it is told by another of its data set."""
    return cells["chance_accuracy"].fillna(cells.groupby("dataset")["chance_accuracy"].transform("first"))


def side(rows: pd.DataFrame, metric: str) -> Side:
    """Return the side of these rows of an `evidence` table. Raises ConfigError for two cells of one seed."""
    values = pd.Series(counted(rows, metric).to_numpy(), rows["seed"].to_numpy())
    repeated = values.index[values.index.duplicated()]
    if len(repeated):
        differing = several(rows, rows[["seed"]])
        raise ConfigError(f"cells of one side share seed {repeated[0]}; they differ in {differing}.")
    return Side(rows, metric, values)


def needed(cells: pd.DataFrame, metric: str, by: Sequence[str]) -> pd.DataFrame:
    """Return an `evidence` table with no more columns than sides need that agree in the columns `by`, and those.

    With all of its columns where a side has two cells of one seed, since it is refused with what they differ in.
    """
    names = {metric, *by, *_NEEDED}
    return cells if cells.duplicated([*by, "seed"]).any() else cells[[name for name in cells if name in names]]


def counted(rows: pd.DataFrame, metric: str) -> pd.Series[float]:
    """Return a metric of each row: of one that failed the accuracy of chance, and nothing of another metric.

    Of the worst clients, which chance may serve worse than by chance, it is none at all.
    """
    values, failed = pd.to_numeric(rows[metric]).astype(float), rows["status"].isin(FAILED)
    if not is_accuracy(metric):
        return values.mask(failed)
    return values.mask(failed, 0.0 if metric in _WORST_CLIENTS else rows["chance_accuracy"].astype(float))


def mean_of(rows: pd.DataFrame, metric: str) -> Estimate:
    """Return the mean of a metric over rows of an `evidence` table, as `counted`, with its interval.

    It is unknown where a failure counts as chance, and chance is not known.
    """
    return next(means_of(rows, metric, [np.arange(len(rows))]))


def means_of(rows: pd.DataFrame, metric: str, groups: Iterable[NDArray[np.intp]]) -> Iterator[Estimate]:
    """Yield `mean_of` of each of these groups of rows, which are given by their places."""
    values = counted(rows, metric).to_numpy()
    lacks_chance = is_accuracy(metric) & rows["status"].isin(FAILED).to_numpy() & np.isnan(values)
    for own in groups:
        known = values[own]
        yield estimate_of(metric, () if lacks_chance[own].any() else known[~np.isnan(known)])


def estimate_of(metric: str, values: ArrayLike) -> Estimate:
    """Return the mean of values of a metric with its 95% interval: of percentages near a limit on the logit scale."""
    return estimate(values, scale_of_fractions(values) if is_percent(metric) else "linear")


def difference(of: Side, against: Side, scale: DifferenceScale = "linear") -> Difference:
    """Return of minus against: paired where both train on the same partitions, as far as is known, else Welch's."""
    return (paired if same_partitions(of, against) else welch)(of.values, against.values, scale)


def same_partitions(of: Side, against: Side) -> bool:
    """Return whether both sides train on the same partition at every seed that they share, as far as that is known."""
    if of.values.index.equals(against.values.index):
        first, second = (one.cells["partition_sha256"].to_numpy(dtype=object) for one in (of, against))
        return bool(np.all((first == second) | pd.isna(first) | pd.isna(second)))
    known = [pd.Series(one.cells["partition_sha256"].array, one.values.index).dropna() for one in (of, against)]
    both = known[0].index.intersection(known[1].index)
    return bool((known[0][both] == known[1][both]).all())


def withheld(one: Side) -> Iterator[str]:
    """Yield why nothing is to be said of a side as a whole: no result, no such number, no certificate, moving masks."""
    rows, metric = one.cells, one.metric
    lacking = int(rows["status"].isin(WITHOUT_RESULT).sum())
    if lacking:
        yield f"{lacking} of {len(rows)} cells have no result"
    ok = rows[rows["status"] == "ok"]
    if len(ok) and ok[metric].isna().any():
        old = metric == "test_accuracy" and ok["test_accuracy_last5"].notna().any()
        yield "its records were made before there was a headline" if old else f"some records lack {metric}"
    if is_metered(metric):
        return
    failed = one.values[rows["status"].isin(FAILED).to_numpy()]
    if failed.isna().any():
        yield f"{one.failures}, and {metric} of a failure is not known"
    yield from _of_training(ok, metric)


def _of_training(ok: pd.DataFrame, metric: str) -> Iterator[str]:
    simulated = ok[ok["estimator"].isin(SIMULATING) & ok["scalar_errors"].notna()]
    if len(simulated):
        found = certificate(list(simulated["scalar_errors"]))
        if found in WITHHELD:
            yield _UNCERTIFIED[found]
    if metric.startswith("test_accuracy"):
        wide = ok["test_accuracy_span"].gt(WIDEST_SPAN * (1 + 1e-9)) & ok["headline_mask_changes"].gt(0)
        if wide.any():
            yield "masks move inside the headline's window"
    if "choice_at_edge" in ok and ok["choice_at_edge"].eq(True).any():
        yield "the tuned values lie at an edge of their grid"
    if "lacks_choice" in ok and ok["lacks_choice"].eq(True).any():
        yield "no tuned choice"
