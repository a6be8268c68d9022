"""Choices of a published study in a file beside the matrices that take them: `[tune] from = "study"`.

    # study.choices.toml, written by `fedfore refresh` and compared by `fedfore verify`
    study = "study"

    [[choice]]
    at_edge = false
    where = { method = "baffle" }
    values = { lr = 0.01 }

The matrix that a run stores holds them itself, as `[[tune.choice]]`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import tomli_w

from fedfore.errors import ConfigError
from fedfore.execution.document import CHOICE, FROM, TUNE
from fedfore.matrices import CHOICES, named_matrices
from fedfore.records.packed import is_packed
from fedfore.records.store import open_run, write_atomically

STUDY = "study"
_HEAD = "# What tuning chose in results/{}: `fedfore refresh` writes it, `fedfore verify` compares it.\n"


def inlined(document: Mapping[str, Any], text_of: Callable[[str], str | None]) -> dict[str, Any]:
    """Return a matrix with the choices that it takes from a study in it; `text_of` gives a file beside the matrix.

    Raises ConfigError where there is no such file, and where it is of another study.
    """
    table = document.get(TUNE)
    if not isinstance(table, Mapping) or FROM not in table or CHOICE in table:
        return dict(document)
    study = table[FROM]
    name = f"{study}{CHOICES}"
    text = text_of(name)
    if text is None:
        raise ConfigError(
            f'[tune] takes its choices {FROM} "{study}", and there is no {name} beside the matrix; publish that study '
            "and run `fedfore refresh`, or leave tuning out with `--set tune=`."
        )
    try:
        stored = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{name} is no valid TOML: {error}.") from None
    if stored.get(STUDY) != study:
        raise ConfigError(f'{name} is of study "{stored.get(STUDY)}"; run `fedfore refresh`.')
    return {**document, TUNE: {**table, CHOICE: stored.get(CHOICE, [])}}


def text_in(folder: Path, name: str) -> str | None:
    """Return the text of a file in a folder, None where it is not there. Raises ConfigError."""
    file = folder / name
    try:
        return file.read_text(encoding="utf-8") if file.is_file() else None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file} cannot be read ({error}).") from None


def choices_text(study: Path) -> str:
    """Return the file of choices that a published study makes. Raises ConfigError where it chose nothing."""
    tuning = open_run(study).tuning()
    if tuning is None or tuning.choices is None:
        raise ConfigError(f"{study} has no choices of tuning; take them from a finished study that tunes.")
    chosen = [
        {"where": dict(one.where), "values": dict(one.values), "at_edge": one.at_edge}
        for one in tuning.choices
        if one.values is not None
    ]
    return _HEAD.format(study.name) + tomli_w.dumps({STUDY: study.name, CHOICE: chosen})


def taken(results: Path, names: Sequence[str] = ()) -> Iterator[tuple[Path, Path]]:
    """Yield each file of choices of the matrices that ship, and the published study in `results` that makes it."""
    found: dict[Path, Path] = {}
    for path in named_matrices().values():
        study = tomllib.loads(path.read_text(encoding="utf-8")).get(TUNE, {}).get(FROM)
        if study is not None and is_packed(results / study) and (not names or study in names):
            found[path.parent / f"{study}{CHOICES}"] = results / study
    yield from found.items()


def refresh_choices(results: Path, names: Sequence[str] = ()) -> list[Path]:
    """Write the files of choices of these studies, else of all, again where they changed; return those files."""
    written = []
    for file, study in taken(results, names):
        text = choices_text(study)
        if text_in(file.parent, file.name) != text:
            write_atomically(file, text)
            written.append(file)
    return written


def choice_file_problems(file: Path, study: Path) -> Iterator[str]:
    """Yield a sentence where a file of choices is not what the study gives. Raises ConfigError as `choices_text`."""
    if text_in(file.parent, file.name) != choices_text(study):
        yield f"{file.name} is not what {study} gives; run `fedfore refresh`."
