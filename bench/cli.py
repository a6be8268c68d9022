"""The `fedfore` command: the only module that prints or exits."""

from __future__ import annotations

import argparse
import io
import json
import os
import shlex
import signal
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tqdm import tqdm

from bench.arguments import Verb, parser_of
from bench.errors import ConfigError, FedForeError, printable, suggestion
from bench.listings import listing, plan_lines
from bench.provenance import environment, git_commit


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = parser_of(VERBS).parse_args(arguments)
    options.command = shlex.join(["fedfore", *arguments])
    options.status = None
    try:
        status = int(options.verb(options))
        sys.stdout.flush()
        return status
    except FedForeError as error:
        _complain(f"fedfore: {printable(str(error))}")
        return 2
    except KeyboardInterrupt:
        _complain("\nfedfore: interrupted; finished cells are kept, the same command goes on from here.")
        return 130
    except BrokenPipeError:
        return options.status or 0
    except OSError as error:
        _complain(f"fedfore: cannot read or write {error.filename or 'the output'}: {error.strerror or error}.")
        return 2 if options.status is None else options.status


def _complain(sentence: str) -> None:
    """Print to stderr, if it is still there."""
    with suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def entry() -> None:
    """Exit with the status of `main`.

    SIGTERM, as schedulers send it, interrupts as Ctrl-C does. Nothing depends on the user's display or on the encoding
    of the streams, and what a stream that has gone away still buffers is dropped.
    """
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    os.environ["MPLBACKEND"] = "agg"
    streams = (sys.stdout, sys.stderr)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    status = main()
    for stream in streams:
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    sys.exit(status)


def _planned(options: argparse.Namespace) -> tuple[Path, list[Any], Mapping[str, Any]]:
    from bench.matrix import merged_entries, resolve
    from bench.matrix_file import find_matrix, read_matrix
    from bench.registry import discover

    methods = discover(options.plugins)
    path = find_matrix(options.matrix)
    document = read_matrix(path, options.overrides)
    planned = resolve(document, methods)
    for sentence in merged_entries(document):
        _complain(f"fedfore: {printable(sentence)}")
    return path, planned, methods


def _run(options: argparse.Namespace) -> int:
    from bench.outcomes import failure, what_went_wrong
    from bench.runner import Progress, RunOptions, available_cpus, run_plan
    from bench.store import DONE, remarks

    here = Path.cwd()  # a method may go elsewhere
    options.plugins = [here / folder for folder in options.plugins]
    path, planned, methods = _planned(options)
    run = options.out or Path("results") / "runs" / path.stem
    settings = RunOptions(
        run=here / run,
        command=options.command,
        workers=options.workers or available_cpus(),
        device=options.device,
        rerun=options.rerun,
        data_dir=here / options.data_dir if options.data_dir else None,
        plugins=tuple(folder.resolve() for folder in options.plugins),
        extend=options.extend,
        timeout_seconds=options.timeout,
    )
    bars: list[tqdm[Any]] = []

    def start(launched: int, kept: int, stale: int) -> None:
        there = f"{kept} already there{f', {stale} of them stale' if stale else ''}"
        _complain(f"{len(planned)} cells planned, {there}, {launched} to run in {run}")
        with suppress(OSError):
            bars.append(tqdm(total=launched, unit="cell", desc=path.stem, dynamic_ncols=True, disable=not launched))

    def done(record: Mapping[str, Any]) -> None:
        with suppress(OSError):
            for bar in bars:
                bar.update()
                if record["status"] not in DONE:
                    bar.write(failure(settings.run, record), file=sys.stderr)

    try:
        outcome = run_plan(planned, methods, settings, Progress(start, done))
    finally:
        for bar in bars:
            with suppress(OSError):
                bar.close()
    options.status = 0 if outcome.is_complete else 1
    from plots.report import write_report
    from plots.tables import render

    try:
        report = write_report(settings.run)
        print(render(settings.run, "markdown"))
        print("".join(f"{remark}\n\n" for remark in remarks(settings.run)), end="")
        print("".join(what_went_wrong(settings.run, outcome)), end="")
    except FedForeError as error:  # something did run
        _complain(f"fedfore: {printable(str(error))}")
        return 1
    print(f"Report: {run / report.name}")
    return int(options.status)


