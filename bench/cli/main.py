"""The `fedfore` command: from its arguments to an exit status, every error a sentence."""

from __future__ import annotations

import io
import os
import shlex
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from fedfore.cli.parser import parser
from fedfore.display.output import complain
from fedfore.errors import FedForeError, printable


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser().parse_args(arguments)
    options.command = shlex.join(["fedfore", *arguments])
    options.status = None
    try:
        status = int(options.execute(options))
        sys.stdout.flush()
        return status
    except FedForeError as error:
        complain(f"fedfore: {printable(str(error))}")
        return 2
    except KeyboardInterrupt:
        complain(f"\nfedfore: interrupted{options.kept}.")
        return 130
    except BrokenPipeError:
        return options.status or 0
    except OSError as error:
        complain(f"fedfore: cannot read or write {error.filename or 'the output'}: {error.strerror or error}.")
        return 2 if options.status is None else options.status


def entry() -> None:
    """Exit with the status of `main`.

    SIGTERM, as schedulers send it, and SIGHUP, of a terminal that was closed, interrupt as Ctrl-C does. Nothing depends
    on the user's display or on the encoding of the streams, and what a stream that has gone away still buffers is
    dropped.
    """
    for stops in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(stops) is not signal.SIG_IGN:  # as nohup has it
            signal.signal(stops, signal.default_int_handler)
    os.environ["MPLBACKEND"] = "agg"
    if not (sys.stdout and sys.stderr):  # closed by whoever started this process
        nowhere = Path(os.devnull).open("w", encoding="utf-8")  # noqa: SIM115 - open until the end
        sys.stdout, sys.stderr = sys.stdout or nowhere, sys.stderr or nowhere
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status: int | str | None
    try:
        status = main()
    except SystemExit as asked:  # as --help and what cannot be parsed end
        status = asked.code
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


if __name__ == "__main__":
    entry()
