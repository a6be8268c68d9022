"""Figures, tables and sentences of masks, on made-up layers; names of series; reports of runs that train nothing."""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from fedfore.cell import Cell, Protocol, cell_id
from fedfore.judgement.estimates import estimate
from fedfore.plots.charts import mask_figures
from fedfore.plots.charts.mask_figures import MOST_SERIES, mask_sentences
from fedfore.plots.drawing.heat import colour_bar
from fedfore.plots.drawing.style import COLUMN_WIDTH, FULL_WIDTH
from fedfore.plots.figures import plan_figures
from fedfore.plots.findings import answer, findings
from fedfore.plots.looks import METHODS, SALIENCIES
from fedfore.plots.mask_columns import short_layer
from fedfore.plots.naming import settings
from fedfore.plots.report.page import write_report
from fedfore.plots.study import Study, load_study
from fedfore.plots.tables.masks import mask_tables
from fedfore.plots.tables.show import render
from fedfore.plots.view import Drawn, Options, View
from fedfore.records.metrics import MEASURED
from fedfore.records.store import LAYERS, lines_writer
from tests.drawn import assert_readable, legend, notes, points
from tests.synthetic import cells, write_run

T_OF_TWO = 12.706205
"""Student's t(0.975, 1): the half-width of an interval over two values is this times half their distance."""
SETUP = Protocol(setup_only=True)
SIZES = {"conv1.weight": 100, "fc.weight": 1000}
MACS = {"forward_macs_dense": 1000, "grad_energy_kept": 0.25, "grad_energy_masked_point": 0.5}

MakeStudy = Callable[..., Study]
Kept = Callable[[Cell], Mapping[str, int]]


def varied(*params: dict[str, Any], train: Protocol = SETUP, **axes: Any) -> list[Cell]:
    """Return cells of Fed-NTK + ZO, all with `params` in turn; those of a name with a dot change the protocol."""
    axes = {"sparsities": (0.8,), "alphas": ("iid",), "seeds": (0, 1)} | axes
    found = []
    for own in params:
        protocol = replace(train, **{name[6:]: value for name, value in own.items() if name.startswith("train.")})
        given = {name: value for name, value in own.items() if not name.startswith("train.")}
        for cell in cells(axes.pop("methods", ("fed_ntk_zo",)), **axes):
            changed = replace(cell, train=protocol, params={"saliency": "ntk", **given})
            found.append(replace(changed, id=cell_id(changed, {})))
    return found


def even(cell: Cell) -> dict[str, int]:
    """Keep the asked density of every layer; seed 1 keeps a tenth of the first layer more."""
    kept = {layer: round(size * (1 - cell.sparsity)) for layer, size in SIZES.items()}
    return kept | {"conv1.weight": kept["conv1.weight"] + 10 * cell.seed}


def nothing(cell: Cell) -> dict[str, int]:
    """Write no layer."""
    return {}


def measured(cell: Cell) -> dict[str, Any]:
    """Return the fields of a record of a cell that ends before training."""
    untrained = dict.fromkeys(MEASURED) if cell.train.setup_only else {}
    return untrained | MACS | {"forward_macs_masked": 1000 * (1 - cell.sparsity) + 20 * cell.seed, "uplink_bytes": 5}


@pytest.fixture
def study_of(tmp_path: Path) -> MakeStudy:
    runs = itertools.count()

    def make(
        planned: list[Cell],
        kept: Kept = even,
        change: Callable[[Cell], dict[str, Any]] = measured,
        outcome: Callable[[Cell], str] = lambda cell: "ok",
    ) -> Study:
        run = tmp_path / str(next(runs))
        write_run(run, planned, outcome, change=change)
        for cell in planned:
            with lines_writer(run, cell.id, LAYERS) as write:
                for layer, count in kept(cell).items():
                    write({"layer": layer, "size": SIZES.get(layer, 100), "kept": count, "forward_macs_dense": 1})
        return load_study(run)

    return make


def figures(study: Study, width: float = FULL_WIDTH) -> dict[str, Drawn]:
    planned = mask_figures.figures(View(study, study.cells, Options(width)))
    return {one.name.removesuffix("-digits-lenet5"): one.draw() for one in planned}


