"""Submit partitions, collect what they report, until all are done, one stage following the other partition by partition.

A small window of tasks is in flight, so the scheduler's memory stays flat however many partitions there are, a stop is
soon done, and a killed worker takes few tasks with it. ``scores`` of a partition is submitted as soon as its ``cutouts``
end: both stages run side by side.
"""

import errno
import queue
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from survey_scan.engine import tasks
from survey_scan.engine.events import Events
from survey_scan.engine.interrupt import Stop
from survey_scan.engine.progress import Progressing
from survey_scan.engine.state import Standing
from survey_scan.errors import Incomplete
from survey_scan.identity import digest
from survey_scan.layout import RunDirectory, Stage

if TYPE_CHECKING:
    from distributed import Client, Future

#: Tasks in flight for each worker thread: one runs, one waits, so that no worker idles between two.
WINDOW = 2

#: The disk is full, or the quota is: every other partition would fail in the same way.
FULL = (errno.ENOSPC, errno.EDQUOT)

_FUNCTIONS = {"cutouts": tasks.cutouts, "scores": tasks.scores}


@dataclass(frozen=True)
class Failure:
    """A partition that could not be done."""

    stage: Stage
    partition: int
    reason: str


@dataclass
class Scan:
    """The partitions of one start of a run.

    Parameters
    ----------
    client : Client
        Where the tasks run.
    run : RunDirectory
        The planned run, whose store exists.
    standing : Standing
        What is to do.
    retries : int
        How often a task that raised is tried again.
    progress, events, stop
        Told of, or asked about, each task.
    """

    client: "Client"
    run: RunDirectory
    standing: Standing
    retries: int
    progress: Progressing
    events: Events
    stop: Stop

    def __post_init__(self) -> None:
        todo = self.standing.todo
        self._cutouts = deque(sorted(todo["cutouts"]))
        self._scores = deque(p for p in sorted(todo["scores"]) if p not in todo["cutouts"])
        self._flying: dict[str, tuple[Stage, int, Future]] = {}
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        self.failures: list[Failure] = []

    def go(self) -> None:
        """Do all partitions that can be done.

        Raises
        ------
        Incomplete
            If a signal came, the disk is full, or the cluster is gone. Partitions that fail for themselves are in
            ``failures`` and stop nothing else.
        """
        with self.stop.graceful():
            self._fill()
            while self._flying:
                try:
                    future = self._ended.get(timeout=1.0)
                except queue.Empty:
                    self.progress.tick()
                    if self.client.status not in ("running", "connecting"):
                        raise Incomplete("lost the Dask scheduler; run the same command again to resume.") from None
                    continue
                self._collect(future)
                self._fill()
        self.stop.raise_if_requested()

    def _fill(self) -> None:
        """Submit until the window is full, scores first: they are what the device waits for."""
        threads = sum(self.client.nthreads().values()) if (self._cutouts or self._scores) else 0
        while len(self._flying) < WINDOW * max(threads, 1) and not self.stop.requested:
            if self._scores:
                self._submit("scores", self._scores.popleft())
            elif self._cutouts:
                self._submit("cutouts", self._cutouts.popleft())
            else:
                return

    def _submit(self, stage: Stage, partition: int) -> None:
        name = f"{stage}-{partition:05d}-{digest([str(self.run), id(self)])[:8]}"
        future = self.client.submit(
            _FUNCTIONS[stage],
            str(self.run),
            partition,
            self.standing.keys[stage][partition],
            key=name,
            pure=False,
            retries=self.retries,
            priority=1 if stage == "scores" else 0,
        )
        self._flying[name] = (stage, partition, future)
        self.progress.started(stage)
        future.add_done_callback(self._ended.put)

    def _collect(self, future: "Future") -> None:
        stage, partition, _ = self._flying.pop(str(future.key))
        # Both calls wait where a worker died with a result nobody had read yet, until Dask has made it again.
        error = future.exception()
        if future.status == "cancelled":
            raise Incomplete("the Dask cluster went away; run the same command again to resume.")
        if error is None:
            facts: dict[str, Any] = future.result()
            self.events.write("finished", stage=stage, partition=partition, **facts)
            self.progress.finished(stage, facts["targets"])
            if stage == "cutouts" and partition in self.standing.todo["scores"]:
                self._scores.append(partition)
            return
        reason = self._reason(stage, partition, error)
        self.events.write("failed", stage=stage, partition=partition, reason=reason)
        self.failures.append(Failure(stage, partition, reason))
        if isinstance(error, OSError) and error.errno in FULL:
            raise Incomplete(
                f"{reason}. Free some space (or move run.directory) and run the same command again to resume."
            )

    def _reason(self, stage: Stage, partition: int, error: BaseException) -> str:
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            return f"{stage} {partition:05d} killed its worker {error.allowed_failures + 1} times"
        return f"{stage} {partition:05d}: {type(error).__name__}: {error}"
