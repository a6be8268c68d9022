"""Which cells of a method are one series, and what the series are called: by whatever parameters tell cells apart.

A series is a method, or one of its saliencies, and the parameters in which its cells differ from others, as far as they
differ from the method's reference setting.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from fedfore.plots.fields import (
    EXACT,
    OF_ESTIMATES,
    SALIENCY,
    SWITCHES,
    field_label,
    field_name,
    telling,
    value_label,
)
from fedfore.plots.looks import SALIENCIES, Look, Wish, deal_looks
from fedfore.plots.points import POINT


@dataclass(frozen=True)
class Series:
    """One line of a figure. `variant` counts the series of its look; `label` names method and varying parameters.

    `look` is the method's, or in a run of one method what tells its series apart. `estimated`: its cells train by
    zeroth-order estimates. `control`: it competes with nobody (see `fedfore.judgement.contrasts.is_control`).
    """

    method: str
    label: str
    look: Look
    variant: int
    has_sparsity: bool
    estimated: bool = False
    control: bool = False


@dataclass(frozen=True)
class MethodSeries:
    """A method's series, the label of the one that each of its cells is in, and sentences on what labels do not say.

    `tuned` and `left_out` are those of `fedfore.plots.study.Study`.
    """

    series: tuple[Series, ...]
    labels: pd.Series[str]
    tuned: tuple[str, ...]
    left_out: tuple[str, ...]


def _varying(cells: pd.DataFrame) -> list[str]:
    """Return the columns of settings in which a method's cells differ."""
    columns = [name for name in map(str, cells) if name.startswith(("params.", "train."))] + ["estimator"]
    return [name for name in columns if cells[name].nunique(dropna=False) > 1]


def _naming(cells: pd.DataFrame, chosen: Collection[str] = ()) -> list[str]:
    """Return the varying columns that name a method's series; their points and series determine the others.

    Those that tuning has `chosen` follow from the series, and name none.
    """
    varying = [name for name in _varying(cells) if name not in chosen]
    point = [name for name in POINT if name != "series"]
    naming = sorted(varying, key=telling)
    for name in reversed([name for name in naming if name != "estimator"]):
        fewer = [other for other in naming if other != name]
        values = cells.groupby([*point, *fewer], dropna=False, observed=True)[varying].nunique(dropna=False)
        if bool((values <= 1).to_numpy().all()):
            naming = fewer
    return naming


