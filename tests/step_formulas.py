"""What a device's step should cost by closed formulas, to be held beside what is metered.

F is the forward pass under the mask, a layer counting times its density; F_first its first layer, whose input needs no
gradient. Both gradients of a layer take as many products as its forward pass. Everything is in MACs of one example;
FLOPs are twice that. Norms, activations, losses and updates are no products and count nothing.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from fedfore.masks import Mask
from fedfore.measure.flops import ForwardMacs
from fedfore.primitives.finite_difference import Form


@dataclass(frozen=True)
class StepFormulas:
    """The formulas for one model, whose first layer comes first in `forward.layers`, under one mask."""

    forward: ForwardMacs
    mask: Mask | None = None

    @property
    def forward_pass(self) -> float:
        """F."""
        return self.forward.masked(self.mask)

    def layers(self, names: Iterable[str]) -> float:
        """F of some layers."""
        densities = {} if self.mask is None else self.mask.layer_densities()
        return sum(self.forward.layers[name] * densities.get(name, 1.0) for name in names)

    @property
    def backpropagation(self) -> float:
        """3 F - F_first."""
        first = next(iter(self.forward.layers))
        return 3 * self.forward_pass - self.layers([first])

    def checkpointed(self, last_segment: Iterable[str]) -> float:
        """4 F - F_first - F_last: all segments but the last run forward twice.

        An upper bound where a segment ends with a layer: recomputation stops before what backward does not need.
        """
        return self.backpropagation + self.forward_pass - self.layers(last_segment)

    def zeroth_order(self, num_perturbations: int, form: Form) -> float:
        """(K + 1) F for forward differences, 2 K F for central ones."""
        return (num_perturbations + 1 if form == "forward" else 2 * num_perturbations) * self.forward_pass

    def gradients_whole(self, names: Iterable[str]) -> float:
        """What weight gradients of some layers take more if pruned entries are read too: the sum of MACs (1 - d)."""
        grown = list(names)
        return sum(self.forward.layers[name] for name in grown) - self.layers(grown)

    @property
    def ntk_foresight(self) -> float:
        """7 F - 2 F_first, of one input of one draw: three forward and two backward passes."""
        return self.forward_pass + 2 * self.backpropagation
