"""Submit partitions, collect what they report, until all are done, one stage following the other partition by partition.

A small window of tasks is in flight, so the scheduler's memory stays flat however many partitions there are, a stop is
soon done, and a killed worker takes few tasks with it. ``scores`` of a partition is submitted as soon as its ``cutouts``
end: both stages run side by side, on the same workers or on two pools of them.

Where not all pixels are stored (``Standing.streamed``), ``scores`` is given the future of ``cutouts``: Dask keeps the pixels
with the worker that cut, moves them to the one that scores, and has them cut again where they are lost; the driver never sees them.
A partition then holds memory from the beginning of its cutting to the end of its scoring, and counts as in flight all that time.
"""

import contextlib
import errno
import queue
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from survey_scan.cluster import pools
from survey_scan.cluster.connect import Cluster
from survey_scan.engine import tasks
from survey_scan.engine.events import Events
from survey_scan.engine.interrupt import Stop
from survey_scan.engine.progress import Progressing
from survey_scan.engine.state import Standing
from survey_scan.errors import Incomplete, Interrupted, ResourceError, ServiceError
from survey_scan.identity import digest
from survey_scan.layout import STAGES, RunDirectory, Stage
from survey_scan.watch.tally import Pool, Tally

if TYPE_CHECKING:
    from distributed import Client, Future

#: Tasks in flight for each worker thread: one runs, one waits, so that no worker idles between two.
WINDOW = 2

#: Seconds between two looks at which workers there are.
LOOK_SECONDS = 2.0

#: Seconds a stage may be without any worker before the scan counts as interrupted: a nanny makes a new one in less.
LOST_SECONDS = 60.0

#: Seconds before the end of an allocation at which nothing more is waited for: closing and requeueing take some.
CLOSING_SECONDS = 20.0

#: Without a warning from Slurm nothing is submitted in an allocation's last seconds: so many, or 1.2 of the slowest task.
LAST_SECONDS = 60.0

#: The disk is full, or the quota is: every other partition would fail in the same way.
FULL = (errno.ENOSPC, errno.EDQUOT)

