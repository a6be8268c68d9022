"""How masks move in training: what every adjustment prunes and grows, and how much of it undoes the one before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from fedfore.masks import Mask


@dataclass(frozen=True)
class MaskChange:
    """One adjustment of a mask: after how many training rounds, and the numbers of weights pruned and grown.

    churn: of the weights pruned in layers that have grown weights before, the share that were grown when their layer
    last grew any; None where no weight was pruned in such a layer.
    """

    round: int
    pruned: int
    grown: int
    churn: float | None


@dataclass
class MaskChanges:
    """The changes of one cell's mask in training, in order."""

    changes: list[MaskChange] = field(default_factory=list)
    _first: Mask | None = None
    _grown: dict[str, Tensor] = field(default_factory=dict)

    def see(self, round: int, old: Mask, new: Mask) -> None:
        """Take note that `new` replaced `old` after `round` training rounds."""
        self._first = self._first or old
        pruned = {name: old[name] & ~new[name] for name in new}
        grown = {name: new[name] & ~old[name] for name in new}
        again = sum(int((pruned[name] & layer).sum()) for name, layer in self._grown.items())
        could = sum(int(pruned[name].sum()) for name in self._grown)
        lost, gained = (sum(int(layer.sum()) for layer in layers.values()) for layers in (pruned, grown))
        self.changes.append(MaskChange(round, lost, gained, again / could if could else None))
        self._grown |= {name: layer for name, layer in grown.items() if bool(layer.any())}

    @property
    def churn(self) -> float | None:
        """The mean churn of all changes that have one; None where none has."""
        known = [change.churn for change in self.changes if change.churn is not None]
        return sum(known) / len(known) if known else None

    def moved(self, mask: Mask) -> float:
        """Return the share of the weights kept by `mask`, the present one, that the first mask of training pruned."""
        first = self._first or mask
        return sum(int(torch.count_nonzero(mask[name] & ~first[name])) for name in mask) / mask.kept

    def state_dict(self) -> dict[str, Any]:
        """Return the changes so far and what later ones are held against."""
        return {
            "changes": [asdict(change) for change in self.changes],
            "first": dict(self._first or {}),
            "grown": dict(self._grown),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned."""
        self.changes = [MaskChange(**change) for change in state["changes"]]
        self._first = Mask(state["first"]) if state["first"] else None
        self._grown = dict(state["grown"])
