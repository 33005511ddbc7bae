"""From a profile to a Dask client, whoever starts the workers."""

import contextlib
import getpass
import logging
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from survey_scan.cluster import jobs, local, settings, slurm, worker
from survey_scan.cluster.allocation import Allocation
from survey_scan.cluster.profile import Cuda, Local, Profile, Scheduler, SlurmAllocation, SlurmJobs
from survey_scan.config import Resources
from survey_scan.errors import Interrupted, ResourceError

if TYPE_CHECKING:
    from distributed import Client

Say = Callable[[str], None]

#: Seconds within which an existing scheduler must answer.
CONNECT_SECONDS = 20


@dataclass(frozen=True)
class Cluster:
    """A connected cluster.

    Parameters
    ----------
    client : Client
        Where tasks are submitted.
    text : str
        What it is, in words.
    end : float or None
        Unix time at which its allocation was to end when it began.
    end_now : callable
        The same as it is now: preemption, and people, move it.
    lost : callable
        Says why no worker can come any more; None as long as one may.
    ssh : str or None
        The command that brings the dashboard to another machine.
    """

    client: "Client"
    text: str
    end: float | None = None
    end_now: Callable[[], float | None] = lambda: None
    lost: Callable[[], str | None] = lambda: None
    ssh: str | None = None


@contextlib.contextmanager
def connect(
    profile: Profile, resources: Resources, logs: Path, say: Say, backend: str | None = None
) -> Iterator[Cluster]:
    """A cluster, for as long as the context lasts.

    Parameters
    ----------
    profile : Profile
        Who starts the workers, and which.
    resources : Resources
        Port of the dashboard; size of a cluster on this machine.
    logs : Path
        Folder for what Dask's processes have to say: dask.log, workers.log, and others by profile.
    say : callable
        Prints a line.
    backend : str or None
        What networks run on, for workers that load it ahead of time.

    Raises
    ------
    ResourceError
        If the cluster cannot be had; the message says what to change.
    Interrupted
        If its workers end while it comes up.
    """
    import dask
    import distributed  # noqa: F401 - which gives its loggers handlers when it is imported; they get ours after that

    logs.mkdir(parents=True, exist_ok=True)
    with dask.config.set(settings.load()), _logging_to(logs / "dask.log"):
        if isinstance(profile, SlurmAllocation):
            job = slurm.job()
            allocation = Allocation(profile, job, logs, resources.dashboard, backend)
            with allocation.running(say) as client:
                yield Cluster(
                    client,
                    _allocation_text(allocation),
                    end=job.end,
                    end_now=lambda: slurm.job().end,
                    lost=allocation.lost,
                    ssh=_ssh(client, profile.login),
                )
        elif isinstance(profile, Local | Cuda):
            with local.client_of(profile, resources, logs, backend) as client:
                yield Cluster(client, _text(client, "on this machine"))
        elif isinstance(profile, SlurmJobs):
            with jobs.client_of(profile, logs, resources.dashboard, say) as client:
                yield Cluster(client, _text(client, "in Slurm jobs of their own"), ssh=_ssh(client, None))
        else:
            with _existing(profile) as client:
                yield Cluster(client, _text(client, f"of the scheduler {client.scheduler.address}"))


@contextlib.contextmanager
def _existing(profile: Scheduler) -> Iterator["Client"]:
    from distributed import Client

    where = profile.address
    is_file = "://" not in where and not where.rpartition(":")[2].isdigit()
    if is_file and not Path(where).is_file():
        raise ResourceError(
            f"--scheduler {where}: no such scheduler file. Give an address or the file of a running scheduler."
        )
    try:
        client = Client(**{"scheduler_file" if is_file else "address": where}, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ResourceError(f"--scheduler {where}: no scheduler answers ({reason}). Is it still running?") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise ResourceError(f"--scheduler {where}: the scheduler has no workers. Start some and run again.")
        yield client


def _text(client: "Client", where: str) -> str:
    number = len(client.scheduler_info(n_workers=-1)["workers"])
    return f"{number} worker{'s' * (number != 1)} {where}"


def _allocation_text(allocation: Allocation) -> str:
    job, nodes = allocation.job, allocation.nodes
    kinds = " + ".join(f"{pool.workers} {pool.name.upper()}" for pool in allocation.pools)
    each = (
        f"worker{'s' * (allocation.wanted != nodes)} on each of {nodes} nodes" if nodes > 1 else "workers on one node"
    )
    start = f" (start {job.restart + 1})" if job.restart else ""
    end = "" if job.end is None else f", until {time.strftime('%Y-%m-%d %H:%M', time.localtime(job.end))}"
    return f"{kinds} {each}, job {job.job_id}{start}{end}"


def _ssh(client: "Client", login: str | None) -> str | None:
    """The line to paste on one's own machine; None without a dashboard."""
    if client.dashboard_link is None or "//" not in client.dashboard_link:
        return None
    address = client.dashboard_link.split("//")[1].split("/")[0]
    port = address.rpartition(":")[2]
    host = login or os.environ.get("SLURM_SUBMIT_HOST") or os.uname().nodename
    return f"ssh -L {port}:{address} {getpass.getuser()}@{host}"


@contextlib.contextmanager
def _logging_to(path: Path) -> Iterator[None]:
    """Dask's messages go to a file: its tracebacks at shutdown would bury what the user must read."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handler = logging.FileHandler(path)
    handler.setFormatter(logging.Formatter("%(asctime)s %(name)s %(levelname)s %(message)s"))
    loggers = [logging.getLogger(name) for name in worker.LOGGERS]
    before = [(logger.handlers, logger.propagate) for logger in loggers]
    for logger in loggers:
        logger.handlers, logger.propagate = [handler], False
    try:
        yield
    finally:
        for logger, (handlers, propagate) in zip(loggers, before, strict=True):
            logger.handlers, logger.propagate = handlers, propagate
        handler.close()


@contextlib.contextmanager
def minding(cluster: Cluster) -> Iterator[None]:
    """Turn what Dask raises once its scheduler is gone into an interruption; it may come at any question to it.

    Raises
    ------
    Interrupted
        If the cluster went away.
    """
    from distributed.comm import CommClosedError

    try:
        yield
    except (OSError, CancelledError) as error:
        gone = isinstance(error, CommClosedError | CancelledError) or cluster.client.status != "running"
        if not gone and cluster.lost() is None:
            raise
        raise Interrupted("the Dask cluster went away; run the same command again to resume.") from None
