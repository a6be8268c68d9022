"""The command line, called in this process: what it prints, its exit status, and one sentence for every mistake."""

from __future__ import annotations

import getpass
import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from importlib.metadata import version
from pathlib import Path

import pytest

from fedfore.cli.listings import LISTS
from fedfore.cli.main import main
from fedfore.cli.parser import EXAMPLES, parser
from fedfore.cli.verbs import VERBS
from fedfore.cli.verbs.show import FORMATS
from fedfore.contract.registry import discover
from fedfore.matrices import named_matrices
from fedfore.primitives.local_sgd import LocalSGDConfig
from fedfore.records.derived import DERIVED
from fedfore.records.metrics import FIELDS, MEASURED
from fedfore.records.provenance import ROOT
from fedfore.tasks.datasets import DATASETS
from fedfore.tasks.model_registry import MODELS, architecture_of

Refusal = Callable[..., str]

GOOD = "from fedfore.api import Method\n\n\nclass {name}(Method):\n    '''A method that works.'''\n"
STATEMENTS = {
    "ImportError": "import there_is_no_such_module",
    "NameError": "undefined",
    "RuntimeError": "raise RuntimeError('boom')",
    "KeyError": "{}['boom']",
    "ZeroDivisionError": "1 / 0",
    "AssertionError": "assert False, 'boom'",
    "FileNotFoundError": "open('/there/is/no/such/file')",
    "MemoryError": "raise MemoryError",
    "SystemExit": "import sys; sys.exit(0)",
    "an own BaseException": "raise type('Odd', (BaseException,), {})",
    "an exception without text": "raise type('Odd', (Exception,), {'__str__': lambda self: 1 / 0})",
    "a default dtype": "import torch; torch.set_default_dtype(torch.float64)",
    "a hook of all modules": "from torch.nn.modules import module as m; m.register_module_forward_hook(print)",
    "another working folder": "import os; os.chdir('/')",
}
BROKEN = {kind: f"{statement}\n{GOOD.format(name='Bad')}" for kind, statement in STATEMENTS.items()} | {
    "SyntaxError": "def broken(:\n",
    "ImportError of a name": "from fedfore.api import Metod\n\n\nclass Bad(Metod):\n    pass\n",
    "no method": "from fedfore.api import Mask\n\n\nclass Bad(dict):\n    pass\n",
    "two methods": GOOD.format(name="One") + GOOD.format(name="Two"),
    "unknown axis": GOOD.format(name="Odd") + "    uses = frozenset({'sparsty'})\n",
}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in an empty folder, so that no run directory lands in the checkout."""
    (tmp_path / "cwd").mkdir()
    monkeypatch.chdir(tmp_path / "cwd")


GOOD_ALONE = ("--set", "method=good", "--set", "tune=", "--set", "contrast=")
"""What makes of the default matrix one of a method that it neither tunes nor compares."""


@pytest.fixture
def printed(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Return what a command that succeeds prints."""

    def call(*arguments: str | Path) -> str:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert (status, err) == (0, "")
        return out

    return call


@pytest.fixture
def refusal(capsys: pytest.CaptureFixture[str]) -> Refusal:
    """Return the sentence of a command that must end with status 2 and say nothing else."""

    def call(*arguments: str | Path) -> str:
        status = main([str(argument) for argument in arguments])
        out, err = capsys.readouterr()
        assert status == 2
        assert out == ""
        assert err.startswith("fedfore: ") and err.count("\n") == 1 and err.endswith("\n"), repr(err)
        return err

    return call


@pytest.fixture
def plugins(tmp_path: Path) -> Path:
    """Return a folder of plug-ins that holds one good method, `good`."""
    folder = tmp_path / "plugins"
    folder.mkdir()
    (folder / "good.py").write_text(GOOD.format(name="Good"))
    return folder


def first_words(text: str) -> list[str]:
    return [line.split()[0] for line in text.splitlines()]


