"""What a past commit makes of a matrix by its own rules: run as a program on its files, apart from the present ones.

Its arguments are the folder with the commit's files, the file to write, and the matrix as a JSON document.
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


def planned(tree: Path, matrix: Path) -> dict[str, Any]:
    """Return the `ids` of a matrix's cells and the `defaults` of all methods' parameters, by the code in these files.

    Raises ImportError where it is not to be found.
    """
    for package, (matrices, registry) in LAYOUTS.items():
        if (tree / "bench" / matrices.partition(".")[2].replace(".", "/")).with_suffix(".py").is_file():
            sys.path.insert(0, str(tree))
            parts = {package: tree / "bench"}
            if package == "fedfore":
                parts |= {f"fedfore.{part}": tree / part for part in ("methods", "baselines")}
            for name, folder in parts.items():
                sys.modules[name] = ModuleType(name)
                sys.modules[name].__path__ = [str(folder)]
            methods = importlib.import_module(registry).discover()
            document = json.loads(matrix.read_text(encoding="utf-8"))
            cells = [item.cell for item in importlib.import_module(matrices).resolve(document, methods)]
            usable = {name: entry.method for name, entry in methods.items() if entry.method}
            defaults = {name: asdict(method.Config()) for name, method in usable.items()}
            return {"ids": [cell.id for cell in cells], "defaults": defaults}
    raise ImportError(f"no file of {tree} resolves a matrix")


if __name__ == "__main__":
    folder, answer, document = map(Path, sys.argv[1:])
    answer.write_text(json.dumps(planned(folder, document)), encoding="utf-8")
