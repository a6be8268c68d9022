"""Dense federated averaging (McMahan et al. 2017, arXiv 1602.05629, algorithm 1)."""

from fedfore.api import Method


class FedAvg(Method):
    """Dense FedAvg by backpropagation: the reference line of every plot.

    FedSGD, one gradient step a round, is `local_steps = 1`.
    """
