"""Churn and moved weights, by hand and in cells whose adjustments undo each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch

from fedfore.api import Mask
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.baselines.feddst import FedDST
from fedfore.baselines.fedtiny import FedTiny
from fedfore.contract.registry import discover
from fedfore.execution.executors.inline import Inline
from fedfore.execution.matrix import resolve
from fedfore.execution.runner import RunOptions, run_plan
from fedfore.federation.loop import Federation
from fedfore.measure.mask_changes import MaskChange, MaskChanges
from fedfore.records.store import ADJUSTMENTS, LiveRun
from tests.conftest import TINY

Make = Callable[..., Federation]


def masks(*layers: dict[str, str]) -> list[Mask]:
    """Return masks of layers written as zeros and ones."""
    return [Mask({name: torch.tensor([bit == "1" for bit in bits]) for name, bits in mask.items()}) for mask in layers]


def changes_of(*layers: dict[str, str]) -> tuple[MaskChanges, Mask]:
    seen, found = MaskChanges(), masks(*layers)
    for round, (old, new) in enumerate(pairwise(found), 1):
        seen.see(round, old, new)
    return seen, found[-1]


def test_churn_is_the_share_of_pruned_weights_that_the_last_adjustment_grew() -> None:
    """The second adjustment prunes 1, an old weight, and 3, which just grew; the third prunes 4, which just grew."""
    seen, last = changes_of({"a": "110000"}, {"a": "011100"}, {"a": "001010"}, {"a": "001001"})
    assert seen.changes == [
        MaskChange(1, 1, 2, None),
        MaskChange(2, 2, 1, 0.5),
        MaskChange(3, 1, 1, 1.0),
    ]
    assert seen.churn == 0.75
    assert seen.moved(last) == 1.0


def test_every_layer_remembers_when_it_last_grew_itself() -> None:
    """The layers take turns: what is pruned of the first at its second turn is held against its first turn."""
    seen, last = changes_of(
        {"a": "1100", "b": "1100"},
        {"a": "1010", "b": "1100"},
        {"a": "1010", "b": "0110"},
        {"a": "1001", "b": "0110"},
        {"a": "1001", "b": "0011"},
    )
    assert [change.churn for change in seen.changes] == [None, None, 1.0, 0.0]
    assert seen.moved(last) == 0.75


def test_a_mask_that_only_shrinks_has_no_churn() -> None:
    seen, last = changes_of({"a": "1111"}, {"a": "1100"}, {"a": "1000"})
    assert (seen.churn, seen.moved(last)) == (None, 0.0)


def fields_of(made: Federation) -> tuple[float | None, float | None]:
    fields = made.run().fields()
    return fields["churn"], fields["mask_moved"]


@pytest.mark.parametrize(
    ("method", "rounds", "given"),
    [(FedDST, 7, {"local_steps": 1}), (FedTiny, 9, {"local_steps": 1, "blocks": 1, "candidates": 1})],
)
def test_adjustments_one_step_apart_undo_each_other(
    federation: Make, method: type[FedDST | FedTiny], rounds: int, given: dict[str, int]
) -> None:
    given = {**given, "adjust_every": 2, "adjust_until": 99}
    churn, moved = fields_of(federation(method, replace(TINY, rounds=rounds), sparsity=0.8, given=given))
    assert churn is not None and churn > 0.5
    assert moved is not None and 0.0 < moved < 0.5


def test_a_mask_that_does_not_move_has_no_churn(federation: Make) -> None:
    static, dense = federation(FedAvgERK, sparsity=0.8), federation(FedAvg)
    assert (fields_of(static), fields_of(dense)) == ((None, 0.0), (None, None))
    assert [made.fields()["headline_mask_changes"] for made in (static, dense)] == [0, None]


def test_an_adjustment_after_which_the_headline_begins_is_not_inside_it(federation: Make) -> None:
    given = {"local_steps": 1, "adjust_every": 2, "adjust_until": 99}
    changes = {}
    for rounds in (7, 8):
        made = federation(FedDST, replace(TINY, rounds=rounds), sparsity=0.8, given=given).run()
        changes[rounds] = [line["round"] for line in made.lines()[ADJUSTMENTS]], made.fields()["headline_mask_changes"]
    assert changes == {7: ([3, 5, 7], 2), 8: ([3, 5, 7], 2)}


def test_a_run_stores_one_line_an_adjustment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    grid = {"method": ["feddst"], "dataset": ["digits"], "model": ["lenet5:width=0.25"], "sparsity": [0.8]}
    given = {"adjust_every": 2, "adjust_until": 99, "local_steps": 1}
    train = {"clients": 2, "rounds": 6, "ntk": False}
    methods = discover(())
    planned = resolve({"grid": grid, "train": train, "params": {"feddst": given}}, methods)
    (record,) = run_plan(planned, methods, RunOptions(tmp_path, "", executor=Inline())).records
    lines = LiveRun(tmp_path).table_of_lines(record.cell_id, ADJUSTMENTS)
    assert list(lines["round"]) == [3, 5]
    assert record.headline_mask_changes == 2, "the headline is the mean over the models after rounds 2 to 6"
    assert (lines["pruned"] == lines["grown"]).all() and lines["churn"][1] == record.churn > 0
