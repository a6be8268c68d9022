"""A cell on another machine, without one: what comes back of it, and where it is put."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError
from fedfore.execution.executors.choice import executor_of, ray_address
from fedfore.execution.executors.inline import Inline
from fedfore.execution.executors.remote_cell import run_in_parcel, run_in_shared_folder, unpacked
from fedfore.execution.job import Job
from fedfore.records import attempts
from fedfore.records.code_hash import HASH_SCHEME, code_sha256
from fedfore.records.record import Origin
from fedfore.records.run_folder import cell_dir, checkpoint_file, read_environments, read_record


def job_of(run: Path, **changes: object) -> Job:
    """Return a job of this run whose cell is metered only."""
    entry = discover(only="fedavg")["fedavg"]
    train = Protocol(clients=4, rounds=1, ntk=False, meter_only=True)
    cell = Cell("fedavg", "digits", "lenet5", train, params={**vars(entry.method.Config())} if entry.method else {})
    cell = replace(cell, id=cell_id(cell, {}))
    origin = Origin("baseline", (), code_sha256(entry.file), HASH_SCHEME, None, "the driver's", 1)
    job = Job(cell, attempts.attempts(run), origin, "cpu", None, (), checkpoint_file(run, cell.id))
    return replace(job, **changes)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedfore.execution.executors.remote_cell.Processes", lambda workers: Inline())


def test_what_comes_back_of_a_cell_is_settled_as_if_it_had_run_here(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    parcel = run_in_parcel(job, None)
    assert not list(tmp_path.iterdir()), "nothing is written here before it comes back"
    record = unpacked(job, parcel)
    assert record.status == "ok" and attempts.settle(tmp_path, job.aside, job.cell.id)
    assert read_record(tmp_path, job.cell.id) == record
    assert record.environment in read_environments(tmp_path), "the machine that ran it is known"


def test_what_failed_elsewhere_brings_its_traceback_and_its_checkpoint(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    job = replace(job, cell=replace(job.cell, model="no such model"))
    parcel = run_in_parcel(job, b"a state")
    assert parcel.checkpoint == b"a state" and set(parcel.files) == {attempts.TRACEBACK}
    assert unpacked(job, parcel).status == "failed"
    assert job.checkpoint.read_bytes() == b"a state"
    assert b"no such model" in (cell_dir(job.aside, job.cell.id) / attempts.TRACEBACK).read_bytes()


def test_what_comes_back_and_cannot_be_written_is_a_failed_cell(tmp_path: Path) -> None:
    parcel = run_in_parcel(job_of(tmp_path), None)
    (tmp_path / "run").write_text("no folder")
    record = unpacked(job_of(tmp_path / "run"), parcel)
    assert record.status == "failed" and "Cannot write" in (record.reason or "")


def test_every_attempt_in_a_shared_folder_has_a_place_of_its_own(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    (one, record), (other, _) = run_in_shared_folder(job), run_in_shared_folder(job)
    assert len({job.aside, one.aside, other.aside}) == 3
    for tried in (one, other):
        attempts.settle(tmp_path, tried.aside, job.cell.id)
    assert record.environment in read_environments(tmp_path)


def test_a_node_with_other_code_refuses(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    record = run_in_parcel(replace(job, origin=replace(job.origin, code_sha256="other")), None).record
    assert record.status == "failed" and "the code" in (record.reason or "")


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("auto", "auto"), ("ray://head:10001", "ray://head:10001"), ("10.0.0.1:6379", "10.0.0.1:6379"),
        ("[::1]:6379", "[::1]:6379"), ("processes", None), ("inline", None), ("head", None), ("http://head:1", None),
    ],
)  # fmt: skip
def test_an_executor_may_be_the_address_of_a_cluster(name: str, address: str | None) -> None:
    assert ray_address(name) == address


def test_ray_is_that_of_the_environment_or_one_on_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    assert ray_address("ray") == "local"
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert ray_address("ray") == "10.0.0.1:6379"


def test_where_ray_is_not_installed_a_sentence_names_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "ray", None)
    monkeypatch.delitem(__import__("sys").modules, "fedfore.execution.executors.ray_cluster", raising=False)
    with pytest.raises(ConfigError, match=r'pip install "fedfore\[ray\]"'):
        executor_of("ray", None)


def test_what_is_asked_of_ray_alone_is_refused_elsewhere() -> None:
    with pytest.raises(ConfigError, match="--shared goes with --executor ray"):
        executor_of("processes", None, shared=True)
    with pytest.raises(ConfigError, match="--gpus goes with --executor ray"):
        executor_of("inline", None, gpus=1.0)
    with pytest.raises(ConfigError, match='no executor "rai"'):
        executor_of("rai", None)
