"""How long a planned scan will take here: a few of its partitions are scanned beforehand, in a run directory of their own.

What is scanned is scanned as the whole will be: the same workers, files, network, ranking and report. So what its records say
of cutouts and scores holds for the rest, and what is left of its time is what any scan takes besides.
"""

import json
import os
import shutil
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survey_scan import plan, records
from survey_scan.cluster import projection, projection_words
from survey_scan.cluster.profile import SlurmJobs
from survey_scan.cluster.projection import Calibration, Projection, Rates, Workers
from survey_scan.config import CHUNK_ROWS, Config
from survey_scan.config_file import dump
from survey_scan.engine import pipeline, prepare, state
from survey_scan.errors import Incomplete, Interrupted, UserError
from survey_scan.identity import digest
from survey_scan.layout import RunDirectory
from survey_scan.watch.tally import CPU

Say = Callable[[str], None]

#: Targets of a partition that are scanned at most, a multiple of a chunk: neighbours, as dense on their tiles as all are.
ROWS = 8 * CHUNK_ROWS

#: Partitions that are scanned for each core of this machine.
PARTITIONS_A_CORE = 2


def project(config: Config, options: pipeline.Options, say: Say) -> Projection | None:
    """Say what a planned run will take, by its calibration, which is made now if there is none yet.

    Parameters
    ----------
    config : Config
        Of a planned run.
    options : Options
        Where it will run.
    say : callable
        Prints a line.

    Returns
    -------
    Projection or None
        None if nothing can be scanned beforehand, which is said.

    Raises
    ------
    Interrupted
        If a signal came; the plan is finished all the same.
    """
    run = RunDirectory(config.run.path)
    if config.images.service is not None:
        say("calibration none: a cutout service is asked at the rate of the whole scan (images.service.rate)")
        return None
    profile = pipeline.profile_of(config, options)
    if isinstance(profile, SlurmJobs):
        say("calibration none: its workers would be jobs that wait in the queue. 'run --limit 20000' is one by hand")
        return None
    found = read(run)
    try:
        key = _key(config, run, json.dumps(profile.model_dump(mode="json")))
        if found is None or found.key != key:
            say("calibration scanning a few partitions beforehand (--no-calibrate leaves it out)")
            found = _measure(config, run, options, key)
            records.write_json(run.calibration, asdict(found))
    except UserError as error:
        say(f"calibration failed: {error}")
        return None
    say(
        f"calibration {found.targets:,} targets in {found.partitions:,} partitions took {found.seconds:.0f} s on "
        f"{found.rates.where.split(',')[0]}; kept in {run.calibration}"
    )
    spec = config.cutouts
    projected = projection.project(
        state.plan_facts(run)["planned"], 0, spec.size, len(spec.bands), spec.dtype, spec.partition,
        found.workers, found.rates, None, spec.store, found.fixed_seconds,
    )  # fmt: skip
    for line in projection_words.lines(projected):
        say(line)
    return projected


def read(run: RunDirectory) -> Calibration | None:
    """The calibration of a run; None if there is none, or another version of the program wrote it."""
    try:
        said = json.loads(run.calibration.read_text())
        return Calibration(**{**said, "workers": Workers(**said["workers"]), "rates": Rates(**said["rates"])})
    except (FileNotFoundError, ValueError, TypeError, KeyError):
        return None


def _key(config: Config, run: RunDirectory, profile: str) -> str:
    """What a calibration depends on: the plan, pixels and networks, and where they are worked on."""
    said = config.model_dump(mode="json", include={"images", "cutouts", "resources", "ranking"})
    targets = state.read_partitions(run)["targets_digest"].tolist()
    return digest([targets, said, state.models_key(config), profile, os.uname().nodename])


def _measure(config: Config, run: RunDirectory, options: pipeline.Options, key: str) -> Calibration:
    """Scan the sample and see where its time went.

    Raises
    ------
    UserError
        If the scan cannot be done.
    """
    sample, own = _prepare(config, run)
    try:
        began, quiet = time.perf_counter(), pipeline.Options(options.profile, options.scheduler, say=lambda line: None)
        try:
            pipeline.run(own, sample.config_resolved, quiet)
        except Incomplete as error:
            if isinstance(error, Interrupted):
                raise
            raise UserError(str(error)) from None
        seconds = time.perf_counter() - began
        found = {stage: list(state.standing(sample, own).done[stage].values()) for stage in ("cutouts", "scores")}
        hosts = {record["host"] for records_of in found.values() for record in records_of}
        workers, rates = _workers(sample, len(hosts)), projection.rates(found)
        n = sum(record["targets"] for record in found["scores"])
        spent = projection.project(n, 0, own.cutouts.size, len(own.cutouts.bands), own.cutouts.dtype,
                                   own.cutouts.partition, workers, rates, None)  # fmt: skip
        fixed = max(seconds - 3600 * (spent.hours or 0.0), 0.0)
        return Calibration(
            key, time.strftime("%Y-%m-%dT%H:%M:%S%z"), n, len(found["scores"]), seconds, fixed, workers, rates
        )
    finally:
        shutil.rmtree(sample.path, ignore_errors=True)


def _prepare(config: Config, run: RunDirectory) -> tuple[RunDirectory, Config]:
    """A planned run directory of some partitions' first targets, in the run's plan folder; and its configuration."""
    rows = min(config.cutouts.partition, ROWS)
    own = config.model_copy(
        update={
            "run": config.run.model_copy(update={"directory": run.plan, "name": "sample"}),
            "cutouts": config.cutouts.model_copy(update={"partition": rows}),
        }
    )
    sample = RunDirectory(own.run.path)
    shutil.rmtree(sample.path, ignore_errors=True)
    sample.targets_folder.mkdir(parents=True)
    sample.plan.mkdir()
    partitions = state.read_partitions(run)
    many = min(len(partitions), PARTITIONS_A_CORE * len(os.sched_getaffinity(0)))
    chosen = partitions["partition"].to_numpy()[np.linspace(0, len(partitions) - 1, many).round().astype(int)]
    said: list[dict[str, Any]] = []
    # Only the last partition of a run may be smaller than the others.
    for number, p in enumerate(sorted(chosen, key=lambda p: -min(rows, int(partitions["n_targets"][p])))):
        targets = pd.read_parquet(run.targets(int(p))).iloc[:rows]
        plan.write_targets(targets, sample.targets(number))
        said.append(plan.partition_row(number, number * rows, targets))
    n = sum(row["n_targets"] for row in said)
    records.write_json(sample.plan_facts, {**state.plan_facts(run), "catalogue": n, "selected": n, "planned": n})
    pd.DataFrame({"cut": [], "kept": [], "removed": [], "fraction": []}).to_csv(sample.cut_flow, index=False)
    shutil.copyfile(run.tiles, sample.tiles)
    pd.DataFrame(said).to_csv(sample.partitions, index=False)
    prepare.write_manifest(sample, {"state": "incomplete", "limit": None})
    records.write_atomically(sample.config_resolved, dump(own, "A calibration").encode())
    return sample, own


def _workers(sample: RunDirectory, nodes: int) -> Workers:
    """What it ran on, by the last that its driver showed."""
    pools: dict[str, Any] = json.loads(Path(sample.now).read_text())["pools"]
    cut, score = pools["cutouts"], pools["scores"]
    gpu = score["device"] != CPU
    return Workers(nodes, cut["threads"], score["workers"], cut["shared"], gpu)
