"""What Dask calls in a scan: each function does one partition of one stage and leaves a record.

The order is always: forget the record, write the data, write the record. What travels through Dask is the path of the
run, the number of the partition and its key; pixels and scores stay on disk.
"""

import json
import os
import resource
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from functools import lru_cache, reduce
from operator import add
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey_scan import ranking, records, store
from survey_scan import scores as scoring
from survey_scan.cluster import worker
from survey_scan.combination import Combination, Ranks, column
from survey_scan.config import CHUNK_ROWS, Config, Cutouts, Model, Ranking
from survey_scan.config_file import load
from survey_scan.cutouts import cut_partition
from survey_scan.engine import state
from survey_scan.errors import ModelError
from survey_scan.identity import Key
from survey_scan.layout import RunDirectory
from survey_scan.models import DeviceLost
from survey_scan.ranking import summary
from survey_scan.schema import Status
from survey_scan.views import drift as drifting
from survey_scan.views.drift import Counted
from survey_scan.watch import bins

if TYPE_CHECKING:
    from survey_scan.models import Network


#: Rows a ``rank`` task chooses before it ranks them and goes on with the best.
CHOSEN_ROWS = 1 << 17

_mine = threading.local()
_loading = threading.Lock()


def cutouts(path: str, partition: int, key: Key) -> dict[str, Any]:
    """Cut the targets of one partition out of the tiles and write its shard of the store.

    Parameters
    ----------
    path : str
        The run directory.
    partition : int
        Which partition.
    key : dict
        What the result depends on; goes into the record.

    Returns
    -------
    dict
        The record's facts: counts by status, problems with tiles, seconds, memory, host.
    """
    run, config, began = RunDirectory(Path(path)), _config(path), time.perf_counter()
    record = run.record("cutouts", partition)
    if (found := records.read(record)) and found["key"] == key:
        shutil.rmtree(run.downloads(partition), ignore_errors=True)
        return found  # its worker died after finishing it and before saying so
    records.forget(run.record("scores", partition))  # of the old pixels
    records.forget(record)
    targets = pd.read_parquet(run.targets(partition))
    spec, facts_of_plan = config.cutouts, state.plan_facts(run)
    out = _memory(spec.partition, spec.size, len(spec.bands))
    scale, flux = facts_of_plan["pixel_scale"], facts_of_plan.get("flux", {})
    downloads = run.downloads(partition)
    cut = cut_partition(targets, config.images, spec, scale, out, flux.get("zero_point"), downloads)
    store.write(run.store, partition, targets["object_id"].to_numpy(), targets["ra"], targets["dec"], cut)
    facts = {
        "targets": len(targets),
        "status": _count(cut.status),
        "problems": cut.problems,
        "reads": cut.reads,
        **_facts(began),
    }
    records.write(record, key, facts)
    shutil.rmtree(downloads, ignore_errors=True)
    return facts


def scores(path: str, partition: int, key: Key) -> dict[str, Any]:
    """Score the cutouts of one partition and write its score table.

    Parameters
    ----------
    path, partition, key
        As in :func:`cutouts`.

    Returns
    -------
    dict
        The record's facts: counts by status, seconds, memory, host.
    """
    run, config, began = RunDirectory(Path(path)), _config(path), time.perf_counter()
    record = run.record("scores", partition)
    if (found := records.read(record)) and found["key"] == key:
        return found
    records.forget(record)
    targets = _opened(run.targets(partition)).read(use_threads=False)
    spec = config.cutouts
    networks = _networks(config.model_dump_json(include=_NETWORKS), tuple(sorted(_of_networks(key).items())))
    loaded, start = time.perf_counter(), partition * spec.partition
    try:
        scored = scoring.score_partition(store.Reader(run.store), start, start + len(targets), networks, config.cascade)
    except DeviceLost as error:
        _leave(f"scores {partition:05d}: the GPU failed: {error}")
    scoring.write(run.scores(partition), scored.table, _footer(config, targets, scored.table))
    facts = {
        "targets": len(scored.table),
        "status": _count(scored.table["status"].to_numpy()),
        "logits": bins.count(scored.table.filter(regex="^logit").to_numpy()[:, -1]),
        "device": next(iter(networks.values())).describe()["device"],
        "device_seconds": round(scored.device_seconds, 3),
        "waited_seconds": round(scored.waited_seconds, 3),
        "load_seconds": round(loaded - began, 3),
        **_facts(began),
    }
    records.write(record, key, facts)
    return facts


