"""Figures and sentences of kernel errors and of federated against centralised masks, on made-up records."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.plots.charts import kernel_figures
from fedfore.plots.charts.kernel_figures import ntk_sentences
from fedfore.plots.drawing.style import COLUMN_WIDTH, FULL_WIDTH
from fedfore.plots.figures import plan_figures
from fedfore.plots.findings import findings
from fedfore.plots.study import Study, load_study
from fedfore.plots.view import Drawn, Options, View
from fedfore.plots.wording import MINUS, UNKNOWN
from fedfore.records.metrics import MEASURED
from tests.drawn import assert_readable, names, notes, points
from tests.synthetic import cells, write_run

T_OF_TWO = 12.706205
"""Student's t(0.975, 1): the half-width of an interval over two values is this times half their distance."""
ALPHA = "\N{GREEK SMALL LETTER ALPHA}"

Change = Callable[[Cell], dict[str, Any]]


def planned(
    *clients: int, settings: tuple[dict[str, Any], ...] = ({},), seeds: tuple[int, ...] = (0, 1), **axes: Any
) -> list[Cell]:
    axes = {"sparsities": (0.0, 0.8), "alphas": ("iid", 0.1)} | axes
    found = []
    for cell, count, own in itertools.product(cells(("fed_ntk_zo",), seeds=seeds, **axes), clients, settings):
        changed = replace(cell, train=Protocol(clients=count, setup_only=True), params={"inputs": "gaussian", **own})
        found.append(replace(changed, id=cell_id(changed, {})))
    return found


def skew(cell: Cell) -> float:
    return 0.0 if cell.alpha == "iid" else 0.001 * cell.train.clients


def kernels(cell: Cell) -> dict[str, Any]:
    """Return errors above those of random deals by `skew` + 0.0002 x seed on real probes, by nothing on Gaussian."""
    base = {"ntk_mmd2": -0.002, "ntk_spectrum_error": 0.05, "ntk_rel_frobenius_error": 1 - 1 / cell.train.clients}
    found: dict[str, Any] = dict.fromkeys(MEASURED)
    for name, value in base.items():
        found |= {f"{name}_iid": value, f"{name}_gaussian": value, f"{name}_gaussian_iid": value}
        found[name] = value + skew(cell) + 0.0002 * cell.seed
    return found


def masks(cell: Cell) -> dict[str, Any]:
    """Return masks farther from centralised ones, by 0.2 + 0.01 x seed where devices upload masks."""
    far = 0.2 + 0.01 * cell.seed if cell.params.get("upload") == "masks" else 0.03 * cell.seed
    return dict.fromkeys(MEASURED) | {
        "layer_density_l1": 0.1 + far, "layer_density_l1_null": 0.1 + 0.02 * cell.seed,
        "mask_iou": 0.3, "mask_iou_null": 0.4, "mask_iou_shuffled": 0.2,
        "target_layer_density_l1": 0.5, "target_layer_density_l1_null": 0.1 + 0.02 * cell.seed,
    }  # fmt: skip


@pytest.fixture
def study_of(tmp_path: Path) -> Callable[..., Study]:
    runs = itertools.count()

    def make(own: list[Cell], change: Change, outcome: Callable[[Cell], str] = lambda cell: "ok") -> Study:
        run = tmp_path / str(next(runs))
        write_run(run, own, outcome, change=change)
        return load_study(run)

    return make


def figures(study: Study, width: float = FULL_WIDTH) -> dict[str, Drawn]:
    planned = kernel_figures.figures(View(study, study.cells, Options(width)))
    return {one.name.removesuffix("-digits-lenet5"): one.draw() for one in planned}


def tiles(drawn: Drawn, panel: int) -> list[str]:
    """Return the numbers written in a panel, row by row."""
    return [text.get_text() for text in drawn.figure.axes[panel].texts]


# Heat maps


def test_heat_maps_hold_the_excess_over_random_deals(study_of: Callable[..., Study]) -> None:
    drawn = figures(study_of(planned(2, 10), kernels))
    assert set(drawn) == {"ntk-mmd2", "ntk-spectrum-error", "ntk-blocks"}
    panels = drawn["ntk-mmd2"].figure.axes
    assert [panel.get_title(loc="left") for panel in panels[:4]] == [
        "real examples\nsparsity 0", "sparsity 0.8", "Gaussian inputs\nsparsity 0", "sparsity 0.8",
    ]  # fmt: skip
    assert [label.get_text() for label in panels[0].get_yticklabels()] == ["iid", f"{ALPHA} = 0.1"]
    assert [label.get_text() for label in panels[2].get_xticklabels()] == ["2", "10"]
    # Means are skew + 0.0001, half-widths t x 0.0001; the largest, 0.0101, has two digits in thousandths.
    assert tiles(drawn["ntk-mmd2"], 1) == ["+0.1\n± 1.3", "+0.1\n± 1.3", "+2.1\n± 1.3", "+10.1\n± 1.3"]
    assert " ".join(panels[4].get_ylabel().split()) == "NTK feature distance (MMD²), excess, in 10⁻³"
    assert tiles(drawn["ntk-mmd2"], 3) == ["+0.0\n± 0.0"] * 4
    assert tiles(drawn["ntk-spectrum-error"], 1) == tiles(drawn["ntk-mmd2"], 1)


