"""FedDST: masks adjusted on the devices, the average over those that keep a weight, pruning back on the server."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor, nn

from fedfore.api import Mask, ServerContext, Update
from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.baselines.feddst import FedDST
from fedfore.cell import Cell
from fedfore.federation.loop import Federation
from fedfore.primitives.flat import flat_parameters
from fedfore.primitives.local_sgd import local_sgd
from fedfore.primitives.prune_grow import pack_mask, unpack_mask
from fedfore.tasks.models import initialise
from tests.conftest import TINY

Make = Callable[..., Federation]
ALWAYS = {"adjust_every": 1, "adjust_until": 100, "adjust_rate": 0.15}


# The server, by hand


def aggregated(kept: Tensor, sent: Sequence[tuple[int, Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Return the server's weights [n] and mask [n] after an adjustment in which clients sent (examples, mask, weights).

    The quota is floor(0.5 x 2 x 2 active) = 2, which the clients need not use up.
    """
    model = nn.Linear(len(kept), 1)
    mask = Mask({"weight": kept[None]})
    updates = [
        Update(
            examples,
            weights={"weight": (weight * own * kept)[None], "bias": torch.tensor([float(examples)])},
            tensors={"mask": own, "grown": weight[own & ~kept]},
        )
        for examples, own, weight in sent
    ]
    params = asdict(FedDST.Config(adjust_rate=0.5))
    ctx = ServerContext(
        cell=Cell("feddst", "digits", "lenet5", TINY, sparsity=0.5, params=params),
        phase="train",
        round=1,
        mask=mask,
        progress=0.1,
        device=torch.device("cpu"),
        input_shape=(1, 32, 32),
        initialise=initialise,
        state={"DynamicPruningMethod": {"adjustment": torch.tensor([0.0, 0.0], dtype=torch.float64)}},
    )
    new = FedDST(FedDST.Config(adjust_rate=0.5)).aggregate(model, updates, ctx)
    assert new is not None
    return model.weight.detach()[0], new["weight"][0]


def bits(*values: int) -> Tensor:
    return torch.tensor(values, dtype=torch.bool)


def test_a_weight_is_averaged_over_the_clients_that_keep_it_and_the_layer_pruned_back_to_its_density() -> None:
    """Shares 1/4 and 3/4. Index 0: both keep it, (2 + 3 x 6) / 4 = 5. 1: the first alone, 1. 2: the second alone, 4.

    3: neither. Of the three weights that any client keeps, the layer's two are those of 5 and 4.
    """
    first = (1, bits(1, 1, 0, 0), torch.tensor([2.0, 1.0, 9.0, 9.0]))
    second = (3, bits(1, 0, 1, 0), torch.tensor([6.0, 9.0, 4.0, 9.0]))
    weight, kept = aggregated(bits(1, 1, 0, 0), [first, second])
    assert weight.tolist() == [5.0, 1.0, 4.0, 0.0]
    assert kept.tolist() == [True, False, True, False]


def test_a_weight_that_every_client_pruned_leaves_and_one_that_all_grew_comes() -> None:
    sent = [(2, bits(1, 0, 0, 1), torch.tensor([1.0, 9.0, 9.0, v])) for v in (-0.2, -0.4)]
    weight, kept = aggregated(bits(1, 1, 0, 0), sent)
    assert weight.tolist() == pytest.approx([1.0, 0.0, 0.0, -0.3])
    assert kept.tolist() == [True, False, False, True]


# On the wire


class Watched(FedDST):
    """FedDST that shows what clients send and the masks around every aggregation."""

    seen: ClassVar[list[tuple[int | None, Mask, Mask, list[Update]]]] = []

    def aggregate(self, model: nn.Module, updates: Sequence[Update], ctx: ServerContext) -> Mask | None:
        new = super().aggregate(model, updates, ctx)
        if ctx.mask is not None:
            adjustment = self.adjustment(ctx)
            number = None if adjustment is None else adjustment.number
            self.seen.append((number, ctx.mask, new or ctx.mask, list(updates)))
        return new


@pytest.fixture
def rounds(federation: Make) -> Callable[..., list[tuple[int | None, Mask, Mask, list[Update]]]]:
    def run(**fields: Any) -> list[tuple[int | None, Mask, Mask, list[Update]]]:
        Watched.seen.clear()
        federation(Watched, replace(TINY, rounds=3), sparsity=0.8, alpha=1.0, **fields).run()
        return list(Watched.seen)

    return run


