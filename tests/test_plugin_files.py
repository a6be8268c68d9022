"""Files of others: a plug-in that imports the suite by its folder's name, and a user's files with names like ours."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.contract.plugin_files import method_files
from fedfore.contract.registry import discover
from fedfore.records.code_hash import code_sha256
from fedfore.records.sources import ROOT

OLD = {
    "a name of the facade": "from bench.api import Method\n",
    "a primitive": "import bench.primitives.local_sgd\nfrom fedfore.api import Method\n",
    "inside a function": "from fedfore.api import Method\n\n\ndef late():\n    from bench.api import Update\n",
    "a helper": "from _tools import Method\n",
}
METHOD = "\n\nclass Mine(Method):\n    '''Mine.'''\n"


def fedfore(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a fresh interpreter whose path begins with the working folder."""
    code = f"import sys; from fedfore.cli.main import entry; sys.argv = ['fedfore', *{words!r}]; entry()"
    return subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=False)


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.mark.parametrize("kind", OLD)
@pytest.mark.parametrize("place", ["the checkout", "elsewhere"])
def test_a_plug_in_that_imports_the_suites_folder_gets_a_sentence_that_names_the_package(
    kind: str, place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plugins = write(tmp_path / "plugins", mine=OLD[kind] + METHOD, _tools="from bench.api import Method\n")
    monkeypatch.chdir(ROOT if place == "the checkout" else tmp_path)
    whose = "its helper _tools.py" if kind == "a helper" else "it"
    said = f"{whose} imports bench; write `from fedfore.api import Method`, and so for all names."
    assert main(["check", "mine", "--plugins", str(plugins)]) == 1
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("broken") and line.endswith(said)
    assert main(["plan", "--set", "method=mine", "--plugins", str(plugins)]) == 2
    assert capsys.readouterr().err.endswith(f"{said}\n")
    assert main(["ls", "methods", "--plugins", str(plugins)]) == 0
    listed = capsys.readouterr().out
    assert said in listed and "fedavg " in listed


@pytest.mark.thorough
def test_a_file_called_bench_beside_a_plug_in_is_its_helper(tmp_path: Path) -> None:
    plugins = write(
        tmp_path / "plugins",
        mine=f"from bench import WORD\nfrom fedfore.api import Method{METHOD}    __doc__ = WORD\n",
        bench="WORD = 'From a helper.'\n",
        script="import bench\n\n\nclass Script(dict):\n    pass\n",
    )
    assert [file.path.stem for file in method_files(plugins)] == ["mine"]
    listed = fedfore(tmp_path, "ls", "methods", "--plugins", "plugins").stdout.splitlines()
    assert ["mine", "[plugin]", "From a helper."] in [line.split(maxsplit=2) for line in listed]


@pytest.mark.parametrize("edited", ["mine", "tools_of_mine"])
def test_a_plug_in_that_is_edited_between_two_runs_of_one_process_counts_as_it_is_now(
    edited: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", sys.path[:])
    files = {
        "mine": f"from fedfore.api import Method\nfrom tools_of_mine import WORD\n{METHOD}    label = WORD + 'x'\n",
        "tools_of_mine": "WORD = 'x'\n",
    }
    plugins = write(tmp_path / "plugins", **files)
    before, again = (discover([plugins])["mine"].method for _ in range(2))
    assert before is again is not None and before.label == "xx"
    write(plugins, **{edited: files[edited].replace("'x'", "'other'")})
    after = discover([plugins])["mine"].method
    assert after is not None and after.label == ("xother" if edited == "mine" else "otherx")


@pytest.mark.parametrize("change", ["X = 2\n", "from fedfore.primitives.saliency import score\n"])
def test_what_helpers_import_is_hashed_as_what_the_plug_in_imports_and_no_other_file_is(
    change: str, tmp_path: Path
) -> None:
    package = write(tmp_path / "deep", __init__="from deep import inner\n", inner="X = 1\n")
    plugins = write(tmp_path, mine=f"import deep\nfrom fedfore.api import Method{METHOD}", script="X = 1\n")
    before = code_sha256(plugins / "mine.py")
    (plugins / "script.py").write_text("X = 2\n")
    assert code_sha256(plugins / "mine.py") == before
    (package / "inner.py").write_text(f"X = 1\n{change}")
    assert code_sha256(plugins / "mine.py") != before


SEIZING = "raise SystemExit('this is a file of the user')\n"
NAMES = ("bench", "plots", "methods", "baselines", "records", "masks")
MATRIX = """
[grid]
method = ["fedavg"]
dataset = ["digits"]
model = ["lenet5"]
[train]
clients = 3
rounds = 1
ntk = false
"""


@pytest.fixture
def crowded(tmp_path: Path) -> Path:
    """Return a folder of a user's own modules, none of which is to be imported."""
    return write(tmp_path, **dict.fromkeys(NAMES, SEIZING))


@pytest.mark.thorough
def test_a_users_own_modules_in_the_working_folder_break_no_command(crowded: Path) -> None:
    listed = fedfore(crowded, "ls", "methods", "--plugins", ".")
    assert (listed.returncode, listed.stderr) == (0, "") and "fed_ntk_zo " in listed.stdout
    cost = fedfore(crowded, "cost", "lenet5", "--method", "fedavg", "--dataset", "digits", "--batch", "4")
    assert (cost.returncode, cost.stderr) == (0, "") and "61,706 parameters" in cost.stdout


@pytest.mark.slow
def test_a_users_own_modules_in_the_working_folder_break_no_run_and_no_figure(crowded: Path) -> None:
    (crowded / "tiny.toml").write_text(MATRIX)
    assert fedfore(crowded, "run", "tiny.toml", "--out", "run", "--workers", "1").returncode == 0
    drawn = fedfore(crowded, "report", "run")
    assert (drawn.returncode, "this is a file" in drawn.stderr) == (0, False)
