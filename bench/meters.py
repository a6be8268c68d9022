"""Meters: what a device's update costs, and clock accounts. The harness runs them; a method never sees them.

A device's cost is metered on its real `client_update`, run on throw-away copies of the model with the on-device
algorithm (`finite_difference` for a zeroth-order method), on 2 batches of data and, where the update draws more for
more, on 1: cost = fixed + per batch x batches. The cost is linear in `num_perturbations`, which is metered at two small
values, and long `local_steps` are metered as 1 and 2. Metering on the CPU gives the same bytes on all machines.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.grad_mode import set_multithreading_enabled
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from bench.contract import Client, ClientContext, Method, Update, instantiate
from bench.flops import FlopCounter, ForwardMacs, forward_macs
from bench.masks import Mask
from bench.memory import ACCOUNTS, LiveBytes, cheapest_bytes, sparse_saving
from bench.primitives.accounting import Account, account, current_account
from bench.primitives.flat import flat_parameters
from bench.primitives.zeroth_order import CHUNK

__all__ = [
    "ACCOUNTS", "CLOCKS", "Clock", "DeviceCost", "DeviceSetting", "ForwardMacs", "StepCost", "StepMeter",
    "cheapest_bytes", "forward_macs", "meter_device", "sparse_saving",
]  # fmt: skip
