"""Models: published parameter counts, one spelling for each, and weights from the given generator alone."""

from __future__ import annotations

import importlib
import inspect
import itertools
import math
import pkgutil
from functools import cache
from typing import get_args

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from fedfore.errors import ConfigError
from fedfore.primitives.sparse_normalisation import GAIN, NormalisedConv2d, activation_gain, normalise_convolutions
from fedfore.tasks import architectures, torchvision_compat
from fedfore.tasks.architectures.layers import ACTIVATIONS, Activation, Norm
from fedfore.tasks.architectures.resnet import BasicBlock
from fedfore.tasks.model_registry import MODELS
from fedfore.tasks.models import build, canonical, initialise, outline

resnet, mobilenetv2 = torchvision_compat.models.resnet, torchvision_compat.models.mobilenetv2
CIFAR, MNIST = (3, 32, 32), (1, 32, 32)
TORCHVISION = ("resnet18", "resnet50", "mobilenet_v2")
OWN = [name for name in MODELS if name not in TORCHVISION]


@cache
def count(model: str, input_shape=CIFAR, num_classes=10) -> int:
    return sum(p.numel() for p in build(model, input_shape, num_classes).parameters())


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


PUBLISHED = {
    "lenet5": 62_006,
    "baffle_lenet": 27_530,
    "resnet14": 175_258,
    "resnet20": 272_474,
    "resnet18": 11_173_962,
    "resnet50": 23_520_842,
    "mobilenet_v2": 2_236_682,
}
"""The parameters of every model on CIFAR-10."""


@pytest.mark.parametrize("name", MODELS)
def test_every_model_has_its_published_number_of_parameters(name):
    if name not in PUBLISHED:
        pytest.fail(f"Model {name} is new: add its published number of parameters to PUBLISHED, {count(name)} here.")
    assert count(name) == PUBLISHED[name]


def test_published_parameter_counts_of_one_channel():
    assert count("lenet5", MNIST) == 61_706
    assert count("baffle_lenet", MNIST) == 26_730


def test_resnet20_parameters_by_hand():
    first = 3 * 16 * 9
    stage1 = 6 * 16 * 16 * 9
    stage2 = 16 * 32 * 9 + 5 * 32 * 32 * 9
    stage3 = 32 * 64 * 9 + 5 * 64 * 64 * 9
    shortcuts = 16 * 32 + 32 * 64
    norms = 2 * (7 * 16 + 6 * 32 + 6 * 64) + 2 * (32 + 64)
    classifier = 64 * 10 + 10
    convolutions = first + stage1 + stage2 + stage3 + shortcuts
    assert count("resnet20") == convolutions + norms + classifier == 272_474
    assert count("resnet20:norm=group") == count("resnet20:norm=none") == convolutions + classifier
    assert count("resnet20", CIFAR, 100) == convolutions + norms + 64 * 100 + 100
    last_blocks = 2 * 9 * (16**2 + 32**2 + 64**2) + 4 * (16 + 32 + 64)
    assert count("resnet14") == count("resnet20") - last_blocks


def bottleneck(before: int, width: int, projected: bool) -> int:
    convolutions = before * width + 9 * width**2 + width * 4 * width + before * 4 * width * projected
    return convolutions + 2 * (width + width + 4 * width + 4 * width * projected)


def test_torchvision_parameters_by_hand():
    """Every convolution has a batch norm of two parameters a channel; the stem is 3x3."""
    stem = 3 * 64 * 9 + 2 * 64
    stages18 = [9 * (before * width + 3 * width**2) + 8 * width + (before != width) * (before * width + 2 * width)
                for before, width in ((64, 64), (64, 128), (128, 256), (256, 512))]  # fmt: skip
    assert count("resnet18") == stem + sum(stages18) + 512 * 10 + 10
    assert count("resnet18:norm=none") == count("resnet18") - 2 * (64 + 4 * 64 + 5 * (128 + 256 + 512))
    stages50 = [
        bottleneck(before, width, True) + (blocks - 1) * bottleneck(4 * width, width, False)
        for before, width, blocks in ((64, 64, 3), (256, 128, 4), (512, 256, 6), (1024, 512, 3))
    ]
    assert count("resnet50") == stem + sum(stages50) + 2048 * 10 + 10


