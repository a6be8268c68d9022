"""What a project says of itself: its version, its citation, what installs, and pages that say what the code says."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

from fedfore.records.code_hash import BESIDE, ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """Build a wheel of a copy of the shipped files, without a network."""
    source = tmp_path_factory.mktemp("source")
    for folder in ("bench", *BESIDE):
        shutil.copytree(ROOT / folder, source / folder, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", PROJECT["readme"], *PROJECT["license-files"]):
        shutil.copy(ROOT / name, source)
    build = "from setuptools.build_meta import build_wheel; build_wheel('made')"
    subprocess.run([sys.executable, "-c", build], cwd=source, check=True, capture_output=True)
    (file,) = (source / "made").iterdir()
    return zipfile.ZipFile(file)


def shipped(pattern: str) -> set[str]:
    """Return the names in a wheel that the files of a kind should have."""
    found = dict.fromkeys((ROOT / "bench").rglob(pattern), ROOT / "bench")
    found |= {file: ROOT for folder in BESIDE for file in (ROOT / folder).rglob(pattern)}
    return {str(Path("fedfore", file.relative_to(base))) for file, base in found.items()}


def test_a_wheel_holds_one_package_with_its_types_matrices_template_and_pages(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {Path(name).parts[0] for name in names} == {"fedfore", f"fedfore-{PROJECT['version']}.dist-info"}
    assert "fedfore/py.typed" in names
    for pattern in ("*.py", "*.toml", "*.html.j2", "digits.*"):
        assert shipped(pattern) and shipped(pattern) <= names, pattern


def test_a_wheel_names_its_version_and_its_command(wheel: zipfile.ZipFile) -> None:
    info = f"fedfore-{PROJECT['version']}.dist-info"
    metadata = Parser().parsestr(wheel.read(f"{info}/METADATA").decode())
    assert (metadata["Name"], metadata["Version"]) == ("fedfore", PROJECT["version"])
    assert f"fedfore = {PROJECT['scripts']['fedfore']}" in wheel.read(f"{info}/entry_points.txt").decode()


def test_the_citation_has_what_its_format_asks_for_and_is_of_this_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    assert citation["authors"] == [{"name": author["name"]} for author in PROJECT["authors"]]
    assert (citation["version"], citation["license"]) == (PROJECT["version"], PROJECT["license"])


def test_the_changelog_has_a_section_of_this_version_or_says_that_it_will() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    coming, first, *_ = re.split(r"^## ", text, flags=re.MULTILINE)[1:]
    assert coming.startswith("[Unreleased]\n")
    released = first.startswith(f"[{PROJECT['version']}] - ")
    assert released or f"To be released as {PROJECT['version']}." in coming
