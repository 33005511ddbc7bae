"""The whole scan of ``gpu.py``: CPU workers cut, a GPU worker scores; against the cutouts alone and the bare network."""

import json
import os
import shutil
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

from gpu_cutouts import cut_alone, environment

#: Without a GPU: the profile counts one, the network is told that there may be none.
NO_GPU = {"CUDA_VISIBLE_DEVICES": "0"}


@dataclass(frozen=True)
class Job:
    """One scan.

    Parameters
    ----------
    folder : Path
        Everything is made in it.
    network : Path
        Keras file.
    model : dict
        The other keys of the configuration's section ``model``.
    size, targets, partition : int
        Pixels a side; targets in all and of a partition.
    survey : str
        Kind of the tiles: ``des`` or ``legacy``.
    workers, gpu_cores : int
        Workers that cut; cores of the worker that scores.
    gpu : bool
        Whether there is a GPU; without one a CPU worker plays its part.
    rounds : int
        Scans on warm workers, each between two measurements of cutouts alone.
    timeout : float
        Seconds of any one command.
    """

    folder: Path
    network: Path
    model: dict[str, Any]
    size: int
    targets: int
    partition: int
    survey: str
    workers: int
    gpu_cores: int
    gpu: bool
    rounds: int
    timeout: float

    @property
    def config(self) -> Path:
        return self.folder / "scan.yaml"

    @property
    def profile(self) -> Path:
        return self.folder / "profile.yaml"

    @property
    def run(self) -> Path:
        return self.folder / "runs" / "scan"


class Task(NamedTuple):
    """A partition of a stage that was done: when (seconds), targets, and seconds on the device (scores only)."""

    stage: str
    began: float
    ended: float
    targets: int
    device_seconds: float

    def share(self, begin: float, end: float) -> float:
        """The part of its time within a window."""
        inside = min(self.ended, end) - max(self.began, begin)
        return max(inside, 0.0) / max(self.ended - self.began, 1e-9)


def tasks_of(lines: list[str]) -> list[Task]:
    """The tasks of the last start in a run's events."""
    events = [json.loads(line) for line in lines]
    first = max(i for i, event in enumerate(events) if event["event"] == "started")
    return [
        Task(e["stage"], e["time"] - e["seconds"], e["time"], e["targets"], e.get("device_seconds", 0.0))
        for e in events[first:]
        if e["event"] == "finished"
    ]


def evaluate(tasks: list[Task], bare: float, alone: float, start: bool = False) -> dict[str, float]:
    """A scan against the slower of the bare network and the cutouts alone.

    Parameters
    ----------
    tasks : list of Task
        All of one scan.
    bare, alone : float
        Targets a second of the bare network, and of cutouts alone.
    start : bool
        Whether its start counts: from the beginning of the first task, or from when the first partition has its scores.
        It ends when the last has. A task counts by the part of its time within.

    Returns
    -------
    dict
        ``over_slower``: the seconds that the work done takes the slower of the two, over those it took. ``gpu_idle``: the
        share of them in which no task held the device.
    """
    ends = sorted(task.ended for task in tasks if task.stage == "scores")
    if len(ends) < 4:
        raise ValueError(f"{len(ends)} partitions are too few to tell a rate from: 4 at least. Give more --targets.")
    begin, end = min(task.began for task in tasks) if start else ends[0], ends[-1]
    done = {s: sum(t.targets * t.share(begin, end) for t in tasks if t.stage == s) for s in ("cutouts", "scores")}
    device = sum(t.device_seconds * t.share(begin, end) for t in tasks)
    return {
        "seconds": end - begin,
        "scores_per_second": done["scores"] / (end - begin),
        "cutouts_per_second": done["cutouts"] / (end - begin),
        "gpu_idle": 1 - device / (end - begin),
        "over_slower": max(done["scores"] / bare, done["cutouts"] / alone) / (end - begin),
    }


