"""What a figure says, as the sentence above its panels: the verdicts on what it shows, if its matrix asks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from fedfore.judgement.judging import Judged, setting_text
from fedfore.judgement.verdicts import Verdict
from fedfore.plots.seeds import Seeds
from fedfore.plots.view import View
from fedfore.records.metrics import METRICS

_MOST_CONTRASTS = 2
"""Contrasts that one sentence can say."""
_UNDECIDED = ("inconclusive", "too few seeds", "not tested")


def verdicts_message(view: View, metric: str) -> str:
    """Return the verdicts on contrasts in a metric that a view shows both sides of; nothing where there are none.

    Of many contrasts those that are decided are said, if they are few, and the others counted.
    """
    shown = set(view.cells["cell_id"])
    own = [
        one
        for one in view.study.judged
        if one.contrast.metric == metric and all(set(side.cells["cell_id"]) <= shown for side in (one.of, one.against))
    ]
    names = list(dict.fromkeys(one.contrast.name for one in own))
    if len(names) > _MOST_CONTRASTS:
        decided = [one for one in own if one.verdict not in _UNDECIDED]
        named = list(dict.fromkeys(one.contrast.name for one in decided))
        names = named if len(named) <= _MOST_CONTRASTS else []
        left = [one for one in own if one.contrast.name not in names or one not in decided]
        counts = Counter(one.verdict for one in left)
        rest = [f"{len(left)} {'other ' if names else ''}comparisons {_counted(counts)}"] if left else []
    else:
        decided, rest = own, []
    said = [f"{name}: {_said(name, decided, own)}" for name in names] + rest
    message = "; ".join(said)
    return f"{message[:1].upper()}{message[1:]}"


def _counted(counts: Counter[Verdict]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return f"({', '.join(f'{count} {verdict}' for verdict, count in counts.most_common())})"


def _said(name: str, decided: Sequence[Judged], whole: Sequence[Judged]) -> str:
    """Return the verdicts of a contrast that are to be said, with their settings unless it has but that one verdict."""
    comparisons = [one for one in decided if one.contrast.name == name]
    verdicts = list(dict.fromkeys(one.verdict for one in comparisons))
    if len(verdicts) == 1 and len(comparisons) == sum(one.contrast.name == name for one in whole):
        return verdicts[0]
    parts = []
    for verdict in verdicts:
        settings = [setting_text(one.pairing.setting) for one in comparisons if one.verdict == verdict]
        parts.append(f"{verdict} ({'; '.join(settings)})")
    return ", ".join(parts)


def highest_message(metric: str, competing: Mapping[str, Mapping[str, Seeds]]) -> str:
    """Return which of these, by name and label distribution, has the best mean."""
    row = METRICS[metric]
    better = -1 if row.direction == "lower" else 1
    label = f"{row.label[0].lower()}{row.label[1:]}"
    said: dict[str, list[str]] = {}
    alphas = list(dict.fromkeys(alpha for own in competing.values() for alpha in own))
    for alpha in alphas:
        known = {name: own[alpha] for name, own in competing.items() if alpha in own and not own[alpha].withheld}
        ranked = sorted(known, key=lambda name: -better * known[name].estimate.mean)
        if len(ranked) > 1:
            said.setdefault(ranked[0], []).append(alpha)
    if not said:
        return row.label
    each = [f"{name} ({', '.join(own)})" if len(alphas) > 1 else name for name, own in said.items()]
    return f"{'Lowest' if better < 0 else 'Highest'} mean {label}: {'; '.join(each)}"
