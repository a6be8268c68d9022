"""What a method file imports, beside `fedfore.primitives`: the whole public contract in one place."""

from fedfore.cell import Cell, Fraction
from fedfore.contract.bp_free import BPFreeConfig, BPFreeMethod
from fedfore.contract.dynamic_pruning import DynamicPruningConfig, DynamicPruningMethod
from fedfore.contract.foresight import ForesightConfig, ForesightPruning
from fedfore.contract.method import Client, ClientContext, Context, Message, Method, ServerContext, Update, shares
from fedfore.errors import Skip
from fedfore.masks import Mask, erk_densities, erk_mask, prunable_shapes, random_mask, uniform_densities

__all__ = [
    "BPFreeConfig",
    "BPFreeMethod",
    "Cell",
    "Client",
    "ClientContext",
    "Context",
    "DynamicPruningConfig",
    "DynamicPruningMethod",
    "ForesightConfig",
    "ForesightPruning",
    "Fraction",
    "Mask",
    "Message",
    "Method",
    "ServerContext",
    "Skip",
    "Update",
    "erk_densities",
    "erk_mask",
    "prunable_shapes",
    "random_mask",
    "shares",
    "uniform_densities",
]
