"""From a profile and a machine's or an allocation's size to workers, and to the command lines that start them."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace

from survey_scan.cluster import worker
from survey_scan.cluster.profile import CpuPool, GpuPool, SlurmAllocation
from survey_scan.cluster.slurm import Job
from survey_scan.errors import ResourceError
from survey_scan.layout import STAGES

#: Cores of each node kept for the driver, the scheduler and the system.
SPARE_CORES = 2

#: Of a node's memory, what workers may have together.
MEMORY_SHARE = 0.95

#: Preloaded by every worker.
PRELOAD = worker.__name__


@dataclass(frozen=True)
class Pool:
    """Workers of one kind on one machine.

    Parameters
    ----------
    name : str
        ``cpu`` or ``gpu``.
    workers : int
        A machine.
    threads : int
        Tasks a worker does at a time.
    cores : int
        Of the machine, for each worker.
    memory : int
        Bytes a worker may use; 0 for no limit.
    stages : tuple of str
        What its workers do; empty for both stages.
    """

    name: str
    workers: int
    threads: int
    cores: int
    memory: int
    stages: tuple[str, ...] = ()

    @property
    def resources(self) -> dict[str, int]:
        """Dask's abstract resources of a worker: one for each stage it is for, as many as it has threads."""
        return dict.fromkeys(self.stages, self.threads)


