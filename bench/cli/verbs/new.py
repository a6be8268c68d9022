"""`fedfore new`."""

from __future__ import annotations

import argparse
import json
import keyword
import shlex
import sys
from importlib.metadata import packages_distributions
from pathlib import Path

from fedfore.errors import ConfigError, PluginError
from fedfore.templates import FUNCTIONS, KINDS, source

HELP = "write a plug-in file to begin with: a small one that works"
EXAMPLES = ("fedfore new my_method", "fedfore new my_mask --kind pruning --dir my_methods")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the method, data set or model, and of its file")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="what it is, or a method's base [method]")
    parser.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="the folder of the file [here]")


def execute(options: argparse.Namespace) -> int:
    name, kind, folder = options.name, options.kind, options.dir
    _check_name(name, kind)
    if not folder.is_dir():
        raise PluginError(f"--dir {folder} is no folder; make it first.")
    file = folder / f"{name}.py"
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(source(kind, name))
    except FileExistsError:
        raise ConfigError(f"{file} is there already, and stays as it is; choose another name, or move it.") from None
    print(f"{file}\n\nNext:\n  {_check(name, folder)}\n  {_run(name, kind, folder)}")
    return 0


def _check_name(name: str, kind: str) -> None:
    """Raise ConfigError for a name that no plug-in of this kind can have, or that is taken."""
    from fedfore.contract.plugin_files import NAME
    from fedfore.contract.registry import discover
    from fedfore.tasks.datasets import DATASETS
    from fedfore.tasks.model_registry import MODELS

    if not NAME.fullmatch(name):
        raise ConfigError(f'"{name}" is no name: use letters, digits, _ and -, and begin with a letter or a digit.')
    if kind in FUNCTIONS and (not name.isidentifier() or keyword.iskeyword(name)):
        raise ConfigError(f'"{name}" is no name of a function, which a {kind} is: use letters, digits and _.')
    if name in {"fedfore", *sys.stdlib_module_names, *packages_distributions()}:
        raise ConfigError(f'"{name}" is a module that is installed, which the file would hide; choose another name.')
    if name in {*discover(only=name), *DATASETS, *MODELS}:
        raise ConfigError(f'There is a "{name}" already (`fedfore ls`); choose another name.')


def _check(name: str, folder: Path) -> str:
    return shlex.join(["fedfore", "check", name, "--plugins", str(folder)])


def _run(name: str, kind: str, folder: Path) -> str:
    """Return the command that runs the file in the quick matrix, beside FedAvg or under it."""
    axes = {"method": ["fedavg"], kind: [name]} if kind in FUNCTIONS else {"method": ["fedavg", name]}
    sets = [word for axis, names in axes.items() for word in ("--set", f"{axis}={json.dumps(names)}")]
    sets += ["--set", "contrast="]  # of methods that are not in it
    return shlex.join(["fedfore", "run", "quick", *sets, "--plugins", str(folder), "--out", f"results/runs/{name}"])
