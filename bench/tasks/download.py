"""Fetching the files of data sets by torchvision."""

from __future__ import annotations

from pathlib import Path

from fedfore.errors import DataError
from fedfore.tasks.datasets import spec
from fedfore.tasks.files import data_root, ensure_present, file_fault


def download(name: str, data_dir: Path | None = None) -> None:
    """Fetch the files of a data set into the data folder, replacing damaged ones; nothing to do for `digits`.

    Raises DataError where the network, the server or the disk refuses.
    """
    wanted, root = spec(name), data_root(data_dir)
    if wanted.torchvision_class is None:
        return
    if str(root).startswith("~"):
        raise DataError("No home folder is known; name the folder for data sets with --data-dir or FEDFORE_DATA.")
    from fedfore.tasks.torchvision_compat import datasets

    try:
        for file, md5 in wanted.files.items():
            if file_fault(root / file, md5):  # torchvision does not replace an MNIST file that merely exists
                (root / file).unlink(missing_ok=True)
        getattr(datasets, wanted.torchvision_class)(root, download=True)
    except (OSError, RuntimeError) as error:
        raise DataError(
            f'Data set "{name}" could not be downloaded into {root} ({error}): '
            "check the network and the folder, or copy the files there yourself."
        ) from error
    ensure_present(name, data_dir)
