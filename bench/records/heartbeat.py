"""What a running cell says of itself to whoever looks from outside: how far it is, and how well it does. No torch."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from fedfore.records.run_folder import RECORD

HEARTBEAT = ".heartbeat.json"


@dataclass(frozen=True)
class Heartbeat:
    """The end of a step of an attempt: `progress` is the share of the budget that is spent, `began_at` that at which
    the attempt began or went on from a checkpoint, `paced_at` that from which its speed is told, which is that after
    the setup and the first round; times are those of `seconds_now`.
    """

    cell_id: str
    phase: str
    round: int
    progress: float
    began_at: float
    began_seconds: float
    paced_at: float
    paced_seconds: float
    seconds: float
    accuracy: float | None

    @property
    def seconds_left(self) -> float | None:
        """The seconds until the budget is spent, at the speed so far; None where nothing is known of it."""
        done = self.progress - self.paced_at
        return (1 - self.progress) * (self.seconds - self.paced_seconds) / done if done > 0 else None

    def seconds_left_at(self, now: float) -> float | None:
        """The seconds that are left at a later time than the heartbeat's, of `seconds_now`."""
        left = self.seconds_left
        return None if left is None else max(0.0, left - (now - self.seconds))


def seconds_now() -> float:
    """Return the seconds of the clock that heartbeats are stamped with, which all machines share."""
    return datetime.now(UTC).timestamp()


def write_heartbeat(folder: Path, beat: Heartbeat) -> None:
    """Leave a heartbeat in the folder of an attempt, if that can be done: nothing depends on it."""
    aside = folder / f"{HEARTBEAT}.{os.getpid()}"
    with suppress(OSError):
        aside.write_text(json.dumps(asdict(beat)), encoding="utf-8")
        aside.replace(folder / HEARTBEAT)


def read_heartbeat(folder: Path) -> Heartbeat | None:
    """Return the last heartbeat of the attempt in a folder, or None where there is none."""
    with suppress(OSError, ValueError, TypeError):
        return Heartbeat(**json.loads((folder / HEARTBEAT).read_text(encoding="utf-8")))
    return None


@dataclass(frozen=True)
class UnderWay:
    """An attempt that has no record yet; `beat` is None until its first step has ended."""

    cell_id: str
    beat: Heartbeat | None


def under_way(run: Path) -> list[UnderWay]:
    """Return the attempts under way in a run, by cell, and those that a process left which died.

    None where their folders cannot be read, as while they are cleared away.
    """
    with suppress(OSError):
        folders = sorted(run.glob("attempts/*/cells/*"), key=lambda folder: folder.name)
        return [UnderWay(one.name, read_heartbeat(one)) for one in folders if not (one / RECORD).exists()]
    return []
