"""The verbs of the `fedfore` command, one module each, in the order in which `--help` shows them.

A verb says what it is for (`HELP`), shows two commands (`EXAMPLES`), adds its arguments to its parser and, asked,
returns an exit status. To add one, write its module and put it into `VERBS`. What needs torch, pandas or plots is
imported inside `execute`.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Protocol

from fedfore.cli.verbs import (
    check,
    compare,
    cost,
    data,
    env,
    export,
    ls,
    merge,
    messages,
    new,
    partition,
    plan,
    plot,
    publish,
    refresh,
    report,
    reproduce,
    run,
    show,
    status,
    verdicts,
    verify,
)


class Verb(Protocol):
    """What a module of this folder gives."""

    HELP: str
    EXAMPLES: tuple[str, str]

    def add_arguments(self, parser: argparse.ArgumentParser) -> None:
        """Add what this verb can be asked."""

    def execute(self, options: argparse.Namespace) -> int:
        """Do what was asked; return the exit status."""


VERBS: Mapping[str, Verb] = {
    "run": run,
    "status": status,
    "plan": plan,
    "ls": ls,
    "new": new,
    "check": check,
    "show": show,
    "plot": plot,
    "report": report,
    "export": export,
    "compare": compare,
    "verdicts": verdicts,
    "refresh": refresh,
    "verify": verify,
    "reproduce": reproduce,
    "merge": merge,
    "publish": publish,
    "partition": partition,
    "messages": messages,
    "cost": cost,
    "data": data,
    "env": env,
}
