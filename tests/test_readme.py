"""Every command that README and the reference pages print, run as printed, the long ones cut down by `--set`."""

from __future__ import annotations

import functools
import hashlib
import io
import pickle
import re
import shlex
import shutil
import tarfile
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.util import find_spec
from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.docs.pages import pages
from fedfore.records.provenance import ROOT
from fedfore.tasks.datasets import DATASETS
from fedfore.tasks.files import ensure_present
from fedfore.tasks.torchvision_compat import datasets
from tests.conftest import run_in_this_process

README_FILE = ROOT / "README.md"
README = README_FILE.read_text(encoding="utf-8")
GENERATED = re.compile(r"<!-- table: .*?<!-- end of table -->", re.DOTALL)
PRINTED = "\n".join([README, *(GENERATED.sub("", page.read_text(encoding="utf-8")) for page in pages())])
SHELL = re.findall(r"^```sh\n(.*?)^```", PRINTED, re.DOTALL | re.MULTILINE)
LINES = [" ".join(shlex.split(line, comments=True)) for block in SHELL for line in block.splitlines()]
INLINE = [" ".join(text.split()) for text in re.findall(r"`(fedfore [^`]+)`", PRINTED)]
COMMANDS = sorted({line for line in [*LINES, *INLINE] if line.startswith("fedfore ")})
MADE = [line.split()[1] for line in LINES if line.startswith("make ")]
TARGETS = sorted({*MADE, *re.findall(r"`make ([^`]+)`", PRINTED)})


def sets(*overrides: str) -> list[str]:
    return [word for override in overrides for word in ("--set", override)]