# What it prints


NAMES: dict[str, Callable[[], Sequence[str]]] = {
    "methods": lambda: list(discover()),
    "datasets": lambda: list(DATASETS),
    "models": lambda: list(MODELS),
    "metrics": lambda: [*MEASURED, *DERIVED],
    "figures": list,
    "fields": lambda: list(FIELDS),
    "matrices": lambda: list(named_matrices()),
}


@pytest.mark.parametrize("what", LISTS)
def test_a_list_has_a_line_for_every_name_and_says_something_about_each(what: str, printed: Callable[..., str]) -> None:
    lines = printed("ls", what)
    assert first_words(lines) == list(NAMES[what]())
    assert all(len(line.split()) > 2 for line in lines.splitlines())


def test_the_plan_of_the_quick_matrix_has_60_different_cells_and_a_choice_a_method(printed: Callable[..., str]) -> None:
    planned = printed("plan")
    *lines, total = [line for line in planned.splitlines() if not line.startswith("chosen for")]
    assert len({line.split()[0] for line in lines}) == len(lines) == 60
    assert total == "60 cells, 0 of them skipped"
    assert planned.count("chosen for") == 5
    assert printed("plan", "quick") == planned


def test_the_plan_follows_overrides_and_names_what_is_skipped_and_why(printed: Callable[..., str]) -> None:
    lines = printed("plan", "--set", "seed=[7]", "--set", "alpha=iid", "--set", "model=lenet5:norm=batch").splitlines()
    end = lines.index("7 cells, 4 of them skipped")
    assert all("seed=7" in line and "alpha=iid" in line for line in lines[:end])
    assert all(line.startswith("chosen for ") for line in lines[end + 1 :])
    skipped = [line for line in lines if "skipped: " in line]
    assert {line.partition("-")[0] for line in skipped} == {"baffle", "fed_ntk_zo"}
    assert all("norm=group" in line for line in skipped)


def test_the_plan_shows_the_settings_in_which_cells_of_a_method_differ(printed: Callable[..., str]) -> None:
    lines = printed(
        "plan", "--set", "tune=", "--set", "contrast=", "--set", "params.baffle.lr=[0.01,0.1]"
    ).splitlines()[:-1]
    assert {line.split("lr=")[1] for line in lines if line.startswith("baffle-")} == {"0.01", "0.1"}
    assert all("lr=" not in line for line in lines if not line.startswith("baffle-"))
    assert all("rounds" not in line for line in lines)


def test_planning_writes_nothing(printed: Callable[..., str]) -> None:
    printed("plan")
    assert list(Path().iterdir()) == []


def test_the_environment_is_json_without_names_of_hosts_users_or_paths(printed: Callable[..., str]) -> None:
    text = printed("env")
    values = json.loads(text)
    assert {"python", "packages", "platform", "processor", "cpus", "git_commit"} <= set(values)
    assert values["packages"]["torch"]
    words = set(re.findall(r"[\w.-]+", text))
    assert not {platform.node(), getpass.getuser()} & words
    assert not re.search(r"(?<!\w)/\w", text) and str(ROOT) not in text


def test_a_format_of_show_excludes_the_others(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["show", ".", *(f"--{name}" for name in FORMATS)])
    assert caught.value.code == 2 and "not allowed with" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        [], ["rnu"], ["ls", "methds"], ["run", "--workers", "-1"], ["run", "--workers", "x"],
        *(["run", "--timeout", seconds] for seconds in ("nan", "inf", "-1", "0", "x")),
        *(["plot", ".", "--width", inches] for inches in ("nan", "inf", "-1", "0", "x")),
    ],
)  # fmt: skip
def test_arguments_that_cannot_be_read_end_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2 and "usage: fedfore" in capsys.readouterr().err