def test_a_few_tiles_leave_room_for_what_is_written_around_them(study_of: Callable[..., Study]) -> None:
    study = study_of(planned(2, 10, sparsities=(0.8,)), kernels)
    for name, drawn in figures(study, COLUMN_WIDTH).items():
        assert_readable(drawn.figure, name)


def test_what_may_be_zero_has_no_colour_and_what_holm_rejects_is_bold(study_of: Callable[..., Study]) -> None:
    drawn = figures(study_of(planned(2, 10, seeds=range(6)), kernels))["ntk-mmd2"]
    real, gaussian = (drawn.figure.axes[place] for place in (1, 3))
    shades = np.asarray(real.images[0].get_array(), dtype=float)[..., :3]
    assert shades[1, 1, 1] < shades[1, 0, 1] < shades[0, 1, 1], "redder where clients differ more"
    # Iid the seeds give 0.0005 with a deviation of 0.00037 over six: p = 0.02, and 0.05 / 12 is the step.
    assert [text.get_fontweight() for text in real.texts] == ["normal", "normal", "bold", "bold"]
    blank = np.asarray(gaussian.images[0].get_array(), dtype=float)[..., :3]
    assert (blank == blank[..., :1]).all(), "no excess, no colour"
    assert notes(drawn.figure).startswith(
        "NTK feature distance (MMD²) beyond chance: 8 of 16 tiles exclude 0, 4 after Holm"
    )


def test_blocks_between_clients_are_shown_as_they_are(study_of: Callable[..., Study]) -> None:
    blocks = figures(study_of(planned(2, 10, alphas=("iid",)), kernels))["ntk-blocks"]
    assert tiles(blocks, 0) == ["50.0\n± 0.1", "90.0\n± 0.1"] and len(blocks.figure.axes) == 3
    assert "not how much they differ" in blocks.caption and "at random" not in blocks.caption


def test_an_excess_below_zero_has_its_sign_and_one_seed_no_interval(study_of: Callable[..., Study]) -> None:
    study = study_of(
        planned(2, 10, seeds=(0,)), lambda cell: kernels(cell) | {"ntk_mmd2": -0.012, "ntk_mmd2_gaussian": -0.0020001}
    )
    drawn = figures(study)["ntk-mmd2"]
    assert set(tiles(drawn, 0)) == {f"{MINUS}10.0"} and set(tiles(drawn, 2)) == {"+0.0"}
    assert list(ntk_sentences(study.cells)) == [], "one seed says nothing"


def test_a_tile_without_a_result_says_so(study_of: Callable[..., Study]) -> None:
    study = study_of(
        planned(2, 10), kernels, lambda cell: "failed" if (cell.alpha, cell.train.clients) == ("iid", 10) else "ok"
    )
    drawn = figures(study)["ntk-mmd2"]
    assert tiles(drawn, 0)[1] == UNKNOWN and UNKNOWN not in tiles(drawn, 0)[0]
    assert "4 cells not shown: 4 failed." in notes(drawn.figure)


def test_one_number_of_clients_has_no_heat_map(study_of: Callable[..., Study]) -> None:
    study = study_of(planned(10), kernels)
    assert figures(study) == {} and list(ntk_sentences(study.cells)) == []
    assert figures(study_of(planned(2, 10), lambda cell: dict.fromkeys(MEASURED))) == {}


def test_settings_apart_from_clients_have_heat_maps_of_their_own(study_of: Callable[..., Study]) -> None:
    own = planned(2, 10, settings=({"inputs": "gaussian"}, {"inputs": "real"}), alphas=("iid",))
    study = study_of(own, lambda cell: kernels(cell) | ({"ntk_mmd2": 0.1} if cell.params["inputs"] == "real" else {}))
    drawn = figures(study)
    assert set(drawn) == {f"ntk-{name}-{number}" for name in ("mmd2", "spectrum-error", "blocks") for number in (1, 2)}
    titles = [one.title for one in plan_figures(study)]
    assert "(Gaussian inputs): " in titles[0] and "(real inputs): " in titles[3]
    assert set(tiles(drawn["ntk-mmd2-2"], 0)) == {"+10.2\n± 0.0"}


