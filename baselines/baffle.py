"""Vanilla BAFFLE: backpropagation-free federated learning (Feng et al. 2023, arXiv 2301.12195)."""

from bench.api import BPFreeMethod


class Baffle(BPFreeMethod):
    """BAFFLE: K forward passes on perturbed weights, K scalars sent back, no backpropagation on a device.

    The defaults are the published algorithm: one seed for all clients, weights p_i, no clipping, the model of the last
    round evaluated. The released code differs: independent directions, equal weights, estimates clipped at an infinity
    norm of 0.3, a moving average of 0.995 an epoch for evaluation, a lower rate in the first epoch; the matrix
    `baffle-as-released` sets these. The paper leaves the server's optimizer open; Adam's betas (0.9, 0.99) and weight
    decay 5e-4 are the released code's, the rate 3e-3 is this suite's.
    """
