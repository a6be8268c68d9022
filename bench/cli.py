"""The `fedfore` command: the only module that prints or exits."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import shlex
import signal
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, astuple, fields
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from tqdm import tqdm

from bench.cell import Cell, WirePrecision
from bench.errors import ConfigError, FedForeError, printable, suggestion
from bench.metrics import FIELDS, METRICS
from bench.provenance import environment, git_commit

if TYPE_CHECKING:
    from bench.runner import Outcome

EPILOG = """\
examples:
  fedfore run                                   the quick matrix, on embedded real digits, minutes
  fedfore run my.toml --set seed=[0,1,2,3,4]    your matrix, one axis replaced
  fedfore run my.toml --plugins my_methods/     with your own method files
  fedfore check my_method --plugins my_methods/ does my method keep the contract?
  fedfore show results/runs/quick --markdown    the summary table of a run

exit status: 0 every planned cell is ok or skipped, 1 some cell failed, 2 nothing ran.
"""
LISTS = ("methods", "datasets", "models", "metrics", "matrices")
FORMATS = ("json", "csv", "latex", "markdown", "parquet")


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    options = _parser().parse_args(arguments)
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="fedfore",
        description="Benchmarks for federated learning on low-memory devices.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="version", version=f"%(prog)s {version('fedfore')}")
    verbs = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")

    run = _verb(verbs, "run", _run, "run a matrix and write its report")
    _matrix_arguments(run)
    run.add_argument("--workers", type=_positive, metavar="N", help="processes [the CPUs this process may use]")
    run.add_argument("--device", default="cpu", help="cpu or cuda [cpu]")
    run.add_argument(
        "--rerun", choices=("missing", "failed", "stale", "all"), default="missing",
        help="which cells to run: without a record, also failed ones, also ones of older code, or all [missing]",
    )  # fmt: skip
    run.add_argument("--out", type=Path, metavar="RUN", help="run directory [results/runs/<matrix>]")
    run.add_argument("--extend", action="store_true", help="unite this plan with the one RUN already holds")
    run.add_argument("--timeout", type=_seconds, metavar="S", help="seconds after which a cell is stopped [none]")
    _data_dir(run)

    plan = _verb(verbs, "plan", _plan, "list the cells of a matrix without running them")
    _matrix_arguments(plan)

    ls = _verb(verbs, "ls", _ls, "list what there is")
    ls.add_argument("what", choices=LISTS)
    _plugins(ls)

    check = _verb(verbs, "check", _check, "try every rule of the plug-in contract on methods")
    check.add_argument("methods", nargs="*", metavar="METHOD", help="names [all]")
    _plugins(check)

    show = _verb(verbs, "show", _show, "print the results of a run")
    show.add_argument("run", type=Path, metavar="RUN")
    formats = show.add_mutually_exclusive_group()
    for name in FORMATS:
        formats.add_argument(f"--{name}", dest="format", action="store_const", const=name)

    plot = _verb(verbs, "plot", _plot, "draw the figures of a run")
    plot.add_argument("run", type=Path, metavar="RUN")
    plot.add_argument("--width", type=float, default=7.0, metavar="INCHES", help="3.3 suits one column of a paper [7]")

    report = _verb(verbs, "report", _report, "write the report of a run: one self-contained HTML file")
    report.add_argument("run", type=Path, metavar="RUN")

    messages = _verb(verbs, "messages", _messages, "print what exchanging training steps costs a client, in bytes")
    messages.add_argument("model", metavar="MODEL", help="such as lenet5 or resnet20:norm=group")
    messages.add_argument("--dataset", required=True, metavar="D")
    messages.add_argument("--clients", type=_positive, default=10, metavar="N", help="equal shares of the data [10]")
    messages.add_argument("--batch-size", type=_positive, default=32, metavar="B", help="[32]")
    messages.add_argument("--num-perturbations", type=_positive, default=500, metavar="K", help="[500]")
    messages.add_argument("--sparsity", type=_sparsity, default=0.0, metavar="S", help="of a mask on the model [0]")
    messages.add_argument(
        "--wire-precision", choices=get_args(WirePrecision), default="float32", help="the type of floats [float32]"
    )
    messages.add_argument("--json", action="store_true", help="every field, as JSON")

    cost = _verb(verbs, "cost", _cost, "print what a device would pay, without training and without data files")
    cost.add_argument("model", metavar="MODEL", help='a model with its options, such as "resnet20:norm=group"')
    cost.add_argument("--dataset", default="cifar10", help="whose shape the data have [cifar10]")
    cost.add_argument("--method", default="fedavg", help="[fedavg]")
    cost.add_argument("--sparsity", type=float, default=0.0, help="fraction of zeros among prunable weights [0]")
    cost.add_argument("--batch", type=_positive, default=32, help="examples of a batch [32]")
    cost.add_argument("--run", type=Path, metavar="RUN", help="take the layer densities of a stored mask [ERK's]")
    cost.add_argument("--alpha", metavar="A", help="of the stored mask, where RUN holds several [any]")
    cost.add_argument("--seed", type=int, default=0, metavar="S", help="of the stored mask [0]")
    cost.add_argument("--json", action="store_true", help="print the fields of a record")
    _overrides(cost)
    _plugins(cost)

    get = _verb(verbs, "data", _data, "download a data set: fedfore data get NAME")
    get.add_argument("action", choices=("get",))
    get.add_argument("name")
    _data_dir(get)

    _verb(verbs, "env", _env, "print versions, processor and commit")
    return parser


def _verb(verbs: Any, name: str, function: Any, text: str) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(name, help=text, description=f"{text[0].upper()}{text[1:]}.")
    parser.set_defaults(verb=function)
    return parser


def _matrix_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("matrix", nargs="?", default="quick", help="a TOML file or a shipped matrix [quick]")
    _overrides(parser)
    _plugins(parser)


def _overrides(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--set", action="append", default=[], dest="overrides", metavar="K=V",
        help="replace a key, such as seed=[0,1], train.clients=20, params.baffle.sigma=1e-3",
    )  # fmt: skip


def _plugins(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugins", action="append", type=Path, default=[], metavar="DIR", help="folder of method files"
    )


def _data_dir(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--data-dir", type=Path, metavar="D", help="data sets [$FEDFORE_DATA, else ~/.cache/fedfore/data]"
    )


def _positive(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError("must be at least 1")
    return value


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError("must be a positive number of seconds")
    return value


def _sparsity(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError("must lie in [0, 1)")
    return value


def _planned(options: argparse.Namespace) -> tuple[Path, list[Any], Mapping[str, Any]]:
    from bench.matrix import merged_entries, resolve
    from bench.matrix_file import find_matrix, read_matrix
    from bench.registry import discover

    methods = discover(options.plugins)
    path = find_matrix(options.matrix)
    document = read_matrix(path, options.overrides)
    planned = resolve(document, methods)
    for sentence in merged_entries(document):
        print(f"fedfore: {printable(sentence)}", file=sys.stderr)
    return path, planned, methods


def _run(options: argparse.Namespace) -> int:
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
        with suppress(OSError):
            print(f"{len(planned)} cells planned, {there}, {launched} to run in {run}", file=sys.stderr)
            bars.append(tqdm(total=launched, unit="cell", desc=path.stem, dynamic_ncols=True, disable=not launched))

    def done(record: Mapping[str, Any]) -> None:
        with suppress(OSError):
            for bar in bars:
                bar.update()
                if record["status"] not in DONE:
                    bar.write(_failure(settings.run, record), file=sys.stderr)

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
        print("".join(_what_went_wrong(settings.run, outcome)), end="")
    except FedForeError as error:  # something did run
        _complain(f"fedfore: {error}")
        return 1
    print(f"Report: {run / report.name}")
    return int(options.status)


def _what_went_wrong(run: Path, outcome: Outcome) -> Iterator[str]:
    """Yield a paragraph on the cells that did not finish, on reruns that failed and on cells without a record."""
    total = len(outcome.records) + len(outcome.missing)
    kinds = (
        (f"{len(outcome.unfinished)} of {total} cells did not finish:", outcome.unfinished),
        (f"{len(outcome.failures)} attempts failed, and left what was there before as it was:", outcome.failures),
    )
    for heading, records in kinds:
        if records:
            yield "\n".join([heading, *(_failure(run, record) for record in records)]) + "\n\n"
    if outcome.missing:
        yield (
            f"{len(outcome.missing)} of {total} planned cells have no record; run their matrices again, with the "
            f"commands that {run / 'plan.json'} names: {' '.join(outcome.missing)}\n\n"
        )


def _failure(run: Path, record: Mapping[str, Any]) -> str:
    from bench.store import traceback_file

    trace = traceback_file(run, record)
    seen = f" (traceback: {trace})" if trace else ""
    return printable(f"{record['status']}: {record['cell_id']}: {record['reason']}{seen}")


def _plan(options: argparse.Namespace) -> int:
    _, planned, _ = _planned(options)
    varying = _varying_settings([item.cell for item in planned])
    for item in planned:
        cell = item.cell
        words = [cell.dataset, cell.model, f"sparsity={cell.sparsity:g}", f"alpha={cell.alpha}", f"seed={cell.seed}"]
        if cell.estimator:
            words.append(cell.estimator)
        words += [f"{key}={value}" for key, value in _settings(cell).items() if (cell.method, key) in varying]
        print(f"{cell.id:<32} {' '.join(words)}{f'  skipped: {item.skip}' if item.skip else ''}")
    skipped = sum(item.skip is not None for item in planned)
    print(f"{len(planned)} cells, {skipped} of them skipped")
    return 0


def _settings(cell: Cell) -> dict[str, Any]:
    return dict(cell.params) | {f"train.{key}": value for key, value in asdict(cell.train).items()}


def _varying_settings(cells: Sequence[Cell]) -> set[tuple[str, str]]:
    """Return each (method, parameter or protocol key) in which cells of that method differ."""
    seen = {(cell.method, key, repr(value)) for cell in cells for key, value in _settings(cell).items()}
    values = Counter((method, key) for method, key, _ in seen)
    return {pair for pair, count in values.items() if count > 1}


def _ls(options: argparse.Namespace) -> int:
    for name, text in _listing(options):
        print(f"{name:<32} {text}")
    return 0


def _listing(options: argparse.Namespace) -> list[tuple[str, str]]:
    if options.what == "metrics":
        return [
            (metric.name, f"[{metric.unit}, {metric.direction}] {metric.description}") for metric in METRICS.values()
        ] + list(FIELDS.items())
    if options.what == "methods":
        from bench.registry import discover

        return [(e.name, f"[{e.role}] {e.problem or e.summary}") for e in discover(options.plugins).values()]
    if options.what == "datasets":
        from bench.data import DATASETS

        return [(spec.name, spec.description) for spec in DATASETS.values()]
    if options.what == "models":
        from bench.models import MODELS

        return [(name, model.description) for name, model in MODELS.items()]
    from bench.matrix_file import named_matrices

    return [
        (name, path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# "))
        for name, path in named_matrices().items()
    ]


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
        print(f"fedfore: {remark}", file=sys.stderr)


def _messages(options: argparse.Namespace) -> int:
    from bench.data import spec
    from bench.models import build, outline
    from bench.seed_trick import Exchange, compare_exchanges

    data = spec(options.dataset)
    outline(options.model, data.input_shape, data.num_classes)  # refuses what no memory could hold
    model = build(options.model, data.input_shape, data.num_classes)
    share = data.num_train // options.clients
    if share == 0:
        raise ConfigError(f"{data.name} has {data.num_train} training examples, too few for {options.clients} clients.")
    found = compare_exchanges(
        model, share, options.batch_size, options.num_perturbations, options.sparsity, options.wire_precision
    )
    if options.json:
        print(json.dumps(asdict(found), indent=1))
        return 0
    print(
        f"{options.model}: {found.num_parameters:,} parameters, {found.active_parameters:,} of them active; "
        f"K = {options.num_perturbations}. One client, one pass over {share:,} examples in {found.steps} steps.\n"
    )
    names = [item.name for item in fields(Exchange)]
    print(f"| {' | '.join(name.replace('_', ' ') for name in names)} |\n|---|---|{'--:|' * (len(names) - 2)}")
    for row in found.exchanges:
        print(f"| {' | '.join(f'{value:,}' if isinstance(value, int) else value for value in astuple(row))} |")
    if found.mask_bytes:
        print(f"\nThe mask goes down once, before training: {found.mask_bytes:,} bytes.")
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


if __name__ == "__main__":
    entry()