def pools(gpu: GpuPool | None, cpu: CpuPool, gpus: int, cores: int, memory: int, spare: int = 0) -> list[Pool]:
    """The pools of a machine.

    Parameters
    ----------
    gpu, cpu : GpuPool or None, CpuPool
        The profile's.
    gpus, cores : int
        Of the machine.
    memory : int
        Bytes of the machine; 0 if unknown.
    spare : int
        Cores to leave alone.

    Raises
    ------
    ResourceError
        If the machine is too small for them.
    """
    found: list[Pool] = []
    left = cores
    if gpu is not None:
        if not gpus:
            raise ResourceError(
                "the profile wants GPU workers, but there are no GPUs here. Ask for them (sbatch --gpus-per-node=4), "
                "use a machine that has some, or use a profile without 'gpu'."
            )
        wanted = gpu.workers or gpus
        if wanted > gpus:
            raise ResourceError(
                f"gpu.workers is {wanted} a node, but a node has {gpus} GPU{'s' * (gpus > 1)} in this job. "
                f"Lower gpu.workers, or ask for more GPUs."
            )
        if wanted * gpu.cores > cores:
            raise ResourceError(
                f"{wanted} GPU workers of gpu.cores {gpu.cores} need {wanted * gpu.cores} cores a node, but it has {cores}. "
                f"Lower gpu.cores, or ask for more cores a node."
            )
        threads = 1 if gpu.cutouts else gpu.threads  # a task that cuts keeps its thread busy and its memory filled
        found.append(Pool("gpu", wanted, threads, gpu.cores, _memory(gpu.memory)))
        left -= wanted * gpu.cores
    number = cpu.workers
    if number is None:
        number = 0 if gpu is not None and gpu.cutouts else max((left - spare) // cpu.cores, 0 if gpu else 1)
    if gpu is not None and not gpu.cutouts and not number:
        raise ResourceError(
            f"{found[0].workers} GPU workers of gpu.cores {gpu.cores} leave no worker that cuts: {left} of {cores} cores are "
            f"left, {spare} of them kept for driver and scheduler, and cpu.workers is {cpu.workers or 'unset'}. "
            "Lower gpu.cores, or set gpu.cutouts to true."
        )
    if number:
        each = cpu.cores if gpu is not None else max(cpu.cores, (left - spare) // number)
        found.append(Pool("cpu", number, 1, each, _memory(cpu.memory)))
    if not found:
        raise ResourceError("the profile asks for no worker at all: cpu.workers is 0 and there is no 'gpu'.")
    if gpu is not None and number:
        gpu_stages = STAGES if gpu.cutouts else ("scores",)
        found = [replace(pool, stages=gpu_stages if pool.name == "gpu" else ("cutouts",)) for pool in found]
    share = sum(pool.workers * pool.cores for pool in found)
    return [pool if pool.memory or not memory else replace(pool, memory=memory * pool.cores // share) for pool in found]


def environment(pool: Pool, gpu: GpuPool | None, log: str, backend: str | None) -> dict[str, str]:
    """What a worker of a pool finds in its environment, for :mod:`survey_scan.cluster.worker`.

    Parameters
    ----------
    pool : Pool
        Its pool.
    gpu : GpuPool or None
        The profile's.
    log : str
        File for what it has to say.
    backend : str or None
        What networks run on; None if there is no network.
    """
    found = {worker.LOG: log, worker.THREADS: str(pool.cores)}
    if pool.name == "gpu":
        assert gpu is not None
        found[worker.GPU] = "require" if gpu.require else "any"
        if gpu.memory_fraction is not None:
            found[worker.GPU_MEMORY] = str(gpu.memory_fraction)
        if gpu.pre_import and backend:
            found[worker.PRE_IMPORT] = backend
    elif gpu is not None:  # beside workers that have the GPUs
        found |= {worker.GPU: "none", "CUDA_VISIBLE_DEVICES": ""}
    return found


def job_pools(profile: SlurmAllocation, job: Job) -> list[Pool]:
    """The pools of each node of a job.

    Raises
    ------
    ResourceError
        If the job is too small for the profile.
    """
    if profile.nodes and profile.nodes > len(job.nodes):
        raise ResourceError(
            f"the profile asks for {profile.nodes} nodes, but job {job.job_id} has {len(job.nodes)}. "
            "Lower 'nodes' in the profile (or leave it out: all are used), or submit with --nodes."
        )
    spare = SPARE_CORES if job.cpus > 2 * SPARE_CORES else 0
    return pools(profile.gpu, profile.cpu, job.gpus, job.cpus, int(MEMORY_SHARE * job.memory), spare)


def scheduler_command(profile: SlurmAllocation, scheduler_file: str, interface: str | None, port: int) -> list[str]:
    """The command line of the scheduler, beside the driver on its node."""
    return [
        *("bash", "-c", "trap '' USR1; exec \"$@\"", "scheduler"),
        *(sys.executable, "-m", "distributed.cli.dask_scheduler"),
        *("--scheduler-file", scheduler_file),
        *(("--interface", interface) if interface else ()),
        *("--port", "0", "--dashboard-address", f":{port}"),
        *("--preload", "survey_scan.watch.scheduler"),
    ]


def worker_command(
    profile: SlurmAllocation, pool: Pool, nodes: int, scheduler_file: str, interface: str | None
) -> list[str]:
    """The command line that starts all workers of a pool on a job's nodes.

    A GPU worker sees one GPU (``--gpus-per-task=1``); ``dask cuda worker`` starts the workers of a node by itself. Slurm's
    signals end no worker: the driver alone decides what they mean.
    """
    cuda = pool.name == "gpu" and profile.gpu is not None and profile.gpu.launcher == "dask-cuda"
    tasks = 1 if cuda else pool.workers
    cores = pool.cores * pool.workers // tasks
    gpus = ["--gpus-per-task=0"] if pool.name == "cpu" else [f"--gpus-per-task={pool.workers // tasks}"]
    python = profile.python or ("python3" if profile.container else sys.executable)
    resources = ",".join(f"{stage}={n}" for stage, n in pool.resources.items())
    return [
        *("srun", "--overlap", "--kill-on-bad-exit=0", "--mem=0", "--export=ALL"),
        *("-N", str(nodes), "-n", str(nodes * tasks), f"--ntasks-per-node={tasks}", "-c", str(cores), *gpus),
        *("bash", "-c", "trap '' USR1 TERM; exec \"$@\"", "worker", *profile.container, python, "-m"),
        *(("dask_cuda.cli", "worker") if cuda else ("distributed.cli.dask_worker",)),
        *("--scheduler-file", scheduler_file),
        *(("--interface", interface) if interface else ()),
        *("--nthreads", str(pool.threads), "--memory-limit", str(pool.memory)),
        *(("--resources", resources) if resources else ()),
        *("--local-directory", str(profile.local_directory), "--death-timeout", "120", "--preload", PRELOAD),
        *(() if cuda else ("--no-dashboard", "--nanny" if profile.nanny else "--no-nanny")),
    ]


def clean_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment for srun from inside a job or a step: without what would win over its own options.

    A step's SLURM_NTASKS, SLURM_NNODES and the like are taken by a nested srun for its own; only the job's id is needed.
    """
    prefixes = ("SLURM_", "SRUN_", "CUDA_VISIBLE", "GPU_DEVICE", "ROCR_", "ZE_", "SLURMD_")
    kept = ("SLURM_JOB_ID", "SLURM_CONF")
    return {name: value for name, value in environ.items() if name in kept or not name.startswith(prefixes)}


def _memory(text: str | None) -> int:
    from dask.utils import parse_bytes

    return int(parse_bytes(text)) if text else 0