def tiles(drawn: Drawn, panel: int) -> dict[str, list[str]]:
    """Return the densities that are written in a panel, by column."""
    own = drawn.figure.axes[panel]
    names = [label.get_text() for label in drawn.figure.axes[0].get_xticklabels()]
    texts = [text.get_text() for text in own.texts]
    return {name: texts[place :: len(names)] for place, name in enumerate(names)}


# Figures


def test_layer_densities_are_tiles_a_layer_and_method(study_of: MakeStudy) -> None:
    def kept(cell: Cell) -> dict[str, int]:
        return even(cell) | ({"fc.weight": 70} if cell.params["saliency"] == "snip" else {})

    drawn = figures(study_of(varied({"saliency": "snip"}, {"saliency": "ntk"}, sparsities=(0.0, 0.5, 0.8)), kept))
    figure = drawn["layer-densities"].figure
    first, second, bar = figure.axes
    assert [panel.get_title(loc="left") for panel in (first, second)] == ["sparsity 0.5", "sparsity 0.8"], "not 0"
    assert [label.get_text() for label in first.get_yticklabels()] == ["conv1 (100)", "fc (1 k)"]
    # Geometric means over two seeds: 0.5 and 0.6 of conv1 at sparsity 0.5, 0.2 and 0.3 at sparsity 0.8.
    assert tiles(drawn["layer-densities"], 0) == {"NTK": ["0.55", "0.50"], "SNIP": ["0.55", "0.070"]}
    assert tiles(drawn["layer-densities"], 1) == {"NTK": ["0.24", "0.20"], "SNIP": ["0.24", "0.070"]}
    assert bar.get_ylabel() == "Density (log)" and "n = 2 seeds" in notes(figure)
    assert notes(figure).startswith("Sparsest layer at sparsity 0.5 keeps 0.070 under SNIP, 0.50 under NTK")


def test_series_with_the_same_densities_are_one_column(study_of: MakeStudy) -> None:
    drawn = figures(study_of(varied({"saliency": "ntk"}, {"saliency": "snip"}, {"saliency": "erk"})))
    assert tiles(drawn["layer-densities"], 0) == {"NTK = 2 others": ["0.24", "0.20"]}


def test_what_is_left_is_measured_against_the_dense_model(study_of: MakeStudy) -> None:
    drawn = figures(study_of(varied({}, sparsities=(0.5, 0.8), seeds=(0, 1, 2))))["what-is-left"]
    flops, dense, masked = drawn.figure.axes
    assert [panel.get_title() for panel in drawn.figure.axes] == [
        "Forward FLOPs left", "Gradient energy left (dense)", "Gradient energy left (masked)",
    ]  # fmt: skip
    shown = [own for _, own in sorted(points(flops, upright=True).items())]
    assert [own.seeds for own in shown] == [pytest.approx(at) for at in ((0.5, 0.52, 0.54), (0.2, 0.22, 0.24))]
    assert [own.mean for own in shown] == pytest.approx([0.52, 0.22])
    expected = estimate([0.2, 0.22, 0.24], "logit")
    assert shown[1].interval == pytest.approx((expected.low, expected.high))
    for panel, value in ((dense, 0.25), (masked, 0.5)):
        assert [own.mean for own in points(panel, upright=True).values()] == [value, value]


def test_only_the_figures_that_have_data_are_drawn(study_of: MakeStudy) -> None:
    unknown = dict.fromkeys(MEASURED)
    assert set(figures(study_of(varied({}), change=lambda cell: unknown))) == {"layer-densities"}
    energy_alone = figures(study_of(varied({}), nothing, lambda cell: unknown | {"grad_energy_kept": 0.3}))
    assert {name: len(one.figure.axes) for name, one in energy_alone.items()} == {"what-is-left": 1}
    assert figures(study_of(varied({}), nothing, lambda cell: unknown)) == {}