def test_the_version_is_the_installed_one(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0 and capsys.readouterr().out == f"fedfore {version('fedfore')}\n"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself_and_shows_two_commands_before_its_options(
    verb: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main([verb, "--help"])
    text = capsys.readouterr().out
    assert caught.value.code == 0 and f"usage: fedfore {verb}" in text
    before = text.partition("\noptions:")[0].partition("\npositional arguments:")[0]
    assert before.splitlines()[-3:] == ["examples:", *(f"  {example}" for example in VERBS[verb].EXAMPLES)]


EXAMPLES_OF_ALL = re.findall(r"^  (fedfore .*?)(?:  |$)", EXAMPLES, re.MULTILINE)
SHOWN = [*EXAMPLES_OF_ALL, *(example for verb in VERBS.values() for example in verb.EXAMPLES)]


@pytest.mark.parametrize("command", SHOWN)
def test_a_command_that_help_shows_can_be_parsed(command: str) -> None:
    _, verb, *words = shlex.split(command.partition(" > ")[0])
    assert parser().parse_args([verb, *words]).execute is VERBS[verb].execute


@pytest.mark.parametrize(
    ("words", "near"),
    [
        (["rnu"], "run"),
        (["ls", "methds"], "methods"),
        (["run", "--wokers", "3"], "--workers"),
        (["run", "--plugin-dir=here"], "--plugins"),
        (["show", ".", "--basline", "x"], "--baseline"),
        (["new", "mine", "--kind", "bpfree"], "bp_free"),
    ],
)
def test_a_verb_an_option_or_a_choice_that_is_misspelt_gets_a_near_name(
    words: list[str], near: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(words)
    assert caught.value.code == 2 and capsys.readouterr().err.endswith(f' Did you mean "{near}"?\n')


def test_a_list_of_nothing_says_what_can_be_listed(refusal: Refusal) -> None:
    assert refusal("ls").endswith("methods, datasets, models, metrics, figures, fields, matrices, or keys NAME.\n")


def test_a_stream_that_was_closed_beforehand_takes_no_output_and_ends_no_command() -> None:
    command = f"{shlex.quote(sys.executable)} -m fedfore.cli.main ls metrics >&-"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("words", ["ls fields", "run --help"])
def test_a_pipe_that_is_closed_early_ends_a_command_quietly_with_its_usual_status(words: str) -> None:
    command = f"set -o pipefail; {shlex.quote(sys.executable)} -m fedfore.cli.main {words} | head -1"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr, done.stdout.count("\n")) == (0, "", 1)


def test_the_keys_of_a_method_or_a_model_have_their_values_defaults_and_meanings(
    printed: Callable[..., str], refusal: Refusal
) -> None:
    plugins = ROOT / "tests" / "plugins"
    lines = printed("ls", "keys", "fedprox", "--plugins", plugins).splitlines()
    assert lines[-1].split(maxsplit=1) == [
        "mu",
        "[number ≥ 0; 0.01] Weight of the proximal term (mu / 2) |w - w_server|^2.",
    ]
    assert first_words("\n".join(lines)) == [item.name for item in fields(LocalSGDConfig)] + ["mu"]
    for model in MODELS:
        lines = printed("ls", "keys", model).splitlines()
        assert first_words("\n".join(lines)) == list(architecture_of(model).defaults)
        assert all(line.endswith(".") for line in lines)
    assert '[batch, group, none, standardised; "batch"]' in printed("ls", "keys", "resnet20:norm=group")
    assert 'no method or model "lenet". Did you mean "lenet5"?' in refusal("ls", "keys", "lenet")
    assert "takes the name of a method or a model" in refusal("ls", "keys")
    assert "the other lists take none" in refusal("ls", "methods", "fedavg")


def test_messages_prints_a_table_of_what_the_json_holds(printed: Callable[..., str]) -> None:
    asked = ("messages", "lenet5", "--dataset", "cifar10", "--num-perturbations", 5, "--sparsity", 0.8)
    found = json.loads(printed(*asked, "--json"))
    assert (found["num_parameters"], found["steps"], len(found["exchanges"])) == (62_006, 157, 10)
    table = printed(*asked)
    for row in found["exchanges"]:
        assert f"| {row['exchange']} | {row['communication']} | {row['uplink_messages']:,} | " in table
        assert f" | {row['downlink_bytes']:,} | " in table
    assert f"before training: {found['mask_bytes']:,} bytes" in table
    assert "before training" not in printed(*asked[:-2])


# Mistakes


@pytest.mark.slow
def test_warnings_that_are_errors_do_not_stop_the_imports() -> None:
    command = [
        sys.executable,
        "-W",
        "error",
        "-c",
        "import fedfore.execution.runner, fedfore.execution.cost, fedfore.plots.report",
    ]
    assert subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stderr == ""


def test_messages_of_what_there_is_not_are_one_sentence(refusal: Refusal) -> None:
    assert 'Did you mean "lenet5"?' in refusal("messages", "lenet", "--dataset", "digits")
    assert "at most 2,147,483,647 can be used" in refusal("messages", "lenet5:width=1e6", "--dataset", "digits")
    assert "too few for 2000 clients" in refusal("messages", "lenet5", "--dataset", "digits", "--clients", "2000")


@pytest.mark.parametrize("sparsity", ["1", "-0.1", "nan", "x"])
def test_a_sparsity_that_is_none_is_a_usage_error(sparsity: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["messages", "lenet5", "--dataset", "digits", "--sparsity", sparsity])
    assert caught.value.code == 2 and "--sparsity" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_an_unknown_matrix_is_answered_with_the_near_name(verb: str, refusal: Refusal) -> None:
    assert 'no matrix file "quik"' in refusal(verb, "quik") and 'Did you mean "quick"?' in refusal(verb, "quik")


@pytest.mark.parametrize("verb", ["run", "plan"])
def test_a_file_that_is_no_toml_is_named(verb: str, tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "bad.toml").write_text("[grid\n")
    assert "bad.toml is no valid TOML" in refusal(verb, tmp_path / "bad.toml")


def test_a_bad_value_in_a_matrix_is_one_sentence(refusal: Refusal) -> None:
    assert "[0, 1)" in refusal("plan", "--set", "sparsity=[2.0]")
    assert 'Did you mean "clients"?' in refusal("run", "--set", "train.clints=3")


def test_data_that_are_not_there_are_named_with_the_command_that_gets_them(tmp_path: Path, refusal: Refusal) -> None:
    asked = ("run", "--set", "dataset=cifar10", "--data-dir", tmp_path, "--out", tmp_path / "run")
    assert "`fedfore data get cifar10`" in refusal(*asked)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "cpu cuda", ""])