def _plan(options: argparse.Namespace) -> int:
    _, planned, _ = _planned(options)
    for line in plan_lines(planned):
        print(line)
    return 0


def _ls(options: argparse.Namespace) -> int:
    for name, text in listing(options.what, options.plugins):
        print(f"{name:<32} {text}")
    return 0


def _check(options: argparse.Namespace) -> int:
    from bench.conformance import check_method
    from bench.registry import discover

    methods = discover(options.plugins)
    broken = 0
    for name in options.methods or methods:
        if name not in methods:
            raise ConfigError(f'There is no method "{name}".{suggestion(name, methods)}')
        for finding in check_method(methods[name]):
            broken += finding.outcome == "broken"
            reason = f": {finding.sentence}" if finding.sentence else ""
            print(f"{finding.outcome:<7} {name:<16} {finding.rule}{reason}")
    return 1 if broken else 0


def _show(options: argparse.Namespace) -> int:
    from plots.tables import render

    _remark(options.run)
    shown = render(options.run, options.format or "markdown", reasons=True)
    if isinstance(shown, bytes):
        sys.stdout.buffer.write(shown)
    else:
        print(shown)
    return 0


def _plot(options: argparse.Namespace) -> int:
    from plots.figures import write_figures
    from plots.lines import damaged_files

    _remark(options.run)
    for figure in write_figures(options.run, options.width):
        print(figure.png)
    for sentence in damaged_files(options.run):
        _complain(f"fedfore: {sentence}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from plots.report import write_report

    _remark(options.run)
    print(write_report(options.run))
    return 0


def _remark(run: Path) -> None:
    from bench.store import remarks

    for remark in remarks(run):
        _complain(f"fedfore: {remark}")


def _messages(options: argparse.Namespace) -> int:
    from bench.messages import client_exchanges

    found, text = client_exchanges(
        options.model,
        options.dataset,
        options.clients,
        options.batch_size,
        options.num_perturbations,
        options.sparsity,
        options.wire_precision,
    )
    print(json.dumps(asdict(found), indent=1) if options.json else text)
    return 0


def _cost(options: argparse.Namespace) -> int:
    from bench.cost import cost_record
    from bench.matrix_file import apply_override
    from bench.registry import discover
    from plots.cost_table import cost_table

    point = {name: [getattr(options, name)] for name in ("method", "dataset", "model", "sparsity", "seed")}
    if options.alpha is not None:
        point["alpha"] = [options.alpha]
    document: dict[str, Any] = {"grid": point, "train": {"meter_only": True, "batch_size": options.batch}}
    for override in options.overrides:
        apply_override(document, override)
    record = cost_record(document, discover(options.plugins), options.run)
    print(json.dumps(record, indent=1, allow_nan=False) if options.json else cost_table(record))
    return 0


def _data(options: argparse.Namespace) -> int:
    from bench.data import data_root, download, spec

    download(options.name, options.data_dir)
    place = f"in {data_root(options.data_dir)}" if spec(options.name).downloadable else "part of an installed package"
    print(f"{options.name} is {place}")
    return 0


def _env(options: argparse.Namespace) -> int:
    print(json.dumps({**environment(), "git_commit": git_commit()}, indent=1))
    return 0


VERBS: Mapping[str, Verb] = {
    "run": _run,
    "plan": _plan,
    "ls": _ls,
    "check": _check,
    "show": _show,
    "plot": _plot,
    "report": _report,
    "messages": _messages,
    "cost": _cost,
    "data": _data,
    "env": _env,
}

if __name__ == "__main__":
    entry()
