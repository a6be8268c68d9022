"""Numbers of published pages, computed again from cells.jsonl by NumPy and SciPy alone.

Nothing of the suite is imported: pages are written, and verified, by code that may err.
"""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

ROOT = Path(__file__).resolve().parents[1]
RESULTS = ROOT / "results"
Record = dict[str, Any]


def by_seed(study: str, metric: str, wanted: Callable[[Record], bool]) -> dict[int, float]:
    """Return a metric of the records that are wanted, in percent, by their seed."""
    lines = (RESULTS / study / "cells.jsonl").read_text(encoding="utf-8").splitlines()
    records = [record for record in map(json.loads, lines) if wanted(record)]
    values = {record["seed"]: 100 * record[metric] for record in records}
    assert len(values) == len(records), "one record a seed"
    return values


def interval(values: list[float]) -> tuple[float, float]:
    """Return the mean and the half-width of the 95% Student-t interval."""
    mean = float(np.mean(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=mean, scale=stats.sem(values))
    return mean, float(high - low) / 2


def printed(page: Path, table: str, row: str, column: str) -> str:
    """Return what stands in a table of a page, in the first row that begins with a text."""
    text = page.read_text(encoding="utf-8")
    lines = text.split(f"<!-- table: {table} -->\n")[1].split("<!-- end of table -->")[0].splitlines()
    head, _, *body = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    return next(cells[head.index(column)] for cells in body if cells[0] == row)


def tuned(method: str, **params: Any) -> Callable[[Record], bool]:
    """Return what tells the records of a series of lenet5-masks at K = 50, iid."""
    params = {"num_perturbations": 50, **params}
    return lambda record: (
        (record["method"], record["model"], record["alpha"], record["estimator"]) == (method, "lenet5", "iid", "moment")
        and all(record["params"].get(name) == value for name, value in params.items())
    )


def pruned(method: str, model: str = "resnet14") -> Callable[[Record], bool]:
    """Return what tells the records of a series of fedpruning-hour at density 0.1."""
    return lambda record: (record["method"], record["model"], record["sparsity_asked"]) == (method, model, 0.9)


NTK = tuned("fed_ntk_zo", saliency="ntk", shuffle=False, mask_perturbations_only=False, init_scale=1.0)
RANDOM = tuned("fed_ntk_zo", saliency="random", init_scale=1.4)
DENSE = tuned("baffle", init_scale=0.5)


@pytest.mark.parametrize(
    ("study", "table", "row", "column", "metric", "series"),
    [
        ("lenet5-masks", "tuned", "random (uniform)", "accuracy", "test_accuracy", RANDOM),
        ("lenet5-masks", "tuned", "dense", "accuracy", "test_accuracy", DENSE),
        (
            "fedpruning-hour",
            "density-0.1",
            "FedTiny, batch norm",
            "last round",
            "final_test_accuracy",
            pruned("fedtiny"),
        ),
    ],
)
def test_a_mean_over_seeds_and_its_interval_are_those_of_the_records(
    study: str, table: str, row: str, column: str, metric: str, series: Callable[[Record], bool]
) -> None:
    values = by_seed(study, metric, series)
    mean, half = interval(list(values.values()))
    assert len(values) >= 3
    assert printed(RESULTS / study / "README.md", table, row, column) == f"{mean:.1f} ± {half:.1f}"


@pytest.mark.parametrize(
    ("study", "table", "row", "column", "one", "other"),
    [
        ("lenet5-masks", "tuned", "random (uniform)", "minus NTK (points)", RANDOM, NTK),
        (
            "fedpruning-hour",
            "density-0.1",
            "FedMef, no norm, NSConv",
            "minus static ERK",
            pruned("fedmef", "resnet14:norm=none"),
            pruned("fedavg_erk"),
        ),
    ],
)
def test_a_difference_paired_by_seed_and_its_interval_are_those_of_the_records(
    study: str, table: str, row: str, column: str, one: Callable[[Record], bool], other: Callable[[Record], bool]
) -> None:
    first, second = (by_seed(study, "test_accuracy", side) for side in (one, other))
    assert first.keys() == second.keys()
    mean, half = interval([first[seed] - second[seed] for seed in first])
    assert printed(RESULTS / study / "README.md", table, row, column) == f"{mean:+.1f} ± {half:.1f}"
