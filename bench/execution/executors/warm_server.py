"""The server that cells are forked from: it has imported torch and the suite, and no plug-in, data or model. No torch.

One thread a cell, nothing that is printed is lost in a crash, and signals to whoever starts cells reach neither it nor,
but for SIGTERM, them.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker
from types import ModuleType

from fedfore.federation.forks import end_with_parent

ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "OMP_WAIT_POLICY": "passive",
    "PYTHONUNBUFFERED": "1",
    "PYTHONFAULTHANDLER": "1",
}
TUNABLES, HUGE_PAGES = "GLIBC_TUNABLES", "glibc.malloc.hugetlb=1"
"""The allocator asks for huge pages, where the kernel gives them on demand: the same numbers in less time (see `make
benchmark`). What the user says of the allocator comes after it, and counts."""
TO_STARTER = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

CONTEXT = get_context("forkserver")
CONTEXT.set_forkserver_preload(["fedfore.execution.worker", "torch._dynamo"])
"""The latter is imported by the first optimizer of torch in a process, for a second and a half."""


def warm_up() -> None:
    """Start the server, which imports while this process goes on."""
    with for_the_server():
        forkserver.ensure_running()


@contextmanager
def for_the_server() -> Iterator[None]:
    """What is started inside is the server or forked from it, and has nothing of this process that would matter."""
    resource_tracker.ensure_running()  # it would unblock signals
    with _server_environment(), _no_main_module(), _blocked(TO_STARTER):
        yield


def end_with_the_server() -> None:
    """Have the kernel kill this process, forked from the server, when the server ends, as it does with its starter.

    Whatever a cell does then, as a loop that gives no other thread its turn. Linux only.
    """
    keeps_server_alive = getattr(forkserver._forkserver, "_forkserver_alive_fd", None)
    if keeps_server_alive is not None:
        os.close(keeps_server_alive)
    end_with_parent()


@contextmanager
def _server_environment() -> Iterator[None]:
    tunables = ":".join(filter(None, (HUGE_PAGES, os.environ.get(TUNABLES))))
    environment = {**ENVIRONMENT, TUNABLES: tunables}
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _blocked(signals: Iterable[signal.Signals]) -> Iterator[None]:
    """Keep signals waiting; a process that is started inside keeps them waiting for ever."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _no_main_module() -> Iterator[None]:
    """Have the process that is started inside import nothing of the program that starts it, such as a user's script."""
    main = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = main
