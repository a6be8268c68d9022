"""`fedfore check` of models and data sets: what is right passes, each broken one is caught by its own rule alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedfore.cli.main import main
from fedfore.contract.plugins import know_plugins
from fedfore.execution.dataset_check import check_dataset
from fedfore.execution.finding import Finding
from fedfore.execution.model_check import check_model

PLUGINS = Path(__file__).with_name("plugins")
NET = """
import random
import torch
from torch import nn
from fedfore.api import model


class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv = nn.Conv2d(channels, 4, 3, padding=1)
        self.fc = nn.Linear(16, classes)
        {init}

    def forward(self, x):
        h = nn.functional.adaptive_avg_pool2d(torch.relu(self.conv(x)), 2).flatten(1)
        {forward}
        return self.fc(h)


@model
def net(input_shape, num_classes):
    '''A network.'''
    return Net(input_shape[0], num_classes)
"""
MODELS = {
    "nothing": ("pass", "pass", "", ""),
    "builds": ("raise ValueError('no')", "pass", "builds", "ValueError: no"),
    "runs": ("pass", "h = self.absent(h)", "runs", "has no attribute 'absent'"),
    "trainable": ("self.requires_grad_(False)", "pass", "trainable", "no parameter that requires a gradient"),
    "untied": ("self.b = nn.Linear(16, classes); self.b.weight = self.fc.weight", "h = h + self.b(h).mean(1)[:, None]",
               "untied", 'ties "b.weight" to "fc.weight"'),
    "used": ("self.auxiliary = nn.Linear(3, 3)", "pass", "used", "does not use auxiliary.weight, auxiliary.bias"),
    "prunable": ("self.conv = nn.Identity(); self.fc = nn.PReLU()", "return h.mean(1, keepdim=True).expand(-1, 7) * 1 "
                 "+ self.fc.weight", "prunable", "no convolution or linear layer"),
    "shape": ("pass", "return h, self.fc(h)", "shape", "it makes a tuple; return torch.float32 [4, 7]"),
    "deterministic": ("self.fc.weight.data.fill_(random.random())", "pass", "deterministic", "differs in fc.weight"),
    "outline": ("self.steps = torch.linspace(0, 1, 3).tolist()", "pass", "outline", "meta device"),
    "random": ("pass", "h = nn.functional.dropout(h, 0.5, self.training)", "random", "as dropout does"),
    "per_example": ("pass", "h = h - h.mean(0)", "per_example", "depends on the other images"),
    "one_example": ("self.norm = nn.BatchNorm1d(16)", "h = self.norm(h)", "one_example", "Expected more than 1 value"),
}  # fmt: skip
"""What a network's construction and forward pass do beside, the rule that this breaks, and what is said of it."""

DATA = """
import numpy as np
from fedfore.api import dataset

calls = []


@dataset(input_shape=(1, 4, 4), num_classes=2, num_train=12, num_test=4, class_counts=(6, 6), num_owners=3)
def data(folder):
    '''Data.'''
    calls.append(folder)
    x = np.random.default_rng(0).integers(256, size=(16, 1, 4, 4)).astype(np.uint8)
    y, client = np.arange(16) % 2, np.arange(16) // 4
    {change}
    return (x[:12], y[:12], client[:12]), (x[12:], y[12:], client[12:])
"""
DATASETS = {
    "nothing": ("pass", "", ""),
    "reads": ("raise OSError('gone')", "reads", "OSError: gone"),
    "dtypes": ("x = x.astype(np.int16)", "dtypes", "gives torch.int16 [12, 1, 4, 4]"),
    "other dtypes": ("y = y.astype(np.int32)", "dtypes", "with torch.int32 [12]"),
    "shapes": ("x = x[:, 0]", "shapes", "gives torch.uint8 [12, 4, 4]"),
    "labels": ("y[13] = 2", "labels", "run from 0 to 2"),
    "class_counts": ("y[0] = 1", "class_counts", "(5, 7) training examples a class"),
    "values": ("x = x.astype(np.float32); x[3, 0, 0, 0] = np.nan", "values", "NaN"),
    "client": ("client[2] = -1", "client", "number owners from 0"),
    "other client": ("client = client[:, None]", "client", "torch.int64 [12, 1]"),
    "more owners": ("client[2] = 9", "client", "have 4 owners; its entry says num_owners = 3"),
    "split": ("x[14] = x[3]", "split", "1 images are both"),
    "deterministic": ("x[0, 0, 0, 0] = len(calls)", "deterministic", "Read twice it gives other values"),
}


def broken(findings: list[Finding]) -> list[tuple[str, str]]:
    return [(finding.rule, finding.sentence) for finding in findings if finding.outcome != "ok"]


def told(findings: list[Finding], rule: str, said: str) -> bool:
    """Return whether the one thing found is this, or nothing where there is no rule."""
    found = broken(findings)
    return [one for one, _ in found] == [rule] * bool(rule) and all(said in sentence for _, sentence in found)


@pytest.mark.parametrize("kind", MODELS)
def test_each_rule_of_a_model_is_told_by_itself(kind: str, tmp_path: Path) -> None:
    init, forward, rule, said = MODELS[kind]
    (tmp_path / f"net_{kind}.py").write_text(NET.format(init=init, forward=forward))
    know_plugins([tmp_path])
    findings = check_model("net")
    assert told(findings, rule, said), broken(findings)
    know_plugins()


@pytest.mark.parametrize("kind", DATASETS)
def test_each_rule_of_a_data_set_is_told_by_itself(kind: str, tmp_path: Path) -> None:
    change, rule, said = DATASETS[kind]
    (tmp_path / f"data_{kind.replace(' ', '_')}.py").write_text(DATA.format(change=change))
    know_plugins([tmp_path])
    findings = check_dataset("data")
    assert told(findings, rule, said), broken(findings)
    know_plugins()


@pytest.mark.thorough
def test_what_ships_and_the_plug_ins_of_the_tests_keep_every_rule(capsys: pytest.CaptureFixture[str]) -> None:
    names = ["blobs", "corners:pool=mean", "lenet5", "digits", "resnet14:width=0.25", "mobilenet_v2:width=0.25"]
    assert main(["check", *names, "--plugins", str(PLUGINS)]) == 0
    out = capsys.readouterr().out.splitlines()
    assert {line.split()[0] for line in out} == {"ok"} and {line.split()[1] for line in out} == set(names)
    assert main(["check", "blob", "--plugins", str(PLUGINS)]) == 2
    assert 'There is no method, model or data set "blob". Did you mean "blobs"?' in capsys.readouterr().err
    assert main(["check", "corners:dept=2", "--plugins", str(PLUGINS)]) == 1
    assert 'broken  corners:dept=2   builds: Model "corners" has no option "dept"' in capsys.readouterr().out
