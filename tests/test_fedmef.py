"""FedMef: the extrusion's identities and effect, masks that move at constant density, and what each switch does."""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from fedfore.api import Mask, ServerContext, Update
from fedfore.baselines import fedmef
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.baselines.fedmef import FedMef, FedMefConfig
from fedfore.federation.loop import Federation
from fedfore.federation.observers.cost_meter import CostMeter
from fedfore.primitives.extrusion import ExtrusionConfig, extrude, floor_rate
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.local_sgd import LocalSGDConfig, local_sgd
from fedfore.primitives.prune_grow import lowest_active
from fedfore.primitives.sparse_normalisation import NormalisedConv2d
from fedfore.streams import torch_generator
from tests.conftest import TINY

Make = Callable[..., Federation]
SGD = LocalSGDConfig(lr=0.1)
PUBLISHED_PENALTY = 1e-4


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch_generator(seed))


# -- extrusion --------------------------------------------------------------------------------------------------------


def linear_model(inputs: int, classes: int) -> nn.Sequential:
    layer = nn.Linear(inputs, classes)
    layer.weight.data, layer.bias.data = draw(classes, inputs), draw(classes, seed=1)
    return nn.Sequential(layer)


def shrinkage(extrusion: ExtrusionConfig, steps: int, lr: float, sgd: LocalSGDConfig = SGD) -> float:
    """Return the factor by which marked weights of an input that is always zero, so without gradient, change.

    Those of another such input are not marked and do not change.
    """
    model = linear_model(6, 3)
    x, y = draw(8, 6, seed=2), torch.arange(8) % 3
    x[:, 4:] = 0.0
    marked = {"0.weight": torch.tensor([4, 10, 16])}
    mask = Mask({"0.weight": torch.ones(3, 6, dtype=torch.bool)})
    before = model.get_parameter("0.weight").detach().clone()
    extrude(model, [(x, y)] * steps, steps, replace(extrusion, **asdict(sgd)), lr, marked, mask)
    after = model.get_parameter("0.weight").detach()
    assert torch.equal(after[:, 5], before[:, 5])
    factors = after[:, 4] / before[:, 4]
    assert float(factors.max() - factors.min()) < 1e-5
    return float(factors.mean())


@pytest.mark.parametrize("steps", [1, 2, 7, 50])
@pytest.mark.parametrize("lr", [0.1, 0.01])
def test_a_marked_weight_without_gradient_shrinks_by_the_target(steps: int, lr: float) -> None:
    """At any number of steps, at the floor's rates (lr 0.01 under a first rate of 0.1) and under momentum."""
    for momentum in (0.0, 0.9):
        found = shrinkage(ExtrusionConfig(shrink=0.1), steps, lr, replace(SGD, momentum=momentum))
        assert found == pytest.approx(0.1, rel=1e-4)


def test_a_constant_penalty_shrinks_by_its_identity_and_the_published_one_by_nothing() -> None:
    assert shrinkage(ExtrusionConfig(penalty=0.5), 10, 0.1) == pytest.approx((1 - 2 * 0.1 * 0.5) ** 10, rel=1e-4)
    assert 0.999 < shrinkage(ExtrusionConfig(penalty=PUBLISHED_PENALTY), 25, 0.1) < 1.0
    assert shrinkage(ExtrusionConfig(extrusion="bump_only"), 25, 0.1) == 1.0


def test_the_targets_penalty_tends_to_its_logarithmic_form() -> None:
    factor = ExtrusionConfig(shrink=0.1).step_factor(0.05, 10_000)
    assert (1 - factor) / (2 * 0.05) == pytest.approx(math.log(10) / (2 * 0.05 * 10_000), rel=1e-3)


def test_the_floor_by_hand() -> None:
    sigmoid = 1 / (1 + math.exp(-1.5))
    assert floor_rate(0, 10, 1.5, 0.2) == pytest.approx((2 * sigmoid - 1) * 0.2)
    assert floor_rate(5, 10, 1.5, 0.2) == pytest.approx((2 * sigmoid - 1) * 0.2 * 2 / 3)
    assert floor_rate(3, 10, 0.0, 0.2) == 0.0


