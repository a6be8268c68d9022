"""`fedfore new`."""

from __future__ import annotations

import argparse
import shlex
from pathlib import Path

from fedfore.errors import ConfigError, PluginError
from fedfore.templates import KINDS, source

HELP = "write a plug-in file to begin with: a small one that works"
EXAMPLES = ("fedfore new my_method", "fedfore new my_mask --kind pruning --dir my_methods")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="of the method, and of its file")
    parser.add_argument("--kind", choices=KINDS, default=KINDS[0], help="the base that it starts from [method]")
    parser.add_argument("--dir", type=Path, default=Path(), metavar="DIR", help="the folder of the file [here]")


def execute(options: argparse.Namespace) -> int:
    from fedfore.contract.plugin_files import NAME
    from fedfore.contract.registry import discover

    name, folder = options.name, options.dir
    if not NAME.fullmatch(name):
        raise ConfigError(f'"{name}" is no name: use letters, digits, _ and -, and begin with a letter or a digit.')
    if name in discover(only=name):
        raise ConfigError(f'There is a method "{name}" already (`fedfore ls methods`); choose another name.')
    if not folder.is_dir():
        raise PluginError(f"--dir {folder} is no folder; make it first.")
    file = folder / f"{name}.py"
    try:
        with file.open("x", encoding="utf-8") as stream:
            stream.write(source(options.kind, name))
    except FileExistsError:
        raise ConfigError(f"{file} is there already, and stays as it is; choose another name, or move it.") from None
    plugins = ["--plugins", str(folder)]
    run = ["fedfore", "run", "quick", "--set", f'method=["fedavg","{name}"]', *plugins, "--out", f"results/runs/{name}"]
    print(f"{file}\n\nNext:\n  {shlex.join(['fedfore', 'check', name, *plugins])}\n  {shlex.join(run)}")
    return 0
