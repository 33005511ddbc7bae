"""``survey_scan simulate``: partitions of a training set on Dask, resumed from their records."""

import importlib.metadata
import importlib.util
import io
import queue
import shutil
import socket
import time
from collections import Counter, deque
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import yaml

from survey_scan import __version__, box, records, store
from survey_scan.cluster import pools
from survey_scan.cluster import profile as profiles
from survey_scan.cluster.connect import Cluster, connect, minding
from survey_scan.config import Box
from survey_scan.engine import interrupt, lock
from survey_scan.engine.interrupt import Stop
from survey_scan.engine.progress import Count, Progressing, duration
from survey_scan.errors import Incomplete, Interrupted, RunError, UserError
from survey_scan.identity import Key, digest, digest_path, explain
from survey_scan.layout import RunDirectory
from survey_scan.simulation import order, partition, real
from survey_scan.simulation.config import KINDS, LENSES, Simulation, load
from survey_scan.simulation.constraints import described
from survey_scan.simulation.folder import README, TrainingSet

if TYPE_CHECKING:
    from distributed import Future

Say = Callable[[str], None]

#: Tasks in flight for each worker thread.
WINDOW = 2


def run(config: Simulation, config_path: Path, profile: str | None, scheduler: str | None, say: Say) -> TrainingSet:
    """Make a training set, from wherever an earlier start of the same ended.

    Parameters
    ----------
    config : Simulation
        What to make.
    config_path : Path
        The file it came from, kept as given.
    profile, scheduler : str or None
        Where to run, instead of ``resources.profile``.
    say : callable
        Prints a line.

    Raises
    ------
    UserError
        Something to mend: files, constraints that let hardly any lens pass, a folder of another set.
    Incomplete
        Stopped, or partitions failed; the same call resumes.
    """
    if importlib.util.find_spec("lenstronomy") is None:
        raise UserError("simulating needs lenstronomy, which is not installed. pip install 'survey_scan[simulate]'")
    made, directory = TrainingSet(config.output.directory), RunDirectory(config.output.directory)
    where = profiles.Scheduler(kind="scheduler", address=scheduler) if scheduler else None
    place = where or profiles.load(profile or config.resources.profile)
    partition.studio_of(config)  # what is wrong with stamps, point-spread functions or the prior shows here
    with lock.held(directory), interrupt.handled(directory, say) as stop:
        key = _open(config, config_path, made, say)
        standing = {p: records.read(made.record(p)) for p in range(config.partitions)}
        todo = [p for p, record in standing.items() if record is None or record["key"] != key]
        finished = sum(_rows(config, p) for p in standing) - sum(_rows(config, p) for p in todo)
        say(f"set         {config.counts.total:,} objects: {_kinds(config)}; seed {config.output.seed}")
        if finished:
            say(f"finished    {finished:,} objects already")
        began = time.perf_counter()
        if todo:
            with connect(place, config.resources, made.logs, say) as cluster:
                say(f"workers     {cluster.text}")
                counts = {"objects": Count(config.counts.total, finished)}
                with minding(cluster), Progressing(counts, say) as progress:
                    _simulate(cluster, config, made, key, todo, stop, progress)
            seconds = time.perf_counter() - began
            say(f"rate        {counts['objects'].now / seconds:,.0f} objects/s, {duration(seconds)}")
        _close(config, made, key, say)
    return made


