"""The neural tangent kernel against direct Jacobians, and the errors made of it against hand-worked numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from fedfore.errors import ConfigError
from fedfore.masks import Mask, prunable_shapes, prunable_weights, random_mask, uniform_densities
from fedfore.measure.ntk import MAX_FLOATS, affordable, empirical_ntk, trace_cost
from fedfore.measure.ntk_errors import (
    MIN_PROBES,
    NtkErrors,
    against_iid,
    layer_density_l1,
    mask_iou,
    measure,
    mmd2,
    pooled_spectrum,
    rel_frobenius_error,
    shuffled_iou,
    spectrum,
    spectrum_distance,
    spectrum_error,
)
from fedfore.measure.step_meter import StepMeter
from fedfore.streams import numpy_generator, torch_generator
from fedfore.tasks.loading import load
from fedfore.tasks.models import build
from fedfore.tasks.partition import partition

NETS = [
    "lenet5:width=0.3,norm=group",
    "lenet5:width=0.3,norm=batch,activation=hardswish",
    "lenet5:width=0.3,activation=gelu",
    "resnet20:width=0.2",
    "resnet20:width=0.2,norm=group,activation=tanh",
]
CLASSES, INPUTS = 3, 5


def net(name: str = NETS[0]) -> nn.Module:
    """Return a model in float64 and training mode, with biases, norms and running statistics that are not trivial."""
    model = build(name, (1, 32, 32), CLASSES).double()
    generator = torch_generator(1)
    for tensor in [p.data for p in model.parameters()] + [b for b in model.buffers() if b.is_floating_point()]:
        if tensor.dim() == 1:
            tensor.add_(torch.rand(tensor.shape, generator=generator))
    return model


def inputs(count: int = INPUTS, seed: int = 2) -> Tensor:
    return torch.randn(count, 1, 32, 32, generator=torch_generator(seed), dtype=torch.float64)


def half_mask(model: nn.Module) -> Mask:
    shapes = prunable_shapes(model)
    return random_mask(shapes, uniform_densities(shapes, 0.5), torch_generator(3))


def direct_jacobian(model: nn.Module, x: Tensor) -> Tensor:
    """Return the Jacobian [n, c, n_p] over prunable weights, row by row by backpropagation."""
    model.eval()
    weights = list(prunable_weights(model).values())
    rows = [
        torch.cat([g.flatten() for g in torch.autograd.grad(logit, weights, retain_graph=True)])
        for one in x
        for logit in model(one[None])[0]
    ]
    model.train()
    return torch.stack(rows).view(len(x), CLASSES, -1)


# The kernel


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_the_kernel_is_the_jacobian_over_kept_weights_times_itself(name: str, masked: bool) -> None:
    model, x = net(name), inputs()
    mask = half_mask(model) if masked else None
    jacobian = direct_jacobian(model, x)
    if mask is not None:
        jacobian = jacobian[..., torch.cat([layer.flatten() for layer in mask.values()])]
    full = jacobian.flatten(0, 1) @ jacobian.flatten(0, 1).T
    torch.testing.assert_close(empirical_ntk(model, x, mask, "full", class_chunk=2), full, rtol=1e-10, atol=1e-10)
    trace = torch.einsum("icp,jcp->ij", jacobian, jacobian)
    torch.testing.assert_close(empirical_ntk(model, x, mask), trace, rtol=1e-10, atol=1e-10)


def test_the_kernel_of_a_linear_model_is_the_inner_product_of_its_inputs() -> None:
    """Logit k is w_k . x, so the Jacobian of class k is x in row k of the weights, and zero elsewhere."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(2, 3))
    x = torch.tensor([[1.0, 2.0], [3.0, -1.0]]).view(2, 1, 1, 2)
    products = torch.tensor([[5.0, 1.0], [1.0, 10.0]], dtype=torch.float64)
    assert torch.equal(empirical_ntk(model, x), 3 * products)
    assert torch.equal(empirical_ntk(model, x, kernel="full"), torch.kron(products, torch.eye(3, dtype=torch.float64)))
    mask = Mask({"1.weight": torch.tensor([[True, False], [True, True], [False, False]])})
    assert torch.equal(empirical_ntk(model, x, mask), products + torch.tensor([[1.0, 3.0], [3.0, 9.0]]))


