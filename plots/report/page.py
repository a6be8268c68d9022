"""The report of a run, put together: one HTML file with everything in it, which asks for nothing outside."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import quote

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template

from fedfore.plots.figures import plan_figures
from fedfore.plots.findings import answer, findings
from fedfore.plots.lines import damaged_files
from fedfore.plots.report.current import REPORT
from fedfore.plots.report.endings import environments, unfinished
from fedfore.plots.report.facts import facts, matrix_of, recorded
from fedfore.plots.report.folded import Table
from fedfore.plots.report.pictures import pictures
from fedfore.plots.report.results import results
from fedfore.plots.report.settings import settings_tables, tuning_table
from fedfore.plots.sentences.ranks import rankings
from fedfore.plots.study import Study, load_study
from fedfore.plots.tables.masks import mask_tables
from fedfore.records.metrics import METRICS
from fedfore.records.store import Run, write_atomically


def write_report(run: Path | Run) -> Path:
    """Write RUN/report.html and return its path; a run without an ok cell gets a report of what went wrong.

    The same records give the same bytes. Raises StoreError for a run that cannot be read.
    """
    study = load_study(run)
    path = study.run.path / REPORT
    write_atomically(path, _page(study))
    return path


@cache
def _template() -> Template:
    templates = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    templates.filters["quoted"] = quote
    return templates.get_template("page.html.j2")


def _page(study: Study) -> str:
    table = results(study)
    matrix = matrix_of(study.run)
    ranked = rankings(study)
    return _template().render(
        facts=facts(study, matrix),
        finished=bool(study.cells["ok"].any()),
        answer=answer(study, ranked),
        findings=findings(study, ranked),
        trained=bool(study.ok["trained"].any()),
        results=table,
        stale=int(study.ok["stale"].sum()),
        pictures=pictures(plan_figures(study)),
        masks=list(_masks(study)),
        settings=list(settings_tables(study)),
        tuned=study.tuned,
        choices=tuning_table(study),
        matrix=matrix,
        unfinished=unfinished(study),
        is_published=study.run.is_published,
        damaged=damaged_files(study.run),
        environments=environments(study),
        commits=recorded(study, "git_commit"),
        commands=study.run.commands(),
        metrics=[METRICS[column.name] for column in table.columns if column.name in METRICS],
    )


def _masks(study: Study) -> Iterator[Table]:
    """Yield what is known of the masks of each data set and model."""
    for shown in mask_tables(study):
        caption = f"Masks: {shown['Dataset'].iloc[0]}, {shown['Model'].iloc[0]}"
        texts = shown[["Method", *(name for name in shown if name not in ("Dataset", "Model", "Method"))]]
        yield Table(caption, tuple(map(str, texts)), tuple(texts.itertuples(index=False, name=None)))
