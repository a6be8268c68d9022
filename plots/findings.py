"""Sentences that a run's numbers support: best methods, paired differences over shared seeds, costs, masks, kernels.

No sentence compares methods on fewer than two seeds, and one whose interval includes 0 says so. No sentence compares
what was trained by a simulated estimator that is not certified (see `fedfore.judgement.certificates`).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from fedfore.judgement.certificates import MOST_SCALAR_ERROR
from fedfore.judgement.estimates import Estimate
from fedfore.plots.budget import budget_sentences
from fedfore.plots.fields import value_label
from fedfore.plots.kernel_figures import ntk_sentences
from fedfore.plots.mask_figures import mask_sentences
from fedfore.plots.naming import Series
from fedfore.plots.points import POINT, paired_difference, points, records, select
from fedfore.plots.study import Study, shown_sparsity
from fedfore.plots.wording import DOUBLE_DAGGER, human_bytes, human_count, verdict
from fedfore.records.metrics import METRICS

_COSTS = {"peak_device_bytes": human_bytes, "device_step_flops": human_count, "uplink_bytes": human_bytes}
_MOST_TIED = 3
_SAME = 1.05
"""Costs that differ by a smaller factor are told apart in percent."""
_ESTIMATORS = {
    "directional": "directional: the limit of small perturbations, computed from one gradient on the host",
    "moment": "moment: the same distribution, drawn without the perturbations",
    "exact": "exact: a control, the gradient itself in place of an estimate",
    "finite_difference": "finite differences: the device's own algorithm",
}


@dataclass(frozen=True)
class Findings:
    """The sentences on one dataset and model."""

    title: str
    sentences: tuple[str, ...]


def against_reference(study: Study, point: Mapping[str, Any]) -> Estimate | None:
    """Return a point's paired accuracy difference to the reference (a fraction), or None where a study has none.

    None too where that series has no cell of the point's data set, model and alpha.
    """
    if study.reference is None or point["series"] == study.reference.label:
        return None
    reference = {**point, "series": study.reference.label, "sparsity": 0.0}
    if select(study.cells, reference).empty:
        return None
    return paired_difference(study.compared, point, reference, study.accuracy)


def _name(study: Study, point: Mapping[str, Any]) -> str:
    has_sparsity = {one.label for one in study.series if one.has_sparsity}
    sparsity = f" at sparsity {value_label(point['sparsity'])}" if point["series"] in has_sparsity else ""
    return f"{point['series']}{sparsity}"


def _best(table: pd.DataFrame, metric: str) -> dict[str, Any] | None:
    """Return the point of highest mean among those of at least two seeds."""
    enough = table[(table["n_ok"] > 1) & table[metric].notna()]
    return records(enough.nlargest(1, metric))[0] if len(enough) else None


def _no_controls(study: Study, cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the series that compete: a control trains on what no device of its method has."""
    return cells[~cells["series"].isin([one.label for one in study.series if one.control])]


def _key(point: Mapping[str, Any]) -> dict[str, Any]:
    return {name: point[name] for name in POINT}


def _best_of_each_alpha(study: Study, summary: pd.DataFrame) -> Iterator[str]:
    metric = study.accuracy
    for alpha, here in summary.groupby("alpha", observed=True):
        best = _best(here, metric)
        if best is None:
            certified = " that is certified" if here["withheld"].any() else ""
            yield f"{alpha}: no point{certified} has two finished seeds, so no method is called better than another."
            continue
        sentence = (
            f"{alpha}: {_name(study, best)} has the highest mean test accuracy, "
            f"{100 * best[metric]:.1f} ± {100 * best[f'{metric}_half_width']:.1f} % over {best['n_ok']} seeds"
        )
        second = _best(here[here["series"] != best["series"]], metric)
        if second is not None:
            difference = paired_difference(study.compared, _key(best), _key(second), metric)
            tied = ", which has the same mean," if second[metric] == best[metric] else ","
            sentence += f"; against the next method, {_name(study, second)}{tied} {verdict(difference)}"
        yield sentence + "."


