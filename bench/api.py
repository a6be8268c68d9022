"""What a plug-in file imports, beside `fedfore.primitives`: the whole public contract in one place."""

from fedfore.cell import Cell, Fraction
from fedfore.contract.bp_free import BPFreeConfig, BPFreeMethod
from fedfore.contract.client import Client
from fedfore.contract.context import ClientContext, Context, ServerContext
from fedfore.contract.dynamic_pruning import DynamicPruningConfig, DynamicPruningMethod
from fedfore.contract.exchange import Estimate, Message, Update, shares
from fedfore.contract.foresight import ForesightConfig, ForesightPruning
from fedfore.contract.method import Method
from fedfore.errors import Skip
from fedfore.federation.observers.observer import Observer, View, Work
from fedfore.masks import Mask, erk_densities, erk_mask, prunable_shapes, random_mask, uniform_densities
from fedfore.primitives.keys import Key
from fedfore.records.look import Look
from fedfore.records.plugin_kinds import figure, metric
from fedfore.tasks.dataset_spec import dataset
from fedfore.tasks.model_registry import model

__all__ = [
    "BPFreeConfig",
    "BPFreeMethod",
    "Cell",
    "Client",
    "ClientContext",
    "Context",
    "DynamicPruningConfig",
    "DynamicPruningMethod",
    "Estimate",
    "ForesightConfig",
    "ForesightPruning",
    "Fraction",
    "Key",
    "Look",
    "Mask",
    "Message",
    "Method",
    "Observer",
    "ServerContext",
    "Skip",
    "Update",
    "View",
    "Work",
    "dataset",
    "erk_densities",
    "erk_mask",
    "figure",
    "metric",
    "model",
    "prunable_shapes",
    "random_mask",
    "shares",
    "uniform_densities",
]