def _told(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the cells without what their names need not say: what the exact gradient has no use for, and the estimator
    where there is one beside it.
    """
    exact = cells["estimator"] == EXACT
    columns: dict[str, pd.Series[Any]] = {}
    if exact.any() and cells.loc[~exact, "estimator"].nunique() < 2:
        columns["estimator"] = cells["estimator"].where(exact, None)
    for name in OF_ESTIMATES:
        if name in cells and cells.loc[~exact, name].nunique() > 1:
            columns[name] = cells[name].mask(exact)
    return cells.assign(**columns)


def _value_order(value: Any) -> tuple[float, str]:
    is_number = isinstance(value, int | float) and value == value
    return (float(value), "") if is_number else (float("inf"), value_label(value))


def _labels(cells: pd.DataFrame, naming: Sequence[str], base: str, otherwise: str) -> pd.Series[str]:
    """Return an ordered category of labels: `base` and the named values, or else `otherwise`.

    They are in the values' order, what need not be said first and controls last.
    """
    levels = {name: list(cells[name].cat.categories) for name in naming if cells[name].dtype == "category"}
    named = cells[list(naming)].astype(object)
    named = named.where(named.notna(), None)  # one NaN is not the next one
    values = pd.Series(list(named.itertuples(index=False, name=None)), index=cells.index, dtype=object)

    def text(name: str, value: Any) -> str:
        return str(value) if name in levels else field_label(name, value)

    def rank(name: str, value: Any) -> tuple[bool, float, str]:
        place = (levels[name].index(value), "") if name in levels else _value_order(value)
        return bool(text(name, value)), *place

    def label(own: tuple[Any, ...], parts: Iterator[str]) -> str:
        return ", ".join(part for part in (base, *parts) if part) or otherwise

    ordered = sorted(set(values), key=lambda own: [EXACT in own, *map(rank, naming, own)])
    names = {own: label(own, map(text, naming, own)) for own in ordered}
    said = list(names.values())
    names |= {own: label(own, map(_in_full, naming, own)) for own in ordered if said.count(names[own]) > 1}
    return pd.Series(pd.Categorical(values.map(names), list(dict.fromkeys(names.values())), ordered=True), cells.index)


def _in_full(name: str, value: Any) -> str:
    return "" if value is None else f"{field_name(name)}={value_label(value)}"


@dataclass(frozen=True)
class _Family:
    """Cells of a method whose series are named among themselves, after `label`, and drawn alike or by turns."""

    label: str
    looks: tuple[Look, ...]
    cells: pd.DataFrame


def saliency_looks(cells: pd.DataFrame, dealt: Mapping[str, Look]) -> dict[str, dict[str, Look]]:
    """Return how the saliencies of each method are called and drawn, of those methods of a run that have several.

    The only method of a run leaves name and look to its saliencies. Beside others the one that its label names is the
    method; another takes that one's place in the label and is dealt a look of its own.
    """
    found: dict[str, dict[str, Look]] = {}
    wishes: dict[str, Wish] = {}
    places: dict[str, tuple[str, str]] = {}
    for method, look in dealt.items():
        used = _saliencies(cells[cells["method"] == method])
        if len(dealt) == 1:
            return {method: {name: SALIENCIES[name] for name in used}}
        reference = next((name for name in used if SALIENCIES[name].label in look.label), "")
        for place, name in enumerate(used):
            label = _saliency_label(look.label, reference, name)
            if name == reference or (not reference and place == 0):
                found.setdefault(method, {})[name] = replace(look, label=label)
            else:
                key = f"{method}: {name}"
                wishes[key], places[key] = Wish(label), (method, name)
    given = {method: Wish(look.label, look.colour, look.marker, look.line) for method, look in dealt.items()}
    for key, look in deal_looks(given | wishes).items():
        if key in places:
            method, name = places[key]
            found[method][name] = look
    return found


def _saliency_label(method: str, reference: str, saliency: str) -> str:
    own = SALIENCIES[saliency].label
    return method.replace(SALIENCIES[reference].label, own) if reference else f"{method}, {own}"


def _saliencies(cells: pd.DataFrame) -> list[str]:
    """Return the saliencies of a method that has several, if all are known."""
    used = set(cells[SALIENCY].dropna()) if SALIENCY in cells else set()
    return [name for name in SALIENCIES if name in used] if len(used) > 1 and used <= SALIENCIES.keys() else []


def _families(cells: pd.DataFrame, own: Look, saliencies: Mapping[str, Look], *, alone: bool) -> Iterator[_Family]:
    """Yield a method's families, one a saliency if all are known, or one a variant.

    The only method of a run that has but one saliency and trains nothing leaves name and look to its settings.
    """
    used = _saliencies(cells)
    if used:
        for saliency in used:
            look = saliencies[saliency]
            yield _Family(look.label, (look,), cells[cells[SALIENCY] == saliency])
    elif alone and not cells["trained"].any():
        yield _Family("", tuple(SALIENCIES.values()), cells)
    else:
        variants = _variants(cells)
        for variant in dict.fromkeys(variants):
            yield _Family(f"{own.label} ({variant})" if variant else own.label, (own,), cells[variants == variant])


def _variants(cells: pd.DataFrame) -> pd.Series[str]:
    """Return what stands behind the method's name, by model, so that a cell that failed has it too; or nothing."""
    if "method_variant" not in cells:
        return pd.Series("", cells.index)
    return cells.groupby("model")["method_variant"].transform("first").astype(object).fillna("").astype(str)


def method_series(
    cells: pd.DataFrame,
    method: str,
    method_look: Look,
    saliencies: Mapping[str, Look],
    *,
    alone: bool,
    chosen: Collection[str] = (),
) -> MethodSeries:
    """Return the series of a method's cells in a run; `alone`: the run has no other method.

    `chosen` are the columns of keys that the run tuned; `saliencies` the looks of the method's saliencies, if it has
    several (see `saliency_looks`).
    """
    uses = cells["uses"] if "uses" in cells else pd.Series([], dtype=object)
    has_sparsity = any(isinstance(axes, list) and "sparsity" in axes for axes in uses)
    series: list[Series] = []
    rows: list[pd.Series[str]] = []
    named: dict[str, list[str]] = {}
    for family in _families(_told(cells), method_look, saliencies, alone=alone):
        naming = _naming(family.cells, chosen)
        labels = _labels(family.cells, naming, family.label, method_look.label)
        own = cells.loc[labels.index]
        estimated = own["estimator"].notna().groupby(labels, observed=True).any()
        control = own["control"].astype(bool).groupby(labels, observed=True).all()
        for place, label in enumerate(labels.cat.categories):
            own_look = family.looks[place % len(family.looks)]
            variant = sum(one.look == own_look for one in series)
            flags = bool(estimated[label]), bool(control[label])
            series.append(Series(method, label, own_look, variant, has_sparsity, *flags))
            named[label] = [*naming, SALIENCY, *SWITCHES]
        rows.append(labels.astype(str))
    labelled = pd.concat(rows).reindex(cells.index)
    tuned = _tuned(cells, labelled, method_look.label)
    left_out = _left_out(cells, labelled, named, method_look.label)
    return MethodSeries(tuple(series), labelled, tuple(tuned), tuple(left_out))


def _tuned(cells: pd.DataFrame, own: pd.Series[str], method: str) -> Iterator[str]:
    """Yield a sentence on each setting that takes several values within a series."""
    for name in _varying(cells):
        several = cells.groupby(own)[name].transform("nunique", dropna=False) > 1
        if name not in SWITCHES and several.any():
            values = sorted(set(cells.loc[several, name]), key=_value_order)
            yield (
                f"{method}: {name.split('.', 1)[-1]} differs between points (dataset, model, alpha, "
                f"sparsity) of a series: {', '.join(map(value_label, values))}."
            )


def _left_out(
    cells: pd.DataFrame, own: pd.Series[str], named: Mapping[str, Sequence[str]], method: str
) -> Iterator[str]:
    """Yield a sentence on the settings that take one value in a series, and another elsewhere, and are not `named`."""
    alike: dict[str, list[str]] = {}
    varying = _varying(cells)
    counts = {name: cells[name].groupby(own).nunique(dropna=False) for name in varying}
    first = {label: index for index, label in own.drop_duplicates().items()}
    for label, names in named.items():
        fields = [
            field_label(name, cells.at[first[label], name])
            for name in varying
            if name not in names and counts[name][label] == 1
        ]
        alike.setdefault(", ".join(filter(None, fields)), []).append(label)
    said = [f"{' / '.join(labels)} ({fields})" for fields, labels in alike.items() if fields]
    if said:
        yield f"How series of {method} are configured, beside what their names say: {'; '.join(said)}."


def settings(cells: pd.DataFrame, leave_out: Sequence[str] = (), also: Sequence[str] = ()) -> pd.Series[str]:
    """Return an ordered category that names what varies among these cells; the method alone where nothing does.

    `leave_out` are settings not to name, `also` the columns of points (sparsity, alpha) to name where they vary.
    """
    methods = cells["method_label"].unique()
    beside = [name for name in also if cells[name].nunique() > 1]
    parts = []
    for method in methods:
        own = _told(cells[cells["method_label"] == method])
        naming = [name for name in _naming(own) if name not in leave_out] + beside
        parts.append(_labels(own, naming, method if len(methods) > 1 else "", method))
    order = [label for part in parts for label in part.cat.categories]
    labels = pd.concat([part.astype(str) for part in parts]).reindex(cells.index)
    return pd.Series(pd.Categorical(labels, order, ordered=True), cells.index)
