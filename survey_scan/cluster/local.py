"""Workers on this machine: plain ones on its cores, and, where the profile says so, one on each GPU."""

import contextlib
import logging
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survey_scan.cluster import workers
from survey_scan.cluster.profile import Cuda, GpuPool, Local
from survey_scan.cluster.workers import Pool
from survey_scan.config import Resources
from survey_scan.errors import ResourceError

if TYPE_CHECKING:
    from distributed import Client


def sized(profile: Local | Cuda, resources: Resources) -> list[Pool]:
    """The pools of this machine; ``resources.workers`` and ``resources.memory`` are of its CPU workers.

    Raises
    ------
    ResourceError
        If the machine is too small, or a number of bytes cannot be read.
    """
    from dask.utils import parse_bytes
    from distributed.system import MEMORY_LIMIT

    cpu = profile.cpu
    if resources.workers is not None:
        cpu = cpu.model_copy(update={"workers": resources.workers})
    if resources.memory is not None:
        try:
            parse_bytes(resources.memory)
        except ValueError:
            raise ResourceError(
                f"resources.memory is {resources.memory!r}; give bytes with a unit, such as '4 GiB'."
            ) from None
        cpu = cpu.model_copy(update={"memory": resources.memory})
    gpu = profile.gpu if isinstance(profile, Cuda) else None
    gpus = len(visible_gpus()) if gpu else 0
    return workers.pools(gpu, cpu, gpus, len(os.sched_getaffinity(0)), int(MEMORY_LIMIT))


def visible_gpus(environ: Mapping[str, str] = os.environ) -> list[str]:
    """The GPUs of this machine that this process may use, as CUDA_VISIBLE_DEVICES names them."""
    listed = environ.get("CUDA_VISIBLE_DEVICES")
    if listed is not None:
        return [name for name in listed.split(",") if name.strip() not in ("", "-1", "NoDevFiles")]
    if shutil.which("nvidia-smi") is None:
        return []
    found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, text=True, timeout=60)
    return [str(i) for i, line in enumerate(line for line in found.stdout.splitlines() if line.startswith("GPU "))]


def specs(
    pools: list[Pool], gpu: GpuPool | None, gpus: list[str], log: str, backend: str | None
) -> dict[str, dict[str, Any]]:
    """What Dask's SpecCluster is to start, by name."""
    from distributed import Nanny

    found: dict[str, dict[str, Any]] = {}
    for pool in pools:
        cuda = _dask_cuda(gpu, gpus[: pool.workers]) if pool.name == "gpu" and gpu is not None else None
        for i in range(pool.workers):
            env = workers.environment(pool, gpu, log, backend)
            options: dict[str, Any] = {}
            if pool.name == "gpu":
                env["CUDA_VISIBLE_DEVICES"] = gpus[i]
                if cuda is not None:
                    env["CUDA_VISIBLE_DEVICES"] = cuda[i]["env"]["CUDA_VISIBLE_DEVICES"]
                    options["plugins"] = cuda[i]["plugins"]
            found[f"{pool.name}-{i}"] = {
                "cls": Nanny,
                "options": {
                    "nthreads": pool.threads,
                    "memory_limit": pool.memory,
                    "resources": pool.resources,
                    "host": "127.0.0.1",
                    "dashboard": False,
                    "preload": [workers.PRELOAD],
                    "env": env,
                    "silence_logs": logging.WARNING,
                    **options,
                },
            }
    return found


@contextlib.contextmanager
def client_of(profile: Local | Cuda, resources: Resources, logs: Path, backend: str | None) -> Iterator["Client"]:
    """A cluster on this machine, for as long as the context lasts."""
    from distributed import Client, Scheduler, SpecCluster

    pools = sized(profile, resources)
    gpu = profile.gpu if isinstance(profile, Cuda) else None
    scheduler = {
        "cls": Scheduler,
        "options": {
            "host": "127.0.0.1",
            "port": 0,
            "dashboard": True,
            "dashboard_address": f"127.0.0.1:{_free(resources.dashboard)}",
            "preload": ["survey_scan.watch.scheduler"],
        },
    }
    started = specs(pools, gpu, visible_gpus() if gpu else [], str(logs / "workers.log"), backend)
    with SpecCluster(workers=started, scheduler=scheduler, silence_logs=logging.WARNING) as cluster:
        with Client(cluster) as client:
            yield client


def _dask_cuda(gpu: GpuPool, gpus: list[str]) -> list[dict[str, Any]] | None:
    """dask-cuda's own options for workers on these GPUs; of these are used which GPU, and the cores next to it.

    Not its preload, which makes a CUDA context of its own on each GPU, nor its memory limit.
    """
    if gpu.launcher == "plain":
        return None
    try:
        from dask_cuda.worker_spec import worker_spec
    except ImportError:
        raise ResourceError(
            "gpu.launcher is 'dask-cuda', which is not installed. Install survey_scan with the extra [gpu], "
            "or set gpu.launcher to 'plain' in the profile."
        ) from None
    return [spec["options"] for spec in worker_spec(CUDA_VISIBLE_DEVICES=gpus, threads_per_worker=1).values()]


def _free(port: int) -> int:
    """The wanted port, or 0 (any) if another program has it: two scans on one machine are no reason to stop."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return 0
    return port
