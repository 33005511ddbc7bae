"""How long it takes to see what of a very large run is finished, against reading its records and nothing else.

    python benchmarks/resume.py [--partitions N ...] [--tiles N] [--repeats N] [--keep]

A plan of 160,000 partitions, of which the first half are finished in both stages: 160,000 records; and of a tenth and a hundredth
as many. ``standing`` is
``engine.state.standing``, all that a start does before it submits anything: sizes of the tiles' files, a key a partition and stage,
records read and compared. In turns with it ``bytes``, which reads the same files and does nothing with them (the
limit), and ``plain``, a loop of ``json.loads(path.read_bytes())`` over them (the peer). Files are in page cache.

Seconds of processor time, user and system, of all threads, of the largest; ``curve`` is microseconds a record. Prints JSON.
"""

import argparse
import io
import json
import resource
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
import kept
import large_run

from survey_scan.config import Config
from survey_scan.engine import state
from survey_scan.layout import STAGES, RunDirectory


def standing(run: RunDirectory, config: Config, finished: int) -> None:
    """What a start does."""
    found = state.standing(run, config)
    assert {stage: len(found.done[stage]) for stage in STAGES} == dict.fromkeys(STAGES, finished)


def bytes_only(run: RunDirectory, config: Config, finished: int) -> None:
    """The limit."""
    for stage in STAGES:
        folder = str(run.records_folder / stage)
        for p in range(finished):
            with io.FileIO(folder + f"/{p:05d}.json") as stream:
                stream.readall()


def plain(run: RunDirectory, config: Config, finished: int) -> None:
    """The peer."""
    found = []
    for stage in STAGES:
        folder = run.records_folder / stage
        found += [json.loads(path.read_bytes()) for path in sorted(folder.iterdir())]
    assert len(found) == 2 * finished


WAYS: dict[str, Callable[[RunDirectory, Config, int], None]] = {
    "standing": standing,
    "bytes": bytes_only,
    "plain": plain,
}


def main() -> None:
    """Make the run, take turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--partitions", type=int, nargs="+", default=[1600, 16_000, 160_000])
    parser.add_argument("--tiles", type=int, default=10_000, help="of the largest; of others in proportion")
    parser.add_argument("--repeats", type=int, default=3)
    kept.option(parser)
    options = parser.parse_args()
    curve = []
    for partitions in sorted(options.partitions):
        tiles = max(options.tiles * partitions // max(options.partitions), 1)
        cpu, clock = turns(partitions, tiles, options.repeats)
        medians = {way: statistics.median(values) for way, values in cpu.items()}
        a_record = {way: round(value / (partitions // 2 * 2) * 1e6, 1) for way, value in medians.items()}
        curve.append({"n": partitions // 2 * 2, **a_record})
    result = {
        "options": vars(options),
        "cpu_s": {way: [round(v, 2) for v in values] for way, values in cpu.items()},
        "clock_s": {way: [round(v, 2) for v in values] for way, values in clock.items()},
        "us_a_record": a_record["standing"],
        "standing_over_bytes": round(medians["standing"] / medians["bytes"], 2),
        "standing_over_plain": round(medians["standing"] / medians["plain"], 2),
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
        "curve": curve,
        "wanted": {"what is finished is known after at most 15 s of processor time": round(medians["standing"], 1)},
    }
    kept.tell("resume", result, options.keep)


def turns(partitions: int, tiles: int, repeats: int) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Each way in its turn on a run of so many partitions, half of them finished: seconds of processor, and on the clock."""
    finished = partitions // 2
    cpu: dict[str, list[float]] = {name: [] for name in WAYS}
    clock: dict[str, list[float]] = {name: [] for name in WAYS}
    with tempfile.TemporaryDirectory(prefix="survey_scan-resume-") as name:
        config = large_run.configuration(Path(name))
        run = RunDirectory(config.run.path)
        large_run.plan(run, config, partitions, tiles)
        large_run.finish(run, config, range(finished))
        for _ in range(repeats):
            for way, call in WAYS.items():
                began, used = time.perf_counter(), time.process_time()
                call(run, config, finished)
                cpu[way].append(time.process_time() - used)
                clock[way].append(time.perf_counter() - began)
    return cpu, clock


if __name__ == "__main__":
    main()
