"""`fedfore data`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import add_data_dir

HELP = "download a data set: fedfore data get NAME"
EXAMPLES = ("fedfore data get cifar10", "fedfore data get mnist --data-dir my_data")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("get",))
    parser.add_argument("name")
    add_data_dir(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.tasks.datasets import spec
    from fedfore.tasks.download import download
    from fedfore.tasks.files import data_root

    download(options.name, options.data_dir)
    place = f"in {data_root(options.data_dir)}" if spec(options.name).downloadable else "part of the suite"
    print(f"{options.name} is {place}")
    return 0
