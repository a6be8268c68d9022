"""How cells ended: those without a result, with links to what they left, and the machines that computed the others."""

from __future__ import annotations

from urllib.parse import quote

from fedfore.plots.fields import value_label
from fedfore.plots.points import POINT
from fedfore.plots.report.folded import Link, Table
from fedfore.plots.study import Study
from fedfore.records.run_folder import cell_dir


def unfinished(study: Study) -> Table:
    """Return the planned cells without a result, a row a point, status and reason; ids lead to what the cells left."""
    cells = study.cells[~study.cells["ok"]].fillna({"reason": "no reason recorded"})
    keys = ["status", "reason", *POINT]
    rows = []
    for key, own in cells.groupby(keys, observed=True):
        point = dict(zip(keys, key, strict=True))
        rows.append(
            (
                str(point["status"]).replace("_", " "),
                f"{point['dataset']}, {point['model']}, {point['alpha']}",
                f"{point['series']}, sparsity {value_label(point['sparsity'])}",
                ", ".join(map(str, sorted(own["seed"]))),
                str(point["reason"]),
                tuple(_left(study, cell_id) for cell_id in sorted(own["cell_id"])),
            )
        )
    return Table("By setting and reason", ("Status", "Setting", "Method", "Seeds", "Reason", "Cells"), tuple(rows))


def _left(study: Study, cell_id: str) -> Link:
    """Return a cell's id, which leads to its traceback or to its folder where they lie beside the report."""
    folder = cell_dir(study.run.path, cell_id)
    left = next((path for path in (folder / "traceback.txt", folder) if path.exists()), None)
    return Link(cell_id, quote(left.relative_to(study.run.path).as_posix()) if left else "")


def environments(study: Study) -> Table:
    """Return the environments, with how many cells ran in each."""
    ran = study.cells["environment"].value_counts()
    rows = []
    for name, found in study.run.environments().items():
        packages = [f"{package} {version}" for package, version in found.get("packages", {}).items() if version]
        machine = [str(found[key]) for key in ("processor", "platform") if found.get(key)]
        rows.append(
            (name, str(ran.get(name, 0)), str(found.get("python", "")), ", ".join(packages), ", ".join(machine))
        )
    return Table("Environments", ("Environment", "Cells", "Python", "Packages", "Machine"), tuple(rows))
