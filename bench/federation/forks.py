"""Work that is shared among processes, each forked from this one for it and gone when it is done. No torch."""

from __future__ import annotations

import ctypes
import os
import pickle
import signal
import struct
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.context import ForkProcess
from typing import Any

from fedfore.primitives.mapping import Item, Result

FORK = get_context("fork")
PR_SET_PDEATHSIG = 1
"""Of linux/prctl.h."""
TOKEN = struct.Struct("<I")
LAST_WORDS = 1.0
"""Seconds for which a process that has sent all may still write what it has printed."""
MOST_TOKENS = 4096
"""What a pipe has room for, many times."""

Guard = Callable[[], AbstractContextManager[None]]
"""Makes what a process works in: it raises where the process has changed what is lost with it and must not be."""


def shared(work: Callable[[Item], Result], items: Sequence[Item], processes: int, guard: Guard) -> Iterator[Result]:
    """Yield `work(item)` for all items in their order, made by so many processes, each of which takes the next item.

    All begin as this process is. What one of them does not bring back, as it died or something was raised in it, is
    made here, under the guard: so everything raised is raised here, for the first item of which serial work would raise
    it. Nobody waits long for a thread or a process that the work has left behind.
    """
    if processes == 1:
        yield from map(work, items)
        return
    queue, running, made = _queue(len(items)), list[tuple[ForkProcess, Connection]](), dict[int, bytes]()
    try:
        for _ in range(min(processes, len(items))):
            received, sent = FORK.Pipe(duplex=False)
            with sent:
                process = FORK.Process(target=_take_part, args=(os.getpid(), work, items, queue, guard, sent))
                running.append((process, received))
                process.start()
        for process, received in running:
            with suppress(EOFError):
                while (brought := received.recv()) is not None:
                    number, result = brought
                    made[number] = result
            process.join(LAST_WORDS)
    finally:
        os.close(queue)
        started = [process for process, _ in running if process.pid is not None]
        for process in started:
            process.kill()
        for process in started:
            process.join()
        for _, received in running:
            received.close()
    lost = len(items) - len(made)
    if lost:
        warnings.warn(f"A process of this cell's ended early: {lost} items are worked on again.", stacklevel=2)
    for number, item in enumerate(items):
        if number in made:
            yield pickle.loads(made.pop(number))
        else:
            with guard():
                again = work(item)
            yield again


def end_with_parent() -> None:
    """Have the kernel kill this process when the one that it was forked from ends, whatever this one does then.

    Linux only.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def _queue(count: int) -> int:
    """Return what to read the first of every span of items from, a token each; it ends with the last."""
    queue, written = os.pipe()
    with os.fdopen(written, "wb") as file:
        file.write(b"".join(TOKEN.pack(first) for first in range(0, count, _span(count))))
    return queue


def _span(count: int) -> int:
    return -(-count // MOST_TOKENS)


def _take_part(
    parent: int, work: Callable[[Item], Any], items: Sequence[Item], queue: int, guard: Guard, sent: Connection
) -> None:
    """Work on the next items as long as there are any, and send what came of it."""
    end_with_parent()
    if os.getppid() != parent:
        return
    for ignored in (signal.SIGINT, signal.SIGTERM):
        signal.signal(ignored, signal.SIG_IGN)
    span, made = _span(len(items)), list[tuple[int, bytes]]()
    with guard():
        while token := os.read(queue, TOKEN.size):
            (first,) = TOKEN.unpack(token)
            for number in range(first, min(first + span, len(items))):
                made.append((number, pickle.dumps(work(items[number]))))
    for one in (*made, None):
        sent.send(one)
