"""Where a record was made: the environment and the git commit. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path

from fedfore.records.history import DIRTY, git_text
from fedfore.records.sources import ROOT

PACKAGES = ("fedfore", "torch", "torchvision", "numpy", "scipy", "pandas")
INSTRUCTION_SETS = ("avx512f", "avx2", "asimd")
"""Vector instructions by which results differ in their last digits, the widest first, as the kernel names them."""


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpuinfo(*names: str) -> str | None:
    """Return the first value of one of these lines of the kernel's description of the processor."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    values = (line.split(":", 1)[1].strip() for line in lines if line.partition("\t")[0].strip() in names)
    return next(values, None)


def instruction_set() -> str | None:
    """Return the widest vector instructions of the processor, None where the system does not say."""
    flags = (_cpuinfo("flags", "Features") or "").split()
    return next((name for name in INSTRUCTION_SETS if name in flags), None)


def environment() -> dict[str, object]:
    """Return versions, platform and processor; no host name, user or path."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _cpuinfo("model name") or platform.processor() or platform.machine(),
        "instruction_set": instruction_set(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "implementation": sys.implementation.name,
    }


def environment_hash(values: Mapping[str, object]) -> str:
    """Return a short name for an environment."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def is_environment(values: object) -> bool:
    """Return whether a JSON value is what is stored of an environment: an object, the packages of which are one."""
    return isinstance(values, dict) and isinstance(values.get("packages", {}), dict)


def git_commit() -> str | None:
    """Return the commit of the suite's checkout; `-dirty` where files beside results differ.

    None where the suite is installed, also into an environment inside of somebody else's repository.
    """
    top = git_text(ROOT, "rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != ROOT.resolve():
        return None
    commit = git_text(ROOT, "rev-parse", "HEAD")
    changed = git_text(ROOT, "status", "--porcelain", "--untracked-files=no", "--", ".", ":(exclude)results")
    return f"{commit}{DIRTY}" if commit and changed else commit
