"""What the records of its study say of a published claim.

Of several settings the one decides in which the claim holds most where it says "up to", and else the one in which it
holds least: by the verdict, then by the mean. Intervals of "up to" hold simultaneously over its settings; those of
metered quantities go from the lowest to the highest of the seeds.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.archive import Archive
from fedfore.judgement.claims import CLAIMS, Claim, Unit
from fedfore.judgement.judging import Judged, contrasts_of, judged_of, setting_text
from fedfore.judgement.quantities import Quantity, filters_of, sample
from fedfore.judgement.selection import column, fitting, short
from fedfore.judgement.standing import withheld_verdicts
from fedfore.judgement.verdicts import Reached, Verdict, bound_reached, simultaneous_level
from fedfore.records.metrics import METRICS

_HOLDS: tuple[Verdict, ...] = ("not tested", "worse", "too few seeds", "inconclusive", "equivalent", "better")
"""Verdicts, from what speaks least for a claim to what speaks most for it."""
_SCALE: Mapping[Unit, float] = {"x": 1.0, "%": 100.0, "points": 100.0}


@dataclass(frozen=True)
class JudgedClaim:
    """A claim and its verdict.

    `value` and `interval` are in the claim's unit, NaN where nothing was measured; they are of the deciding `setting`
    of `settings`, and `pairs` is its number of seeds. `reached` says whether the bound is, None without one. `reason`
    says why a claim is not tested.
    """

    claim: Claim
    verdict: Verdict = "not tested"
    reason: str = ""
    value: float = math.nan
    interval: tuple[float, float] = (math.nan, math.nan)
    setting: str = ""
    settings: int = 0
    pairs: int = 0
    reached: Reached | None = None


@dataclass(frozen=True)
class _Setting:
    """What a study says of a claim in one setting, as a ratio or a fraction: more is more of what is claimed."""

    words: str
    value: float
    interval: tuple[float, float]
    verdict: Verdict
    pairs: int
    reason: str = ""


def judged_claim(archive: Archive, claim: Claim) -> JudgedClaim:
    """Return what the records say of a claim. Raises ConfigError where it names what its study does not have."""
    try:
        reason = next(_untested(archive, claim), "")
        return JudgedClaim(claim, reason=reason) if reason else _decided(claim, list(_settings(archive, claim)))
    except ConfigError as error:
        sentence = str(error)
        raise ConfigError(f'{CLAIMS}, "{claim.name}": {sentence}{"" if sentence[-1] in ".?" else "."}') from None


def _untested(archive: Archive, claim: Claim) -> Iterator[str]:
    """Yield why a claim cannot be tested by its study."""
    study = claim.study
    if not (archive.results / study).is_dir():
        yield f"study {study} is not published"
        return
    yield from withheld_verdicts(archive, study)
    cells = archive.table(study)
    for name, least in claim.at_least.items():
        most = _numbers(cells, name).max()
        if not most >= least:
            yield f"{name} is at most {most:g} in study {study}, the claim is read as made at {least:g}"
    if claim.contrast and not contrasts_of(archive.run(study)):
        yield f"no contrast was fixed before study {study} ran"


def _numbers(cells: pd.DataFrame, name: str) -> pd.Series[float]:
    """Return a column as numbers. Raises ConfigError where none of it is one."""
    numbers = pd.to_numeric(cells[column(cells, name)], errors="coerce")
    if numbers.isna().all():
        raise ConfigError(f"at_least: {name} is no number in this study")
    return numbers


def _reach(cells: pd.DataFrame, claim: Claim) -> pd.Series[bool]:
    """Return which rows are of settings at which the claim was made."""
    enough = pd.Series(True, cells.index)
    for name, least in claim.at_least.items():
        enough &= _numbers(cells, name) >= least
    return enough


def _settings(archive: Archive, claim: Claim) -> Iterator[_Setting]:
    return _contrasted(archive, claim) if claim.metered is None else _metered(archive, claim, claim.metered)


def _contrasted(archive: Archive, claim: Claim) -> Iterator[_Setting]:
    """Yield the comparisons of a claim's contrast, judged among all that its matrix asks."""
    run = archive.run(claim.study)
    asked = [one.name for one in contrasts_of(run)]
    if claim.contrast not in asked:
        raise ConfigError(
            f'the matrix of {claim.study} has no contrast "{claim.contrast}".{suggestion(claim.contrast, asked)}'
        )
    asked_of = [one for one in judged_of(run) if one.contrast.name == claim.contrast]
    found = [one for one in asked_of if _reach(one.of.cells, claim).all()]
    for one in found:
        _require_unit(one, claim)
        level = simultaneous_level(len(found)) if claim.up_to else one.level
        value, low, high = (_gain(one, number, claim.unit) for number in (one.value, *one.interval(level)))
        pairs = one.difference.n if one.difference else 0
        yield _Setting(
            setting_text(one.pairing.setting), value, (min(low, high), max(low, high)), one.verdict, pairs, one.reason
        )
    if not found:
        yield _Setting("", math.nan, (math.nan, math.nan), "not tested", 0, f"study {claim.study} left its cells out")


