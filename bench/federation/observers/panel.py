"""All observers of a federation as one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

from fedfore.contract.context import ClientContext
from fedfore.federation.observers.observer import Observer, View, Work

Kind = TypeVar("Kind", bound=Observer)


class Panel(Observer):
    """Tells its members in their order, and says all that they say."""

    def __init__(self, members: Iterable[Observer]) -> None:
        self.members = tuple(members)

    def after_setup(self, view: View) -> None:
        for member in self.members:
            member.after_setup(view)

    def before_work(self, view: View, ctx: ClientContext, cohort: Sequence[int]) -> None:
        for member in self.members:
            member.before_work(view, ctx, cohort)

    def after_work(self, view: View, work: Work) -> None:
        for member in self.members:
            member.after_work(view, work)

    def after_round(self, view: View) -> None:
        for member in self.members:
            member.after_round(view)

    def fields(self, view: View) -> Mapping[str, Any]:
        return {name: value for member in self.members for name, value in member.fields(view).items()}

    def log(self) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {name: lines for member in self.members for name, lines in member.log().items()}

    def lines(self, view: View) -> Mapping[str, Sequence[Mapping[str, Any]]]:
        return {name: lines for member in self.members for name, lines in member.lines(view).items()}

    def state_dict(self) -> dict[str, Any]:
        return {"members": [member.state_dict() for member in self.members]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        for member, own in zip(self.members, state["members"], strict=True):
            member.load_state_dict(own)

    def member(self, kind: type[Kind]) -> Kind:
        """Return the first member of a class. Raises StopIteration where there is none."""
        return next(member for member in self.members if isinstance(member, kind))

    def about(self, *subjects: str) -> Panel:
        """Return the members that tell of one of these subjects."""
        return Panel(member for member in self.members if member.tells_of in subjects)