@given(st.integers(1, 200), st.floats(0, 1e3), st.floats(1e-4, 10))
def test_the_floor_falls_over_the_steps_and_never_exceeds_the_first_rate(steps: int, norm: float, rate: float) -> None:
    floors = [floor_rate(step, steps, norm, rate) for step in range(steps)]
    assert all(later <= earlier for earlier, later in itertools.pairwise(floors))
    assert 0.0 <= floors[-1] <= floors[0] <= rate


def trained(train: Callable[[nn.Module, Mask, dict[str, Tensor]], None]) -> Tensor:
    """Return a small masked model's weights after `train`, called with its mask and smallest active weights."""
    model = linear_model(6, 3)
    mask = Mask({"0.weight": draw(3, 6, seed=3) > 0})
    mask.apply_(dict(model.named_parameters()))
    train(model, mask, {"0.weight": lowest_active(model.get_parameter("0.weight"), mask["0.weight"], 4)})
    assert mask.leak(dict(model.named_parameters())) is None, "pruned weights stay zero"
    return torch.cat([p.detach().reshape(-1) for p in model.parameters()])


def batches(count: int) -> list[tuple[Tensor, Tensor]]:
    return [(draw(8, 6, seed=number), torch.arange(8) % 3) for number in range(count)]


def test_at_a_constant_rate_and_without_penalty_an_extrusion_is_local_sgd() -> None:
    sgd = replace(SGD, momentum=0.9, weight_decay=0.01)
    control = ExtrusionConfig(**asdict(sgd), extrusion="bump_only")
    bumped = trained(lambda model, mask, marked: extrude(model, batches(5), 5, control, 0.1, marked, mask))
    assert torch.equal(bumped, trained(lambda model, mask, _: local_sgd(model, batches(5), sgd, 0.1, mask)))


def test_at_a_decayed_rate_the_step_has_the_size_of_the_floor() -> None:
    rates: list[float] = []

    def plain(model: nn.Module, mask: Mask, marked: dict[str, Tensor]) -> None:
        low = dict(model.named_parameters())["0.weight"].detach().view(-1)[marked["0.weight"]]
        rates.append(0.1 * (2 * float(torch.sigmoid(low.norm())) - 1))
        local_sgd(model, batches(1), SGD, rates[0], mask)

    control = ExtrusionConfig(**asdict(SGD), extrusion="bump_only")
    bumped = trained(lambda model, mask, marked: extrude(model, batches(1), 1, control, 1e-4, marked, mask))
    torch.testing.assert_close(bumped, trained(plain))
    assert rates[0] > 1e-3


def test_extruded_weights_can_be_pruned_at_less_than_half_the_loss() -> None:
    """Every feature comes twice, and the second copies are marked: only the penalty moves them to the first."""
    x = draw(400, 8)
    y = torch.multinomial((x @ draw(8, 4, seed=1)).softmax(1), 1, generator=torch_generator(2)).squeeze(1)
    data = [(torch.cat([x, x], 1), y)]
    model, mask = linear_model(16, 4), Mask({"0.weight": torch.ones(4, 16, dtype=torch.bool)})
    local_sgd(model, data * 200, SGD, 0.5, mask)
    marked = {"0.weight": torch.arange(64).view(4, 16)[:, 8:].flatten()}
    loss = float(cross_entropy(model(data[0][0]), y).detach())
    damage = {}
    for mode, lr in (("on", 0.1), ("bump_only", 0.02), ("off", 0.02)):
        copied = copy.deepcopy(model)
        if mode == "off":
            local_sgd(copied, data * 60, SGD, lr, mask)
        else:
            config = ExtrusionConfig(lr=0.5, extrusion=mode)  # type: ignore[arg-type]
            extrude(copied, data * 60, 60, config, lr, marked, mask)
        copied.get_parameter("0.weight").data[:, 8:] = 0.0
        damage[mode] = float(cross_entropy(copied(data[0][0]), y).detach()) - loss
    assert damage["on"] < 0.5 * min(damage["bump_only"], damage["off"])


# -- the method -------------------------------------------------------------------------------------------------------

MOVING = {"adjust_every": 1, "adjust_until": 10}
PLAIN = {"sap_rate": 0.0, "nsconv": False, "extrusion": "off", "lr_schedule": "constant"}
FOUR_ROUNDS = replace(TINY, rounds=4)


