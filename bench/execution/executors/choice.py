"""From what a user asks for to an executor."""

from __future__ import annotations

from fedfore.errors import ConfigError, suggestion
from fedfore.execution.executors.executor import Executor
from fedfore.execution.executors.inline import Inline
from fedfore.execution.executors.machine import usable_cpus
from fedfore.execution.executors.processes import Processes

EXECUTORS = ("processes", "inline")


def executor_of(name: str, workers: int | None) -> Executor:
    """Return the executor of this name with at most so many workers, of which this machine has no more than CPUs.

    None is as many as there are, and 0 workers are this process. Raises ConfigError for a name that there is not.
    """
    if name not in EXECUTORS:
        raise ConfigError(f'There is no executor "{name}".{suggestion(name, EXECUTORS)}')
    if name == "inline" or workers == 0:
        return Inline()
    cpus = usable_cpus()
    return Processes(min(workers or cpus, cpus))