def make_survey(job: Job) -> None:
    """Tiles, catalogue, configuration and profile. All tiles are one, under many names; each is read as its own."""
    import make_tiles
    import pandas as pd
    import yaml

    kind, cache = make_tiles.KINDS[job.survey], make_tiles.cache_folder()
    targets = make_tiles.make_tile(job.survey, cache)
    tiles = [f"T{i:04d}" for i in range(-(-job.targets // kind.n_targets))]
    (job.folder / "tiles").mkdir(parents=True)
    for tile in tiles:
        for band in make_tiles.BANDS:
            source = make_tiles.template(job.survey, cache).format(tile="T1", band=band)
            (job.folder / "tiles" / f"{tile}-{band}.fits.fz").symlink_to(Path(source).resolve())
    table = pd.concat([targets[["ra", "dec"]].assign(tile=tile) for tile in tiles], ignore_index=True)
    table.head(job.targets).rename_axis("object_id").reset_index().to_parquet(job.folder / "catalogue.parquet")
    config = {
        "run": {"name": job.run.name, "directory": job.run.parent.name},
        "catalogue": {"files": "catalogue.parquet", "tile_column": "tile"},
        "images": {"files": "tiles/{tile}-{band}.fits.fz", "bands": make_tiles.BANDS, "hdu": "SCI"},
        "cutouts": {"bands": make_tiles.BANDS, "size": job.size, "partition": job.partition},
        "model": {"path": str(job.network.resolve()), **job.model},
        "resources": {"dashboard": 0},
    }
    profile = {
        "kind": "cuda",
        "cpu": {"workers": job.workers},
        "gpu": {"launcher": "plain", "threads": 2, "cores": job.gpu_cores, "require": job.gpu},
    }
    job.config.write_text(yaml.safe_dump(config, sort_keys=False))
    job.profile.write_text(yaml.safe_dump(profile, sort_keys=False))


def command(job: Job, *words: str) -> None:
    """A command of survey_scan.

    Raises
    ------
    RuntimeError
        If it fails; with the end of what it printed.
    """
    root = str(Path(__file__).parent.parent)
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    env |= {} if job.gpu else NO_GPU
    line = [sys.executable, "-m", "survey_scan", *words]
    done = subprocess.run(line, capture_output=True, text=True, timeout=job.timeout, env=env, cwd=job.folder)
    if done.returncode:
        raise RuntimeError(f"{' '.join(words)} ended with {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}")


def alone_rate(job: Job, processes: int) -> float:
    """Targets a second of the run's cutouts alone."""
    return cut_alone(job.config, job.run, job.folder / "alone.zarr", processes)


@contextmanager
def watched_card(found: dict[str, Any]) -> Iterator[None]:
    """Ask nvidia-smi every second for memory and load of the GPU; nothing without it."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    line = [
        "nvidia-smi",
        "--query-gpu=memory.used,utilization.gpu",
        "--format=csv,noheader,nounits",
        "-l",
        "1",
        "-i",
        "0",
    ]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True)
    try:
        yield
    finally:
        process.terminate()
        rows = [row.split(",") for row in process.communicate()[0].splitlines() if row.count(",") == 1]
        used = [
            (int(memory), int(load)) for memory, load in rows if memory.strip().isdigit() and load.strip().isdigit()
        ]
        if used:
            found["card_MiB"] = max(memory for memory, _ in used)
            found["card_busy_median"] = statistics.median(load for _, load in used) / 100


def scan(job: Job, *words: str) -> list[Task]:
    """The tasks of ``survey_scan run``."""
    from survey_scan.layout import RunDirectory

    os.sync()  # what was written before is not this measurement's to wait for
    command(job, "run", str(job.config), *words)
    return tasks_of(RunDirectory(job.run).events.read_text().splitlines())


@contextmanager
def warm_cluster(job: Job) -> Iterator[str]:
    """The workers of the profile, kept from scan to scan: the address of their scheduler."""
    from survey_scan.cluster import profile
    from survey_scan.cluster.connect import connect
    from survey_scan.config_file import load

    config = load(job.config)
    with environment({} if job.gpu else NO_GPU):
        chosen, backend = profile.load(str(job.profile)), config.backend
        with connect(chosen, config.resources, job.folder / "logs", lambda line: None, backend) as cluster:
            yield cluster.client.scheduler.address


def measure(job: Job, bare: float) -> dict[str, Any]:
    """A scan from a cold start; scans on warm workers; cutouts alone before and after each.

    A ratio is of one scan to its neighbours; given is the median. A cold scan of a minute tells little: the cutouts run
    ahead while the network is loaded, and are not there to be cut any more when it scores.

    Parameters
    ----------
    job : Job
        What to scan; its survey has been made.
    bare : float
        Images a second of the bare network with all pixels on the device already.
    """
    command(job, "plan", str(job.config))
    card: dict[str, Any] = {}
    alone, rounds = [alone_rate(job, job.workers)], []
    cold = scan(job, "--profile", str(job.profile))
    with warm_cluster(job) as address:
        some = min(job.targets, 2 * job.workers * job.partition)
        warming = ["--set", "run.name=warm", "--limit", str(some)]
        command(job, "run", str(job.config), "--scheduler", address, *warming)
        for _ in range(job.rounds):
            alone.append(alone_rate(job, job.workers))
            with watched_card(card):
                tasks = scan(job, "--scheduler", address, "--redo", "cutouts")
            alone.append(alone_rate(job, job.workers))
            rounds.append(evaluate(tasks, bare, statistics.mean(alone[-2:])))
    median = {name: statistics.median(each[name] for each in rounds) for name in rounds[0]}
    started = evaluate(cold, bare, statistics.mean(alone[:2]), start=True)
    cutting, cores = statistics.median(alone), len(os.sched_getaffinity(0))
    return {
        "targets": job.targets,
        "partition": job.partition,
        "workers": {"cpu": job.workers, "gpu": 1, "gpu_threads": 2, "gpu_cores": job.gpu_cores, "cores": cores},
        "survey": job.survey,
        "bare_model_per_second": round(bare, 1),
        "cutouts_alone_per_second": round(cutting, 1),
        "cutouts_alone_all_cores_per_second": round(alone_rate(job, cores), 1),
        "cutouts_alone_rounds": [round(each, 1) for each in alone],
        "slower": "model" if bare <= cutting else "cutouts",
        "pipeline_per_second": round(median["scores_per_second"], 1),
        "pipeline_over_slower": round(median["over_slower"], 3),
        "gpu_idle_share": round(median["gpu_idle"], 3),
        "rounds": [{name: round(value, 3) for name, value in each.items()} for each in rounds],
        "with_start": {name: round(value, 3) for name, value in started.items()},
        **card,
    }
