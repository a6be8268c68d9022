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


def executor_of(
    name: str, workers: int | None, *, processes: int = 1, shared: bool = False, gpus: float | None = None
) -> Executor:
    """Return the executor of this name with at most so many workers, of which this machine has no more than CPUs.

    A worker takes as many CPUs as a cell has `processes`. None is as many as there are, and 0 workers are this process.
    The name may be the address of a Ray cluster; whether its nodes see the run's folder, and how many GPUs a cell
    takes, is asked of Ray alone. Raises ConfigError for a name that there is not, and where Ray is not installed.
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
    most = most_workers(processes)
    return Processes(min(workers or most, most))


def most_workers(processes: int) -> int:
    """Return how many cells of so many processes each this machine has CPUs for, one at least."""
    return max(1, usable_cpus() // processes)


def is_elsewhere(executor: str) -> bool:
    """Return whether cells may run on other machines, with other devices and data than this one."""
    return ray_address(executor) not in (None, "local")


def processes_of(asked: int, executor: str, device: str) -> int:
    """Return how many processes share the clients of a cell: as many as are asked for, at most this machine's CPUs.

    Raises ConfigError where cells run on other machines, or on a device that processes cannot share.
    """
    if asked > 1 and ray_address(executor) is not None:
        raise ConfigError("--processes-per-cell goes with cells of this machine; leave it out with Ray.")
    if asked > 1 and device != "cpu":
        raise ConfigError(f"--processes-per-cell goes with --device cpu; leave it out with --device {device}.")
    return min(asked, usable_cpus())


def ray_address(name: str) -> str | None:
    """Return the address of the Ray that an executor's name asks for, "local" for one on this machine, or None."""
    if name == "ray":
        return os.environ.get("RAY_ADDRESS") or "local"
    return name if ADDRESS.fullmatch(name) else None