def _sparse_against_dense(study: Study, summary: pd.DataFrame) -> Iterator[str]:
    parts = []
    for alpha, here in summary[summary["sparsity"] > 0].groupby("alpha", observed=True):
        best = _best(here, study.accuracy)
        difference = against_reference(study, _key(best)) if best else None
        if best and difference:
            parts.append(f"{alpha}: {_name(study, best)}, {verdict(difference)}")
    if parts and study.reference:
        yield f"Most accurate sparse model against {study.reference.label}: {'; '.join(parts)}."


def _sparse_against_dense_estimates(study: Study, cells: pd.DataFrame) -> Iterator[str]:
    """Compare methods of zeroth-order estimates: sparse ones, at the sparsity that curves show, with dense ones."""
    level = shown_sparsity(cells, study.series)
    if level is None:
        return
    estimated = [one for one in study.series_of(cells) if one.estimated and not one.control]
    sparse, dense = ([one for one in estimated if one.has_sparsity is side] for side in (True, False))
    for first, second in itertools.product(_by_method(sparse), _by_method(dense)):
        named = [{_settings(study, one): one for one in own} for own in (first, second)]
        shared = [text for text in named[0] if text in named[1]]
        if shared:
            yield _difference_by_alpha(study, cells, named[0][shared[-1]], named[1][shared[-1]], level)


def _by_method(series: Sequence[Series]) -> list[list[Series]]:
    return [[one for one in series if one.method == name] for name in dict.fromkeys(one.method for one in series)]


def _settings(study: Study, series: Series) -> str:
    """Return what a series' label says beside the method's."""
    return series.label.removeprefix(study.looks[series.method].label)


def _difference_by_alpha(study: Study, cells: pd.DataFrame, sparse: Series, dense: Series, level: float) -> str:
    place = {"dataset": cells["dataset"].iloc[0], "model": cells["model"].iloc[0]}
    parts = []
    for alpha in cells["alpha"].cat.remove_unused_categories().cat.categories:
        first = {**place, "alpha": alpha, "series": sparse.label, "sparsity": level}
        second = {**first, "series": dense.label, "sparsity": 0.0}
        if any(select(cells, point)["withheld"].any() for point in (first, second)):
            parts.append(f"{alpha}: not compared (not certified)")
            continue
        parts.append(f"{alpha}: {verdict(paired_difference(cells, first, second, study.accuracy))}")
    return f"{sparse.label} at sparsity {value_label(level)} against {dense.label}: {'; '.join(parts)}."


def _factor(value: float, reference: float) -> str:
    if value == reference:
        return "the same"
    factor = max(value / reference, reference / value)
    if factor < _SAME:
        return f"{100 * (factor - 1):.2g} % {'less' if value < reference else 'more'}"
    number = f"{factor:,.0f}" if factor >= 100 else f"{factor:.3g}"
    return f"{number} times {'less' if value < reference else 'as much'}"


def _tied(study: Study, points: pd.DataFrame, metric: str) -> str:
    """Return the names of the points with the lowest value, up to three."""
    names = [_name(study, point) for point in records(points[points[metric] == points[metric].min()])]
    return " and ".join(names) if len(names) <= _MOST_TIED else f"{names[0]} and {len(names) - 1} others"


