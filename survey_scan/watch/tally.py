"""What the driver knows of a scan while it runs: fed with facts, asked for a snapshot.

A snapshot is a small dict that JSON and msgpack can carry. What is kept does not grow with the partitions that pass.

::

    run, name, state, stage, stopping      state is running, stopping, complete or incomplete
    started, now, walltime_end, eta        seconds since 1970, or null; eta is of both stages
    in_time                                whether eta is before walltime_end; null if either is unknown
    driver, dashboard, targets
    stages    cutouts, scores: partitions, partitions_done, running (submitted and not ended), targets, done,
              rate (targets/s lately, or null), eta
    pools     cutouts, scores: workers, threads, shared, device, busy, busy_whole (shares, or null)
    gpu_idle  share of the GPUs' time, lately; null without GPUs
    verdict   a sentence or null
    flagged, flagged_fraction              by status code as text; of all targets cut so far
    slowest   stage, partition, seconds, host, targets: five a stage, of this start
    histogram edges, counts: of all logits so far
    failures, n_failures                   stage, partition, reason: the last ten; how many in this start

``busy`` is measured over the last ten minutes in which the pool existed and its stage had partitions left to do
(further back where fewer than eight partitions ended in them), ``busy_whole`` since the pool came to be. For a pool of
GPUs both are the share of its devices' time (one device a worker) in which a task held the device; for others the share
of its threads' time spent in tasks. A pool that has nothing to do although its stage is not finished, because the other
stage has not come that far, is idle; a pool whose stage is finished is not measured any more. What tasks still in
flight have used is estimated from when a thread was free for them. Where one pool does both stages, a stage's ``busy`` is
the share of all the threads' time spent on it, and what is left over is idle.
"""

import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from survey_scan.layout import STAGES
from survey_scan.schema import Status
from survey_scan.watch import bins
from survey_scan.watch.meter import Meter
from survey_scan.watch.stage import Stage, StageCount
from survey_scan.watch.verdict import Use, verdict

#: Failures that are kept.
FAILURES = 10

#: Seconds after which the driver of a snapshot is taken to be silent.
STALE_SECONDS = 30.0

#: What a worker without a GPU calls its device.
CPU = "CPU"


@dataclass(frozen=True)
class Pool:
    """Workers that do a stage.

    Parameters
    ----------
    workers, threads : int
        How many, and how many threads they have together; a worker has at most one device.
    shared : bool
        Whether the same workers do the other stage too.
    device : str or None
        Name of their GPUs, ``CPU``, or None if not known yet: scores say it when they end.
    """

    workers: int
    threads: int
    shared: bool = False
    device: str | None = None