def test_masks_move_where_clients_moved_theirs_and_every_layer_keeps_its_density(rounds: Callable[..., Any]) -> None:
    seen = rounds(given={**ALWAYS, "adjust_until": 2})
    assert [number for number, *_ in seen] == [None, 0, None]
    for number, old, new, updates in seen:
        assert new.layer_kept == old.layer_kept
        assert new.same_as(old) == (number is None)
        assert all(set(update.tensors) == (set() if number is None else {"mask", "grown"}) for update in updates)
    _, old, new, updates = seen[1]
    own = [unpack_mask(update.tensors["mask"], {name: old[name].shape for name in old}) for update in updates]
    assert not own[0].same_as(own[1])
    for name, layer in new.items():
        assert all(mask.layer_kept[name] == old.layer_kept[name] for mask in own)
        assert not (layer & ~torch.stack([mask[name] for mask in own]).any(0)).any()
        quota = min(int(0.15 * old.layer_kept[name]), layer.numel() - old.layer_kept[name])
        assert all(int((mask[name] & ~old[name]).sum()) == quota for mask in own)


def test_clients_train_what_they_grow_and_send_zero_for_what_they_pruned(rounds: Callable[..., Any]) -> None:
    _, old, new, updates = rounds(given={**ALWAYS, "adjust_until": 2})[1]
    before = pack_mask(old)
    for update in updates:
        own, grown = update.tensors["mask"], update.tensors["grown"]
        assert len(grown) == (own & ~before).sum()
        assert grown.count_nonzero() > 0.9 * len(grown)
        sent = torch.cat([update.weights[name].reshape(-1) for name in old])
        assert not sent[before & ~own].any()
        assert sent[before & own].count_nonzero() > 0.9 * (before & own).sum()
    assert int((pack_mask(new) & ~before).sum()) > 0, "some of what clients grew survives on the server"


def test_an_adjustment_round_draws_its_steps_and_the_gradients_batch(federation: Make) -> None:
    """An epoch of 40 examples in batches of 16 is 3 steps: 1 before the adjustment and 2 after it."""
    drawn = {}
    for method in (FedDST, FedAvgERK):
        made = federation(method, sparsity=0.8, given=ALWAYS if method is FedDST else {})
        made.run()
        drawn[method] = [device.clients["train"].batches_drawn for device in made.clients.devices]
    assert drawn == {FedDST: [7] * 4, FedAvgERK: [6] * 4}


def test_both_halves_of_the_steps_go_at_the_rounds_rate(federation: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[tuple[int, float]] = []

    def counted(model: nn.Module, batches: Any, config: Any, lr: float, mask: Mask) -> None:
        taken = list(batches)
        steps.append((len(taken), lr))
        local_sgd(model, taken, config, lr, mask)

    monkeypatch.setattr("fedfore.baselines.feddst.local_sgd", counted)
    given = {**ALWAYS, "local_steps": 5, "lr": 0.1, "lr_schedule": "exponential", "lr_decay": 0.5}
    made = federation(FedDST, replace(TINY, clients=1), sparsity=0.8, given=given)
    made.setup()
    made.round("train", 0)
    made.round("train", 1)
    assert steps[-2:] == [(2, 0.05), (3, 0.05)]


def test_sparsity_zero_is_fedavg_and_no_adjustment_a_static_mask_bit_for_bit(federation: Make) -> None:
    dense = federation(FedDST, sparsity=0.0, given=ALWAYS).run()
    assert torch.equal(flat_parameters(dense.model), flat_parameters(federation(FedAvg).run().model))
    never = federation(FedDST, sparsity=0.8, given={"adjust_every": 1.0}).run()
    assert torch.equal(flat_parameters(never.model), flat_parameters(federation(FedAvgERK, sparsity=0.8).run().model))


def test_quotas_that_round_to_nothing_leave_a_round_of_plain_training(federation: Make) -> None:
    still = federation(FedDST, sparsity=0.8, given={**ALWAYS, "adjust_rate": 0.0}).run()
    assert torch.equal(flat_parameters(still.model), flat_parameters(federation(FedAvgERK, sparsity=0.8).run().model))