@pytest.mark.parametrize("name", TORCHVISION)
def test_a_torchvision_model_is_torchvisions_but_for_its_stem(name):
    """The same weights in the same blocks give the same outputs behind the first convolution."""
    own = build(name, CIFAR, 10).eval()
    published = getattr(torchvision_compat.models, name)(num_classes=10).eval()
    if name == "mobilenet_v2":
        published.features[0][0].stride = (1, 1)
        published.load_state_dict({k.replace("classifier.", "classifier.1."): v for k, v in own.state_dict().items()})
    else:
        published.conv1, published.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
        published.load_state_dict(own.state_dict())
    x = torch.randn(2, *CIFAR, generator=torch.Generator().manual_seed(0))
    assert torch.equal(own(x), published(x))


@pytest.mark.parametrize(
    ("name", "macs"),
    [
        ("lenet5", 28 * 28 * 6 * 75 + 10 * 10 * 16 * 150 + 400 * 120 + 120 * 84 + 84 * 10),
        ("baffle_lenet", 32 * 32 * 16 * 75 + 16 * 16 * 64 * 400 + 64 * 10),
        ("resnet20", 32**2 * (432 + 13_824) + 16**2 * (50_688 + 16 * 32) + 8**2 * (202_752 + 32 * 64) + 64 * 10),
        ("resnet14", 32**2 * (432 + 9_216) + 16**2 * (32_256 + 16 * 32) + 8**2 * (129_024 + 32 * 64) + 64 * 10),
    ],
)
def test_multiplications_by_hand(name, macs):
    """Weights times output positions: strides, padding and pooling are the published ones."""
    found = []
    model = build(name, CIFAR, 10).eval()
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            module.register_forward_hook(lambda m, _, y: found.append(m.weight.numel() * y[0, 0].numel()))
    model(torch.zeros(1, *CIFAR))
    assert sum(found) == macs


def test_convolutions_are_biased_where_published():
    for name, biased in (("lenet5", True), ("baffle_lenet", True), ("resnet20", False)):
        convolutions = [m for m in build(name, CIFAR, 10).modules() if isinstance(m, nn.Conv2d)]
        assert all((m.bias is not None) is biased for m in convolutions)


def variants():
    """Yield every model of the suite's own with each combination of its options, at half its width where it has one."""
    for name in OWN:
        known = MODELS[name].load()
        norms, activations = (known.choices.get(key, (None,)) for key in ("norm", "activation"))
        for norm, activation in itertools.product(norms, activations):
            values = {
                "norm": norm,
                "activation": activation,
                "width": 0.5 if "width" in known.defaults else None,
            }
            written = ",".join(f"{key}={value}" for key, value in values.items() if value is not None)
            yield pytest.param(
                f"{name}:{written}".removesuffix(":"), norm, activation, id=f"{name}-{norm}-{activation}"
            )


@pytest.mark.parametrize(("written", "norm", "activation"), list(variants()))
def test_every_option_trains(written, norm, activation):
    trains(written, norm, activation)


@pytest.mark.parametrize("norm", get_args(Norm))
@pytest.mark.thorough
def test_every_option_of_torchvisions_models_trains(norm):
    trains(f"resnet18:norm={norm},activation=hardswish", norm, "hardswish")
    trains(f"mobilenet_v2:norm={norm},width=0.25", norm, None)