def test_a_run_without_masks_has_no_figure_of_them(study_of: MakeStudy) -> None:
    assert figures(study_of(cells(("fedavg",)))) == {}, "FedAvg has no sparsity axis"
    assert figures(study_of(varied({}), outcome=lambda cell: "failed")) == {}


def test_many_series_are_spread_over_figures(study_of: MakeStudy) -> None:
    count = MOST_SERIES + 3
    drawn = figures(study_of(varied(*({"iterations": number} for number in range(1, count + 1)), seeds=(0,))))
    assert set(drawn) == {f"{name}-{page}" for name in ("layer-densities", "what-is-left") for page in (1, 2)}
    names = [legend(drawn[f"what-is-left-{page}"].figure) for page in (1, 2)]
    assert [len(page) for page in names] == [6, 5]
    assert [*names[0], *names[1]] == [f"iterations={number}" for number in range(1, count + 1)]


def test_a_page_of_series_of_which_no_layer_is_known_has_no_densities(study_of: MakeStudy) -> None:
    series = varied(*({"iterations": number} for number in range(1, MOST_SERIES + 4)), seeds=(0,))
    drawn = figures(study_of(series, lambda cell: even(cell) if cell.params["iterations"] <= 6 else {}))
    assert set(drawn) == {"layer-densities-1", "what-is-left-1", "what-is-left-2"}


@pytest.mark.parametrize(
    ("low", "ticks"), [(0.3, ["0.5", "1"]), (0.06, ["0.1", "0.3", "1"]), (0.002, ["0.01", "0.1", "1"])]
)
def test_the_colours_of_a_logarithmic_scale_have_round_ticks_in_plain_figures(low: float, ticks: list[str]) -> None:
    figure = Figure()
    colour_bar(figure, [figure.subplots()], LogNorm(low, 1.0), "viridis", "Density", "{:g}".format)
    axis = figure.axes[1].yaxis
    figure.draw_without_rendering()
    assert [label.get_text() for label in axis.get_ticklabels(which="both")] == ticks


def test_the_first_label_distribution_stands_for_all(study_of: MakeStudy) -> None:
    study = study_of(
        varied({}, alphas=("iid", 1.0, 0.1)),
        lambda cell: even(cell) if cell.alpha == 1.0 else dict.fromkeys(SIZES, 1),
        outcome=lambda cell: "failed" if cell.alpha == "iid" else "ok",
    )
    drawn = figures(study)["layer-densities"]
    assert tiles(drawn, 0) == {"Fed-NTK + ZO": ["0.24", "0.20"]}
    assert "n = 2 seeds, \N{GREEK SMALL LETTER ALPHA} = 1" in notes(drawn.figure)


def test_an_empty_layer_is_written_as_zero_on_a_blank_tile(study_of: MakeStudy) -> None:
    drawn = figures(study_of(varied({}), lambda cell: {"conv1.weight": 0, "fc.weight": 220}))["layer-densities"]
    assert tiles(drawn, 0) == {"Fed-NTK + ZO": ["0", "0.22"]}
    shades = np.asarray(drawn.figure.axes[0].images[0].get_array(), dtype=float)[..., :3]
    assert len(set(shades[0, 0])) == 1 and len(set(shades[1, 0])) == 3


def test_next_to_nothing_stands_below_the_axis(study_of: MakeStudy) -> None:
    change = {"grad_energy_masked_point": 1e-9}
    figure = figures(study_of(varied({}), change=lambda cell: measured(cell) | change))["what-is-left"].figure
    panel = figure.axes[2]
    (shown,) = points(panel, upright=True).values()
    ticks = {
        label.get_text(): place
        for place, label in zip(panel.get_yticks(), figure.axes[0].get_yticklabels(), strict=True)
    }
    assert shown.mean == pytest.approx(ticks["less"]) and "Less: 0 or near it." in notes(figure)


def test_a_series_without_layers_has_no_tile_with_a_number(study_of: MakeStudy) -> None:
    study = study_of(
        varied({"saliency": "ntk"}, {"saliency": "snip"}),
        lambda cell: even(cell) if cell.params["saliency"] == "snip" else {},
    )
    assert tiles(figures(study)["layer-densities"], 0) == {"NTK": ["", ""], "SNIP": ["0.24", "0.20"]}


