"""The zeroth-order estimate drawn from its distribution, without a single direction: O(P + K) instead of O(P K).

For Gaussian directions shared by C clients with gradients g_c (rows of G [C, P], G^T = Q R, r = min(C, P)), the
scalars are S = R^T A^T with A [K, r] standard normal, and for s [K] made from the scalars by any function that sees
nothing else, (1/K) sum_k s_k e_k has the distribution of (Q A^T s + |s| n) / K with n standard normal orthogonal to Q.
Equal in distribution to the directional estimator, exactly; a norm clip of the vector is no function of the scalars.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from fedfore.streams import torch_generator


@dataclass(frozen=True)
class MomentDraw:
    """What stands for K directions: basis Q [P, r], their coordinates A [K, r] in it, the seed of the rest."""

    basis: Tensor
    coordinates: Tensor
    seed: int

    def scalars(self, gradients: Tensor) -> Tensor:
        """Return G E^T [C, K] for the gradients [C, P] that the basis was made from."""
        return gradients @ self.basis @ self.coordinates.T

    def combine(self, weights: Tensor) -> Tensor:
        """Return sum_k weights_k e_k [P]."""
        noise = torch.randn(len(self.basis), generator=torch_generator(self.seed, 1)).to(self.basis)
        noise -= self.basis @ (self.basis.T @ noise)
        return self.basis @ (self.coordinates.T @ weights) + weights.norm() * noise


def draw(gradients: Tensor, count: int, seed: int) -> MomentDraw:
    """Draw the part of `count` directions that gradients [C, P] can see."""
    basis = torch.linalg.qr(gradients.T).Q
    coordinates = torch.randn(count, basis.shape[1], generator=torch_generator(seed, 0)).to(basis)
    return MomentDraw(basis, coordinates, seed)
