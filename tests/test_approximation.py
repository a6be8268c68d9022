"""What a cell's record says of its kernels and masks: fields, reasons for their absence, and centralised references."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from fedfore.baselines.fedavg import FedAvg
from fedfore.baselines.fedavg_erk import FedAvgERK
from fedfore.cell import Protocol
from fedfore.federation.assembly import centralised_mask
from fedfore.federation.loop import Federation
from fedfore.federation.observers.ideal_masks import Ideals, MaskComparison, mask_fields
from fedfore.federation.observers.kernels import KernelProbe, kernels
from fedfore.masks import prunable_shapes, random_mask, uniform_densities
from fedfore.methods.fed_ntk_fedavg import FedNTKFedAvg
from fedfore.records.metrics import METRICS
from tests.conftest import TINY

Make = Callable[..., Federation]
SETUP = Protocol(clients=3, batch_size=16, setup_only=True)
SMALL = "lenet5:width=0.5"
QUICKLY = {"iterations": 2, "draws": 1, "inputs_per_draw": 4}
MASKS = [name for name in METRICS if name.startswith(("layer_density_l1", "mask_iou", "moved_", "target_"))]


@pytest.mark.thorough
def test_every_kernel_field_of_the_record_is_measured(federation: Make) -> None:
    made = federation(FedAvg, SETUP, ntk=True)
    fields = made.run().seen_by(KernelProbe).fields(made)
    assert fields["ntk_reason"] is None
    assert {name for name in METRICS if name.startswith("ntk_")} == set(fields) - {"ntk_reason"} | {"ntk_seconds"}
    assert made.clock.seconds["ntk"] > 0


@pytest.mark.thorough
def test_label_skew_shows_in_real_kernels_and_not_in_gaussian_ones(federation: Make) -> None:
    train = replace(SETUP, min_client_examples=30)
    iid, skewed = (
        federation(FedAvg, train, model=SMALL, alpha=alpha, ntk=True).run().fields() for alpha in ("iid", 0.1)
    )
    excess = [
        float(one[f"ntk_mmd2{kind}"] or 0) - float(one[f"ntk_mmd2{kind}_iid"] or 0)
        for kind in ("", "_gaussian")
        for one in (iid, skewed)
    ]
    assert excess[1] > excess[0] + 0.005
    assert abs(excess[3] - excess[2]) < 0.005


@pytest.mark.parametrize(
    ("train", "ntk", "reason"),
    [
        (SETUP, False, "The protocol says train.ntk = false."),
        (
            replace(SETUP, ntk_seeds=3),
            True,
            "The protocol says train.ntk_seeds = 3: kernels are measured at smaller seeds.",
        ),
        (replace(SETUP, clients=10), True, "Fewer than two clients have 20 examples."),
    ],
    ids=("switched off", "a seed beyond", "small clients"),
)
def test_a_kernel_that_is_not_measured_has_a_reason(federation: Make, train: Protocol, ntk: bool, reason: str) -> None:
    made = federation(FedAvg, train, ntk=ntk, seed=3).run()
    assert made.seen_by(KernelProbe).fields(made) == {"ntk_reason": reason}


def test_a_model_too_big_has_a_reason(federation: Make) -> None:
    made = federation(FedAvg, SETUP)
    (field,) = kernels(made, forward_macs=10**12).fields.items()
    assert field[0] == "ntk_reason" and "FLOPs" in str(field[1])


def test_masks_are_compared_with_centralised_ones_where_the_protocol_asks(federation: Make) -> None:
    compared = replace(SETUP, compare_masks=True)
    made = federation(FedNTKFedAvg, compared, model=SMALL, given=QUICKLY, sparsity=0.8).run()
    assert set(MASKS) == set(made.seen_by(MaskComparison).fields(made))
    for cell in ((FedNTKFedAvg, SETUP, 0.8), (FedNTKFedAvg, compared, 0.0), (FedAvgERK, compared, 0.8)):
        method, train, sparsity = cell
        given = QUICKLY if method is FedNTKFedAvg else {}
        made = federation(method, train, model=SMALL, given=given, sparsity=sparsity).run()
        assert made.seen_by(MaskComparison).fields(made) == {}


def test_a_reference_pools_all_data_and_all_draws_and_is_independent_by_number(federation: Make) -> None:
    made = federation(FedNTKFedAvg, replace(TINY, participation=0.5), given=QUICKLY, sparsity=0.8)
    config = made.server.method.centralised(2)
    one, again, other = (centralised_mask(made, config, number) for number in (0, 0, 1))
    assert one.same_as(again) and not one.same_as(other)
    assert one.kept == other.kept == made.setup().kept  # type: ignore[union-attr]


def test_a_mask_that_is_its_own_reference_has_no_error(federation: Make) -> None:
    made = federation(FedAvg, SETUP, model=SMALL)
    shapes = prunable_shapes(made.model)
    masks = [random_mask(shapes, uniform_densities(shapes, d), torch.Generator().manual_seed(0)) for d in (0.3, 0.6)]

    made.start()
    fields = mask_fields(made, masks[0], Ideals(*masks, *masks))
    assert fields["layer_density_l1"] == fields["target_layer_density_l1"] == fields["target_spectrum_error"] == 0.0
    assert fields["mask_iou"] == 1.0
    assert fields["mask_iou_shuffled"] == pytest.approx(0.3 / 1.7, rel=0.01)
    assert fields["layer_density_l1_null"] == pytest.approx(0.3 / 0.45, rel=0.01)
    for name in ("", "target_"):
        for null in ("", "_null"):
            assert fields[f"{name}moved_weights{null}"] == fields[f"{name}layer_density_l1{null}"] / 2