@pytest.mark.parametrize("kernel", ["trace", "full"])
@pytest.mark.parametrize(("input_chunk", "class_chunk"), [(1, 1), (2, 2), (5, 3), (99, 99)])
def test_the_kernel_does_not_depend_on_the_chunks(kernel: str, input_chunk: int, class_chunk: int) -> None:
    model, x = net(), inputs()
    other = empirical_ntk(model, x, half_mask(model), kernel, input_chunk=input_chunk, class_chunk=class_chunk)  # type: ignore[arg-type]
    whole = empirical_ntk(model, x, half_mask(model), kernel, input_chunk=4, class_chunk=1)  # type: ignore[arg-type]
    torch.testing.assert_close(other, whole, rtol=1e-12, atol=1e-12)


def test_the_trace_kernel_is_the_full_kernel_summed_over_equal_classes() -> None:
    model, x = net(), inputs()
    full = empirical_ntk(model, x, kernel="full").view(INPUTS, CLASSES, INPUTS, CLASSES)
    torch.testing.assert_close(empirical_ntk(model, x), torch.einsum("ikjk->ij", full), rtol=1e-12, atol=1e-12)


def test_the_trace_splits_over_clients_without_error() -> None:
    model, x = net(), inputs(7)
    alone = [float(empirical_ntk(model, part).trace()) for part in x.split([1, 4, 2])]
    assert float(empirical_ntk(model, x).trace()) == pytest.approx(sum(alone), rel=1e-14)


def test_the_model_is_left_as_it_was() -> None:
    model = net("resnet20:width=0.2")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    empirical_ntk(model, inputs(2))
    assert model.training
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad and p.grad is None for p in model.parameters())


@pytest.mark.thorough
def test_one_class_is_held_at_a_time_in_the_space_of_kept_weights() -> None:
    """n P + b (n_p + A) floats, with n = 20, b = 4 and P = n_p or n_p / 2, and a few copies of the weights."""
    model = build("lenet5", (1, 32, 32), 10)
    size, x = sum(w.numel() for w in prunable_weights(model).values()), torch.randn(20, 1, 32, 32)
    for mask, share in ((None, 1.0), (half_mask(model), 0.5)):
        with StepMeter(model, None, {}) as meter:
            empirical_ntk(model, x, mask, input_chunk=4)
            peak = meter.cost().peak_bytes / 4
        assert 20 * share * size < peak < (20 * share + 10) * size


# Its cost


def test_the_cost_counts_the_jacobian_of_one_class_and_every_pass() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(4, 3))
    cost = trace_cost(model, num_probes=10, num_classes=3, forward_macs=12)
    assert cost.floats == 10 * 12 + 100
    assert cost.flops == 6 * 3 * 10 * 12 + 2 * 3 * 100 * 12
    mask = Mask({"1.weight": torch.eye(3, 4, dtype=torch.bool)})
    assert trace_cost(model, 10, 3, 12, mask).floats == 10 * 3 + 100


def test_what_is_too_big_is_refused_in_one_sentence() -> None:
    model = build("lenet5", (3, 32, 32), 10)
    assert affordable(model, 200, 10, 651_720) is None
    too_long = affordable(model, 200, 100, 10**9)
    assert too_long == "The NTK on 200 probes takes 1.2e+14 FLOPs; the limit is 5e+12."
    probes = MAX_FLOATS // 61_770
    too_big = affordable(model, probes, 10, 651_720)
    assert too_big == f"The NTK on {probes} probes holds 1.0e+08 floats; the limit is 1e+08."
    assert affordable(model, probes, 10, 651_720, half_mask(model)) is None


# Its errors, by hand

FEATURES = torch.tensor([[1.0], [3.0], [2.0], [6.0]], dtype=torch.float64)
KERNEL = FEATURES @ FEATURES.T
CLIENTS = torch.tensor([0, 0, 1, 1])
EQUAL = torch.tensor([0.5, 0.5], dtype=torch.float64)


