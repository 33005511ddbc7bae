"""Ranking very many scores against reading their logits and nothing else.

    python benchmarks/rank.py [--rows N] [--top N] [--repeats N] [--sample N]

100 million targets in partitions of 4,096, with random logits, so that the best 20,000 lie all over; target and score tables as
scans write them (249 kB a partition, 6 GB in all, in a temporary folder), not flushed. In turns, each in a process of its own:

* ``column``, the limit: the logit column of each score table, one after the other, by the quickest call there is.
* ``folder``: the same column by ``pyarrow.dataset`` of the whole folder, in batches, as pandas and Dask read it.
* ``rank``: ``engine.rank.best_of`` on a run whose records count logits by bins; ``sparse``: the same with as many
  of the best a partition as 20,000 in 320 million are. ``old``: on a run whose records do not (before they did, or several
  networks), so that every table is read.
* ``drift``: ``tasks.drift`` by tile, which every scan ends with, on the first ``--sample`` partitions.
* ``pandas``, the peer, on the first ``--sample`` partitions: both tables of each by ``pandas.read_parquet``, ranked, then merged.

Seconds of processor time, and peak resident memory. Prints JSON; ratios are of processor time a partition. Files are in page cache
if it holds them.
"""

import argparse
import io
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import large_run
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from survey_scan import ranking
from survey_scan.config_file import dump
from survey_scan.engine import rank as engine_rank
from survey_scan.engine import state, tasks
from survey_scan.layout import RunDirectory
from survey_scan.watch import bins

#: So many different target tables; partition p has number p modulo it, writing each anew would take most of the time.
KINDS = 64


def make(folder: Path, rows: int, top: int) -> None:
    """Write the run."""
    rng = np.random.default_rng(1)
    n, config = large_run.PARTITION, large_run.configuration(folder, top)
    run, partitions = RunDirectory(config.run.path), -(-rows // large_run.PARTITION)
    tiles = max(partitions // 8, 2)
    large_run.plan(run, config, partitions, tiles, files=False)
    run.targets_folder.mkdir()
    run.scores_folder.mkdir()
    names, kinds, counts = large_run.names_of_tiles(tiles), [], {}
    for i in range(KINDS):
        ids = pa.array(10**11 + 7 * (i * n + rng.permutation(n)))
        columns = {
            "object_id": ids, "ra": rng.uniform(0, 360, n), "dec": rng.uniform(-60, 5, n),
            "tile": np.repeat(names[i % tiles], n), "x": rng.uniform(0, 10_000, n), "y": np.sort(rng.uniform(0, 10_000, n)),
            "mag_r": rng.normal(20, 1, n).astype(np.float32), "g_r": rng.normal(1, 0.2, n).astype(np.float32),
        }  # fmt: skip
        stream = io.BytesIO()
        pq.write_table(pa.table(columns), stream, compression="zstd")
        kinds.append((ids, stream.getvalue()))
    for p in range(partitions):
        ids, targets = kinds[p % KINDS]
        run.targets(p).write_bytes(targets)
        logit = rng.normal(-10, 3, n).astype(np.float32)
        table = pa.table({"object_id": ids, "logit": logit, "status": np.zeros(n, np.uint8)})
        pq.write_table(table, run.scores(p), compression="zstd")
        counts[p] = bins.count(logit)
    large_run.finish(run, config, range(partitions), counts)


def column(folder: Path, top: int, sample: int) -> int:
    """The limit."""
    run = RunDirectory(folder / "large")
    n = len(state.read_partitions(run))
    for p in range(n):
        pq.ParquetFile(run.scores(p), pre_buffer=False).read(["logit"], use_threads=False)["logit"].to_numpy()
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
    """Ours."""
    config, run = large_run.configuration(folder, top), RunDirectory(folder / "large")
    run.config_resolved.write_text(dump(config, "of a benchmark"))  # the tasks read it
    standing = state.standing(run, config)
    best = engine_rank.best_of(config, run, standing, None)
    assert len(best) == top and best["logit"].is_monotonic_decreasing
    best.to_parquet(folder / f"best-{top}.parquet")
    return len(standing.partitions)


def sparse(folder: Path, top: int, sample: int) -> int:
    """Ours, with as many of the best in a partition as there are of so many in 320 million."""
    rows = len(state.read_partitions(RunDirectory(folder / "large"))) * large_run.PARTITION
    return rank(folder, max(round(top * rows / 320e6), 1), sample)


def old(folder: Path, top: int, sample: int) -> int:
    """Ours, without what the records count."""
    run = RunDirectory(folder / "large")
    numbers = state.read_partitions(run)["partition"].tolist()
    size = engine_rank.RANK_GROUP
    best: list[pd.DataFrame] = []
    for i in range(0, len(numbers), size):
        best = [tasks.merge(str(run), [*best, tasks.top(str(run), numbers[i : i + size])])]
    pd.testing.assert_frame_equal(best[0], pd.read_parquet(folder / f"best-{top}.parquet"))
    return len(numbers)


def drift(folder: Path, top: int, sample: int) -> int:
    """What every scan ends with."""
    run = RunDirectory(folder / "large")
    numbers = state.read_partitions(run)["partition"].tolist()[:sample]
    tasks.drift(str(run), numbers, ["tile"])
    return len(numbers)


def plain(folder: Path, top: int, sample: int) -> int:
    """The peer."""
    config, run = large_run.configuration(folder, top), RunDirectory(folder / "large")

    def tables() -> Iterator[pd.DataFrame]:
        for p in range(sample):
            yield ranking.top(pd.read_parquet(run.targets(p)), pd.read_parquet(run.scores(p)), config.ranking)

    ranking.merge(list(tables()), config.ranking)
    return sample


WAYS: dict[str, Callable[[Path, int, int], int]] = {
    "column": column, "folder": whole_folder, "sparse": sparse, "rank": rank, "old": old, "drift": drift, "pandas": plain,
}  # fmt: skip


def measured(way: str, folder: Path, top: int, sample: int) -> dict[str, float]:
    """One way, in this process."""
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
    parser.add_argument("--rows", type=int, default=100_000_000)
    parser.add_argument("--top", type=int, default=20_000)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--sample", type=int, default=1000)
    parser.add_argument("--ways", default=",".join(WAYS))
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {way: [] for way in options.ways.split(",")}
    options.sample = min(options.sample, -(-options.rows // large_run.PARTITION))

    def apart(function: Callable[..., Any], *arguments: Any) -> Any:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            return pool.submit(function, *arguments).result()

    with tempfile.TemporaryDirectory(prefix="survey_scan-rank-") as name:
        apart(make, Path(name), options.rows, options.top)
        size = sum(file.stat().st_size for file in Path(name).rglob("*") if file.is_file())
        for _ in range(options.repeats):
            for way in found:
                found[way].append(apart(measured, way, Path(name), options.top, options.sample))
    each = {way: statistics.median(one["cpu_s"] / one["partitions"] for one in those) for way, those in found.items()}
    result = {
        "options": vars(options),
        "bytes": size,
        "ways": found,
        "ms_a_partition": {way: round(value * 1e3, 3) for way, value in each.items()},
        "over_column": {way: round(value / each["column"], 2) for way, value in each.items()},
        "over_folder": {way: round(value / each["folder"], 2) for way, value in each.items()},
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
