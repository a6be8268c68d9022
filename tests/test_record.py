"""The record: one typed object, every field described once; older ones become it, and none of their numbers changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from fedfore.cell import Protocol
from fedfore.errors import StoreError
from fedfore.records.metrics import FIELDS, METRICS
from fedfore.records.migration import CLASSES, SCHEMA_VERSION, migrated_plan, migrated_record
from fedfore.records.packed import CELLS
from fedfore.records.record import Moment, cell_of, completed, record_from_json, record_to_json
from fedfore.records.store import LiveRun, load_table, new_record, open_run, write_plan, write_record
from fedfore.tasks.datasets import DATASETS
from tests.synthetic import bare_record, cells, record

OLD = Path(__file__).parent / "records"
RECORDS = sorted(path.name for path in OLD.glob("*.json") if "plan" not in path.name)
NAMED_ANEW = {"test_accuracy", "test_accuracy_last5", "test_accuracy_span", "chance_accuracy"}
CELL = cells(("baffle",), alphas=(0.1,), seeds=(3,))[0]


def old(name: str) -> dict[str, Any]:
    stored: dict[str, Any] = json.loads((OLD / name).read_text(encoding="utf-8"))
    return stored


# What a field says


def test_every_field_has_a_type_and_a_meaning_and_every_metric_a_unit() -> None:
    assert list(FIELDS)[:2] == ["schema_version", "cell_id"]
    for name, row in FIELDS.items():
        assert row.name == name and row.type and row.description.endswith(".")
        assert (name in METRICS) == (row.type == "number or null")
        assert name not in METRICS or row.unit == METRICS[name].unit
    assert METRICS["test_loss"].name == "test_loss" and METRICS["test_loss"].unit == "nats"


def test_a_record_is_read_as_it_was_written() -> None:
    made = dataclasses.replace(record(CELL), test_loss=0.1 + 0.2, uplink_bytes=2**60, reason="é\n")
    assert record_from_json(json.loads(json.dumps(record_to_json(made))), CELL.id) == made
    assert cell_of(made) == CELL


def test_a_whole_number_stays_one() -> None:
    found = record_from_json({**record_to_json(record(CELL)), "churn": 1, "mask_moved": 1.0}, CELL.id)
    assert isinstance(found.churn, int) and isinstance(found.mask_moved, float)


def test_a_measured_field_that_no_record_has_is_an_error() -> None:
    origin = dataclasses.replace(_origin(), attempt=1)
    with pytest.raises(TypeError, match="test_acuracy"):
        new_record(CELL, origin, "ok", None, {"test_acuracy": 0.5}, Moment.now())


def _origin() -> Any:
    from fedfore.records.record import Origin

    return Origin("baseline", (), None, 2, None, "e", 1)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"schema_version": SCHEMA_VERSION + 1}, f"is of record schema 4, and this is schema {SCHEMA_VERSION}"),
        ({"schema_version": None}, "is of record schema None"),
        ({"cell_id": "baffle-0"}, "is of another cell (baffle-0)"),
        ({"status": "fine"}, "has no usable status"),
        ({"seed": True}, "has no usable seed"),
        ({"test_accuracy": "high", "churn": 10**400}, "has no usable test_accuracy, churn"),
        ({"test_accuracy": float("nan")}, "has no usable test_accuracy"),
        ({"test_acuracy": 0.5}, "has no usable test_acuracy"),
        ({"files": [1]}, "has no usable files"),
    ],
)
def test_what_is_no_record_is_a_phrase_that_names_the_field(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError) as caught:
        record_from_json({**record_to_json(record(CELL)), **change}, CELL.id)
    assert str(caught.value).startswith(words)


# Older records


@pytest.mark.parametrize("name", RECORDS)
def test_an_old_record_is_one_of_today_with_the_same_numbers(name: str) -> None:
    stored = old(name)
    found = record_to_json(record_from_json(stored, stored["cell_id"]))
    kept = stored.keys() - {"schema_version", "params", "estimator_uncertified", *NAMED_ANEW}
    assert {key: found[key] for key in kept} == {key: stored[key] for key in kept}
    assert found["schema_version"] == SCHEMA_VERSION and found.keys() == FIELDS.keys()
    assert sorted(map(str, found["params"].values())) == sorted(map(str, stored["params"].values()))
    assert found["test_accuracy_last5"] == stored["test_accuracy"] is not None, "the headline of old"
    assert found["test_accuracy"] is None and found["test_accuracy_span"] is None
    assert found["chance_accuracy"] == 1 / DATASETS[stored["dataset"]].num_classes


def test_chance_is_known_of_every_data_set_that_older_records_can_be_of() -> None:
    assert {name: DATASETS[name].num_classes for name in CLASSES} == CLASSES
    stored = old("schema-2.json")
    assert migrated_record({**stored, "dataset": "cifar100"})["chance_accuracy"] == 0.01
    assert migrated_record({**stored, "dataset": "of a plug-in"})["chance_accuracy"] is None


def test_a_record_that_names_no_scheme_was_hashed_by_bytes() -> None:
    schemes = {name: record_from_json(old(name), old(name)["cell_id"]).hash_scheme for name in RECORDS}
    assert schemes["schema-1-without-scheme.json"] == 1 and schemes["schema-1-scheme-2.json"] == 2


def test_the_judgement_of_a_single_cell_is_left_out() -> None:
    stored = old("schema-1-uncertified.json")
    assert stored["estimator_uncertified"] is True
    new = migrated_record(stored)
    assert "estimator_uncertified" not in new and new["fd_scalar_error"] == stored["fd_scalar_error"] > 0
    assert migrated_record(new) == new


def test_old_names_of_parameters_are_replaced() -> None:
    stored = old("schema-1-renamed.json")
    new = migrated_record(stored)["params"]
    assert "micro_batch" not in new and new["scoring_micro_batch"] == stored["params"]["micro_batch"]


def test_parameters_and_keys_that_came_later_are_those_of_the_planned_cell_or_what_the_record_stood_for() -> None:
    stored = old("schema-1-without-scheme.json")
    found = record_from_json(stored, stored["cell_id"])
    cell = dataclasses.replace(cell_of(found), params={**found.params, "precision": "float64", "later": 3})
    assert not {"precision", "later"} & found.params.keys() and "init" not in found.train
    full = completed(found, cell)
    assert full.params["precision"] == "float32" and full.params["later"] == 3
    assert full.train["init"] == Protocol().init


def test_an_old_plan_is_read_its_command_included(tmp_path: Path) -> None:
    plan = old("schema-1-plan.json")
    assert migrated_plan(plan)["commands"] == [plan["command"]] and "command" not in migrated_plan(plan)
    (tmp_path / "plan.json").write_text(json.dumps(plan))
    stored = old("schema-1-without-scheme.json")
    place = tmp_path / "cells" / stored["cell_id"] / "record.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(stored))
    run = LiveRun(tmp_path)
    assert run.commands() == [plan["command"]] and run.plugins() == {}
    table = load_table(run)
    assert list(table["status"]) == ["ok", "missing"] and table["test_accuracy_last5"][0] == stored["test_accuracy"]
    write_plan(tmp_path, run.plan(), "fedfore run again", extend=False)
    assert LiveRun(tmp_path).commands() == [plan["command"], "fedfore run again"]
    assert json.loads((tmp_path / "plan.json").read_text())["schema_version"] == SCHEMA_VERSION


@pytest.mark.parametrize("name", RECORDS)
def test_an_old_record_in_a_packed_study_is_one_of_today(tmp_path: Path, name: str) -> None:
    line = {key: value for key, value in old(name).items() if value is not None}
    (tmp_path / CELLS).write_text(json.dumps(line) + "\n")
    study = open_run(tmp_path)
    found = study.found(line["cell_id"])
    assert found is not None and found.schema_version == SCHEMA_VERSION > line["schema_version"]
    assert found.test_accuracy is None and found.test_accuracy_last5 == line["test_accuracy"]
    assert all(getattr(found, name) == line[name] for name in METRICS if name in line.keys() - NAMED_ANEW)
    assert study.stored(line["cell_id"]) == line


def test_a_record_that_says_no_more_than_it_must_is_one(tmp_path: Path) -> None:
    write_record(tmp_path, bare_record(CELL))
    assert LiveRun(tmp_path).found(CELL.id) == bare_record(CELL)
    path = tmp_path / "cells" / CELL.id / "record.json"
    path.write_text(path.read_text().replace('"ok"', '"fine"'))
    with pytest.raises(StoreError, match="has no usable status; move it away and run the matrix again"):
        LiveRun(tmp_path).found(CELL.id)
