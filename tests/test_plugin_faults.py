"""Plug-ins that misbehave: `fedfore check` names what they do in one line, and a run loses their cells alone."""

from __future__ import annotations

import gc
import json
import re
import warnings
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from fedfore.cli.main import main
from fedfore.contract.border import unchanged_process
from fedfore.contract.method import Method
from fedfore.tasks.examples import Examples

EVIL = Path(__file__).parent / "plugins" / "odd"

RAISED = {
    "sys.exit": "SystemExit: 0", "assertion": "AssertionError: boom", "arithmetic": "ZeroDivisionError",
    "os": "OSError: boom", "memory": "MemoryError", "import": "ImportError: boom", "generator exit": "GeneratorExit",
    "base": "OddBase: boom", "unprintable": "Unprintable: its text cannot be made",
    "surrogate": r"a lone surrogate \ud800", "escape": r"\x1b[31mred second line",
}  # fmt: skip
HOOKS = ("check", "prepare", "start", "aggregate", "evaluation_weights")
CHANGED = {
    "chdir": "the working folder", "dtype": "default dtype", "no grad": "gradients are recorded",
    "threads": "number of threads", "umask": "permissions of new files",
    "autocast": "autocast", "hook of all modules": "hooks of all modules", "loss": "torch.nn.functional",
}  # fmt: skip
REFUSED = {
    "no update": ("hook_type", "NoneType"),
    "no examples": ("num_examples", "num_examples = 0"),
    "half examples": ("num_examples", "num_examples = 1.5"),
    "no weights": ("weights", "a client sent none"),
    "sparse weights": ("message_type", "no dense tensor"),
    "integer weights": ("weights", "torch.int64"),
    "weights of text": ("message_type", "is a str"),
    "an unknown weight": ("weights", '"zzz"'),
    "a sparse tensor": ("message_type", "no dense tensor"),
    "a tensor of text": ("message_type", "is a str"),
    "scalars of text": ("message_type", "is a str"),
    "tensor notes": ("notes", "Tensor"),
    "a note of an object": ("notes", "SimpleNamespace"),
    "numbered notes": ("notes", "the key 1"),
    "variant of numbers": ("notes", "it is a phrase"),
    "data": ("data", "overwrites the data set"),
}
FOUND_LATER = {
    "nan notes": ("notes", "not finite"),
    "shared weights": ("hidden_state", "the global SHARED"),
    "class memory": ("hidden_state", "Evil.memory"),
    "memory of the base": ("hidden_state", "Method.memory"),
    "memory of an object": ("hidden_state", "the global OBJECT"),
    "a counter": ("hidden_state", "the global COUNTER"),
    "no copy": ("trains", ".clone()"),
}


