"""Data sets and models in files of their own: found by syntax, known to every verb, imported where they are used."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from contextlib import nullcontext
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import torch
from torch import nn

from fedfore.cli.main import main
from fedfore.contract.plugins import know_plugins
from fedfore.contract.registry import discover
from fedfore.errors import ConfigError, DataError, FedForeError, PluginError
from fedfore.execution import worker
from fedfore.records.declared import declarations, known
from fedfore.records.record import Record
from fedfore.records.store import open_run
from fedfore.records.table import remarks
from fedfore.tasks.datasets import spec
from fedfore.tasks.loading import load, stand_in
from fedfore.tasks.models import build, canonical, outline
from tests.conftest import run_in_this_process

PLUGINS = Path(__file__).with_name("plugins")
DATASET = """
from fedfore.api import dataset


@dataset(input_shape=(1, 8, 8), num_classes=2, num_train=4, num_test=2)
def mine(folder):
    '''Mine.'''
"""
MODEL = """
from fedfore.api import model


@model
def mine(input_shape, num_classes):
    '''Mine.'''
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    return folder


@pytest.fixture
def matrix(tmp_path: Path) -> Path:
    (tmp_path / "m.toml").write_text(
        '[grid]\nmethod = ["fedavg"]\ndataset = ["blobs"]\nmodel = ["corners:depth=2"]\n'
        "[train]\nrounds = 1\nclients = 4\nntk = false\nbatch_size = 16\n"
    )
    return tmp_path / "m.toml"


def test_every_kind_is_known_by_its_syntax_alone_and_methods_beside_it_are_methods() -> None:
    sys.modules.pop("fedfore_plugin_blobs", None)
    methods = discover([PLUGINS])
    assert "fedprox" in methods and "blobs" not in methods
    assert sorted(known("dataset")) == ["blobs", "bright_corner"]
    assert sorted(known("model")) == ["corners", "two_by_two"]
    assert known("dataset")["blobs"].summary.startswith("One bright corner")
    assert "fedfore_plugin_blobs" not in sys.modules
    assert spec("blobs").input_shape == (3, 20, 20) and "fedfore_plugin_blobs" in sys.modules
    discover()
    with pytest.raises(ConfigError, match='Unknown data set "blobs"'):
        spec("blobs")


@pytest.mark.parametrize(
    "text",
    [
        "from fedfore.api import model\n@model\ndef a(input_shape, num_classes): '''A.'''",
        "from fedfore.api import model as m\n@m(smallest=3)\ndef a(input_shape, num_classes): '''A.'''",
        "import fedfore.api\n@fedfore.api.model\ndef a(input_shape, num_classes): '''A.'''",
        "import fedfore.api as ff\n@ff.model()\ndef a(input_shape, num_classes): '''A.'''",
    ],
)
def test_a_decorator_is_known_however_it_was_imported(text: str, tmp_path: Path) -> None:
    file = write(tmp_path, one=text) / "one.py"
    assert [(one.kind, one.name, one.summary) for one in declarations(file)] == [("model", "a", "A.")]
    file.write_text(text.replace("fedfore", "others"))
    assert list(declarations(file)) == []


def test_arrays_of_any_size_become_examples_with_owners_and_the_scale_of_what_was_read() -> None:
    know_plugins([PLUGINS])
    data = load("blobs")
    assert data.train.images.dtype == torch.float32 and data.train.client is not None
    assert data.train.client.bincount().tolist() == [12] * 6 + [8]
    x, _ = data.train.batch(range(80))
    assert x.mean((0, 2, 3)).abs().max() < 1e-6 and (x.std((0, 2, 3), unbiased=False) - 1).abs().max() < 1e-5
    assert stand_in("blobs", 5).train.batch(range(5))[0].shape == (5, 3, 20, 20)


