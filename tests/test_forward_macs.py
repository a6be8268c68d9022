"""Forward MACs: torch's formulas against fvcore's, layer by layer, and the operators that need no formula."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from fedfore.masks import prunable_weights
from fedfore.measure.flops import ForwardMacs, forward_macs
from fedfore.measure.light_operators import LIGHT_OPERATORS, LIGHT_TAGS, is_light
from fedfore.measure.step_meter import StepMeter
from fedfore.tasks.model_registry import MODELS
from fedfore.tasks.models import build

CIFAR = (3, 32, 32)
NO_PRODUCTS = ("batch_norm", "group_norm", "layer_norm", "instance_norm", "adaptive_avg_pool2d", "upsample_nearest2d")
"""What fvcore counts although it is no product."""


def by_fvcore(model: nn.Module) -> tuple[dict[str, int], int]:
    """Return the MACs of every prunable layer and of all else in one forward pass of one example."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it traces with what torch calls deprecated
        from fvcore.nn import FlopCountAnalysis

        counts = FlopCountAnalysis(model.eval(), torch.zeros(1, *CIFAR))
        counts.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        by_module, by_operator = counts.by_module(), counts.by_operator()
    layers = {name: int(by_module[name.rpartition(".")[0]]) for name in prunable_weights(model)}
    products = sum(count for operator, count in by_operator.items() if operator not in NO_PRODUCTS)
    return layers, int(products) - sum(layers.values())


def by_torch(model: nn.Module) -> tuple[dict[str, int], int]:
    macs = forward_macs(model, CIFAR)
    assert macs.uncounted == ()
    return dict(macs.layers), macs.other


@pytest.mark.parametrize(
    "written",
    [
        f"{name}:norm={norm}" if norm else name
        for name, model in MODELS.items()
        for norm in (("batch", "group", "standardised") if "norm" in model.load().defaults else ("",))
    ],
)
@pytest.mark.thorough
def test_every_shipped_model_has_fvcores_macs_in_every_layer(written: str) -> None:
    model = build(written, CIFAR, 10)
    assert by_torch(model) == by_fvcore(model)


def convolution(**options) -> Callable[[], nn.Module]:
    return lambda: nn.Sequential(nn.Conv2d(3, 12, 1), nn.ReLU(), nn.Conv2d(12, 8, 3, **options), nn.BatchNorm2d(8))


class Flat(nn.Module):
    """Three tokens of 1024 pixels through `inside`."""

    def __init__(self, inside: nn.Module) -> None:
        super().__init__()
        self.inside = inside

    def forward(self, x: Tensor) -> Tensor:
        return self.inside(x.flatten(2))


class Attention(nn.Module):
    def __init__(self, need_weights: bool) -> None:
        super().__init__()
        self.embed, self.attention = nn.Linear(1024, 16), nn.MultiheadAttention(16, 4, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x)
        return self.attention(tokens, tokens, tokens, need_weights=self.need_weights)[0]


class Twice(nn.Module):
    """A layer that is called twice, one that is never called, and one whose weight another product reads."""

    def __init__(self) -> None:
        super().__init__()
        self.square, self.never, self.borrowed = nn.Linear(1024, 1024), nn.Linear(7, 5), nn.Linear(1024, 6)

    def forward(self, x: Tensor) -> Tensor:
        seen = self.square(torch.relu(self.square(x)))
        return (seen @ self.borrowed.weight.T) @ torch.ones(1, 6, 2)


ODD: dict[str, Callable[[], nn.Module]] = {
    "grouped": convolution(groups=4),
    "dilated": convolution(dilation=3),
    "strided": convolution(stride=2, padding=1),
    "depthwise": lambda: nn.Conv2d(3, 6, 3, groups=3),
    "transposed": lambda: nn.ConvTranspose2d(3, 5, 4, stride=2, padding=1),
    "transposed and grouped": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 1), nn.ConvTranspose2d(4, 6, 3, stride=2, groups=2)
    ),
    "one dimension": lambda: Flat(nn.Sequential(nn.Conv1d(3, 4, 5), nn.ConvTranspose1d(4, 2, 3))),
    "volumes": lambda: nn.Sequential(nn.Unflatten(1, (1, 3)), nn.Conv3d(1, 4, 3, padding=1)),
    "attention by products": lambda: Flat(Attention(need_weights=True)),
    "twice": lambda: Flat(Twice()),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_models_have_fvcores_macs_in_every_layer(name: str) -> None:
    model = ODD[name]()
    assert by_torch(model) == by_fvcore(model)


