"""Where a record comes from: the hash of the code it was computed with, the environment, the git commit. No torch."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = ("methods", "baselines")
PACKAGES = ("fedfore", "torch", "torchvision", "numpy", "scipy", "scikit-learn", "pandas", "fvcore")
# What a cell's numbers depend on, beside its method's file; reading matrices, storing, plotting and printing is not.
COMPUTING = (
    "api",
    "bp_free",
    "cell",
    "contract",
    "data",
    "diagnostics",
    "evaluation",
    "federated",
    "masks",
    "meters",
    "models",
    "partition",
    "record",
    "streams",
    "wire",
)


@cache
def _computing_files() -> tuple[Path, ...]:
    bench = ROOT / "bench"
    named = [bench / f"{name}.py" for name in COMPUTING]
    return tuple(path for path in [*named, *sorted((bench / "primitives").glob("*.py"))] if path.exists())


def code_sha256(method_file: Path) -> str:
    """Return the hash of a method's file and of everything in the harness that it computes with."""
    digest = hashlib.sha256()
    for path in (method_file, *_computing_files()):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def shipped_method_file(name: str) -> Path | None:
    """Return the file of a method that ships with the suite, without importing it, or None."""
    files = (ROOT / package / f"{name}.py" for package in SHIPPED)
    return next((path for path in files if path.exists()), None)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def environment() -> dict[str, object]:
    """Return versions, platform and processor; no host name, user or path."""
    return {
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "platform": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "cpus": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "implementation": sys.implementation.name,
    }


def environment_hash(values: Mapping[str, object]) -> str:
    """Return a short name for an environment."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


@cache
def git_commit() -> str | None:
    """Return the commit of the suite's checkout, with `-dirty` where tracked files differ, or None outside one."""
    command = ["git", "-C", str(ROOT), "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None if done.returncode == 0 else None
