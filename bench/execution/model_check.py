"""Tries on a model every rule that a model has to keep, on small batches of random images."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from fedfore.contract.border import plugin_border, words
from fedfore.errors import FedForeError
from fedfore.execution.finding import Finding, Outcome
from fedfore.masks import prunable_weights
from fedfore.tasks.architectures.layers import Shape
from fedfore.tasks.model_registry import Architecture
from fedfore.tasks.models import options_of

USUAL_SIDE, CLASSES, BATCH = 32, 7, 4
TOLERANCE = 1e-4


def check_model(model: str) -> list[Finding]:
    """Try every rule on a model, given with its options, in order; one that cannot be built is tried no further.

    Images are 32x32 in colour, larger where the model needs it, and there are 7 classes.
    """
    try:
        architecture, options = options_of(model)
    except FedForeError as error:
        return [Finding(model, "builds", "broken", str(error))]
    side = max(USUAL_SIDE, architecture.smallest)
    trial = _Trial(architecture, options, (3, side, side))
    findings: list[Finding] = []
    for rule, check in _rules(trial):
        findings.append(_tried(model, trial, rule, check))
        if rule in ("builds", "runs") and findings[-1].outcome == "broken":
            break
    return findings


def _tried(model: str, trial: _Trial, rule: str, check: Callable[[], str | None]) -> Finding:
    try:
        with plugin_border(model, Path(inspect.getfile(inspect.unwrap(trial.architecture.build)))):
            sentence = check()
    except FedForeError as error:
        sentence = str(error)
    odd: Outcome = "warning" if rule == "prunable" else "broken"
    return Finding(model, rule, odd if sentence else "ok", sentence or "")


class _Trial:
    """A model and images to try it on."""

    def __init__(self, architecture: Architecture, options: Mapping[str, object], shape: Shape) -> None:
        self.architecture, self.options, self.shape = architecture, options, shape
        self.x = torch.randn(BATCH, *shape, generator=torch.Generator().manual_seed(0))

    @cached_property
    def model(self) -> nn.Module:
        """The model, which stays as it was built."""
        return self.built()

    def built(self, device: str = "cpu") -> nn.Module:
        with _seeded(), torch.device(device):
            return self.architecture.build(self.shape, CLASSES, **self.options)

    def logits(self, x: Tensor, training: bool, frozen_norm: bool = False) -> Tensor:
        """Return what a copy of the model gives; batch norms are in evaluation where `frozen_norm`."""
        model = copy.deepcopy(self.model).train(training)
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm) and frozen_norm:
                module.eval()
        with _seeded():
            logits: Tensor = model(x)
        return logits


@contextmanager
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def _rules(trial: _Trial) -> Iterator[tuple[str, Callable[[], str | None]]]:
    yield "builds", lambda: _builds(trial)
    yield "runs", lambda: _runs(trial)
    yield "deterministic", lambda: _deterministic(trial)
    yield "outline", lambda: _outline(trial)
    yield "trainable", lambda: _trainable(trial)
    yield "untied", lambda: _untied(trial)
    yield "prunable", lambda: _prunable(trial)
    yield "shape", lambda: _shape(trial)
    yield "used", lambda: _used(trial)
    yield "random", lambda: _random(trial)
    yield "per_example", lambda: _per_example(trial)
    yield "one_example", lambda: _one_example(trial)


def _builds(trial: _Trial) -> str | None:
    made: object = trial.built()
    return None if isinstance(made, nn.Module) else f"It builds a {type(made).__name__}, and no module."


def _runs(trial: _Trial) -> None:
    trial.logits(trial.x, training=True)


def _deterministic(trial: _Trial) -> str | None:
    one, other = (trial.built().state_dict() for _ in range(2))
    moved = [name for name in one if name not in other or not torch.equal(one[name], other[name])]
    if moved or len(one) != len(other):
        return f"Built twice from one seed it differs in {moved[0] if moved else 'its layers'}; draw from torch alone."
    return None


def _outline(trial: _Trial) -> str | None:
    try:
        trial.built("meta")
    except (FedForeError, RuntimeError) as error:
        return f"A plan builds it on torch's meta device, where no tensor has values, and it fails: {words(error)}"
    return None


def _trainable(trial: _Trial) -> str | None:
    if _is_trainable(trial.model):
        return None
    return "It has no parameter that requires a gradient, so there is nothing to train."


def _is_trainable(model: nn.Module) -> bool:
    return any(parameter.requires_grad for parameter in model.parameters())


def _untied(trial: _Trial) -> str | None:
    first: dict[nn.Parameter, str] = {}
    for name, parameter in trial.model.named_parameters(remove_duplicate=False):
        if first.setdefault(parameter, name) != name:
            return f'It ties "{name}" to "{first[parameter]}"; give each layer weights of its own.'
    return None


def _prunable(trial: _Trial) -> str | None:
    if prunable_weights(trial.model) or not _is_trainable(trial.model):
        return None
    return "It has no convolution or linear layer, so cells that ask for a sparsity are skipped."


def _shape(trial: _Trial) -> str | None:
    logits = trial.logits(trial.x, training=True)
    if isinstance(logits, Tensor) and (logits.dtype, list(logits.shape)) == (torch.float32, [BATCH, CLASSES]):
        return None
    found = f"{logits.dtype} {list(logits.shape)}" if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
    return f"Of {BATCH} images and {CLASSES} classes it makes {found}; return torch.float32 {[BATCH, CLASSES]}."


def _used(trial: _Trial) -> str | None:
    model = copy.deepcopy(trial.model).train()
    named = {name: p for name, p in model.named_parameters() if p.requires_grad}
    with _seeded():
        total = _sum(model(trial.x))
    found = torch.autograd.grad(total, list(named.values()), allow_unused=True) if total.requires_grad else ()
    unused = [name for name, gradient in zip(named, found, strict=False) if gradient is None]
    return f"Its forward pass does not use {', '.join(unused)}, which would travel and never learn." if unused else None


def _sum(made: object) -> Tensor:
    """Return the sum of all that a forward pass returns."""
    parts = made if isinstance(made, tuple | list) else [made]
    return torch.stack([part.float().sum() for part in parts if isinstance(part, Tensor)]).sum()


def _random(trial: _Trial) -> str | None:
    model = copy.deepcopy(trial.model).train()
    with _seeded():
        before = torch.get_rng_state()
        model(trial.x)
        if torch.equal(before, torch.get_rng_state()):
            return None
    return "Its forward pass draws from torch's global generator, as dropout does; leave that out."


def _per_example(trial: _Trial) -> str | None:
    for training in (False, True):
        together = trial.logits(trial.x, training, frozen_norm=True)
        changed = torch.cat([trial.x[:1], trial.x[1:] + 1])
        alone = trial.logits(changed, training, frozen_norm=True)
        if not torch.allclose(_rows(together)[:1], _rows(alone)[:1], rtol=TOLERANCE, atol=TOLERANCE):
            when = "in training, beside its batch norms," if training else "in evaluation"
            return f"What it makes of an image {when} depends on the other images of the batch; use no such statistics."
    return None


def _rows(made: object) -> Tensor:
    """Return the first tensor that a forward pass returns."""
    parts = made if isinstance(made, tuple | list) else [made]
    return next((part for part in parts if isinstance(part, Tensor)), torch.zeros(1))


def _one_example(trial: _Trial) -> str | None:
    try:
        trial.logits(trial.x[:1], training=True)
    except (RuntimeError, ValueError) as error:
        return (
            f"A batch of one image cannot be trained on ({words(error)}), and a client's last batch may be one; "
            "normalise over more than one value a channel."
        )
    return None