@pytest.mark.parametrize(
    ("name", "short"),
    [
        ("fc1.weight", "fc1"),
        ("conv.weight", "conv"),
        ("stage1.block2.body.conv1.weight", "1.2.conv1"),
        ("stage3.block1.shortcut.conv.weight", "3.1.short"),
        ("layer1.0.conv2.weight", "1.0.conv2"),
        ("layer4.0.downsample.0.weight", "4.0.short"),
    ],
)
def test_layers_have_short_names(name: str, short: str) -> None:
    assert short_layer(name) == short


@pytest.mark.parametrize(
    ("width", "depth"), [pytest.param(FULL_WIDTH, 22, marks=pytest.mark.slow), (FULL_WIDTH, 54), (COLUMN_WIDTH, 22)]
)
def test_tiles_and_names_of_layers_do_not_overlap(study_of: MakeStudy, width: float, depth: int) -> None:
    kept = {f"stage{at // 8}.block{at % 8}.body.conv1.weight": 20 for at in range(depth)}
    study = study_of(varied({}, seeds=(0,), sparsities=(0.5, 0.8, 0.9)), lambda cell: kept)
    figure = figures(study, width)["layer-densities"].figure
    assert_readable(figure, "layer-densities")


# Tables and sentences


def test_the_table_of_masks_is_in_percent_with_intervals(study_of: MakeStudy) -> None:
    study = study_of(
        varied({}, sparsities=(0.0, 0.8, 0.9)), outcome=lambda cell: "failed" if cell.sparsity == 0.9 else "ok"
    )
    (table,) = mask_tables(study)
    (row,) = table.to_dict("records")
    assert row["Forward FLOPs left (%)"] == f"21.0 ± {T_OF_TWO:.1f}"
    assert row["conv1 (%)"] == "25.0 [1.1, 90.8]" and row["fc (%)"] == "20.0 ± 0.0"
    assert row["Gradient energy left (dense) (%)"] == "25.0 ± 0.0" and row["Seeds ok / planned"] == "2 / 2"


def test_models_have_tables_of_their_own_layers(study_of: MakeStudy) -> None:
    planned = varied({}) + varied({}, model="baffle_lenet")
    study = study_of(planned, lambda cell: {"fc.weight": 9} if cell.model == "baffle_lenet" else even(cell))
    first, second = mask_tables(study)
    assert "conv1 (%)" in first and "conv1 (%)" not in second and "fc (%)" in second


def test_sentences_name_the_extremes(study_of: MakeStudy) -> None:
    left = {"ntk": 400, "snip": 500, "synflow": 600}
    study = study_of(
        varied(*({"saliency": name} for name in left)),
        change=lambda cell: measured(cell) | {"forward_macs_masked": left[cell.params["saliency"]] + 20 * cell.seed},
    )
    flops, energy, _ = mask_sentences(study, study.cells)
    assert flops == (
        "Forward FLOPs left at sparsity 0.8: most under SynFlow (61.0 ± 12.7 %), least under NTK (41.0 ± 12.7 %)."
    )
    assert energy == "Gradient energy left (dense) at sparsity 0.8: the same at all 3 points (25.0 %)."


def test_one_seed_has_no_extremes(study_of: MakeStudy) -> None:
    study = study_of(varied({"saliency": "ntk"}, {"saliency": "snip"}, seeds=(0,)))
    assert list(mask_sentences(study, study.cells)) == []


def test_a_layer_that_keeps_a_single_weight_is_said(study_of: MakeStudy) -> None:
    study = study_of(varied({}), lambda cell: {"conv1.weight": 1 + 9 * cell.seed, "fc.weight": 200})
    (found,) = (one for one in mask_sentences(study, study.cells) if "single layers" in one)
    assert found.startswith("In 1 of 2 finished pruned cells single layers keep at most one weight")


# Runs that train nothing