def trains(written, norm, activation):
    """Build a model and check that plain gradient descent on two examples lowers its loss, through every parameter."""
    model = build(written, MNIST, 7)
    x, y = torch.randn(2, *MNIST, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 3])
    losses = []
    for _ in range(4):
        logits = model(x)
        loss = cross_entropy(logits, y)
        gradients = torch.autograd.grad(loss, list(model.parameters()))
        assert logits.shape == (2, 7) and all(gradient.isfinite().all() for gradient in gradients)
        with torch.no_grad():
            size = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
            for parameter, gradient in zip(model.parameters(), gradients, strict=True):
                parameter -= 0.02 / size * gradient
        losses.append(loss.item())
    assert losses[-1] < losses[0], losses
    kinds = {type(m) for m in model.modules()}
    assert kinds.isdisjoint({nn.Dropout})
    if activation is not None:
        assert {kind for kind in kinds if kind.__module__ == nn.ReLU.__module__} == {type(ACTIVATIONS[activation]())}
    if norm is not None:
        assert (nn.BatchNorm2d in kinds) is (norm == "batch")
        assert (nn.GroupNorm in kinds) is (norm == "group")
        assert (NormalisedConv2d in kinds) is (norm == "standardised") is (nn.Conv2d not in kinds)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")  # inside torch's forward mode
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_in_place_activations_leave_derivatives_right(activation):
    """The directional derivative agrees between forward mode, reverse mode and a central difference (float64)."""
    model = build(f"lenet5:norm=group,activation={activation}", MNIST, 10).double()
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, *MNIST, generator=generator, dtype=torch.float64)
    point = {name: p.detach() for name, p in model.named_parameters()}
    direction = {name: torch.randn(p.shape, generator=generator, dtype=p.dtype) for name, p in point.items()}

    def loss(weights):
        return torch.func.functional_call(model, weights, (x,)).square().mean()

    _, forward = torch.func.jvp(loss, (point,), (direction,))
    reverse = sum((g * direction[name]).sum() for name, g in torch.func.grad(loss)(point).items())
    step = 1e-7
    high, low = (loss({n: p + s * step * direction[n] for n, p in point.items()}) for s in (1, -1))
    assert forward.item() == pytest.approx(reverse.item(), rel=1e-9)
    assert forward.item() == pytest.approx((high - low).item() / (2 * step), rel=1e-4)


def test_group_norm_is_baffles():
    groups = [m for m in build("baffle_lenet", CIFAR, 10).modules() if isinstance(m, nn.GroupNorm)]
    assert [(m.num_groups, m.num_channels, m.affine) for m in groups] == [(2, 16, False), (4, 64, False)]
    narrow = [m for m in build("lenet5:norm=group,width=0.5", CIFAR, 10).modules() if isinstance(m, nn.GroupNorm)]
    assert [(m.num_groups, m.num_channels) for m in narrow] == [(1, 3), (2, 8)]


# Standardised convolutions


def first_pass(model: nn.Module) -> tuple[float, list[float]]:
    """Return the cross-entropy on Gaussian images, and the deviations of the residual blocks' outputs."""
    deviations: list[float] = []
    blocks = (BasicBlock, resnet.BasicBlock, resnet.Bottleneck, mobilenetv2.InvertedResidual)
    hooks = [
        block.register_forward_hook(lambda block, x, y: deviations.append(float(y.std())))
        for block in model.modules()
        if isinstance(block, blocks)
    ]
    with torch.no_grad():
        x = torch.randn(8, *CIFAR, generator=torch.Generator().manual_seed(1))
        loss = nn.functional.cross_entropy(model.eval()(x), torch.arange(8))
    for hook in hooks:
        hook.remove()
    return float(loss), deviations


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("resnet14", 6), ("resnet20", 9), ("resnet18", 8), ("mobilenet_v2", 17),
     pytest.param("resnet50", 16, marks=pytest.mark.slow)],
)  # fmt: skip
def test_without_norm_layers_a_standardised_network_starts_near_chance_at_steady_deviations(name, blocks):
    model = build(f"{name}:norm=standardised", CIFAR, 10)
    loss, deviations = first_pass(model)
    assert math.log(10) - 0.5 < loss < math.log(10) + 1
    assert len(deviations) == blocks
    assert max(deviations) < 1.7 * min(deviations)
    for part in model.modules():
        vars(part).pop("gain", None)
    assert max(first_pass(model)[1]) > 3 * max(deviations), "branches that are not scaled add up"


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_deviations_stay_bounded_under_every_activation(activation):
    loss, deviations = first_pass(build(f"resnet20:norm=standardised,activation={activation}", CIFAR, 10))
    assert loss == pytest.approx(math.log(10), abs=0.5)
    assert min(deviations) > 0.4
    assert max(deviations) < 1.1