def test_a_device_that_cannot_be_used_is_one_sentence(device: str, tmp_path: Path, refusal: Refusal) -> None:
    assert f"--device {device} cannot be used here" in refusal("run", "--device", device, "--out", tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_an_unknown_method_to_check_is_answered_with_the_near_name(refusal: Refusal) -> None:
    assert 'Did you mean "fedavg"?' in refusal("check", "fedavgg")


def test_an_unknown_data_set_to_get_is_answered_with_the_near_name(tmp_path: Path, refusal: Refusal) -> None:
    assert 'Did you mean "cifar10"?' in refusal("data", "get", "cifar", "--data-dir", tmp_path)


@pytest.mark.parametrize("verb", ["show", "plot", "report"])
def test_a_folder_without_a_plan_is_no_run(verb: str, tmp_path: Path, refusal: Refusal) -> None:
    assert "is no run directory of fedfore" in refusal(verb, tmp_path)
    assert "is no run directory of fedfore" in refusal(verb, tmp_path / "nowhere")
    (tmp_path / "file").write_text("")
    assert "is no run directory of fedfore" in refusal(verb, tmp_path / "file")


def test_a_run_directory_that_is_a_file_is_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "file").write_text("")
    assert "Cannot write to" in refusal("run", "--out", tmp_path / "file")