def _require_unit(one: Judged, claim: Claim) -> None:
    """Raise ConfigError where a claim's unit is none of what its contrast gives."""
    contrast = one.contrast
    level = isinstance(contrast.against, float)
    units = ("x", "%") if contrast.compare == "ratio" else ("points", "%") if level else ("points",)
    if claim.unit not in units:
        raise ConfigError(f'its contrast is a {contrast.compare}: unit is "{claim.unit}", give {" or ".join(units)}')


def _gain(one: Judged, number: float, unit: Unit) -> float:
    """Return how much better the one side is: in the contrast's unit, or as a factor or a share that is saved.

    Against a number it is where the side is itself, as the claim says it.
    """
    higher = METRICS[one.contrast.metric].direction == "higher"
    if isinstance(one.contrast.against, float):
        return one.contrast.against + number
    if one.contrast.compare == "difference":
        return number if higher else -number
    if unit == "x":
        return number if higher else 1 / number
    return number - 1 if higher else 1 - number


def _metered(archive: Archive, claim: Claim, quantity: Quantity) -> Iterator[_Setting]:
    """Yield a metered quantity in each setting that a claim is taken over."""
    table = archive.table(claim.study)
    chosen = fitting(table, quantity.where) & fitting(table, filters_of(quantity.of)) & _reach(table, claim).to_numpy()
    names = [column(table, name) for name in claim.over]
    rows = table.loc[chosen, names].drop_duplicates() if names else table.iloc[:1, :0]
    for _, row in rows.iterrows():
        setting = {str(name): value for name, value in row.items()}
        own = quantity.model_copy(update={"where": {**quantity.where, **setting}})
        found = sample(archive, claim.study, own).values
        words = setting_text({short(name): value for name, value in setting.items()})
        mean, span = float(found.mean()), (float(found.min()), float(found.max()))
        none = 1.0 if claim.unit == "x" else 0.0
        reason = "" if math.isfinite(mean) else f"{quantity.metric} is not finite there"
        yield _Setting(words, mean, span, _exact(span[0] - none, span[1] - none), len(found), reason)


def _exact(low: float, high: float) -> Verdict:
    """Return the verdict of gains that metering makes, from the lowest to the highest of the seeds."""
    if low == high == 0:
        return "equivalent"
    return "better" if low > 0 else "worse" if high < 0 else "inconclusive"


def _decided(claim: Claim, found: Sequence[_Setting]) -> JudgedClaim:
    known = [one for one in found if not one.reason]
    lacking = [one for one in found if one.reason]
    if not known or (lacking and not claim.up_to):
        return JudgedClaim(claim, reason=_lacking(lacking, len(found)), settings=len(found))
    extreme = max if claim.up_to else min
    one = extreme(known, key=lambda setting: (_HOLDS.index(setting.verdict), setting.value))
    is_judged = one.verdict != "too few seeds"
    others = [setting.interval for setting in known if setting.verdict != "too few seeds"]
    ends = others if claim.up_to and is_judged else [one.interval]
    low, high = (_SCALE[claim.unit] * max(own[end] for own in ends) for end in (0, 1))
    return JudgedClaim(
        claim,
        one.verdict,
        value=_SCALE[claim.unit] * one.value,
        interval=(low, high),
        setting=one.words,
        settings=len(found),
        pairs=one.pairs,
        reached=bound_reached((low, high), claim.bound) if is_judged and claim.bound is not None else None,
    )


def _lacking(without: Sequence[_Setting], settings: int) -> str:
    """Return why a claim on all settings is not tested where some have no verdict: by the first of these."""
    first = without[0]
    place = f"{first.words}: " if first.words and settings > 1 else ""
    return (f"{len(without)} of {settings} settings have no verdict; " if settings > 1 else "") + place + first.reason
