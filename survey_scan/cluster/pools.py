"""Which workers of a running cluster do which stage."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from survey_scan.layout import STAGES, Stage

if TYPE_CHECKING:
    from distributed import Client


@dataclass(frozen=True)
class Pools:
    """Workers and threads by stage, as they are now.

    Parameters
    ----------
    workers, threads : dict
        By stage.
    memory : dict
        Bytes of the smallest worker by stage; None where there is no limit.
    shared : bool
        Whether the same workers do both stages.
    """

    workers: dict[Stage, int]
    threads: dict[Stage, int]
    memory: dict[Stage, int | None]
    shared: bool

    def demand(self, stage: Stage) -> dict[str, int] | None:
        """What Dask is told a task of this stage needs, so that a worker of its pool gets it.

        Such a task is not queued by Dask but handed to a worker at once; with a few in flight that does no harm.
        """
        return None if self.shared else {stage: 1}

    def held(self, window: int) -> int:
        """Partitions whose pixels may be in memory at a time, where they go through it: ``window`` a thread."""
        return window * max(self.threads["scores"] + (0 if self.shared else self.threads["cutouts"]), 1)

    def held_by_one(self, window: int) -> dict[Stage, int]:
        """How many of these one worker holds by stage: those that it cut, those that it is to score."""
        if self.shared:
            one = window * self._threads_of_one("scores")
            return {"cutouts": one, "scores": one}
        return {
            "cutouts": -(-self.held(window) // max(self.workers["cutouts"], 1)),
            "scores": window * self._threads_of_one("scores"),
        }

    def _threads_of_one(self, stage: Stage) -> int:
        return -(-self.threads[stage] // max(self.workers[stage], 1))


def find(client: "Client") -> Pools:
    """The pools of a cluster: by the abstract resources ``cutouts`` and ``scores`` of its workers, if any has one."""
    there = list(client.scheduler_info(n_workers=-1)["workers"].values())
    shared = not any(stage in info["resources"] for info in there for stage in STAGES)
    of = {stage: [info for info in there if shared or stage in info["resources"]] for stage in STAGES}
    limits = {stage: [info["memory_limit"] for info in its if info["memory_limit"]] for stage, its in of.items()}
    return Pools(
        workers={stage: len(its) for stage, its in of.items()},
        threads={stage: sum(info["nthreads"] for info in its) for stage, its in of.items()},
        memory={stage: min(its, default=None) for stage, its in limits.items()},
        shared=shared,
    )