ONE = [*sets('method=["fedavg"]', "seed=[0]", 'alpha=["iid"]', "sparsity=[0.8]"), "--workers", "1"]
SHORT = sets("train.data_passes=0.1", "train.ntk=[false]", "train.clients=4")
QUICK = [
    *sets('method=["fed_ntk_zo"]', "seed=[0]", 'alpha=["iid"]', "sparsity=[0.8]", "params.fed_ntk_zo.iterations=1"),
    *sets("params.fed_ntk_zo.num_perturbations=5", "params.fed_ntk_zo.inputs_per_draw=4"), *SHORT, "--workers", "1",
]  # fmt: skip
DIGITS = sets('dataset=["digits"]', 'model=["lenet5"]')
CLUSTERS = ("ray --shared", "auto --shared", "ray://head:10001", "auto --device cuda --gpus 0.5")
CUTS: dict[str, list[str]] = {
    "fedfore run": QUICK,
    "fedfore run my.toml --workers 8 --out results/my": [*ONE, *SHORT, *sets("train.eval_every=0.1")],
    "fedfore run quick --set seed=[0,1] --set params.baffle.num_perturbations=[50,200] --out results/runs/k": [
        *SHORT, *sets('method=["baffle"]', "seed=[0]", 'alpha=["iid"]', "params.baffle.num_perturbations=[2]"),
    ],
    "fedfore plan my.toml": [],
    "fedfore plan my.toml --set seed=[0,1,2,3,4] --set train.data_passes=10 --set params.baffle.sigma=1e-3": [],
    "fedfore ls methods": [],
    "fedfore ls fields": [],
    "fedfore ls metrics": [],
    "fedfore status results/runs/quick": [],
    "fedfore show results/runs/quick": [],
    "fedfore show results/runs/quick --by alpha --latex": [],
    "fedfore show results/runs/quick --rows rounds --csv": [],
    "fedfore show results/runs/quick --columns test_accuracy,total_bytes --baseline BAFFLE --markdown": [
        "--baseline", "Fed-NTK",
    ],
    "fedfore plot results/runs/quick --width 3.3": [],
    "fedfore export results/runs/quick --tensorboard events": [],
    "fedfore report results/runs/quick": [],
    "fedfore verdicts": ["--results", str(ROOT / "results")],
    "fedfore messages lenet5 --dataset cifar10": [],
    "fedfore check": ["fedavg"],
    "fedfore check my_method --plugins .": [],
    "fedfore new": ["another", "--dir", "more"],
    "fedfore new my_method": ["--dir", "more"],
    "fedfore new my_data --kind dataset": [],
    "fedfore new my_mask --kind pruning": [],
    "fedfore ls keys my_method --plugins .": [],
    "fedfore cost lenet5 --all --memory 1MiB": [],
    "fedfore cost lenet5 --dataset digits --batch 16 --all --memory 1MiB": [],
    "fedfore check fedprox --plugins tests/plugins": [],
    "fedfore check bright_corner two_by_two --plugins tests/plugins": [],
    "fedfore cost two_by_two --dataset bright_corner --plugins tests/plugins": [],
    "fedfore run my.toml --plugins tests/plugins": [
        *ONE, *SHORT, *sets('method=["fedprox"]', "train.eval_every=0.1"),
    ],
    "fedfore cost resnet18:norm=group --dataset cifar10 --method baffle --batch 32": sets(
        "params.baffle.num_perturbations=1"
    ),
    "fedfore cost lenet5 --method fed_ntk_zo --sparsity 0.8 --run results/runs/quick --dataset digits": [],
    "fedfore run device-costs": [*ONE, *sets('model=["lenet5"]', "train.batch_size=[1]")],
    "fedfore run baffle-as-released": [
        *DIGITS, "--workers", "1",
        *sets("train.augment=[false]", "seed=[0]", "train.data_passes=0.1", "train.ntk=false"),
        *sets("params.baffle.num_perturbations=2", "params.baffle.lr=[0.01]"),
    ],
    "fedfore data get cifar10": [],
    "fedfore run my.toml --workers 8 --timeout 3600 --out results/my": [
        *ONE, *SHORT, *sets("train.eval_every=0.1"), "--out", "results/timed",
    ],
    "fedfore run my.toml --workers 2 --processes-per-cell 4 --out results/my": [
        *ONE, *SHORT, *sets("train.eval_every=0.1"), "--out", "results/shared",
    ],
    "fedfore merge parts/1 parts/2 --out results/merged": [],
    "fedfore merge": ["parts/1", "parts/2", "--out", "results/named"],
    **{
        f"fedfore run my.toml --executor {cluster} --out results/my": [
            *ONE, *SHORT, *sets("train.eval_every=0.1"), "--device", "cpu", "--out", "results/nodes",
        ]
        for cluster in CLUSTERS
    },
}  # fmt: skip
LONG = ("run my", "run quick", "run device", "run baffle", "cost resnet", "cost lenet5 --all", "plot")
SLOW = tuple(f"fedfore {start}" for start in LONG)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with README's own matrix, the plug-ins beside it, and a cut-down quick run."""
    folder = tmp_path_factory.mktemp("readme")
    (matrix,) = re.findall(r"^```toml\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    (folder / "my.toml").write_text(matrix, encoding="utf-8")
    shutil.copytree(ROOT / "tests" / "plugins", folder / "tests" / "plugins")
    (folder / "more").mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        run_in_this_process(patch)
        assert main(["new", "my_method"]) == 0
        assert main(["run", *CUTS["fedfore run"]]) == 0
        for part in ("1", "2"):
            shutil.copytree(folder / "results" / "runs" / "quick", folder / "parts" / part)
    return folder


def archive(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:gz") as tar:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            tar.addfile(entry, io.BytesIO(content))
    return stream.getvalue()


@pytest.fixture
def cifar_server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Serve an archive in CIFAR-10's layout, one image a file, under checksums of its own, from this machine."""
    batch = pickle.dumps({"data": [[0] * 3072], "labels": [0], "label_names": ["a"]})
    members = dict.fromkeys(DATASETS["cifar10"].files, batch)
    sums = {name: hashlib.md5(content).hexdigest() for name, content in members.items()}
    (tmp_path / "served").mkdir()
    (tmp_path / "served" / "cifar.tar.gz").write_bytes(archive(members))
    by_name = {Path(name).name: md5 for name, md5 in sums.items()}
    kind = datasets.CIFAR10
    handler = functools.partial(SimpleHTTPRequestHandler, directory=str(tmp_path / "served"))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(kind, "url", f"http://127.0.0.1:{server.server_port}/cifar.tar.gz")
        monkeypatch.setattr(kind, "filename", "cifar.tar.gz")
        monkeypatch.setattr(kind, "tgz_md5", hashlib.md5(archive(members)).hexdigest())
        monkeypatch.setattr(kind, "train_list", [[name, by_name[name]] for name, _ in kind.train_list])
        monkeypatch.setattr(kind, "test_list", [[name, by_name[name]] for name, _ in kind.test_list])
        monkeypatch.setattr(kind, "meta", {**kind.meta, "md5": by_name[kind.meta["filename"]]})
        monkeypatch.setitem(DATASETS, "cifar10", replace(DATASETS["cifar10"], files=sums))
        monkeypatch.setenv("FEDFORE_DATA", str(tmp_path / "data"))
        yield
        server.shutdown()


def test_every_command_of_readme_has_a_row_and_every_row_is_of_readme() -> None:
    assert sorted(CUTS) == COMMANDS


FITTING = "fedfore cost lenet5 --dataset digits --batch 16 --all --memory 1MiB"
RUN_HERE = sorted(set(CUTS) - {"fedfore data get cifar10", "fedfore run", FITTING})
"""`tests/test_ray.py` has clusters; here such a command is read and planned, and runs in this process."""


def marks_of(command: str) -> list[pytest.MarkDecorator]:
    lacks = command.startswith("fedfore export") and find_spec("tensorboard") is None
    known = [(pytest.mark.slow, command.startswith(SLOW)), (pytest.mark.skipif(lacks, reason="no tensorboard"), lacks)]
    return [mark for mark, applies in known if applies]


@pytest.mark.parametrize(
    "command",
    [pytest.param(name, marks=marks_of(name)) for name in RUN_HERE],
)
@pytest.mark.thorough
def test_a_command_of_readme_works(command: str, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(place)
    if "--executor" in command:
        run_in_this_process(monkeypatch)
    assert main([*shlex.split(command)[1:], *CUTS[command]]) == 0


@pytest.mark.parametrize("place_of", [README_FILE, *pages()], ids=lambda file: file.stem)
def test_every_matrix_that_a_page_prints_has_a_plan(place_of: Path, tmp_path: Path) -> None:
    blocks = re.findall(r"^```toml\n(.*?)^```", place_of.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    for text in (block for block in blocks if "[grid]" in block):
        (tmp_path / "printed.toml").write_text(text, encoding="utf-8")
        assert main(["plan", str(tmp_path / "printed.toml")]) == 0


def test_the_plug_ins_that_readme_prints_are_the_whole_files_that_its_commands_run() -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    files = [ROOT / "tests" / "plugins" / f"{name}.py" for name in ("fedprox", "corners")]
    printed = [block for block in blocks if "fedfore.api" in block]
    assert printed == [file.read_text(encoding="utf-8") for file in files]


@pytest.mark.slow
def test_the_table_that_readme_prints_is_what_its_command_prints(capsys: pytest.CaptureFixture[str]) -> None:
    (printed,) = re.findall(rf"^{FITTING}\n```\n\n```text\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
    assert main(shlex.split(FITTING)[1:]) == 0
    assert [line.rstrip() for line in capsys.readouterr().out.strip().splitlines()] == printed.splitlines()


def test_running_a_matrix_writes_the_report_that_readme_names(place: Path) -> None:
    assert "`results/runs/quick/report.html`" in README
    assert (place / "results" / "runs" / "quick" / "report.html").is_file()


@pytest.mark.usefixtures("cifar_server")
def test_readmes_download_puts_the_files_where_readme_says(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["data", "get", "cifar10"]) == 0
    assert capsys.readouterr().out.endswith(f"cifar10 is in {tmp_path / 'data'}\n")
    ensure_present("cifar10")


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_that_readme_names_is_in_the_makefile(target: str) -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert re.search(rf"^{target}:.*\n\t", makefile, re.MULTILINE)
    assert re.search(r"^run:.*\n\t\$\(BIN\)/fedfore run$", makefile, re.MULTILINE), "`make run` is `fedfore run`"
