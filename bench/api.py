"""What a method file imports, beside `bench.primitives`: the whole public contract in one place."""

from bench.bp_free import BPFreeConfig, BPFreeMethod
from bench.cell import Cell, Fraction
from bench.contract import Client, ClientContext, Context, Message, Method, ServerContext, Update, shares
from bench.dynamic_pruning import DynamicPruningConfig, DynamicPruningMethod
from bench.errors import Skip
from bench.foresight import ForesightConfig, ForesightPruning
from bench.masks import Mask, erk_densities, erk_mask, prunable_shapes, random_mask, uniform_densities

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
