"""Which method fits into a device's memory: sizes as people write them, and the table of all methods."""

from __future__ import annotations

import io
import json
import resource
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from fedfore.cli.arguments import size
from fedfore.cli.main import main
from fedfore.contract.registry import discover
from fedfore.execution.cost import Point, cost_document, cost_records
from fedfore.plots.fitting_table import fitting_table

METHODS = ("fedavg", "baffle", "baffle_erk", "scaffold", "topk")
Found = tuple[list[dict[str, Any]], dict[str, str]]


def metered(model: str) -> Found:
    point = Point(methods=METHODS, dataset="digits", sparsity=0.8, batch=16)
    plugins = discover([Path(__file__).parent / "plugins"])
    return cost_records(cost_document(model, point, ["params.baffle.num_perturbations=20"]), plugins)


@pytest.fixture(scope="module")
def found() -> Found:
    return metered("lenet5")


@pytest.mark.thorough
def test_every_method_has_a_row_and_those_that_fit_stand_first(found: Found) -> None:
    records, reasons = found
    peaks = {record["method"]: record["peak_device_bytes"] for record in records}
    assert sorted(peaks) == sorted(METHODS) and reasons == {}
    text = fitting_table(records, reasons, peaks["baffle_erk"], "plain")
    lines = [line.split() for line in text.splitlines() if line.split()[:1] and line.split()[0] in METHODS]
    assert [line[0] for line in lines] == sorted(METHODS, key=lambda name: (peaks[name], name))
    assert [line[0] for line in lines if "yes" in line] == ["baffle", "baffle_erk"]
    assert all("needs" in line for line in lines[2:])
    assert {line[0]: line[1] for line in lines} == {name: "0.8" if name == "baffle_erk" else "0" for name in METHODS}


def test_a_table_of_costs_has_the_forms_of_other_tables(found: Found) -> None:
    records, reasons = found
    least = min(record["peak_device_bytes"] for record in records)
    rows = json.loads(fitting_table(records, reasons, least, "json"))
    table = pd.read_csv(io.StringIO(fitting_table(records, reasons, least, "csv")))
    assert [row["fits_memory"] for row in rows] == list(table["fits_memory"]) == [True] + [False] * 4
    by_method = {record["method"]: record for record in records}
    for row in rows:
        assert row["device_step_flops"] == by_method[row["method"]]["device_step_flops"]
    assert r"\toprule" in fitting_table(records, reasons, least, "latex")
    assert "needs" not in fitting_table(records, reasons, None, "markdown")
    assert "fits_memory" not in fitting_table(records, reasons, None, "csv")


def test_bytes_are_those_of_a_round_in_which_messages_and_states_are_full(found: Found) -> None:
    costs = {record["method"]: record for record in found[0]}
    whole = costs["fedavg"]["uplink_bytes_per_client_round"]
    assert whole >= 4 * costs["fedavg"]["num_parameters"]
    assert costs["scaffold"]["uplink_bytes_per_client_round"] > 1.5 * whole
    assert costs["scaffold"]["downlink_bytes_per_client_round"] > 1.5 * whole
    assert costs["topk"]["uplink_bytes_per_client_round"] < 0.05 * whole


def test_a_method_that_does_not_apply_is_named_with_its_reason() -> None:
    records, reasons = metered("lenet5:norm=batch")
    assert [record["method"] for record in records] == ["fedavg", "scaffold", "topk"]
    text = fitting_table(records, reasons, None, "plain")
    assert "- baffle: batch statistics change" in text and "- baffle_erk: batch statistics change" in text


@pytest.mark.parametrize(
    ("text", "count"),
    [("512KiB", 524_288), ("2 MiB", 2_097_152), ("1.5MB", 1_500_000), ("1gib", 2**30), ("300 B", 300), ("0.5kB", 500)],
)
def test_a_size_is_read_as_people_write_it(text: str, count: int) -> None:
    assert size(text) == count


@pytest.mark.parametrize("text", ["2", "MiB", "2 megs", "-1MiB", "nan MiB", "1e6B", "", "0B", "0.1B"])
def test_a_size_that_cannot_be_read_is_a_sentence(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["cost", "lenet5", "--all", f"--memory={text}"])
    said = "must be at least one byte, not" if text in ("0B", "0.1B") else "must be a number and a unit (B, KiB, "
    assert caught.value.code == 2 and f"argument --memory: {said}" in capsys.readouterr().err


def test_a_step_for_which_memory_lacks_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("fedfore.execution.executors.machine.available_memory", lambda: 2**20)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    assert main(["cost", "lenet5", "--dataset", "digits", "--batch", "20000"]) == 2
    assert "too little memory for a step of fedavg on lenet5 at batch 20000" in capsys.readouterr().err
    assert resource.getrlimit(resource.RLIMIT_DATA) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--memory", "2MiB"], "go with --all"),
        (["--latex"], "go with --all"),
        (["--all", "--run", "somewhere"], "name that by --method instead of --all"),
        (["--all", "--set", "params.baffle.sgima=1"], 'has no key "sgima"'),
    ],
)
def test_options_that_do_not_go_together_are_one_sentence(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["cost", "lenet5", "--dataset", "digits", *words]) == 2
    assert said in capsys.readouterr().err
