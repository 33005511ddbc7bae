"""The whole scan against the slower of its two stages run alone, on workers that do both and on two pools of them.

A network of the size of CMU DeepLens (ResNet-46, 3.5 M parameters) scores 45 x 45 cutouts of a synthetic survey. Three scans a
round, on one warm cluster: both stages, cutouts alone, scores alone (of cutouts that are there already). ``shared`` is a
cluster of a worker a core, each of which does both stages; ``pools`` one of a worker that cuts and one that scores. The time of
a scan is from its first task to its last; ``timeline`` is when each task of the last whole scan began and ended.
Prints JSON; ``python benchmarks/scan.py [--rounds N] [--targets N] [--keep]``.
"""

import argparse
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import kept
import small_survey
from distributed import get_task_stream
from scores import deeplens

from survey_scan.cluster import profile
from survey_scan.cluster.connect import Cluster, connect
from survey_scan.config import Config
from survey_scan.config_file import load
from survey_scan.engine import interrupt, pipeline, prepare, state
from survey_scan.engine.events import Events
from survey_scan.engine.watching import Watching
from survey_scan.layout import RunDirectory

PROFILES: dict[str, profile.Local | profile.Cuda] = {
    "shared": profile.Local(kind="local"),
    "pools": profile.Cuda(
        kind="cuda",
        gpu=profile.GpuPool(workers=1, cores=1, threads=1, require=False, pre_import=False),
        cpu=profile.CpuPool(workers=1),
    ),
}


def make(folder: Path, targets: int) -> Config:
    """A survey and a network."""
    survey = small_survey.make(folder / "survey", n_objects=targets, side=1500, bands="gri")
    deeplens(45).save(folder / "survey" / "deeplens.keras")
    survey.edit(
        cutouts={"size": 45, "partition": 512}, model={"path": "deeplens.keras"}, selection={"cuts": {}},
        resources={"workers": None},
    )  # fmt: skip
    return load(survey.config)


def scan(cluster: Cluster, config: Config, run: RunDirectory, skip: str | None) -> float:
    """Seconds of the scan of all partitions, without one of the stages."""
    standing = state.standing(run, config)
    if skip == "scores":
        standing.todo["scores"].clear()
    if skip != "cutouts":
        shutil.rmtree(run.store, ignore_errors=True)
        pipeline.create_store(config, run)
    with interrupt.handled(run, print) as stop:
        began = time.perf_counter()
        watching = Watching(run, cluster)
        watching.planned(standing)
        failures = pipeline.scan(cluster, config, run, standing, stop, Events(run.events), watching, lambda line: None)
        seconds = time.perf_counter() - began
    assert not failures, failures
    return seconds


def timeline(tasks: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """What Dask saw of the tasks of a scan: worker, stage, and seconds since the first began."""
    found = [
        (task["worker"], task["key"].split("-")[0], one["start"], one["stop"])
        for task in tasks
        for one in task["startstops"]
        if one["action"] == "compute" and task["key"].split("-")[0] in ("cutouts", "scores")
    ]
    workers, first = sorted({worker for worker, *_ in found}), min(start for _, _, start, _ in found)
    return [
        {
            "worker": workers.index(worker),
            "stage": stage,
            "start": round(start - first, 3),
            "stop": round(stop - first, 3),
        }
        for worker, stage, start, stop in sorted(found, key=lambda one: one[2])
    ]


def forget(run: RunDirectory, *stages: str) -> None:
    for stage in stages:
        shutil.rmtree(run.records_folder / stage, ignore_errors=True)


def measure(config: Config, run: RunDirectory, where: str, rounds: int) -> dict[str, Any]:
    """Scans on one cluster in turns."""
    times: dict[str, list[float]] = {"whole": [], "cutouts": [], "scores": []}
    with connect(PROFILES[where], config.resources, run.logs, lambda line: None) as cluster:
        if not run.partitions.exists():
            pipeline.planning.make_plan(config, run, cluster.client)
        forget(run, "cutouts", "scores")
        scan(cluster, config, run, None)  # warm: every worker has loaded the network
        for _ in range(rounds):
            forget(run, "cutouts", "scores")
            with get_task_stream(cluster.client) as stream:
                times["whole"].append(scan(cluster, config, run, None))
            forget(run, "cutouts", "scores")
            times["cutouts"].append(scan(cluster, config, run, "scores"))
            times["scores"].append(scan(cluster, config, run, "cutouts"))
    targets = sum(state.standing(run, config).targets.values())
    medians = {name: statistics.median(values) for name, values in times.items()}
    slower = max(medians["cutouts"], medians["scores"])
    return {
        "targets": targets,
        "seconds": {name: [round(v, 2) for v in values] for name, values in times.items()},
        "targets_per_second": {name: round(targets / value) for name, value in medians.items()},
        "slower_stage": "scores" if medians["scores"] >= medians["cutouts"] else "cutouts",
        "whole_against_slower_stage": round(slower / medians["whole"], 3),
        "most_on_shared_cores": round(slower / (medians["cutouts"] + medians["scores"]), 3),
        "whole_against_both_one_after_the_other": round((medians["cutouts"] + medians["scores"]) / medians["whole"], 3),
        "timeline": timeline(stream.data),
    }


def main() -> None:
    """Measure both clusters."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--targets", type=int, default=8192)
    kept.option(parser)
    arguments = parser.parse_args()
    os.environ["CUDA_VISIBLE_DEVICES"] = "0"  # none is needed: the pool that scores is told so
    with tempfile.TemporaryDirectory() as name:
        config = make(Path(name), arguments.targets)
        config.run.path.mkdir(parents=True)
        run = prepare.open_run(config, Path(name) / "survey" / "lrg.yaml", None, None)
        result = {where: measure(config, run, where, arguments.rounds) for where in PROFILES}
    kept.tell("scan", {"wanted": 0.92, **result}, arguments.keep)


if __name__ == "__main__":
    main()
