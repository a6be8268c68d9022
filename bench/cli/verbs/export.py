"""`fedfore export`."""

from __future__ import annotations

import argparse
from pathlib import Path

HELP = "write the evaluated rounds of a run, live or finished, as event files for TensorBoard"
EXAMPLES = (
    "fedfore export results/runs/quick --tensorboard logs",
    "fedfore export results/quick --tensorboard logs",
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("run", type=Path, metavar="RUN")
    parser.add_argument(
        "--tensorboard", type=Path, required=True, metavar="DIR",
        help="a folder for `tensorboard --logdir DIR`; the same command again adds what is new",
    )  # fmt: skip


def execute(options: argparse.Namespace) -> int:
    from fedfore.records.event_files import export_events
    from fedfore.records.store import open_run

    written = export_events(open_run(options.run), options.tensorboard)
    print(f"{options.tensorboard}: {len(written)} cells have new rounds")
    return 0
