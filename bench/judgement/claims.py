"""Published claims, as `results/claims.toml` has them: what each says, and where it is judged.

A claim is judged by a contrast, which its study's matrix fixed before it ran, or by a quantity that metering makes,
which has no chance in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from fedfore.errors import ConfigError, suggestion
from fedfore.judgement.documents import Document, Finite, read_document
from fedfore.judgement.quantities import Quantity, fields_of
from fedfore.judgement.selection import AXES, GROUPS
from fedfore.judgement.sides import is_metered
from fedfore.records.metrics import METRICS

CLAIMS = "claims.toml"
Unit = Literal["x", "%", "points"]


class Claim(Document):
    """A published claim.

    `contrast` is the name of one of the matrix of `study`; or else `metered` is a quantity of its records that is as
    large as the claim is right, taken `over` each setting of these columns. Both are given in `unit`, as `bound` is:
    how many times less (x), a share that is saved (%), or a difference of accuracies (points). `at_least` are settings
    that the study has to reach, below which the claim was not made. `conditions` say under which it is judged.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")
    claim: str
    source: str
    study: str = Field(pattern=r"^[^/\\]+$")
    contrast: str = ""
    metered: Quantity | None = None
    over: tuple[str, ...] = ()
    unit: Unit = "points"
    bound: Finite | None = None
    up_to: bool = False
    at_least: Mapping[str, Finite] = {}
    conditions: str = ""

    @model_validator(mode="after")
    def _is_judged_by_one(self) -> Claim:
        if bool(self.contrast) == (self.metered is not None):
            raise ValueError(f'"{self.name}" needs the name of a contrast, or a metered quantity')
        named = fields_of(self.metered) if self.metered else []
        measured = [name for name in named if name in METRICS]
        if named and all(name in AXES or name.startswith(GROUPS) for name in named):
            raise ValueError(
                f'"{self.name}" is metered by {", ".join(named)}, a setting; name a field that is measured'
            )
        if self.contrast and self.over:
            raise ValueError(f'"{self.name}" is judged by a contrast, whose settings are its matrix\'; leave over out')
        by_chance = [name for name in measured if not is_metered(name)]
        if by_chance:
            raise ValueError(
                f'"{self.name}" is metered by {by_chance[0]}, which has chance in it; judge it by a contrast that the '
                "matrix of its study fixes before it runs"
            )
        return self


class Claims(Document):
    """Published claims, and the names of the studies that are to judge some of them and are `coming`."""

    claim: tuple[Claim, ...]
    coming: tuple[str, ...] = ()


def read_claims(results: Path) -> Claims:
    """Return the claims that a folder of studies judges. Raises ConfigError where they cannot be read or used."""
    found = read_document(results / CLAIMS, Claims)
    names = [one.name for one in found.claim]
    for one in found.claim:
        if names.count(one.name) > 1:
            raise ConfigError(f'{CLAIMS}: two claims are called "{one.name}"; give each a name of its own.')
        if one.study not in found.coming and not (results / one.study).is_dir():
            known = [*found.coming, *(path.name for path in results.iterdir() if path.is_dir())]
            raise ConfigError(
                f'{CLAIMS}, "{one.name}": there is no study "{one.study}", nor is it among those that are coming.'
                f"{suggestion(one.study, known)}"
            )
    return found