def test_options_of_every_type_have_one_spelling_and_wrong_ones_a_sentence() -> None:
    know_plugins([PLUGINS])
    assert canonical("corners:width=1.0,bias=true,pool=max,depth=1") == "corners"
    assert canonical("corners:pool=mean,depth=3,bias=false") == "corners:bias=false,depth=3,pool=mean"
    assert len(list(build("corners:depth=3,bias=false", (1, 8, 8), 4).parameters())) == 5
    for wrong, said in {
        "depth=1.5": "give a positive whole number",
        "bias=no": 'has no bias "no"',
        "pool=min": 'has no pool "min"',
        "dept=2": 'Did you mean "depth"',
    }.items():
        with pytest.raises(ConfigError, match=said):
            canonical(f"corners:{wrong}")
    with pytest.raises(ConfigError, match=r'"corners" needs images of at least 8x8 pixels, not 7x9'):
        build("corners", (1, 7, 9), 4)


@pytest.mark.parametrize("make", [outline, build])
@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ("nn.Flatten(), nn.Linear(64, 3)", r"makes \[2, 3\] of 2 images; return logits, \[2, 5\]"),
        ("nn.Flatten(), nn.Linear(64, 10), nn.GLU(), nn.LSTM(5, 5)", "makes tuple of 2 images"),
        ("nn.Flatten(), nn.Linear(63, 5)", r"fails on two images of \(1, 8, 8\): RuntimeError: mat1 and mat2"),
    ],
)
def test_a_model_that_makes_no_logits_is_refused_before_the_first_cell_where_shapes_tell(
    tmp_path: Path, make: Callable[..., nn.Module], layers: str, said: str
) -> None:
    body = f"    return nn.Sequential({layers})\n"
    write(tmp_path / "own", **{f"mine_{make.__name__}": f"from torch import nn{MODEL}{body}"})
    know_plugins([tmp_path / "own"])
    told = make is build or "fails" not in said
    with pytest.raises(PluginError, match=said) if told else nullcontext():
        make("mine", (1, 8, 8), 5)
    know_plugins()


