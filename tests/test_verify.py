"""`fedfore verify`: what holds of the published studies, and that a changed digit is found wherever it stands."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib.image
import pytest

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.cli.verbs.verify import asked
from fedfore.contract.registry import discover
from fedfore.errors import HistoryError
from fedfore.execution.id_rules import NOTHING, completeness_problems, id_problems, present_rules, problems, rules_at
from fedfore.execution.matrix import resolve
from fedfore.execution.subject import Asked, Subject
from fedfore.execution.verification import matrix_problems, verify_records
from fedfore.plots.cards.markers import marked
from fedfore.plots.cards.pages import refresh
from fedfore.records.history import checkout_of, git_text
from fedfore.records.manifest import data_files, write_manifest
from fedfore.records.origins import code_checked, code_problems, past_code_of
from fedfore.records.sources import ROOT
from fedfore.records.store import LiveRun, open_run, pack
from tests.synthetic import rounds, write_run

FAST = "quick"
OTHERS = sorted({path.parent.name for path in (ROOT / "results").glob("*/cells.jsonl")} - {FAST})

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
    assert len(found) == 1 and found[0].startswith(f"cells.jsonl: {said}")
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
    with pytest.raises(HistoryError, match=r"does not answer: ImportError: no file of .* hashes"):
        past_code_of(tmp_path, git(tmp_path, "rev-parse", "HEAD"))


MATRIX = """
[grid]
method = ["fedavg", "fedavg_erk"]
dataset = ["digits"]
model = ["lenet5"]
sparsity = [0.8]
alpha = ["iid", 0.1]
seed = [0, 1, 2]
[train]
data_passes = 30.0
[params.fedavg]
lr = 0.05
"""
CARD = """
question = "Is the sparse model as good?"
[[table]]
name = "accuracy"
metric = "test_accuracy"
decimals = 4
heads = [{ title = "method", entries = [{ text = "dense", of = { method = "fedavg", alpha = 0.1 } }] }]
columns = [{ title = "test accuracy" }]
[values.dense]
of = { method = "fedavg", alpha = 0.1 }
metric = "test_accuracy"
decimals = 4
"""
CLAIMS = """
[[claim]]
name = "memory"
claim = "It needs less."
source = "somebody"
study = "tiny"
unit = "x"
over = ["alpha"]
[claim.metered]
of = { method = "fedavg" }
against = { method = "fedavg_erk" }
metric = "peak_device_bytes"
compare = "ratio"
"""
FIGURE = "accuracy-digits-lenet5"
SENTENCE = "Dense it is <!-- value: dense -->...<!-- end -->."
PAGE = (
    f"# tiny\n\n{marked('facts', '')}\n\n{marked('accuracy', '')}\n\n{SENTENCE}\n\n![accuracy](figures/{FIGURE}.png)\n"
)


def measured(cell: Cell) -> dict[str, Any]:
    """Return what a made-up record has to say for its lines to say the same."""
    lines = [line["test_accuracy"] for line in rounds(cell)]
    return {
        "test_accuracy": sum(lines[-5:]) / 5,
        "final_test_accuracy": lines[-1],
        "best_test_accuracy": max(lines),
        "git_commit": None,
    }


def publish(live: Path, study: Path, commit: str, outcome: Callable[[Cell], str] = lambda cell: "ok") -> None:
    """Make up a run of the tiny matrix at a commit, and pack it as a published study."""
    sha256 = {name: hashlib.sha256(f"3{METHOD}".encode()).hexdigest() for name in ("fedavg", "fedavg_erk")}
    planned = [item.cell for item in resolve(tomllib.loads(MATRIX), discover())]
    origin = {"git_commit": commit, "hash_scheme": 3}
    write_run(
        live, planned, outcome, change=lambda cell: measured(cell) | origin | {"code_sha256": sha256[cell.method]}
    )
    pack(LiveRun(live), study, MATRIX)
    (study / "commands.json").write_text('["fedfore run tiny --workers 2"]')
    write_manifest(study, data_files(study))
    (study / "card.toml").write_text(CARD)
    (study / "README.md").write_text(PAGE)


@pytest.fixture(scope="module")
def original(history: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small checkout with one published study, an index and a README with a published claim."""
    checkout = tmp_path_factory.mktemp("published") / "checkout"
    git(checkout.parent, "clone", "--quiet", history.as_uri(), "checkout")
    for name in ("fedavg", "fedavg_erk"):
        (checkout / "methods" / f"{name}.py").write_text(METHOD)
    (checkout / "bench" / "matrices").mkdir()
    (checkout / "bench" / "matrices" / "tiny.toml").write_text(MATRIX)
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "a matrix")
    publish(checkout.parent / "live", checkout / "results" / "tiny", git(checkout, "rev-parse", "HEAD"))
    (checkout / "results" / "claims.toml").write_text(CLAIMS)
    (checkout / "results" / "README.md").write_text(f"# Results\n\n{marked('studies', '')}\n")
    (checkout / "README.md").write_text(f"# A suite\n\n{marked('claims', '')}\n")
    refresh(checkout / "results")
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "a study")
    return checkout


