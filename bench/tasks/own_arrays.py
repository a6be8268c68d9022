"""Data sets of one's own, without code: arrays in an .npz file, or a folder of images, below the data folder.

`npz:PATH` is a file with the arrays `x_train` and `x_test`, uint8 or float32 [N, C, H, W] or, of one channel,
[N, H, W], and `y_train` and `y_test`, whole numbers [N] from 0; maybe `client_train`, whole numbers [N] from 0, the
owner of each training example, and `num_classes`, without which there is one class more than the largest
label.

`folder:PATH` or `folder:PATH:SIDE` is a folder with a subfolder `train` and one of `test` or `val`, each with a folder
of images a class, as `torchvision.datasets.ImageFolder` reads them. Images become RGB bytes of SIDE x SIDE pixels, 32
where no side is given: the shorter side is resized to it, bilinearly with antialiasing, and the middle is cut out.

A data set is known by its path, as it is written, and by the SHA-256 of its arrays, so that other content is another
data set: `npz:faces.npz@1a2b3c4d5e6f`. Mean and deviation of each channel are those of the training images, the ones
that are held out for validation included.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fedfore.errors import ConfigError, DataError
from fedfore.tasks.channels import channel_moments
from fedfore.tasks.heterogeneity import HASH_DIGITS

if TYPE_CHECKING:
    from fedfore.tasks.readers import Part

NPZ, FOLDER = "npz:", "folder:"
SIDE = 32
"""Pixels of a side of images of a folder, where none is given."""
MOST_SIDE = 1024
REQUIRED = ("x_train", "y_train", "x_test", "y_test")
OPTIONAL = ("client_train", "num_classes")
TESTED = ("test", "val")
_HASHED = re.compile(rf"@([0-9a-f]{{{HASH_DIGITS}}})$")
NO_ARRAYS = (EOFError, TypeError, ValueError, zipfile.BadZipFile, zlib.error)
"""What NumPy may raise of a file that is no .npz file of numbers."""


@dataclass(frozen=True, eq=False)
class OwnArrays:
    """The arrays of a data set: images uint8 or float32 [N, C, H, W], labels int64 [N], owners int64 [N] or None."""

    x_train: NDArray[Any]
    y_train: NDArray[np.int64]
    x_test: NDArray[Any]
    y_test: NDArray[np.int64]
    num_classes: int
    client_train: NDArray[np.int64] | None = None

    def digest(self) -> str:
        """Return the beginning of the SHA-256 of all of it: names, types, shapes and values."""
        found = hashlib.sha256(str(self.num_classes).encode())
        for name, values in vars(self).items():
            if isinstance(values, np.ndarray):
                found.update(f"{name} {values.dtype.str} {values.shape}".encode())
                found.update(np.ascontiguousarray(values).data)
        return found.hexdigest()[:HASH_DIGITS]


def is_own(name: str) -> bool:
    """Return whether a data set is of one's own arrays or images."""
    return name.startswith((NPZ, FOLDER))


def asked(name: str) -> str:
    """Return a data set's name as it is asked for, without the hash of its content."""
    return _HASHED.sub("", name)


def content_hash(name: str) -> str:
    """Return the hash in a data set's name, "" where it has none yet."""
    found = _HASHED.search(name)
    return found[1] if found else ""


def read_arrays(name: str, root: Path) -> OwnArrays:
    """Return the arrays of a data set below the data folder `root`, whichever content it has.

    Raises ConfigError for a name that is none, DataError for what cannot be read or is not as it has to be.
    """
    kind, _, place = asked(name).partition(":")
    path, _, side = place.partition(":") if kind == "folder" else (place, "", "")
    if not path or PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
        raise ConfigError(
            f'Data set "{name}": give its path below the data folder, which --data-dir or FEDFORE_DATA names.'
        )
    if kind == "npz":
        return _read_npz(name, root / path)
    if side and not (side.isdecimal() and 1 <= int(side) <= MOST_SIDE):
        raise ConfigError(f'Data set "{name}": give the side of its images as pixels from 1 to {MOST_SIDE}.')
    return _read_folder(name, root / path, int(side or SIDE))


def parts(name: str, root: Path) -> tuple[Part, Part]:
    """Return the data of a name with its hash, as readers do. Raises DataError where the content is another one."""
    import torch

    found = read_arrays(name, root)
    if found.digest() != content_hash(name):
        raise DataError(
            f'Data set "{asked(name)}" in {root} is not the one that was asked for: its content is {found.digest()}, '
            f"and not {content_hash(name)}; restore it, or plan the matrix anew."
        )
    train = [found.x_train, found.y_train, *([] if found.client_train is None else [found.client_train])]
    first, second = (tuple(map(torch.from_numpy, part)) for part in (train, [found.x_test, found.y_test]))
    return first, second  # type: ignore[return-value]


def described(name: str, root: Path) -> tuple[str, dict[str, Any]]:
    """Return a data set's name with its hash, and what is known of it once it is read, as JSON and TOML hold it."""
    found = read_arrays(name, root)
    mean, std = channel_moments(found.x_train)
    owners = found.client_train
    return f"{asked(name)}@{found.digest()}", {
        "input_shape": list(found.x_train.shape[1:]),
        "num_classes": found.num_classes,
        "num_train": len(found.y_train),
        "num_test": len(found.y_test),
        "mean": mean,
        "std": std,
        "class_counts": np.bincount(found.y_train, minlength=found.num_classes).tolist(),
        "num_owners": 0 if owners is None else len(np.unique(owners)),
    }


