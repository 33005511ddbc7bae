"""What Dask calls in a scan: each function does one partition of one stage and leaves a record.

The order is always: forget the record, write the data, write the record. What travels through Dask is the path of the
run, the number of the partition and its key; pixels and scores stay on disk. Where not all pixels are stored, :func:`hold` and
:func:`score_held` do the two stages, and pixels go from the one to the other through memory.
"""

import errno
import json
import os
import resource
import shutil
import socket
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass
from functools import lru_cache
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
from survey_scan.combination import Combination, column
from survey_scan.config import CHUNK_ROWS, Config, Cutouts, Model
from survey_scan.config_file import load
from survey_scan.cutouts import cut_partition
from survey_scan.engine import state
from survey_scan.errors import ModelError
from survey_scan.identity import Key
from survey_scan.imaging import base
from survey_scan.layout import STAGES, RunDirectory, Stage
from survey_scan.models import DeviceLost
from survey_scan.ranking import summary
from survey_scan.schema import Status
from survey_scan.watch import bins

if TYPE_CHECKING:
    from survey_scan.models import Network


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
    run, config, began = RunDirectory(Path(path)), config_of(path), time.perf_counter()
    record = run.record("cutouts", partition)
    if (found := records.read(record)) and found["key"] == key:
        shutil.rmtree(run.downloads(partition), ignore_errors=True)
        return found  # its worker died after finishing it and before saying so
    records.forget(run.record("scores", partition))  # of the old pixels
    records.forget(record)
    targets = pd.read_parquet(run.targets(partition))
    cut = _cut(run, config, partition, targets, _memory(config.cutouts))
    store.write(run.store, partition, targets["object_id"].to_numpy(), targets["ra"], targets["dec"], cut)
    facts = _cut_facts(cut, began)
    records.write(record, key, facts)
    shutil.rmtree(run.downloads(partition), ignore_errors=True)
    return facts


@dataclass(frozen=True)
class Handed:
    """What :func:`hold` hands to :func:`score_held`: cutouts, and the facts of cutting them.

    Dask keeps it with the worker that cut, moves it to the one that scores, and has it made again where it is lost.
    """

    held: store.Held
    facts: dict[str, Any]

    def __sizeof__(self) -> int:
        """Bytes of the pixels."""
        return sys.getsizeof(self.held)


def hold(path: str, partition: int, keys: dict[Stage, Key]) -> Handed | None:
    """Cut the targets of one partition, and keep the cutouts in memory as they would be stored.

    Parameters
    ----------
    path, partition
        As in :func:`cutouts`.
    keys : dict
        Stage → what its result depends on.

    Returns
    -------
    Handed or None
        None if the partition is finished: its worker died after that and before saying so.
    """
    run, config, began = RunDirectory(Path(path)), config_of(path), time.perf_counter()
    if _finished(run, partition, keys) is not None:
        return None
    targets = pd.read_parquet(run.targets(partition))
    spec = config.cutouts
    # float32 pixels are handed on as they are cut: they need memory that the next partition leaves alone
    out = None if spec.dtype == "float32" else _memory(spec)
    cut = _cut(run, config, partition, targets, out)
    held = store.hold(targets["object_id"].to_numpy(), cut, spec.dtype)
    return Handed(held, _cut_facts(cut, began))


def score_held(path: str, partition: int, keys: dict[Stage, Key], handed: Handed | None) -> dict[Stage, dict[str, Any]]:
    """Score cutouts in memory, keep the pixels that are to be kept, and write the records of both stages.

    Parameters
    ----------
    path, partition, keys
        As in :func:`hold`.
    handed : Handed or None
        What that returned.

    Returns
    -------
    dict
        Stage → its record's facts.
    """
    run, config, began = RunDirectory(Path(path)), config_of(path), time.perf_counter()
    if (found := _finished(run, partition, keys)) is not None:
        return found
    if handed is None:
        raise FileNotFoundError(errno.ENOENT, "records that were there are gone", str(run.records_folder))
    records.forget(run.record("scores", partition))
    records.forget(run.record("cutouts", partition))
    spec, held = config.cutouts, handed.held
    targets = scoring.opened(run.targets(partition)).read(use_threads=False)
    scored, ran = _scored(config, partition, keys["scores"], held, 0, len(held.status))
    cut_facts = {**handed.facts, "kept": 0}
    if spec.above is not None:
        kept = scoring.kept(scored.table, list(map(column, config.networks)), spec.above)
        ra, dec = (targets[name].to_numpy() for name in ("ra", "dec"))
        store.write_kept(run.store, partition, ra, dec, held, kept)
        cut_facts["kept"] = int(kept.sum())
    scoring.write(run.scores(partition), scored.table, _footer(config, targets, scored.table))
    facts = _score_facts(scored, ran, began)
    records.write(run.record("cutouts", partition), keys["cutouts"], cut_facts)
    records.write(run.record("scores", partition), keys["scores"], facts)
    shutil.rmtree(run.downloads(partition), ignore_errors=True)
    return {"cutouts": cut_facts, "scores": facts}


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
    run, config, began = RunDirectory(Path(path)), config_of(path), time.perf_counter()
    record = run.record("scores", partition)
    if (found := records.read(record)) and found["key"] == key:
        return found
    records.forget(record)
    targets = scoring.opened(run.targets(partition)).read(use_threads=False)
    start = partition * config.cutouts.partition
    scored, ran = _scored(config, partition, key, store.Reader(run.store), start, start + len(targets))
    scoring.write(run.scores(partition), scored.table, _footer(config, targets, scored.table))
    facts = _score_facts(scored, ran, began)
    records.write(record, key, facts)
    return facts