def _footer(config: Config, targets: pa.Table, scored: pd.DataFrame) -> dict[str, str]:
    """What its ranking will ask of a score table, where that is known now: which logit it is ranked by."""
    if Combination(config).by != "last":
        return {}
    ranking.check_same(targets["object_id"].to_numpy(), scored["object_id"].to_numpy())
    columns = {str(name): values.to_numpy() for name, values in scored.items() if name != "object_id"}
    last = [name for name in columns if name.startswith("logit")][-1]
    return summary.of(targets, {**columns, "logit": columns[last]})


def effect(path: str, partition: int) -> list[str]:
    """What the networks' precision and compilation do to the logits of real cutouts, a line each; none of plain ones."""
    from survey_scan.models import effect

    run, config = RunDirectory(Path(path)), _config(path)
    spec, reader = config.cutouts, store.Reader(run.store)
    start, stop = (
        partition * spec.partition,
        partition * spec.partition + pq.read_metadata(run.targets(partition)).num_rows,
    )
    ok = np.flatnonzero(np.asarray(reader.column("status", start, stop)) == Status.OK)[:CHUNK_ROWS]
    if not len(ok):
        return []
    stored = reader.read(start, start + int(ok[-1]) + 1)
    step = None if stored.step is None else stored.step[ok]
    lines = []
    for name, model in config.networks.items():
        found = effect.measure(model, spec.bands, spec.size, spec.dtype, stored.image[ok], step, worker.device())
        lines += [f"{name}: {effect.line(found)}".removeprefix(": ")] if found else []
    return lines


def top(path: str, partitions: list[int], lowest: float = -np.inf) -> pd.DataFrame:
    """The best targets of some partitions, at most as many as there will be candidates.

    Parameters
    ----------
    path, partitions
        The run directory, and which.
    lowest : float
        A logit that none of the run's best is below, where one is known: tables without a higher one are read no further.
    """
    run, config = RunDirectory(Path(path)), _config(path)
    combination = state.combination(run, config)
    best: list[pd.DataFrame] = []
    chosen: list[tuple[pa.Table, dict[str, NDArray[Any]]]] = []
    n = 0  # rows chosen
    for p in partitions:
        file = _opened(run.scores(p))
        short = summary.best(file.metadata.metadata)
        if short is not None and lowest > short.beyond:  # no other row of it can be among the best
            chosen.append((short.targets, short.scored))
            n += len(short.targets)
        else:
            scored = _logits(file, combination)
            rows = ranking.possible(scored["logit"], scored["status"], config.ranking, lowest)
            if len(rows) or not (best or chosen):  # one at least, for its columns
                targets = _opened(run.targets(p)).read(use_threads=False)
                ids = file.read(["object_id"], use_threads=False)
                ranking.check_same(targets["object_id"].to_numpy(), ids["object_id"].to_numpy())
                chosen.append((targets.take(rows), {name: values[rows] for name, values in scored.items()}))
                n += len(rows)
        if n >= CHOSEN_ROWS:
            best, chosen, n = [ranking.merge([*best, _ranked(chosen, config.ranking, lowest)], config.ranking)], [], 0
            if len(best[0]) == config.ranking.top:
                lowest = max(lowest, float(best[0]["logit"].iloc[-1]))
    return ranking.merge([*best, *([_ranked(chosen, config.ranking, lowest)] if chosen else [])], config.ranking)


def _ranked(chosen: list[tuple[pa.Table, dict[str, NDArray[Any]]]], rule: Ranking, lowest: float) -> pd.DataFrame:
    """The best of rows chosen from several partitions, made a data frame once: one of each takes as long as reading it."""
    tables = [table.replace_schema_metadata() for table, _ in chosen]
    scores = {name: np.concatenate([own[name] for _, own in chosen]) for name in chosen[0][1]}
    rows = ranking.possible(scores["logit"], scores["status"], rule, lowest)
    targets = pa.concat_tables(tables, promote_options="permissive").take(rows).to_pandas()
    return ranking.best(targets, {name: values[rows] for name, values in scores.items()}, rule)


