"""From profiles to workers and command lines, as numbers and strings."""

import shlex
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan.cluster import profile, slurm, workers
from survey_scan.cluster.profile import CpuPool, GpuPool, SlurmAllocation
from survey_scan.errors import ResourceError

GIB = 2**30


def job(nodes: int = 4, cpus: int = 128, gpus: int = 4, memory: int = 240 * GIB) -> slurm.Job:
    names = tuple(f"nid{i:06d}" for i in range(nodes))
    return slurm.Job("99", 0, "RUNNING", True, True, names, cpus, gpus, memory, 0.0, 3600.0)


def test_a_perlmutter_node():
    gpu, cpu = workers.job_pools(profile.load("perlmutter-regular"), job())
    assert (gpu.name, gpu.workers, gpu.threads, gpu.cores, gpu.stages) == ("gpu", 4, 2, 8, ("scores",))
    assert (cpu.name, cpu.workers, cpu.threads, cpu.cores, cpu.stages) == ("cpu", 47, 1, 2, ("cutouts",))
    assert 4 * gpu.memory + 47 * cpu.memory <= 0.95 * 240 * GIB
    assert gpu.memory == pytest.approx(4 * cpu.memory, rel=1e-6)


def test_command_lines_of_a_perlmutter_node():
    chosen = profile.load("perlmutter-regular")
    gpu, cpu = workers.job_pools(chosen, job())
    assert shlex.join(workers.scheduler_command(chosen, "/r/logs/s.json", "hsn0", 8787)) == (
        f"""bash -c 'trap '"'"''"'"' USR1; exec "$@"' scheduler {sys.executable} -m distributed.cli.dask_scheduler """
        "--scheduler-file /r/logs/s.json --interface hsn0 --port 0 --dashboard-address :8787 "
        "--preload survey_scan.watch.scheduler"
    )
    assert shlex.join(workers.worker_command(chosen, gpu, 4, "/r/logs/s.json", "hsn0")) == (
        "srun --overlap --kill-on-bad-exit=0 --mem=0 --export=ALL -N 4 -n 16 --ntasks-per-node=4 -c 8 --gpus-per-task=1 "
        f"""bash -c 'trap '"'"''"'"' USR1 TERM; exec "$@"' worker {sys.executable} -m distributed.cli.dask_worker """
        f"--scheduler-file /r/logs/s.json --interface hsn0 --nthreads 2 --memory-limit {gpu.memory} --resources scores=2 "
        "--local-directory /tmp --death-timeout 120 --preload survey_scan.cluster.worker --no-dashboard --nanny"
    )
    words = workers.worker_command(chosen, cpu, 4, "/r/logs/s.json", "hsn0")
    assert words[: words.index("bash")] == shlex.split(
        "srun --overlap --kill-on-bad-exit=0 --mem=0 --export=ALL -N 4 -n 188 --ntasks-per-node=47 -c 2 --gpus-per-task=0"
    )
    assert "--resources cutouts=1" in shlex.join(words)


def test_dask_cuda_starts_the_workers_of_a_node_by_itself():
    chosen = SlurmAllocation(kind="slurm-allocation", gpu=GpuPool(launcher="dask-cuda", cores=8))
    gpu, _ = workers.job_pools(chosen, job())
    words = shlex.join(workers.worker_command(chosen, gpu, 2, "s.json", None))
    assert "-N 2 -n 2 --ntasks-per-node=1 -c 32 --gpus-per-task=4 " in words
    assert f" {sys.executable} -m dask_cuda.cli worker --scheduler-file s.json --nthreads 2 " in words
    assert "nanny" not in words


def test_workers_in_a_container():
    chosen = SlurmAllocation(kind="slurm-allocation", container=["podman-hpc", "run", "--rm", "--gpu", "image"])
    (pool,) = workers.job_pools(chosen, job())
    words = workers.worker_command(chosen, pool, 1, "s.json", None)
    assert words[words.index("worker") + 1 : words.index("-m")] == [
        "podman-hpc",
        "run",
        "--rm",
        "--gpu",
        "image",
        "python3",
    ]


def test_gpu_workers_that_cut_too_are_one_pool_of_one_thread():
    (pool,) = workers.pools(GpuPool(cutouts=True, cores=2), CpuPool(), 4, 8, 8 * GIB)
    assert (pool.workers, pool.threads, pool.stages, pool.memory, pool.resources) == (4, 1, (), 2 * GIB, {})


def test_one_pool_of_cpu_workers_shares_the_cores_among_their_networks():
    (pool,) = workers.pools(None, CpuPool(workers=2), 0, 16, 8 * GIB)
    assert (pool.workers, pool.cores, pool.memory) == (2, 8, 4 * GIB)


