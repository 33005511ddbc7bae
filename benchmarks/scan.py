"""The whole scan against the slower of its two stages run alone, on the same workers.

A network of the size of CMU DeepLens (ResNet-46, 3.5 M parameters) scores 45 x 45 cutouts of a synthetic survey. Three scans a
round, on one warm cluster: both stages, cutouts alone, scores alone (of cutouts that are there already). The time of
a scan is from its first task to its last. Prints JSON; ``python benchmarks/scan.py [--rounds N] [--targets N]``.
"""

import argparse
import json
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import small_survey
from scores import deeplens

from survey_scan.cluster import profile
from survey_scan.cluster.connect import Cluster, connect
from survey_scan.config import Config
from survey_scan.config_file import load
from survey_scan.engine import interrupt, pipeline, prepare, state
from survey_scan.engine.events import Events
from survey_scan.engine.watching import Watching
from survey_scan.layout import RunDirectory


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


def forget(run: RunDirectory, *stages: str) -> None:
    for stage in stages:
        shutil.rmtree(run.records_folder / stage, ignore_errors=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--targets", type=int, default=8192)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        config = make(Path(name), arguments.targets)
        config.run.path.mkdir(parents=True)
        run = prepare.open_run(config, Path(name) / "survey" / "lrg.yaml", None, None)
        times: dict[str, list[float]] = {"whole": [], "cutouts": [], "scores": []}
        with connect(profile.load("local"), config.resources, run.logs, lambda line: None) as cluster:
            pipeline.planning.make_plan(config, run, cluster.client)
            scan(cluster, config, run, None)  # warm: every worker has loaded the network
            for _ in range(arguments.rounds):
                forget(run, "cutouts", "scores")
                times["whole"].append(scan(cluster, config, run, None))
                forget(run, "cutouts", "scores")
                times["cutouts"].append(scan(cluster, config, run, "scores"))
                times["scores"].append(scan(cluster, config, run, "cutouts"))
            workers = len(cluster.client.nthreads())
        targets = sum(state.standing(run, config).targets.values())
    medians = {name: statistics.median(values) for name, values in times.items()}
    slower = max(medians["cutouts"], medians["scores"])
    result = {
        "workers": workers,
        "targets": targets,
        "seconds": {name: [round(v, 2) for v in values] for name, values in times.items()},
        "targets_per_second": {name: round(targets / value) for name, value in medians.items()},
        "slower_stage": "scores" if medians["scores"] >= medians["cutouts"] else "cutouts",
        "whole_against_slower_stage": round(slower / medians["whole"], 3),
        "whole_against_both_one_after_the_other": round((medians["cutouts"] + medians["scores"]) / medians["whole"], 3),
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
