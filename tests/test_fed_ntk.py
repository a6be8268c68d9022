"""Federated foresight pruning: degenerate equalities, what travels, what every option does, and the controls."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fedfore.api import BPFreeConfig, ForesightConfig, Mask, Method, ServerContext, Skip, Update
from fedfore.baselines.baffle import Baffle
from fedfore.baselines.fedavg import FedAvg
from fedfore.cell import Protocol
from fedfore.contract.instance import instantiate, make_config
from fedfore.errors import ConfigError
from fedfore.federation.clients import Clients, ClientsOneByOne
from fedfore.federation.loop import Federation
from fedfore.federation.observers.cost_meter import CostMeter
from fedfore.masks import exact_counts, prunable_weights, uniform_densities
from fedfore.measure.flops import forward_macs
from fedfore.methods.fed_ntk_fedavg import FedNTKFedAvg
from fedfore.methods.fed_ntk_zo import FedNTKZO
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.local_sgd import LocalSGDConfig
from fedfore.primitives.pruning import density_at, keep_top
from fedfore.primitives.saliency import SaliencyConfig, score
from fedfore.streams import stream_seed, torch_generator
from fedfore.tasks.datasets import spec
from fedfore.tasks.models import build, initialise
from tests.conftest import TINY, Received, make_cell

Make = Callable[..., Federation]
SMALL = "lenet5:width=0.25"
QUICK = {"iterations": 2, "draws": 1, "inputs_per_draw": 8}
ONE_ROUND = replace(TINY, rounds=1)
FEW = {"num_perturbations": 4}


def make(
    federation: Make,
    method: type[Method] = FedNTKFedAvg,
    train: Protocol = ONE_ROUND,
    *,
    given: Any = None,
    **fields: Any,
) -> Federation:
    estimator = {"estimator": "directional"} if method is FedNTKZO else {}
    return federation(
        method, train, given={**QUICK, **(given or {})}, **{"model": SMALL, "sparsity": 0.8, **estimator, **fields}
    )


def mask_of(made: Federation) -> Mask:
    mask = made.setup()
    assert mask is not None
    return mask


def weights(result: Federation) -> Tensor:
    return flat_parameters(result.model)


def test_one_client_is_centralised_pruning_with_the_same_draws(federation: Make) -> None:
    given = {"iterations": 3, "draws": 2, "inputs_per_draw": 8}
    made = make(federation, train=Protocol(clients=1, batch_size=16, rounds=1), given=given, seed=5)
    model = build(SMALL, (1, 32, 32), 10)
    size = sum(weight.numel() for weight in prunable_weights(model).values())
    mask: Mask | None = None
    for number in range(3):
        generator = torch_generator(stream_seed(5, "method", "setup", number, 0))

        def inputs(generator: torch.Generator = generator) -> Iterator[tuple[Tensor, None]]:
            for _ in range(2):
                yield torch.empty(8, 1, 32, 32).normal_(generator=generator), None

        signed = score(model, mask, SaliencyConfig(), inputs(), generator, initialise)
        count = round(density_at("exponential", number + 1, 3, 0.2) * size)
        mask = keep_top({name: value.abs() for name, value in signed.items()}, count, mask, torch_generator(0))
    assert mask_of(made).same_as(mask)


@pytest.mark.slow
def test_server_and_devices_agree_on_layer_densities_at_equal_draws(federation: Make) -> None:
    """Layer densities of 40 runs each: two-sample t below 4 in every layer, and no systematic distance."""
    found = {
        where: np.array([
            list(mask_of(make(federation, given={"where": where}, seed=seed)).layer_densities().values())
            for seed in range(40)
        ])
        for where in ("devices", "server")
    }  # fmt: skip
    devices, server = found["devices"], found["server"]
    spread = np.sqrt((devices.var(0, ddof=1) + server.var(0, ddof=1)) / 40)
    assert np.all(np.abs(devices.mean(0) - server.mean(0)) < 4 * spread)
    between = np.abs(devices.mean(0) - server).sum(1).mean()
    within = np.abs(devices.mean(0) - devices).sum(1).mean()
    assert between == pytest.approx(within, rel=0.4)


@pytest.mark.parametrize(("method", "dense", "given"), [(FedNTKZO, Baffle, FEW), (FedNTKFedAvg, FedAvg, {})])
def test_sparsity_zero_is_the_dense_method_bit_for_bit(
    federation: Make, method: type[Method], dense: type[Method], given: dict[str, Any]
) -> None:
    estimator = "directional" if method is FedNTKZO else None
    pruned = federation(method, sparsity=0.0, estimator=estimator, given=given).run()
    assert torch.equal(weights(pruned), weights(federation(dense, estimator=estimator, given=given).run()))
    assert pruned.mask is None
    assert pruned.totals["setup"].rounds == 0


def test_gaussian_masks_do_not_depend_on_heterogeneity_and_real_ones_do(federation: Make) -> None:
    for inputs, weighting in (("gaussian", "reinit"), ("real", "fixed")):
        given = {"inputs": inputs, "weights": weighting}
        iid, skewed = (mask_of(make(federation, given=given, alpha=alpha)) for alpha in ("iid", 0.5))
        assert iid.same_as(skewed) == (inputs == "gaussian")


OPTIONS: list[dict[str, Any]] = [
    {"where": where, "weights": theta, "upload": upload}
    for where in ("devices", "devices_forward", "server")
    for theta in ("reinit", "fixed")
    for upload in ("scores", "masks")
] + [
    {"saliency": saliency, "inputs": inputs, "weights": theta, "upload": upload}
    for saliency, inputs in (("ntk", "real"), ("snip", "real"), ("grasp", "real"), ("synflow", "gaussian"))
    for theta in ("reinit", "fixed")
    for upload in ("scores", "masks")
] + [
    *({"saliency": saliency} for saliency in ("magnitude", "random", "erk", "uniform")),
    {"saliency": "synflow", "where": "server"},
    {"saliency": "magnitude", "shuffle": True},
    {"where": "server", "shuffle": True},
    {"shuffle": True},
    {"iterations": 1, "shuffle": True},
    {"scoring_micro_batch": 3},
    {"schedule": "linear"},
    {"schedule": "inverse", "min_layer_weights": 5},
]  # fmt: skip


@pytest.mark.parametrize("given", OPTIONS, ids=lambda given: "-".join(map(str, given.values())))
@pytest.mark.thorough
def test_every_option_gives_a_mask_of_exactly_the_density_on_the_initial_weights(
    federation: Make, given: dict[str, Any]
) -> None:
    made = make(federation, given={**given, "forward_directions": 2}, sparsity=0.7)
    before = {name: weight.detach().clone() for name, weight in prunable_weights(made.model).items()}
    mask = mask_of(made)
    assert mask.kept == round(0.3 * mask.size)
    assert all(kept >= given.get("min_layer_weights", 1) for kept in mask.layer_kept.values())
    for name, weight in prunable_weights(made.model).items():
        assert torch.equal(weight, before[name] * mask[name])
    assert not any(made.server.state.values())
    on_devices = given.get("where") != "server" and given.get("saliency", "ntk") in ("ntk", "snip", "grasp", "synflow")
    assert made.totals["setup"].rounds == (given.get("iterations", 2) if on_devices else 0)


@pytest.mark.parametrize("method", [FedNTKZO, FedNTKFedAvg])
@pytest.mark.parametrize("model", [SMALL, "lenet5:norm=group,width=0.25"])
def test_a_whole_cell_runs_and_repeats_bit_for_bit(federation: Make, method: type[Method], model: str) -> None:
    given = FEW if method is FedNTKZO else {}
    first, second = (make(federation, method, TINY, given=given, model=model).run() for _ in range(2))
    assert torch.equal(weights(first), weights(second))
    assert first.mask is not None and first.mask.same_as(second.mask)


def test_training_under_the_mask_is_vectorised_as_in_the_dense_method(federation: Make) -> None:
    one, loop = (
        make(federation, FedNTKZO, given=FEW, options={"clients": clients}).run()
        for clients in (Clients, ClientsOneByOne)
    )
    torch.testing.assert_close(weights(one), weights(loop))


def test_scores_travel_as_kept_floats_masks_as_kept_bits_and_the_model_only_where_it_is_scored(
    federation: Make,
) -> None:
    sizes = {"all": 4090, "kept": round(0.2**0.5 * 4090)}
    tensor = 8 + 1 + 1 + 1 + 1 + 4
    for upload, name in (("scores", "scores"), ("masks", "mask")):
        received = Received()
        made = make(federation, given={"upload": upload}, options={"also": [received]})
        mask_of(made)
        tensors = [update.tensors[name] for update in received.updates]
        assert [values.numel() for values in tensors] == 4 * [sizes["all"]] + 4 * [sizes["kept"]]
        bits = sum(-(-values.numel() // 8) for values in tensors)
        floats = sum(int(values.count_nonzero()) for values in tensors) if name == "scores" else 0
        assert made.totals["setup"].uplink_bytes == 8 * (tensor + len(name)) + bits + 4 * floats
        assert made.totals["setup"].downlink_bytes == 4 * (9 + 9 + -(-4090 // 8))
    fixed = make(federation, given={"weights": "fixed"})
    mask_of(fixed)
    biases = sum(p.numel() for p in fixed.model.parameters()) - 4090
    model = 4 * (4090 + sizes["kept"] + 2 * biases)
    assert fixed.totals["setup"].downlink_bytes == 4 * (9 + 9 + -(-4090 // 8) + model)


def test_a_setup_round_costs_seven_forwards_an_input(federation: Make) -> None:
    made = make(federation, given={"draws": 2, "iterations": 1})
    result = made.run()
    macs = forward_macs(result.model, (1, 32, 32))
    (cost,) = result.seen_by(CostMeter).costs("setup")
    assert cost.flops(1, 0) == 2 * 2 * 8 * (7 * macs.dense - 2 * next(iter(macs.layers.values())))
    assert result.totals["setup"].flops == 4 * cost.flops(1, 0)


def aggregated(given: dict[str, Any], sent: list[tuple[int, Tensor]], seed: int = 0) -> Mask:
    """Return the mask made of what three-weight clients send: (number of examples, entries)."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(3, 1))
    cell = make_cell(FedNTKFedAvg, given={**QUICK, "iterations": 1, **given}, sparsity=2 / 3, seed=seed)
    method = instantiate(FedNTKFedAvg, cell.params)
    ctx = ServerContext(cell, "setup", 0, None, 0.0, torch.device("cpu"), spec(cell.dataset).input_shape, initialise)
    method.start(model, ctx)
    name = "mask" if given.get("upload") == "masks" else "scores"
    mask = method.aggregate(model, [Update(number, tensors={name: entries}) for number, entries in sent], ctx)
    assert mask is not None
    return mask


