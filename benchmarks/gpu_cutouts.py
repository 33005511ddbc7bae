"""Cutouts alone, for ``gpu.py``: the partitions of a planned run, cut by processes of their own, without Dask."""

import csv
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

#: Seconds until all processes that cut alone must have imported what they need.
START_SECONDS = 120

#: Numerical libraries with one thread a process, as Dask sets them for its workers.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")


def cut_alone(config_path: Path, run: Path, scratch: Path, processes: int) -> float:
    """Targets a second of cutting the run's partitions and writing them to a store, without Dask and without scores."""
    from survey_scan import store
    from survey_scan.config_file import load
    from survey_scan.layout import RunDirectory

    config = load(config_path)
    with RunDirectory(run).partitions.open() as stream:
        counts = [int(row["n_targets"]) for row in csv.DictReader(stream)]
    store.create(scratch, sum(counts), config.cutouts, "int64", {})
    context = multiprocessing.get_context("spawn")
    start = context.Barrier(processes + 1)
    os.sync()  # what was written before is not this measurement's to wait for
    with (
        environment(ONE_THREAD),
        context.Pool(processes, _prepare, (str(config_path), str(run), str(scratch), start)) as pool,
    ):
        start.wait(START_SECONDS)
        began = time.perf_counter()
        for _ in pool.imap_unordered(_cut, range(len(counts))):
            pass
        seconds = time.perf_counter() - began
    shutil.rmtree(scratch)
    return sum(counts) / seconds


@contextmanager
def environment(values: dict[str, str]) -> Iterator[None]:
    """Variables for processes started meanwhile."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


_cutting: dict[str, Any] = {}


def _prepare(config: str, run: str, scratch: str, start: Any) -> None:
    """In a process that cuts: import, read the configuration, get the memory that is kept, wait for the others."""
    import numpy as np

    from survey_scan import store  # noqa: F401
    from survey_scan.config_file import load
    from survey_scan.cutouts import cut_partition  # noqa: F401
    from survey_scan.engine import state
    from survey_scan.layout import RunDirectory

    spec, directory = load(Path(config)), RunDirectory(Path(run))
    shape = (spec.cutouts.partition, spec.cutouts.size, spec.cutouts.size, len(spec.cutouts.bands))
    scale = state.plan_facts(directory)["pixel_scale"]
    _cutting.update(config=spec, run=directory, store=Path(scratch), scale=scale, out=np.full(shape, 0, np.float32))
    start.wait(START_SECONDS)


def _cut(partition: int) -> None:
    import pandas as pd

    from survey_scan import store
    from survey_scan.cutouts import cut_partition

    config, at = _cutting["config"], _cutting
    targets = pd.read_parquet(at["run"].targets(partition))
    cut = cut_partition(targets, config.images, config.cutouts, at["scale"], at["out"])
    store.write(at["store"], partition, targets["object_id"].to_numpy(), targets["ra"], targets["dec"], cut)
