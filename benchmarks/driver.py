"""What driver and scheduler take for very many partitions: memory and time, with tasks that do nothing.

    python benchmarks/driver.py [--partitions N] [--middle N] [--small N] [--repeats N] [--window-free N] [--tiles N] [--keep]

80,000 partitions of two stages are scanned by ``pipeline.scan``, the scan itself, on a scheduler and two workers in
processes of their own; the tasks write a record, not flushed, and report what real ones report. Before and after it,
scans of 1,000 partitions on the same cluster (one more before, not counted, to warm it), and after it one of 10,000.

* ``us_a_partition``: of both stages, from the first submission to the last result (``Scan.go``): on the clock, and
  of processor time of driver and scheduler; ``large_over_small`` are its ratios, to the median of the small scans.
* ``curve``: the same against the number of partitions, processor time only; ``growth_curve_mb`` likewise.
* ``growth_mb``: most resident memory of driver and scheduler in each phase less that before the large run: finding out
  what there is to do (``standing``), ``scan``, its closing with Dask's report (``report``), and finding out what was
  done (``after``).
* ``bare``, the limit: the same tasks in the same window through ``Client.submit`` and ``as_completed``, and no more than that.
* ``at_once``, the peer: all futures at once, those of one stage waiting for the other's (``--window-free`` partitions), on a
  scheduler of its own.

Prints JSON. Takes ten milliseconds a partition on an idle machine.
"""

import argparse
import contextlib
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import kept
import large_run
import psutil
from distributed import Client, as_completed

from survey_scan.cluster.connect import Cluster, connect
from survey_scan.cluster.profile import Scheduler
from survey_scan.config import Resources
from survey_scan.engine import interrupt, pipeline, state
from survey_scan.engine import scan as scanning
from survey_scan.engine.events import Events
from survey_scan.engine.watching import Watching
from survey_scan.layout import STAGES, RunDirectory

FUNCTIONS = {"cutouts": large_run.cut, "scores": large_run.score}


class Watch:
    """Most resident memory of two processes by phase, looked at five times a second, and their processor time."""

    def __init__(self, scheduler: int):
        self._processes = {"driver": psutil.Process(), "scheduler": psutil.Process(scheduler)}
        self._phase, self.peaks = "before", dict[str, dict[str, int]]()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def phase(self, name: str) -> None:
        """What comes now."""
        self._look()
        self._phase = name
        self._look()

    def stop(self) -> None:
        """Look for the last time."""
        self._look()
        self._done.set()
        self._thread.join()

    def cpu(self) -> float:
        """Seconds of both until now."""
        return sum(sum(process.cpu_times()[:2]) for process in self._processes.values())

    def growth(self) -> dict[str, dict[str, float]]:
        """MB more than before, by phase."""
        first = self.peaks["before"]
        grown = {
            phase: {name: (peak - first[name]) / 1e6 for name, peak in peaks.items()}
            for phase, peaks in self.peaks.items()
            if phase != "before"
        }
        return {phase: {name: round(mb, 1) for name, mb in one.items()} for phase, one in grown.items()}

    def _look(self) -> None:
        peaks = self.peaks.setdefault(self._phase, dict.fromkeys(self._processes, 0))
        for name, process in self._processes.items():
            peaks[name] = max(peaks[name], process.memory_info().rss)

    def _run(self) -> None:
        while not self._done.wait(0.2):
            self._look()