_FUNCTIONS: dict[Stage, Callable[..., Any]] = {"cutouts": tasks.cutouts, "scores": tasks.scores}
_STREAMED: dict[Stage, Callable[..., Any]] = {"cutouts": tasks.hold, "scores": tasks.score_held}


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
    cluster : Cluster
        Where the tasks run.
    run : RunDirectory
        The planned run, whose store exists.
    standing : Standing
        What is to do.
    retries : int
        How often a task that raised is tried again.
    service : int
        How many requests of a cutout service a target takes; 0 without one. With one, a single partition is cut at a time,
        so that the rate of its requests is that of the whole scan; a service that refuses is not asked again by trying the
        partition again; and a stop does not wait for a partition that may take hours, since what came is kept.
    progress, events, tally, stop
        Told of, or asked about, each task.
    publish : callable
        Called about once a second.
    """

    cluster: Cluster
    run: RunDirectory
    standing: Standing
    retries: int
    service: int
    progress: Progressing
    events: Events
    tally: Tally
    stop: Stop
    publish: Callable[[], None] = field(default=lambda: None)

    def __post_init__(self) -> None:
        todo = self.standing.todo
        self._client: Client = self.cluster.client
        self._cutouts = deque(sorted(todo["cutouts"]))
        self._scores = deque(p for p in sorted(todo["scores"]) if p not in todo["cutouts"])
        self._flying: dict[str, tuple[Stage, int, Future]] = {}
        self._held: dict[int, Future] = {}
        self._ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
        # The last task of each stage that ended: Dask forgets a stage of which it knows no task, and keeps a span for each anew.
        self._last: dict[Stage, Future] = {}
        self._slowest = 0.0
        self._end, self._stopping = self.cluster.end, False
        self._pools = pools.find(self._client)
        self._looked = self._manned = self._counted = time.monotonic()
        self.failures: list[Failure] = []
        self._tell_pools()

    def go(self) -> None:
        """Do all partitions that can be done.

        Raises
        ------
        Interrupted
            If a signal came, the allocation ends, or the workers are gone.
        Incomplete
            If the disk is full. Partitions that fail for themselves are in ``failures`` and stop nothing else.
        """
        with self.stop.graceful():
            self._fill()
            while self._flying and not self._leave_downloads():
                try:
                    future = self._ended.get(timeout=1.0)
                except queue.Empty:
                    self.progress.tick()
                else:
                    self._collect(future)
                self._look()
                self._count_downloads()
                self.publish()
                self._fill()
        self._last.clear()
        self.stop.raise_if_requested()

    def _fill(self) -> None:
        """Submit until the windows are full, scores first: they are what the device waits for."""
        waiting: dict[Stage, deque[int]] = {"scores": self._scores, "cutouts": self._cutouts}
        flying = dict.fromkeys(STAGES, 0)
        for stage, _, _ in self._flying.values():
            flying[stage] += 1
        for stage, partitions in waiting.items():
            # what is cut and held only in memory is finished, also when a stop was asked for
            while partitions and (not self.stop.requested or partitions[0] in self._held):
                taken = sum(flying.values()) if self._pools.shared else flying[stage]
                if stage == "cutouts" and len(self._held) >= self._pools.held(WINDOW):
                    break
                if self.service and stage == "cutouts" and flying[stage]:
                    break
                if taken >= WINDOW * max(self._pools.threads[stage], 1):
                    break
                self._submit(stage, partitions.popleft())
                flying[stage] += 1

    def _submit(self, stage: Stage, partition: int) -> None:
        name = f"{stage}-{partition:05d}-{digest([str(self.run), id(self)])[:8]}"
        keys = self.standing.keys
        future = self._client.submit(
            (_STREAMED if self.standing.streamed else _FUNCTIONS)[stage],
            str(self.run),
            partition,
            {s: keys[s][partition] for s in STAGES} if self.standing.streamed else keys[stage][partition],
            *([self._held[partition]] if stage == "scores" and partition in self._held else []),
            key=name,
            pure=False,
            retries=0 if self.service and stage == "cutouts" else self.retries,
            priority=1 if stage == "scores" else 0,
            resources=self._pools.demand(stage),
        )
        self._flying[name] = (stage, partition, future)
        if self.standing.streamed and stage == "cutouts":
            self._held[partition] = future
        self.progress.started(stage)
        self.tally.submitted(stage, partition)
        future.add_done_callback(self._ended.put)

    def _collect(self, future: "Future") -> None:
        name = str(future.key)
        stage, partition, _ = self._flying[name]
        if self.standing.streamed and stage == "cutouts" and future.status not in ("error", "cancelled"):
            del self._flying[name]
            self.tally.handed(stage, partition)
            self._scores.append(partition)
            return
        found, error = self._reported(future)
        del self._flying[name]
        self._last[stage] = future  # of streamed cutouts none: it would hold their pixels
        held = self._held.pop(partition, None)
        if held is not None:
            if (
                error is not None and stage == "scores" and held.status == "error"
            ):  # pixels were lost, and not cut again
                self.tally.handed(stage, partition)
                stage = "cutouts"
            held.release()
        if found is not None:
            ended: dict[Stage, dict[str, Any]] = found if self.standing.streamed else {stage: found}
            for one, facts in ended.items():
                self.events.write("finished", stage=one, partition=partition, **facts)
                self.progress.finished(one, facts["targets"])
                self.tally.finished(one, partition, facts)
            self._slowest = max(self._slowest, sum(facts["seconds"] for facts in ended.values()))
            if stage == "cutouts" and partition in self.standing.todo["scores"]:
                self._scores.append(partition)
            return
        assert error is not None
        reason = self._reason(stage, partition, error)
        self.events.write("failed", stage=stage, partition=partition, reason=reason)
        self.tally.failed(stage, partition, reason, both=self.standing.streamed)
        self.failures.append(Failure(stage, partition, reason))
        if isinstance(error, ServiceError):
            raise Incomplete(
                f"{reason}\nWhat came until then is kept. Run the same command again to resume, when that is mended."
            )
        if isinstance(error, OSError) and error.errno in FULL:
            raise Incomplete(
                f"{reason}. Free some space (or move run.directory) and run the same command again to resume."
            )

    def _reported(self, future: "Future") -> tuple[Any, BaseException | None]:
        """What a task returned, or raised.

        Where a worker died with a result nobody had read yet, that takes until Dask has made it again, if there is a worker.
        """
        while True:
            try:
                error = future.exception(timeout=LOOK_SECONDS)
                if future.status == "cancelled":
                    raise Interrupted("the Dask cluster went away; run the same command again to resume.")
                return (None if error is not None else future.result(timeout=LOOK_SECONDS)), error
            except TimeoutError:  # of waiting: what a task raised is returned
                self.progress.tick()
                self._look()
                self.publish()

    def _look(self) -> None:
        """See whether there are workers, and time, for what is in flight."""
        now = time.monotonic()
        if now - self._looked < LOOK_SECONDS:
            return
        self._looked = now
        if self._client.status not in ("running", "connecting"):
            raise Interrupted("lost the Dask scheduler; run the same command again to resume.")
        if why := self.cluster.lost():
            raise Interrupted(f"{why}; run the same command again to resume.")
        before, self._pools = self._pools, pools.find(self._client)
        if self._pools != before:
            self._tell_pools()
        unmanned = [s for s in self._stages_in_flight() if not self._pools.threads[s]]
        if not unmanned:
            self._manned = now
        elif now - self._manned > LOST_SECONDS:
            raise Interrupted(
                f"there has been no worker for {unmanned[0]} for {LOST_SECONDS:.0f} s; run the same command again to resume."
            )
        self._mind_the_end()

    def _leave_downloads(self) -> bool:
        """Whether a stop was asked for and all that is in flight is a partition that a service still sends."""
        if not (self.service and self.stop.requested) or self._stages_in_flight() != {"cutouts"}:
            return False
        for _, _, future in self._flying.values():
            future.cancel()
        return True

    def _count_downloads(self) -> None:
        """With a service a partition may take hours: say how far it is."""
        now = time.monotonic()
        if not self.service or now - self._counted < LOOK_SECONDS:
            return
        self._counted = now
        for stage, partition, _ in self._flying.values():
            if stage == "cutouts":
                there = sum(path.suffix != ".partial" for path in self.run.downloads(partition).glob("*"))
                self.progress.under_way(stage, there // self.service)

    def _mind_the_end(self) -> None:
        if self.stop.requested and not self._stopping:
            self._stopping = True
            self.tally.stopping(self.stop.requested)
            with contextlib.suppress(ResourceError):  # Slurm is busy: the end stays where it was
                self._end = self.cluster.end_now() or self._end
        if self._end is None:
            return
        left = self._end - time.time()
        if not self.stop.requested and left < max(LAST_SECONDS, 1.2 * self._slowest):
            self.stop.first("the end of the allocation")
        if self.stop.requested and left < CLOSING_SECONDS:
            raise Interrupted(
                f"stopped by {self.stop.requested}, with {len(self._held) or len(self._flying)} partitions unfinished; "
                "run the same command again to resume."
            )

    def _stages_in_flight(self) -> set[Stage]:
        return {stage for stage, _, _ in self._flying.values()}

    def _tell_pools(self) -> None:
        self.tally.pools({s: Pool(self._pools.workers[s], self._pools.threads[s], self._pools.shared) for s in STAGES})

    def _reason(self, stage: Stage, partition: int, error: BaseException) -> str:
        from distributed.scheduler import KilledWorker

        if isinstance(error, KilledWorker):
            return f"{stage} {partition:05d} killed its worker {error.allowed_failures + 1} times"
        if isinstance(error, ServiceError):
            return f"{stage} {partition:05d}: {error}"
        return f"{stage} {partition:05d}: {type(error).__name__}: {error}"
