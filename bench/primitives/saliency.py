"""Saliencies: how much a weight matters, as the derivative of some objective with respect to its mask entry.

A device and a server score alike. Scores are signed means over draws, so that clients' scores can be averaged; what is
kept is decided from their `importance`. Norm layers are frozen meanwhile (`frozen_norm`), for every saliency.

* `ntk`: the weight-noise form of NTK-SAP (Wang et al. 2023, arXiv 2304.02840, section 4), whose expectation over noise
  approximates the derivative of the NTK's trace |J|_F^2: d/dm of the mean over draws and inputs of
  |f(x; theta.m) - f(x; (theta + dtheta).m)|^2, dtheta ~ N(0, noise^2) on prunable weights. It needs no label.
* `snip` (Lee et al. 2019, arXiv 1810.02340, equation 4): dL/dm of the cross-entropy.
* `grasp` (Wang et al. 2020, arXiv 2002.07376, equation 8): theta.(Hg), g and H of the cross-entropy over kept prunable
  weights, the logits divided by 200 as in the released code. The paper removes the largest -theta.(Hg); this sign
  keeps the largest.
* `synflow` (Tanaka et al. 2020, arXiv 2006.05467, section 5): dR/dm of R, the sum of outputs for one all-ones input and
  absolute parameters, on a float64 copy, norms as identities; divided by R, which the paper does not do, since R
  overflows the float32 in which scores travel.
* `magnitude`, `random`: |theta|, and uniform noise, without any pass.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.masks import Mask, prunable_weights
from fedfore.primitives.accounting import account
from fedfore.primitives.frozen_norm import frozen_norms, identity_norms
from fedfore.primitives.keys import Key
from fedfore.primitives.perturbations import Directions

Scores = dict[str, Tensor]
Inputs = tuple[Tensor, Tensor | None]
"""x [B, C, H, W], and y [B] class indices where there are any."""

MASK_STEP = 1e-2
"""Step of the central differences in the mask."""

GRASP_TEMPERATURE = 200.0

NEEDS_LABELS = frozenset({"snip", "grasp"})


@dataclass(frozen=True)
class SaliencyConfig:
    """The keys of a saliency."""

    saliency: Literal["ntk", "snip", "grasp", "synflow", "magnitude", "random", "erk", "uniform"] = "ntk"
    """What weights are scored by. `erk` and `uniform` are no scores but layer densities with random positions."""
    inputs: Literal["gaussian", "real"] = "gaussian"
    """Gaussian inputs of the data's shape, or a device's real data."""
    draws: Annotated[PositiveInt, Key(linear_in="setup", tiny=1)] = 5
    """How often weights, noise and inputs are drawn anew in a scoring: NTK-SAP's R."""
    inputs_per_draw: Annotated[PositiveInt, Key(tiny=8)] = 100
    """Inputs of a draw."""
    scoring_micro_batch: PositiveInt | None = None
    """Inputs of one pass, and of batch norm's statistics; unset, all of a draw. A small one needs little memory."""
    noise: PositiveFloat = 0.01
    """Deviation of the weight noise of `ntk`."""
    weights: Literal["reinit", "fixed"] = "reinit"
    """Score weights that are drawn anew from the initialiser for each draw (`reinit`), or the common initial weights
    (`fixed`), as SNIP, GraSP and SynFlow publish.
    """

    def __post_init__(self) -> None:
        if self.saliency in NEEDS_LABELS and self.inputs == "gaussian":
            raise ValueError(f'{self.saliency} needs labels, which Gaussian inputs do not have; set inputs = "real"')