def task(path: str, number: int, key: Key) -> dict[str, Any]:
    """Simulate one partition: forget its record, write pixels and truth, write the record.

    Returns
    -------
    dict
        The record's facts: objects, draws of lenses, rejections a test, seconds, host.
    """
    made, began = TrainingSet(Path(path)), time.perf_counter()
    record = made.record(number)
    if (found := records.read(record)) and found["key"] == key:
        return found
    records.forget(record)
    config = load(made.config_resolved)
    chosen = {kind: pd.read_parquet(made.chosen(kind)) for kind in ("painted", "field") if made.chosen(kind).exists()}
    simulated = partition.simulate(config, number, chosen)
    nowhere = np.full(len(simulated.truth), np.nan)
    ids = simulated.truth["object_id"].to_numpy()
    store.write(made.store, number, ids, nowhere, nowhere, simulated.cutouts)
    _write(made.truth(number), simulated.truth)
    facts = {
        "objects": len(simulated.truth),
        "kinds": {str(k): int(n) for k, n in simulated.truth["kind"].value_counts().sort_index().items()},
        "draws": simulated.tally.draws,
        "accepted": simulated.tally.accepted,
        "rejected": dict(simulated.tally.rejected),
        "seconds": round(time.perf_counter() - began, 3),
        "host": socket.gethostname(),
    }
    records.write(record, key, facts)
    return facts


def _open(config: Simulation, config_path: Path, made: TrainingSet, say: Say) -> Key:
    """Make the folder, or see that it belongs to this configuration; its lock is held."""
    chosen = {}
    for kind in ("painted", "field"):
        if getattr(config.counts, kind):
            chosen[kind] = real.find(config, kind)
            say(f"{kind:<11} {len(chosen[kind]):,} real cutouts of {getattr(config, kind).store}")
    key = _key(config, chosen)
    known = records.read(made.manifest)
    mine = (RunDirectory(made.path).lock, made.logs)
    if known is not None:
        if changed := explain(known["key"], key):
            raise RunError(
                f"{made} is a training set made otherwise (another {', '.join(changed)}). Choose another "
                "output.directory, or delete it."
            )
    elif strangers := [p.name for p in sorted(made.path.iterdir()) if p not in mine]:
        raise RunError(
            f"{made} exists and is no training set: it holds {', '.join(strangers[:3])}. Choose another output.directory."
        )
    else:
        records.write(made.manifest, key, {"state": "incomplete", "survey_scan": __version__})
    records.write_atomically(made.readme, README.encode())
    records.write_atomically(made.config_given, config_path.read_bytes())
    header = f"# All settings of this set, defaults included (survey_scan {__version__}). Edit your own file, not this one.\n"
    body = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    records.write_atomically(made.config_resolved, (header + body).encode())
    for kind, table in chosen.items():
        _write(made.chosen(kind), table)
    if not made.store.exists():
        shutil.rmtree(made.record(0).parent, ignore_errors=True)
        flux = store.flux_scale(dict.fromkeys(config.bands, config.survey.zero_point), None)
        attributes = {"release": "simulated", "pixel_scale": config.survey.pixel_scale, **flux}
        store.create(made.store, config.counts.total, config.cutouts, np.int64, attributes)
    return key


def _key(config: Simulation, chosen: dict[str, pd.DataFrame]) -> Key:
    """What the pixels depend on: settings, files by their content, and lenstronomy."""
    settings = config.model_dump(mode="json", exclude={"resources": True, "output": {"directory"}})
    for section in [settings["sources"], *settings["survey"]["bands"].values(), settings["painted"], settings["field"]]:
        for name in ("stamps", "psf", "store", "table"):
            if section and section.get(name):
                section[name] = True
    files = [config.sources.stamps, *(band.psf for band in config.survey.bands.values())]
    return {
        "configuration": digest(settings),
        "files": digest([digest_path(file) for file in files if file is not None]),
        "real cutouts": digest({kind: table.to_csv(index=False) for kind, table in chosen.items()}),
        "version of lenstronomy": importlib.metadata.version("lenstronomy"),
        "version": str(partition.SIMULATION_VERSION),
    }


