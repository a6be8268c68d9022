"""`fedfore check`."""

from __future__ import annotations

import argparse

from fedfore.cli.arguments import add_data_dir, add_plugins
from fedfore.errors import ConfigError, printable, suggestion

HELP = "try every rule of the plug-in contract on methods, models and data sets"
EXAMPLES = ("fedfore check fedavg", "fedfore check my_method --plugins my_methods")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="methods, models with their options, data sets [all methods, and all of DIR]",
    )
    add_plugins(parser)
    add_data_dir(parser)


def execute(options: argparse.Namespace) -> int:
    from fedfore.contract.registry import discover
    from fedfore.execution.conformance import check_method
    from fedfore.execution.dataset_check import check_dataset
    from fedfore.execution.model_check import check_model
    from fedfore.records.declared import known
    from fedfore.tasks.datasets import DATASETS
    from fedfore.tasks.model_registry import MODELS
    from fedfore.tasks.own_arrays import is_own

    methods = discover(options.plugins)
    models, datasets = {*MODELS, *known("model")}, {*DATASETS, *known("dataset")}
    broken = 0
    for name in options.names or [*methods, *known("dataset"), *known("model")]:
        findings = check_method(methods[name]) if name in methods else []
        findings += check_model(name) if name.partition(":")[0] in models else []
        findings += check_dataset(name, options.data_dir) if name in datasets or is_own(name) else []
        if not findings:
            known_names = [*methods, *models, *datasets]
            raise ConfigError(f'There is no method, model or data set "{name}".{suggestion(name, known_names)}')
        for finding in findings:
            broken += finding.outcome == "broken"
            reason = f": {printable(finding.sentence)}" if finding.sentence else ""
            print(f"{finding.outcome:<7} {name:<16} {finding.rule}{reason}")
    return 1 if broken else 0