def test_another_plan_on_a_run_is_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "plan.json").write_text('{"schema_version": 1, "command": "x", "cells": []}')
    assert "--extend" in refusal("run", "--out", tmp_path)


def test_a_matrix_without_cells_is_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    (tmp_path / "empty.toml").write_text("")
    assert "needs a [grid] table" in refusal("plan", tmp_path / "empty.toml")


# Plug-ins


def test_a_good_plug_in_is_listed_and_planned(plugins: Path, printed: Callable[..., str]) -> None:
    assert "[plugin] A method that works." in printed("ls", "methods", "--plugins", plugins)
    assert printed("plan", "--plugins", plugins, *GOOD_ALONE).endswith("10 cells, 0 of them skipped\n")


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_plug_in_hides_no_other_and_using_it_is_one_sentence(
    kind: str, plugins: Path, printed: Callable[..., str], refusal: Refusal
) -> None:
    (plugins / "bad.py").write_text(BROKEN[kind])
    lines = printed("ls", "methods", "--plugins", plugins).splitlines()
    assert set(discover()) | {"good", "bad"} == {line.split()[0] for line in lines}
    (bad,) = (line for line in lines if line.startswith("bad "))
    assert "cannot be used" in bad and str(plugins / "bad.py") in bad
    printed("plan", "--plugins", plugins, *GOOD_ALONE)
    assert str(plugins / "bad.py") in refusal("plan", "--plugins", plugins, "--set", "method=bad")


@pytest.mark.parametrize(("kind", "line"), [("SyntaxError", 1), ("ImportError", 1), ("RuntimeError", 1)])
def test_the_line_that_breaks_a_plug_in_is_named(kind: str, line: int, plugins: Path, refusal: Refusal) -> None:
    (plugins / "bad.py").write_text("# A comment.\n" + BROKEN[kind])
    assert f"line {line + 1})" in refusal("plan", "--plugins", plugins, "--set", "method=bad")


@pytest.mark.parametrize(
    "config",
    ["@dataclass(frozen=True)\n    class Config:\n        lr: float\n", "class Config:\n        lr = 1.0\n"],
    ids=["no default", "no dataclass"],
)
def test_a_plug_in_whose_config_cannot_be_made_is_one_sentence(config: str, plugins: Path, refusal: Refusal) -> None:
    (plugins / "bad.py").write_text(f"from dataclasses import dataclass\n{GOOD.format(name='Bad')}\n    {config}")
    assert "bad" in refusal("plan", "--plugins", plugins, "--set", "method=bad")


