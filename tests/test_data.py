"""Data sets: shapes and constants as described, exact pixels, seeded splits and augmentation, errors that help."""

from __future__ import annotations

import hashlib
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.error import URLError

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedfore.api import Method
from fedfore.cell import Protocol
from fedfore.cli.main import main
from fedfore.errors import ConfigError, DataError
from fedfore.federation.assembly import federation_of
from fedfore.tasks.augmentation import augment
from fedfore.tasks.dataset_spec import DatasetSpec
from fedfore.tasks.datasets import DATASETS, spec
from fedfore.tasks.download import download
from fedfore.tasks.examples import Dataset, Examples
from fedfore.tasks.files import data_root, ensure_present
from fedfore.tasks.loading import load
from fedfore.tasks.readers import DIGITS, enlarge, read_cifar, read_mnist
from fedfore.tasks.torchvision_compat import datasets, models
from fedfore.tasks.validation import class_counts_left
from fedfore.tasks.validation import split_validation as split
from tests.conftest import make_cell


def examples(labels: list[int], channels: int = 3) -> Examples:
    images = torch.randint(256, (len(labels), channels, 32, 32), generator=torch.Generator().manual_seed(0))
    half = torch.full((channels,), 0.5)
    return Examples(images.to(torch.uint8), torch.tensor(labels), half, half / 2)


def stored(name: str) -> Dataset:
    try:
        return load(name)
    except DataError:
        pytest.skip(f"{name} is not in {data_root()}: run `fedfore data get {name}`")


def test_torchvision_imports_without_compiled_operators():
    assert datasets.CIFAR10.base_folder == "cifar-10-batches-py"
    state = torch.get_rng_state()
    with torch.random.fork_rng(devices=[]):
        assert models.squeezenet1_1(num_classes=3)(torch.zeros(1, 3, 64, 64)).shape == (1, 3)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("name", DATASETS)
def test_data_are_as_described(name):
    dataset = stored(name)
    described = spec(name)
    assert dataset.spec is described
    for part, size in ((dataset.train, described.num_train), (dataset.test, described.num_test)):
        assert len(part) == size
        assert part.images.shape == (size, *described.input_shape)
        assert part.images.is_contiguous()
        assert part.images.dtype == torch.uint8
        assert part.labels.dtype == torch.int64
        assert part.labels.unique().tolist() == list(range(described.num_classes))
    if described.class_counts is not None:
        assert np.bincount(dataset.train.labels).tolist() == list(described.class_counts)
    planes = dataset.train.images.transpose(0, 1).flatten(1).numpy()
    assert planes.mean(1, dtype=float) / 255 == pytest.approx(described.mean, abs=6e-5)
    assert planes.std(1, dtype=float) / 255 == pytest.approx(described.std, abs=6e-5)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_what_its_file_says(name):
    """Rows of 3,072 bytes: the red plane, then green, then blue, each row by row (Krizhevsky's description)."""
    stored_file = data_root() / next(file for file in spec(name).files if "test" in file)
    if not stored_file.exists():
        pytest.skip(f"{name} is not in {data_root()}: run `fedfore data get {name}`")
    content = pickle.loads(stored_file.read_bytes(), encoding="latin1")
    images, labels = spec(name).read(data_root())[1]
    assert torch.equal(images.flatten(1), torch.from_numpy(content["data"]))
    assert labels.tolist() == content["labels" if name == "cifar10" else "fine_labels"]


