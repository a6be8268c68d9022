"""What a project says of itself: its version, its citation, what installs, and pages that say what the code says."""

from __future__ import annotations

import ast
import re
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path

import pytest
import yaml

from fedfore.cell import Cell, Protocol
from fedfore.cli.keys import documented
from fedfore.contract.method import Method
from fedfore.contract.registry import discover
from fedfore.docs.pages import outdated, pages
from fedfore.errors import ConfigError
from fedfore.records.sources import BESIDE, PACKAGE, ROOT, SUITE
from tests.test_layers import FILES, ROOMS, VOCABULARY

PROSE = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
CONTRIBUTING = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FOLDER = "__init__.py"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


@pytest.fixture(scope="module")
def wheel(wheel_file: Path) -> zipfile.ZipFile:
    return zipfile.ZipFile(wheel_file)


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


def test_the_picture_of_the_rooms_is_the_table_of_imports() -> None:
    drawn: dict[str, set[str]] = {}
    for room, other in re.findall(r"^    (\w+) --> (\w+)$", CONTRIBUTING, re.MULTILINE):
        drawn.setdefault(room, set()).add(other)
    rooms = {"vocabulary" if key in VOCABULARY else key.split(".")[1].rstrip("*") for key in ROOMS if key != SUITE}
    for room in rooms - {"vocabulary"}:
        reached, todo = set[str](), [room]
        while todo:
            new = drawn.get(todo.pop(), set()) - reached
            reached |= new
            todo += new
        allowed = {"vocabulary" if name in VOCABULARY else name.split(".")[1] for name in imports_of(room)}
        assert allowed - {"*"} <= reached, f"{room} may import {sorted(allowed - reached)}, which the picture lacks"
        odd = drawn.get(room, set()) - allowed
        assert "*" in allowed or not odd, f"{room} may not import {sorted(odd)}"
    assert rooms == set(drawn).union(*drawn.values())


def imports_of(room: str) -> tuple[str, ...]:
    return ROOMS.get(f"{SUITE}.{room}*") or ROOMS[f"{SUITE}.{room}"]


RECIPES = re.findall(r"^(?:\d\.|\*) ((?:.+)(?:\n   .+)*)", CONTRIBUTING, re.MULTILINE)
PATHS = r"`((?:bench|plots|tests|methods|baselines|results)/[\w./-]+)`"


def test_every_path_of_contributing_is_there_or_has_a_folder_to_be_in() -> None:
    paths = re.findall(PATHS, CONTRIBUTING)
    assert len(paths) > 30
    for path in paths:
        here = Path(re.split(r"/(?:NAME|FAMILY)", path)[0]) if "NAME" in path or "FAMILY" in path else Path(path)
        assert (ROOT / here).exists(), path


def test_what_a_recipe_touches_in_a_file_is_there() -> None:
    tried = 0
    for recipe in RECIPES:
        files = [ROOT / path for path in re.findall(PATHS, recipe) if (ROOT / path).is_file()]
        text = "".join(file.read_text(encoding="utf-8") for file in files)
        for name in re.findall(r"`([A-Za-z_]+)`", recipe) if files else ():
            tried += 1
            assert re.search(rf"\b{name}\b", text), f"{name}: {recipe}"
    assert tried > 8


def test_contributing_says_what_each_target_is_for() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)[0].split())
    assert set(re.findall(r"^\| `make ([\w-]+)` \|", CONTRIBUTING, re.MULTILINE)) == targets


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
