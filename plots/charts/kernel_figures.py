"""The figures of what clients lose by seeing only their own data: of the tangent kernel, and of the mask."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pandas as pd

from fedfore.judgement.estimates import Estimate, estimate, paired
from fedfore.judgement.verdicts import holm
from fedfore.plots.charts.kernel_maps import CLIENTS, PROBES, KernelError, kernel_map
from fedfore.plots.charts.mask_comparison import mask_comparison
from fedfore.plots.fields import value_label
from fedfore.plots.naming import settings
from fedfore.plots.points import select
from fedfore.plots.view import Planned, View
from fedfore.plots.wording import MINUS, UNKNOWN, difference_text, interval_text
from fedfore.records.metrics import METRICS

_ERRORS = (
    KernelError("ntk-mmd2", "ntk_mmd2", "How far clients' mean NTK features are from the global ones", True),
    KernelError("ntk-spectrum-error", "ntk_spectrum_error",
                "How far clients' normalised NTK spectra are from the pooled one", True),
    KernelError("ntk-blocks", "ntk_rel_frobenius_error",
           "Share of the kernel's Frobenius norm in the blocks between clients, which no client can compute. It says "
           "how many clients there are, not how much they differ", False),
)  # fmt: skip

_HALVES = {"moved_weights": "layer_density_l1", "target_moved_weights": "target_layer_density_l1"}
"""What is half of what."""


def figures(view: View) -> Iterator[Planned]:
    """Yield the figures that the view's records hold data for, maybe none."""
    families = list(_families(view.cells))
    for place, (label, cells) in enumerate(families, 1):
        suffix, which = (f"-{place}", f" ({label})") if len(families) > 1 else ("", "")
        for error in _ERRORS:
            title = f"{error.label}{which}"
            yield view.planned(f"{error.name}{suffix}", title, partial(kernel_map, view, error, cells, which))
    compared = _compared(view.cells)
    if len(compared):
        title = "Federated against centralised masks"
        yield view.planned("mask-comparison", title, partial(mask_comparison, view, compared))


def ntk_sentences(cells: pd.DataFrame) -> Iterator[str]:
    """Yield what the kernel errors and mask comparisons of one dataset and model say, where two seeds say it."""
    families = list(_families(cells))
    for label, family in families:
        yield from _feature_distances(f"{label}, " if len(families) > 1 else "", family)
    compared = _compared(cells)
    if len(compared):
        yield from _mask_distances(compared, "moved_weights", "centralised mask's")
        yield from _mask_distances(compared, "target_moved_weights", "centralised mask's of real inputs")


def _families(cells: pd.DataFrame) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield the ok cells with kernel errors that differ in clients, alpha, sparsity and seed alone, with a label.

    Their columns `<metric>_excess` are minus the mean of the same probes dealt to the clients at random. A family that
    has one number of clients is left out.
    """
    known = cells[cells["ok"] & cells["ntk_mmd2"].notna()]
    if known.empty:
        return
    excess = {
        f"{error.metric}{probes}_excess": known[f"{error.metric}{probes}"] - known[f"{error.metric}{probes}_iid"]
        for error in _ERRORS
        for probes in PROBES
    }
    for label, own in known.assign(**excess).groupby(settings(known, leave_out=[CLIENTS]), observed=True):
        if own[CLIENTS].nunique() > 1:
            yield str(label), own


def _compared(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the ok cells whose masks were compared with centralised ones, with their `setting`.

    Records that know the distance of layer densities alone get the share of moved weights, half of it.
    """
    known = cells[cells["ok"] & cells["layer_density_l1"].notna()]
    if known.empty:
        return known
    moved = {
        f"{metric}{null}": known[f"{metric}{null}"].fillna(known[f"{distance}{null}"] / 2)
        for metric, distance in _HALVES.items()
        for null in ("", "_null")
    }
    return known.assign(setting=settings(known, also=("sparsity", "alpha")), **moved)


def _feature_distances(label: str, family: pd.DataFrame) -> Iterator[str]:
    """Yield the excess of the feature distance on real and on Gaussian probes, at the least and the most skew."""
    levels = sorted(family["sparsity"].unique())
    level = levels[len(levels) // 2]
    alphas = [alpha for alpha in family["alpha"].cat.categories if (family["alpha"] == alpha).any()]
    parts = []
    for alpha in dict.fromkeys((alphas[0], alphas[-1])):
        for count in sorted(family[CLIENTS].unique()):
            own = select(family, {"sparsity": level, "alpha": alpha, CLIENTS: count})
            real, gaussian = (estimate(own[f"ntk_mmd2{probes}_excess"]) for probes in PROBES)
            if real.n > 1:
                zero = " (interval includes 0)" if real.includes_zero else ""
                parts.append(
                    f"{alpha}, {value_label(count)} clients: {_number(real)}{zero}, Gaussian probes {_number(gaussian)}"
                )
    if parts:
        yield (
            f"{METRICS['ntk_mmd2'].label} of clients' real examples above that of the same examples dealt at random, "
            f"{label}sparsity {value_label(level)}: {'; '.join(parts)}."
        )


def _number(value: Estimate) -> str:
    """Return an estimate and, where there is one, its half-width."""
    if not value.n:
        return UNKNOWN
    mean = f"{round(value.mean, 4) + 0.0:+.4f}".replace("-", MINUS)  # no "-0.0"
    return f"{mean} {interval_text(value, '{:.4f}'.format, both_ends=False)}".rstrip()


def _mask_distances(compared: pd.DataFrame, metric: str, reference: str) -> Iterator[str]:
    """Yield in how many settings the federated mask is farther from a centralised one than two of these are."""
    tested = {}
    for name, own in compared.groupby("setting", observed=True):
        seeds = own.set_index("seed")
        more = paired(seeds[metric], seeds[f"{metric}_null"])
        if more.n > 1:
            share = f"{100 * own[metric].mean():.1f}% of the kept weights are in another layer"
            difference = Estimate(more.mean, *more.interval(), more.n)
            tested[f"{name} ({share}, {difference_text(difference)} points)"] = more
    steps = holm([more.p for more in tested.values()])
    farther = [
        name for (name, more), step in zip(tested.items(), steps, strict=True) if step.rejected and more.mean > 0
    ]
    if tested:
        yield (
            f"In {len(farther)} of {len(tested)} settings the federated mask's layer densities are farther from the "
            f"{reference} than those of two independent ones are from each other (paired t tests, with Holm's "
            f"correction over the settings){': ' + '; '.join(farther) if farther else ''}."
        )
