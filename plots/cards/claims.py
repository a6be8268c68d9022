"""Published claims as tables: README's, and every field of each for other programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.archive import Archive
from fedfore.judgement.claim_verdicts import JudgedClaim, judged_claim
from fedfore.judgement.claims import CLAIMS, Claim, read_claims
from fedfore.records.markup import markdown


def claims_table(archive: Archive, names: Sequence[str] = (), form: str = "markdown") -> str:
    """Return the published claims of these names, else all, with their verdicts: as README has them, as CSV or JSON.

    Raises ConfigError where a claim is misspelt, and where one names what its study does not have.
    """
    known = {one.name: one for one in read_claims(archive.results).claim}
    for name in names:
        if name not in known:
            raise ConfigError(f'There is no claim "{name}" in {archive.results / CLAIMS}.{suggestion(name, known)}')
    found = [judged_claim(archive, known[name]) for name in names or known]
    if form == "markdown":
        return markdown(pd.DataFrame([_row(archive, one) for one in found]))
    fields = [_fields(one) for one in found]
    if form == "json":
        return json.dumps(fields, indent=2, ensure_ascii=False) + "\n"
    return pd.DataFrame(fields).to_csv(index=False)


def _row(archive: Archive, one: JudgedClaim) -> dict[str, str]:
    claim = one.claim
    study = claim.study
    link = f"[{study}](results/{study}/README.md)" if (archive.results / study).is_dir() else study
    where = [link, *([f'contrast "{claim.contrast}"'] if claim.contrast else []), claim.conditions]
    return {
        "published claim": f"{claim.claim} ({claim.source})",
        "measured here": _measured(one),
        "verdict": _verdict(one),
        "judged by": "; ".join(filter(None, where)),
    }


def _measured(one: JudgedClaim) -> str:
    if math.isnan(one.value):
        return ""
    value, low, high = (_text(number, one.claim) for number in (one.value, *one.interval))
    over = f" over {one.pairs} seeds" if one.claim.metered else ""
    interval = f" [{low}, {high}{over}]" if low != high else ""
    many = f"the {'greatest' if one.claim.up_to else 'least'} of {one.settings}" if one.settings > 1 else ""
    place = ": ".join(filter(None, (many, one.setting)))
    return f"{value}{interval}" + (f" ({place})" if place else "")


def _text(number: float, claim: Claim) -> str:
    return f"{number:.1f}{'' if claim.unit == 'x' else ' '}{claim.unit}" if claim.unit != "%" else f"{number:.1f}%"


def _verdict(one: JudgedClaim) -> str:
    if one.reason:
        return f"{one.verdict}: {one.reason}"
    return one.verdict + (f"; bound reached: {one.reached}" if one.reached else "")


def _fields(one: JudgedClaim) -> dict[str, object]:
    claim = one.claim
    low, high = one.interval
    fields: dict[str, object] = {
        "name": claim.name,
        "claim": claim.claim,
        "source": claim.source,
        "study": claim.study,
        "contrast": claim.contrast or None,
        "conditions": claim.conditions or None,
        "measured": one.value,
        "low": low,
        "high": high,
        "unit": claim.unit,
        "setting": one.setting or None,
        "settings": one.settings,
        "pairs": one.pairs,
        "bound": claim.bound,
        "up_to": claim.up_to,
        "verdict": one.verdict,
        "bound_reached": one.reached,
        "reason": one.reason or None,
    }
    return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in fields.items()}
