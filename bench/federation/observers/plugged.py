"""Metrics of plug-ins: observers that neither end the cell which they observe nor move its random numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import torch

from fedfore.contract.border import plugin_border
from fedfore.contract.context import ClientContext
from fedfore.errors import FedForeError, PluginError
from fedfore.federation.observers.observer import Observer, View, Work
from fedfore.records.declared import Plugin, known


class _Guest:
    """The observer of one plug-in; where it cannot be made or has failed, it is told nothing, and its value is null."""

    def __init__(self, plugin: Plugin) -> None:
        self.plugin, self.problem = plugin, ""
        self.observer: Observer | None = None
        try:
            described = plugin.load()
        except PluginError as error:
            self.problem = str(error)
            self.meaning: dict[str, Any] = {
                "unit": "", "direction": "descriptive", "title": plugin.name, "description": plugin.summary,
                "limits": [None, None],
            }  # fmt: skip
        else:
            row = described.row
            self.meaning = {
                "unit": row.unit, "direction": row.direction, "title": row.label, "description": row.description,
                "limits": [*row.limits],
            }  # fmt: skip
            self.observer = self._guarded(described.observer)

    def told(self, tell: Callable[[Observer], Any]) -> Any:
        """Return what its code returns, None where it fails or has failed."""
        observer = self.observer
        return None if observer is None or self.problem else self._guarded(lambda: tell(observer))

    def _guarded(self, call: Callable[[], Any]) -> Any:
        try:
            with plugin_border(self.plugin.name, self.plugin.file), torch.random.fork_rng(devices=[]):
                return call()
        except FedForeError as error:
            self.problem = str(error)
        return None

    def field(self, view: View) -> dict[str, Any]:
        """Return its number, what that means, and why it has none."""
        value = self.value(view)
        return {"value": value, **self.meaning, "problem": self.problem or None}

    def value(self, view: View) -> float | None:
        """Return its number, None where it fails or has none."""

        def finite(observer: Observer) -> float | None:
            fields = observer.fields(view)
            if self.plugin.name not in fields:
                raise PluginError(f"its fields hold no {self.plugin.name}")
            found = fields[self.plugin.name]
            number = found.item() if isinstance(found, torch.Tensor) else found
            if number is not None and (not isinstance(number, int | float) or not math.isfinite(number)):
                raise PluginError(f"its fields hold {number!r} under {self.plugin.name}, which is no finite number")
            return number

        value: float | None = self.told(finite)
        return value


class PluginMetrics(Observer):
    """Tells the observers of all metrics of plug-ins; their numbers are one field, each with what it means."""

    def __init__(self) -> None:
        self._guests = [_Guest(plugin) for plugin in known("metric").values()]

    def _tell(self, tell: Callable[[Observer], object]) -> None:
        for guest in self._guests:
            guest.told(tell)

    def after_setup(self, view: View) -> None:
        with view.clock.charge("diagnose"):
            self._tell(lambda observer: observer.after_setup(view))

    def before_work(self, view: View, ctx: ClientContext, cohort: Sequence[int]) -> None:
        with view.clock.charge("diagnose"):
            self._tell(lambda observer: observer.before_work(view, ctx, cohort))

    def after_work(self, view: View, work: Work) -> None:
        self._tell(lambda observer: observer.after_work(view, work))

    def after_round(self, view: View) -> None:
        with view.clock.charge("diagnose"):
            self._tell(lambda observer: observer.after_round(view))

    def fields(self, view: View) -> Mapping[str, Any]:
        found = {guest.plugin.name: guest.field(view) for guest in self._guests}
        return {"plugin_metrics": found} if found else {}

    def state_dict(self) -> dict[str, Any]:
        own = {guest.plugin.name: guest.told(lambda observer: observer.state_dict()) for guest in self._guests}
        return {"own": own, "problems": {guest.plugin.name: guest.problem for guest in self._guests}}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for guest in self._guests:
            guest.problem = state["problems"][guest.plugin.name]
            guest.told(partial(_go_on, state["own"][guest.plugin.name]))


def _go_on(state: Mapping[str, Any], observer: Observer) -> None:
    observer.load_state_dict(state)
