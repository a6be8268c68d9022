"""Whether a method's cost is linear in the keys that say so, for a large count is metered as two small ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fedfore.contract.config import declared_keys
from fedfore.contract.context import ClientContext
from fedfore.contract.instance import make_config
from fedfore.contract.method import Method
from fedfore.errors import ConfigError, ContractError
from fedfore.federation.observers.cost_meter import device_setting
from fedfore.federation.observers.observer import Observer, View
from fedfore.measure.device import misjudged

FEW, ODD, MANY = 4, 7, 60
"""Counts that are tried, the last beyond a chunk of perturbations; a default below it is tried, too."""


class LinearityCheck(Observer):
    """Tries, in the first round of each phase, every count in which the cost of that phase says to be linear."""

    def __init__(self) -> None:
        self._tried: set[str] = set()

    def before_work(self, view: View, ctx: ClientContext, cohort: Sequence[int]) -> None:
        """Raise ContractError (`linear_cost`) where a cost is another than the one that is metered of few."""
        if ctx.phase in self._tried:
            return
        self._tried.add(ctx.phase)
        setting = device_setting(view, ctx, cohort[0])
        for name, key in declared_keys(setting.method.Config).items():
            if key.linear_in != ctx.phase:
                continue
            for count in _counts(setting.method, name):
                wrong = misjudged(setting, name, count)
                if wrong is not None:
                    raise ContractError(
                        "linear_cost",
                        f"{setting.method.__name__}.Config.{name} = {count} costs a device {wrong}; take back its "
                        f'Key(linear_in="{ctx.phase}"), so that it is metered as it is.',
                    )


def declares_linear(method: type[Method]) -> bool:
    """Return whether a method says of any key that a cost is linear in it."""
    return any(key.linear_in for key in declared_keys(method.Config).values())


def _counts(method: type[Method], name: str) -> Iterator[int]:
    """Yield the counts to try that the key admits."""
    default = getattr(method.Config(), name)
    for count in sorted({FEW, ODD, MANY, default if FEW < default < MANY else MANY}):
        try:
            make_config(method, {name: count}, name)
        except ConfigError:
            continue
        yield count