@pytest.fixture
def checked(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Yield a function from a fate and a hook to the lines of `check`, the first without `ok`.

    The data of other tests in this process are as before afterwards.
    """
    held: list[tuple[Tensor, Tensor]] = []
    monkeypatch.setattr(Method, "memory", None, raising=False)

    def check(fate: str, hook: str = "client_update", *methods: str) -> list[str]:
        if fate == "data":
            held.extend((one.labels, one.labels.clone()) for one in gc.get_objects() if type(one) is Examples)
        monkeypatch.setenv("EVIL_FATE", fate)
        monkeypatch.setenv("EVIL_HOOK", hook)
        assert main(["check", "evil", *methods, "--plugins", str(EVIL)]) == 1
        out, err = capsys.readouterr()
        assert err == "" and all(line.isprintable() for line in out.splitlines())
        return out.splitlines()

    yield check
    for labels, before in held:
        labels.copy_(before)


def broken(lines: list[str]) -> list[str]:
    return [line for line in lines if line.startswith("broken")]


@pytest.mark.parametrize(
    ("fate", "hook"),
    [*((fate, "client_update") for fate in RAISED), *(("sys.exit", hook) for hook in HOOKS)],
)
def test_whatever_a_hook_raises_is_one_line_with_its_place(fate: str, hook: str, checked) -> None:
    (line,) = broken(checked(fate, hook))
    assert re.match(r"broken +evil +runs: ", line) and RAISED[fate] in line
    assert re.search(r"evil\.py, line \d+\)", line)


@pytest.mark.parametrize("fate", REFUSED)
@pytest.mark.thorough
def test_what_cannot_be_sent_or_stored_is_refused_by_its_rule(fate: str, checked) -> None:
    rule, words = REFUSED[fate]
    (line,) = broken(checked(fate, "aggregate"))
    assert re.match(rf"broken +evil +{rule}: ", line) and words in line


@pytest.mark.parametrize("fate", CHANGED)
@pytest.mark.thorough
def test_what_is_changed_for_all_methods_is_named_and_undone(fate: str, checked) -> None:
    before = (torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd(), torch.nn.functional.cross_entropy)
    (line,) = broken(checked(fate, "evaluation_weights"))
    assert "global_state" in line and CHANGED[fate] in line
    after = (torch.get_default_dtype(), torch.is_grad_enabled(), Path.cwd(), torch.nn.functional.cross_entropy)
    assert after == before and not torch.is_autocast_enabled("cpu")


def test_a_warning_that_torch_notes_in_its_own_module_is_no_change_of_the_process() -> None:
    vars(functional).pop("__warningregistry__", None)
    with unchanged_process("Method"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        exec("import warnings; warnings.warn('of torch')", vars(functional))
    assert "__warningregistry__" in vars(functional)


@pytest.mark.parametrize("fate", FOUND_LATER)
@pytest.mark.thorough
def test_a_method_that_does_not_do_what_it_seems_to_is_found(fate: str, checked) -> None:
    rule, words = FOUND_LATER[fate]
    lines = broken(checked(fate))
    assert any(re.match(rf"broken +evil +{rule}: ", line) and words in line for line in lines), lines


@pytest.mark.parametrize("fate", ["dtype", "data", "sys.exit"])
@pytest.mark.thorough
def test_the_methods_after_a_broken_one_are_checked_as_if_it_were_not_there(fate: str, checked) -> None:
    lines = checked(fate, "aggregate", "fedavg")
    assert {line.split()[0] for line in lines if line.split()[1] == "fedavg"} == {"ok"}


@pytest.mark.parametrize("hook", ["check", "prepare"])
@pytest.mark.parametrize(
    ("fate", "said"), [("sys.exit", "SystemExit: 0 ("), ("unprintable", "Unprintable"), ("chdir", "the working folder")]
)
def test_a_plan_names_the_cell_whose_hook_fails(
    hook: str, fate: str, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = (
        "method=evil",
        "sparsity=0.0",
        "alpha=iid",
        "seed=0",
        f"params.evil.fate={fate}",
        f"params.evil.hook={hook}",
    )
    asked = [word for key in grid for word in ("--set", key)]
    before = Path.cwd()
    assert main(["plan", *asked, "--plugins", str(EVIL)]) == 2
    sentence = capsys.readouterr().err
    assert said in sentence and "evil-" in sentence and sentence.count("\n") == 1
    assert Path.cwd() == before


PICKY = """
from dataclasses import dataclass
from fedfore.api import Method
from fedfore.primitives.local_sgd import LocalSGDConfig


@dataclass(frozen=True)
class Config(LocalSGDConfig):
    size: int = 1

    def __post_init__(self):
        assert self.size == 1, 'one'


class Picky(Method):
    '''Picky.'''

    Config = Config
"""


def test_a_config_that_refuses_a_value_in_its_own_way_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "picky.py").write_text(PICKY)
    assert main(["plan", "--plugins", str(tmp_path), "--set", "method=picky", "--set", "params.picky.size=2"]) == 2
    assert capsys.readouterr().err == "fedfore: [params.picky]: AssertionError: one.\n"


LOOP = """
from fedfore.api import Method, Update
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.local_sgd import LocalSGDConfig
from torch.nn.functional import cross_entropy
from torch.optim import SGD


class Loop(Method):
    '''Trains in a loop of its own.'''

    def client_update(self, model, client, ctx):
        optimizer = SGD(model.parameters(), lr=self.config.lr_at(ctx.round, ctx.progress))
        epochs = None if self.config.local_steps else (self.config.local_epochs or 1)
        for x, y in client.batches(epochs=epochs, steps=self.config.local_steps):
            optimizer.zero_grad()
            cross_entropy(model(x), y).backward()
            optimizer.step()
        return Update(weights=model_tensors(model), num_examples=client.num_examples)
"""


@pytest.mark.thorough
def test_inherited_keys_that_do_nothing_are_a_warning(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "loop.py").write_text(LOOP)
    assert main(["check", "loop", "--plugins", str(tmp_path)]) == 0
    (line,) = (line for line in capsys.readouterr().out.splitlines() if not line.startswith("ok"))
    assert re.match(r"warning +loop +dead_keys: ", line)
    assert "keys momentum, weight_decay, memory, micro_batch of" in line


MATRIX = """
[[grid]]
method = ["evil"]
dataset = ["digits"]
model = ["lenet5"]
"params.evil.fate" = ["sys.exit", "base", "surrogate", "unprintable", "dtype", "chdir", "no grad", "loss"]
[[grid]]
method = ["fedavg"]
dataset = ["digits"]
model = ["lenet5"]
[train]
clients = 3
rounds = 1
ntk = false
"""


@pytest.mark.slow
def test_a_run_loses_the_cells_of_a_misbehaving_plug_in_and_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "evil.toml").write_text(MATRIX)
    asked = ["run", "evil.toml", "--plugins", str(EVIL), "--workers", "1", "--out", "run"]
    assert main(asked) == 1
    records = [json.loads(path.read_text()) for path in (tmp_path / "run" / "cells").glob("*/record.json")]
    assert len(records) == 9
    assert {record["method"]: record["status"] for record in records} == {"evil": "failed", "fedavg": "ok"}
    assert sum("global_state" in record["reason"] for record in records if record["reason"]) == 4