def test_a_report_of_cells_that_train_nothing_says_nothing_of_accuracy(study_of: MakeStudy) -> None:
    study = study_of(varied({"saliency": "ntk"}, {"saliency": "snip"}))
    assert [one.name for one in plan_figures(study)] == ["layer-densities-digits-lenet5", "what-is-left-digits-lenet5"]
    (found,) = findings(study)
    assert found.sentences[0].startswith("4 of 4 finished cells end before training")
    assert not any("test accuracy" in sentence or "no point has" in sentence for sentence in found.sentences)
    assert sum("Forward FLOPs left" in sentence for sentence in found.sentences) == 1
    html = write_report(study.run.path).read_text()
    assert "Test accuracy" not in html and "perturbations a step" not in html and "There is nothing to draw" not in html
    assert html.count("<figure ") == 2 and "<caption>Masks: digits, lenet5</caption>" in html


def test_a_table_of_cells_that_train_nothing_shows_what_they_know(study_of: MakeStudy) -> None:
    study = study_of(
        varied({"saliency": "ntk"}, {"saliency": "snip"}),
        change=lambda cell: {
            **measured(cell),
            "forward_macs_masked": {"ntk": 200, "snip": 300}[cell.params["saliency"]],
        },
    )
    text = str(render(study.run.path, "markdown"))
    assert text.startswith("| Method | Forward MACs, masked ↓ |\n| --- | --: |\n| NTK | **200** |\n| SNIP | 300 |\n")
    assert "gradient energy kept (%) 25.0" in text and "accuracy" not in text


def test_trained_cells_keep_their_figures_to_themselves(study_of: MakeStudy) -> None:
    trained = cells(("fedavg",), alphas=("iid",), seeds=(0, 1))
    study = study_of([*trained, *varied({})], change=lambda cell: measured(cell) if cell.train.setup_only else {})
    accuracy = plan_figures(study)[0]
    assert accuracy.name == "accuracy-digits-lenet5", "no trained method has the sparsity axis"
    assert [label.get_text() for label in accuracy.draw().figure.axes[0].get_yticklabels()] == ["FedAvg (dense)"]
    (found,) = findings(study)
    assert "FedAvg (dense) has the highest mean test accuracy" in answer(study)[0]
    assert sum("2 of 4 finished cells end before training" in sentence for sentence in found.sentences) == 1
    assert "| FedAvg (dense) | dense |" in str(render(study.run.path, "markdown"))


def test_failed_training_beside_cells_that_train_nothing_is_no_finding(study_of: MakeStudy) -> None:
    planned = [*cells(("fedavg",), alphas=("iid",)), *varied({})]
    study = study_of(planned, outcome=lambda cell: "failed" if cell.method == "fedavg" else "ok")
    assert [len(found.sentences) for found in findings(study)] == [1]
    assert not any(one.name.startswith(("accuracy", "cost")) for one in plan_figures(study))


# Names of series


def labels(study: Study) -> list[str]:
    return [one.label for one in study.series]


def test_saliencies_name_the_series_of_a_single_method(study_of: MakeStudy) -> None:
    common = {"inputs": "gaussian", "iterations": 1}
    planned = varied(
        {**common, "saliency": "random"},
        {**common, "saliency": "snip", "inputs": "real", "train.clients": 4},
        {**common, "saliency": "ntk", "iterations": 20},
    )
    study = study_of(planned)
    assert labels(study) == ["NTK", "SNIP", "Random"]
    assert [one.look for one in study.series] == [SALIENCIES[name] for name in ("ntk", "snip", "random")]
    assert study.left_out == (
        "How series of Fed-NTK + ZO are configured, beside what their names say: "
        "NTK (10 clients, Gaussian inputs, iterations=20); SNIP (4 clients, real inputs, iterations=1); "
        "Random (10 clients, Gaussian inputs, iterations=1).",
    )
    assert study.tuned == ()


def test_only_what_varies_within_a_saliency_is_named(study_of: MakeStudy) -> None:
    shuffles: list[dict[str, Any]] = [{"shuffle": False}, {"shuffle": True}, {"shuffle": False, "saliency": "erk"}]
    assert labels(study_of(varied(*shuffles))) == ["NTK", "NTK, shuffled", "ERK"]


