"""Clients' shares of a training set, and how skewed the shares that came out really are."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fedfore.errors import ConfigError
from fedfore.tasks.heterogeneity import Heterogeneity, heterogeneity

REDRAWS = 1000
"""Dirichlet draws tried before `partition` gives up on the minimum."""


def partition(
    labels: NDArray[np.integer],
    clients: int,
    alpha: str | float,
    min_examples: int,
    rng: np.random.Generator,
    owners: NDArray[np.integer] | None = None,
) -> list[NDArray[np.int64]]:
    """Share out the examples of `labels: [N]`: a sorted index array for each client, disjoint; together all of 0..N-1,
    but for the last two.

    `alpha` is what `parse_alpha` accepts:

    * "iid": a random permutation cut into equal parts (sizes differ by at most 1).
    * a float: for each class, the clients' proportions of that class are drawn from Dir(alpha, ..., alpha) (Yurochkin
      et al. 2019; Hsu et al. 2019 draw each client's proportions of the classes instead). The whole draw is repeated,
      at most `REDRAWS` times, until every client has `min_examples`: the result follows that distribution given the
      minimum, and no example is moved afterwards.
    * "shards:S": the examples sorted by label, cut into clients x S shards, S random shards a client (McMahan et al.
      2017, section 3).
    * "quantity:Q": labels as in "iid", sizes skewed as in NIID-Bench (Li et al. 2022, arXiv 2102.02079, section IV-C):
      every client has `min_examples`, and the others are shared out by proportions from Dir(Q, ..., Q). NIID-Bench
      draws again until the smallest client has 10, which with many clients never ends.
    * "A,quantity:Q": the sizes of "quantity:Q", and each client's proportions of the classes from Dir(A, ..., A).
      Clients take examples in random order, each of a class by its proportions among the classes that are not used up,
      as in the code of FedDyn (Acar et al. 2021, arXiv 2111.04263).
    * "natural": clients are owners, of whom `owners: [N]` says which one each example has (negative: none). `clients`
      of the owners with `min_examples` are drawn without replacement and come in the order of their numbers; the
      others, and their examples, take no part. As in LEAF (Caldas et al. 2018), smaller owners are left out.
    * "file:...": client i has the examples whose owner is i; those with a negative owner take no part.

    Raises ConfigError where no client could have, or some client does not get, `min_examples`.
    """
    asked = heterogeneity(alpha)
    if asked.has_owners:
        if owners is None:
            raise ConfigError(f'alpha = "{alpha}" needs to know whose each example is, and these data do not say it.')
        share = _natural if asked.is_natural else _given
        return [np.flatnonzero(owners == owner) for owner in share(owners, clients, min_examples, rng)]
    _check_sizes(len(labels), clients, asked, min_examples)
    if asked.shards is not None:
        parts = _shards(labels, clients, asked.shards, min_examples, rng)
    elif asked.sizes is not None:
        parts = _of_sizes(_drawn_sizes(len(labels), clients, asked.sizes, min_examples, rng), labels, asked.labels, rng)
    elif asked.labels is not None:
        parts = _dirichlet(labels, clients, asked.labels, min_examples, rng)
    else:
        parts = np.array_split(rng.permutation(len(labels)), clients)
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

    Where `class_counts` is None nothing is said of a Dirichlet draw that gives some client too few, and nothing ever of
    owners' shares. Leaves `rng` moved.
    """
    asked = heterogeneity(alpha)
    _check_sizes(num_examples, clients, asked, min_examples)
    if asked.shards is not None:
        if num_examples // (clients * asked.shards) * asked.shards < min_examples:
            _shards(np.zeros(num_examples, np.int64), clients, asked.shards, min_examples, rng)
    elif asked.labels is not None and asked.sizes is None and class_counts is not None:
        counts = np.array([count for count in class_counts if count])
        _dirichlet_cuts(counts, clients, asked.labels, min_examples, rng)


