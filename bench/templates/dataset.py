"""new_plugin: what the images are, where they come from, and their licence.

The function under `@dataset` is a whole data set, and its name is the data set's. As it stands it draws images; one
that reads files says `np.load(folder / "new_plugin.npz")`, where `folder` is that of --data-dir. All that the decorator
takes is in the docstring of `fedfore.api.dataset`.
"""

from pathlib import Path

import numpy as np

from fedfore.api import dataset

SIDE, CLASSES, TRAIN, TEST, OWNERS = 16, 4, 800, 200, 10
Part = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataset(input_shape=(1, SIDE, SIDE), num_classes=CLASSES, num_train=TRAIN, num_test=TEST, num_owners=OWNERS)
def new_plugin(folder: Path) -> tuple[Part, Part]:
    """Bars of four directions in noise: the first line is what `fedfore ls datasets` shows.

    Returns the part to train on and the part to test on, each of images x [N, C, H, W], uint8 or float32, labels y [N]
    from 0 to num_classes - 1, and the owner of each image [N], by which `alpha = "natural"` deals them to clients; the
    owners may be left out. It returns the same whenever it is called.
    """
    rng = np.random.default_rng(0)
    y = np.arange(TRAIN + TEST) % CLASSES
    owner = rng.integers(OWNERS, size=len(y))
    rows, columns = np.indices((SIDE, SIDE))
    across = np.stack([rows, columns, rows + columns, rows - columns])[y]
    bar = (across + rng.integers(SIDE, size=(len(y), 1, 1))) % SIDE < 3
    x = (rng.integers(128, size=bar.shape) + 127 * bar).astype(np.uint8)[:, None]
    train, test = slice(TRAIN), slice(TRAIN, None)
    return (x[train], y[train], owner[train]), (x[test], y[test], owner[test])
