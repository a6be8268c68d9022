"""Clients' shares of a training set, and how skewed the shares that came out really are."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedfore.errors import ConfigError, suggestion

REDRAWS = 1000
"""Dirichlet draws tried before `partition` gives up on the minimum."""

MOST_DIGITS = 18
"""Digits of a number of shards, which nobody deals more of than there are examples."""


def parse_alpha(value: Any) -> str | float:
    """Return the canonical form of a heterogeneity setting: "iid", a positive float, or "shards:S" with S >= 1.

    Numbers may be written as text ("0.1"). Raises ConfigError for everything else.
    """
    problem = f'alpha = {value!r} cannot be used: give "iid", a positive number or "shards:S".'
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise ConfigError(problem)
    if isinstance(value, str):
        text = value.strip().lower()
        kind, _, shards = text.partition(":")
        if text == "iid":
            return text
        if kind == "shards" and shards.isdecimal() and len(shards) <= MOST_DIGITS and int(shards) > 0:
            return f"shards:{int(shards)}"
    try:
        number = float(value)
    except (ValueError, OverflowError):
        near = "" if str(value).lower().startswith("shards:") else suggestion(str(value), ["iid", "shards:S"])
        raise ConfigError(problem + near) from None
    if not (math.isfinite(number) and number > 0):
        raise ConfigError(problem)
    return number


def partition(
    labels: NDArray[np.integer],
    clients: int,
    alpha: str | float,
    min_examples: int,
    rng: np.random.Generator,
) -> list[NDArray[np.int64]]:
    """Share out the examples of `labels: [N]`: a sorted index array for each client, disjoint, together all of 0..N-1.

    `alpha` is what `parse_alpha` accepts:

    * "iid": a random permutation cut into equal parts (sizes differ by at most 1).
    * a float: for each class, the clients' proportions of that class are drawn from Dir(alpha, ..., alpha) (Yurochkin
      et al. 2019; Hsu et al. 2019 draw each client's proportions of the classes instead). The whole draw is repeated,
      at most `REDRAWS` times, until every client has `min_examples`: the result follows that distribution given the
      minimum, and no example is moved afterwards.
    * "shards:S": the examples sorted by label, cut into clients x S shards, S random shards a client (McMahan et al.
      2017, section 3).

    Raises ConfigError where no client could have, or some client does not get, `min_examples`.
    """
    alpha = parse_alpha(alpha)
    _check_sizes(len(labels), clients, alpha, min_examples)
    if isinstance(alpha, float):
        parts = _dirichlet(labels, clients, alpha, min_examples, rng)
    elif alpha == "iid":
        parts = np.array_split(rng.permutation(len(labels)), clients)
    else:
        parts = _shards(labels, clients, _shards_each(alpha), min_examples, rng)
    return [np.sort(part).astype(np.int64) for part in parts]


def require_partition(
    num_examples: int,
    class_counts: Sequence[int] | None,
    clients: int,
    alpha: str | float,
    min_examples: int,
    rng: np.random.Generator,
) -> None:
    """Raise the ConfigError with which `partition` would end, from the number of examples of each class alone.

    Where `class_counts` is None nothing is said of a Dirichlet draw that gives some client too few. Leaves `rng` moved.
    """
    alpha = parse_alpha(alpha)
    _check_sizes(num_examples, clients, alpha, min_examples)
    if isinstance(alpha, float):
        if class_counts is not None:
            counts = np.array([count for count in class_counts if count])
            _dirichlet_cuts(counts, clients, alpha, min_examples, rng)
    elif alpha != "iid":
        shards = _shards_each(alpha)
        if num_examples // (clients * shards) * shards < min_examples:
            _shards(np.zeros(num_examples, np.int64), clients, shards, min_examples, rng)


def _check_sizes(num_examples: int, clients: int, alpha: str | float, min_examples: int) -> None:
    """Raise ConfigError for what no draw could share out."""
    if clients < 1:
        raise ConfigError(f"clients = {clients} cannot be used: give at least 1.")
    if clients * min_examples > num_examples:
        raise ConfigError(
            f"{num_examples} training examples cannot give {clients} clients {min_examples} each: "
            "lower clients or min_client_examples."
        )
    if isinstance(alpha, float):
        if not math.isfinite(2 * clients * alpha):
            raise ConfigError(f'alpha = {alpha:g} is too large to be drawn from: give a smaller one, or "iid".')
    elif alpha != "iid" and clients * _shards_each(alpha) > num_examples:
        raise ConfigError(
            f"alpha = {alpha} over {clients} clients cuts {num_examples} training examples into more shards than "
            "there are examples: lower clients or the shards."
        )


def _shards_each(alpha: str) -> int:
    return int(alpha.removeprefix("shards:"))


def _dirichlet_cuts(
    counts: NDArray[np.integer], clients: int, alpha: float, min_examples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return where each class is cut into the clients' shares, [classes, clients - 1]; `counts: [classes]`."""
    for _ in range(REDRAWS):
        proportions = rng.dirichlet(np.full(clients, alpha), size=len(counts))
        cuts = np.rint(np.cumsum(proportions, axis=1)[:, :-1] * counts[:, None]).astype(np.int64)
        sizes = np.diff(cuts, axis=1, prepend=0, append=counts[:, None])
        if sizes.sum(axis=0).min() >= min_examples:
            return cuts
    raise ConfigError(
        f"alpha = {alpha:g} over {clients} clients left some client below min_client_examples = {min_examples} "
        f"in each of {REDRAWS} draws: raise alpha, or lower clients or min_client_examples."
    )


def _dirichlet(
    labels: NDArray[np.integer], clients: int, alpha: float, min_examples: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    classes, counts = np.unique(labels, return_counts=True)
    cuts = _dirichlet_cuts(counts, clients, alpha, min_examples, rng)
    shares = [
        np.split(rng.permutation(np.flatnonzero(labels == label)), cut)
        for label, cut in zip(classes, cuts, strict=True)
    ]
    return [np.concatenate(client) for client in zip(*shares, strict=True)]


def _shards(
    labels: NDArray[np.integer], clients: int, shards: int, min_examples: int, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    shuffled = rng.permutation(len(labels))
    by_label = shuffled[np.argsort(labels[shuffled], kind="stable")]
    pieces = np.array_split(by_label, clients * shards)
    dealt = rng.permutation(len(pieces)).reshape(clients, shards)
    parts = [np.concatenate([pieces[piece] for piece in hand]) for hand in dealt]
    smallest = min(len(part) for part in parts)
    if smallest < min_examples:
        raise ConfigError(
            f"alpha = shards:{shards} over {clients} clients leaves a client {smallest} examples, below "
            f"min_client_examples = {min_examples}: lower clients, the shards or min_client_examples."
        )
    return parts


def label_skew_tv(labels: NDArray[np.integer], parts: Sequence[NDArray[np.integer]], num_classes: int) -> float:
    """Return the heterogeneity really obtained: total variation between a client's labels and the pooled ones.

    sum_i p_i (1/2) sum_y |q_i(y) - q(y)|, with p_i the clients' shares of all examples in `parts`: 0 where every client
    has the pooled distribution, and at most 1 - sum_y q(y)^2, where every client has one class. `labels: [N]`.
    """
    counts = np.stack([np.bincount(labels[part], minlength=num_classes) for part in parts])
    sizes = counts.sum(axis=1)
    expected = np.outer(sizes, counts.sum(axis=0) / sizes.sum())
    return float(np.abs(counts - expected).sum() / (2 * sizes.sum()))
