"""What this process may use of its machine: CPUs and memory, within the limits of its control groups. Linux."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path

PROC, CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
KIB = 1024


def usable_cpus(proc: Path = PROC, cgroups: Path = CGROUPS) -> int:
    """Return the CPUs that this process may use: those of its affinity, at most its quota, and at least 1."""
    cpus = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    for folder in _groups(proc, cgroups):
        quota, period = _numbers(folder / "cpu.max") or (None, None)
        if quota is None:
            quota = next(iter(_numbers(folder / "cpu.cfs_quota_us")), None)
            period = next(iter(_numbers(folder / "cpu.cfs_period_us")), None)
        if quota is not None and period and quota > 0:
            cpus = min(cpus, quota / period)
    return max(1, int(cpus))


def available_memory(proc: Path = PROC, cgroups: Path = CGROUPS) -> int | None:
    """Return the bytes that can be taken without swapping; None where the machine does not tell."""
    free = _kibibytes(proc / "meminfo", "MemAvailable")
    found = [] if free is None else [free]
    for folder in _groups(proc, cgroups):
        for limit, usage in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            most, used = _numbers(folder / limit), _numbers(folder / usage)
            if most and used and most[0] is not None and used[0] is not None:
                found.append(int(most[0] - used[0] + _reclaimable(folder / "memory.stat")))
    return max(0, min(found)) if found else None


def resident_bytes(pid: int, *, peak: bool = False, proc: Path = PROC) -> int:
    """Return the resident set of a process, or its largest so far; 0 of a process that is gone."""
    return _kibibytes(proc / str(pid) / "status", "VmHWM" if peak else "VmRSS") or 0


@contextmanager
def within_free_memory() -> Iterator[None]:
    """Have an allocation fail that this machine has no memory for, where the kernel would kill some process. Linux."""
    free, taken = available_memory(), _kibibytes(PROC / "self" / "status", "VmData")
    if free is None or taken is None:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = taken + free
    resource.setrlimit(resource.RLIMIT_DATA, (limit if soft == resource.RLIM_INFINITY else min(soft, limit), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _groups(proc: Path, cgroups: Path) -> Iterator[Path]:
    """Yield the folders of this process's control groups and of all above them, of both versions."""
    for line in _text(proc / "self" / "cgroup").splitlines():
        _, controllers, place = line.split(":", 2)
        root = cgroups / controllers if controllers else cgroups
        folder = root / place.lstrip("/")
        if not folder.is_dir():
            folder = root
        yield from (one for one in (folder, *folder.parents) if one.is_relative_to(root) and one.is_dir())


def _numbers(path: Path) -> tuple[float | None, ...]:
    """Return the numbers in a file of one line, None for a word such as "max"; nothing where there is no such file."""
    return tuple(float(word) if word.lstrip("-").isdigit() else None for word in _text(path).split())


def _reclaimable(path: Path) -> int:
    words = _text(path).split()
    return next((int(size) for name, size in pairwise(words) if name == "inactive_file"), 0)


def _kibibytes(path: Path, name: str) -> int | None:
    """Return a row of a file of /proc that counts in kB, in bytes."""
    for line in _text(path).splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * KIB
    return None


def _text(path: Path) -> str:
    with suppress(OSError):
        return path.read_text(encoding="utf-8")
    return ""