class Tally:
    """Counts what a driver is told by its tasks; one thread calls it.

    Parameters
    ----------
    run_name, run_path : str
        The run's name and its directory.
    stages : dict
        ``cutouts`` and ``scores`` → :class:`StageCount`; empty as long as there is no plan (:meth:`planned`).
    targets : int or None
        Of the plan.
    driver : dict
        Who drives the run, as in run.lock: host, pid, slurm_job, since.
    dashboard : str or None
        Address of the Dask dashboard.
    walltime_end : float or None
        When the allocation ends, seconds since 1970.
    now : callable
        The clock.
    """

    def __init__(
        self,
        run_name: str,
        run_path: str,
        stages: Mapping[str, StageCount],
        targets: int | None,
        driver: Mapping[str, Any],
        dashboard: str | None,
        walltime_end: float | None,
        now: Callable[[], float] = time.time,
    ):
        self._now, self._time = now, now()
        self._walltime_end = walltime_end
        self._facts = {
            "run": run_path,
            "name": run_name,
            "started": self._time,
            "driver": dict(driver),
            "dashboard": dashboard,
            "walltime_end": walltime_end,
        }
        self._stage, self._stopping = "plan", None  # type: tuple[str, str | None]
        self._pools: dict[str, Pool] = {}
        self._shared = False
        self._meters: dict[str, Meter] = {}
        self._device: str | None = None
        self._handed: set[tuple[str, int]] = set()
        self._failures: deque[dict[str, Any]] = deque(maxlen=FAILURES)
        self._n_failures = 0
        self._said: str | None = None
        self.planned(stages, targets)

    def planned(self, stages: Mapping[str, StageCount], targets: int | None) -> None:
        """There is a plan: how much of each stage there is, and is done."""
        self._targets = targets
        self._stages = {name: Stage(count) for name, count in stages.items()}
        self._status: Counter[int] = Counter()
        self._logits: Counter[str] = Counter()
        for name, count in stages.items():
            self._count_status(name, count.status)
            self._logits.update(count.logits)

    def pools(self, pools: Mapping[str, Pool]) -> None:
        """The workers there are now; called whenever they change."""
        now = self._advance()
        shared = any(pool.shared for pool in pools.values())
        same = self._shared == shared and set(self._pools) == set(pools)
        self._pools, self._shared = dict(pools), shared
        if same:
            for stage, meter in self._meters.items():
                meter.resize(pools[stage].workers, pools[stage].threads)
            return
        flying = [task for meter in set(self._meters.values()) for task in meter.tasks]
        self._meters = {stage: Meter(now, pool.workers, pool.threads) for stage, pool in pools.items()}
        if shared:
            self._meters = dict.fromkeys(pools, self._meters["scores"])
        for task in flying:
            if task[0] in self._meters:
                self._meters[task[0]].submitted(task)

    def submitted(self, stage: str, partition: int) -> None:
        """A partition was handed to Dask."""
        self._stages[stage].submitted(partition, self._advance())
        if stage in self._meters:
            self._meters[stage].submitted((stage, partition))

    def finished(self, stage: str, partition: int, facts: Mapping[str, Any]) -> None:
        """A partition is finished.

        Parameters
        ----------
        stage, partition
            Which.
        facts : mapping
            ``targets``, ``status`` (code → n), ``seconds``, ``host``; of scores also ``device_seconds``, ``device``,
            ``logits`` (bin → n) where it has them.
        """
        now = self._advance()
        self._stages[stage].finished_one(stage, partition, facts)
        self._count_status(stage, facts["status"])
        self._logits.update(facts.get("logits") or {})
        self._device = facts.get("device") or self._device
        self._ended(stage, partition, now, float(facts["seconds"]), float(facts.get("device_seconds") or 0.0))

    def handed(self, stage: str, partition: int) -> None:
        """A task ended whose facts come later, with those of the task it handed its result to: it needs its thread no more."""
        self._ended(stage, partition, self._advance(), None, 0.0)
        self._handed.add((stage, partition))

    def failed(self, stage: str, partition: int, reason: str, both: bool = False) -> None:
        """A partition could not be done; without cutouts it gets no scores either, and if ``both``, the other way round."""
        now = self._advance()
        self._stages[stage].failed += 1
        other = "scores" if stage == "cutouts" else "cutouts"
        if (stage == "cutouts" or both) and other in self._stages:
            self._stages[other].lost += 1
        self._n_failures += 1
        self._failures.append({"stage": stage, "partition": partition, "reason": reason})
        self._ended(stage, partition, now, None, 0.0)

    def stopping(self, why: str) -> None:
        """Nothing new is submitted from now on; what is in flight is waited for."""
        self._stopping = why

    def stage(self, name: str) -> None:
        """The run is at ``plan``, ``scan`` or ``rank``, or has ended ``complete`` or ``incomplete``."""
        self._stage = name

    def snapshot(self) -> dict[str, Any]:
        """All there is to show now; see the module."""
        now = self._advance()
        eta = self._eta(now)
        end = self._walltime_end
        flagged = {str(code): n for code, n in sorted(self._status.items()) if n and code != Status.OK}
        seen = sum(n for code, n in self._status.items() if code != Status.NOT_FINITE)
        ended = self._stage in ("complete", "incomplete")
        busy = self._meters["scores"].device_busy() if self._gpu and "scores" in self._meters else None
        return {
            **self._facts,
            "state": self._stage if ended else "stopping" if self._stopping else "running",
            "stage": self._stage,
            "stopping": self._stopping,
            "now": now,
            "targets": self._targets,
            "stages": {name: stage.describe(now) for name, stage in self._stages.items()},
            "eta": eta,
            "in_time": None if eta is None or end is None else eta <= end,
            "pools": {stage: self._use(stage) for stage in self._pools},
            "gpu_idle": None if busy is None else 1 - busy,
            "verdict": self._verdict(now),
            "flagged": flagged,
            "flagged_fraction": sum(flagged.values()) / seen if seen else None,
            "slowest": [one for stage in self._stages.values() for one in stage.slowest],
            "histogram": {
                "edges": bins.EDGES.tolist(),
                "counts": [self._logits[str(i)] for i in range(len(bins.EDGES) - 1)],
            },
            "failures": list(self._failures),
            "n_failures": self._n_failures,
        }

    @property
    def _gpu(self) -> bool:
        pool = self._pools.get("scores")
        return ((pool and pool.device) or self._device or CPU) != CPU

    def _advance(self) -> float:
        """Let time pass for all that measure it."""
        now = self._time = max(self._now(), self._time)  # a clock that is set back must not take anything back
        for meter in set(self._meters.values()):
            its = [
                self._stages[name] for name, other in self._meters.items() if other is meter and name in self._stages
            ]
            meter.advance(now, any(stage.left > 0 for stage in its))
        for stage in self._stages.values():
            if stage.recent is not None and stage.left > 0:
                stage.recent.mark(now, stage.sums())
        return now

    def _ended(self, stage: str, partition: int, now: float, seconds: float | None, device_seconds: float) -> None:
        self._stages[stage].flying.discard(partition)
        if (stage, partition) in self._handed:
            self._handed.discard((stage, partition))
        elif stage in self._meters:
            self._meters[stage].ended((stage, partition), seconds, device_seconds)
        for one in self._stages.values():
            if one.left <= 0 and one.ended is None:
                one.ended = now

    def _count_status(self, stage: str, status: Mapping[Any, int]) -> None:
        """Of scores only what the network refused: every other status is that of the cutout, counted there."""
        for code, n in status.items():
            if stage == "cutouts" or int(code) == Status.NOT_FINITE:
                self._status[int(code)] += n

    def _eta(self, now: float) -> float | None:
        """When both stages end: the later of two pools; of one pool the sum of what it has left to do of each."""
        open_stages = [stage for stage in self._stages.values() if stage.left > 0]
        if not open_stages or self._stage in ("complete", "incomplete"):
            return None
        waits: list[float] = []
        for stage in open_stages:
            _, (_, targets, seconds, _) = stage.growth(now)
            rate = stage.rate(now)
            if not targets or not rate:
                return None
            threads = self._pools["scores"].threads if self._shared else 0
            waits.append(stage.targets_left * seconds / targets / threads if threads else stage.targets_left / rate)
        return now + (sum(waits) if self._shared else max(waits))

    def _use(self, stage: str) -> dict[str, Any]:
        pool, meter = self._pools[stage], self._meters[stage]
        by_device = stage == "scores" and self._gpu and not self._shared
        busy = [meter.device_busy(whole) if by_device else meter.busy(stage, whole) for whole in (False, True)]
        return {
            "workers": pool.workers,
            "threads": pool.threads,
            "shared": pool.shared,
            "device": pool.device or (self._device if stage == "scores" else CPU),
            "busy": busy[0],
            "busy_whole": busy[1],
        }

    def _verdict(self, now: float) -> str | None:
        if set(self._pools) != set(STAGES) or set(self._stages) != set(STAGES):
            return None
        uses = {}
        for name, stage in self._stages.items():
            pool, meter = self._pools[name], self._meters[name]
            _, (_, targets, seconds, device) = stage.growth(now)
            uses[name] = Use(
                workers=pool.workers,
                threads=pool.threads,
                finished=stage.finished,
                targets=targets,
                seconds=seconds,
                device_seconds=device,
                left=stage.left > 0,
                busy=meter.busy(name),
                device_busy=meter.device_busy(),
                gpu=self._gpu,
            )
        found = verdict(uses["cutouts"], uses["scores"], self._shared)
        if found is not None or all(use.left for use in uses.values()):
            self._said = found
        return self._said  # when a stage has ended, what was said last stands: it is of use for the next start
