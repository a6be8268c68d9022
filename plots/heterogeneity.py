"""The clients' heterogeneity as figures and tables call and order it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fedfore.plots.fields import value_label

ALPHA = "\N{GREEK SMALL LETTER ALPHA}"
_KINDS = ("iid", "quantity", "", "shards", "natural", "file")
"""From alike to different, as far as a kind tells; "" is a Dirichlet distribution of labels."""


def alpha_label(alpha: object) -> str:
    """Return heterogeneity as a label: "iid", "natural", "shards: 2", "quantity 0.5", "file NAME", or Dirichlet's alpha
    and its value, with "+ quantity 0.5" behind it where sizes are skewed too.
    """
    if not isinstance(alpha, str):
        return f"{ALPHA} = {value_label(alpha)}"
    labels, comma, sizes = alpha.rpartition(",")
    if comma:
        return f"{alpha_label(float(labels))} + {alpha_label(sizes)}"
    kind, _, rest = alpha.partition(":")
    return f"{kind}: {rest}" if kind == "shards" else f"{kind} {rest.partition('@')[0]}".rstrip()


def alpha_labels(alphas: Iterable[Any]) -> dict[Any, str]:
    """Return the label of each of these, from alike to different; with its hash where two files have one name."""
    ordered = sorted(set(alphas), key=_order)
    plain = [alpha_label(alpha) for alpha in ordered]
    return {
        alpha: label if plain.count(label) == 1 else f"{label} {str(alpha).partition('@')[2]}".rstrip()
        for alpha, label in zip(ordered, plain, strict=True)
    }


def _order(alpha: Any) -> tuple[int, float, float, str]:
    if not isinstance(alpha, str):
        return _KINDS.index(""), -float(alpha), 0.0, ""
    labels, comma, sizes = alpha.rpartition(",")
    kind, _, rest = sizes.partition(":")
    if comma:
        return _KINDS.index(""), -float(labels), 1 / float(rest), ""
    is_number = kind in ("quantity", "shards")
    return _KINDS.index(kind), -float(rest) if is_number else 0.0, 0.0, rest