def _simulate(
    cluster: Cluster,
    config: Simulation,
    made: TrainingSet,
    key: Key,
    todo: list[int],
    stop: Stop,
    progress: Progressing,
) -> None:
    """Submit partitions with a small window in flight, until all are done or one fails."""
    client, waiting = cluster.client, deque(todo)
    demand = pools.find(client).demand("cutouts")
    ended: queue.SimpleQueue[Future] = queue.SimpleQueue()
    flying: set[Future] = set()
    progress.started("objects")
    with stop.graceful():
        while flying or (waiting and not stop.requested):
            threads = pools.find(client).threads["cutouts"] if len(flying) < len(waiting) else 1
            while waiting and not stop.requested and len(flying) < WINDOW * max(threads, 1):
                number = waiting.popleft()
                name = f"simulate-{number:05d}-{digest([str(made), time.time()])[:8]}"
                future = client.submit(task, str(made), number, key, key=name, pure=False, resources=demand)
                flying.add(future)
                future.add_done_callback(ended.put)
            try:
                future = ended.get(timeout=1.0)
            except queue.Empty:
                progress.tick()
                if why := cluster.lost():
                    raise Interrupted(f"{why}; run the same command again to resume.") from None
                continue
            flying.discard(future)
            progress.finished("objects", _result(future)["objects"])
    stop.raise_if_requested()


def _result(future: "Future") -> dict[str, Any]:
    error = future.exception()
    if future.status == "cancelled":
        raise Interrupted("the Dask cluster went away; run the same command again to resume.")
    if isinstance(error, UserError):
        raise error
    if error is not None:
        raise Incomplete(f"{future.key}: {type(error).__name__}: {error}. Run the same command again to resume.")
    facts: dict[str, Any] = future.result()
    return facts


def _close(config: Simulation, made: TrainingSet, key: Key, say: Say) -> None:
    """Sum the records up, write the table of the lenses, and say what they are."""
    found = [record for p in range(config.partitions) if (record := records.read(made.record(p)))]
    draws, accepted = (sum(record[name] for record in found) for name in ("draws", "accepted"))
    rejected: Counter[str] = Counter()
    for record in found:
        rejected.update(record["rejected"])
    facts = {"state": "complete", "survey_scan": __version__, "objects": sum(record["objects"] for record in found)}
    records.write(
        made.manifest, key, {**facts, "draws": draws, "accepted": accepted, "rejected": dict(rejected.most_common())}
    )
    if accepted:
        say(f"lenses      {accepted:,} of {draws:,} draws passed ({accepted / draws:.1%})")
        say(f"rejected    by {described(rejected)}")
    lenses = _lenses(config, made)
    if len(lenses):
        _write(made.lenses, lenses)
        colours = [f"mag_{one} - mag_{other}" for one, other in pairwise(config.bands)]
        if colours and len(lenses) >= box.FEWEST:
            drawn = box.draw(Box(lenses=str(made.lenses), colours=colours), [])
            say(f"colours     {' · '.join(drawn.cuts.values())}: what selection.box draws from {made.lenses.name}")
    say(f"done        {made}: cutouts.zarr and truth/, row by row")


def _lenses(config: Simulation, made: TrainingSet) -> pd.DataFrame:
    """The truth of the lenses whose magnitudes are all known."""
    tables = []
    for number in range(config.partitions):
        table = pd.read_parquet(made.truth(number))
        tables.append(table[table["label"] == 1].dropna(subset=[f"mag_{band}" for band in config.bands]))
    return pd.concat(tables, ignore_index=True)


def _write(path: Path, table: pd.DataFrame) -> None:
    buffer = io.BytesIO()
    table.to_parquet(buffer, index=False)
    records.write_atomically(path, buffer.getvalue())


def _rows(config: Simulation, number: int) -> int:
    return len(order.of_partition(config, number)[0])


def _kinds(config: Simulation) -> str:
    counts = [(getattr(config.counts, kind), kind) for kind in KINDS]
    lenses = sum(count for count, kind in counts if kind in LENSES)
    return f"{lenses:,} lenses (" + ", ".join(f"{count:,} {kind}" for count, kind in counts if count) + ")"