def test_signed_scores_are_averaged_first_equally_for_gaussian_and_by_shares_for_real_inputs() -> None:
    sent = [(1, torch.tensor([-9.0, 1.0, 0.0])), (3, torch.tensor([9.0, -2.0, -3.0]))]
    assert aggregated({}, sent)["1.weight"].tolist() == [[False, False, True]]
    assert aggregated({"inputs": "real"}, sent)["1.weight"].tolist() == [[True, False, False]]
    grasp = {"inputs": "real", "saliency": "grasp"}
    assert aggregated(grasp, [(1, torch.tensor([-9.0, 1.0, 0.0]))])["1.weight"].tolist() == [[False, True, False]]


def test_votes_are_counted_equally_for_gaussian_and_by_shares_for_real_inputs() -> None:
    sent = [(1, torch.tensor([True, False, False]))] * 2 + [(3, torch.tensor([False, True, False]))]
    assert aggregated({"upload": "masks"}, sent)["1.weight"].tolist() == [[True, False, False]]
    assert aggregated({"upload": "masks", "inputs": "real"}, sent)["1.weight"].tolist() == [[False, True, False]]


def test_equal_votes_stay_equal_whoever_casts_them() -> None:
    """Clients of 1 and 2 examples weigh as much as one of 3: the seed breaks the tie, not the rounding of shares."""
    votes = [[True, False, False], [True, False, False], [False, True, False], [False, False, False]]
    sent = [(number, torch.tensor(vote)) for number, vote in enumerate(votes, 1)]
    masks = [aggregated({"upload": "masks", "inputs": "real"}, sent, seed) for seed in range(12)]
    assert {int(mask["1.weight"].flatten().nonzero()) for mask in masks} == {0, 1}


