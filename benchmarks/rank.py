"""Ranking very many scores against reading their logits and nothing else.

    python benchmarks/rank.py [--rows N ...] [--top N] [--repeats N] [--sample N] [--keep]

1, 10 and 100 million targets in partitions of 4,096, with random logits, so that the best 20,000 lie all over; target and score
tables as scans write them (255 kB a partition, 6 GB in all, in a temporary folder), not flushed. In turns, each in a process of
its own:

* ``column``, the limit: the logit column of each score table, one after the other, by the quickest call there is.
* ``folder``: the same column by ``pyarrow.dataset`` of the whole folder, in batches, as pandas and Dask read it.
* ``rank``: all that a scan does with its scores in the end: ``engine.rank.best_of`` with the histogram and quantiles of each
  tile compared. ``best``: without these. ``sparse``: ``rank`` with as many of the best a partition as 20,000
  in 320 million are.
* ``old``: the best of a run whose records and score tables tell nothing beforehand, so that every table is
  read, and the target table of each of the best.
* ``old_drift``: tiles compared on such a run, on ``--sample`` partitions.
* ``pandas``, the peer, on ``--sample`` partitions: both tables of each by ``pandas.read_parquet``, ranked, then merged.

Seconds of processor time, and peak resident memory. Prints JSON; ratios are of processor time a partition, of the largest number of
rows; ``curve`` is microseconds a thousand rows. Files are in page cache if it holds them.
"""

import argparse
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import kept
import large_run
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from survey_scan import ranking, scores
from survey_scan.config_file import dump
from survey_scan.engine import rank as engine_rank
from survey_scan.engine import rank_tasks, state, tasks
from survey_scan.layout import RunDirectory
from survey_scan.ranking import summary
from survey_scan.views import drift as drifting
from survey_scan.watch import bins

#: Partitions of a tile, which share a target table: writing each anew would take most of the time.
OF_A_TILE = 8