@dataclass(frozen=True)
class _Draw:
    """One draw of a scoring: `model` at theta.m, its inputs in micro-batches, and the sums that scores are added to."""

    model: nn.Module
    weights: Mapping[str, Tensor]
    parts: Sequence[Inputs]
    sums: Scores
    mask: Mask | None
    config: SaliencyConfig
    generator: torch.Generator

    @property
    def size(self) -> int:
        return sum(len(x) for x, _ in self.parts)

    def noisy(self) -> Scores:
        """Return (theta + dtheta).m."""
        noisy = {}
        with account("perturbation"):
            for name, weight in self.weights.items():
                noise = torch.empty(weight.shape).normal_(generator=self.generator).to(weight)
                noisy[name] = noise.mul_(self.config.noise).add_(weight.detach())
        if self.mask is not None:
            self.mask.apply_(noisy)
        return noisy

    def losses(self, temperature: float = 1.0) -> Iterator[Tensor]:
        """Yield every micro-batch's part of the mean cross-entropy, with its graph."""
        for x, y in self.parts:
            assert y is not None, "a saliency with a loss is given labels"
            with frozen_norms(self.model, x):
                yield cross_entropy(self.model(x) / temperature, y, reduction="sum") / self.size

    def add(self, outputs: Tensor, cotangent: Tensor | None = None) -> None:
        """Add (gradient of <outputs, cotangent>).weight to the sums; a pruned weight is 0 and adds nothing."""
        torch.autograd.backward(outputs, cotangent, inputs=list(self.weights.values()))
        for name, weight in self.weights.items():
            if weight.grad is not None:  # the model may not use the layer
                self.sums[name].addcmul_(weight.grad, weight.detach())
                weight.grad = None


def score(
    model: nn.Module,
    mask: Mask | None,
    config: SaliencyConfig,
    inputs: Iterable[Inputs],
    generator: torch.Generator,
    initialise: Callable[[nn.Module, torch.Generator], None],
    forward_directions: int | None = None,
) -> Scores:
    """Return the mean signed score over the draws, one for each of `inputs`, by prunable weight; 0 where pruned.

    `forward_directions` estimates the ntk score by that many central differences in m along Gaussian directions, with
    forward passes only. `model` is scored in place, with weights `fixed` at those it has: it ends at the weights of the
    last draw, pruned ones at 0; running statistics are as `initialise` leaves them.
    """
    weights = prunable_weights(model)
    with account("gradients"):
        sums = {name: torch.zeros_like(weight, requires_grad=False) for name, weight in weights.items()}
    draws = 0
    for x, y in inputs:
        if config.weights == "reinit":
            initialise(model, generator)
        if mask is not None:
            mask.apply_(weights)
        size = config.scoring_micro_batch or len(x)
        parts = [(x[i : i + size], None if y is None else y[i : i + size]) for i in range(0, len(x), size)]
        draw = _Draw(model, weights, parts, sums, mask, config, generator)
        if forward_directions is None:
            _SALIENCIES[config.saliency](draw)
        else:
            _ntk_forward(draw, forward_directions)
        draws += 1
    return {name: total.div_(draws) for name, total in sums.items()}


def _ntk(draw: _Draw) -> None:
    """Add the ntk score by backpropagation.

    The branches' weights take turns at the model's own place, so that one branch's activations live at a time: three
    forward and two backward passes, 7 F - 2 F_first FLOPs with F of a forward pass and F_first of its first layer. One
    graph of both branches would take twice the activations and, without norm layers, F less.
    """
    others = draw.noisy()
    for x, _ in draw.parts:
        with frozen_norms(draw.model, x) as reference:
            for _ in range(2):
                _swap(draw.weights, others)
                outputs = draw.model(x)
                draw.add(outputs, 2 * (outputs.detach() - reference) / draw.size)
                reference = outputs.detach()


@torch.no_grad()
def _swap(weights: Mapping[str, Tensor], others: Scores) -> None:
    for name, weight in weights.items():
        kept = weight.clone()
        weight.copy_(others[name])
        others[name].copy_(kept)