def test_checking_a_broken_plug_in_says_why_and_ends_with_one(
    plugins: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (plugins / "bad.py").write_text(BROKEN["ImportError"])
    assert main(["check", "bad", "--plugins", str(plugins)]) == 1
    assert re.match(r"broken +bad +import: .*there_is_no_such_module", capsys.readouterr().out)


def test_two_methods_of_one_name_are_one_sentence_with_both_files(plugins: Path, refusal: Refusal) -> None:
    (plugins / "fedavg.py").write_text(GOOD.format(name="Mine"))
    clash = refusal("ls", "methods", "--plugins", plugins)
    assert 'Two methods are called "fedavg"' in clash
    assert str(plugins / "fedavg.py") in clash and str(ROOT / "baselines" / "fedavg.py") in clash


def test_a_folder_of_plug_ins_that_is_not_there_is_one_sentence(tmp_path: Path, refusal: Refusal) -> None:
    assert "is no folder" in refusal("ls", "methods", "--plugins", tmp_path / "nowhere")


def test_a_folder_of_plug_ins_that_may_not_be_read_is_one_sentence(
    plugins: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(folder: Path) -> Iterator[Path]:
        if folder == plugins:
            raise PermissionError(13, "Permission denied")
        return iter(listed(folder))

    def listed(folder: Path) -> list[Path]:
        return [folder / name for name in os.listdir(folder)]  # noqa: PTH208

    monkeypatch.setattr(Path, "iterdir", refuse)
    assert "cannot be read: Permission denied" in refusal("ls", "methods", "--plugins", plugins)


HELPERS = {
    "_helpers.py": BROKEN["SyntaxError"],
    "train.py": "import argparse\nargparse.ArgumentParser().parse_args(['--epochs'])\nopen('ran', 'w')\n",
    "notes.py": "from fedfore.api import Mask\nopen('ran', 'w')\n",
    "other.py": "class Base: pass\nclass Other(Base): pass\nopen('ran', 'w')\n",
}


@pytest.mark.parametrize("name", HELPERS)
def test_a_file_that_is_no_method_is_neither_listed_nor_run(
    name: str, plugins: Path, printed: Callable[..., str]
) -> None:
    (plugins / name).write_text(HELPERS[name])
    listed = first_words(printed("ls", "methods", "--plugins", plugins))
    assert "good" in listed and Path(name).stem not in listed
    assert not Path("ran").exists()


def test_methods_of_a_folder_share_helpers_and_other_folders_may_have_helpers_of_the_same_name(
    tmp_path: Path, printed: Callable[..., str]
) -> None:
    for folder, word in (("one", "ONE"), ("two", "TWO")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "_words.py").write_text(f"WORD = '{word}'\n")
        (tmp_path / folder / "bases.py").write_text(
            "from fedfore.api import Method\nfrom _words import WORD\n\n\nclass Keys(dict):\n    word = WORD\n"
        )
        (tmp_path / folder / f"{word.lower()}.py").write_text(
            f"from fedfore.api import Method\nfrom bases import Keys\n\n\nclass {word.title()}(Method):\n"
            "    __doc__ = Keys.word\n"
        )
    lines = printed("ls", "methods", "--plugins", tmp_path / "one", "--plugins", tmp_path / "two").splitlines()
    own = [line.split() for line in lines if "[plugin]" in line]
    assert own == [["one", "[plugin]", "ONE"], ["two", "[plugin]", "TWO"]]


def test_the_last_of_a_chain_of_classes_is_the_method(plugins: Path, printed: Callable[..., str]) -> None:
    chain = f"{GOOD.format(name='Base')}\n\nclass Middle(Base):\n    pass\n\n\nclass Last(Middle):\n    'The last.'\n"
    (plugins / "chain.py").write_text(chain)
    assert "[plugin] The last." in printed("ls", "methods", "--plugins", plugins)


ODD_NAMES = ("x.v2", "=cmd|calc", "\x1b[31mred", "with space", "größe", "-x", "a$b", "a" * 101)


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_file_whose_name_cannot_be_a_methods_is_listed_with_the_reason_and_never_used(
    name: str, plugins: Path, printed: Callable[..., str], refusal: Refusal
) -> None:
    (plugins / f"{name}.py").write_text(f"open('ran', 'w')\n{GOOD.format(name='Odd')}")
    lines = printed("ls", "methods", "--plugins", plugins)
    assert "letters, digits, _ and -" in lines and "\x1b" not in lines
    assert not Path("ran").exists()
    assert printed("plan", "--plugins", plugins, *GOOD_ALONE).endswith("10 cells, 0 of them skipped\n")


@pytest.mark.parametrize(("verb", "kept"), [("run", "; finished cells are kept"), ("verify", ".")])
def test_an_interrupt_says_what_it_keeps(
    verb: str, kept: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(options: object) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(f"fedfore.cli.verbs.{verb}.execute", interrupted)
    assert main([verb]) == 130
    assert capsys.readouterr().err.startswith(f"\nfedfore: interrupted{kept}")