def make(folder: Path, rows: int, top: int) -> None:
    """Write the run."""
    rng = np.random.default_rng(1)
    n, config = large_run.PARTITION, large_run.configuration(folder, top)
    run, partitions = RunDirectory(config.run.path), -(-rows // large_run.PARTITION)
    tiles = -(-partitions // OF_A_TILE)
    large_run.plan(run, config, partitions, tiles, files=False)
    run.targets_folder.mkdir()
    run.scores_folder.mkdir()
    names, counts, status = large_run.names_of_tiles(tiles), {}, np.zeros(n, np.uint8)
    scores.records.write_atomically = quickly  # type: ignore[attr-defined]
    for p in range(partitions):
        if p % OF_A_TILE == 0:
            ids = 10**11 + 7 * (p * n + rng.permutation(n))
            targets = pa.table({
                "object_id": ids, "ra": rng.uniform(0, 360, n), "dec": rng.uniform(-60, 5, n),
                "tile": np.repeat(names[p // OF_A_TILE], n), "x": rng.uniform(0, 10_000, n),
                "y": np.sort(rng.uniform(0, 10_000, n)), "mag_r": rng.normal(20, 1, n).astype(np.float32),
                "g_r": rng.normal(1, 0.2, n).astype(np.float32),
            })  # fmt: skip
            stream = io.BytesIO()
            pq.write_table(targets, stream, compression="zstd")
        run.targets(p).write_bytes(stream.getvalue())
        logit = rng.normal(-10, 3, n).astype(np.float32)
        footer = summary.of(targets, {"logit": logit, "status": status})
        scores.write(run.scores(p), pd.DataFrame({"object_id": ids, "logit": logit, "status": status}), footer)
        counts[p] = bins.count(logit)
    large_run.finish(run, config, range(partitions), counts)


def quickly(path: Path, data: bytes) -> None:
    """Write without flushing."""
    path.write_bytes(data)


def column(folder: Path, top: int, sample: int) -> int:
    """The limit."""
    run = RunDirectory(folder / "large")
    n = len(state.read_partitions(run))
    for p in range(n):
        with io.FileIO(run.scores(p)) as stream:
            content = pa.BufferReader(stream.readall())
        pq.ParquetFile(content, pre_buffer=False).read(["logit"], use_threads=False)["logit"].to_numpy()
    return n


def whole_folder(folder: Path, top: int, sample: int) -> int:
    """The limit as a data frame library reads it."""
    import pyarrow.dataset as ds

    run = RunDirectory(folder / "large")
    scanner = ds.dataset(run.scores_folder, format="parquet").scanner(columns=["logit"])
    for batch in scanner.to_batches():
        batch["logit"].to_numpy()
    return len(state.read_partitions(run))


def rank(folder: Path, top: int, sample: int) -> int:
    """Ours: the best, and the tiles compared."""
    return _rank(folder, top, ["tile", "seeing"])


@cache
def standing_of(folder: Path, top: int) -> state.Standing:
    """What the program knows already when it ranks; see benchmarks/resume.py."""
    return state.standing(RunDirectory(folder / "large"), large_run.configuration(folder, top))


def best(folder: Path, top: int, sample: int) -> int:
    """Ours, without the tiles."""
    return _rank(folder, top, [])


def _rank(folder: Path, top: int, names: list[str]) -> int:
    config, run = large_run.configuration(folder, top), RunDirectory(folder / "large")
    run.config_resolved.write_text(dump(config, "of a benchmark"))  # the tasks read it
    standing = standing_of(folder, top)
    n = len(standing.partitions)
    found, counted = engine_rank.best_of(config, run, standing, None, names)
    assert len(found) == top and found["logit"].is_monotonic_decreasing
    found.to_parquet(folder / f"best-{top}.parquet")
    tables = drifting.tables(counted)
    assert not names or tables["tile"]["scored"].sum() == n * large_run.PARTITION
    return n


def sparse(folder: Path, top: int, sample: int) -> int:
    """Ours, with as many of the best in a partition as there are of so many in 320 million."""
    return rank(folder, sparse_top(folder, top), sample)


def sparse_top(folder: Path, top: int) -> int:
    """How many that are."""
    rows = len(state.read_partitions(RunDirectory(folder / "large"))) * large_run.PARTITION
    return max(round(top * rows / 320e6), 1)


def old(folder: Path, top: int, sample: int) -> int:
    """Ours, without what records and score tables tell."""
    summary.best = lambda footer: None
    run, config = RunDirectory(folder / "large"), large_run.configuration(folder, top)
    numbers = state.read_partitions(run)["partition"].tolist()
    size = engine_rank.RANK_GROUP
    found: list[pd.DataFrame] = []
    for i in range(0, len(numbers), size):
        found = [ranking.merge([*found, rank_tasks.top(str(run), config, numbers[i : i + size])], config.ranking)]
    pd.testing.assert_frame_equal(found[0], pd.read_parquet(folder / f"best-{top}.parquet"))
    return len(numbers)


def old_drift(folder: Path, top: int, sample: int) -> int:
    """Tiles by their tables."""
    summary.counts = lambda footer: None
    run = RunDirectory(folder / "large")
    drifting.tables(drifting.count(run, range(sample), ["tile", "seeing"]))
    return sample


def plain(folder: Path, top: int, sample: int) -> int:
    """The peer."""
    config, run = large_run.configuration(folder, top), RunDirectory(folder / "large")

    def tables() -> Iterator[pd.DataFrame]:
        for p in range(sample):
            yield ranking.top(pd.read_parquet(run.targets(p)), pd.read_parquet(run.scores(p)), config.ranking)

    ranking.merge(list(tables()), config.ranking)
    return sample


WAYS: dict[str, Callable[[Path, int, int], int]] = {
    "column": column, "folder": whole_folder, "sparse": sparse, "best": best, "rank": rank, "old": old,
    "old_drift": old_drift, "pandas": plain,
}  # fmt: skip


def measured(way: str, folder: Path, top: int, sample: int) -> dict[str, float]:
    """One way, in this process."""
    if way in ("rank", "best", "sparse"):
        for n in {top, sparse_top(folder, top)}:
            standing_of(folder, n)
    before, began, used = tasks._peak(), time.perf_counter(), time.process_time()
    partitions = WAYS[way](folder, top, sample)
    return {
        "partitions": partitions,
        "cpu_s": round(time.process_time() - used, 2),
        "clock_s": round(time.perf_counter() - began, 2),
        "peak_mb": tasks._peak() // 2**20,
        "peak_mb_before": before // 2**20,
    }


def main() -> None:
    """Make the run, take turns."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1_000_000, 10_000_000, 100_000_000])
    parser.add_argument("--top", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--ways", default=",".join(WAYS))
    kept.option(parser)
    options = parser.parse_args()
    curve = []
    for rows in sorted(options.rows):
        ways, size = turns(rows, options)
        each = {
            way: statistics.median(one["cpu_s"] / one["partitions"] for one in those) for way, those in ways.items()
        }
        curve.append({"n": rows, **{way: round(s / large_run.PARTITION * 1e9, 1) for way, s in each.items()}})
    peak = max(one["peak_mb"] for one in ways["rank"])
    result = {
        "options": vars(options),
        "bytes": size,
        "ways": ways,
        "ms_a_partition": {way: round(value * 1e3, 3) for way, value in each.items()},
        "over_column": {way: round(value / each["column"], 2) for way, value in each.items()},
        "curve": curve,
        "wanted": {
            "ranking takes at most 1.3 times reading the column": round(each["rank"] / each["column"], 2),
            "at most 1000 MB": peak,
        },
    }
    kept.tell("rank", result, options.keep)


def turns(rows: int, options: argparse.Namespace) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Each way in its turn on a run of so many rows: what it took, and how large the run is."""
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways.split(",")}
    sample = min(options.sample, -(-rows // large_run.PARTITION))

    def apart(function: Callable[..., Any], *arguments: Any) -> Any:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()

    with tempfile.TemporaryDirectory(prefix="survey_scan-rank-") as name:
        apart(make, Path(name), rows, options.top)
        size = sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file())
        for _ in range(options.repeats):
            for way in found:
                found[way].append(apart(measured, way, Path(name), options.top, sample))
    return found, size


if __name__ == "__main__":
    main()
