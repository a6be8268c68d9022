"""Partition files: known by content, refused in a sentence, kept with the run, and the same cell again."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError, HistoryError
from fedfore.execution.matrix import resolve
from fedfore.execution.matrix_file import read_matrix
from fedfore.execution.partition_names import committed, kept_partition, pinned
from fedfore.records.merging import merge
from fedfore.records.partitions import partition_path, stored_partitions
from fedfore.records.publishing import unpack
from fedfore.records.record import is_volatile, record_to_json
from fedfore.records.store import open_run, pack
from fedfore.tasks.partition_file import from_clients, read_partition
from tests.conftest import run_in_this_process

MATRIX = """
[grid]
method = ["fedavg"]
dataset = ["digits"]
model = ["lenet5"]
alpha = {alpha}

[train]
clients = 3
rounds = 1
ntk = false
validation_fraction = 0.1
"""
DIGITS = 1437


def written(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


def shares(seed: int = 0, total: int = DIGITS, clients: int = 3) -> list[list[int]]:
    order = np.random.default_rng(seed).permutation(total)
    return [part.tolist() for part in np.array_split(order[: total - 100], clients)]


def stored(folder: Path, name: str = "split.json", **given: Any) -> Path:
    return written(folder / name, {"num_examples": DIGITS, "clients": shares(), **given})


def matrix(folder: Path, *alphas: Any) -> Path:
    return written(folder / "my.toml", MATRIX.replace("{alpha}", json.dumps(list(alphas))))


def planned(path: Path, overrides: Sequence[str] = ()) -> list[Cell]:
    methods = discover()
    return [item.cell for item in resolve(read_matrix(path, overrides, methods), methods)]


def test_a_file_is_known_by_its_content_whatever_it_is_written_as(tmp_path: Path) -> None:
    found = read_partition(stored(tmp_path))
    assert found.sizes == [446, 446, 445] and (found.owners == -1).sum() == 100
    shuffled = [one[::-1] for one in shares()]
    np.savez(tmp_path / "split.npz", client=found.owners.astype(np.int16))
    for same in (stored(tmp_path, "other.json", clients=shuffled, dataset="digits"), tmp_path / "split.npz"):
        assert np.array_equal(read_partition(same).owners, found.owners)
        assert read_partition(same).key.partition("@")[2] == found.key.partition("@")[2]
    again = read_partition(written(tmp_path / "again.json", found.text()))
    assert np.array_equal(again.owners, found.owners) and again.dataset is None
    others = (from_clients("split", clients, DIGITS) for clients in (shares(1), shares()[::-1], shares()[:2]))
    longer = from_clients("split", shares(), DIGITS + 1)
    assert len({found.key, longer.key, *(other.key for other in others)}) == 5


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (
            {"num_examples": 4, "clients": [[0, 1], [2, 4]]},
            "client 1 has the index 4, and 4 training examples are 0 to 3",
        ),
        ({"num_examples": 4, "clients": [[0, -1]]}, "client 0 has the index -1"),
        ({"num_examples": 4, "clients": [[0, 1], [2, 1]]}, "client 1 has the index 1, which client 0 has already"),
        ({"num_examples": 4, "clients": [[0], []]}, "client 1 has no example"),
        ({"num_examples": 4, "clients": [[0], [], [1]]}, "client 1 has no example"),
        ({"num_examples": 4, "clients": []}, "client 0 has no example"),
        ({"num_examples": 0, "clients": []}, '"num_examples" is 0'),
        ({"num_examples": 10**12, "clients": [[0]]}, "no whole number from 1 to 100,000,000"),
        ({"num_examples": 4, "clients": [[0.0]]}, '"clients" is no list of lists of whole numbers'),
        ({"num_examples": 4, "clients": [[True]]}, '"clients" is no list of lists of whole numbers'),
        ({"num_examples": 4, "clients": [[0]], "dataset": 3}, '"dataset" is 3'),
        ({"clients": [[0]]}, "it is no object of"),
        ({"num_examples": 4, "clients": [[0]], "labels": []}, "it is no object of"),
        ([[0]], "it is no object of"),
        ("[0", "is no JSON of UTF-8"),
    ],
)
def test_what_is_no_partition_is_refused_in_a_sentence(content: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=f"split.json.*{re.escape(sentence)}"):
        read_partition(written(tmp_path / "split.json", content))


@pytest.mark.parametrize(
    ("arrays", "sentence"),
    [
        ({"owner": np.arange(3)}, "it has the arrays owner, and not `client` alone"),
        ({"client": np.zeros((3, 1), int)}, "`client` is int64 [3, 1], and no vector"),
        ({"client": np.zeros(3)}, "`client` is float64 [3], and no vector"),
        ({"client": np.array([0, -2])}, "`client` runs from -2 to 0"),
        ({"client": np.array([0, 2**40])}, "clients are numbered from 0"),
        ({"client": np.array([0, 2, 2])}, "client 1 has no example"),
    ],
)
def test_arrays_that_are_no_partition_are_refused_too(arrays: Any, sentence: str, tmp_path: Path) -> None:
    np.savez(tmp_path / "split.npz", **arrays)
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        read_partition(tmp_path / "split.npz")


def test_other_files_in_the_place_of_arrays_are_refused_too(tmp_path: Path) -> None:
    np.save(tmp_path / "split.npy", np.arange(3))
    np.savez_compressed(tmp_path / "whole.npz", client=np.arange(5000) % 7)
    whole = (tmp_path / "whole.npz").read_bytes()
    odd = [
        (tmp_path / "split.npy").read_bytes(),
        b"",
        b"client",
        whole[: len(whole) // 2],
        whole[:99] + b"?" + whole[100:],
    ]
    for content in odd:
        (tmp_path / "split.npz").write_bytes(content)
        with pytest.raises(ConfigError, match=r"split.npz is no JSON of UTF-8 and no .npz file of numbers"):
            read_partition(tmp_path / "split.npz")


def test_a_cell_has_the_name_and_hash_of_its_file_so_that_another_content_is_another_cell(tmp_path: Path) -> None:
    path, key = matrix(tmp_path, "file:split.json"), read_partition(stored(tmp_path)).key
    (cell,) = planned(path)
    assert cell.alpha == f"file:{key}" and re.fullmatch(r"split@[0-9a-f]{12}", key)
    stored(tmp_path, clients=[one[::-1] for one in shares()])
    assert planned(path) == [cell]
    stored(tmp_path, clients=shares(1))
    assert planned(path)[0].id != cell.id


def test_a_file_is_looked_for_beside_the_matrix_and_then_where_the_command_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    path, here = matrix(tmp_path, "iid"), stored(tmp_path / "here", clients=shares(1))
    override = ['alpha=["file:split.json"]']
    assert planned(path, override)[0].alpha == f"file:{read_partition(here).key}"
    nearer = read_partition(stored(tmp_path)).key
    assert planned(path, override)[0].alpha == f"file:{nearer}" != f"file:{read_partition(here).key}"
    with pytest.raises(ConfigError, match=r'"file:none.json": there is no such file beside the matrix, nor here'):
        planned(path, ['alpha="file:none.json"'])


def test_filters_of_contrasts_and_of_tuning_name_the_same_file(tmp_path: Path) -> None:
    key = f"file:{read_partition(stored(tmp_path)).key}"
    document = {
        "grid": [{"alpha": ["iid", "file:split.json"]}],
        "contrast": [{"of": {"alpha": "file:split.json"}, "against": {"alpha": ["iid"]}}],
        "tune": {"at": {"alpha": "file:split.json"}},
    }
    found, files = pinned(document, lambda name: read_partition(tmp_path / name))
    assert found["grid"] == [{"alpha": ["iid", key]}] and found["tune"]["at"]["alpha"] == key
    assert found["contrast"] == [{"of": {"alpha": key}, "against": {"alpha": ["iid"]}}]
    assert list(files) == [key.removeprefix("file:")]


@pytest.mark.parametrize(
    ("given", "overrides", "sentence"),
    [
        ({}, ("train.clients=4",), '"split" has 3 clients, and train.clients = 4; set it to 3'),
        (
            {},
            ("train.min_client_examples=446", "train.validation_fraction=0.0"),
            "gives client 2 445 examples, below min_client_examples = 446",
        ),
        ({"dataset": "mnist"}, (), '"split" is of mnist, and the data set is digits'),
        ({"num_examples": DIGITS + 1}, (), "is of 1438 training examples, and digits has 1437; take one of digits"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_before_the_first_cell(
    given: Any, overrides: Sequence[str], sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stored(tmp_path, **given)
    path = matrix(tmp_path, "file:split.json")
    assert main(["plan", str(path), *(word for one in overrides for word in ("--set", one))]) == 2
    assert sentence in capsys.readouterr().err


@pytest.mark.thorough
def test_a_written_partition_gives_the_cell_again_wherever_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    path, first, second = Path(matrix(tmp_path, "0.5,quantity:1").name), Path("first"), Path("second")
    assert main(["run", str(path), "--out", str(first)]) == 0
    (cell,) = open_run(first).plan()
    assert main(["partition", str(first), cell.id, "--out", "mine.json"]) == 0
    assert "mine.json: 3 clients, 1293 of 1437 examples of digits" in capsys.readouterr().out
    assert main(["run", str(path), "--set", 'alpha=["file:mine.json"]', "--out", str(second)]) == 0
    (again,) = open_run(second).plan()
    one, other = (open_run(run).found(name) for run, name in ((first, cell.id), (second, again.id)))
    assert one and other and one.partition_sha256 == other.partition_sha256 and one.test_loss == other.test_loss
    mine, theirs = (record_to_json(record) for record in (one, other))
    differing = {name for name in mine if mine[name] != theirs[name] and not is_volatile(name)}
    assert differing == {"cell_id", "alpha"}
    key = again.alpha.removeprefix("file:")
    kept = stored_partitions(second)
    assert list(kept) == [f"{key}.partition.json"]

    Path("mine.json").unlink()
    assert main(["run", str(second / "matrix.toml"), "--out", str(second)]) == 0, "its own matrix names what it keeps"
    pack(open_run(second), Path("study"), (second / "matrix.toml").read_text())
    assert stored_partitions(Path("study")) == kept
    assert [one.alpha for one in planned(Path("study/matrix.toml"))] == [again.alpha]
    unpack(open_run(Path("study")), tmp_path / "on")
    merge([second], tmp_path / "merged")
    assert stored_partitions(tmp_path / "on") == stored_partitions(tmp_path / "merged") == kept
    assert main(["partition", "study", again.id, "--out", "mine.json"]) == 0
    assert read_partition(Path("mine.json")).key == key
    assert main(["show", "study", "--by", "alpha"]) == 0
    assert "file mine" in capsys.readouterr().out
    assert str(tmp_path) not in "".join(file.read_text() for file in Path("study").iterdir() if file.is_file())


def test_a_published_matrix_is_that_of_its_commit_where_this_has_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = {"asked/split.json": stored(tmp_path).read_bytes()}
    monkeypatch.setattr("fedfore.execution.partition_names.file_at", lambda checkout, commit, place: tree.get(place))
    find = committed(tmp_path, "0123456789abcdef", "asked/more/my.toml")
    for path in ("../split.json", "asked/split.json"):
        found, _ = pinned({"grid": {"alpha": ["iid", f"file:{path}"]}}, find)
        assert found["grid"]["alpha"] == ["iid", f"file:{read_partition(tmp_path / 'split.json').key}"]
    with pytest.raises(HistoryError, match=r"Commit 0123456789ab has no partition file other.json; it is committed"):
        pinned({"grid": {"alpha": "file:other.json"}}, find)


def test_what_is_kept_must_be_what_its_name_says(tmp_path: Path) -> None:
    found = from_clients("split", shares(), DIGITS)
    kept = partition_path(tmp_path, found.key)
    written(kept, found.text())
    assert np.array_equal(kept_partition(kept, found.key).owners, found.owners)
    written(kept, from_clients("split", shares(1), DIGITS).text())
    with pytest.raises(ConfigError, match=r"is not what its name says, but split@"):
        planned(matrix(tmp_path, f"file:{found.key}"))
    kept.unlink()
    assert [cell.alpha for cell in planned(matrix(tmp_path, f"file:{found.key}"))] == [f"file:{found.key}"]
    with pytest.raises(ConfigError, match=r"partition.json cannot be read"):
        kept_partition(kept, found.key)
