"""The empirical neural tangent kernel of a model on a set of probes (Jacot et al. 2018, arXiv 1806.07572).

Theta(x, x') = J(x) J(x')^T, with J(x) [c, P] the Jacobian of the logits with respect to the prunable weights, or to
those of them that a mask keeps; never biases, norms or frozen layers. Everything is in evaluation mode: batch norm
uses its running statistics, which are 0 and 1 before any training, and group norm those of the sample, differentiated
through.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.func import functional_call, jacrev, vmap

from fedfore.masks import Mask, prunable_weights

MAX_FLOATS = 100_000_000
MAX_FLOPS = 5e12
"""The budget of one trace kernel: 400 MB, and about two minutes of one core."""


def empirical_ntk(
    model: nn.Module,
    x: Tensor,
    mask: Mask | None = None,
    kernel: Literal["trace", "full"] = "trace",
    *,
    input_chunk: int = 16,
    class_chunk: int = 1,
) -> Tensor:
    """Return the kernel of `model` at its present weights on `x: [n, C, H, W]`, in float64 on the device of `x`.

    `full` is [n c, n c], the row of input i and class k being i c + k; `trace` is [n, n], its sum over equal classes.
    A `mask` restricts the Jacobian to kept weights (P of them) and zeroes no weight. Products are made in the model's
    precision. `model` is left as it was.

    The Jacobians of `class_chunk` = k classes are held at a time, and made for `input_chunk` = b inputs at a time; the
    result depends on neither but by rounding. The peak is about k n P + k b (n_p + A) floats for `trace`, with n_p the
    prunable weights and A the activations of one input. `full` holds 2 k n P, and 2 (n c)^2 for the result, and makes
    every Jacobian (c/k + 1) / 2 times.
    """
    jacobian, num_classes = _jacobian(model, x, mask, input_chunk)
    chunks = [slice(start, min(start + class_chunk, num_classes)) for start in range(0, num_classes, class_chunk)]
    if kernel == "trace":
        trace = x.new_zeros(len(x), len(x), dtype=torch.float64)
        for chunk in chunks:
            trace += _gram(jacobian(chunk))
        return trace
    full = x.new_zeros(len(x), num_classes, len(x), num_classes, dtype=torch.float64)
    for i, chunk in enumerate(chunks):
        rows = jacobian(chunk)
        for other in chunks[: i + 1]:
            products = torch.tensordot(rows, rows if other is chunk else jacobian(other), dims=([2], [2]))
            full[:, chunk, :, other] = products.permute(1, 0, 3, 2)
            full[:, other, :, chunk] = products.permute(3, 2, 1, 0)
    return full.flatten(2).flatten(0, 1)


def _gram(rows: Tensor) -> Tensor:
    return (rows @ rows.mT).sum(0, dtype=torch.float64)


def _jacobian(
    model: nn.Module, x: Tensor, mask: Mask | None, input_chunk: int
) -> tuple[Callable[[slice], Tensor], int]:
    """Return the function from a slice of classes to their Jacobian [k, n, P] on `x`, and the number of classes."""
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    parameters = dict(frozen.named_parameters())
    weights = {name: parameters[name] for name in prunable_weights(model)}
    kept = {
        name: slice(None) if mask is None else mask[name].flatten().nonzero().squeeze(1).to(x.device)
        for name in weights
    }
    num_kept = sum(w.numel() for w in weights.values()) if mask is None else mask.kept

    def jacobian(classes: slice) -> Tensor:
        def logits(weights: dict[str, Tensor], one: Tensor) -> Tensor:
            return functional_call(frozen, weights, (one[None],))[0, classes]

        found = x.new_empty(classes.stop - classes.start, len(x), num_kept)
        differentiate = vmap(jacrev(logits), in_dims=(None, 0), out_dims=1)
        for inputs, rows in zip(x.split(input_chunk), found.split(input_chunk, dim=1), strict=True):
            start = 0
            for name, layer in differentiate(weights, inputs).items():
                columns = layer.flatten(2)[..., kept[name]]
                rows[..., start : start + columns.shape[2]] = columns
                start += columns.shape[2]
        return found

    return jacobian, frozen(x[:1]).shape[1]


@dataclass(frozen=True)
class NtkCost:
    """What one trace kernel costs: floats held at the peak, chunks of inputs apart, and FLOPs (2 x MACs)."""

    floats: int
    flops: float


def trace_cost(
    model: nn.Module, num_probes: int, num_classes: int, forward_macs: int, mask: Mask | None = None
) -> NtkCost:
    """Return the cost of the trace kernel at one class a time; `forward_macs` are the dense ones of one input.

    floats = n P + n^2; flops = 6 c n forward_macs (forward, and twice that backward, for every class and input)
    + 2 c n^2 P.
    """
    kept = sum(weight.numel() for weight in prunable_weights(model).values()) if mask is None else mask.kept
    flops = 6 * num_classes * num_probes * forward_macs + 2 * num_classes * num_probes**2 * kept
    return NtkCost(num_probes * kept + num_probes**2, float(flops))


def affordable(
    model: nn.Module, num_probes: int, num_classes: int, forward_macs: int, mask: Mask | None = None
) -> str | None:
    """Return why the trace kernel is not worth its cost, as one sentence for the record, or None where it is."""
    cost = trace_cost(model, num_probes, num_classes, forward_macs, mask)
    if cost.floats > MAX_FLOATS:
        return f"The NTK on {num_probes} probes holds {cost.floats:.1e} floats; the limit is {MAX_FLOATS:.0e}."
    if cost.flops > MAX_FLOPS:
        return f"The NTK on {num_probes} probes takes {cost.flops:.1e} FLOPs; the limit is {MAX_FLOPS:.0e}."
    return None
