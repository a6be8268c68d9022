"""Published claims: what decides them, what keeps them from being tested, and the command that prints them."""

from __future__ import annotations

import io
import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from fedfore.cell import Cell
from fedfore.cli.main import main
from fedfore.errors import ConfigError
from fedfore.judgement.archive import Archive
from fedfore.judgement.claim_verdicts import JudgedClaim, judged_claim
from fedfore.judgement.claims import CLAIMS, read_claims
from fedfore.judgement.contrasts import contrasts
from fedfore.plots.cards.claims import claims_table
from fedfore.records.provenance import ROOT
from tests.synthetic import accuracy, cells, record, write_run

SEEDS = (0, 1, 2, 3, 4)
ALPHAS = ("iid", 0.1)
PLANNED = cells(("fedavg", "baffle"), alphas=ALPHAS, seeds=SEEDS)
FEW = PLANNED[:2]
MATRIX = """
[[contrast]]
name = "backpropagation against BAFFLE"
of = { method = "fedavg" }
against = { method = "baffle" }

[[contrast]]
name = "published accuracy"
of = { method = "fedavg", alpha = "iid" }
against = 0.9
"""
CONTRASTED = """
[[claim]]
name = "accuracy"
claim = "Backpropagation gains up to 18 points"
source = "somewhere"
study = "study"
contrast = "backpropagation against BAFFLE"
bound = 18
up_to = true
"""
METERED = """
[[claim]]
name = "memory"
claim = "BP-free training needs 2x less memory"
source = "somewhere"
study = "study"
unit = "x"
bound = 2
over = ["sparsity", "method"]
conditions = "equal batches"

[claim.metered]
of = { method = ["fedavg"], seed = 0, alpha = "iid" }
against = { method = "baffle", seed = 0, alpha = "iid" }
metric = "peak_device_bytes"
compare = "ratio"
"""


def rising(cell: Cell) -> dict[str, float]:
    """Return accuracies whose difference under skew is higher than iid, and different from seed to seed."""
    is_noisy = (cell.method, cell.alpha) == ("fedavg", 0.1)
    return {"test_accuracy": (0.3, 0.99, 0.99, 0.99, 0.99)[cell.seed]} if is_noisy else {}


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder of studies: one that judges, and some that cannot."""
    results = tmp_path_factory.mktemp("published") / "results"
    write_run(results / "study", PLANNED)
    write_run(results / "unasked", FEW)
    write_run(results / "half", FEW, lambda cell: "missing" if cell is FEW[0] else "ok")
    write_run(results / "old", FEW)
    write_run(results / "rough", [cell for cell in PLANNED if cell.seed < 2], scalar_errors=lambda cell: (0.5, 0.5))
    write_run(
        results / "partly", PLANNED, scalar_errors=lambda cell: (0.5, 0.5) if cell.alpha == "iid" else (0.01, 0.01)
    )
    write_run(results / "few", [cell for cell in PLANNED if cell.seed < 2])
    write_run(results / "noisy", PLANNED, change=rising)
    write_run(results / "sparse", cells(("fedavg_erk", "fedmef"), alphas=("iid",), sparsities=(0.2, 0.9), seeds=(0,)))
    for name in ("study", "half", "old", "rough", "partly", "few", "noisy"):
        (results / name / "matrix.toml").write_text(MATRIX, encoding="utf-8")
    (results / "old" / "card.toml").write_text('question = "?"\nsuperseded_by = "study"', encoding="utf-8")
    return results


@pytest.fixture
def results(published: Path) -> Iterator[Path]:
    """Return the folder of studies, for a test's own claims."""
    yield published
    (published / CLAIMS).unlink()


BAFFLE = 'against = { method = "baffle"'


def judged(results: Path, claims: str) -> JudgedClaim:
    (results / CLAIMS).write_text(claims, encoding="utf-8")
    return judged_claim(Archive(results), read_claims(results).claim[0])


def differences(alpha: str | float) -> np.ndarray:
    """Return the points by which made-up FedAvg is above BAFFLE, by seed."""
    sides = [
        [accuracy(cell) for cell in PLANNED if (cell.method, cell.alpha) == (method, alpha)]
        for method in ("fedavg", "baffle")
    ]
    return 100 * np.subtract(*sides)


def test_up_to_is_decided_where_a_claim_holds_most_and_its_interval_is_simultaneous(results: Path) -> None:
    found = judged(results, CONTRASTED)
    by_alpha = {alpha: differences(alpha) for alpha in ALPHAS}
    ends = [stats.t.interval(1 - 0.05 / 2, 4, loc=own.mean(), scale=stats.sem(own)) for own in by_alpha.values()]
    most = max(by_alpha, key=lambda alpha: by_alpha[alpha].mean())
    assert found.value == pytest.approx(by_alpha[most].mean())
    assert found.interval == pytest.approx(tuple(np.max(ends, axis=0)))
    assert (found.setting, found.settings, found.pairs) == (f"alpha {most}", 2, 5)
    assert (found.verdict, found.reached) == ("better", "within the interval")
    low, high = found.interval
    assert judged(results, CONTRASTED.replace("bound = 18", f"bound = {low - 0.01}")).reached == "yes"
    assert judged(results, CONTRASTED.replace("bound = 18", f"bound = {high + 0.01}")).reached == "no"