def pixels(*shape: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(256, size=shape, dtype=np.uint8)


@pytest.mark.parametrize("name", ["cifar10", "cifar100"])
def test_cifar_is_read_as_torchvision_reads_it(name, tmp_path, monkeypatch):
    """torchvision hashes every file twice, has each decoded as text, and turns all images twice."""
    kind = getattr(datasets, spec(name).torchvision_class)
    monkeypatch.setattr(kind, "_check_integrity", lambda self: True)
    monkeypatch.setattr(kind, "_load_meta", lambda self: None)
    (tmp_path / kind.base_folder).mkdir()
    for seed, (file, _) in enumerate([*kind.train_list, *kind.test_list]):
        labels = "labels" if name == "cifar10" else "fine_labels"
        content = pickle.dumps({"data": pixels(6, 3072, seed=seed), labels: [seed] * 6, "coarse_labels": [9] * 6}, 2)
        for key in (b"data", labels.encode()):  # Python 2 wrote byte strings
            content = content.replace(b"X" + len(key).to_bytes(4, "little") + key, b"U" + bytes([len(key)]) + key)
        (tmp_path / kind.base_folder / file).write_bytes(content)
    for (images, labels), train in zip(spec(name).read(tmp_path), (True, False), strict=True):
        theirs = kind(tmp_path, train=train)
        assert images.is_contiguous() and labels.dtype == torch.int64
        assert np.array_equal(images.permute(0, 2, 3, 1), theirs.data) and labels.tolist() == theirs.targets


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_mnist_is_read_as_torchvision_reads_it(name, tmp_path):
    for seed, file in enumerate(spec(name).files):
        is_images = "idx3" in file
        sizes = (5, 28, 28) if is_images else (5,)
        header = np.array([0x803 if is_images else 0x801, *sizes], dtype=">i4").tobytes()
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).write_bytes(header + (pixels(*sizes, seed=seed) // (1 if is_images else 26)).tobytes())
    for (images, labels), train in zip(spec(name).read(tmp_path), (True, False), strict=True):
        theirs = getattr(datasets, spec(name).torchvision_class)(tmp_path, train=train)
        assert torch.equal(images, enlarge(theirs.data)) and torch.equal(labels, theirs.targets.long())


def test_digits_are_pinned():
    digits = load("digits")
    values = (v.numpy().tobytes() for part in (digits.train, digits.test) for v in (part.images, part.labels))
    assert hashlib.sha256(b"".join(values)).hexdigest()[:16] == "48c4f1a69356b141"


def test_digits_split_is_stratified_and_complete():
    digits = load("digits")
    rows = np.loadtxt(DIGITS, delimiter=",", dtype=np.int64)
    totals = np.bincount(rows[:, -1])
    assert np.bincount(digits.test.labels) == pytest.approx(totals / 5, abs=1)
    assert (np.bincount(digits.train.labels) + np.bincount(digits.test.labels)).tolist() == totals.tolist()
    every = torch.cat([digits.train.images, digits.test.images]).flatten(1)
    originals = enlarge(torch.from_numpy(rows[:, :-1].reshape(-1, 8, 8)) * (255 / 16)).flatten(1)
    assert sorted(every.tolist()) == sorted(originals.tolist())


def test_the_digits_that_ship_are_scikit_learns():
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    rows = np.loadtxt(DIGITS, delimiter=",", dtype=np.int64)
    assert np.array_equal(rows[:, :-1], bunch.data) and np.array_equal(rows[:, -1], bunch.target)


def test_enlarging_by_hand():
    """8 -> 32 pixels: output column i lies at (2i - 3) / 8 of the input, and is clamped at the borders."""
    image = torch.zeros(1, 8, 8)
    image[..., 1] = 240.0
    row = enlarge(image)[0, 0, 16].tolist()
    assert row[:12] == [0, 0, 30, 90, 150, 210, 210, 150, 90, 30, 0, 0]


def test_enlarging_agrees_with_pillow():
    from PIL import Image

    images = torch.randint(256, (20, 28, 28), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    theirs = [np.asarray(Image.fromarray(i.numpy()).resize((32, 32), Image.Resampling.BILINEAR)) for i in images]
    assert np.abs(enlarge(images)[:, 0].numpy() - np.stack(theirs).astype(int)).max() <= 1


def test_enlarging_does_not_depend_on_chunks():
    images = torch.randint(256, (4099, 8, 8), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    whole = enlarge(images)
    assert torch.equal(whole[4090:], enlarge(images[4090:]))


def test_batches_are_normalised_floats():
    some = examples([3, 1, 2])
    x, y = some.batch(np.array([2, 0]))
    assert y.tolist() == [2, 3]
    assert x.dtype == torch.float32
    torch.testing.assert_close(x, (some.images[[2, 0]] / 255 - 0.5) / 0.25)
    assert torch.equal(some.batch(torch.tensor([2, 0]))[0], x)
    assert some.batch(np.array([], dtype=int))[0].shape == (0, 3, 32, 32)


def test_unit_scaled_batches_are_grey_levels_from_0_to_1():
    whole = load("digits")
    unit, same = whole.scaled("unit"), whole.scaled("standardised")
    for one, part, plain in ((unit.train, whole.train, same.train), (unit.test, whole.test, same.test)):
        x, y = one.batch(torch.arange(40))
        torch.testing.assert_close(x, part.images[:40] / 255, rtol=0, atol=1e-7)
        assert torch.equal(y, part.labels[:40]) and x.min() == 0 and x.max() == 1
        assert torch.equal(plain.batch(torch.arange(40))[0], part.batch(torch.arange(40))[0])


def test_each_channel_has_its_own_constants():
    some = examples([0])
    some = Examples(some.images, some.labels, torch.tensor([0.1, 0.2, 0.3]), torch.tensor([1.0, 2.0, 4.0]))
    x, _ = some.batch([0])
    for channel, (mean, std) in enumerate([(0.1, 1), (0.2, 2), (0.3, 4)]):
        torch.testing.assert_close(x[0, channel], (some.images[0, channel] / 255 - mean) / std)


def test_subsets_are_copies_in_the_given_order():
    some = examples([5, 6, 7])
    part = some.subset(np.array([2, 0]))
    assert part.labels.tolist() == [7, 5]
    part.images.zero_()
    assert some.images[2].any()
    assert part.to("cpu").images.dtype == torch.uint8


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.1, 0.37, 0.5, 0.9])
def test_validation_split_is_stratified_and_exact(fraction):
    labels = np.random.default_rng(0).choice(4, 203, p=[0.6, 0.3, 0.08, 0.02])
    some = examples(labels.tolist(), channels=1)
    train, validation = split(some, fraction, np.random.default_rng(0))
    assert len(validation) == round(fraction * 203)
    assert len(train) + len(validation) == 203
    assert (train is some) == (fraction == 0)
    taken = np.bincount(validation.labels, minlength=4)
    assert (np.abs(taken - fraction * np.bincount(labels)) < 1.2).all()
    together = torch.cat([train.images, validation.images]).flatten(1).tolist()
    assert sorted(together) == sorted(some.images.flatten(1).tolist())


@pytest.mark.parametrize("fraction", [0.0, 0.01, 0.3, 0.95])
def test_what_a_split_leaves_of_each_class_is_known_beforehand(fraction):
    train = load("digits").train
    left = split(train, fraction, np.random.default_rng(3))[0]
    assert class_counts_left(spec("digits").class_counts, fraction) == np.bincount(left.labels).tolist()


def test_validation_split_follows_its_generator():
    some = load("digits").train
    before = np.random.get_state()[1].tolist()  # noqa: NPY002 - the global state is what must not move
    first, again, other = (split(some, 0.2, np.random.default_rng(seed))[1].images for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert np.random.get_state()[1].tolist() == before  # noqa: NPY002


@pytest.mark.parametrize("fraction", [-0.1, 1.0, 1.5, float("nan"), 0.99])
def test_impossible_validation_fractions_are_refused(fraction):
    with pytest.raises(ConfigError, match=r"validation_fraction = .* leaves nothing of 4 examples"):
        split(examples([0, 1, 0, 1]), fraction, np.random.default_rng(0))


def test_augmentation_is_pad_crop_flip():
    """Each image is one of the 9 x 9 x 2 crops of its reflect-padded, maybe mirrored self, and all of them occur."""
    image = torch.randn(1, 3, 16, 12, generator=torch.Generator().manual_seed(0))
    out = augment(image.expand(4000, -1, -1, -1), torch.Generator().manual_seed(1))
    padded = functional.pad(image, (4, 4, 4, 4), mode="reflect")[0]
    crops = [padded[:, top : top + 16, left : left + 12] for top in range(9) for left in range(9)]
    straight = {crop.numpy().tobytes() for crop in crops}
    mirrored = {crop.flip(2).numpy().tobytes() for crop in crops}
    found = [crop.numpy().tobytes() for crop in out]
    assert len(straight | mirrored) == 162
    assert set(found) == straight | mirrored
    assert sum(crop in mirrored for crop in found) / 4000 == pytest.approx(0.5, abs=0.04)
    assert out.is_contiguous(memory_format=torch.channels_last)


def test_augmentation_follows_its_generator():
    state = torch.get_rng_state()
    x = examples([0] * 8).batch(np.arange(8))[0]
    kept = x.clone()
    first, again, other = (augment(x, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(x, kept)
    assert torch.equal(torch.get_rng_state(), state)


def test_owners_go_with_their_examples_through_every_copy():
    owned = replace(examples([0, 1, 2, 3]), client=torch.tensor([7, 7, 5, 9]))
    assert owned.subset([2, 0]).client.tolist() == [5, 7]
    assert owned.scaled("unit").to("cpu").client.tolist() == [7, 7, 5, 9]
    assert [part.client.tolist() for part in split(owned, 0.25, np.random.default_rng(0))][1][0] in (5, 7, 9)
    assert list(examples([0, 1]).to("cpu").tensors) == ["images", "labels", "mean", "std"]


def test_floats_are_scaled_as_they_are_and_bytes_by_their_full_range():
    grey = examples([0, 1, 2])
    floats = replace(grey, images=grey.images.float() / 255)
    for one, other in ((grey, floats), (grey.scaled("unit"), floats.scaled("unit"))):
        assert torch.allclose(one.batch([1, 2])[0], other.batch([1, 2])[0], atol=1e-6)
    assert torch.equal(floats.scaled("unit").batch([1])[0], floats.images[1:2])


def test_unknown_names_get_a_suggestion():
    with pytest.raises(ConfigError, match=r'Unknown data set "cifar_10"\. Did you mean "cifar10"\?'):
        spec("cifar_10")
    with pytest.raises(ConfigError, match="Did you mean"):
        load("fashionmnist")


def test_data_root_order(monkeypatch, tmp_path):
    monkeypatch.setenv("FEDFORE_DATA", "~/somewhere")
    assert data_root(tmp_path) == tmp_path
    assert data_root() == Path.home() / "somewhere"
    monkeypatch.delenv("FEDFORE_DATA")
    assert data_root() == Path.home() / ".cache" / "fedfore" / "data"


def random_part(size: int) -> tuple[torch.Tensor, torch.Tensor]:
    images = torch.randint(256, (size, 1, 32, 32), generator=torch.Generator().manual_seed(size))
    return images.to(torch.uint8), torch.arange(size) % 5


def mine(read) -> DatasetSpec:
    """Return an entry of 60 and 20 images of 5 classes, with this reader."""
    return DatasetSpec("mine", "A set of my own.", (1, 32, 32), 5, 60, 20, (0.5,), (0.25,), read=read)


def test_an_own_data_set_is_one_entry_with_a_reader(monkeypatch, tmp_path):
    torch.save((random_part(60), random_part(20)), tmp_path / "mine.pt")
    monkeypatch.setitem(DATASETS, "mine", mine(lambda root: torch.load(root / "mine.pt")))
    loaded = load("mine", tmp_path)
    cell = make_cell(Method, dataset="mine", train=Protocol(clients=2, rounds=1), given={"local_epochs": 2})
    federation = federation_of(cell, Method, loaded, torch.device("cpu"))
    assert torch.equal(federation.world.train_set.images, random_part(60)[0])
    assert federation.run().fields()["data_passes"] == 2
    download("mine", tmp_path)
    with pytest.raises(DataError, match=r'"mine" cannot be read from .*mine.pt'):
        load("mine", tmp_path / "elsewhere")


def test_an_entry_without_a_reader_is_one_sentence(monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(DATASETS, "mine", mine(None))
    overrides = ["dataset=mine", "train.clients=2", "alpha=iid"]
    asked = ["run", "--out", str(tmp_path / "run"), *(word for override in overrides for word in ("--set", override))]
    assert main(asked) == 2
    assert capsys.readouterr().err == (
        'fedfore: Data set "mine" has no reader: give its entry in bench/tasks/datasets.py a function `read`.\n'
    )
    assert main(["cost", "lenet5", "--dataset", "mine", "--batch", "2"]) == 0


@pytest.mark.parametrize(
    ("read", "words"),
    [
        (lambda root: (random_part(60), random_part(21)), r"gives torch.uint8 \[21, 1, 32, 32\].* describes .*\[20, 1"),
        (lambda root: ((random_part(60)[0].double(), random_part(60)[1]), random_part(20)), "gives torch.float64"),
        (lambda root: ((random_part(60)[0], random_part(60)[1] + 1), random_part(20)), "labels .* run from 0 to 5"),
        (lambda root: None, "gives a NoneType; give .train, test."),
        (partial(read_cifar, "labels", ["absent"], []), "cannot be read from .*absent"),
        (partial(read_cifar, "labels", [DIGITS], []), "cannot be read from .*invalid load key"),
        (partial(read_mnist, "absent"), "cannot be read from .*absent"),
    ],
)
def test_data_that_are_not_as_described_are_one_sentence(read, words, monkeypatch, tmp_path):
    monkeypatch.setitem(DATASETS, "mine", mine(read))
    with pytest.raises(DataError, match=words):
        load("mine", tmp_path)


def test_without_a_home_folder_digits_load_and_others_say_where_to_put_them(monkeypatch):
    def nobody(uid: int) -> None:
        raise KeyError(uid)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.delenv("FEDFORE_DATA", raising=False)
    monkeypatch.setattr("pwd.getpwuid", nobody)
    assert len(load("digits").test) == 360
    with pytest.raises(DataError, match="name the folder that holds it with --data-dir or FEDFORE_DATA"):
        ensure_present("mnist")
    with pytest.raises(DataError, match="No home folder is known; name the folder"):
        download("mnist")


def test_digits_need_no_files(tmp_path):
    ensure_present("digits", tmp_path)
    download("digits", tmp_path)
    assert len(load("digits", tmp_path).test) == 360
    assert not spec("digits").downloadable
    assert spec("mnist").downloadable


@pytest.mark.parametrize("name", [name for name in DATASETS if DATASETS[name].downloadable])
def test_missing_and_damaged_files_are_named(name, tmp_path):
    first = next(iter(spec(name).files))
    for function in (ensure_present, load):
        with pytest.raises(DataError) as caught:
            function(name, tmp_path)
        assert f"not usable in {tmp_path}: {first} is missing; run `fedfore data get {name}`" in str(caught.value)
    (tmp_path / first).parent.mkdir(parents=True)
    (tmp_path / first).write_bytes(b"not an image")
    for function in (ensure_present, load):
        with pytest.raises(DataError, match=f"{first} is damaged; run `fedfore data get {name}`"):
            function(name, tmp_path)
    (tmp_path / first).unlink()
    (tmp_path / first).mkdir()
    with pytest.raises(DataError, match="cannot be read"):
        ensure_present(name, tmp_path)


def test_file_tables_agree_with_torchvision():
    for name in ("cifar10", "cifar100"):
        kind = getattr(datasets, spec(name).torchvision_class)
        listed = [*kind.train_list, *kind.test_list, [kind.meta["filename"], kind.meta["md5"]]]
        assert spec(name).files == {f"{kind.base_folder}/{file}": md5 for file, md5 in listed}


class FakeMNIST:
    """Writes the files that are absent, like torchvision's class."""

    fail: Exception | None = None

    def __init__(self, root: Path, download: bool) -> None:
        assert download
        if self.fail:
            raise self.fail
        (root / "raw").mkdir(parents=True, exist_ok=True)
        if not (root / "raw" / "images").exists():
            (root / "raw" / "images").write_bytes(b"good")


@pytest.fixture
def fake(monkeypatch):
    described = replace(spec("mnist"), files={"raw/images": hashlib.md5(b"good").hexdigest()})
    monkeypatch.setitem(DATASETS, "mnist", described)
    monkeypatch.setattr(datasets, "MNIST", FakeMNIST)


@pytest.mark.usefixtures("fake")
def test_download_replaces_damaged_files_only(tmp_path):
    download("mnist", tmp_path)
    path = tmp_path / "raw" / "images"
    written = path.stat().st_mtime_ns
    download("mnist", tmp_path)
    assert path.stat().st_mtime_ns == written
    path.write_bytes(b"evil")
    download("mnist", tmp_path)
    assert path.read_bytes() == b"good"


@pytest.mark.usefixtures("fake")
@pytest.mark.parametrize("error", [URLError("no route"), RuntimeError("File not found or corrupted.")])
def test_failed_downloads_are_data_errors(error, monkeypatch, tmp_path):
    monkeypatch.setattr(FakeMNIST, "fail", error)
    with pytest.raises(DataError, match=r'"mnist" could not be downloaded into .*: check the network and the folder'):
        download("mnist", tmp_path)
