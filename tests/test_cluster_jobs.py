"""Workers as Slurm jobs of their own: what dask-jobqueue is asked for, and what it is refused."""

from pathlib import Path

import pytest

from survey_scan.cluster import jobs, profile
from survey_scan.cluster.profile import Jobs, SlurmJobs
from survey_scan.errors import ResourceError


def test_jobs_of_two_pools():
    chosen = SlurmJobs(
        kind="slurm-jobs", time="1:00:00", account="m1", options=["-q regular"], gpu=Jobs(jobs=1, cores=8, memory="32 GiB",
        options=["--gpus=1"]), cpu=Jobs(jobs=2, memory="4 GiB"),
    )  # fmt: skip
    found = jobs.specs(chosen, Path("/logs"))
    assert list(found) == ["gpu-0", "cpu-0", "cpu-1"]
    gpu, cpu = found["gpu-0"], found["cpu-0"]
    assert (gpu["cores"], gpu["processes"], gpu["job_cpu"], gpu["memory"], gpu["walltime"]) == (
        2,
        1,
        8,
        "32 GiB",
        "1:00:00",
    )
    assert gpu["job_extra_directives"] == ["-q regular", "--gpus=1"]
    assert gpu["worker_extra_args"] == [
        "--preload", "survey_scan.cluster.worker", "--lifetime", "3300s", "--lifetime-stagger", "120s", "--resources", "scores=2",
    ]  # fmt: skip
    assert cpu["cores"] == 1 and cpu["worker_extra_args"][-1] == "cutouts=1"
    assert "export SURVEY_SCAN_WORKER_GPU='require'" in gpu["job_script_prologue"]
    assert "export SURVEY_SCAN_WORKER_GPU='none'" in cpu["job_script_prologue"]


def test_one_pool_does_both_stages():
    (one, *_) = jobs.specs(profile.load("slurm-jobs"), Path("/logs")).values()
    assert "--resources" not in one["worker_extra_args"]


def test_a_job_that_slurm_does_not_take(tmp_path, monkeypatch):
    pytest.importorskip("dask_jobqueue")
    (tmp_path / "sbatch").write_text("#!/bin/sh\necho 'sbatch: error: invalid account' >&2\nexit 1\n")
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    said: list[str] = []
    with pytest.raises(ResourceError) as caught, jobs.client_of(profile.load("slurm-jobs"), tmp_path, 0, said.append):
        pass
    assert str(caught.value) == "sbatch --test-only: sbatch: error: invalid account"