def test_a_claim_without_up_to_is_decided_where_it_holds_least(results: Path) -> None:
    found = judged(results, CONTRASTED.replace("up_to = true", "up_to = false"))
    assert found.value == pytest.approx(min(differences(alpha).mean() for alpha in ALPHAS))


def test_a_claim_of_a_level_is_judged_against_what_was_published(results: Path) -> None:
    reached = 100 * np.array([accuracy(cell) for cell in PLANNED if (cell.method, cell.alpha) == ("fedavg", "iid")])
    level = CONTRASTED.replace("backpropagation against BAFFLE", "published accuracy").replace("up_to = true", "")
    found = judged(results, level.replace("bound = 18", 'bound = 90\nunit = "%"'))
    assert found.value == pytest.approx(reached.mean())
    low, high = found.interval
    assert low < found.value < high
    for bound, answer in ((low - 0.01, "yes"), (found.value, "within the interval"), (high + 0.01, "no")):
        assert judged(results, level.replace("bound = 18", f'bound = {bound}\nunit = "%"')).reached == answer
    assert (found.settings, found.pairs) == (1, 5)


def test_a_metered_claim_is_exact(results: Path) -> None:
    peak = {cell.method: record(cell).peak_device_bytes for cell in PLANNED}
    found = judged(results, METERED)
    ratio = peak["fedavg"] / peak["baffle"]
    assert found.value == pytest.approx(ratio) and found.interval == (found.value, found.value)
    assert (found.verdict, found.reached, found.settings) == ("better", "yes" if ratio >= 2 else "no", 1)
    swapped = METERED.replace('["fedavg"]', '["baffle"]').replace(
        'against = { method = "baffle"', "against = {method='fedavg'"
    )
    assert (judged(results, swapped).verdict, judged(results, swapped).reached) == ("worse", "no")
    same = METERED.replace('["fedavg"]', '["baffle"]')
    assert judged(results, same).verdict == "equivalent"
    saved = METERED.replace('"ratio"', '"saving"').replace('unit = "x"', 'unit = "%"')
    assert judged(results, saved).value == pytest.approx(100 * (1 - ratio))


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ('coming = ["later"]\n' + CONTRASTED.replace('"study"', '"later"'), "study later is not published"),
        (
            CONTRASTED + "at_least = { sparsity = 0.99 }",
            "sparsity is at most 0 in study study, the claim is read as made at 0.99",
        ),
        (CONTRASTED.replace('"study"', '"unasked"'), "no contrast was fixed before study unasked ran"),
        (CONTRASTED.replace('"study"', '"half"'), "study half is unfinished: 1 of 2 cells"),
        (CONTRASTED.replace('"study"', '"old"'), "study old is superseded by study"),
    ],
)  # fmt: skip
def test_what_keeps_a_claim_from_being_tested_is_said(results: Path, claims: str, reason: str) -> None:
    found = judged(results, claims)
    assert (found.verdict, found.reason, found.reached) == ("not tested", reason, None)
    assert np.isnan(found.value)


def test_a_study_that_is_to_be_superseded_stands_until_the_other_is_published(results: Path) -> None:
    card = results / "study" / "card.toml"
    card.write_text('question = "?"\nsuperseded_by = "later"', encoding="utf-8")
    found = judged(results, CONTRASTED)
    card.unlink()
    assert found.verdict == "better"


def test_a_claim_whose_contrast_is_withheld_says_why(results: Path) -> None:
    found = judged(results, CONTRASTED.replace('"study"', '"rough"'))
    assert (found.verdict, found.settings) == ("not tested", 2)
    assert found.reason == "2 of 2 settings have no verdict; alpha iid: its simulation is not certified (baffle)"


def test_a_claim_on_all_settings_is_not_tested_where_one_is_withheld_and_up_to_is_decided_by_the_others(
    results: Path,
) -> None:
    partly = CONTRASTED.replace('"study"', '"partly"')
    everywhere = judged(results, partly.replace("up_to = true", "up_to = false"))
    assert (everywhere.verdict, everywhere.settings) == ("not tested", 2) and np.isnan(everywhere.value)
    assert everywhere.reason == "1 of 2 settings have no verdict; alpha iid: its simulation is not certified (baffle)"
    up_to = judged(results, partly)
    assert (up_to.verdict, up_to.setting, up_to.reason) == ("better", "alpha 0.1", "")


