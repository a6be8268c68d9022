"""What records say of masks: the density of every layer, and what a mask leaves of the FLOPs and of the gradient."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from fedfore.plots.study import Study

LEFT = {
    "forward_flops_left": "Forward FLOPs left",
    "grad_energy_kept": "Gradient energy left (dense)",
    "grad_energy_masked_point": "Gradient energy left (masked)",
}
"""What a mask leaves, as fractions of the dense model's, the gradient at the dense and at the masked weights."""
STARVED = 0.001
"""A layer of a lower density carries next to nothing."""


@dataclass(frozen=True)
class Masked:
    """The planned cells of one dataset and model that a mask prunes, and its prunable layers.

    `cells` has a column a layer, the fraction of its weights that the cell's last mask keeps, and `forward_flops_left`,
    the fraction of the dense model's; NaN where it is not known. `starved`: whether some layer keeps next to nothing.
    `sizes` are the layers' numbers of weights.
    """

    cells: pd.DataFrame
    sizes: Mapping[str, int]

    @property
    def layers(self) -> tuple[str, ...]:
        """The prunable layers in the model's order."""
        return tuple(self.sizes)

    @property
    def known(self) -> list[str]:
        """The columns that some cell knows, of `LEFT` and then of layers."""
        return [name for name in (*LEFT, *self.layers) if self.cells[name].notna().any()]


def masked(study: Study, cells: pd.DataFrame) -> Masked:
    """Return what is known of the masks of these cells of a study, all of one dataset and model."""
    sparse = {one.label for one in study.series if one.has_sparsity}
    pruned = cells[cells["series"].isin(sparse) & (cells["sparsity"] > 0) & ~cells["metered"]]
    layers = study.layers
    layers = layers[layers["cell_id"].isin(pruned.loc[pruned["ok"], "cell_id"])]
    sizes: dict[str, int] = {}
    starved = set[str]()
    table = pd.DataFrame(index=pruned.index)
    if len(layers):
        sizes = dict(zip(layers["layer"], map(int, layers["size"]), strict=True))
        few = (layers["kept"] <= 1) & (layers["size"] > 1)
        starved = set(layers.loc[few | (layers["kept"] < STARVED * layers["size"]), "cell_id"])
        densities = (layers["kept"] / layers["size"]).groupby([layers["cell_id"], layers["layer"]]).last().unstack()
        table = densities.reindex(index=pruned["cell_id"], columns=list(sizes)).set_axis(pruned.index)
    left = pruned["forward_macs_masked"] / pruned["forward_macs_dense"]
    pruned = pruned.assign(forward_flops_left=left.where(pruned["ok"]), starved=pruned["cell_id"].isin(starved))
    return Masked(pd.concat([pruned, table], axis=1), sizes)


def short_layer(name: str) -> str:
    """Return a prunable weight's name without what all have: "stage1.block2.body.conv1.weight" -> "1.2.conv1"."""
    parts = [part for part in name.split(".") if part not in ("weight", "body")]
    short = ".".join(re.sub(r"^(?:layer|stage|block)(?=\d)", "", part) for part in parts)
    return re.sub(r"(?:shortcut|downsample)\.(?:conv|0)$", "short", short)
