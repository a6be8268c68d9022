"""`fedfore env`."""

from __future__ import annotations

import argparse
import json

from fedfore.records.provenance import environment, git_commit

HELP = "print versions, processor and commit"
EXAMPLES = ("fedfore env", "fedfore env > environment.json")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    del parser


def execute(options: argparse.Namespace) -> int:
    del options
    print(json.dumps({**environment(), "git_commit": git_commit()}, indent=1))
    return 0