@contextlib.contextmanager
def cluster(folder: Path) -> Iterator[tuple[Cluster, int]]:
    """A scheduler and two workers, each a process of its own, with the program's settings; the scheduler's process id."""
    folder.mkdir(parents=True)
    file, here = folder / "scheduler.json", str(Path(__file__).parent)
    settings = Path(pipeline.__file__).parents[1] / "cluster" / "dask.yaml"
    environment = os.environ | {"PYTHONPATH": here, "DASK_CONFIG": str(settings)}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--dashboard-address", "127.0.0.1:0", "--preload", "survey_scan.watch.scheduler"]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard"]
    worker += ["--local-directory", str(folder), "--preload", "survey_scan.cluster.worker"]
    with (folder / "log").open("w") as log, contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log}
        scheduler = stack.enter_context(subprocess.Popen([*command, "--scheduler-file", str(file)], **options))
        stack.callback(scheduler.terminate)
        while not file.exists():
            time.sleep(0.1)
        for _ in range(2):
            process = stack.enter_context(subprocess.Popen([*worker, "--scheduler-file", str(file)], **options))
            stack.callback(process.terminate)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(2, timeout=120)
        with connect(Scheduler(kind="scheduler", address=str(file)), Resources(), folder, lambda line: None) as found:
            yield found, scheduler.pid


def scan(found: Cluster, folder: Path, partitions: int, tiles: int, watch: Watch) -> dict[str, float]:
    """Scan a run of so many partitions: microseconds a partition, on the clock and of processor time."""
    config = large_run.configuration(folder)
    run = RunDirectory(config.run.path)
    large_run.plan(run, config, partitions, tiles)
    for stage in STAGES:
        (run.records_folder / stage).mkdir(parents=True)
    watch.phase("standing")
    standing = state.standing(run, config)
    watching = Watching(run, found)
    watching.planned(standing)
    cost: dict[str, float] = {}

    def go(self: scanning.Scan) -> None:
        watch.phase("scan")
        began, used = time.perf_counter(), watch.cpu()
        plainly(self)
        cost.update(clock=(time.perf_counter() - began) / partitions * 1e6)
        cost.update(cpu=(watch.cpu() - used) / partitions * 1e6)
        watch.phase("report")

    plainly, scanning.Scan.go = scanning.Scan.go, go  # type: ignore[method-assign]
    try:
        with interrupt.handled(run, print) as stop:
            events = Events(run.events)
            failed = pipeline.scan(found, config, run, standing, stop, events, watching, lambda line: None)
    finally:
        scanning.Scan.go = plainly  # type: ignore[method-assign]
    assert not failed, failed[0]
    watch.phase("after")
    del standing  # as the program does
    standing = state.standing(run, config)
    assert not any(standing.todo.values())
    return cost


def bare(client: Client, folder: Path, partitions: int, watch: Watch) -> dict[str, float]:
    """The same tasks in the same window, and nothing else."""
    run = RunDirectory(folder)
    for stage in STAGES:
        (run.records_folder / stage).mkdir(parents=True)
    began, used = time.perf_counter(), watch.cpu()
    numbers, window = iter(range(partitions)), scanning.WINDOW * 2

    def submit(stage: str, p: int) -> Any:
        key = f"bare-{stage}-{p:05d}-{folder.name}"
        return client.submit(FUNCTIONS[stage], str(run), p, {"code": "1"}, key=key, pure=False, retries=2)

    flying = {submit("cutouts", p): ("cutouts", p) for _, p in zip(range(window), numbers, strict=False)}
    ended = as_completed(list(flying))
    for future in ended:
        future.result()
        stage, p = flying.pop(future)
        following = ("scores", p) if stage == "cutouts" else ("cutouts", next(numbers, -1))
        if following[1] >= 0:
            new = submit(*following)
            flying[new] = following
            ended.add(new)
    return {
        "clock": (time.perf_counter() - began) / partitions * 1e6,
        "cpu": (watch.cpu() - used) / partitions * 1e6,
    }


def at_once(client: Client, folder: Path, partitions: int, watch: Watch) -> dict[str, float]:
    """All futures at once, as a loop over partitions would have it."""
    run = RunDirectory(folder)
    for stage in STAGES:
        (run.records_folder / stage).mkdir(parents=True)
    watch.phase("scan")
    began, used = time.perf_counter(), watch.cpu()
    key = {"code": "1"}
    cut = [client.submit(large_run.cut, str(run), p, key, key=f"cut-{p:05d}", pure=False) for p in range(partitions)]
    scored = [client.submit(_after, one, str(run), p, key, key=f"score-{p:05d}") for p, one in enumerate(cut)]
    for future in as_completed(scored):
        future.result()
    return {
        "clock": (time.perf_counter() - began) / partitions * 1e6,
        "cpu": (watch.cpu() - used) / partitions * 1e6,
    }


