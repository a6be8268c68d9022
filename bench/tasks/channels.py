"""Mean and deviation of each channel of images, by which they are scaled. No torch."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

VALUES_AT_ONCE = 2**24
"""Values of which the moments are computed at a time, in double precision."""


def channel_moments(images: NDArray[Any]) -> tuple[list[float], list[float]]:
    """Return mean and deviation of each channel of images [N, C, H, W], bytes in units of their full range.

    The deviation of a channel in which all values are equal is 1.
    """
    at_once = max(1, VALUES_AT_ONCE // images[0].size)
    pieces = [images[start : start + at_once] for start in range(0, len(images), at_once)]
    count = images.size / images.shape[1]
    mean = np.sum([piece.sum(axis=(0, 2, 3), dtype=np.float64) for piece in pieces], axis=0) / count
    squares = [((piece - mean[:, None, None]) ** 2).sum(axis=(0, 2, 3)) for piece in pieces]
    deviation = np.sqrt(np.sum(squares, axis=0) / count)
    full_range = 255 if images.dtype == np.uint8 else 1
    return (mean / full_range).tolist(), np.where(deviation > 0, deviation / full_range, 1.0).tolist()
