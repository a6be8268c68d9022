"""`fedfore verify`: what holds of the published studies, and that a changed digit is found wherever it stands."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fedfore.errors import HistoryError
from fedfore.execution.verification import study_records
from fedfore.records.history import checkout_of, git_text
from fedfore.records.origins import code_checked, code_problems, past_code_of
from fedfore.records.sources import ROOT

FAST = "quick"
OTHERS = sorted({path.parent.name for path in (ROOT / "results").glob("*/plan.json")} - {FAST})

LAYOUTS = {
    "bench/provenance.py": (1, "from pathlib import Path\n", ""),
    "bench/code_hash.py": (2, "from bench.errors import PluginError\nfrom pathlib import Path\n", "HASH_SCHEME = 2\n"),
    "bench/records/code_hash.py": (
        3,
        "from fedfore.errors import PluginError\nfrom pathlib import Path\n",
        "HASH_SCHEME = 3\n",
    ),
}
"""Where the code was hashed in the course of time: the scheme, and how the module begins."""
HASHING = """
import hashlib

def shipped_method_file(name):
    files = (Path(__file__).parents[{up}] / folder / f"{{name}}.py" for folder in ("methods", "baselines"))
    return next((file for file in files if file.exists()), None)

def code_sha256(file):
    return hashlib.sha256(b"{scheme}" + file.read_bytes()).hexdigest()
"""
METHOD = "import torch_is_not_needed_to_hash\n"


def git(folder: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=A", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
    done = subprocess.run(["git", "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True)
    return done.stdout.strip()


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small repository with one commit a layout of the code; the message is the scheme."""
    folder = tmp_path_factory.mktemp("history")
    git(folder, "init", "--quiet")
    for part in ("bench/records", "methods", "baselines"):
        (folder / part).mkdir(parents=True)
    (folder / "bench/errors.py").write_text("class PluginError(Exception):\n    pass\n")
    (folder / "bench/__init__.py").write_text("raise ImportError('no package is needed')\n")
    (folder / "bench/records/__init__.py").touch()
    (folder / "methods/ours.py").write_text(METHOD)
    for name, (scheme, imports, constants) in LAYOUTS.items():
        for older in LAYOUTS:
            (folder / older).unlink(missing_ok=True)
        up = len(Path(name).parts) - 1
        (folder / name).write_text(imports + constants + HASHING.format(up=up, scheme=scheme))
        git(folder, "add", "--all")
        git(folder, "commit", "--quiet", "--message", str(scheme))
    return folder


def record(history: Path, scheme: int, **changes: Any) -> dict[str, Any]:
    """Return what a record of the commit of this scheme says of its origin, with changes."""
    made: dict[str, Any] = {
        "cell_id": f"ours-{scheme}",
        "method": "ours",
        "git_commit": git(history, "log", "--format=%H", f"--grep=^{scheme}$"),
        "code_sha256": hashlib.sha256(f"{scheme}{METHOD}".encode()).hexdigest(),
        "hash_scheme": scheme,
    }
    return made | changes


@pytest.fixture
def shallow(history: Path, tmp_path: Path) -> Path:
    git(tmp_path, "clone", "--quiet", "--depth=1", history.as_uri(), "shallow")
    return tmp_path / "shallow"


def test_each_commit_hashes_its_code_by_its_own_rules_wherever_they_stand(history: Path) -> None:
    records = [record(history, scheme) for scheme in (1, 2, 3)]
    del records[0]["hash_scheme"]
    records[1]["git_commit"] += "-dirty"
    assert list(code_problems(records, history)) == []
    assert code_checked(records) == (
        "code of 3 cells at 3 commits (1 of a checkout that differed: the computing code is that of the commit)"
    )


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("code_sha256", "0" * 64, "ours-2: code_sha256 is 000000000000.., but the code of ours gives"),
        ("code_sha256", None, "ours-2: code_sha256 is nothing.., but the code of ours gives"),
        ("hash_scheme", 1, "ours-2: hash_scheme is 1, but it was 2"),
        ("method", "theirs", "ours-2: there is no method theirs"),
    ],
)
def test_a_record_of_other_code_than_its_commits_is_named(history: Path, field: str, value: Any, said: str) -> None:
    wrong = record(history, 2, **{field: value})
    found = list(code_problems([record(history, 1), wrong, record(history, 3)], history))
    assert len(found) == 1 and found[0].startswith(said)
    assert f" at commit {wrong['git_commit'][:12]}; " in found[0]


def test_a_shallow_history_is_said_to_be_too_shallow_to_tell(history: Path, shallow: Path) -> None:
    assert list(code_problems([record(history, 3)], shallow)) == []
    with pytest.raises(HistoryError, match=r"too shallow to tell.*git fetch --unshallow"):
        list(code_problems([record(history, 2)], shallow))


def test_a_commit_that_no_history_holds_is_said(history: Path) -> None:
    with pytest.raises(HistoryError, match="holds no commit 012345670123; run from a clone"):
        list(code_problems([record(history, 1, git_commit="01234567" * 5)], history))
    with pytest.raises(HistoryError, match="ours-1 names no commit"):
        list(code_problems([record(history, 1, git_commit=None)], history))


def test_without_a_checkout_nothing_tells(history: Path, tmp_path: Path) -> None:
    assert checkout_of(tmp_path) == tmp_path
    with pytest.raises(HistoryError, match="is no git checkout"):
        list(code_problems([record(history, 1)], tmp_path))


def test_a_commit_that_hashes_no_code_does_not_tell(history: Path, tmp_path: Path) -> None:
    git(tmp_path, "init", "--quiet")
    (tmp_path / "README").touch()
    git(tmp_path, "add", "README")
    git(tmp_path, "commit", "--quiet", "--message", "nothing")
    with pytest.raises(HistoryError, match=r"does not hash its code: ImportError: no file of .* hashes"):
        past_code_of(tmp_path, git(tmp_path, "rev-parse", "HEAD"))


def full_history() -> Path:
    if git_text(ROOT, "rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("The checkout is shallow, or none: what was computed at which commit cannot be told.")
    return ROOT


@pytest.mark.parametrize("study", [FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_every_published_record_is_of_the_code_at_its_commit(study: str) -> None:
    records = study_records(ROOT / "results" / study)
    assert list(code_problems(records, full_history())) == []