def test_every_verb_that_names_data_or_models_knows_those_of_plug_ins(
    matrix: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for listed, shown in {"datasets": "blobs ", "models": "corners "}.items():
        assert main(["ls", listed, "--plugins", str(PLUGINS)]) == 0
        (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith(shown)]
        assert "[plugin] " in line
    assert main(["messages", "corners", "--dataset", "blobs", "--clients", "4", "--plugins", str(PLUGINS)]) == 0
    assert main(["cost", "corners:depth=2", "--dataset", "blobs", "--batch", "2", "--plugins", str(PLUGINS)]) == 0
    assert main(["plan", str(matrix), "--plugins", str(PLUGINS)]) == 0
    assert main(["cost", "corner", "--dataset", "blobs", "--plugins", str(PLUGINS)]) == 2
    assert 'Unknown model "corner". Did you mean "corners"?' in capsys.readouterr().err


@pytest.mark.thorough
def test_a_changed_plug_in_makes_the_records_of_its_cells_stale_and_nothing_else(
    matrix: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run_in_this_process(monkeypatch)
    plugins = write(
        tmp_path / "plugins",
        blobs=(PLUGINS / "blobs.py")
        .read_text()
        .replace("SIDE, EXAMPLES = 20, 120", "from sizes import EXAMPLES, SIDE"),
        sizes="SIDE, EXAMPLES = 20, 120\n",
    )
    asked = ["run", str(matrix), "--out", str(tmp_path / "run"), "--plugins", str(plugins)]
    assert main(asked) == 0
    (file,) = (tmp_path / "run" / "cells").glob("*/record.json")
    record = json.loads(file.read_text())
    assert set(record["plugin_code"]) == {"dataset blobs", "model corners"}
    assert record["chance_accuracy"] == 0.25 and record["status"] == "ok"
    assert main(asked) == 0
    assert "1 already there, 0 to run" in capsys.readouterr().err
    assert remarks(open_run(tmp_path / "run")) == []
    (plugins / "sizes.py").write_text("SIDE, EXAMPLES = 20, 120  # in pixels\n")
    assert remarks(open_run(tmp_path / "run")) == []
    (plugins / "sizes.py").write_text("SIDE, EXAMPLES = 20, 60 + 60\n")
    assert "1 records were computed with other code" in remarks(open_run(tmp_path / "run"))[0]
    worker._code.cache_clear()  # as in a process that begins now
    assert main([*asked, "--rerun", "stale"]) == 0
    assert remarks(open_run(tmp_path / "run")) == []
    (plugins / "blobs.py").unlink()
    assert "is not known" in remarks(open_run(tmp_path / "run"))[0]


BROKEN = {
    "two of one name": (MODEL, MODEL, 'Two models are called "mine": .*a.py and .*b.py; rename one function'),
    "a shipped one's name": (MODEL.replace("mine", "lenet5"), "", 'Two models are called "lenet5": .*lenet.py and'),
    "wrong arguments": (MODEL.replace("input_shape, num", "shape, num"), "", r"arguments are \(shape, num_classes\)"),
    "an option of text": (MODEL.replace("classes)", "classes, *, a: str = 'x')"), "", r"of its values, Literal\['x'"),
    "an option without default": (MODEL.replace("classes)", "classes, *, a)"), "", "option a has no default"),
    "no import": (MODEL + "import absent\n", "", 'model "mine" cannot be used: .*No module named .absent'),
    "nothing built": (MODEL, "", 'model "mine" builds a NoneType, and no module'),
    "half a shape": (DATASET.replace("(1, 8, 8)", "(8, 8)"), "", r"input_shape is \(8, 8\); give channels"),
    "one class": (DATASET.replace("num_classes=2", "num_classes=1"), "", "num_classes is 1; give channels"),
    "other counts": (DATASET.replace("test=2", "test=2, class_counts=(1, 2)"), "", "class_counts are 2 numbers"),
    "no keyword": (DATASET.replace(", num_test=2", ""), "", "its decorator lacks num_test"),
    "another keyword": (DATASET.replace("test=2", "test=2, stds=1"), "", 'no argument stds. Did you mean "std"'),
    "nothing read": (DATASET, "", "gives a NoneType"),
    "a reader that raises": (DATASET + "    1 / 0\n", "", r'"mine" fails: ZeroDivisionError: .*a.py, line 8\)\.'),
}
"""Two files of a folder, and what is said of them once it is asked for what they declare."""


@pytest.mark.parametrize("kind", BROKEN)
def test_what_cannot_be_used_is_one_sentence(kind: str, tmp_path: Path) -> None:
    a, b, said = BROKEN[kind]
    with pytest.raises(FedForeError, match=said) as raised:
        know_plugins([write(tmp_path / "plugins", a=a, b=b)])
        build("mine", (1, 8, 8), 2) if known("model") else load("mine")
    assert isinstance(raised.value, PluginError | DataError) and "\n" not in str(raised.value)
    know_plugins()


def test_an_entry_point_gives_way_to_a_file_and_is_imported_where_it_is_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "package", __init__="", data=DATASET, nets=MODEL.replace("mine", "net"))
    monkeypatch.syspath_prepend(tmp_path)
    points = [
        EntryPoint("theirs", "package.data:mine", "fedfore.datasets"),
        EntryPoint("net", "package.nets:net", "fedfore.models"),
        EntryPoint("lenet5", "package.nets:net", "fedfore.models"),
        EntryPoint("wrong", "package.data:mine", "fedfore.models"),
        EntryPoint("test_accuracy", "package.data:mine", "fedfore.metrics"),
    ]
    monkeypatch.setattr(
        "fedfore.contract.plugins.entry_points", lambda group: [point for point in points if point.group == group]
    )
    know_plugins()
    assert known("dataset")["theirs"].summary == "Mine." and "package" not in sys.modules
    assert spec("theirs").name == "theirs" and known("dataset")["theirs"].file == tmp_path / "package" / "data.py"
    assert list(known("model")) == ["net", "package.nets:net", "wrong"]
    with pytest.raises(PluginError, match=r'entry point "lenet5" .* is not used: .*lenet.py has that name'):
        known("model")["package.nets:net"].load()
    with pytest.raises(PluginError, match=r'"test_accuracy" .* is not used: .*metrics.py has that name'):
        known("metric")["package.data:mine"].load()
    with pytest.raises(PluginError, match="mine is not under the decorator of fedfore models"):
        build("wrong", (1, 8, 8), 2)
    know_plugins()


def test_a_record_says_nothing_of_plug_ins_where_there_are_none() -> None:
    assert next(field for field in Record.__dataclass_fields__.values() if field.name == "plugin_code").default is None