def test_an_unsaid_value_leaves_the_method_as_a_name(study_of: MakeStudy) -> None:
    assert labels(study_of(varied({"shuffle": False}, {"shuffle": True}))) == ["Fed-NTK + ZO", "shuffled"]


def test_saliencies_of_a_plug_in_are_parameters_like_others(study_of: MakeStudy) -> None:
    study = study_of(varied({"saliency": "ntk"}, {"saliency": "my_own"}))
    assert labels(study) == ["saliency=my own", "NTK"]


def test_several_methods_keep_their_names(study_of: MakeStudy) -> None:
    planned = varied({"saliency": "ntk"}, {"saliency": "snip"}) + cells(("fedavg",), alphas=("iid",))
    study = study_of(planned)
    assert labels(study) == ["Fed-NTK + ZO", "Fed-SNIP + ZO", "FedAvg (dense)"]
    own, other = (one.look for one in study.series[:2])
    assert own == study.looks["fed_ntk_zo"] and len({own.colour, other.colour, METHODS["fedavg"].colour}) == 3


def test_saliencies_that_a_methods_label_does_not_name_stand_behind_it(study_of: MakeStudy) -> None:
    planned = varied({"saliency": "ntk"}, {"saliency": "snip"}) + cells(("fedavg",), alphas=("iid",))
    study = study_of(planned, change=lambda cell: {"label": "Pruned" if cell.method == "fed_ntk_zo" else None})
    assert labels(study) == ["Pruned, NTK", "Pruned, SNIP", "FedAvg (dense)"]


def test_a_single_method_that_trains_nothing_is_not_named(study_of: MakeStudy) -> None:
    planned = varied(*({"inputs": inputs, "upload": "masks"} for inputs in ("real", "gaussian")))
    study = study_of(planned)
    assert labels(study) == ["Gaussian inputs", "real inputs"]
    assert len({one.look for one in study.series}) == 2


def test_a_single_method_that_trains_is_named(study_of: MakeStudy) -> None:
    trained = Protocol(data_passes=1.0)
    planned = varied({"inputs": "real"}, {"inputs": "gaussian"}, train=trained)
    assert labels(study_of(planned)) == ["Fed-NTK + ZO, Gaussian inputs", "Fed-NTK + ZO, real inputs"]


def test_what_is_measured_names_no_series_that_a_parameter_names(study_of: MakeStudy) -> None:
    planned = varied(
        {"where": "server", "train.compare_masks": False}, {"where": "devices", "train.compare_masks": True}
    )
    study = study_of(planned)
    assert labels(study) == ["scored by devices", "scored by the server"]
    assert study.tuned == study.left_out == ()
    elsewhere = varied({"train.ntk": True}, sparsities=(0.5,)) + varied({"train.ntk": False}, sparsities=(0.8,))
    assert study_of(elsewhere).tuned == ()


def test_what_is_measured_names_a_series_where_nothing_else_does(study_of: MakeStudy) -> None:
    study = study_of(varied({"train.ntk": True}, {"train.ntk": False}))
    assert labels(study) == ["without ntk", "ntk"], "two cells of a seed never enter one mean"


def test_settings_name_what_varies_among_the_shown_cells(study_of: MakeStudy) -> None:
    planned = varied(
        {"upload": "masks", "inputs": "real"}, {"upload": "scores", "inputs": "real"}, alphas=("iid", 1.0, 0.1)
    )
    study = study_of([*planned, *varied({"upload": "scores", "inputs": "gaussian"})])
    alphas = ("iid", "\N{GREEK SMALL LETTER ALPHA} = 1", "\N{GREEK SMALL LETTER ALPHA} = 0.1")
    real = study.cells[study.cells["params.inputs"] == "real"]
    assert list(settings(real, also=("sparsity", "alpha")).cat.categories) == [
        f"uploads {what}, {alpha}" for what in ("masks", "scores") for alpha in alphas
    ]
    assert set(settings(real, leave_out=["params.upload"])) == {"Fed-NTK + ZO"}
