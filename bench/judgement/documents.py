"""What people write beside records, as checked data: cards of studies and published claims, in TOML."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fedfore.errors import ConfigError


class Document(BaseModel):
    """A table of such a file; a key that it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Finite = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""A number that something is held against."""
Kind = TypeVar("Kind", bound=Document)


def read_document(path: Path, kind: type[Kind]) -> Kind:
    """Return what a file says. Raises ConfigError where it cannot be read or used."""
    try:
        return kind.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise ConfigError(f"{path} cannot be read ({error.strerror}); write it, or restore it.") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no TOML: {error}.") from None
    except ValidationError as error:
        first = error.errors()[0]
        said = ": ".join(filter(None, (".".join(map(str, first["loc"])), first["msg"].removeprefix("Value error, "))))
        raise ConfigError(f"{path} cannot be used: {said}.") from None