@pytest.mark.parametrize("given", [{"where": "server"}, {"iterations": 1}, {"saliency": "magnitude"}])
def test_shuffling_keeps_the_layer_counts_and_nothing_else(federation: Make, given: dict[str, Any]) -> None:
    plain, mixed = (mask_of(make(federation, given={**given, "shuffle": shuffle})) for shuffle in (False, True))
    assert plain.layer_kept == mixed.layer_kept
    name = max(plain, key=lambda name: plain[name].numel())
    density = plain.layer_densities()[name]
    agreeing = float((plain[name] & mixed[name]).sum()) / plain.layer_kept[name]
    assert agreeing == pytest.approx(density, abs=4 * (density / plain.layer_kept[name]) ** 0.5)


def test_layer_allocations_are_exact_and_their_positions_random_even_shuffled(federation: Make) -> None:
    masks = [mask_of(make(federation, given={"saliency": "uniform", "shuffle": shuffle})) for shuffle in (False, True)]
    for mask in masks:
        shapes = {name: layer.shape for name, layer in mask.items()}
        assert mask.layer_kept == exact_counts(shapes, uniform_densities(shapes, 0.2))
        first = mask["fc1.weight"].flatten()[: mask.layer_kept["fc1.weight"]]
        assert float(first.float().mean()) == pytest.approx(0.2, abs=0.08)


