"""Federated NTK foresight pruning and local training by backpropagation."""

from dataclasses import dataclass

from fedfore.api import ForesightConfig, ForesightPruning
from fedfore.primitives.local_sgd import LocalSGDConfig


@dataclass(frozen=True)
class Config(ForesightConfig, LocalSGDConfig):
    """Setup: `ForesightConfig`. Training: `LocalSGDConfig`."""

    def __post_init__(self) -> None:
        ForesightConfig.__post_init__(self)
        LocalSGDConfig.__post_init__(self)


class FedNTKFedAvg(ForesightPruning):
    """FedAvg under the mask of `fed_ntk_zo`: the same setup, then local SGD.

    What that mask is worth where training is by backpropagation, from the same initial weights (`train.init`). No
    published method.
    """

    Config = Config