def test_mmd2_by_hand() -> None:
    """Products 1.3 = 3 and 2.6 = 12 within clients, (1 + 3)(2 + 6) / 4 = 8 between; the mean diagonal is 12.5."""
    assert mmd2(KERNEL, CLIENTS, EQUAL) == pytest.approx((0.25 * 3 + 0.25 * 12 - 2 * 0.25 * 8) / 12.5)
    unequal = torch.tensor([0.2, 0.8], dtype=torch.float64)
    assert mmd2(KERNEL, CLIENTS, unequal) == pytest.approx(0.16 * (3 + 12 - 2 * 8) / 12.5)


def test_the_frobenius_error_by_hand() -> None:
    """Between the clients 2 (1 + 9)(4 + 36), in all (1 + 9 + 4 + 36)^2."""
    assert rel_frobenius_error(KERNEL, CLIENTS) == pytest.approx(math.sqrt(800 / 2500))


def test_spectra_by_hand() -> None:
    three = spectrum(torch.diag(torch.tensor([3.0, 1.0, 4.0], dtype=torch.float64)))
    assert three.tolist() == pytest.approx([0.5, 0.375, 0.125])
    assert spectrum(KERNEL).tolist() == pytest.approx([1.0, 0.0, 0.0, 0.0])
    torch.testing.assert_close(spectrum(7 * KERNEL), spectrum(KERNEL))
    assert spectrum(torch.zeros(2, 2)).tolist() == [0.0, 0.0]
    assert spectrum_distance(three, torch.tensor([1.0, 0.0, 0.0])) == pytest.approx(0.5 + 0.375 + 0.125)


# Its errors, in law


def scattered(count: int, width: int = 3, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch_generator(seed), dtype=torch.float64)


def test_mmd2_is_unbiased_for_its_population_value() -> None:
    """Client A's features are 0 or 2, B's -3 or 5, each with chance 1/2: the means are 1 and 1 in one coordinate, and
    0 and 4 in another. All samples of two probes a client, weighted by chance, average to the population's spread.
    """
    a = torch.tensor([[0.0, 0.0], [2.0, 0.0]], dtype=torch.float64)
    b = torch.tensor([[-3.0, 4.0], [5.0, 4.0]], dtype=torch.float64)
    shares = torch.tensor([0.25, 0.75], dtype=torch.float64)
    numerators = []
    for i, j, k, m in itertools.product(range(2), repeat=4):
        features = torch.stack([a[i], a[j], b[k], b[m]])
        kernel = features @ features.T
        numerators.append(mmd2(kernel, CLIENTS, shares) * float(kernel.diagonal().mean()))
    assert np.mean(numerators) == pytest.approx(0.25 * 3.0**2 + 0.75 * 1.0**2)


def test_mmd2_is_zero_on_average_over_all_deals_of_the_same_probes() -> None:
    features = scattered(6) + 5
    shares = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    deals = set(itertools.permutations([0, 0, 1, 1, 2, 2]))
    values = [mmd2(features @ features.T, torch.tensor(deal), shares) for deal in deals]
    assert max(values) > 0.01
    assert np.mean(values) == pytest.approx(0.0, abs=1e-14)


@given(counts=st.lists(st.integers(2, 5), min_size=2, max_size=4), seed=st.integers(0, 10**6))
def test_mmd2_is_half_the_mean_over_pairs_of_clients(counts: list[int], seed: int) -> None:
    features = scattered(sum(counts), seed=seed)
    kernel = features @ features.T
    shares = torch.rand(len(counts), generator=torch_generator(seed), dtype=torch.float64) + 0.1
    shares /= shares.sum()
    clients = torch.arange(len(counts)).repeat_interleave(torch.tensor(counts))
    own = features.split(counts)
    total = 0.0
    for (p, a), (q, b) in itertools.permutations(zip(shares, own, strict=True), 2):
        within = [(x @ x.T - torch.diag((x @ x.T).diagonal())).sum() / (len(x) * (len(x) - 1)) for x in (a, b)]
        total += float(p * q * (sum(within) - 2 * (a @ b.T).mean()))
    assert mmd2(kernel, clients, shares) == pytest.approx(total / 2 / float(kernel.diagonal().mean()), abs=1e-10)


