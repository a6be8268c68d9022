"""What the contrasts of a study's matrix found, a sentence each, and how sure that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from fedfore.judgement.judging import Judged
from fedfore.judgement.verdicts import ERROR
from fedfore.plots.looks import Look
from fedfore.plots.sentences.effects import effect_text, effect_unit, span_text
from fedfore.plots.sentences.settings import setting_label
from fedfore.plots.wording import HEADLINES
from fedfore.records.metrics import METRICS

MOST_SETTINGS = 2
"""Settings of a contrast with one word of which each is told; of more, how many they are."""


def verdict_sentences(found: Sequence[Judged], looks: Mapping[str, Look]) -> Iterator[str]:
    """Yield a sentence on each contrast, in the order of the matrix; `looks` have the labels of methods."""
    for name in dict.fromkeys(one.contrast.name for one in found):
        own = [one for one in found if one.contrast.name == name]
        metric = own[0].contrast.metric
        of = "" if metric in HEADLINES else f" ({METRICS[metric].label})"
        words = dict.fromkeys(one.verdict for one in own)
        parts = [_told([one for one in own if one.verdict == word], len(own), looks) for word in words]
        remarks = dict.fromkeys(remark for one in own for remark in one.remarks)
        yield f"{name}{of}: {'; '.join([*parts, *remarks])}."


def _told(alike: Sequence[Judged], settings: int, looks: Mapping[str, Look]) -> str:
    """Return what the settings of a contrast with one word have in common, and what was measured there."""
    first = alike[0]
    if first.verdict == "not tested":
        where = f" in {len(alike)} settings" if len(alike) > 1 else _at(first, settings, looks)
        return f"not tested{where}: {', '.join(dict.fromkeys(one.reason for one in alike))}"
    if len(alike) <= MOST_SETTINGS:
        measured = " and ".join(f"{effect_text(one)}{_at(one, settings, looks)}" for one in alike)
    else:
        values = [one.value for one in alike]
        spread = f"{span_text(first, min(values), max(values))}{effect_unit(first)}"
        measured = f"{spread} in {'all ' if len(alike) == settings else ''}{len(alike)} settings"
    return ", ".join(filter(None, [first.verdict, measured, _seeds(alike)]))


def _at(one: Judged, settings: int, looks: Mapping[str, Look]) -> str:
    return f" at {setting_label(one.pairing.setting, looks)}" if settings > 1 and one.pairing.setting else ""


def _seeds(alike: Sequence[Judged]) -> str:
    """Return over how many seeds, nothing where none are needed."""
    counts = sorted({one.difference.n for one in alike if one.difference and one.level < 1})
    return f"{' to '.join(map(str, dict.fromkeys([counts[0], counts[-1]])))} seeds" if counts else ""


def certainty(found: Sequence[Judged]) -> str:
    """Return how sure the verdicts of a study are."""
    if not found:
        return "The matrix fixed no contrast before the cells ran: beyond who leads, nothing is called better or worse."
    families = Counter(one.contrast.family for one in found if one.level < 1)
    if not families:
        return "What is compared is metered and has no chance in it."
    which = f" ({', '.join(f'{name}: {count}' for name, count in families.items())})" if len(families) > 1 else ""
    by_chance = sum(families.values())
    metered = len(found) - by_chance
    counted = f"{by_chance} comparison{'s' if by_chance > 1 else ''}"
    counted += f", and {metered} metered, were" if metered else " was" if by_chance == 1 else " were"
    return (
        f"{counted} fixed before the cells ran{which}: the chance that any of a family "
        f"is wrongly called better or worse is at most {ERROR:.0%}."
    )