def test_masks_move_and_densities_stay_and_new_weights_start_at_zero(federation: Make) -> None:
    rounds: list[tuple[Mask | None, Mask | None]] = []

    class Watched(FedMef):
        """FedMef that shows the mask before and after every round."""

        def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
            rounds.append((ctx.mask, super().aggregate(model, updates, ctx)))
            return rounds[-1][1]

    made = federation(Watched, FOUR_ROUNDS, given=MOVING, sparsity=0.8)
    result = made.run()
    assert [after is None for _, after in rounds] == [True, False, False, False]
    for number, (before, after) in enumerate(rounds[1:], start=1):
        assert before is not None and after is not None
        assert after.layer_kept == before.layer_kept
        share = 0.2 * (1 + math.cos(math.pi * number / 10))
        for name, layer in before.items():
            room = layer.numel() - before.layer_kept[name]
            moved = min(math.floor(share * before.layer_kept[name] + 1e-9), room)
            assert int((layer & ~after[name]).sum()) == int((after[name] & ~layer).sum()) == moved
    before, after = rounds[-1]
    assert before is not None and after is not None and after.same_as(result.mask)
    for name, weight in result.model.named_parameters():
        if name in after:
            assert not weight[after[name] & ~before[name]].any()


def indices(kept: Tensor) -> list[int]:
    return kept.flatten().nonzero().squeeze(1).tolist()


@pytest.mark.parametrize(("penalty", "low", "high"), [(None, 0.05, 0.2), (PUBLISHED_PENALTY, 0.99, 1.05)])
def test_every_client_extrudes_what_the_server_prunes_and_shrinks_it_to_the_target(
    federation: Make, monkeypatch: pytest.MonkeyPatch, penalty: float | None, low: float, high: float
) -> None:
    """Also where the extruded weights are not the smallest in the end, as with the published penalty."""
    marks: list[Mapping[str, Tensor]] = []
    shrunk: list[float] = []

    def watched(model: nn.Module, *args: Any) -> None:
        marked = args[-2]
        weights = {name: model.get_parameter(name).data.view(-1) for name in marked}
        norm = torch.cat([weights[name][marked[name]] for name in marked]).norm()
        extrude(model, *args)
        marks.append(marked)
        shrunk.append(float(torch.cat([weights[name][marked[name]] for name in marked]).norm() / norm))

    monkeypatch.setattr(fedmef, "extrude", watched)
    made = federation(FedMef, given={**MOVING, "local_steps": 5, "penalty": penalty}, sparsity=0.8)
    before = Mask(dict(made.setup() or {}))
    after = made.run().mask
    assert after is not None
    assert all(low < factor < high for factor in shrunk)
    pruned = {name: indices(layer & ~after[name]) for name, layer in before.items()}
    assert sum(map(len, pruned.values())) > 1000
    for marked in marks[-4:]:
        assert {name: chosen for name, chosen in pruned.items() if chosen} == {n: m.tolist() for n, m in marked.items()}


def final(made: Federation) -> Tensor:
    return flat_parameters(made.run().model)


def test_with_every_switch_off_it_is_fedavg_under_the_same_mask_and_dense_it_is_fedavg(federation: Make) -> None:
    given = {**PLAIN, "adjust_every": 1.0}
    masked = final(federation(FedMef, given=given, sparsity=0.8))
    assert torch.equal(masked, final(federation(FedAvgERK, sparsity=0.8)))
    assert torch.equal(final(federation(FedMef, given=PLAIN)), final(federation(FedAvg)))


@pytest.mark.parametrize("switch", [{"sap_rate": 0.9}, {"nsconv": True}, {"extrusion": "on"}, {"penalty": 0.1}])
@pytest.mark.thorough
def test_every_switch_changes_training(federation: Make, switch: dict[str, Any]) -> None:
    given = {**PLAIN, **MOVING, "extrusion": "on" if "penalty" in switch else "off"}
    plain = final(federation(FedMef, given=given, sparsity=0.8))
    assert not torch.equal(plain, final(federation(FedMef, given={**given, **switch}, sparsity=0.8)))