def test_standardised_is_no_norm_with_standardised_convolutions():
    """The same parameters, the same function: which is what makes FedMef's NSConv idempotent."""
    x = torch.randn(2, *CIFAR, generator=torch.Generator().manual_seed(2))
    for name in ("lenet5", "resnet14", "mobilenet_v2:width=0.25"):
        none, standardised = (build(f"{name}{',' if ':' in name else ':'}norm={n}", CIFAR, 10).eval()
                              for n in ("none", "standardised"))  # fmt: skip
        assert torch.equal(weights(none), weights(standardised))
        expected = standardised(x)
        assert not torch.allclose(none(x), expected)
        assert torch.equal(normalise_convolutions(none)(x), expected)
        assert torch.equal(normalise_convolutions(standardised)(x), expected)


def gains(model: str) -> dict[str, float]:
    modules = build(f"{model}norm=standardised", CIFAR, 10).named_modules()
    return {name: module.gain for name, module in modules if isinstance(module, NormalisedConv2d)}


def test_gains_by_hand():
    """Brock et al. 2021, section 3: the variance grows by alpha^2 a block and is 1 again at a transition."""
    assert gains("lenet5:") == {"conv1": GAIN, "conv2": GAIN}
    found, steps = gains("resnet20:"), [GAIN / math.sqrt(1 + 0.04 * blocks) for blocks in range(4)]
    assert found["conv"] == GAIN
    for name, firsts in (("stage1", steps), ("stage2", [steps[3], *steps[1:]]), ("stage3", [steps[3], *steps[1:]])):
        for block, first in enumerate(firsts[:3], start=1):
            assert found[f"{name}.block{block}.body.conv1"] == pytest.approx(first)
            assert found[f"{name}.block{block}.body.conv2"] == pytest.approx(0.2 * GAIN)
            assert found.get(f"{name}.block{block}.shortcut.conv", first) == pytest.approx(first)
    relu6 = activation_gain(nn.ReLU6)
    inverted = gains("mobilenet_v2:")
    for name, expected in {
        "0.0": relu6, "1.conv.0.0": relu6, "1.conv.1": relu6,
        "3.conv.0.0": 1, "3.conv.1.0": relu6, "3.conv.2": 0.2 * relu6,
        "4.conv.0.0": 1.04**-0.5, "4.conv.1.0": relu6, "4.conv.2": relu6, "18.0": 1,
    }.items():  # fmt: skip
        assert inverted[f"features.{name}"] == pytest.approx(expected), name


@pytest.mark.slow
def test_gains_of_bottlenecks_by_hand():
    found = gains("resnet50:")
    assert [found[f"layer1.1.conv{i}"] / GAIN for i in (1, 2, 3)] == pytest.approx([1.04**-0.5, 1, 0.2])


def test_gains_of_activations_are_those_published_with_the_networks_without_norms():
    """Brock et al. 2021, released code; estimated there from samples."""
    assert activation_gain(nn.ReLU) == GAIN == pytest.approx(activation_gain(nn.ReLU6), rel=1e-3)
    for activation, published in ((nn.ReLU, 1.71396), (nn.ReLU6, 1.71315), (nn.Tanh, 1.59391), (nn.GELU, 1.70150)):
        assert activation_gain(activation) == pytest.approx(published, rel=2e-3)


def test_width_scales_hidden_units():
    twice = build("lenet5:width=2", CIFAR, 10)
    assert [p.shape[0] for p in twice.parameters() if p.dim() > 1] == [12, 32, 240, 168, 10]
    assert count("resnet20:width=0.01") > 0
    assert [build(f"mobilenet_v2:width={w}", CIFAR, 10).features[0][0].out_channels for w in (0.5, 2)] == [16, 64]


