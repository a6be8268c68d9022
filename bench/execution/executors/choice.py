"""From what a user asks for to an executor."""

from __future__ import annotations

import os
import re

from fedfore.errors import ConfigError, suggestion
from fedfore.execution.executors.executor import Executor
from fedfore.execution.executors.inline import Inline
from fedfore.execution.executors.machine import usable_cpus
from fedfore.execution.executors.processes import Processes

EXECUTORS = ("processes", "inline", "ray")
ADDRESS = re.compile(r"auto|ray://\S+|[^\s:/]+:\d+|\[[\da-fA-F:.]+\]:\d+")
"""What names a Ray cluster, as `ray.init` takes it."""
RAY_SETTINGS = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_task_oom_retries": "3", "RAY_worker_niceness": "0"}
"""What Ray reads at its import, unless the user says otherwise: report nothing, do not try for ever what is too large
for a node, and give a cell as much of a CPU as any other process has."""


def executor_of(name: str, workers: int | None, *, shared: bool = False, gpus: float | None = None) -> Executor:
    """Return the executor of this name with at most so many workers, of which this machine has no more than CPUs.

    None is as many as there are, and 0 workers are this process. The name may be the address of a Ray cluster; whether
    its nodes see the run's folder, and how many GPUs a cell takes, is asked of Ray alone. Raises ConfigError for a name
    that there is not, and where Ray is not installed.
    """
    address = ray_address(name)
    if name not in EXECUTORS and address is None:
        raise ConfigError(f'There is no executor "{name}".{suggestion(name, EXECUTORS)}')
    if address is None and (shared or gpus is not None):
        raise ConfigError(f"{'--shared' if shared else '--gpus'} goes with --executor ray, or a cluster's address.")
    if name == "inline" or workers == 0:
        return Inline()
    if address is not None:
        try:
            for setting, value in RAY_SETTINGS.items():
                os.environ.setdefault(setting, value)
            from fedfore.execution.executors.ray_cluster import RayCluster
        except ImportError:
            raise ConfigError(f'--executor {name} needs Ray: pip install "fedfore[ray]".') from None
        return RayCluster(address, workers, shared, 1.0 if gpus is None else gpus)
    cpus = usable_cpus()
    return Processes(min(workers or cpus, cpus))


def ray_address(name: str) -> str | None:
    """Return the address of the Ray that an executor's name asks for, "local" for one on this machine, or None."""
    if name == "ray":
        return os.environ.get("RAY_ADDRESS") or "local"
    return name if ADDRESS.fullmatch(name) else None