def test_fused_attention_has_the_macs_of_its_products_which_fvcore_does_not_know() -> None:
    fused, plain = Flat(Attention(need_weights=False)), Flat(Attention(need_weights=True))
    assert by_torch(fused) == by_torch(plain)
    assert by_fvcore(fused)[1] < by_fvcore(plain)[1]


def test_a_step_of_fused_attention_has_a_formula_too() -> None:
    model, x = Flat(Attention(need_weights=False)), torch.ones(2, *CIFAR, requires_grad=True)
    forward = 2 * 2 * forward_macs(model, CIFAR).dense
    with StepMeter(model, None, {}) as meter:
        model(x).sum().backward()
        step = meter.cost()
    assert not step.uncounted
    assert step.flops > 3 * forward  # two products for each one, and the scores once more


def test_an_encoder_is_counted_by_its_products_and_not_by_the_path_that_fuses_them_all() -> None:
    layer = nn.TransformerEncoderLayer(1024, 4, dim_feedforward=8, batch_first=True)
    macs = forward_macs(Flat(layer), CIFAR)
    assert macs.uncounted == ()
    assert macs.layers["inside.linear1.weight"] == macs.layers["inside.linear2.weight"] == 3 * 1024 * 8
    assert macs.other == 3 * 4 * 1024**2 + 2 * 3 * 3 * 1024


def test_counting_leaves_the_model_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    forward_macs(model, CIFAR)
    assert model.training and all(module.training for module in model)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model)


def test_a_model_that_fails_is_left_without_hooks() -> None:
    model = nn.Sequential(nn.Linear(32, 4), nn.Linear(5, 2)).train()
    with pytest.raises(RuntimeError):
        forward_macs(model, CIFAR)
    assert model.training and not any(module._forward_hooks or module._forward_pre_hooks for module in model)


def test_what_solves_in_a_forward_pass_is_named() -> None:
    class Solving(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(32, 32)

        def forward(self, x: Tensor) -> Tensor:
            return torch.linalg.solve(torch.eye(32) + self.linear.weight, self.linear(x))

    assert forward_macs(Solving(), CIFAR) == ForwardMacs({"linear.weight": 3 * 32**3}, 0, ("_linalg_solve_ex",))


# -- light operators ---------------------------------------------------------------------------------------------------

ATEN = torch.ops.aten
OPERATORS = sorted({schema.name for schema in torch._C._jit_get_all_schemas() if schema.name.startswith("aten::")})
MULTIPLY = (
    "mm", "bmm", "matmul", "conv", "linear", "attention", "lstm", "gru", "rnn", "solve", "cholesky", "svd", "eig",
    "inv", "qr", "lu", "cdist", "fft", "einsum", "trilinear", "mv", "addr",
)  # fmt: skip
"""Beginnings of the parts of names that operators have which multiply matrices, or do as much."""
ONLY_SO_CALLED = {
    "_use_cudnn_rnn_flatten_weight", "fft_fftfreq", "fft_rfftfreq", "mvlgamma", "mvlgamma_", "slice_inverse"
}  # fmt: skip


def packets() -> dict[str, object]:
    found = {name.removeprefix("aten::"): getattr(ATEN, name.removeprefix("aten::"), None) for name in OPERATORS}
    return {name: packet for name, packet in found.items() if hasattr(packet, "overloads")}


def test_no_operator_that_multiplies_by_its_name_is_light() -> None:
    heavy = {
        name: packet
        for name, packet in packets().items()
        if any(part.startswith(MULTIPLY) for part in name.strip("_").split("_"))
    }
    assert len(heavy) > 150
    assert {name for name, packet in heavy.items() if is_light(packet)} == ONLY_SO_CALLED


def test_every_operator_called_light_exists_and_has_no_tag_that_says_so_already() -> None:
    known = packets()
    assert known.keys() >= LIGHT_OPERATORS, sorted(LIGHT_OPERATORS - known.keys())
    tagged = {
        name
        for name in LIGHT_OPERATORS
        for overload in known[name].overloads()  # type: ignore[attr-defined]
        if not LIGHT_TAGS.isdisjoint(getattr(known[name], overload).tags)
    }
    assert tagged == set()


def test_forms_of_an_operator_are_as_light_as_itself() -> None:
    light = ("fill_", "_foreach_add_", "avg_pool2d_backward", "transpose_copy", "arange", "zeros", "randperm")
    heavy = ("_foreach_mm", "addmm_", "convolution_backward", "_weight_int4pack_mm_with_scales_and_zeros")
    assert [name for name in light if not is_light(getattr(ATEN, name))] == []
    assert [name for name in heavy if is_light(getattr(ATEN, name))] == []