@pytest.mark.thorough
def test_without_extrusion_the_server_prunes_the_smallest_averages(federation: Make) -> None:
    seen: list[tuple[Mask, dict[str, Tensor], Mask | None]] = []

    class Watched(FedMef):
        """FedMef that shows the averaged weights."""

        def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
            after = super().aggregate(model, updates, ctx)
            if ctx.mask is not None and after is not None:
                seen.append((ctx.mask, {n: p.detach().clone() for n, p in model.named_parameters()}, after))
            return after

    for mode in ("off", "bump_only"):
        federation(Watched, given={**MOVING, "extrusion": mode, "lr": 0.2}, sparsity=0.8).run()
        before, weights, after = seen.pop()
        assert after is not None
        for name, layer in before.items():
            pruned = indices(layer & ~after[name])
            assert pruned == lowest_active(weights[name], layer, len(pruned)).tolist()


def test_a_device_needs_less_memory_and_no_more_flops_with_pruned_activations(federation: Make) -> None:
    costs = []
    for rate in (0.0, 0.9):
        made = federation(FedMef, given={**MOVING, "sap_rate": rate}, sparsity=0.8)
        costs.append(made.run().fields())
    dense, pruned = costs
    assert pruned["peak_device_bytes_activations"] < 0.85 * dense["peak_device_bytes_activations"]
    assert pruned["device_step_flops"] == dense["device_step_flops"]
    assert pruned["uncounted_ops"] == dense["uncounted_ops"]


def test_adjustments_are_metered_apart(federation: Make) -> None:
    made = federation(FedMef, given=MOVING, sparsity=0.8)
    costs = made.run().seen_by(CostMeter).costs("train")
    assert len(costs) == 2
    assert costs[1].flops(1, 1.0) > costs[0].flops(1, 1.0)


def test_the_model_is_normalised_on_both_sides_unless_switched_off(federation: Make) -> None:
    for switches, expected in (({}, 2), ({"nsconv": False}, 0)):
        made = federation(FedMef, given=switches, sparsity=0.8)
        for model in (made.model, made.clients.model):
            assert sum(isinstance(module, NormalisedConv2d) for module in model.modules()) == expected


@pytest.mark.parametrize(
    "model", ["resnet14", "resnet20", "mobilenet_v2:width=0.5", pytest.param("resnet18", marks=pytest.mark.slow)]
)
def test_without_norm_layers_it_is_a_standardised_network_that_starts_near_chance(federation: Make, model: str) -> None:
    """Unscaled branches would start ResNet-14 at a loss of 12, ResNet-20 at 40."""
    start = []
    x = draw(16, 1, 32, 32, seed=1)
    for norm in ("none", "standardised"):
        made = federation(FedMef, model=f"{model}{',' if ':' in model else ':'}norm={norm}", sparsity=0.9)
        assert made.setup() is not None
        with torch.no_grad():
            start.append(made.model.eval()(x))
    assert torch.equal(*start)
    loss = float(cross_entropy(start[0], torch.arange(16) % 10))
    assert math.log(10) - 0.5 < loss < math.log(10) + 1


def test_a_standardised_network_without_nsconv_is_one_with_it(federation: Make) -> None:
    given = {**PLAIN, "adjust_every": 1.0}
    results = [
        final(federation(method, given=switches, sparsity=0.8, model="lenet5:norm=standardised"))
        for method, switches in ((FedMef, given), (FedMef, {**given, "nsconv": True}), (FedAvgERK, {}))
    ]
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])


@pytest.mark.parametrize("option", [{"memory": "accumulate", "micro_batch": 4}, {"memory": "optimizer_in_backward"}])
def test_an_extrusion_takes_local_sgds_memory_options(option: dict[str, Any]) -> None:
    def weights(**given: Any) -> Tensor:
        config = ExtrusionConfig(lr=0.1, **given)
        return trained(lambda model, mask, marked: extrude(model, batches(5), 5, config, 1e-3, marked, mask))

    torch.testing.assert_close(weights(**option), weights())


def test_checkpointing_and_pruned_activations_exclude_each_other() -> None:
    assert FedMefConfig(memory="checkpoint", sap_rate=0.0).memory == "checkpoint"
    with pytest.raises(ValueError, match="sap_rate = 0"):
        FedMefConfig(memory="checkpoint")


def test_the_defaults_are_this_methods_own() -> None:
    config = FedMefConfig()
    assert (config.adjust_rate, config.sap_rate, config.shrink, config.penalty) == (0.2, 0.9, 0.1, None)
    assert config.lr_at(100, 0.5) == pytest.approx(0.05 * 0.99**100)
