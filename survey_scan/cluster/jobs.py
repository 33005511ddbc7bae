"""Workers as Slurm jobs of their own, through dask-jobqueue; scheduler and driver stay here."""

import contextlib
import logging
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survey_scan.cluster import pools, settings, slurm, worker, workers
from survey_scan.cluster.profile import Jobs, SlurmJobs
from survey_scan.errors import ResourceError

if TYPE_CHECKING:
    from distributed import Client

Say = Callable[[str], None]

#: Seconds before its time limit at which a worker hands its tasks back, and by how much workers differ in it.
LIFETIME_MARGIN, LIFETIME_STAGGER = 300, 120


def specs(profile: SlurmJobs, logs: Path) -> dict[str, dict[str, Any]]:
    """What dask-jobqueue's SLURMJob is to be given, by the worker's name."""
    found: dict[str, dict[str, Any]] = {}
    for name, jobs, stage in (("gpu", profile.gpu, "scores"), ("cpu", profile.cpu, "cutouts")):
        if jobs is None:
            continue
        both = profile.gpu is None or profile.cpu is None
        for i in range(jobs.jobs):
            found[f"{name}-{i}"] = _options(profile, name, jobs, () if both else (stage,), logs)
    return found


def _options(profile: SlurmJobs, name: str, jobs: Jobs, stages: tuple[str, ...], logs: Path) -> dict[str, Any]:
    limit = slurm.seconds(profile.time)
    lifetime = max(limit - LIFETIME_MARGIN, limit // 2)
    threads = 2 if name == "gpu" and stages else 1
    environ = {
        worker.LOG: str(logs / "workers.log"),
        worker.THREADS: str(jobs.cores),
        worker.GPU: ("require" if profile.require_gpu else "any") if name == "gpu" else "none",
        "DASK_CONFIG": str(logs / "dask.yaml"),
    }
    return {
        "queue": profile.partition,
        "account": profile.account,
        "cores": threads,  # of these dask-jobqueue makes the worker's threads
        "processes": 1,
        "job_cpu": jobs.cores,
        "memory": jobs.memory,
        "walltime": str(profile.time),
        "interface": profile.interface,
        "local_directory": str(profile.local_directory),
        "log_directory": str(logs),
        "nanny": True,
        "job_extra_directives": [*profile.options, *jobs.options],
        "job_script_prologue": [*profile.setup, *(f"export {key}='{value}'" for key, value in environ.items())],
        "worker_extra_args": [
            *("--preload", workers.PRELOAD),
            *("--lifetime", f"{lifetime}s", "--lifetime-stagger", f"{min(LIFETIME_STAGGER, lifetime // 4)}s"),
            *(("--resources", ",".join(f"{stage}={threads}" for stage in stages)) if stages else ()),
        ],
    }


@contextlib.contextmanager
def client_of(profile: SlurmJobs, logs: Path, port: int, say: Say) -> Iterator["Client"]:
    """A cluster whose workers are jobs, for as long as the context lasts.

    Raises
    ------
    ResourceError
        If dask-jobqueue is not installed, Slurm refuses a job, or none starts in time.
    """
    try:
        from dask_jobqueue.slurm import SLURMJob
    except ImportError:
        raise ResourceError(
            "the profile kind slurm-jobs needs dask-jobqueue. Install survey_scan with the extra [slurm]."
        ) from None
    from distributed import Client, Scheduler, SpecCluster

    settings.write(logs)
    profile = profile.model_copy(update={"interface": profile.interface or slurm.fast_interface()})
    scheduler = {
        "cls": Scheduler,
        "options": {
            "interface": profile.interface, "dashboard": True, "dashboard_address": f":{port}",
            "preload": ["survey_scan.watch.scheduler"],
        },
    }  # fmt: skip
    options_by_name = specs(profile, logs)
    started = {name: {"cls": SLURMJob, "options": options} for name, options in options_by_name.items()}
    for options in {name.partition("-")[0]: options for name, options in options_by_name.items()}.values():
        # Asked first: Dask cannot close a cluster whose jobs were not taken.
        slurm.command("sbatch", "--test-only", given=SLURMJob("tcp://nowhere:1", "probe", **options).job_script())
    try:
        cluster = SpecCluster(workers=started, scheduler=scheduler, silence_logs=logging.WARNING)
    except (RuntimeError, FileNotFoundError, AssertionError) as error:
        raise ResourceError(f"Slurm took no worker's job: {_refusal(error)}") from None
    with cluster, Client(cluster) as client:
        _wait(client, profile, len(started), say)
        yield client


def _refusal(error: BaseException) -> str:
    """What sbatch said; dask-jobqueue stumbles over a job that was not taken once more when it closes."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, RuntimeError | FileNotFoundError):
        cause = cause.__context__
    if cause is None:
        raise error
    return next(line for line in reversed(str(cause).splitlines()) if line.strip())


def _wait(client: "Client", profile: SlurmJobs, wanted: int, say: Say) -> None:
    began = time.monotonic()
    say(f"workers     {wanted} jobs submitted; the scan starts with the first of each kind (squeue --me)")
    while time.monotonic() - began < profile.start_seconds:
        if all(pools.find(client).workers.values()):
            return
        time.sleep(0.5)
    raise ResourceError(
        f"no job of a worker started within {profile.start_seconds} s. See squeue --me; raise start_seconds in the profile, "
        "or ask for less."
    )
