"""Wrong matrices through the command: one sentence before the first cell, exit status 2; what is unusual is planned."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.tasks import models

BASE = """
[grid]
method = {method}
dataset = ["{dataset}"]
model = {model}
alpha = {alpha}
seed = {seed}
{axes}
[train]
{train}
"""
PLAIN = {"method": '["fedavg"]', "model": '["lenet5"]', "alpha": '["iid"]', "seed": "[0]", "train": "rounds = 2"}
DIGITS = "9" * 5000
HEX = "0x" + "f" * 5000


def written(folder: Path, row: dict[str, str]) -> str:
    path = folder / "matrix.toml"
    path.write_text(BASE.format(**{**PLAIN, "dataset": "digits", "axes": "", **row}), encoding="utf-8")
    return str(path)


WRONG: dict[str, tuple[dict[str, str], str]] = {
    "seed of 5,000 digits": ({"seed": f"[{DIGITS}]"}, "a number is too long"),
    "seed of 5,000 hexadecimal digits": ({"seed": f"[{HEX}]"}, "grid.seed holds a whole number of 20000 bits"),
    "seed 2**63": ({"seed": f"[{2**63}]"}, "at most 63"),
    "seed twice": ({"seed": "[0, 1, 0]"}, "grid.seed holds 0 twice"),
    "lists too deep": ({"seed": "[" * 5000 + "]" * 5000}, "lists are too deep"),
    "clients of 5,000 digits": ({"train": f"rounds = 2\nclients = {DIGITS}"}, "a number is too long"),
    "clients in hexadecimal": ({"train": f"rounds = 2\nclients = {HEX}"}, "train.clients holds a whole number"),
    "clients by an axis": ({"axes": f'"train.clients" = [4, {HEX}]'}, "train.clients holds a whole number"),
    "K in hexadecimal": (
        {"method": '["baffle"]', "axes": f'"params.baffle.num_perturbations" = [{HEX}]'},
        "params.baffle.num_perturbations holds a whole number",
    ),
    "clients 10**12": ({"train": "rounds = 2\nclients = 1_000_000_000_000"}, "train.clients = 1000000000000"),
    "batch_size 2**64": ({"train": f"rounds = 2\nbatch_size = {2**64}"}, "train.batch_size holds a whole number"),
    "batch_size 2**40": ({"train": f"rounds = 2\nbatch_size = {2**40}"}, f"train.batch_size = {2**40}"),
    "rounds 10**30": ({"train": f"rounds = {10**30}"}, "train.rounds holds a whole number"),
    "rounds 10**15": ({"train": f"rounds = {10**15}"}, f"train.rounds = {10**15}"),
    "data_passes 1e300": ({"train": "data_passes = 1e300"}, "train.data_passes = 1e+300"),
    "data_passes 1e-300": ({"train": "data_passes = 1e-300"}, "less than one of the 1437 training examples"),
    "eval_every above the budget": ({"train": "rounds = 2\neval_every = 3"}, "above the budget of 2"),
    "eval_every 1e-300": ({"train": "rounds = 2\neval_every = 1e-300"}, "more than 1,000,000 evaluations"),
    "eval_every 1e-9": ({"train": "data_passes = 2\neval_every = 1e-9"}, "more than 1,000,000 evaluations"),
    "participation 1e-300": ({"train": "rounds = 2\nparticipation = 1e-300"}, "train.participation = 1e-300"),
    "validation_fraction .99999": (
        {"train": "rounds = 2\nvalidation_fraction = 0.99999"}, "validation_fraction = 0.99999 leaves nothing of 1437",
    ),
    "validation leaves too few": (
        {"train": "rounds = 2\nvalidation_fraction = 0.95"}, "72 training examples cannot give 10 clients 10 each",
    ),
    "200 clients of digits": ({"train": "rounds = 2\nclients = 200"}, "cannot give 200 clients 10 each"),
    "a minimum above |D| / clients": ({"train": "rounds = 2\nmin_client_examples = 144"}, "cannot give 10 clients 144"),
    "2**31 - 1 clients": ({"train": f"rounds = 2\nclients = {2**31 - 1}"}, f"cannot give {2**31 - 1} clients"),
    "shards:1000": ({"alpha": '["shards:1000"]'}, "more shards than there are examples"),
    "shards:10000000000": ({"alpha": '["shards:10000000000"]'}, "more shards than there are examples"),
    "shards of 5,000 digits": ({"alpha": f'["shards:{DIGITS}"]'}, "cannot be used"),
    "shards of unequal shares": (
        {"alpha": '["shards:2"]', "seed": str([*range(30)]), "train": "rounds = 2\nmin_client_examples = 143"},
        "alpha = shards:2 over 10 clients",
    ),
    "alpha 1e308": ({"alpha": "[1e308]"}, "alpha = 1e+308 is too large"),
    "alpha that starves a client": ({"alpha": "[1e-300]"}, "left some client below min_client_examples"),
    "alpha on files that are not here": (
        {"alpha": "[0.01]", "dataset": "cifar10", "train": "rounds = 2\nclients = 100"},
        "left some client below min_client_examples",
    ),
    "alpha that starves a client of what validation leaves": (
        {"alpha": "[0.05]", "train": "rounds = 2\nvalidation_fraction = 0.9\nmin_client_examples = 14"},
        "left some client below min_client_examples",
    ),
    "lenet5:width=1e6": ({"model": '["lenet5:width=1e6"]'}, "60,480,001,216,000,010 parameters, 225,305,562 GiB"),
    "lenet5:width=1e300": ({"model": '["lenet5:width=1e300"]'}, "give a positive number up to 1,000,000"),
    "resnet20:width=1e5": ({"model": '["resnet20:width=1e5"]'}, "parameters, 10,051,"),
    "rounds twice": ({"axes": '"train.rounds" = [1, 2]'}, '"rounds" stands in [train]'),
    "estimator twice": (
        {"axes": 'estimator = ["exact"]', "train": 'rounds = 2\nestimator = "exact"'}, '"estimator" stands in [train]',
    ),
    "lr twice": (
        {"axes": '"params.fedavg.lr" = [1, 2]', "train": "rounds = 2\n[params.fedavg]\nlr = 1"},
        '"lr" stands in [params.fedavg]',
    ),
    "a key of a method that the grid lacks": (
        {"axes": '"params.baffle.num_perturbations" = [5]'}, 'add "baffle" to method',
    ),
    "a line break in a name": ({"method": '["fed\\navg"]'}, "fed\\navg"),
    "a control character in a name": ({"model": '["le\\u001b[31mnet5"]'}, "le\\x1b[31mnet5"),
}  # fmt: skip


@pytest.mark.parametrize("verb", ["plan", "run"])
@pytest.mark.parametrize("row", WRONG)
def test_a_wrong_matrix_is_one_sentence_before_the_first_cell(
    verb: str, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changes, words = WRONG[row]
    path = written(tmp_path, changes)
    monkeypatch.chdir(tmp_path)
    assert main([verb, path]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err, err[:500]
    assert [entry.name for entry in tmp_path.iterdir()] == ["matrix.toml"]


UNUSUAL: dict[str, dict[str, str]] = {
    "the largest seed": {"seed": f"[{2**63 - 1}]"},
    "alpha 1e-300 of one example each": {
        "alpha": "[1e-300]",
        "train": "rounds = 2\nclients = 2\nmin_client_examples=1",
    },
    "alpha 1e300": {"alpha": "[1e300]"},
    "shards:143": {"alpha": '["shards:143"]'},
    "a batch above every share": {"train": "rounds = 2\nbatch_size = 100_000"},
    "one client of ten thousand rounds": {"train": "rounds = 10_000\nclients = 1\nparticipation = 0.001"},
    "half an example in a hundred": {"train": "data_passes = 0.005"},
    "evaluated once": {"train": "rounds = 2\neval_every = 2"},
    "meters alone, clients without number": {"train": "meter_only = true\nclients = 1_000_000"},
    "an activation whose gain is computed": {"model": '["lenet5:activation=tanh,norm=standardised"]'},
    "a wide model": {"model": '["lenet5:width=20"]'},
}


@pytest.mark.parametrize("row", UNUSUAL)
def test_an_unusual_matrix_is_planned(row: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", written(tmp_path, UNUSUAL[row])]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("1 cells, 0 of them skipped\n") and err == ""


def test_an_entry_that_means_an_earlier_one_is_dropped_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, {"alpha": '[0.1, "0.1"]', "model": '["lenet5", "lenet5:norm=none"]'})
    assert main(["plan", path]) == 0
    out, err = capsys.readouterr()
    assert out.endswith("1 cells, 0 of them skipped\n")
    assert err == (
        "fedfore: grid.model: 'lenet5:norm=none' is the same as 'lenet5' and was dropped.\n"
        "fedfore: grid.alpha: '0.1' is the same as 0.1 and was dropped.\n"
    )


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("rounds=5", 'Did you mean "train.rounds"?'),
        ("clients=5", 'Did you mean "train.clients"?'),
        ("ntk=false", 'Did you mean "train.ntk"?'),
        ("lr=0.1", "A key of all methods is params.lr, a method's own params.<method>.lr."),
        (f"seed={DIGITS}", "a seed is a whole number"),
        (f"seed={HEX}", "whole number of 20000 bits"),
        ("params.baffle.sigma=[1e-3]", 'add "baffle" to method'),
    ],
)
def test_an_override_that_cannot_be_is_one_sentence(
    override: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plan", written(tmp_path, {}), "--set", override]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.count("\n") == 1 and words in err, err[:500]


@pytest.mark.parametrize(
    ("overrides", "cells"),
    [
        (["train.rounds=[1,2]"], 4),
        (["train.rounds=[1,2]", "train.rounds=3"], 2),
        (["train.data_passes=2"], 2),
        (["train.rounds=[1,2]", "train.data_passes=[3,4,5]"], 6),
        (["train.meter_only=true"], 2),
        (["train.rounds=[1,2]", "train.setup_only=true"], 2),
        (["params.baffle.num_perturbations=[5,6,7]"], 4),
        (["params.fedavg.lr=[0.1,0.2]"], 3),
        (["estimator=exact"], 2),
        (["method=[\"fedavg\"]"], 1),
        (["method=[\"baffle\"]", "params.baffle.sigma=[1e-3,1e-4]"], 2),
    ],
)  # fmt: skip
def test_an_override_takes_the_place_of_what_the_file_says(
    overrides: list[str], cells: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rest = 'estimator = "directional"\n[params.fedavg]\nlr = 0.3\n[params.baffle]\nsigma = 1e-5'
    axes = '"params.baffle.num_perturbations" = [5]'
    path = written(tmp_path, {"method": '["fedavg", "baffle"]', "axes": axes, "train": f"rounds = 2\n{rest}"})
    assert main(["plan", path, *(word for override in overrides for word in ("--set", override))]) == 0
    assert capsys.readouterr().out.endswith(f"{cells} cells, 0 of them skipped\n")


def test_a_byte_order_mark_and_other_letters_are_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = Path(written(tmp_path, {}))
    path.write_bytes(b"\xef\xbb\xbf" + "# µ\r\n".encode() + path.read_bytes())
    assert main(["plan", str(path)]) == 0


@pytest.mark.parametrize("error", [PermissionError(13, "Permission denied"), IsADirectoryError(21, "Is a directory")])
def test_a_file_that_cannot_be_read_is_one_sentence(
    error: OSError, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, {})

    def refuse(*_: object, **__: object) -> str:
        raise error

    monkeypatch.setattr(Path, "read_text", refuse)
    assert main(["plan", path]) == 2
    assert f"matrix.toml cannot be read ({error.strerror})." in capsys.readouterr().err


def test_a_name_too_long_for_a_file_is_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "x" * 5000]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_plan_builds_each_model_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built: list[str] = []
    outline = models.outline
    monkeypatch.setattr(models, "outline", lambda *args: built.append(args[0]) or outline(*args))
    monkeypatch.setattr(models, "build", lambda *args: pytest.fail("a plan needs no weights"))
    rates = ", ".join(f"{1e-3 * step:g}" for step in range(1, 21))
    axes = f'"params.fedavg.lr" = [{rates}]\n"params.baffle.lr" = [{rates}]\n"params.fedmef.lr" = [{rates}]'
    model = '["resnet18:norm=group", "lenet5"]'
    path = written(tmp_path, {"method": '["fedavg", "baffle", "fedmef"]', "model": model, "axes": axes})
    assert main(["plan", path]) == 0
    assert capsys.readouterr().out.endswith("120 cells, 0 of them skipped\n")
    assert built == ["resnet18:norm=group", "lenet5"]
