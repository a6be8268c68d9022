"""Data sets of one's own without code: arrays and folders of images, known by content and described in the matrix."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from fedfore.cli.main import main
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError, DataError
from fedfore.execution.data_names import with_data, without_hashes
from fedfore.execution.matrix import resolve
from fedfore.execution.matrix_file import read_matrix
from fedfore.plots.fields import short_datasets
from fedfore.records.store import open_run
from fedfore.tasks.datasets import know, own_spec, spec
from fedfore.tasks.examples import Dataset
from fedfore.tasks.loading import load
from fedfore.tasks.own_arrays import described
from tests.conftest import run_in_this_process

MATRIX = """
[grid]
method = ["fedavg"]
dataset = ["{name}"]
model = ["lenet5"]
alpha = ["natural", "quantity:1"]

[train]
clients = 3
rounds = 1
ntk = false
min_client_examples = 5
"""


def arrays(**given: Any) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    return {
        "x_train": rng.integers(256, size=(60, 3, 32, 32), dtype=np.uint8),
        "y_train": np.arange(60, dtype=np.int32) % 4,
        "x_test": rng.integers(256, size=(20, 3, 32, 32), dtype=np.uint8),
        "y_test": np.arange(20) % 4,
        "client_train": np.arange(60) // 13,
        **given,
    }


def stored(folder: Path, **given: Any) -> Path:
    kept = {name: values for name, values in arrays(**given).items() if values is not None}
    np.savez(folder / "faces.npz", **kept)
    return folder


def loaded(name: str, folder: Path) -> Dataset:
    key, description = described(name, folder)
    know(own_spec(key, description))
    return load(key, folder)


def test_arrays_are_the_data_set_that_they_say(tmp_path: Path) -> None:
    data, given = loaded("npz:faces.npz", stored(tmp_path)), arrays()
    assert data.train.images.numpy().tobytes() == given["x_train"].tobytes() and len(data.test) == 20
    assert data.train.client is not None and data.train.client.tolist() == given["client_train"].tolist()
    assert (data.spec.num_classes, data.spec.class_counts, data.spec.num_owners) == (4, (15,) * 4, 5)
    x, y = data.train.batch(torch.arange(60))
    assert y.tolist() == given["y_train"].tolist()
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0] * 3, abs=1e-4)
    assert x.std((0, 2, 3)).tolist() == pytest.approx([1] * 3, abs=1e-3)


def test_floats_of_one_channel_and_any_size_are_normalised_by_their_training_images(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    grey = {part: rng.normal(7, 3, (n, 12, 20)).astype(np.float32) for part, n in (("x_train", 60), ("x_test", 20))}
    data = loaded("npz:faces.npz", stored(tmp_path, **grey, client_train=None, num_classes=np.array(6)))
    assert data.spec.input_shape == (1, 12, 20) and data.spec.num_classes == 6 and data.spec.num_owners == 0
    x, _ = data.train.batch(torch.arange(60))
    assert float(x.mean()) == pytest.approx(0, abs=1e-4) and float(x.std()) == pytest.approx(1, abs=1e-3)
    constant = {part: np.zeros_like(images) for part, images in grey.items()}
    flat = loaded("npz:faces.npz", stored(tmp_path, **constant))
    assert torch.equal(flat.train.batch([0])[0], torch.zeros(1, 1, 12, 20)), "no division by a deviation of 0"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"y_test": None}, "it has no y_test; give x_train, y_train, x_test, y_test and maybe client_train"),
        ({"labels": np.zeros(3)}, "it has an array labels, which means nothing here"),
        ({"x_train": np.zeros((60, 3, 32, 32))}, "x_train is float64 [60, 3, 32, 32]; give uint8"),
        ({"x_train": np.zeros((60, 99), np.uint8)}, "x_train is uint8 [60, 99]; give [N, C, H, W]"),
        ({"x_train": np.full((60, 3, 32, 32), np.nan, np.float32)}, "x_train holds NaN"),
        (
            {"x_test": np.zeros((20, 3, 32, 31), np.uint8)},
            "x_test is uint8 [20, 3, 32, 31] and x_train uint8 [60, 3",
        ),
        ({"y_train": np.zeros(59, int)}, "y_train is int64 [59]; give whole numbers [60], one an image"),
        ({"y_train": np.zeros(60)}, "y_train is float64 [60]; give whole numbers [60]"),
        ({"y_train": np.arange(60) - 1}, "its labels run from -1 to 58"),
        (
            {"num_classes": np.array(3)},
            "its labels run from 0 to 3; 3 classes, of which there are 2 at least, are 0",
        ),
        ({"y_train": np.arange(60) * 10**9}, "it has 59000000001 classes for 80 examples"),
        ({"num_classes": np.array(3.5)}, "num_classes is float64 []; give one whole number"),
        ({"client_train": np.arange(60) - 1}, "client_train names an owner -1; number owners from 0"),
        ({"client_train": np.zeros(3, int)}, "client_train is int64 [3]; give whole numbers [60]"),
    ],
)
def test_what_is_no_data_set_is_refused_in_a_sentence(given: Any, sentence: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=f'Data set "npz:faces.npz": {re.escape(sentence)}'):
        described("npz:faces.npz", stored(tmp_path, **given))


def test_what_cannot_be_read_and_paths_elsewhere_are_refused(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("no arrays")
    for name, sentence in (("npz:none.npz", "cannot be read"), ("npz:text.npz", "is no .npz file, as np.savez")):
        with pytest.raises(DataError, match=sentence):
            described(name, tmp_path)
    for name in (f"npz:{tmp_path}/faces.npz", "npz:../faces.npz", "npz:", "folder:"):
        with pytest.raises(ConfigError, match=r"give its path below the data folder, which --data-dir or FEDFORE_DATA"):
            described(name, tmp_path)
    with pytest.raises(ConfigError, match=r"give the side of its images as pixels from 1 to 1024"):
        described("folder:pets:0", tmp_path)


def test_another_content_is_another_data_set_and_is_never_trained_on_under_the_old_name(tmp_path: Path) -> None:
    first = loaded("npz:faces.npz", stored(tmp_path)).spec.name
    np.savez_compressed(tmp_path / "faces.npz", **arrays())
    assert described("npz:faces.npz", tmp_path)[0] == first, "the content, and not the file"
    others = ({"y_test": np.arange(20) % 3}, {"num_classes": np.array(5)}, {"client_train": None})
    assert len({first, *(described("npz:faces.npz", stored(tmp_path, **other))[0] for other in others)}) == 4
    with pytest.raises(DataError, match=r"is not the one that was asked for: its content is .* restore it"):
        load(first, tmp_path)
    with pytest.raises(ConfigError, match=r"is known by its matrix alone"):
        spec("npz:unknown.npz@0123456789ab")


def image_folder(root: Path, tested: str = "val") -> Path:
    rng = np.random.default_rng(0)
    for part, count in (("train", 3), (tested, 2)):
        for label in ("cat", "dog"):
            (root / "pets" / part / label).mkdir(parents=True)
            for number in range(count):
                pixels = rng.integers(256, size=(24, 40, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(root / "pets" / part / label / f"{number}.png")
    return root


def test_a_folder_of_images_is_read_at_the_stated_size(tmp_path: Path) -> None:
    data = loaded("folder:pets:24", image_folder(tmp_path))
    assert data.spec.input_shape == (3, 24, 24) and data.train.labels.tolist() == [0, 0, 0, 1, 1, 1]
    with Image.open(tmp_path / "pets/train/dog/0.png") as image:
        middle = np.asarray(image)[:, 8:32].transpose(2, 0, 1)
    assert np.array_equal(data.train.images[3].numpy(), middle)
    assert loaded("folder:pets", tmp_path).spec.input_shape == (3, 32, 32)
    (tmp_path / "pets/train/mouse").mkdir()
    with pytest.raises(DataError, match=r'"folder:pets" cannot be read from .*mouse'):
        described("folder:pets", tmp_path)


def test_stems_name_data_in_tables_and_hashes_where_two_have_one() -> None:
    names = ["npz:a/faces.npz@0123456789ab", "folder:pets:24@0123456789ab", "digits"]
    assert list(short_datasets(names).values()) == ["faces", "pets", "digits"]
    twice = short_datasets([*names, "npz:faces.npz@ba9876543210"])
    assert list(twice.values()) == ["faces 0123456789ab", "pets", "digits", "faces ba9876543210"]


@pytest.mark.thorough
def test_a_matrix_of_own_arrays_runs_and_can_be_planned_where_they_are_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_this_process(monkeypatch)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    stored(tmp_path / "data")
    path = tmp_path / "my.toml"
    path.write_text(MATRIX.format(name="npz:faces.npz"))
    assert main(["run", str(path), "--out", "run", "--data-dir", "data"]) == 0
    assert "faces" in capsys.readouterr().out
    plan = open_run(tmp_path / "run").plan()
    assert all(re.fullmatch(r"npz:faces.npz@[0-9a-f]{12}", cell.dataset) for cell in plan)
    assert all(record.status == "ok" for cell in plan if (record := open_run(tmp_path / "run").found(cell.id)))
    assert main(["partition", "run", plan[0].id, "--data-dir", "data", "--out", "owners.json"]) == 0

    (tmp_path / "data/faces.npz").unlink()
    methods = discover()
    document = read_matrix(tmp_path / "run/matrix.toml")
    assert [item.cell.id for item in resolve(document, methods)] == [cell.id for cell in plan]
    assert without_hashes(document) == tomllib.loads(path.read_text())
    assert str(tmp_path) not in (tmp_path / "run/matrix.toml").read_text()
    with pytest.raises(DataError, match="cannot be read"):
        read_matrix(path)
    clients = {**document, "train": {**document["train"], "clients": 6}}
    with pytest.raises(ConfigError, match=r'"natural" over 6 clients: .* knows 5 owners of its examples; lower'):
        resolve(clients, methods)


def test_own_arrays_are_checked_and_their_shape_has_costs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    stored(tmp_path)
    assert main(["check", "npz:faces.npz", "--data-dir", str(tmp_path)]) == 0
    assert {line.split()[0] for line in capsys.readouterr().out.splitlines()} == {"ok"}
    own = ["cost", "lenet5", "--batch", "4", "--dataset", "npz:faces.npz", "--data-dir", str(tmp_path), "--json"]
    assert main(own) == 0
    step = json.loads(capsys.readouterr().out)["device_step_flops"]
    assert main(["cost", "lenet5", "--batch", "4", "--dataset", "cifar10", "--json"]) == 0
    assert 0 < step < json.loads(capsys.readouterr().out)["device_step_flops"], "four classes in place of ten"


def test_a_description_that_is_none_is_refused() -> None:
    matrix = {"grid": {"method": ["fedavg"], "dataset": ["digits"], "model": ["lenet5"]}, "train": {"rounds": 1}}
    for data in ({"faces": {}}, {"npz:a.npz@0123456789ab": 3}, {"npz:a.npz@0123456789ab": {"sides": 3}}, 3):
        with pytest.raises(ConfigError, match=r"\[data\]|is no description of one"):
            resolve({**matrix, "data": data}, discover())
    assert with_data(matrix, Path("nowhere")) == matrix