def _after(cut: object, *arguments: Any) -> dict[str, Any]:
    return large_run.score(*arguments)


def main() -> None:
    """Scan small, large, small; then the limit and the peer."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--partitions", type=int, default=80_000)
    parser.add_argument("--middle", type=int, default=10_000)
    parser.add_argument("--small", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3, help="small scans before and after the large one")
    parser.add_argument("--window-free", type=int, default=10_000)
    parser.add_argument("--tiles", type=int, default=10_000)
    kept.option(parser)
    options = parser.parse_args()
    scanning._FUNCTIONS.update(FUNCTIONS)  # type: ignore[arg-type]
    small: list[dict[str, float]] = []
    limit: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory(prefix="survey_scan-driver-") as name:
        folder = Path(name)

        def rounds(found: Cluster, pid: int, when: str) -> None:
            for i in range(options.repeats):
                watch = Watch(pid)
                small.append(scan(found, folder / f"{when}{i}", options.small, 100, watch))
                limit.append(bare(found.client, folder / f"{when}-bare{i}", options.small, watch))
                watch.stop()

        def one(found: Cluster, pid: int, n: int, tiles: int) -> tuple[dict[str, float], dict[str, dict[str, float]]]:
            watch = Watch(pid)
            cost = scan(found, folder / f"of-{n}", n, tiles, watch)
            watch.stop()
            return cost, watch.growth()

        with cluster(folder / "cluster") as (found, pid):
            watch = Watch(pid)
            scan(found, folder / "warm", options.small, 100, watch)
            watch.stop()
            rounds(found, pid, "before")
            large, grown = one(found, pid, options.partitions, options.tiles)
            middle, grown_middle = one(found, pid, options.middle, max(options.middle // 8, 1))
            rounds(found, pid, "after")
        peer: dict[str, Any] = {}
        if options.window_free:
            with cluster(folder / "cluster2") as (found, pid):
                watch = Watch(pid)
                bare(found.client, folder / "warm2", options.small, watch)
                watch.peaks.clear()
                watch.phase("before")
                peer = at_once(found.client, folder / "peer", options.window_free, watch)
                watch.stop()
                peer = {
                    "partitions": options.window_free,
                    "us_a_partition": _rounded(peer),
                    "growth_mb": watch.growth(),
                }
    median = {what: statistics.median(one[what] for one in small) for what in ("clock", "cpu")}
    lowest = {what: statistics.median(one[what] for one in limit) for what in ("clock", "cpu")}
    most, most_middle = (
        {name: max(phase[name] for phase in phases.values()) for name in ("driver", "scheduler")}
        for phases in (grown, grown_middle)
    )
    both, ratio = round(sum(most.values()), 1), round(large["cpu"] / median["cpu"], 3)
    result = {
        "options": vars(options),
        "us_a_partition": {"large": _rounded(large), "small": [_rounded(one) for one in small]},
        "bare": [_rounded(one) for one in limit],
        "large_over_small": {what: round(large[what] / median[what], 3) for what in median},
        "small_over_bare": {what: round(median[what] / lowest[what], 3) for what in median},
        "growth_mb": grown,
        "growth_mb_both": both,
        "curve": [
            {"n": options.small, "scan": round(median["cpu"])},
            {"n": options.middle, "scan": round(middle["cpu"])},
            {"n": options.partitions, "scan": round(large["cpu"])},
        ],
        "growth_curve_mb": [{"n": options.middle, **most_middle}, {"n": options.partitions, **most}],
        "wanted": {
            "driver and scheduler grow by at most 300 MB": both,
            "processor time a partition at most 1.2 times that of few": ratio,
        },
        "at_once": peer,
    }
    kept.tell("driver", result, options.keep)


def _rounded(cost: dict[str, float]) -> dict[str, int]:
    return {what: round(value) for what, value in cost.items()}


if __name__ == "__main__":
    main()
