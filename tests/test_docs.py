"""What a project says of itself: its version, its citation, what installs, and pages that say what the code says."""

from __future__ import annotations

import ast
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

from fedfore.cell import Cell, Protocol
from fedfore.contract.method import Method
from fedfore.contract.registry import discover
from fedfore.docs.keys import documented
from fedfore.docs.pages import outdated, pages
from fedfore.errors import ConfigError
from fedfore.records.sources import BESIDE, PACKAGE, ROOT, SUITE
from tests.test_layers import FILES, ROOMS, VOCABULARY

PROSE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
FOLDER = "__init__.py"
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


def shipped() -> set[str]:
    """Return the names in a wheel that the files of the package should have."""
    found = dict.fromkeys((ROOT / "bench").rglob("*"), ROOT / "bench")
    found |= {file: ROOT for folder in BESIDE for file in (ROOT / folder).rglob("*")}
    files = {file: base for file, base in found.items() if file.is_file() and "__pycache__" not in file.parts}
    return {str(Path("fedfore", file.relative_to(base))) for file, base in files.items()}


def test_a_wheel_holds_one_package_with_its_types_matrices_template_and_pages(wheel: zipfile.ZipFile) -> None:
    names = set(wheel.namelist())
    assert {Path(name).parts[0] for name in names} == {"fedfore", f"fedfore-{PROJECT['version']}.dist-info"}
    assert "fedfore/py.typed" in names
    assert shipped() - names == set()


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


def test_the_reference_pages_say_what_the_code_says() -> None:
    odd = list(outdated())
    assert not odd, f"{odd[0]} `make docs` writes the reference pages again."


def test_a_marker_of_no_table_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("<!-- table: metric -->\n<!-- end of table -->\n", encoding="utf-8")
    monkeypatch.setattr("fedfore.docs.pages.pages", lambda: [page])
    with pytest.raises(ConfigError, match="Did you mean"):
        list(outdated())


KINDS = {"Protocol": Protocol, "Cell": Cell, **{name: entry.method.Config for name, entry in discover().items()}}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_every_key_is_described_where_it_is_defined(kind: type) -> None:
    assert [key.name for key in documented(kind) if not key.text.endswith((".", "?"))] == []


def test_the_contracts_page_names_every_member_of_a_method() -> None:
    text = (PACKAGE / "docs" / "plugins.md").read_text(encoding="utf-8")
    members = [name for name in {**vars(Method), **Method.__annotations__} if not name.startswith("_")]
    assert [name for name in members if f"\n| `{name}" not in text] == []


def test_readme_names_every_room() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rooms = {f"bench/{path.name}" for path in PACKAGE.iterdir() if (path / "__init__.py").exists()} | set(BESIDE)
    assert set(re.findall(r"\[([\w/]+)\]\(\1\)", text)) == rooms | {"results", "tests"}


@pytest.mark.parametrize("room", [room for room in ROOMS if room != SUITE and FOLDER in FILES[room.rstrip("*")].name])
def test_a_room_begins_with_what_it_is_and_what_it_may_import(room: str) -> None:
    text = " ".join((ast.get_docstring(ast.parse(FILES[room.rstrip("*")].read_text(encoding="utf-8"))) or "").split())
    (sentence,) = re.findall(r"May import ([^.:]*)[.:]", text)
    said = {f"{SUITE}.{name}" for name in re.findall(r"`(\w+)`", sentence)}
    said |= set(VOCABULARY) if "the vocabulary" in sentence else set()
    said |= {SUITE} if "everything" in sentence else set()
    assert said == {name.removesuffix(".*") for name in ROOMS[room]}


@pytest.mark.parametrize("page", [*PROSE, *(str(page.relative_to(ROOT)) for page in pages())])
def test_every_link_leads_somewhere(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    for target in re.findall(r"\]\((?!https?://)([^)\s]+)\)", text):
        path, _, heading = target.partition("#")
        file = (ROOT / page).parent / path if path else ROOT / page
        assert file.exists(), target
        assert not heading or heading in headings(file.read_text(encoding="utf-8")), target


def headings(text: str) -> set[str]:
    """Return the anchors that GitHub gives the headings of a page."""
    titles = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
