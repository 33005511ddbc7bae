"""Counts and sums of one stage while it runs."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from survey_scan.watch.meter import Recent

#: Slowest partitions of a stage that are kept.
SLOWEST = 5


@dataclass(frozen=True)
class StageCount:
    """How much there is of a stage, and what was done of it before this start.

    Parameters
    ----------
    partitions, targets : int
        All of the plan.
    partitions_done, targets_done : int
        Those finished before this start.
    status : mapping
        Targets finished before this start by status code.
    logits : mapping
        Logits of before this start by bin, as :func:`survey_scan.watch.bins.count` counts them.
    """

    partitions: int
    partitions_done: int
    targets: int
    targets_done: int
    status: Mapping[Any, int] = field(default_factory=dict)
    logits: Mapping[str, int] = field(default_factory=dict)


class Stage:
    """What happened to the partitions of a stage in this start.

    Parameters
    ----------
    count : StageCount
        How much there is of it.
    """

    def __init__(self, count: StageCount):
        self.count = count
        self.finished = self.failed = self.lost = self.targets = 0
        self.seconds = self.device_seconds = 0.0
        self.ended: float | None = None
        self.recent: Recent | None = None
        self.flying: set[int] = set()
        self.slowest: list[dict[str, Any]] = []

    @property
    def left(self) -> int:
        """Partitions that can still be done in this start."""
        return self.count.partitions - self.count.partitions_done - self.finished - self.failed - self.lost

    @property
    def targets_left(self) -> float:
        """Targets of these; those of failed partitions are taken to be as many as in the others."""
        open_partitions = self.left + self.failed + self.lost
        share = self.left / open_partitions if open_partitions else 0.0
        return share * (self.count.targets - self.count.targets_done - self.targets)

    def submitted(self, partition: int, now: float) -> None:
        """A partition was handed to Dask; the first one starts the clock."""
        self.recent = self.recent or Recent(now, self.sums())
        self.flying.add(partition)

    def finished_one(self, name: str, partition: int, facts: Mapping[str, Any]) -> None:
        """Add what a finished partition reports."""
        self.finished += 1
        self.targets += int(facts["targets"])
        self.seconds += float(facts["seconds"])
        self.device_seconds += float(facts.get("device_seconds") or 0.0)
        slow = {"stage": name, "partition": partition, "seconds": float(facts["seconds"]), "host": facts.get("host")}
        self.slowest.append({**slow, "targets": int(facts["targets"])})
        self.slowest = sorted(self.slowest, key=lambda one: -one["seconds"])[:SLOWEST]

    def sums(self) -> tuple[float, ...]:
        """Partitions, targets, seconds and device seconds of what is finished."""
        return self.finished, self.targets, self.seconds, self.device_seconds

    def growth(self, now: float) -> tuple[float, list[float]]:
        """Seconds that count as lately, up to the end of the stage, and the growth of :meth:`sums` in them."""
        if self.recent is None:
            return 0.0, [0.0] * 4
        return self.recent.growth(min(now, self.ended or now), self.sums())

    def rate(self, now: float) -> float | None:
        """Targets/s lately."""
        seconds, (_, targets, *_) = self.growth(now)
        return targets / seconds if targets and seconds > 0 else None

    def describe(self, now: float) -> dict[str, Any]:
        """The part of a snapshot that is this stage's."""
        rate, left = self.rate(now), self.targets_left
        return {
            "partitions": self.count.partitions,
            "partitions_done": self.count.partitions_done + self.finished,
            "running": len(self.flying),
            "targets": self.count.targets,
            "done": self.count.targets_done + self.targets,
            "rate": rate,
            "eta": now + left / rate if rate and left > 0 else None,
        }