def test_the_initial_scale_comes_before_the_scores(federation: Make) -> None:
    made = make(federation, FedNTKZO, given={**FEW, "init_scale": 0.5, "weights": "fixed"})
    before = {name: weight.detach().clone() for name, weight in prunable_weights(made.model).items()}
    mask = mask_of(made)
    for name, weight in prunable_weights(made.model).items():
        assert torch.equal(weight, 0.5 * before[name] * mask[name])


@pytest.mark.parametrize("where", ["devices", "server"])
def test_masking_perturbations_only_keeps_the_dense_function_and_moves_kept_weights_alone(
    federation: Make, where: str
) -> None:
    given = {**FEW, "where": where, "mask_perturbations_only": True}
    made = make(federation, FedNTKZO, given=given)
    initial = {name: weight.detach().clone() for name, weight in prunable_weights(made.model).items()}
    x = made.world.batch(made.world.probe[:8]).x
    dense = made.model(x)
    mask = mask_of(made)
    torch.testing.assert_close(made.model(x), dense)
    plain = make(federation, FedNTKZO, given={**given, "mask_perturbations_only": False})
    assert list(plain.model.buffers()) == []
    assert mask.same_as(mask_of(plain))
    result = make(federation, FedNTKZO, given=given).run()
    buffers = dict(result.model.named_buffers())
    for name, weight in prunable_weights(result.model).items():
        effective = weight + buffers[name.removesuffix("weight") + "offset"]
        assert torch.equal(effective[~mask[name]], initial[name][~mask[name]])
        assert not torch.equal(effective[mask[name]], initial[name][mask[name]])


@pytest.mark.thorough
def test_pruned_weights_at_their_initial_values_save_no_flops(federation: Make) -> None:
    train = {"where": "server", **FEW}
    flops = [
        make(federation, FedNTKZO, given={**train, "mask_perturbations_only": only})
        .run()
        .seen_by(CostMeter)
        .costs("train")[0]
        .flops_per_batch
        for only in (True, False)
    ]
    macs = forward_macs(build(SMALL, (1, 32, 32), 10), (1, 32, 32)).dense
    assert flops[0] == 2 * 16 * 5 * macs > flops[1]


@pytest.mark.parametrize(
    ("given", "error", "said"),
    [
        ({"saliency": "snip"}, ConfigError, r'\[params\.x\]: snip needs labels, .*; set inputs = "real"\.'),
        (
            {"where": "devices_forward", "saliency": "synflow"},
            ConfigError,
            "forward passes estimate the ntk score only",
        ),
        ({"iterations": 0}, ConfigError, "iterations = 0"),
        ({"local_epochs": 1, "local_steps": 1}, ConfigError, "not both"),
        ({"where": "server", "inputs": "real"}, Skip, "real inputs never leave the devices"),
    ],
)
def test_what_cannot_work_is_said_before_anything_runs(
    given: dict[str, Any], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        FedNTKFedAvg(make_config(FedNTKFedAvg, given, "params.x")).check(make_cell(FedNTKFedAvg))


@pytest.mark.parametrize("training", [BPFreeConfig, LocalSGDConfig])
def test_no_key_of_the_setup_is_one_of_training_too(training: type) -> None:
    setup, train = ({item.name for item in dataclasses.fields(kind)} for kind in (ForesightConfig, training))
    assert not setup & train


def test_real_inputs_on_the_server_are_no_matter_where_no_pass_is_made() -> None:
    config = make_config(FedNTKFedAvg, {"where": "server", "inputs": "real", "saliency": "erk"}, "params.x")
    FedNTKFedAvg(config).check(make_cell(FedNTKFedAvg))


def test_a_model_without_prunable_layers_is_skipped() -> None:
    cell = make_cell(FedNTKFedAvg, sparsity=0.5)
    ctx = ServerContext(cell, "setup", 0, None, 0.0, torch.device("cpu"), spec(cell.dataset).input_shape, initialise)
    with pytest.raises(Skip, match="nothing to prune"):
        instantiate(FedNTKFedAvg, cell.params).start(nn.BatchNorm1d(3), ctx)


def test_batch_norm_is_for_backpropagation_alone(federation: Make) -> None:
    model = "lenet5:norm=batch,width=0.25"
    result = make(federation, model=model).run()
    assert result.mask is not None and bool(torch.isfinite(weights(result)).all())
    with pytest.raises(Skip, match="batch statistics"):
        make(federation, FedNTKZO, given=FEW, model=model)