def test_modules_are_not_shared():
    for name in OWN:
        model = build(name, CIFAR, 10)
        assert len(list(model.named_modules())) == len(list(model.named_modules(remove_duplicate=False)))


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("lenet5", "lenet5"),
        ("lenet5:norm=none", "lenet5"),
        ("lenet5:width=1", "lenet5"),
        ("lenet5:width=2.0,norm=batch", "lenet5:norm=batch,width=2"),
        ("resnet20: norm = group , activation=hardswish", "resnet20:activation=hardswish,norm=group"),
        ("resnet20:norm=batch,activation=relu", "resnet20"),
        ("baffle_lenet:width=0.10", "baffle_lenet:width=0.1"),
        ("resnet18:norm=batch", "resnet18"),
        ("mobilenet_v2:width=1,norm=group", "mobilenet_v2:norm=group"),
    ],
)
def test_one_spelling_for_each_model(written, expected):
    assert canonical(written) == canonical(expected) == expected


@pytest.mark.parametrize(
    ("written", "sentence"),
    [
        ("lenet", r'Unknown model "lenet"\. Did you mean "\w*lenet\w*"\?'),
        ("resnet20:nrom=batch", r'Model "resnet20" has no option "nrom"\. Did you mean "norm"\?'),
        ("resnet20:norm=bach", r'Model "resnet20" has no norm "bach"\. Did you mean "batch"\?'),
        ("resnet20:norm", r'"resnet20:norm" cannot be read: write "resnet20:option=value,\.\.\."'),
        ("resnet20:", r'"resnet20:" cannot be read'),
        ("resnet20:norm=batch,norm=group", r"each option once"),
        ("lenet5:width=0", r"width=0 .* positive number"),
        ("lenet5:width=wide", r"width=wide .* positive number"),
        ("lenet5:width=inf", r"width=inf .* positive number"),
        ("lenet5:width=nan", r"width=nan .* positive number"),
        ("resnet18:width=0.5", r'Model "resnet18" has no option "width"'),
    ],
)
def test_unusable_names_are_explained(written, sentence):
    for function in (canonical, lambda model: build(model, CIFAR, 10)):
        with pytest.raises(ConfigError, match=sentence):
            function(written)


def test_no_sequence_keeps_the_input_of_another():
    for name in MODELS:
        assert not any(type(module) is nn.Sequential for module in build(name, CIFAR, 10).modules())


def test_small_images_are_refused():
    build("lenet5", (1, 16, 16), 10)(torch.zeros(1, 1, 16, 16))
    with pytest.raises(ConfigError, match="at least 16x16 pixels, not 15x32"):
        build("lenet5", (1, 15, 32), 10)


@pytest.mark.parametrize("name", [*OWN, "mobilenet_v2:width=0.25", "resnet18"])
def test_weights_come_from_the_generator_alone(name):
    state = torch.get_rng_state()
    model = build(name, CIFAR, 10)
    same = build(name, CIFAR, 10)
    initialise(model, torch.Generator().manual_seed(0))
    assert torch.equal(weights(model), weights(same))
    initialise(same, torch.Generator().manual_seed(1))
    assert not torch.equal(weights(model), weights(same))
    assert torch.equal(torch.get_rng_state(), state)


def test_initial_weights_are_kaiming_normal():
    model = build("resnet20", CIFAR, 10)
    for name, p in model.named_parameters():
        if p.dim() > 1:
            deviation = math.sqrt(2 / p[0].numel())
            assert p.std().item() == pytest.approx(deviation, rel=4 / math.sqrt(2 * p.numel())), name
            assert abs(p.mean().item()) < 4 * deviation / math.sqrt(p.numel()), name
        else:
            assert (p == (0 if name.endswith("bias") else 1)).all(), name


@pytest.mark.parametrize("name", ["lenet5", "baffle_lenet", "resnet20:norm=batch,width=0.25"])
def test_the_pytorch_initialiser_is_that_of_torch_nn_bit_for_bit(name):
    own, default = (build(name, CIFAR, 10) for _ in range(2))
    initialise(own, torch.Generator().manual_seed(9), "pytorch")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        for module in default.modules():
            getattr(module, "reset_parameters", lambda: None)()
    assert all(torch.equal(value, default.state_dict()[key]) for key, value in own.state_dict().items())