def _finished(run: RunDirectory, partition: int, keys: dict[Stage, Key]) -> dict[Stage, dict[str, Any]] | None:
    """The records of both stages, if they say that they are finished."""
    found = {stage: records.read(run.record(stage, partition)) for stage in STAGES}
    if any(record is None or record["key"] != keys[stage] for stage, record in found.items()):
        return None
    return {stage: record for stage, record in found.items() if record is not None}


def _cut(
    run: RunDirectory, config: Config, partition: int, targets: pd.DataFrame, out: NDArray[np.float32] | None
) -> base.Cutouts:
    plan = state.plan_facts(run)
    zero_points = plan.get("flux", {}).get("zero_point")
    return cut_partition(
        targets, config.images, config.cutouts, plan["pixel_scale"], out, zero_points, run.downloads(partition)
    )


def _cut_facts(cut: base.Cutouts, began: float) -> dict[str, Any]:
    return {
        "targets": len(cut.status),
        "status": _count(cut.status),
        "problems": cut.problems,
        "reads": cut.reads,
        **_facts(began),
    }


def _scored(
    config: Config, partition: int, key: Key, source: scoring.Source, start: int, stop: int
) -> tuple[scoring.Scored, dict[str, Any]]:
    """Scores of one partition, on which device, and the seconds until its networks were there."""
    began = time.perf_counter()
    networks = _networks(config.model_dump_json(include=_NETWORKS), tuple(sorted(_of_networks(key).items())))
    loaded = time.perf_counter() - began
    try:
        scored = scoring.score_partition(source, start, stop, networks, config.cascade)
    except DeviceLost as error:
        _leave(f"scores {partition:05d}: the GPU failed: {error}")
    device = next(iter(networks.values())).describe()["device"]
    return scored, {"device": device, "load_seconds": round(loaded, 3)}


def _score_facts(scored: scoring.Scored, ran: dict[str, Any], began: float) -> dict[str, Any]:
    return {
        "targets": len(scored.table),
        "status": _count(scored.table["status"].to_numpy()),
        "logits": bins.count(scored.table.filter(regex="^logit").to_numpy()[:, -1]),
        **ran,
        "device_seconds": round(scored.device_seconds, 3),
        "waited_seconds": round(scored.waited_seconds, 3),
        **_facts(began),
    }


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

    run, config = RunDirectory(Path(path)), config_of(path)
    spec, source = config.cutouts, _some(run, config, partition)
    start = 0 if spec.streamed else partition * spec.partition
    stop = start + pq.read_metadata(run.targets(partition)).num_rows
    ok = np.flatnonzero(np.asarray(source.column("status", start, stop)) == Status.OK)[:CHUNK_ROWS]
    if not len(ok):
        return []
    stored = source.read(start, start + int(ok[-1]) + 1)
    step = None if stored.step is None else stored.step[ok]
    lines = []
    for name, model in config.networks.items():
        found = effect.measure(model, spec.bands, spec.size, spec.dtype, stored.image[ok], step, worker.device())
        lines += [f"{name}: {effect.line(found)}".removeprefix(": ")] if found else []
    return lines


def _some(run: RunDirectory, config: Config, partition: int) -> scoring.Source:
    """Cutouts of the first targets of a partition at least: those of the store, or where not all are stored cut again."""
    if not config.cutouts.streamed:
        return store.Reader(run.store)
    targets = pd.read_parquet(run.targets(partition)).head(4 * CHUNK_ROWS)  # of which some are flagged
    cut = _cut(run, config, partition, targets, None)
    shutil.rmtree(run.downloads(partition), ignore_errors=True)
    return store.hold(targets["object_id"].to_numpy(), cut, config.cutouts.dtype)


def config_of(path: str) -> Config:
    """The configuration of a run."""
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


def _memory(spec: Cutouts) -> NDArray[np.float32]:
    """Memory for the pixels of a partition, kept by each thread: getting it anew each time costs 15 % of the cutting."""
    shape = (spec.partition, spec.size, spec.size, len(spec.bands))
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
