"""One method with many ways to misbehave: `fate` says which, in the hook `hook`."""

import ctypes
import gc
import itertools
import os
import re
import resource
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import SimpleNamespace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook

from fedfore.api import Cell, Client, ClientContext, Method, ServerContext, Update
from fedfore.primitives.flat import model_tensors
from fedfore.primitives.local_sgd import LocalSGDConfig
from fedfore.tasks.examples import Examples

SHARED: dict[str, Mapping[str, Tensor]] = {}
OBJECT = SimpleNamespace()
COUNTER = itertools.count()


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ValueError("this exception has no text")


class OddBase(BaseException):
    pass


def raises(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def overwrite_data() -> None:
    for thing in gc.get_objects():
        if type(thing) is Examples:
            thing.labels.zero_()


def hang() -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        time.sleep(1)


def flood() -> None:
    for _ in range(100):
        print("spam " * 20_000)


def eat_memory() -> None:
    eaten = []
    while True:
        eaten.append(bytearray(2**27))


ACTS: Mapping[str, Callable[[], Any]] = {
    "none": lambda: None,
    "sys.exit": lambda: sys.exit(0),
    "assertion": raises(AssertionError("boom")),
    "arithmetic": lambda: 1 / 0,
    "os": raises(OSError("boom")),
    "memory": raises(MemoryError()),
    "import": raises(ImportError("boom")),
    "generator exit": raises(GeneratorExit()),
    "base": raises(OddBase("boom")),
    "unprintable": raises(Unprintable()),
    "surrogate": raises(ValueError("a lone surrogate \ud800")),
    "escape": raises(ValueError("\x1b[31mred\r\nsecond line")),
    "chdir": lambda: os.chdir("/"),
    "dtype": lambda: torch.set_default_dtype(torch.float64),
    "no grad": lambda: torch.set_grad_enabled(False),
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16).__enter__(),
    "hook of all modules": lambda: register_module_forward_hook(lambda *_: None),
    "data": overwrite_data,
    "threads": lambda: torch.set_num_threads(3),
    "umask": lambda: os.umask(0o777),
    "exit 0": lambda: os._exit(0),
    "exit 3": lambda: os._exit(3),
    "segfault": lambda: ctypes.string_at(0),
    "killed": lambda: os.kill(os.getpid(), signal.SIGKILL),
    "hang": hang,
    "file size": lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000)),
    "interrupt": raises(KeyboardInterrupt()),
    "no turn": lambda: re.match(r"(a+)+$", "a" * 60 + "b"),
    "flood": flood,
    "bomb": eat_memory,
    "loss": lambda: setattr(nn.functional, "cross_entropy", lambda x, y: 0 * x.sum()),
}


UPDATES: Mapping[str, Callable[[Update], Any]] = {
    "no update": lambda update: None,
    "no examples": lambda update: replace(update, num_examples=0),
    "half examples": lambda update: replace(update, num_examples=1.5),
    "no weights": lambda update: replace(update, weights=None),
    "sparse weights": lambda update: _weights(update, lambda tensor: tensor.to_sparse()),
    "integer weights": lambda update: _weights(update, lambda tensor: tensor.long()),
    "weights of text": lambda update: _weights(update, lambda tensor: "text"),
    "an unknown weight": lambda update: replace(update, weights={**update.weights, "zzz": torch.zeros(3)}),
    "a sparse tensor": lambda update: replace(update, tensors={"x": torch.eye(3).to_sparse()}),
    "a tensor of text": lambda update: replace(update, tensors={"x": "text"}),
    "scalars of text": lambda update: replace(update, scalars="text"),
    "shared weights": lambda update: replace(update, weights=SHARED.setdefault("weights", update.weights)),
}

NOTES: Mapping[str, Any] = {
    "nan notes": {"x": float("nan")},
    "tensor notes": {"x": [torch.ones(3)]},
    "a note of an object": {"x": OBJECT},
    "numbered notes": {1: 2},
    "variant of numbers": {"variant": 3},
}


def _weights(update: Update, change: Callable[[Tensor], Any]) -> Update:
    return replace(update, weights={name: change(tensor) for name, tensor in update.weights.items()})


@dataclass(frozen=True)
class Config(LocalSGDConfig):
    """Local SGD's keys, the fate and the hook that meets it."""

    fate: str = field(default_factory=lambda: os.environ.get("EVIL_FATE", "none"))
    hook: str = field(default_factory=lambda: os.environ.get("EVIL_HOOK", "client_update"))


class Evil(Method):
    """Misbehaves as its fate says."""

    Config = Config
    memory: ClassVar[dict[int, int]] = {}

    def _act(self, hook: str) -> None:
        if hook == self.config.hook and self.config.fate in ACTS:
            ACTS[self.config.fate]()

    def check(self, cell: Cell) -> None:
        self._act("check")

    def prepare(self, model: nn.Module) -> nn.Module:
        self._act("prepare")
        return model

    def start(self, model: nn.Module, ctx: ServerContext) -> None:
        self._act("start")

    def client_update(self, model: nn.Module, client: Client, ctx: ClientContext) -> Any:
        fate = self.config.fate
        self._act("client_update")
        before = dict(model_tensors(model))
        update = super().client_update(model, client, ctx)
        if fate == "memory of the base":
            Method.memory = {name: tensor.clone() for name, tensor in update.weights.items()}
        if fate == "memory of an object":
            OBJECT.memory = client.num_examples
        if fate == "a counter":
            next(COUNTER)
        if fate == "class memory":
            self.memory[client.id] = ctx.round
        if fate == "no copy":
            sent = {name: before[name] - tensor for name, tensor in update.weights.items()}
            return replace(update, weights=None, tensors=sent)
        return UPDATES[fate](update) if fate in UPDATES else update

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> None:
        self._act("aggregate")
        if self.config.fate in NOTES:
            for name, value in NOTES[self.config.fate].items():
                ctx.note(name, value)
        if self.config.fate == "no copy":
            for name, tensor in model_tensors(model).items():
                tensor.sub_(updates[0].tensors[name])
            return
        super().aggregate(model, updates, ctx)

    def evaluation_weights(self, model: nn.Module, ctx: ServerContext) -> Any:
        self._act("evaluation_weights")
        return None