def test_errors_do_not_depend_on_the_order_of_the_probes() -> None:
    features = scattered(12)
    kernel, clients = features @ features.T, torch.arange(3).repeat_interleave(4)
    shares = torch.tensor([0.1, 0.3, 0.6], dtype=torch.float64)
    order = torch.randperm(12, generator=torch_generator(4))
    shuffled = kernel[order][:, order], clients[order]
    assert mmd2(*shuffled, shares) == pytest.approx(mmd2(kernel, clients, shares), rel=1e-12)
    assert rel_frobenius_error(*shuffled) == pytest.approx(rel_frobenius_error(kernel, clients), rel=1e-12)


@pytest.mark.parametrize(
    ("probes", "first", "split"),
    [
        ([2, 2], 0.5, 2 / 3),
        ([2, 2], 0.9, 0.9 * 0.1 / 0.55 + 0.1 * 0.9 / 0.95),
        ([4, 2], 0.5, 0.5 * 0.5 / 0.875 + 0.5 * 0.5 / 0.75),
    ],
)
def test_the_pool_holds_clients_by_their_shares(probes: list[int], first: float, split: float) -> None:
    """A client's features are equal and the two clients' orthogonal, so a pair has the spectrum (1, 0), or (1/2, 1/2)
    where it is split. Its first probe is of client i with chance p_i, its second then of the other client, j, with
    chance p_j / (1 - p_i / m_i).
    """
    clients = torch.arange(2).repeat_interleave(torch.tensor(probes))
    features = torch.eye(2, dtype=torch.float64)[clients]
    shares, generator = torch.tensor([first, 1 - first], dtype=torch.float64), torch_generator(5)
    pooled = [pooled_spectrum(features @ features.T, clients, shares, 2, generator) for _ in range(300)]
    assert float(torch.stack(pooled)[:, 1].mean()) == pytest.approx(split / 2, abs=0.012)


def test_the_spectrum_error_of_two_opposite_clients() -> None:
    """As above, two probes a client: own spectra are (1, 0), and pooled ones (2/3, 1/3) on average."""
    features, generator = torch.eye(2, dtype=torch.float64)[CLIENTS], torch_generator(5)
    errors = [spectrum_error(features @ features.T, CLIENTS, EQUAL, generator) for _ in range(300)]
    assert np.mean(errors) == pytest.approx(2 / 3, abs=0.03)


def test_the_spectrum_error_is_zero_where_clients_are_like_the_pool_and_compares_equal_sizes() -> None:
    features, alone = scattered(9), torch.zeros(9, dtype=torch.int64)
    assert spectrum_error(features @ features.T, alone, torch.ones(1), torch_generator(0)) == pytest.approx(
        0, abs=1e-12
    )
    orthonormal, clients = torch.eye(9, dtype=torch.float64), torch.tensor([0] * 3 + [1] * 6)
    assert spectrum_error(orthonormal, clients, EQUAL, torch_generator(0)) == pytest.approx(0, abs=1e-12)


def test_the_iid_values_are_those_of_random_deals() -> None:
    found = against_iid(lambda clients: float(clients[0]), torch.arange(4).repeat_interleave(3), torch_generator(6))
    assert (found.value, found.iid_low, found.iid_high) == (0.0, 0.0, 3.0)
    assert found.iid == pytest.approx(1.5, abs=0.3)
    assert found.excess == -found.iid


# Measured on a model


@pytest.fixture(scope="module")
def lenet() -> nn.Module:
    return build("lenet5", (1, 32, 32), 10)


def digits_errors(model: nn.Module, alpha: str | float) -> NtkErrors:
    train = load("digits").train
    parts = partition(train.labels.numpy(), 5, alpha, MIN_PROBES, numpy_generator(1))
    probes = [train.batch(numpy_generator(2).permutation(part)[:MIN_PROBES])[0] for part in parts]
    found = measure(model, probes, [len(part) for part in parts], None, torch_generator(3))
    assert found is not None
    return found


