"""What a submitted scan would take, before it is submitted."""

import dataclasses
from pathlib import Path

from survey_scan import catalogue
from survey_scan.cluster import projection, projection_words, slurm, workers
from survey_scan.cluster.profile import Batch, SlurmAllocation
from survey_scan.config import Config
from survey_scan.engine import account, calibration, state
from survey_scan.errors import ResourceError, RunError
from survey_scan.layout import RunDirectory


def lines(config: Config, profile: SlurmAllocation, batch: Batch, targets: int | None, rates: Path | None) -> list[str]:
    """Workers, partitions, disk, files, and hours at measured speed, in words.

    Parameters
    ----------
    config : Config
        What is to be scanned; the number of targets is its plan's, or at most its catalogue's rows.
    profile, batch : SlurmAllocation, Batch
        On what.
    targets : int or None
        In place of the plan's number.
    rates : Path or None
        A run whose records say how fast a worker is; None for this one, or its calibration as long as it has none.

    Raises
    ------
    ResourceError
        If the size of a node is not known, or too small for the profile.
    RunError
        If ``rates`` is no run.
    """
    run = RunDirectory(config.run.path)
    if rates is not None and not RunDirectory(rates).records_folder.is_dir():
        raise RunError(
            f"--rates {rates}: no run directory (it has no records). Give the folder a 'survey_scan run' wrote."
        )
    rows = 0
    if targets is None:
        if run.partitions.exists():
            targets = int(state.read_partitions(run)["n_targets"].sum())
        else:
            rows = _rows(config)
    service, crew = config.images.service, workers_of(profile, batch)
    if service is not None:  # which is asked for one partition at a time
        crew = dataclasses.replace(crew, cutouts=1)
    found = projection.project(
        targets,
        rows,
        config.cutouts.size,
        len(config.cutouts.bands),
        config.cutouts.dtype,
        config.cutouts.partition,
        crew,
        _rates(run, rates),
        slurm.seconds(batch.time),
        config.cutouts.store,
    )
    more = [account.requests(service, config.cutouts, targets or rows)[0]] if service is not None else []
    return projection_words.lines(found) + more


def _rates(run: RunDirectory, rates: Path | None) -> projection.Rates:
    if rates is not None:
        return projection.measured(RunDirectory(rates).records_folder)
    found, before = projection.measured(run.records_folder), calibration.read(run)
    return before.rates if found.cutouts is None and before is not None else found


def workers_of(profile: SlurmAllocation, batch: Batch) -> projection.Workers:
    """How many workers a job has, by the rules its workers are started by."""
    nodes = tuple(f"node{i}" for i in range(batch.nodes))
    job = slurm.Job("0", 0, "PENDING", True, True, nodes, _cores(batch), batch.gpus_per_node, 0, None, None)
    pools = {pool.name: pool for pool in workers.job_pools(profile, job)}
    n = profile.nodes or batch.nodes
    gpu, cpu = pools.get("gpu"), pools.get("cpu")
    if gpu is None or cpu is None:
        one = gpu or cpu
        assert one is not None
        return projection.Workers(n, n * one.workers * one.threads, n * one.workers, shared=True, gpu=gpu is not None)
    return projection.Workers(n, n * cpu.workers, n * gpu.workers, gpu=True)


def _cores(batch: Batch) -> int:
    """Cores of a node, as the profile says it, or Slurm of the smallest node that is meant."""
    if batch.cpus_per_node is not None:
        return batch.cpus_per_node
    words = ["sinfo", "-h", "-o", "%c"] + (["-p", batch.partition] if batch.partition else [])
    try:
        return min(int(line.rstrip("+")) for line in slurm.command(*words).split())
    except (ResourceError, ValueError):
        raise ResourceError(
            "how many cores a node has is not known here. Set batch.cpus_per_node in the profile."
        ) from None


def _rows(config: Config) -> int:
    rows = catalogue.survey(config.catalogue).rows
    if rows is None:
        raise RunError("a CSV catalogue does not say how many rows it has. Plan the run first, or give --targets.")
    return rows