@given(
    st.integers(0, 8),
    st.integers(1, 128),
    st.integers(1, 16),
    st.integers(1, 8),
    st.integers(0, 512),
    st.integers(0, 4),
)
def test_pools_never_promise_more_than_a_node_has(gpus, cores, gpu_cores, cpu_cores, gib, spare):
    gpu = GpuPool(cores=gpu_cores) if gpus else None
    try:
        found = workers.pools(gpu, CpuPool(cores=cpu_cores), gpus, cores, gib * GIB, spare)
    except ResourceError as error:
        assert "Lower gpu.cores" in str(error)
        return
    assert sum(pool.workers * pool.cores for pool in found) <= max(cores, cpu_cores)
    assert sum(pool.workers * pool.memory for pool in found) <= gib * GIB
    assert all(pool.workers > 0 and pool.threads > 0 for pool in found)
    stages = [stage for pool in found for stage in pool.stages or ("cutouts", "scores")]
    assert sorted(stages) == ["cutouts", "scores"]


@pytest.mark.parametrize(
    ("gpu", "cpu", "gpus", "cores", "message"),
    [
        (
            GpuPool(), CpuPool(), 0, 64,
            "the profile wants GPU workers, but there are no GPUs here. Ask for them (sbatch --gpus-per-node=4), "
            "use a machine that has some, or use a profile without 'gpu'.",
        ),
        (
            GpuPool(workers=6), CpuPool(), 4, 64,
            "gpu.workers is 6 a node, but a node has 4 GPUs in this job. Lower gpu.workers, or ask for more GPUs.",
        ),
        (
            GpuPool(cores=32), CpuPool(), 4, 64,
            "4 GPU workers of gpu.cores 32 need 128 cores a node, but it has 64. "
            "Lower gpu.cores, or ask for more cores a node.",
        ),
        (
            GpuPool(cores=16), CpuPool(), 4, 64,
            "4 GPU workers of gpu.cores 16 leave no worker that cuts: 0 of 64 cores are left, 2 of them kept for driver and "
            "scheduler, and cpu.workers is unset. Lower gpu.cores, or set gpu.cutouts to true.",
        ),
        (
            None, CpuPool(workers=0), 0, 64,
            "the profile asks for no worker at all: cpu.workers is 0 and there is no 'gpu'.",
        ),
    ],
)  # fmt: skip
def test_a_machine_that_is_too_small(gpu, cpu, gpus, cores, message):
    with pytest.raises(ResourceError) as caught:
        workers.pools(gpu, cpu, gpus, cores, 64 * GIB, 2)
    assert str(caught.value) == message


def test_more_nodes_than_the_job_has():
    with pytest.raises(ResourceError) as caught:
        workers.job_pools(SlurmAllocation(kind="slurm-allocation", nodes=4), job(nodes=2))
    assert str(caught.value) == (
        "the profile asks for 4 nodes, but job 99 has 2. "
        "Lower 'nodes' in the profile (or leave it out: all are used), or submit with --nodes."
    )


def test_environments_of_workers():
    gpu_pool = GpuPool(memory_fraction=0.5)
    gpu, cpu = workers.pools(gpu_pool, CpuPool(), 2, 16, 0)
    assert workers.environment(gpu, gpu_pool, "w.log", "jax") == {
        "SURVEY_SCAN_WORKER_LOG": "w.log", "SURVEY_SCAN_WORKER_THREADS": "4", "SURVEY_SCAN_WORKER_GPU": "require",
        "SURVEY_SCAN_WORKER_GPU_MEMORY": "0.5", "SURVEY_SCAN_WORKER_PRE_IMPORT": "jax",
    }  # fmt: skip
    assert workers.environment(cpu, gpu_pool, "w.log", "jax") == {
        "SURVEY_SCAN_WORKER_LOG": "w.log", "SURVEY_SCAN_WORKER_THREADS": "1", "SURVEY_SCAN_WORKER_GPU": "none",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip
    assert "SURVEY_SCAN_WORKER_PRE_IMPORT" not in workers.environment(gpu, gpu_pool, "w.log", None)


def test_the_environment_of_a_step_is_not_inherited():
    before = {
        "SLURM_JOB_ID": "9", "SLURM_CONF": "/etc/slurm.conf", "SLURM_NTASKS": "1", "SLURM_NNODES": "1", "SRUN_DEBUG": "3",
        "SLURMD_NODENAME": "nid1", "CUDA_VISIBLE_DEVICES": "0,1", "PATH": "/bin", "HOME": "/root",
    }  # fmt: skip
    assert workers.clean_environment(before) == {
        "SLURM_JOB_ID": "9", "SLURM_CONF": "/etc/slurm.conf", "PATH": "/bin", "HOME": "/root"
    }  # fmt: skip


def test_gpu_workers_that_cut_too_beside_cpu_workers_get_both_kinds_of_task():
    """With two pools Dask gives a task to those that declare its resource; one that declares none gets none."""
    chosen = SlurmAllocation(kind="slurm-allocation", gpu=GpuPool(cores=8, cutouts=True), cpu=CpuPool(workers=3))
    gpu, cpu = workers.job_pools(chosen, job())
    assert (gpu.stages, cpu.stages) == (("cutouts", "scores"), ("cutouts",))
    words = workers.worker_command(chosen, gpu, 4, "s.json", None)
    assert words[words.index("--resources") + 1] == "cutouts=1,scores=1"
