"""Whether the cells of a plan can run, and whether their methods apply to them: told before the first of them runs."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, fields
from typing import Any

from torch import nn

from fedfore.cell import Cell
from fedfore.contract.border import plugin_border
from fedfore.contract.instance import instantiate
from fedfore.contract.method import Method
from fedfore.contract.registry import MethodEntry, lookup
from fedfore.errors import ConfigError, FedForeError, Skip
from fedfore.execution.feasibility import Feasibility
from fedfore.federation.rules import expect
from fedfore.masks import prunable_weights
from fedfore.tasks import models
from fedfore.tasks.datasets import spec


@dataclass(frozen=True)
class _Outline:
    """A model without weights, and whether it has any that a mask could prune."""

    module: nn.Module
    prunable: bool


@dataclass(frozen=True)
class _Prepared:
    """What became of preparing a model: why the method skips it, and the parameters that it read on the way."""

    read: Mapping[str, str]
    skip: str | None

    def holds_for(self, params: Mapping[str, Any]) -> bool:
        return all(repr(params[key]) == value for key, value in self.read.items())


@dataclass
class Planning:
    """What the cells of one plan share.

    Each model is outlined once, and prepared again only for other values of what a method's `prepare` reads.
    """

    methods: Mapping[str, MethodEntry]
    feasibility: Feasibility = field(default_factory=Feasibility)
    outlines: dict[tuple[str, str], _Outline] = field(default_factory=dict)
    prepared: dict[tuple[str, str, str], list[_Prepared]] = field(default_factory=dict)

    def skip_reason(self, cell: Cell) -> str | None:
        """Return why the method does not apply, by its `check` and `prepare`; None where it does.

        Raises ConfigError for a cell that could not run.
        """
        try:
            outline = self._outline(cell)
            self.feasibility.require(cell)
            with self._border(cell):
                method = instantiate(lookup(self.methods, cell.method), cell.params)
                method.check(cell)
            if cell.sparsity > 0 and not outline.prunable:
                raise Skip("the model has no convolution or linear layer, so there is nothing to prune")
            return self._unprepared(cell, method, outline)
        except Skip as skip:
            return str(skip)
        except FedForeError as error:
            raise ConfigError(f"{cell.id}: {error}") from None

    def _outline(self, cell: Cell) -> _Outline:
        key = (cell.dataset, cell.model)
        if key not in self.outlines:
            described = spec(cell.dataset)
            module = models.outline(cell.model, described.input_shape, described.num_classes)
            self.outlines[key] = _Outline(module, bool(prunable_weights(module)))
        return self.outlines[key]

    def _unprepared(self, cell: Cell, method: Method, outline: _Outline) -> str | None:
        """Return why `prepare` skips the cell's model, as it did of a cell that is alike to it, or does now."""
        if type(method).prepare is Method.prepare:
            return None
        known = self.prepared.setdefault((cell.method, cell.dataset, cell.model), [])
        for prepared in known:
            if prepared.holds_for(cell.params):
                return prepared.skip
        read = _watch(method) if type(method).__init__ is Method.__init__ else set(cell.params)
        try:
            self._prepare(cell, method, outline)
            skip = None
        except Skip as refused:
            skip = str(refused)
        known.append(_Prepared({key: repr(cell.params[key]) for key in read}, skip))
        return skip

    def _prepare(self, cell: Cell, method: Method, outline: _Outline) -> None:
        with self._border(cell):
            try:
                prepared = method.prepare(copy.deepcopy(outline.module))
            except RuntimeError:  # it looks at weights, which an outline does not have
                described = spec(cell.dataset)
                prepared = method.prepare(models.build(cell.model, described.input_shape, described.num_classes))
            expect(prepared, nn.Module, "prepare")

    def _border(self, cell: Cell) -> AbstractContextManager[None]:
        return plugin_border(cell.method, self.methods[cell.method].file)


def _watch(method: Method) -> set[str]:
    """Give an instance a configuration that notes which of its keys are read; return their set, which grows."""
    config, kind, read = method.config, type(method.config), set[str]()
    keys = {item.name for item in fields(config)}

    def noted(self: Any, name: str) -> Any:
        read.update(keys if name == "__dict__" else keys & {name})
        return kind if name == "__class__" else object.__getattribute__(self, name)

    watched: Any = object.__new__(type(kind.__name__, (kind,), {"__getattribute__": noted}))
    for key in keys:
        object.__setattr__(watched, key, getattr(config, key))
    vars(method)["config"] = watched
    return read