def test_the_pytorch_initialiser_has_small_weights_and_biases_within_their_bound():
    """Uniform within 1 / sqrt(fan_in): 1 / sqrt 6 = 0.408 of He's deviation, and biases that are not 0."""
    model = build("lenet5", CIFAR, 10)
    initialise(model, torch.Generator().manual_seed(0), "pytorch")
    fan_ins = {"weight": 1, "bias": 1}
    ratios = []
    for name, p in model.named_parameters():
        if p.dim() > 1:
            fan_ins["weight"] = p[0].numel()
            ratios.append(p.std().item() / math.sqrt(2 / p[0].numel()))
            assert abs(p.mean().item()) < 4 * p.std().item() / math.sqrt(p.numel())
        bound = fan_ins["weight"] ** -0.5
        assert p.abs().max() <= bound, name
        assert p.abs().max() > 0.6 * bound, name
    assert ratios == pytest.approx([6**-0.5] * len(ratios), abs=0.02)
    assert sum(ratios) / len(ratios) == pytest.approx(0.405, abs=0.01)


def test_initialise_draws_in_parameter_order():
    model = build("lenet5", MNIST, 10)
    initialise(model, torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(9)
    for p in model.parameters():
        if p.dim() > 1:
            draw = torch.empty(p.shape).normal_(generator=generator)
            torch.testing.assert_close(p.detach(), draw * math.sqrt(2 / p[0].numel()))


def test_initialise_resets_a_trained_model():
    model = build("resnet20:width=0.25", CIFAR, 10)
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    model(torch.ones(4, *CIFAR))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(1)
    initialise(model, torch.Generator().manual_seed(0))
    assert all(torch.equal(value, fresh[name]) for name, value in model.state_dict().items())


SIDES = (16, 28, 32, 64, 96)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.thorough
def test_images_of_any_size_and_any_number_of_channels_fit_from_the_stated_least_on(name):
    smallest = MODELS[name].load().smallest
    with pytest.raises(ConfigError, match=f'"{name}" needs images of at least {smallest}x{smallest} pixels, not'):
        build(name, (1, smallest + 1, smallest - 1), 3)
    for channels, side in itertools.product((1, 3), (smallest, *(side for side in SIDES if side >= smallest))):
        with torch.device("meta"):
            x = torch.empty(2, channels, side, side + 1)
        assert outline(name, (channels, side, side + 1), 3)(x).shape == (2, 3)


@pytest.mark.parametrize("name", [name for name in OWN if "width" in MODELS[name].load().defaults] + ["mobilenet_v2"])
def test_one_image_of_the_least_size_can_be_trained_on_with_batch_norm(name):
    smallest = MODELS[name].load().smallest
    model = build(f"{name}:norm=batch,width=0.25", (1, smallest, smallest), 3)
    cross_entropy(model(torch.randn(1, 1, smallest, smallest)), torch.tensor([1])).backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters())


def test_descriptions_are_one_line():
    assert all(entry.description and "\n" not in entry.description for entry in MODELS.values())


def test_every_activation_and_no_other_is_a_value_of_the_option():
    assert set(get_args(Activation)) == set(ACTIVATIONS)


def test_a_function_of_an_architecture_is_a_model_by_its_place_alone():
    """The registry reads syntax and imports nothing; what the imported modules define is the same."""
    found = {}
    for entry in pkgutil.iter_modules(architectures.__path__, f"{architectures.__name__}."):
        module = importlib.import_module(entry.name)
        for name, value in inspect.getmembers(module, inspect.isfunction):
            own = value.__module__ == module.__name__ and not name.startswith("_")
            given = inspect.signature(value).parameters.values()
            places = [one.name for one in given if one.kind is one.POSITIONAL_OR_KEYWORD]
            if own and places == ["input_shape", "num_classes"]:
                found[name] = value
    assert {name: model.load().build for name, model in MODELS.items()} == found
    assert all(MODELS[name].description == inspect.getdoc(value).partition("\n")[0] for name, value in found.items())