def test_the_excess_is_spoken_of_at_least_and_most_skew(study_of: Callable[..., Study]) -> None:
    study = study_of(planned(2, 10, alphas=("iid", 1.0, 0.1)), kernels)
    (sentence,) = ntk_sentences(study.cells)
    assert sentence in findings(study)[0].sentences
    assert sentence == (
        "NTK feature distance (MMD²) of clients' real examples above that of the same examples dealt at random, "
        "sparsity 0.8: iid, 2 clients: +0.0001 ± 0.0013 (interval includes 0), Gaussian probes +0.0000 ± 0.0000; "
        "iid, 10 clients: +0.0001 ± 0.0013 (interval includes 0), Gaussian probes +0.0000 ± 0.0000; "
        f"{ALPHA} = 0.1, 2 clients: +0.0021 ± 0.0013, Gaussian probes +0.0000 ± 0.0000; "
        f"{ALPHA} = 0.1, 10 clients: +0.0101 ± 0.0013, Gaussian probes +0.0000 ± 0.0000."
    )


# Masks

UPLOADS: tuple[dict[str, Any], ...] = ({"upload": "scores"}, {"upload": "masks"})


def test_masks_are_drawn_beside_their_nulls_grouped_by_what_is_uploaded(study_of: Callable[..., Study]) -> None:
    drawn = figures(study_of(planned(10, settings=UPLOADS, sparsities=(0.8,)), masks))
    assert set(drawn) == {"mask-comparison"}
    figure = drawn["mask-comparison"].figure
    moved, minus, overlap, target = figure.axes
    assert [" ".join(panel.get_xlabel().split()) for panel in figure.axes[:3]] == [
        "Moved weights", "Moved weights, minus null", "Mask overlap (IoU)",
    ]  # fmt: skip
    assert names(moved) == ["uploads scores", "iid", f"{ALPHA} = 0.1", "uploads masks", "iid", f"{ALPHA} = 0.1"]
    expected = {
        moved: [[0.0575, 0.055]] * 2 + [[0.1525, 0.055]] * 2, minus: [[0.0025]] * 2 + [[0.0975]] * 2,
        overlap: [[0.3, 0.4, 0.2]] * 4, target: [[0.25, 0.055]] * 4,
    }  # fmt: skip
    for panel, values in expected.items():
        shown = [own.mean for _, own in sorted(points(panel).items())]
        assert shown == pytest.approx(list(itertools.chain(*values))), panel.get_xlabel()


def test_the_difference_to_the_null_has_its_interval(study_of: Callable[..., Study]) -> None:
    study = study_of(planned(10, settings=UPLOADS, sparsities=(0.8,), alphas=("iid",), seeds=(0, 1, 2)), masks)
    panel = figures(study)["mask-comparison"].figure.axes[1]
    second, first = (own for _, own in sorted(points(panel).items()))
    assert first.seeds == pytest.approx([0.1, 0.095, 0.09]) and second.seeds == pytest.approx([0.0, 0.005, 0.01])
    half = 4.302653 * 0.005 / math.sqrt(3)
    assert first.interval == pytest.approx((0.095 - half, 0.095 + half))


def test_one_seed_has_no_interval(study_of: Callable[..., Study]) -> None:
    study = study_of(planned(10, settings=UPLOADS, sparsities=(0.8,), seeds=(0,)), masks)
    found = figures(study)["mask-comparison"].figure
    assert all(own.interval is None for panel in found.axes for own in points(panel).values())
    assert list(ntk_sentences(study.cells)) == []


def test_masks_beyond_their_null_are_counted(study_of: Callable[..., Study]) -> None:
    study = study_of(planned(10, settings=UPLOADS, sparsities=(0.8,), alphas=("iid",)), masks)
    own, target = ntk_sentences(study.cells)
    # Uploaded masks: 0.2 and 0.19 above the null; scores: 0 and 0.01.
    assert own.startswith("In 1 of 2 settings the federated mask's layer densities are farther from the centralised")
    assert own.endswith(": uploads masks (15.3% of the kept weights are in another layer, +9.8 ± 3.2 points).")
    assert target.startswith("In 2 of 2 settings") and "of real inputs" in target


@pytest.mark.parametrize("width", [FULL_WIDTH, COLUMN_WIDTH])
def test_long_settings_leave_room_for_the_panels(study_of: Callable[..., Study], width: float) -> None:
    settings = tuple(
        {"upload": upload, "inputs": inputs, "where": "devices_forward", "noise": noise}
        for upload in ("masks", "scores")
        for inputs in ("gaussian", "real")
        for noise in (0.01, 0.02)
    )
    study = study_of(planned(10, settings=settings, sparsities=(0.5, 0.8), alphas=(0.1,), seeds=(0,)), masks)
    assert_readable(figures(study, width)["mask-comparison"].figure, "mask-comparison")
