"""Arguments that several verbs take, and what they may be. No torch."""

from __future__ import annotations

import argparse
import math
import re
from pathlib import Path

_UNITS = {"B": 1, **{f"{prefix}iB": 2 ** (10 * power) for power, prefix in enumerate("KMGT", 1)}}
_UNITS |= {f"{prefix}B": 10 ** (3 * power) for power, prefix in enumerate("kMGT", 1)}


def add_matrix(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("matrix", nargs="?", default="quick", help="a TOML file or a shipped matrix [quick]")
    add_overrides(parser)
    add_plugins(parser)


def add_overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="K=V",
        help="replace a key, such as seed=[0,1], train.clients=20, params.baffle.sigma=1e-3; K= is K at its default",
    )  # fmt: skip


def add_plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugins", action="append", type=Path, default=[], metavar="DIR", help="folder of plug-in files"
    )


def add_data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, metavar="D", help="data sets [$FEDFORE_DATA, else ~/.cache/fedfore/data]"
    )


def positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def natural(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def share(text: str) -> float:
    value = float(text)
    if not (0 < value <= 1 or (value.is_integer() and value > 0)):
        raise argparse.ArgumentTypeError("must be a share of a GPU, or a whole number of them")
    return value


def names(text: str) -> tuple[str, ...]:
    found = tuple(filter(None, (name.strip() for name in text.split(","))))
    if not found:
        raise argparse.ArgumentTypeError("must be names with commas between them")
    return found


def seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be a positive number of seconds")
    return value


def inches(text: str) -> float:
    from fedfore.plots.view import WIDTHS

    value = float(text)
    if not WIDTHS[0] <= value <= WIDTHS[1]:
        raise argparse.ArgumentTypeError(f"must lie between {WIDTHS[0]} and {WIDTHS[1]} inches")
    return value


def margin(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be a positive number")
    return value


def sparsity(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("must lie in [0, 1)")
    return value


def size(text: str) -> int:
    """Return a size such as "512KiB", "2 MiB" or "1.5MB" in bytes, rounded down."""
    units = {unit.lower(): count for unit, count in _UNITS.items()}
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([a-z]+)", text.strip().lower())
    if found is None or found[2] not in units:
        raise argparse.ArgumentTypeError(f'must be a number and a unit ({", ".join(_UNITS)}), not "{text}"')
    count = int(float(found[1]) * units[found[2]])
    if count < 1:
        raise argparse.ArgumentTypeError(f'must be at least one byte, not "{text}"')
    return count
