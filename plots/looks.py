"""How methods and saliencies look: what a method asks for, what ships, and what is dealt so that no two are alike."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from fedfore.records.look import COLOUR, MARKERS

CONTROL_STYLE: Any = (0, (4, 1.5))
"""Dashes, kept for the control that trains on the exact gradient."""
Drawn: TypeAlias = tuple[str, str, int]
"""A colour, a marker and a line."""
LINE_STYLES: tuple[Any, ...] = ("-", (0, (1, 1.2)), (0, (3, 1, 1, 1)), (0, (5, 1.2, 1, 1.2)), (0, (7, 2, 1, 2, 1, 2)))
_LINES = {"solid": 0, "dotted": 1, "dashdot": 2}
"""Where the lines that a method may ask for stand in `LINE_STYLES`."""


@dataclass(frozen=True)
class Look:
    """How a method is drawn and named; `line` is a place in `LINE_STYLES`."""

    label: str
    colour: str
    marker: str
    line: int = 0


@dataclass(frozen=True)
class Wish:
    """What a method's records ask for; None leaves it to the run."""

    label: str | None = None
    colour: str | None = None
    marker: str | None = None
    line: int | None = None

    @classmethod
    def of(cls, label: object, look: object) -> Wish:
        """Return the wish of a record's fields `label` and `look`, without what cannot be drawn."""
        asked: Mapping[str, Any] = look if isinstance(look, Mapping) else {}
        colour, marker = (str(asked.get(name)) for name in ("colour", "marker"))
        return cls(
            label if isinstance(label, str) and label else None,
            colour if COLOUR.fullmatch(colour) else None,
            marker if marker in MARKERS else None,
            _LINES.get(str(asked.get("line"))),
        )


METHODS = {
    "fed_ntk_zo": Look("Fed-NTK + ZO", "#D55E00", "o"),
    "fed_ntk_fedavg": Look("Fed-NTK + FedAvg", "#E69F00", "p"),
    "baffle": Look("BAFFLE", "#0072B2", "^"),
    "baffle_erk": Look("BAFFLE + ERK", "#785EF0", "d"),
    "fedtiny": Look("FedTiny", "#009E73", "D"),
    "fedmef": Look("FedMef", "#CC79A7", "v"),
    "feddst": Look("FedDST", "#56B4E9", "P"),
    "fedavg": Look("FedAvg (dense)", "#1A1A1A", "s"),
    "fedavg_erk": Look("FedAvg + ERK", "#7F7F7F", "<"),
}
"""The methods whose records ask for nothing: Okabe and Ito's colour-blind-safe palette, in the order of legends."""
SALIENCIES = {
    "ntk": Look("NTK", "#D55E00", "o"),
    "snip": Look("SNIP", "#0072B2", "^"),
    "grasp": Look("GraSP", "#009E73", "D"),
    "synflow": Look("SynFlow", "#CC79A7", "v"),
    "magnitude": Look("Magnitude", "#E69F00", "s"),
    "erk": Look("ERK", "#56B4E9", "P"),
    "uniform": Look("Uniform", "#1A1A1A", "<"),
    "random": Look("Random", "#7F7F7F", "X"),
}
"""How saliencies look in a run of one method, in the order in which legends name them."""
DEALT_COLOURS = (
    "#882255", "#332288", "#999933", "#661100", "#44AA99", "#00A000", "#FF00CC", "#0000FF",
    "#FF0055", "#224400", "#CC00FF", "#BB7755", "#FF0000", "#220033", "#9999FF", "#EE1188",
)  # fmt: skip
"""Tol's muted palette, and then whatever is farthest in CIELAB from all colours before it and is seen on white."""
DEALT_MARKERS = (">", "*", "h", "X", "8", "H")


def in_order(methods: Sequence[str]) -> list[str]:
    """Return a run's methods in the order of legends: those of `METHODS`, then the others by name."""
    return [name for name in [*METHODS, *sorted(set(methods) - METHODS.keys())] if name in set(methods)]


def deal_looks(wishes: Mapping[str, Wish]) -> dict[str, Look]:
    """Return the looks of a run's methods from what their records ask for, in the order of legends.

    First come the wishes, then `METHODS`, then all others by name. They are dealt a colour and a marker that no method
    before them has, `DEALT_COLOURS` and `DEALT_MARKERS` first and then those of `METHODS` that are not in the run.
    Where none is left, their marker, and at last their line, tells them from those of their colour. No two methods
    share a label. Where a second one asks for the same look, its marker or line is another, and its colour stays.
    """
    asked = {name: _wish(name, wish) for name, wish in wishes.items()}
    absent = [look for name, look in METHODS.items() if name not in wishes]
    colours = (*DEALT_COLOURS, *(look.colour for look in absent))
    markers = (*DEALT_MARKERS, *(look.marker for look in absent))
    first = sorted(asked, key=lambda name: (asked[name].colour is None, name not in METHODS, name))
    dealt: dict[str, Look] = {}
    for name in first:
        drawn = _unlike(_candidates(asked[name], colours, markers), dealt.values())
        label = asked[name].label or name
        known = label in {one.label for one in dealt.values()}
        dealt[name] = Look(f"{label} ({name})" if known else label, *drawn)
    return {name: dealt[name] for name in in_order(list(wishes))}


def _unlike(stages: Iterable[Iterable[Drawn]], others: Iterable[Look]) -> Drawn:
    """Return, of the first stage that has any unlike the others, one in a colour and with a marker that none has."""
    looks = {(one.colour, one.marker, one.line) for one in others}
    colours, markers = {look[0] for look in looks}, {look[1] for look in looks}
    for stage in stages:
        best = min(stage, key=lambda own: (own in looks, own[0] in colours, own[1] in markers))
        if best not in looks:
            break
    return best


def _wish(name: str, own: Wish) -> Wish:
    """Return a wish with what it leaves open as `METHODS` has it, if that knows the method."""
    ships = METHODS.get(name)
    if ships is None:
        return own
    return Wish(own.label or ships.label, own.colour or ships.colour, own.marker or ships.marker, own.line)


def _candidates(wish: Wish, colours: Sequence[str], markers: Sequence[str]) -> Iterator[Iterator[Drawn]]:
    """Yield what fulfils a wish, out of the colours and markers to deal, and then what keeps its colour alone."""
    own = (wish.colour,) if wish.colour else colours
    yield _turns(own, (wish.marker,) if wish.marker else markers, (wish.line or 0,))
    yield _turns(own, (wish.marker, *markers) if wish.marker else markers, range(len(LINE_STYLES)))


def _turns(colours: Sequence[str], markers: Sequence[str], lines: Sequence[int]) -> Iterator[Drawn]:
    """Yield every combination, colour and marker changing each time."""
    several = list(dict.fromkeys(markers))
    period = math.lcm(len(colours), len(several))
    for line in lines:
        for turn in range(len(colours) * len(several)):
            yield colours[turn % len(colours)], several[(turn + turn // period) % len(several)], line
