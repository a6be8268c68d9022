"""What a git history holds: its commits, and the files of one. No torch."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fedfore.errors import HistoryError

DIRTY = "-dirty"
"""The end of a record's commit where files of the checkout differed from it."""

UNCHANGED = ("-c", "core.autocrlf=false")
"""Files come out with the bytes that they had."""
PATIENCE_SECONDS = 300


def git(folder: Path, *arguments: str) -> bytes | None:
    """Return what a git command prints in a folder, or None where it fails or there is no git."""
    command = ["git", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout if done.returncode == 0 else None


def git_text(folder: Path, *arguments: str) -> str | None:
    """Return what a git command prints, without the space around it, or None where that is nothing (see `git`)."""
    printed = git(folder, *arguments)
    return None if printed is None else printed.decode(errors="replace").strip() or None


def checkout_of(folder: Path) -> Path:
    """Return the root of the git checkout that a folder is in, or the folder itself where it is in none."""
    return Path(git_text(folder, "rev-parse", "--show-toplevel") or folder)


def require_commit(checkout: Path, commit: str) -> None:
    """Raise HistoryError, which says why, where the history of a checkout does not hold a commit."""
    if git(checkout, "cat-file", "-e", f"{commit}^{{commit}}") is not None:
        return
    shallow = git_text(checkout, "rev-parse", "--is-shallow-repository")
    if shallow is None:
        raise HistoryError(f"{checkout} is no git checkout, so nothing tells what was in commit {commit[:12]}.")
    if shallow == "true":
        raise HistoryError(
            f"The history is too shallow to tell: it lacks commit {commit[:12]}; fetch the rest with "
            "`git fetch --unshallow`."
        )
    raise HistoryError(f"The history of {checkout} holds no commit {commit[:12]}; run from a clone that does.")


def newest(checkout: Path, commits: set[str]) -> str:
    """Return the commit of these that the others came before. Raises HistoryError where one is not to be found."""
    for commit in sorted(commits):
        require_commit(checkout, commit)
    found = git_text(checkout, "rev-list", "--no-walk", "--date-order", "--max-count=1", *sorted(commits))
    return found or max(commits)


def file_at(checkout: Path, commit: str, path: str) -> bytes | None:
    """Return the content of a file at a commit, or None where it has none. Raises HistoryError without the commit."""
    require_commit(checkout, commit)
    return git(checkout, "cat-file", "blob", f"{commit}:{path}")


@contextmanager
def extracted(checkout: Path, commit: str) -> Iterator[Path]:
    """Yield a temporary folder with the files of a commit, those under results/ left out.

    Raises HistoryError where the history does not hold it.
    """
    require_commit(checkout, commit)
    archive = git(checkout, *UNCHANGED, "archive", "--format=tar", commit, "--", ".", ":(exclude)results")
    if archive is None:
        raise HistoryError(f"git cannot unpack commit {commit[:12]} of {checkout}.")
    with TemporaryDirectory(prefix="fedfore-") as folder, tarfile.TarFile(fileobj=io.BytesIO(archive)) as files:
        files.extractall(folder, filter="data")
        yield Path(folder)


def answer_of(checkout: Path, commit: str, program: Path, *arguments: object, bare: bool) -> Any:
    """Return what a program of ours says of the files of a commit: the JSON value that it writes.

    It is given the folder with the files, the file to write and the arguments, and runs apart from the present package;
    `bare`, also without any installed one. Raises HistoryError where the commit is not there or the program fails.
    """
    with extracted(checkout, commit) as tree:
        answer = tree / "answer.json"
        flags = ["-I", "-B", "-X", "utf8", *(["-S"] if bare else [])]
        command = [sys.executable, *flags, str(program), str(tree), str(answer), *map(str, arguments)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise HistoryError(f"Commit {commit[:12]} does not answer within {PATIENCE_SECONDS} s.") from None
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
            raise HistoryError(f"Commit {commit[:12]} does not answer: {reason}.")
        return json.loads(answer.read_text(encoding="utf-8"))