@pytest.mark.thorough
def test_mmd2_of_real_probes_rises_with_label_skew_beyond_its_iid_interval(lenet: nn.Module) -> None:
    iid, skewed, one_class = (digits_errors(lenet, alpha).mmd2 for alpha in ("iid", 0.1, "shards:1"))
    assert iid.iid_low < iid.value < iid.iid_high
    assert skewed.value > skewed.iid_high
    assert one_class.value > one_class.iid_high
    assert one_class.excess > skewed.excess > 5 * abs(iid.excess)


def test_gaussian_probes_carry_no_heterogeneity(lenet: nn.Module) -> None:
    x = torch.randn(5 * MIN_PROBES, 1, 32, 32, generator=torch_generator(100))
    found = measure(lenet, x.split(MIN_PROBES), [1, 2, 3, 4, 5], None, torch_generator(5))
    assert found is not None
    for error in (found.mmd2, found.rel_frobenius_error, found.spectrum_error):
        assert error.iid_low < error.value < error.iid_high
    assert abs(found.mmd2.value) < 1e-3


def test_shares_may_be_counts_and_a_repeated_measurement_is_the_same_bit_for_bit() -> None:
    model, probes = net(), inputs(2 * MIN_PROBES).split(MIN_PROBES)
    once = measure(model, probes, [0.25, 0.75], half_mask(model), torch_generator(0))
    again = measure(model, probes, [10, 30], half_mask(model), torch_generator(0))
    dense = measure(model, probes, [10, 30], None, torch_generator(0))
    assert once is not None and again is not None and dense is not None
    assert once.rel_frobenius_error == again.rel_frobenius_error != dense.rel_frobenius_error
    assert once.mmd2 == again.mmd2 != dense.mmd2
    assert once.spectrum_error == again.spectrum_error != dense.spectrum_error
    assert torch.equal(once.spectrum, again.spectrum) and not torch.equal(once.spectrum, dense.spectrum)
    assert all(map(torch.equal, once.client_spectra, again.client_spectra))


def test_too_few_probes_are_refused() -> None:
    with pytest.raises(ConfigError, match="has 19 probes for the NTK; it needs at least 20"):
        measure(net(), inputs(39).split(20), [1, 1], None, torch_generator(0))


@pytest.mark.parametrize("weight", [0.0, math.nan, 1e40])
def test_a_kernel_that_is_zero_or_not_finite_has_no_errors(weight: float) -> None:
    model = build("lenet5:width=0.3", (1, 32, 32), CLASSES).double()
    for w in prunable_weights(model).values():
        w.data.fill_(weight)
    assert measure(model, inputs(40).split(20), [1, 1], None, torch_generator(0)) is None


# Masks


def mask_of(*layers: str) -> Mask:
    """Return a mask from texts such as "1101"."""
    return Mask({str(i): torch.tensor([sign == "1" for sign in layer]) for i, layer in enumerate(layers)})


def test_mask_differences_by_hand() -> None:
    a, b = mask_of("110", "1000"), mask_of("011", "0000")
    assert mask_iou(a, b) == 1 / 4
    assert layer_density_l1(a, b) == 1 / 2.5
    assert mask_iou(a, a) == 1.0
    assert layer_density_l1(a, mask_of("101", "0010")) == 0.0
    assert layer_density_l1(mask_of("11", "00"), mask_of("00", "11")) == 2.0


def test_the_shuffled_iou_is_the_mean_over_all_shuffles() -> None:
    a, b = mask_of("110", "1000"), mask_of("011", "1101")
    shuffles = itertools.product(set(itertools.permutations("011")), set(itertools.permutations("0111")))
    ious = [mask_iou(a, mask_of("".join(first), "".join(second))) for first, second in shuffles]
    assert shuffled_iou(a, b) == pytest.approx(np.mean(ious), rel=1e-12)


def test_independent_random_masks_of_a_model_overlap_as_shuffles_do(lenet: nn.Module) -> None:
    shapes = prunable_shapes(lenet)
    a, b = (random_mask(shapes, uniform_densities(shapes, 0.2), torch_generator(seed)) for seed in (0, 1))
    assert mask_iou(a, b) == pytest.approx(shuffled_iou(a, b), abs=0.005)
    assert shuffled_iou(a, b) == pytest.approx(0.04 / 0.36, abs=1e-4)