def _opened(path: Path) -> pq.ParquetFile:
    """A table of a run, to be read without threads: for one this small pandas' own reader takes four times as long."""
    return pq.ParquetFile(pa.OSFile(str(path)), pre_buffer=False)  # a path would be looked at more closely


def _logits(file: pq.ParquetFile, combination: Combination) -> dict[str, NDArray[Any]]:
    """The logits of a score table, with the one that its targets are ranked by, and its status."""
    table = file.read([*map(column, combination.names), "status"], use_threads=False)
    if combination.names == [""]:
        return {name: table[name].to_numpy() for name in table.column_names}
    return {str(name): values.to_numpy() for name, values in combination.apply(table.to_pandas()).items()}


def ranks(path: str, partitions: list[int]) -> Ranks:
    """How the networks' logits of some partitions are distributed."""
    run, names = RunDirectory(Path(path)), list(_config(path).networks)
    return reduce(add, (Ranks.of(pd.read_parquet(run.scores(p)), names) for p in partitions))


def drift(path: str, partitions: list[int], names: list[str]) -> Counted:
    """How the logits of some partitions are distributed, by tile and by seeing."""
    return drifting.count(RunDirectory(Path(path)), partitions, names)


def merge(path: str, tables: list[pd.DataFrame]) -> pd.DataFrame:
    """The best targets of several tables of best targets."""
    return ranking.merge(tables, _config(path).ranking)


def _config(path: str) -> Config:
    return load(RunDirectory(Path(path)).config_resolved)


#: What of a configuration says which networks there are and which cutouts they are given.
_NETWORKS = {"model", "models", "cutouts"}


def _of_networks(key: Key) -> Key:
    """The parts of a scores key that are the networks' own."""
    return {name: value for name, value in key.items() if name.partition(" ")[0] in ("model", "contract")}


def _networks(sections: str, key: tuple[tuple[str, str], ...]) -> "dict[str, Network]":
    """The networks by name, loaded once a process and again only when a file, a contract or a section changes."""
    with _loading:  # by the first of two tasks that need them at once
        return _load(sections, key)


@lru_cache(maxsize=1)
def _load(sections: str, key: tuple[tuple[str, str], ...]) -> "dict[str, Network]":
    from survey_scan import models

    said = json.loads(sections)
    spec = Cutouts.model_validate_json(json.dumps(said["cutouts"]))
    named = {"": said["model"]} if said["model"] else said["models"]
    networks = {}
    for name, section in named.items():
        model = Model.model_validate_json(json.dumps(section))
        now = {
            f"{part} {name}".rstrip(): value for part, value in state.model_key(model, spec.bands, spec.size).items()
        }
        if not now.items() <= dict(key).items():
            raise ModelError(
                f"{model.path} changed while the scan was running. Run again: its targets are scored anew."
            )
        networks[name] = models.load(model, spec.bands, spec.size, spec.dtype, worker.device())
    return networks


def _memory(partition: int, size: int, bands: int) -> NDArray[np.float32]:
    """Memory for the pixels of a partition, kept by each thread: getting it anew each time costs 15 % of the cutting."""
    shape = (partition, size, size, bands)
    kept: NDArray[np.float32] | None = getattr(_mine, "memory", None)
    if kept is None or kept.shape != shape:
        kept = _mine.memory = np.empty(shape, np.float32)
    return kept


def _leave(why: str) -> NoReturn:
    """End this worker: its process cannot use the GPU again. Dask gives the partition to another, its nanny makes a new one."""
    sys.stderr.write(f"{socket.gethostname()}: {why}; this worker ends.\n")
    sys.stderr.flush()
    os._exit(1)


def _count(status: "np.ndarray[Any, Any]") -> dict[str, int]:
    """Counts by status code, as text because JSON keys are text."""
    return {str(int(Status(code))): n for code, n in sorted(Counter(status.tolist()).items())}


def _facts(began: float) -> dict[str, Any]:
    return {
        "seconds": round(time.perf_counter() - began, 3),
        "peak_mem": _peak(),
        "host": socket.gethostname(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _peak() -> int:
    """Most bytes this process ever held."""
    status = Path("/proc/self/status")
    if not status.exists():  # not Linux
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # The kernel's own mark: ru_maxrss begins with that of the process that started this one.
    (line,) = (line for line in status.read_text().splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * 1024
