"""A package of somebody else's, installed apart from the suite, whose entry points are plug-ins like any others."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from fedfore.records.store import load_table, open_run

PACKAGE = Path(__file__).with_name("example_package")
MATRIX = """
[grid]
method = ["fedavg_sign"]
dataset = ["stripes"]
model = ["two_layers:hidden=8"]
[train]
rounds = 1
clients = 4
ntk = false
"""
COMMANDS = [
    ["check", "fedavg_sign", "stripes", "two_layers"],
    ["run", "m.toml", "--out", "run", "--workers", "1"],
    ["ls", "models"],
]


@pytest.mark.thorough
def test_an_installed_package_brings_a_method_a_data_set_and_a_model(tmp_path: Path) -> None:
    shutil.copytree(PACKAGE, tmp_path / "source")
    target = tmp_path / "target"
    install = ["pip", "install", "--no-deps", "--no-build-isolation", "--no-index", "--target", str(target)]
    subprocess.run([sys.executable, "-m", *install, str(tmp_path / "source")], check=True, capture_output=True)
    (tmp_path / "m.toml").write_text(MATRIX)
    code = f"from fedfore.cli.main import main; print([main(words) for words in {COMMANDS}])"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(target)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.endswith("[0, 0, 0]\n") and "broken" not in done.stdout, done.stdout + done.stderr
    assert "[plugin] Two linear layers over 4x4 means." in done.stdout
    (row,) = load_table(open_run(tmp_path / "run")).to_dict("records")
    assert (row["status"], row["role"], row["chance_accuracy"], row["staleness"]) == ("ok", "plugin", 0.5, "")