@pytest.fixture
def checkout(original: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a copy of the small checkout, which is the working folder."""
    copy = Path(shutil.copytree(original, tmp_path / "checkout"))
    monkeypatch.chdir(copy)
    return copy


def verify(capsys: pytest.CaptureFixture[str], *names: object) -> tuple[int, list[str]]:
    """Return the exit status of `fedfore verify` and the lines that it prints."""
    status = main(["verify", *map(str, names)])
    out, err = capsys.readouterr()
    assert err == ""
    return status, out.splitlines()


def test_a_published_study_passes_every_check(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, lines = verify(capsys)
    assert [line.split(maxsplit=2)[2] for line in lines] == [
        "files, those of checksums.json",
        "ids of 12 cells",
        "12 cells, those of the matrix",
        "code of 12 cells at 1 commit",
        "matrix tiny, that of the commit",
        "lines of 12 cells, which say the same as their records",
        "totals and peaks, which are those of their parts, and rounds in order",
        "names of environments",
        "tables and values of README.md",
        "nothing measured typed in README.md",
        "figures",
        "tables and values of results/README.md",
        "nothing measured typed in results/README.md",
        "tables and values of README.md",
        "nothing measured typed in README.md",
    ]
    assert status == 0 and {line.split()[0] for line in lines} == {"ok"}


def digit(text: str, before: str) -> str:
    """Return a text with the first digit after `before` changed."""
    place = re.compile(rf"({re.escape(before)}\D*)(\d)")
    changed = place.sub(lambda found: found[1] + str((int(found[2]) + 1) % 10), text, count=1)
    assert changed != text
    return changed


PAGE_LINE = r"README.md:\d+: .* stands there, the records give"
OTHER_ID = r"cells.jsonl: fedavg-\w{12} has the settings of fedavg-\w{12}"


@pytest.mark.parametrize(
    ("file", "before", "found"),
    [
        ("cells.jsonl", '"final_test_accuracy"', r"cells.jsonl: fedavg-\w{12}: final_test_accuracy is"),
        ("cells.jsonl", '"seed"', OTHER_ID),
        ("cells.jsonl", '"lr"', OTHER_ID),
        ("cells.jsonl", '"code_sha256"', r"cells.jsonl: fedavg-\w{12}: code_sha256 is"),
        ("rounds.jsonl", '"round": 600, "data_passes"', r"data_passes is 30.0, but rounds.jsonl gives"),
        ("environments.json", "cpus", r"environments.json: \w{12} is not the hash of what it says"),
        ("matrix.toml", "lr = 0.0", r"matrix.toml: params.fedavg.lr is not as in commit"),
        ("matrix.toml", "seed = [0, 1, ", r"plan.json: the plan lacks fedavg-\w{12}, which is a cell of"),
        ("matrix.toml", "seed = [", r"12 cells, those of the matrix: grid.seed holds 1 twice"),
    ],
)
def test_a_changed_digit_in_a_file_of_records_is_found(checkout: Path, file: str, before: str, found: str) -> None:
    path = checkout / "results" / "tiny" / file
    path.write_text(digit(path.read_text(), before))
    subject = Subject(open_run(path.parent), Asked("tiny"), discover(), checkout)
    wrong = [finding for finding in verify_records(subject) if finding.outcome != "ok"]
    assert any(re.search(found, finding.sentence) for finding in wrong), wrong
    assert {finding.outcome for finding in wrong} == {"differs"}


@pytest.mark.parametrize(
    ("file", "before", "found"),
    [
        ("results/tiny/cells.jsonl", '"test_accuracy"', PAGE_LINE),
        (
            "results/tiny/cells.jsonl",
            '"schema_version"',
            r"damaged in line 1 \(its record is of record schema 4",
        ),
        ("results/tiny/plan.json", "fedavg-", r"cells.jsonl has no line of fedavg-\w{12}, a cell of plan.json"),
        ("results/tiny/README.md", "| dense | ", f"results/tiny/{PAGE_LINE}"),
        ("results/tiny/README.md", "value: dense -->", f"results/tiny/{PAGE_LINE}"),
        ("results/README.md", "(tiny)", f"results/{PAGE_LINE}"),
        ("README.md", "(somebody)", PAGE_LINE),
    ],
)
def test_a_changed_digit_is_found_by_the_command(
    checkout: Path, capsys: pytest.CaptureFixture[str], file: str, before: str, found: str
) -> None:
    path = checkout / file
    path.write_text(digit(path.read_text(), before))
    status, lines = verify(capsys)
    wrong = [line for line in lines if not line.startswith("ok")]
    assert status == 1 and any(re.search(found, line) for line in wrong), wrong
    assert all(line.startswith("differs") for line in wrong)


def test_what_the_stored_command_changed_is_no_difference_of_matrices(checkout: Path) -> None:
    study = checkout / "results" / "tiny"
    changed = MATRIX.replace("lr = 0.05", "").replace("seed = [0, 1, 2]", "seed = [3]")
    (study / "matrix.toml").write_text(changed)
    asked_for = Asked("tiny", ("params.fedavg.lr=", "seed=[3]"))
    assert list(matrix_problems(Subject(open_run(study), asked_for, discover(), checkout))) == []
    found = list(matrix_problems(Subject(open_run(study), Asked("tiny"), discover(), checkout)))
    assert [line.split()[1] for line in found] == ["grid.seed", "params.fedavg.lr"]


def test_a_changed_digit_in_a_figure_is_found(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("results/tiny/figures") / f"{FIGURE}.png"
    pixels = matplotlib.image.imread(path)[..., :3].copy()
    pixels[100:104, 100:102] = 1 - pixels[100:104, 100:102]
    matplotlib.image.imsave(path, pixels)
    status, lines = verify(capsys, "tiny")
    (wrong,) = [line for line in lines if not line.startswith("ok")]
    assert status == 1 and wrong.startswith(f"differs tiny  {path} differs from what the records give: at pixel (10")


def test_a_lost_line_is_found_and_the_other_studies_are_checked(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree("results/tiny", "results/zoo")
    cells = Path("results/tiny/cells.jsonl")
    cells.write_text("".join(cells.read_text().splitlines(keepends=True)[1:]))
    status, lines = verify(capsys)
    assert status == 1 and any(
        line.startswith("differs tiny") and "cells.jsonl has no line of" in line for line in lines
    )
    assert any(line.startswith("ok      zoo  code of 12 cells") for line in lines)


def asking(run: Path, command: str) -> None:
    plan = json.loads((run / "plan.json").read_text())
    (run / "plan.json").write_text(json.dumps({**plan, "commands": [command]}))


@pytest.mark.thorough
def test_what_verify_could_not_check_is_not_published(
    original: Path, checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    live = Path(shutil.copytree(original.parent / "live", tmp_path / "live"))
    (live / "matrix.toml").write_text(MATRIX)
    asking(live, "fedfore run mine/tiny.toml")
    assert main(["publish", str(live), "mine"]) == 2
    assert "has no matrix mine/tiny.toml; a matrix is committed before it runs" in capsys.readouterr().err
    asking(live, "fedfore run tiny")
    record = next((live / "cells").glob("fedavg-*/record.json"))
    text, earlier = record.read_text(), git(checkout, "log", "--format=%H", "--grep=^1$")
    record.write_text(json.dumps({**json.loads(text), "git_commit": earlier}))
    assert main(["publish", str(live), "mine"]) == 2
    assert f"there is no method fedavg at commit {earlier[:12]}" in capsys.readouterr().err
    assert not Path("results/mine").exists()
    record.write_text(text)
    assert main(["publish", str(live), "mine"]) == 0


@pytest.mark.thorough
def test_an_unfinished_study_verifies_as_far_as_it_goes(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = git(checkout, "rev-parse", "HEAD~")
    publish(tmp_path / "half", tmp_path / "tiny", commit, lambda cell: "ok" if cell.seed else "missing")
    refresh(tmp_path, ["tiny"])
    status, lines = verify(capsys, tmp_path / "tiny")
    assert status == 0 and "ok      tiny  8 of 12 cells: unfinished, those of the matrix" in lines


def test_verify_in_a_shallow_clone_says_that_the_history_is_too_shallow_to_tell(
    checkout: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "--quiet", "--depth=1", checkout.as_uri(), "shallow")
    monkeypatch.chdir(tmp_path / "shallow")
    status, lines = verify(capsys)
    unknown = [line for line in lines if line.startswith("unknown")]
    assert status == 1 and len(unknown) == 2 and all("too shallow to tell" in line for line in unknown)
    assert all(line.startswith(("ok", "unknown")) for line in lines)


PAST = """
import dataclasses
from types import SimpleNamespace as Thing

def discover():
    return {{
        name: Thing(method=Thing(Config=dataclasses.make_dataclass("Config", [
            (key, object, dataclasses.field(default=value)) for key, value in defaults.items()
        ])))
        for name, defaults in {defaults!r}.items()
    }}

def resolve(document, methods):
    return [Thing(cell=Thing(id=name)) for name in {ids!r}]
"""


def test_where_a_default_has_moved_since_ids_follow_from_the_rules_of_the_own_commit(
    checkout: Path, tmp_path: Path
) -> None:
    study = checkout / "results" / "tiny"
    lines = [json.loads(line) for line in (study / "cells.jsonl").read_text().splitlines()]
    for line in lines:
        line["params"]["momentum"] = 0.5
    (study / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    subject = Subject(open_run(study), Asked("tiny"), discover(), checkout)
    assert len(problems(subject).ids) == 12

    defaults = present_rules(subject).defaults
    past = {name: {**values, "momentum": 0.5} for name, values in defaults.items()}
    for module in ("matrix", "registry"):
        (checkout / "bench" / f"{module}.py").write_text(PAST.format(defaults=past, ids=sorted(subject.run.recorded())))
    git(checkout, "add", "--all")
    git(checkout, "commit", "--quiet", "--message", "other defaults")
    (study / "cells.jsonl").write_text(
        "".join(json.dumps({**line, "git_commit": git(checkout, "rev-parse", "HEAD")}) + "\n" for line in lines)
    )
    assert problems(Subject(open_run(study), Asked("tiny"), discover(), checkout)) == NOTHING


def test_what_is_no_study_is_one_sentence(checkout: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "tinny"]) == 2
    assert capsys.readouterr().err == 'fedfore: There is no published study "tinny". Did you mean "tiny"?\n'
    shutil.rmtree("results")
    assert main(["verify"]) == 2
    assert "There are no published studies here; run from a checkout" in capsys.readouterr().err


def full_history() -> Path:
    if git_text(ROOT, "rev-parse", "--is-shallow-repository") != "false":
        pytest.skip("The checkout is shallow, or none: what was computed at which commit cannot be told.")
    return ROOT


@pytest.mark.parametrize("study", [FAST, *(pytest.param(name, marks=pytest.mark.slow) for name in OTHERS)])
def test_every_published_record_is_of_the_code_at_its_commit(study: str) -> None:
    run = open_run(ROOT / "results" / study)
    records = [run.stored(name) or {} for name in run.recorded()]
    assert records and list(code_problems(records, full_history())) == []


def published(study: str) -> Subject:
    run = open_run(ROOT / "results" / study)
    return Subject(run, asked(run.commands()), discover(), full_history())


@pytest.mark.thorough
def test_the_present_commit_tells_what_its_code_is_and_what_a_matrix_means_to_it() -> None:
    subject = published(FAST)
    commit = git(subject.checkout, "rev-parse", "HEAD")
    assert {"fedavg", "fed_ntk_zo"} < past_code_of(subject.checkout, commit).sha256.keys()
    rules = rules_at(subject, commit)
    assert set(rules.ids) == {cell.id for cell in subject.run.plan()} and "lr" in rules.defaults["fedavg"]


@pytest.mark.slow
@pytest.mark.parametrize("study", [FAST, *OTHERS])
def test_every_published_id_follows_from_the_rules_of_its_own_commit_too(study: str) -> None:
    subject = published(study)
    rules = rules_at(subject, subject.commit)
    assert list(id_problems(subject, rules)) == list(completeness_problems(subject, rules)) == []
