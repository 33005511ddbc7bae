"""A Dask client: of a cluster on this machine, or of a scheduler that runs already."""

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from survey_scan.config import Resources
from survey_scan.engine import worker
from survey_scan.errors import ResourceError

if TYPE_CHECKING:
    from distributed import Client

#: Seconds within which an existing scheduler must answer.
CONNECT_SECONDS = 20

#: Long scans: nothing worth spilling (data lie on disk already), patience with a slow file system, and a partition
#: that has killed three workers is taken for the culprit.
DASK_CONFIG = {
    "distributed.scheduler.allowed-failures": 3,
    "distributed.scheduler.worker-ttl": "30 minutes",
    "distributed.comm.timeouts.connect": "60s",
    "distributed.comm.timeouts.tcp": "300s",
    "distributed.worker.memory.target": False,
    "distributed.worker.memory.spill": False,
    "distributed.worker.memory.pause": False,
    "distributed.worker.memory.terminate": 0.95,
    "distributed.worker.profile.enabled": False,
}


def n_workers(resources: Resources) -> int:
    """Workers of a local cluster: as many as this process has cores, unless the configuration says."""
    return resources.workers or len(os.sched_getaffinity(0))


def memory_per_worker(resources: Resources) -> int:
    """Bytes a worker of a local cluster may use: its share of this machine, unless the configuration says.

    Raises
    ------
    ResourceError
        If ``resources.memory`` is not a number of bytes with a unit.
    """
    from dask.utils import parse_bytes
    from distributed.system import MEMORY_LIMIT

    if resources.memory is None:
        return int(MEMORY_LIMIT) // n_workers(resources)
    try:
        return int(parse_bytes(resources.memory))
    except ValueError:
        raise ResourceError(
            f"resources.memory is {resources.memory!r}; give bytes with a unit, such as '4 GiB'."
        ) from None


@contextlib.contextmanager
def connect(resources: Resources, scheduler: str | None, logs: Path) -> Iterator["Client"]:
    """A client, for as long as the context lasts.

    Parameters
    ----------
    resources : Resources
        Size of the local cluster.
    scheduler : str or None
        Address or scheduler file of a running scheduler; None starts a cluster on this machine.
    logs : Path
        Folder in which Dask's own messages are kept (dask.log).

    Raises
    ------
    ResourceError
        If no scheduler answers, or it has no workers.
    """
    import dask
    from distributed import Client, LocalCluster

    with dask.config.set(DASK_CONFIG), _logging_to(logs / "dask.log"):
        if scheduler is not None:
            with _existing(scheduler) as client:
                yield client
            return
        with (
            LocalCluster(
                n_workers=n_workers(resources),
                threads_per_worker=1,
                processes=True,
                memory_limit=memory_per_worker(resources),
                dashboard_address=f"127.0.0.1:{_free(resources.dashboard)}",
                preload=["survey_scan.engine.worker"],
                env={
                    worker.LOG: str(logs / "workers.log"),
                    worker.THREADS: str(max(1, len(os.sched_getaffinity(0)) // n_workers(resources))),
                },
                silence_logs=logging.WARNING,
            ) as cluster,
            Client(cluster) as client,
        ):
            yield client


@contextlib.contextmanager
def _existing(scheduler: str) -> Iterator["Client"]:
    from distributed import Client

    is_file = "://" not in scheduler and not scheduler.rpartition(":")[2].isdigit()
    if is_file and not Path(scheduler).is_file():
        raise ResourceError(
            f"--scheduler {scheduler}: no such scheduler file. Give an address or the file of a running scheduler."
        )
    where = {"scheduler_file": scheduler} if is_file else {"address": scheduler}
    try:
        client = Client(**where, timeout=CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise ResourceError(f"--scheduler {scheduler}: no scheduler answers ({reason}). Is it still running?") from None
    with client:
        if not client.scheduler_info()["workers"]:
            raise ResourceError(f"--scheduler {scheduler}: the scheduler has no workers. Start some and run again.")
        yield client


def _free(port: int) -> int:
    """The wanted port, or 0 (any) if another program has it: two scans on one machine are no reason to stop."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port


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
