"""What a reader may ask of a table of points, and what each quantity in it is called."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import dataclass

import pandas as pd

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.selection import column, settings
from fedfore.plots.budget import data_passes_texts
from fedfore.plots.study import Study
from fedfore.plots.tables.point_table import SERIES
from fedfore.plots.wording import HEADLINES
from fedfore.records.metrics import METRICS

_TRAINED = (
    "{accuracy}", "client_accuracy_min", "data_passes", "peak_device_bytes", "device_flops_total", "total_bytes",
)  # fmt: skip
_SETUP = (
    "peak_device_bytes", "device_flops_total", "total_bytes", "forward_macs_masked", "layer_density_min",
    "grad_energy_kept", "layer_density_l1", "mask_iou", "ntk_mmd2",
)  # fmt: skip
_METERED = (
    "peak_device_bytes", "device_step_flops", "uplink_bytes_per_client_round", "downlink_bytes_per_client_round",
)  # fmt: skip


_LABEL = re.compile(r"[A-Za-z0-9:._-]+")


@dataclass(frozen=True)
class Asked:
    """What is asked of a table; what is None the study chooses.

    `columns` are metrics. `by` is an axis or a key whose values are columns. `baseline` is the series to which the
    first metric's differences are shown. `best` are keys of which each point has the value that is best on validation
    data, the usual ones where there is none. `decimals` are those of every number.
    """

    columns: tuple[str, ...] | None = None
    by: str | None = None
    baseline: str | None = None
    best: tuple[str, ...] | None = None
    decimals: int | None = None
    caption: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        if self.label and not self.caption:
            raise ConfigError("A label refers to a caption; give --caption too.")
        if self.label and not _LABEL.fullmatch(self.label):
            raise ConfigError(f'The label "{self.label}" may have letters, digits and any of ":._-"; choose another.')


def metrics_of(study: Study, asked: Asked) -> list[str]:
    """Return the metrics of a table: those asked for, else those that say most of such a study and are known in it.

    The headline accuracy is that of the study, which an older one has under another name.
    Raises ConfigError for a name that no metric has.
    """
    for name in asked.columns or ():
        if name not in METRICS:
            raise ConfigError(f'There is no metric "{name}".{suggestion(name, METRICS)}')
    if asked.columns:
        return list(dict.fromkeys(study.accuracy if name in HEADLINES else name for name in asked.columns))
    ok = study.ok
    kinds = (
        (_TRAINED, ok["trained"].any()),
        (_SETUP, (~ok["trained"] & ~ok["metered"]).any()),
        (_METERED, ok["metered"].any()),
    )
    names = [name.format(accuracy=study.accuracy) for own, there in kinds if there for name in own]
    same = ok.empty or not data_passes_texts(ok.groupby(SERIES, observed=True)["data_passes"].mean())
    return [name for name in dict.fromkeys(names) if ok[name].notna().any() and not (same and name == "data_passes")]


def setting_column(cells: pd.DataFrame, name: str) -> str:
    """Return the column of the axis or key that `--by` names. Raises ConfigError for what is no setting."""
    if name in (SERIES, "method"):
        return SERIES
    if name in ("sparsity", "alpha", "dataset", "model"):
        return name
    try:
        found = column(cells, name)
    except ConfigError as error:
        raise ConfigError(f"--by {name}: {error}") from None
    if found not in settings(cells):
        raise ConfigError(f"--by {name}: that is measured; name what is set, such as alpha, sparsity, model or a key.")
    return found


def named_series(labels: Sequence[str], name: str, also: Collection[str] = ()) -> str:
    """Return the one label that a name means: itself in any case, or its beginning. Raises ConfigError for others.

    What it might be a slip of are the labels, and names that are known `also`.
    """
    wanted = name.casefold()
    same = [label for label in labels if label.casefold() == wanted]
    found = same or [label for label in labels if label.casefold().startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConfigError(f'"{name}" may be {" or ".join(found)}; write one of them whole.')
    raise ConfigError(f'There is no series "{name}".{suggestion(name, {*labels, *also})}')
