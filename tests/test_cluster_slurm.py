"""What Slurm says, read; and when a job goes back into the queue."""

from dataclasses import replace

import pytest

from survey_scan.cluster import slurm
from survey_scan.errors import ResourceError

SHOWN = (
    "JobId=2 JobName=lrg UserId=root(0) Account=m1234 QOS=(null) JobState=RUNNING Reason=None Requeue=1 Restarts=1 "
    "BatchFlag=1 ExitCode=0:0 RunTime=00:00:03 TimeLimit=00:10:00 StartTime=2026-11-21T09:07:20 "
    "EndTime=2026-11-21T09:17:20 NodeList=nid[001001-001002] BatchHost=nid001001 NumNodes=2 NumCPUs=16 "
    "TRES=cpu=16,mem=8000M,node=2,billing=16 TresPerNode=gres:gpu:4"
)


def test_a_job_of_slurm_22():
    job = slurm.parse(SHOWN, ["nid001001", "nid001002"], {"SLURM_JOB_CPUS_PER_NODE": "8(x2)"})
    assert (job.job_id, job.restart, job.state, job.batch, job.requeue) == ("2", 1, "RUNNING", True, True)
    assert (job.nodes, job.cpus, job.gpus, job.memory) == (("nid001001", "nid001002"), 8, 4, 4000 * 2**20)
    assert job.walltime == 600


@pytest.mark.parametrize(
    ("tres", "environ", "gpus"),
    [
        ("AllocTRES=cpu=16,mem=8G,gres/gpu=8,gres/gpu:a100=8 TresPerNode=gres/gpu:a100:4", {}, 4),
        ("AllocTRES=cpu=16,mem=8G,gres/gpu=8", {}, 4),
        ("AllocTRES=cpu=16,mem=8G", {"SLURM_GPUS_ON_NODE": "2"}, 2),
        ("AllocTRES=cpu=16,mem=8G", {}, 0),
    ],
)
def test_gpus_of_a_node(tres, environ, gpus):
    shown = SHOWN.split(" TRES=")[0] + " " + tres
    assert slurm.parse(shown, ["a", "b"], environ).gpus == gpus


def test_the_smallest_node_counts():
    job = slurm.parse(SHOWN, ["a", "b", "c"], {"SLURM_JOB_CPUS_PER_NODE": "128(x2),64"})
    assert job.cpus == 64


def test_a_job_without_limit():
    shown = SHOWN.replace("EndTime=2026-11-21T09:17:20", "EndTime=Unknown")
    job = slurm.parse(shown, ["a", "b"], {})
    assert (job.end, job.walltime, job.cpus) == (None, None, 8)


@pytest.mark.parametrize(
    ("limit", "seconds"), [("10", 600), ("1:00:00", 3600), ("12:30:05", 45005), ("1-00:00:00", 86400)]
)
def test_time_limits(limit, seconds):
    assert slurm.seconds(limit) == seconds


JOB = slurm.Job("7", 0, "RUNNING", True, True, ("a",), 8, 4, 0, 1000.0, 4600.0)


@pytest.mark.parametrize(
    ("job", "signal", "finished", "now", "why"),
    [
        (JOB, "SIGUSR1", 12, 4300, None),
        (JOB, "SIGTERM", 12, 2000, None),
        (JOB, None, 12, 2000, None),
        (JOB, "SIGINT", 12, 2000, "it was stopped by hand"),
        (replace(JOB, state="CANCELLED"), "SIGTERM", 12, 2000, "the job was cancelled"),
        (replace(JOB, batch=False), "SIGUSR1", 12, 2000, "the job is interactive"),
        (replace(JOB, requeue=False), "SIGUSR1", 12, 2000, "the job may not be requeued (sbatch --no-requeue)"),
        (
            JOB, "SIGUSR1", 0, 4300,
            "not one partition was finished in 55 of 60 minutes: the walltime is too short. "
            "Ask for a longer --time, or lower cutouts.partition",
        ),
        (JOB, "SIGTERM", 0, 1100, None),  # preempted early
        (
            replace(JOB, restart=3), "SIGTERM", 0, 1100,
            "not one partition was finished, and the job has been requeued 3 times",
        ),
    ],
)  # fmt: skip
def test_when_a_job_goes_back_into_the_queue(job, signal, finished, now, why):
    assert slurm.not_requeued(job, signal, finished, now) == why


def test_outside_of_a_job(monkeypatch):
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    with pytest.raises(ResourceError) as caught:
        slurm.job()
    assert str(caught.value) == (
        "the profile is for the inside of a Slurm job, and SLURM_JOB_ID is not set. "
        "Submit the scan (survey_scan submit CONFIG --profile P), or get nodes with salloc first."
    )


def test_a_machine_without_slurm(monkeypatch):
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ResourceError) as caught:
        slurm.command("sbatch", "job")
    assert str(caught.value) == (
        "there is no command sbatch here: this is not a machine of a Slurm cluster. "
        "Use the profile local, or run this on a login node."
    )
    assert slurm.ended("7") is False


def test_a_slurm_command_that_fails(tmp_path, monkeypatch):
    (tmp_path / "sbatch").write_text(
        "#!/bin/sh\necho 'sbatch: error: one' >&2\necho 'sbatch: error: invalid qos' >&2\nexit 1\n"
    )
    (tmp_path / "sbatch").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    with pytest.raises(ResourceError) as caught:
        slurm.command("sbatch", "job")
    assert str(caught.value) == "sbatch job: sbatch: error: invalid qos"


@pytest.mark.parametrize(
    ("out", "err", "code", "ended"),
    [
        ("RUNNING", "", 0, False),
        ("COMPLETING", "", 0, False),
        ("PENDING", "", 0, True),
        ("", "", 0, True),
        ("", "slurm_load_jobs error: Invalid job id specified", 1, True),
        ("", "slurm_load_jobs error: Unable to contact slurm controller", 1, False),
    ],
)
def test_whether_another_job_has_ended(tmp_path, monkeypatch, out, err, code, ended):
    (tmp_path / "squeue").write_text(f"#!/bin/sh\necho '{out}'\necho '{err}' >&2\nexit {code}\n")
    (tmp_path / "squeue").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert slurm.ended("7") is ended


@pytest.mark.parametrize("state", ["PENDING", "RUNNING"])
def test_a_job_that_slurm_has_requeued_already(tmp_path, monkeypatch, state):
    (tmp_path / "scontrol").write_text(
        '#!/bin/sh\n[ "$1" = show ] && { echo "JobId=7 JobState=' + state + ' Reason=None"; exit 0; }\n'
        'echo "Job is pending execution for job 7" >&2; exit 1\n'
    )
    (tmp_path / "scontrol").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    if state == "PENDING":
        slurm.requeue("7")
    else:
        with pytest.raises(ResourceError, match="Job is pending execution"):
            slurm.requeue("7")
