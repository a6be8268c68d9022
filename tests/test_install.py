"""The suite installed as others have it: from a wheel, in an empty folder, with the oldest versions it admits."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.test_dependencies import RUNTIME

pytestmark = pytest.mark.slow

Shell = Callable[..., subprocess.CompletedProcess[str]]

HERE = [path for name in ("purelib", "platlib") if (path := sysconfig.get_path(name))]
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check"]
UNBOUND = ("torch", "torchvision")
"""Too large to be installed once more; they are those of this environment."""
WITHOUT_TORCH = sorted(set(RUNTIME) - set(UNBOUND))
NEXT = ("python3.12", "python3.13")
CUTS = (
    'method=["mine"]', "seed=[0]", 'alpha=["iid"]', "train.data_passes=0.2", "train.eval_every=0.1", "train.ntk=false",
)  # fmt: skip
MINE = [*(word for cut in CUTS for word in ("--set", cut)), "--plugins", ".", "--workers", "1"]


def environment(folder: Path, python: str = sys.executable) -> Path:
    """Make an environment without pip; return its interpreter."""
    subprocess.run([python, "-m", "venv", "--without-pip", folder], check=True)
    return folder / "bin" / "python"


def borrow(python: Path) -> None:
    """Let an environment import the packages of this one after its own; an editable install is none of them."""
    (own,) = (python.parent.parent / "lib").glob("python*/site-packages")
    (own / "borrowed.pth").write_text("".join(f"{path}\n" for path in dict.fromkeys(HERE)), encoding="utf-8")


def install(python: Path, *what: str | Path) -> subprocess.CompletedProcess[str]:
    command = [*PIP, "--python", str(python), "install", "--quiet", "--ignore-installed", *map(str, what)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def need_an_index(folder: Path) -> None:
    """Skip where no package index answers."""
    asked = [*PIP, "download", "--no-deps", "--retries", "0", "--timeout", "10", "--dest", str(folder), "tabulate"]
    if subprocess.run(asked, capture_output=True, check=False).returncode:
        pytest.skip("no package index answers")


def shell(python: Path, folder: Path) -> Shell:
    """Return a way to call the installed command in a folder, as with nothing else on the path."""
    folder.mkdir()

    def call(*words: str) -> subprocess.CompletedProcess[str]:
        known = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
        command = [python.parent / "fedfore", *words]
        done = subprocess.run(command, cwd=folder, env=known, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done

    return call


def use(fedfore: Shell, python: Path, folder: Path) -> None:
    """Do in an empty folder what a newcomer does: look, write a method, check it, run it, see its results."""
    place = [python, "-c", "import fedfore; print(fedfore.__file__)"]
    found = subprocess.run(place, cwd=folder, capture_output=True, text=True, check=True).stdout.strip()
    assert Path(found).is_relative_to(python.parent.parent)
    assert "quick " in fedfore("ls", "matrices").stdout and "fedavg " in fedfore("ls", "methods").stdout
    assert fedfore("new", "mine").stdout.startswith("mine.py\n")
    assert "\nok " in fedfore("check", "mine", "--plugins", ".").stdout
    assert "server_momentum" in fedfore("ls", "keys", "mine", "--plugins", ".").stdout
    ran = fedfore("run", "quick", *MINE)
    assert len((ran.stdout + ran.stderr).splitlines()) < 60 and "Warning" not in ran.stdout + ran.stderr
    run = folder / "results" / "runs" / "quick"
    assert (run / "report.html").is_file()
    assert r"\toprule" in fedfore("show", str(run), "--latex").stdout
    fedfore("plot", str(run))
    assert list((run / "figures").glob("*.png"))


def test_a_wheel_works_in_an_empty_folder(wheel_file: Path, tmp_path: Path) -> None:
    python = environment(tmp_path / "venv")
    borrow(python)
    done = install(python, "--no-deps", "--no-index", wheel_file)
    assert done.returncode == 0, done.stderr
    use(shell(python, tmp_path / "empty"), python, tmp_path / "empty")


def lowest(names: Sequence[str]) -> list[str]:
    """Return the pins of these dependencies to the oldest versions that they admit."""
    bounds = {name: [one.version for one in RUNTIME[name].specifier if one.operator == ">="] for name in names}
    assert all(len(versions) == 1 for versions in bounds.values()), bounds
    return [f"{name}=={versions[0]}" for name, versions in bounds.items()]


def test_the_oldest_versions_that_are_admitted_work(wheel_file: Path, tmp_path: Path) -> None:
    need_an_index(tmp_path)
    python = environment(tmp_path / "venv")
    done = install(python, *lowest(WITHOUT_TORCH))
    assert done.returncode == 0, done.stderr
    borrow(python)
    assert install(python, "--no-deps", "--no-index", wheel_file).returncode == 0
    use(shell(python, tmp_path / "empty"), python, tmp_path / "empty")


@pytest.mark.parametrize("newer", NEXT)
def test_a_newer_python_reads_records_and_lists_what_there_is(newer: str, wheel_file: Path, tmp_path: Path) -> None:
    found = shutil.which(newer)
    if found is None or subprocess.run([found, "--version"], capture_output=True, check=False).returncode:
        pytest.skip(f"this machine has no {newer}")
    need_an_index(tmp_path)
    python = environment(tmp_path / "venv", found)
    done = install(python, *(str(RUNTIME[name]) for name in WITHOUT_TORCH))
    assert done.returncode == 0, done.stderr
    assert install(python, "--no-deps", "--no-index", wheel_file).returncode == 0
    fedfore = shell(python, tmp_path / "empty")
    for what in ("matrices", "models", "datasets", "metrics", "fields"):
        assert fedfore("ls", what).stdout
    assert "quick" in fedfore("run", "--help").stdout
    published = Path(__file__).parent.parent / "results" / "quick"
    assert "BAFFLE" in fedfore("show", str(published)).stdout
