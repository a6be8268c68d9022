"""The code hashes of a past commit by its own rules: run as a program on its files, apart from the present package.

Its arguments are the folder with the commit's files and the file to write; it needs nothing but the standard library.
"""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

PLACES = ("fedfore.records.code_hash", "bench.code_hash", "bench.provenance")
"""Where the hashing function of a commit may stand, the latest layout first; `bench/` is the package in all of them."""
FIRST_SCHEME = 1
"""Of a commit whose code did not name schemes yet."""
FOLDERS = ("methods", "baselines")


def hashes(tree: Path) -> dict[str, Any]:
    """Return the `scheme` of the function that hashes code in these files, and by it the `sha256` of every method's.

    Raises ImportError where there is no such function.
    """
    for place in PLACES:
        package, _, inside = place.partition(".")
        if (tree / "bench" / inside.replace(".", "/")).with_suffix(".py").is_file():
            sys.modules[package] = ModuleType(package)
            sys.modules[package].__path__ = [str(tree / "bench")]
            own = importlib.import_module(place)
            files = sorted(file for folder in FOLDERS for file in (tree / folder).glob("[!_]*.py"))
            sha256 = {file.stem: own.code_sha256(file) for file in files}
            return {"scheme": getattr(own, "HASH_SCHEME", FIRST_SCHEME), "sha256": sha256}
    raise ImportError(f"no file of {tree} hashes the code of a method")


if __name__ == "__main__":
    folder, answer = map(Path, sys.argv[1:])
    answer.write_text(json.dumps(hashes(folder)), encoding="utf-8")