def _check_sizes(num_examples: int, clients: int, asked: Heterogeneity, min_examples: int) -> None:
    """Raise ConfigError for what no draw could share out."""
    if clients < 1:
        raise ConfigError(f"clients = {clients} cannot be used: give at least 1.")
    if clients * min_examples > num_examples:
        raise ConfigError(
            f"{num_examples} training examples cannot give {clients} clients {min_examples} each: "
            "lower clients or min_client_examples."
        )
    for concentration in filter(None, (asked.labels, asked.sizes)):
        if not math.isfinite(2 * clients * concentration):
            raise ConfigError(f'alpha = {concentration:g} is too large to be drawn from: give a smaller one, or "iid".')
    if asked.shards is not None and clients * asked.shards > num_examples:
        raise ConfigError(
            f"alpha = shards:{asked.shards} over {clients} clients cuts {num_examples} training examples into more "
            "shards than there are examples: lower clients or the shards."
        )


def _natural(
    owners: NDArray[np.integer], clients: int, min_examples: int, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Return the owners that are the clients, in order."""
    found, sizes = np.unique(owners[owners >= 0], return_counts=True)
    able = found[sizes >= min_examples]
    if len(able) < clients:
        raise ConfigError(
            f'alpha = "natural" over {clients} clients: {len(able)} of the {len(found)} owners have '
            f"min_client_examples = {min_examples} training examples; lower clients or min_client_examples."
        )
    return np.sort(rng.choice(able, clients, replace=False))


def _given(
    owners: NDArray[np.integer], clients: int, min_examples: int, rng: np.random.Generator
) -> NDArray[np.integer]:
    """Return the clients of a file, in order, of which there have to be as many as the federation has."""
    del rng
    sizes = np.bincount(owners[owners >= 0], minlength=clients)
    if len(sizes) != clients:
        raise ConfigError(f"The partition file has {len(sizes)} clients and train.clients = {clients}: set it to that.")
    smallest = int(sizes.argmin())
    if sizes[smallest] < min_examples:
        raise ConfigError(
            f"Client {smallest} of the partition file has {sizes[smallest]} training examples, below "
            f"min_client_examples = {min_examples}: lower that, or give it more."
        )
    return np.arange(clients)


def _drawn_sizes(
    total: int, clients: int, concentration: float, min_examples: int, rng: np.random.Generator
) -> NDArray[np.int64]:
    """Return how many examples each client has, [clients], `total` together and none fewer than `min_examples`."""
    spare = total - clients * min_examples
    shares = rng.dirichlet(np.full(clients, concentration))
    cuts = np.rint(np.cumsum(shares)[:-1] * spare).astype(np.int64)
    return min_examples + np.diff(cuts, prepend=0, append=spare)


def _of_sizes(
    sizes: NDArray[np.int64], labels: NDArray[np.integer], alpha: float | None, rng: np.random.Generator
) -> list[NDArray[np.int64]]:
    """Share out all examples to clients of these sizes; alike in labels where `alpha` is None."""
    if alpha is None:
        return np.split(rng.permutation(len(labels)), np.cumsum(sizes)[:-1])
    classes, counts = np.unique(labels, return_counts=True)
    proportions = rng.dirichlet(np.full(len(classes), alpha), size=len(sizes))
    takers = rng.permutation(np.repeat(np.arange(len(sizes)), sizes))
    taken = np.empty(len(labels), np.int64)
    for turn, (client, where) in enumerate(zip(takers, rng.random(len(takers)), strict=True)):
        weights = proportions[client] * (counts > 0)
        reached = np.cumsum(weights if weights.any() else counts)
        taken[turn] = min(reached.searchsorted(where * reached[-1], "right"), reached.searchsorted(reached[-1]))
        counts[taken[turn]] -= 1
    owners = np.empty(len(labels), np.int64)
    for place, label in enumerate(classes):
        owners[rng.permutation(np.flatnonzero(labels == label))] = takers[taken == place]
    return [np.flatnonzero(owners == client) for client in range(len(sizes))]


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