def _read_npz(name: str, file: Path) -> OwnArrays:
    if file.is_file() and not zipfile.is_zipfile(file):
        raise DataError(f'Data set "{name}": {file} is no .npz file, as np.savez writes them.')
    try:
        with np.load(file) as stored:
            arrays = {key: stored[key] for key in stored.files}
    except OSError as error:
        raise DataError(
            f'Data set "{name}" cannot be read: {file} ({error.strerror or error}); its path is below the data folder, '
            "which --data-dir or FEDFORE_DATA names."
        ) from None
    except NO_ARRAYS as error:
        raise DataError(f'Data set "{name}": {file} is no .npz file of numbers ({error}).') from None
    try:
        return _checked(arrays)
    except ConfigError as error:
        raise DataError(f'Data set "{name}": {error} ({file}).') from None


def _checked(arrays: Mapping[str, NDArray[Any]]) -> OwnArrays:
    """Return arrays as they have to be. Raises ConfigError, as the part of a sentence, for those that are not."""
    missing = [key for key in REQUIRED if key not in arrays]
    unknown = sorted(set(arrays) - {*REQUIRED, *OPTIONAL})
    if missing or unknown:
        odd = f"has no {missing[0]}" if missing else f"has an array {unknown[0]}, which means nothing here"
        raise ConfigError(f"it {odd}; give {', '.join(REQUIRED)} and maybe {' and '.join(OPTIONAL)}")
    images = {part: _images(f"x_{part}", arrays[f"x_{part}"]) for part in ("train", "test")}
    labels = {part: _numbers(f"y_{part}", arrays[f"y_{part}"], len(images[part])) for part in images}
    if images["train"].shape[1:] != images["test"].shape[1:] or images["train"].dtype != images["test"].dtype:
        raise ConfigError(
            f"x_test is {_said(images['test'])} and x_train {_said(images['train'])}; give both one type and one size"
        )
    largest = int(max(own.max() for own in labels.values()))
    count = arrays.get("num_classes", np.array(largest + 1))
    if count.shape not in ((), (1,)) or not np.issubdtype(count.dtype, np.integer):
        raise ConfigError(f"num_classes is {_said(count)}; give one whole number")
    num_classes = int(count.reshape(())) if count.shape == () else int(count[0])
    smallest = int(min(own.min() for own in labels.values()))
    if smallest < 0 or largest >= num_classes or num_classes < 2:
        raise ConfigError(
            f"its labels run from {smallest} to {largest}; {num_classes} classes, of which there are 2 at least, are "
            f"0 to {num_classes - 1}"
        )
    examples = sum(map(len, images.values()))
    if num_classes > examples:
        raise ConfigError(
            f"it has {num_classes} classes for {examples} examples; number the classes from 0 without gaps"
        )
    owners = arrays.get("client_train")
    client = None if owners is None else _numbers("client_train", owners, len(images["train"]))
    if client is not None and client.min() < 0:
        raise ConfigError(f"client_train names an owner {client.min()}; number owners from 0")
    return OwnArrays(images["train"], labels["train"], images["test"], labels["test"], num_classes, client)


def _images(name: str, values: NDArray[Any]) -> NDArray[Any]:
    if values.dtype not in (np.uint8, np.float32):
        raise ConfigError(f"{name} is {_said(values)}; give uint8 from 0 to 255, or float32")
    if values.ndim not in (3, 4) or 0 in values.shape:
        raise ConfigError(f"{name} is {_said(values)}; give [N, C, H, W], or [N, H, W] of one channel, none of them 0")
    if values.dtype == np.float32 and not np.isfinite(values).all():
        raise ConfigError(f"{name} holds NaN or infinite values; give finite ones")
    return np.ascontiguousarray(values if values.ndim == 4 else values[:, None])


def _numbers(name: str, values: NDArray[Any], wanted: int) -> NDArray[np.int64]:
    if values.shape != (wanted,) or not np.issubdtype(values.dtype, np.integer):
        raise ConfigError(f"{name} is {_said(values)}; give whole numbers [{wanted}], one an image")
    return values.astype(np.int64)


def _said(values: NDArray[Any]) -> str:
    return f"{values.dtype} {list(values.shape)}"


def _read_folder(name: str, folder: Path, side: int) -> OwnArrays:
    from fedfore.tasks.torchvision_compat import datasets, transforms

    tested = next((part for part in TESTED if (folder / part).is_dir()), TESTED[0])
    prepare = transforms.Compose([transforms.Resize(side), transforms.CenterCrop(side)])
    arrays: dict[str, NDArray[Any]] = {}
    classes: dict[str, list[str]] = {}
    for part, subfolder in (("train", "train"), ("test", tested)):
        try:
            found = datasets.ImageFolder(str(folder / subfolder))
            images = [np.asarray(prepare(image.convert("RGB"))).transpose(2, 0, 1) for image, _ in found]
        except (OSError, SyntaxError, ValueError) as error:  # Pillow raises SyntaxError of some broken images
            raise DataError(f'Data set "{name}" cannot be read from {folder / subfolder} ({error}).') from None
        arrays |= {f"x_{part}": np.stack(images), f"y_{part}": np.array(found.targets)}
        classes[part] = found.classes
    if classes["train"] != classes["test"]:
        odd = sorted(set(classes["train"]) ^ set(classes["test"]))[0]
        raise DataError(f'Data set "{name}": class "{odd}" is in one of {folder}/train and {tested}, not in both.')
    return _checked({**arrays, "num_classes": np.array(len(classes["train"]))})