def test_a_claim_on_all_settings_is_decided_by_the_one_that_speaks_least_for_it(results: Path) -> None:
    noisy = judged(results, CONTRASTED.replace('"study"', '"noisy"').replace("up_to = true", "up_to = false"))
    assert (noisy.setting, noisy.verdict) == ("alpha 0.1", "inconclusive")
    low, high = noisy.interval
    assert low < 0 < noisy.value < high
    assert noisy.value > differences("iid").mean()
    assert judged(results, CONTRASTED.replace('"study"', '"noisy"')).setting == "alpha iid"


def test_no_bound_is_reached_by_too_few_seeds(results: Path) -> None:
    few = judged(results, CONTRASTED.replace('"study"', '"few"'))
    assert (few.verdict, few.reached, few.settings) == ("too few seeds", None, 2)


def test_settings_below_the_scale_of_a_claim_do_not_judge_it(results: Path) -> None:
    own = METERED.replace('"study"', '"sparse"')
    sparse = own.replace('["fedavg"]', '["fedavg_erk"]').replace('"baffle"', '"fedmef"')
    scaled = sparse.replace("over =", "at_least = { sparsity = 0.5 }\nover =")
    found = [judged(results, claims) for claims in (sparse, scaled)]
    assert [one.settings for one in found] == [2, 1] and found[1].setting.startswith("sparsity 0.9")


@pytest.mark.parametrize(
    ("claims", "old", "new", "sentence"),
    [
        (CONTRASTED, '"study"', '"studi"', '"accuracy": there is no study "studi", nor is it among'),
        (CONTRASTED, "against", "agains", '"accuracy": the matrix of study has no contrast "backpropagation agains'),
        (METERED, "device_bytes", "device_byte", '"memory": nothing is called "peak_device_byte". Did you mean'),
        (METERED, '"baffle"', '"bafle"', '"memory": there is no cell of study with'),
        (METERED, '"sparsity", ', '"sparsit", ', '"memory": nothing is called "sparsit". Did you mean "sparsity"'),
        (METERED, "peak_device_bytes", "test_accuracy", '"memory" is metered by test_accuracy, which has chance in it'),
        (METERED, "compare", "contrast", "metered.contrast: Extra inputs are not permitted"),
        (METERED, "[claim.metered]", "[claim.other]", "claim.0.other: Extra inputs are not permitted"),
        (CONTRASTED, "contrast =", "conditions =", '"accuracy" needs the name of a contrast, or a metered quantity'),
        (CONTRASTED + METERED, '"memory"', '"accuracy"', 'two claims are called "accuracy"'),
    ],
)  # fmt: skip
def test_a_wrong_claim_is_a_sentence(
    results: Path, claims: str, old: str, new: str, sentence: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=re.escape(sentence)):
        judged(results, claims.replace(old, new))
    assert main(["verdicts", "--results", str(results)]) == 1
    assert sentence in capsys.readouterr().err


def test_the_command_prints_verdicts_and_every_field(results: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (results / CLAIMS).write_text(CONTRASTED + METERED, encoding="utf-8")
    assert main(["verdicts", "--results", str(results)]) == 0
    printed = capsys.readouterr().out
    assert printed == claims_table(Archive(results))
    _, _, first, second = printed.splitlines()
    assert "| better; bound reached: within the interval |" in first and "points [" in first
    assert second.endswith("| [study](results/study/README.md); equal batches |")
    assert main(["verdicts", "memory", "--json", "--results", str(results)]) == 0
    (fields,) = json.loads(capsys.readouterr().out)
    assert (fields["name"], fields["verdict"], fields["bound"], fields["reason"]) == ("memory", "better", 2.0, None)
    assert main(["verdicts", "--csv", "--results", str(results)]) == 0
    table = pd.read_csv(io.StringIO(capsys.readouterr().out))
    assert list(table["name"]) == ["accuracy", "memory"] and table["measured"][1] == fields["measured"]
    assert main(["verdicts", "memori", "--results", str(results)]) == 1
    assert 'There is no claim "memori"' in capsys.readouterr().err


def test_a_claim_names_a_contrast_of_the_matrix_that_ships_for_its_study() -> None:
    for claim in read_claims(ROOT / "results").claim:
        matrix = ROOT / "bench" / "matrices" / f"{claim.study}.toml"
        if claim.contrast and matrix.is_file():
            stated = [one.name for one in contrasts(tomllib.loads(matrix.read_text(encoding="utf-8")))]
            assert claim.contrast in stated, (claim.name, stated)


def test_the_claims_of_the_readme_are_what_the_command_prints(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(ROOT)
    assert main(["verdicts"]) == 0
    printed = capsys.readouterr().out
    assert f"<!-- table: claims -->\n{printed}<!-- end of table -->\n" in (ROOT / "README.md").read_text("utf-8")
    assert printed.count("\n") - 2 <= 12
