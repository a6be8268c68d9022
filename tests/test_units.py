"""One unit a column: which, with how many decimals."""

from __future__ import annotations

import math

import pytest

from fedfore.plots.units import in_one_unit
from fedfore.plots.wording import UNKNOWN

KIB, MIB = 1024, 1024**2


@pytest.mark.parametrize(
    ("values", "stored", "unit", "texts"),
    [
        ([620 * KIB, 70.6 * MIB], "bytes", "MiB", ["0.61", "70.60"]),  # the middle on a log scale: 6.5 MiB
        ([300 * MIB, 800 * MIB], "bytes", "MiB", ["300", "800"]),
        ([0.0, 1536.0, math.nan], "bytes", "KiB", ["0.00", "1.50", UNKNOWN]),
        ([26.7e6, 2.301e9], "FLOPs", "MFLOPs", ["27", "2,301"]),
        ([0.99e9, 1.72e9], "MACs", "GMACs", ["0.99", "1.72"]),
        ([5.0, 12.0], "parameters", "parameters", ["5", "12"]),
        ([12.0, 30.0], "passes", "passes", ["12", "30"]),
        ([1e6, 1.0], "bytes", "B", ["1,000,000", "1"]),
        ([1e-8, 1.0], "s", "s", ["<0.000001", "1.000000"]),
        ([0.3, 2e9], "bytes", "KiB", ["<0.001", "1,953,125.000"]),
        ([-0.25, 0.5], "ratio", "ratio", ["\N{MINUS SIGN}0.250", "0.500"]),
        ([math.nan], "bytes", "B", [UNKNOWN]),
        ([], "FLOPs", "FLOPs", []),
    ],
)
def test_a_column_has_one_unit_and_decimals_for_its_smallest_value(
    values: list[float], stored: str, unit: str, texts: list[str]
) -> None:
    assert in_one_unit(values, stored) == (unit, texts)
