"""What is said of the stages of a matrix as they are planned and begin."""

from __future__ import annotations

from pathlib import Path

from fedfore.display.output import complain
from fedfore.display.plan_lines import tuning_lines
from fedfore.display.progress import Display
from fedfore.errors import printable
from fedfore.execution.stages import StageProgress
from fedfore.execution.tuning import StagedPlan


def shown_stages(display: Display, run: Path) -> StageProgress:
    """Return what tells a display of the stages of a matrix that runs into a folder, and says how large each is."""
    plans: list[StagedPlan] = []

    def start(launched: int, kept: int, stale: int) -> None:
        there = f"{kept} already there{f', {stale} of them stale' if stale else ''}"
        complain(f"{len(plans[-1].cells)} cells planned, {there}, {launched} to run in {run}")
        if plans[-1].tuning is not None:
            complain("\n".join(printable(line) for line in tuning_lines(plans[-1])))
        display.start(launched)

    return StageProgress(start, display.done, lambda sentence: complain(f"fedfore: {sentence}"), plans.append)