@torch.no_grad()
def _ntk_forward(draw: _Draw, count: int) -> None:
    """Add an estimate of the ntk score by `count` central differences a micro-batch: (4 count + 1) F FLOPs.

    Its error is |G_hat - G| / |G| ~ sqrt((kept + 1) / count) in one micro-batch, an average over d of them being d^-1/2
    of that, and a bias of the order of MASK_STEP^2.
    """
    with account("perturbation"):
        branches = [{name: weight.clone() for name, weight in draw.weights.items()}, draw.noisy()]
    seed = int(torch.randint(1 << 62, (), generator=draw.generator))

    def objective(x: Tensor, direction: Scores, step: float) -> Tensor:
        outputs = []
        for branch in branches:
            for name, weight in draw.weights.items():
                weight.copy_(branch[name]).addcmul_(branch[name], direction[name], value=step)
            outputs.append(draw.model(x))
        return (outputs[0] - outputs[1]).square().sum() / draw.size

    for part, (x, _) in enumerate(draw.parts):
        directions = Directions(seed, round=0, step=part)
        with frozen_norms(draw.model, x):
            for k in range(count):
                direction = _kept_direction(directions, k, draw)
                change = objective(x, direction, MASK_STEP) - objective(x, direction, -MASK_STEP)
                for name, v in direction.items():
                    draw.sums[name].add_(v * (change / (2 * MASK_STEP * count)))
        for name, weight in draw.weights.items():
            weight.copy_(branches[0][name])


def _kept_direction(directions: Directions, k: int, draw: _Draw) -> Scores:
    sizes = [weight.numel() for weight in draw.weights.values()]
    device = next(iter(draw.weights.values())).device
    whole = directions.generate(k, 1, (0, sum(sizes)), None, device)[0]
    direction = {
        name: part.view(weight.shape).to(weight.dtype)
        for (name, weight), part in zip(draw.weights.items(), whole.split(sizes), strict=True)
    }
    if draw.mask is not None:
        draw.mask.apply_(direction)
    return direction


def _snip(draw: _Draw) -> None:
    for loss in draw.losses():
        draw.add(loss)


def _grasp(draw: _Draw) -> None:
    """Add the GraSP score: one pass for the whole gradient g over kept weights, one for its Hessian products."""
    weights = list(draw.weights.values())
    gradient = [torch.zeros_like(weight, requires_grad=False) for weight in weights]
    for loss in draw.losses(GRASP_TEMPERATURE):
        for total, part in zip(gradient, torch.autograd.grad(loss, weights, materialize_grads=True), strict=True):
            total.add_(part)
    if draw.mask is not None:
        draw.mask.apply_(dict(zip(draw.weights, gradient, strict=True)))
    for loss in draw.losses(GRASP_TEMPERATURE):
        parts = torch.autograd.grad(loss, weights, create_graph=True, materialize_grads=True)
        draw.add(sum(((part * g).sum() for part, g in zip(parts, gradient, strict=True)), torch.zeros_like(loss)))


def _synflow(draw: _Draw) -> None:
    twin = copy.deepcopy(draw.model).double()
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.abs_()
    weights = prunable_weights(twin)
    with identity_norms(twin):
        flow = twin(torch.ones_like(draw.parts[0][0][:1], dtype=torch.float64)).sum()
    for (name, weight), gradient in zip(
        weights.items(), torch.autograd.grad(flow, list(weights.values()), materialize_grads=True), strict=True
    ):
        draw.sums[name].add_(gradient * weight.detach() / flow.detach().clamp_min(1e-300))


_SALIENCIES: Mapping[str, Callable[[_Draw], None]] = {
    "ntk": _ntk,
    "snip": _snip,
    "grasp": _grasp,
    "synflow": _synflow,
}
NEEDS_PASSES = frozenset(_SALIENCIES)


def score_without_passes(model: nn.Module, saliency: str, generator: torch.Generator) -> Scores:
    """Return the `magnitude` score of the weights as they are, or `random` ones, by prunable weight."""
    weights = prunable_weights(model)
    if saliency == "magnitude":
        return {name: weight.detach().abs() for name, weight in weights.items()}
    return {name: torch.rand(weight.shape, generator=generator) for name, weight in weights.items()}


def importance(scores: Mapping[str, Tensor], saliency: str) -> Scores:
    """Return what is kept where it is largest: |score|, but for `grasp` the score with its sign."""
    return {name: value if saliency == "grasp" else value.abs() for name, value in scores.items()}
