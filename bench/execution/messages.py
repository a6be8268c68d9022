"""What exchanging training steps costs a client (see `seed_trick`): models and data by name, costs as text."""

from __future__ import annotations

from dataclasses import astuple, fields

import pandas as pd

from fedfore.errors import ConfigError
from fedfore.execution.seed_trick import Exchange, SeedTrick, Steps, compare_exchanges
from fedfore.records.markup import markdown
from fedfore.tasks.datasets import spec
from fedfore.tasks.models import build, outline


def client_exchanges(model: str, dataset: str, clients: int, train: Steps) -> tuple[SeedTrick, str]:
    """Return what one client's pass over its equal share of the data costs, and that as text with a table.

    Raises ConfigError where there is no such model or data set, or not an example for every client.
    """
    data = spec(dataset)
    outline(model, data.input_shape, data.num_classes)  # refuses what no memory could hold
    built = build(model, data.input_shape, data.num_classes)
    share = data.num_train // clients
    if share == 0:
        raise ConfigError(f"{data.name} has {data.num_train} training examples, too few for {clients} clients.")
    found = compare_exchanges(built, share, train)
    heading = (
        f"{model}: {found.num_parameters:,} parameters, {found.active_parameters:,} of them active; "
        f"K = {train.num_perturbations}. One client, one pass over {share:,} examples in {found.steps} steps."
    )
    return found, "\n\n".join([heading, _table(found), *_mask_sentence(found)])


def _table(found: SeedTrick) -> str:
    titles = [item.name.replace("_", " ") for item in fields(Exchange)]
    rows = [
        [f"{value:,}" if isinstance(value, int) else value for value in astuple(exchange)]
        for exchange in found.exchanges
    ]
    return markdown(pd.DataFrame(rows, columns=titles), words=2).rstrip()


def _mask_sentence(found: SeedTrick) -> list[str]:
    if not found.mask_bytes:
        return []
    return [f"The mask goes down once, before training: {found.mask_bytes:,} bytes."]