def _costs(study: Study, cells: pd.DataFrame) -> Iterator[str]:
    """Compare the cheapest point, and that of each dense method of estimates, with the reference."""
    summary = points(_no_controls(study, cells), list(_COSTS), by=("series", "sparsity"))
    summary = summary[summary["n_ok"] > 1]
    is_reference = summary["series"] == (study.reference.label if study.reference else None)
    if study.reference is None or is_reference.sum() != 1:
        return
    dense = _by_method([one for one in study.series if one.estimated and not one.has_sparsity])
    for metric, write in _COSTS.items():
        reference = float(summary.loc[is_reference, metric].iloc[0])
        others = summary[~is_reference & (summary[metric] > 0)]
        if others.empty or not reference > 0:
            continue
        lowest = float(others[metric].min())
        chosen = {"lowest of the others" if lowest < reference else "no other is lower, the next": others}
        for series in dense:
            own = others[others["series"].isin([one.label for one in series])]
            if len(own) and own[metric].min() > lowest:
                chosen[f"{study.looks[series[0].method].label}'s lowest"] = own
        parts = [
            f"{which}: {write(least)} ({_tied(study, own, metric)}; {_factor(least, reference)})"
            for which, own in chosen.items()
            for least in [float(own[metric].min())]
        ]
        yield f"{METRICS[metric].label}: {study.reference.label} {write(reference)}; {'; '.join(parts)}."


def _origin(cells: pd.DataFrame) -> Iterator[str]:
    ok = cells[cells["ok"]]
    estimated = ok[ok["estimator"].notna()]
    if estimated.empty:
        return
    names = "; ".join(_ESTIMATORS.get(name, name) for name in sorted(estimated["estimator"].unique()))
    simulated = int(estimated["simulated"].sum())
    yield (
        f"{len(estimated)} of {len(ok)} finished cells train with zeroth-order estimates ({names}). "
        + (f"{simulated} of them are simulated: their updates carry what no device could send. " if simulated else "")
        + "Device memory and FLOPs are metered on the device's own algorithm in every cell."
    )
    needing = estimated[estimated["certificate"] != ""].drop_duplicates(list(POINT))["certificate"]
    if len(needing):
        counts = needing.value_counts()
        parts = [
            f"{counts[name]} {meaning}"
            for name, meaning in (("uncertified", "differ by more"), ("unknown", "have never been compared"))
            if name in counts
        ]
        marked = f"; {', '.join(parts)}: marked {DOUBLE_DAGGER}, and part of no comparison above" if parts else ""
        yield (
            f"{counts.get('certified', 0)} of {len(needing)} points with directional or moment estimates are "
            f"certified: in the geometric mean over seeds their scalars are within {MOST_SCALAR_ERROR:.0%} of real "
            f"finite differences at every milestone of training{marked}."
        )


def findings(study: Study) -> list[Findings]:
    """Return the findings on each (dataset, model) with an ok cell; accuracies are compared on certified points."""
    found = []
    for (dataset, model), cells in study.by_setting():
        if cells["ok"].any():
            sentences = (
                *_of_training(study, cells[cells["trained"]]),
                *_untrained(cells),
                *mask_sentences(study, cells),
                *ntk_sentences(cells),
            )
            found.append(Findings(f"{dataset}, {model}", sentences))
    return found


def _of_training(study: Study, cells: pd.DataFrame) -> Iterator[str]:
    """Yield what trained cells say, in accuracy those of points that are not withheld."""
    if not cells["ok"].any():
        return
    yield from budget_sentences(cells)
    summary = points(_no_controls(study, study.compared.loc[cells.index]), [study.accuracy])
    yield from _best_of_each_alpha(study, summary)
    yield from _sparse_against_dense(study, summary)
    yield from _sparse_against_dense_estimates(study, cells)
    yield from _costs(study, cells)
    yield from _origin(cells)


def _untrained(cells: pd.DataFrame) -> Iterator[str]:
    ok = cells[cells["ok"]]
    ended, metered = int((~ok["trained"] & ~ok["metered"]).sum()), int(ok["metered"].sum())
    if ended:
        yield (
            f"{ended} of {len(ok)} finished cells end before training: they say what masks and kernels "
            "are, and nothing of accuracy."
        )
    if metered:
        yield (
            f"{metered} of {len(ok)} finished cells run nothing but the meters: they say what a device would pay, and "
            "nothing of accuracy. Where a setup would have to run to know its mask, layer densities are ERK's."
        )
