"""The published figures: those that a card or README shows, drawn from the records, and compared as pixels."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from matplotlib.image import imread
from scipy.ndimage import uniform_filter

from fedfore.errors import ConfigError, suggestion
from fedfore.plots.figures import plan_figures, png
from fedfore.plots.study import load_study
from fedfore.records.store import write_atomically

FIGURES = "figures"
_WINDOW = 3
_MOST = 0.08
"""The largest mean difference, of 1, of a window of `_WINDOW` pixels a side that counts as rounding of processors."""


def shown_figures(study: Path) -> list[str]:
    """Return the names of the figures of a published study that its card or README shows, in their order."""
    found: list[str] = []
    for page, folder in (
        (study / "README.md", ""),
        (study.absolute().parents[1] / "README.md", f"results/{study.name}/"),
    ):
        if page.exists():
            found += re.findall(rf"\]\({re.escape(folder)}{FIGURES}/(\S+)\.png\)", page.read_text(encoding="utf-8"))
    return list(dict.fromkeys(found))


def drawn_figures(study: Path) -> dict[str, bytes]:
    """Return the figures that are shown of a study, drawn again, as PNG by name.

    Raises ConfigError where one is shown that the tool does not draw of the study.
    """
    shown = shown_figures(study)
    if not shown:
        return {}
    planned = {one.name: one for one in plan_figures(load_study(study))}
    for name in shown:
        if name not in planned:
            raise ConfigError(f'{study.name}: a page shows the figure "{name}".{suggestion(name, planned)}')
    return {name: png(planned[name].draw()) for name in shown}


def refresh_figures(study: Path) -> list[Path]:
    """Write the figures that are shown of a study where they differ from what is there; return the files."""
    written = []
    for name, image in drawn_figures(study).items():
        path = study / FIGURES / f"{name}.png"
        if not path.exists() or pixel_difference(path.read_bytes(), image):
            write_atomically(path, image)
            written.append(path)
    return written


def figure_differences(study: Path) -> Iterator[str]:
    """Yield a sentence on each published figure of a study that is not what its records give, or that nobody shows."""
    drawn = drawn_figures(study)
    for name, image in drawn.items():
        path = study / FIGURES / f"{name}.png"
        difference = pixel_difference(path.read_bytes(), image) if path.exists() else "it is not there"
        if difference:
            yield f"{path} differs from what the records give: {difference}."
    for path in sorted((study / FIGURES).glob("*")):
        if path.suffix != ".png" or path.stem not in drawn:
            yield f"{path} is shown by no page."


def pixel_difference(first: bytes, second: bytes) -> str | None:
    """Return where two PNG differ by more than the rounding of processors; None where they do not."""
    images = [np.atleast_3d(imread(io.BytesIO(image), format="png"))[..., :3] for image in (first, second)]
    sizes = [f"{image.shape[1]} x {image.shape[0]}" for image in images]
    if images[0].shape != images[1].shape:
        return f"{sizes[0]} pixels instead of {sizes[1]}"
    spread = uniform_filter(np.abs(images[0] - images[1]).mean(axis=2), _WINDOW)
    row, column = np.unravel_index(int(spread.argmax()), spread.shape)
    return f"at pixel ({column}, {row}) by {spread.max():.0%}" if spread.max() > _MOST else None
