"""The report of a run: one HTML file with everything in it, no network and no script needed to read it."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from fedfore.plots.fields import value_label
from fedfore.plots.figures import plan_figures
from fedfore.plots.findings import against_reference, findings
from fedfore.plots.footnotes import table_notes
from fedfore.plots.lines import damaged_files
from fedfore.plots.points import POINT, records
from fedfore.plots.study import Study, load_study
from fedfore.plots.style import themed
from fedfore.plots.tables.summary import mask_tables, presentable, summary
from fedfore.plots.view import Planned
from fedfore.plots.wording import DAGGER, UNKNOWN, axis_label, difference_text
from fedfore.records.metrics import METRICS
from fedfore.records.store import write_atomically


@dataclass(frozen=True)
class _Table:
    """A table of text."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class _Image:
    """A figure as the report holds it."""

    title: str
    caption: str
    alt_text: str
    source: str


def _embedded(planned: Planned) -> _Image:
    drawn = planned.draw()
    buffer = io.BytesIO()
    with themed():
        drawn.figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    source = f"data:image/svg+xml;base64,{base64.b64encode(buffer.getvalue()).decode()}"
    return _Image(planned.title, drawn.caption, drawn.alt_text, source)


def _results(study: Study) -> Iterator[_Table]:
    """Yield the summary of each (dataset, model), with the paired differences to dense FedAvg where there is one."""
    for (dataset, model), cells in study.by_setting():
        numbers = summary(cells)
        shown = presentable(numbers).drop(columns=["Dataset", "Model"])
        differences = [against_reference(study, point) for point in records(numbers[list(POINT)])]
        texts = [difference_text(difference) if difference else UNKNOWN for difference in differences]
        if study.reference and set(texts) != {UNKNOWN}:
            place = list(shown).index(axis_label(study.accuracy)) + 1
            shown.insert(place, f"Minus {study.reference.label}, points", texts)
        yield _Table(f"{dataset}, {model}", tuple(shown.columns), tuple(shown.itertuples(index=False, name=None)))


def _masks(study: Study) -> Iterator[_Table]:
    """Yield what is known of the masks of each (dataset, model)."""
    for shown in mask_tables(study):
        title = f"Masks: {shown['Dataset'].iloc[0]}, {shown['Model'].iloc[0]}"
        shown = shown.drop(columns=["Dataset", "Model"])
        yield _Table(title, tuple(shown.columns), tuple(shown.itertuples(index=False, name=None)))


def _not_ok(study: Study) -> _Table:
    """Return the planned cells without a result, one row a point, status and reason."""
    cells = study.cells[~study.cells["ok"]]
    keys = ["status", "reason", *POINT]
    groups = cells.assign(reason=cells["reason"].fillna("no reason recorded")).groupby(keys, observed=True)
    listed = groups.agg(
        seeds=("seed", lambda seeds: ", ".join(str(seed) for seed in sorted(seeds))),
        ids=("cell_id", lambda ids: " ".join(sorted(ids))),
    ).reset_index()
    rows = tuple(
        (
            row["status"].replace("_", " "),
            f"{row['dataset']}, {row['model']}",
            row["alpha"],
            row["series"],
            value_label(row["sparsity"]),
            row["seeds"],
            row["reason"],
            row["ids"],
        )
        for row in records(listed)
    )
    header = ("Status", "Dataset, model", "Clients' labels", "Method", "Sparsity", "Seeds", "Reason", "Cell ids")
    return _Table("Cells without a result", header, rows)


def _protocol(study: Study) -> _Table:
    """Return the training protocol; values in the order in which cells first show them."""
    columns = [name for name in map(str, study.cells) if name.startswith("train.")]
    rows = []
    for name in columns:
        values = [value_label(value) for value in study.cells[name].dropna().unique().tolist()]
        if values:
            rows.append((name.removeprefix("train.").replace("_", " "), ", ".join(values)))
    return _Table("Protocol", ("Setting", "Value"), tuple(rows))


def _environments(study: Study) -> _Table:
    ran = study.cells.get("environment", pd.Series(dtype=object)).value_counts()
    rows = []
    for name, values in study.run.environments().items():
        packages = ", ".join(
            f"{package} {version}" for package, version in values.get("packages", {}).items() if version
        )
        machine = ", ".join(str(values[key]) for key in ("processor", "platform") if values.get(key))
        rows.append((name, str(ran.get(name, 0)), str(values.get("python", "")), packages, machine))
    return _Table("Environments", ("Environment", "Cells", "Python", "Packages", "Machine"), tuple(rows))


def _values(study: Study, column: str) -> list[str]:
    """Return the distinct values of a column of the records, sorted."""
    return sorted(study.cells[column].dropna().astype(str).unique()) if column in study.cells else []


def _uncounted(study: Study) -> list[tuple[str, str]]:
    """Return per method the operations that no FLOP counter knew."""
    if "uncounted_ops" not in study.ok:
        return []
    known = study.ok[["method", "uncounted_ops"]].dropna().drop_duplicates()
    return [(study.looks[row["method"]].label, row["uncounted_ops"]) for row in records(known) if row["uncounted_ops"]]


def _counts(study: Study) -> str:
    counts = study.cells["status"].value_counts()
    others = ", ".join(f"{n} {str(name).replace('_', ' ')}" for name, n in sorted(counts.items()) if name != "ok")
    return f"{counts.get('ok', 0)} of {len(study.cells)} planned cells finished" + (f" ({others})." if others else ".")


def write_report(run: Path) -> Path:
    """Write RUN/report.html and return its path; a run without an ok cell gets a report of what went wrong.

    The same records give the same bytes. Raises StoreError for a run that cannot be read.
    """
    study = load_study(run)
    started = _values(study, "started_utc")
    measured = [row for row in METRICS.values() if study.ok[row.name].notna().any()]
    page = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    ).get_template("report.html.j2")
    html = page.render(
        name=run.resolve().name,
        counts=_counts(study),
        methods=[one.label for one in study.looks.values()],
        datasets=list(dict.fromkeys(study.cells["dataset"])),
        models=list(dict.fromkeys(study.cells["model"])),
        seeds=study.cells["seed"].nunique(),
        started=" to ".join(dict.fromkeys([started[0], started[-1]])) if started else "",
        findings=findings(study),
        tuned=(*study.tuned, *study.left_out),
        results=list(_results(study)),
        footnotes=table_notes(study.cells),
        masks=list(_masks(study)),
        trained=bool(study.ok["trained"].any()),
        images=[_embedded(planned) for planned in plan_figures(study)],
        protocol=_protocol(study),
        not_ok=_not_ok(study),
        damaged=damaged_files(study.run),
        stale=int((study.ok["stale"]).sum()),
        dagger=DAGGER,
        metrics=measured,
        uncounted=_uncounted(study),
        environments=_environments(study),
        commits=_values(study, "git_commit"),
        command="\n".join(study.run.commands()),
    )
    path = run / "report.html"
    write_atomically(path, html)
    return path
