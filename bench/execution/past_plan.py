"""What a past commit makes of a matrix by its own rules: run as a program on its files, apart from the present ones.

Its arguments are the folder with the commit's files, the file to write, and a JSON object of the `matrix` and of the
`trials` of its tuning that have ended (see `trials.Ended`).
"""

from __future__ import annotations

import importlib
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType
from typing import Any

LAYOUTS = {
    "fedfore": ("fedfore.execution.matrix", "fedfore.contract.registry"),
    "bench": ("bench.matrix", "bench.registry"),
}
"""Where the modules that resolve a matrix and that find methods may stand, by the name of the package in `bench/`."""
TUNING, CHOICES = "fedfore.execution.tuning", "fedfore.records.choices"
"""Where a commit plans by stages, if it does, and how it writes what was chosen."""


def planned(tree: Path, asked: Path) -> dict[str, Any]:
    """Return the `ids` of a matrix's cells, its `choices` and the `defaults` of all methods' parameters, by this code.

    Raises ImportError where it is not to be found.
    """
    for package, (matrices, registry) in LAYOUTS.items():
        if _has(tree, matrices):
            sys.path.insert(0, str(tree))
            parts = {package: tree / "bench"}
            if package == "fedfore":
                parts |= {f"fedfore.{part}": tree / part for part in ("methods", "baselines")}
            for name, folder in parts.items():
                sys.modules[name] = ModuleType(name)
                sys.modules[name].__path__ = [str(folder)]
            methods = importlib.import_module(registry).discover()
            question = json.loads(asked.read_text(encoding="utf-8"))
            if _has(tree, TUNING):
                found = _staged(question, methods)
            else:
                cells = importlib.import_module(matrices).resolve(question["matrix"], methods)
                found = {"ids": [item.cell.id for item in cells], "choices": None}
            usable = {name: entry.method for name, entry in methods.items() if entry.method}
            defaults = {name: asdict(method.Config()) for name, method in usable.items()}
            return {**found, "defaults": defaults}
    raise ImportError(f"no file of {tree} resolves a matrix")


def _has(tree: Path, module: str) -> bool:
    return (tree / "bench" / module.partition(".")[2].replace(".", "/")).with_suffix(".py").is_file()


def _staged(question: dict[str, Any], methods: Any) -> dict[str, Any]:
    plan = importlib.import_module(TUNING).staged_plan(question["matrix"], methods, question["trials"])
    tuning = plan.tuning and importlib.import_module(CHOICES).tuning_to_json(plan.tuning)
    return {"ids": plan.ids, "choices": tuning and tuning["choices"]}


if __name__ == "__main__":
    folder, answer, question = map(Path, sys.argv[1:])
    answer.write_text(json.dumps(planned(folder, question)), encoding="utf-8")
