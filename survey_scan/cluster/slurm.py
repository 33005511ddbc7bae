"""What Slurm says of the job this process runs in, and the requeueing of it."""

import os
import re
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass

import psutil

from survey_scan.errors import ResourceError

#: Seconds a Slurm command may take before it is given up: a busy controller answers late.
COMMAND_SECONDS = 60

#: Fast networks by the name of their interface, the first that is there is used: Slingshot, InfiniBand.
INTERFACES = ("hsn0", "ib0")

#: Starts without a single finished partition after which a job is not requeued again.
FRUITLESS_STARTS = 3


@dataclass(frozen=True)
class Job:
    """One start of a Slurm job.

    Parameters
    ----------
    job_id : str
        SLURM_JOB_ID.
    restart : int
        How often it was requeued before.
    state : str
        Slurm's word: RUNNING, CANCELLED, ...
    batch : bool
        Whether it is a batch job, not salloc's.
    requeue : bool
        Whether it may be requeued.
    nodes : tuple of str
        Names of its nodes.
    cpus : int
        Of the smallest node.
    gpus : int
        On each node.
    memory : int
        Bytes on each node; 0 if Slurm does not say.
    start, end : float or None
        Unix times; None if there is no limit.
    """

    job_id: str
    restart: int
    state: str
    batch: bool
    requeue: bool
    nodes: tuple[str, ...]
    cpus: int
    gpus: int
    memory: int
    start: float | None
    end: float | None

    @property
    def walltime(self) -> float | None:
        """Seconds from start to end."""
        return self.end - self.start if self.end is not None and self.start is not None else None


def job_id() -> str | None:
    """The job this process runs in; None outside of one."""
    return os.environ.get("SLURM_JOB_ID")


def start_name(environ: Mapping[str, str] = os.environ) -> str:
    """Job id and restart count: a requeued job keeps its id, and finds the files of its earlier starts."""
    return f"{environ['SLURM_JOB_ID']}-{environ.get('SLURM_RESTART_COUNT', '0')}"


def job() -> Job:
    """The job this process runs in.

    Raises
    ------
    ResourceError
        If this is no Slurm job, or Slurm does not answer.
    """
    number = job_id()
    if number is None:
        raise ResourceError(
            "the profile is for the inside of a Slurm job, and SLURM_JOB_ID is not set. "
            "Submit the scan (survey_scan submit CONFIG --profile P), or get nodes with salloc first."
        )
    shown = command("scontrol", "show", "job", "-o", number)
    nodes = re.search(r"\bNodeList=(\S+)", shown)
    listed = nodes[1] if nodes and nodes[1] != "(null)" else os.environ.get("SLURM_JOB_NODELIST", "")
    return parse(shown, command("scontrol", "show", "hostnames", listed).split(), os.environ)


def parse(shown: str, nodes: list[str], environ: Mapping[str, str]) -> Job:
    """A job from the line of ``scontrol show job -o``, its nodes' names, and the environment of the job."""
    facts: dict[str, str] = dict(re.findall(r"(\S+?)=(\S*)", shown))
    tres = dict(part.split("=", 1) for part in facts.get("AllocTRES", facts.get("TRES", "")).split(",") if "=" in part)
    per_node = environ.get("SLURM_JOB_CPUS_PER_NODE")
    if per_node:
        cpus = min(int(n) for n in re.findall(r"(\d+)(?:\(x\d+\))?", re.sub(r"\(x\d+\)", "", per_node)))
    else:
        cpus = int(tres.get("cpu", facts.get("NumCPUs", "1"))) // max(len(nodes), 1)
    return Job(
        job_id=facts["JobId"],
        restart=int(facts.get("Restarts", "0")),
        state=facts.get("JobState", "UNKNOWN"),
        batch=facts.get("BatchFlag", "0") != "0",
        requeue=facts.get("Requeue", "0") == "1",
        nodes=tuple(nodes),
        cpus=cpus,
        gpus=_gpus(facts, tres, environ, max(len(nodes), 1)),
        memory=_bytes(tres.get("mem", "0")) // max(len(nodes), 1),
        start=_time(facts.get("StartTime")),
        end=_time(facts.get("EndTime")),
    )


def not_requeued(job: Job, signal: str | None, finished: int, now: float) -> str | None:
    """Why an interrupted job is not to be requeued; None if it is.

    Parameters
    ----------
    job : Job
        As Slurm sees it now.
    signal : str or None
        The signal that stopped the scan; None if it lost its workers.
    finished : int
        Partitions finished in this start.
    now : float
        Unix time.
    """
    if signal == "SIGINT":
        return "it was stopped by hand"
    if job.state.startswith("CANCELLED"):
        return "the job was cancelled"
    if not job.batch:
        return "the job is interactive"
    if not job.requeue:
        return "the job may not be requeued (sbatch --no-requeue)"
    if finished:
        return None
    used, whole = now - (job.start or now), job.walltime
    if whole is not None and used > whole / 2:
        return (
            f"not one partition was finished in {used / 60:.0f} of {whole / 60:.0f} minutes: the walltime is too short. "
            "Ask for a longer --time, or lower cutouts.partition"
        )
    if job.restart >= FRUITLESS_STARTS:
        return f"not one partition was finished, and the job has been requeued {job.restart} times"
    return None


def requeue(number: str) -> None:
    """Put a job back into the queue, which ends this start of it; one that Slurm has put there already stays there.

    Raises
    ------
    ResourceError
        If Slurm refuses.
    """
    try:
        command("scontrol", "requeue", number)
    except ResourceError:
        if " JobState=PENDING " not in command("scontrol", "show", "job", "-o", number):
            raise


def ended(number: str) -> bool:
    """Whether Slurm knows for certain that a job is not running; False where there is no Slurm to ask."""
    try:
        done = subprocess.run(
            ["squeue", "-h", "-j", number, "-o", "%T"], capture_output=True, text=True, timeout=COMMAND_SECONDS
        )
    except (OSError, subprocess.TimeoutExpired):
        return False
    if done.returncode != 0:
        return "Invalid job id" in done.stderr
    return done.stdout.strip() not in ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")


def fast_interface() -> str | None:
    """The network interface of this machine that is made for such traffic, if it has one."""
    there = psutil.net_if_addrs()
    return next((name for name in INTERFACES if name in there), None)


def command(*words: str, given: str | None = None) -> str:
    """The output of a Slurm command.

    Raises
    ------
    ResourceError
        If it is not installed, fails, or does not answer.
    """
    try:
        done = subprocess.run(words, input=given, capture_output=True, text=True, timeout=COMMAND_SECONDS)
    except FileNotFoundError:
        raise ResourceError(
            f"there is no command {words[0]} here: this is not a machine of a Slurm cluster. "
            "Use the profile local, or run this on a login node."
        ) from None
    except subprocess.TimeoutExpired:
        raise ResourceError(
            f"{' '.join(words)}: Slurm did not answer in {COMMAND_SECONDS} s. Try again later."
        ) from None
    if done.returncode != 0:
        reason = (done.stderr.strip() or done.stdout.strip() or f"exit code {done.returncode}").splitlines()[-1]
        raise ResourceError(f"{' '.join(words)}: {reason}")
    return done.stdout


def seconds(limit: str) -> int:
    """Seconds of a time limit as Slurm writes it: minutes, H:MM:SS or D-HH:MM:SS."""
    if limit.isdigit():
        return 60 * int(limit)
    days, _, clock = limit.rpartition("-")
    hours, minutes, rest = (int(n) for n in clock.split(":"))
    return ((int(days or 0) * 24 + hours) * 60 + minutes) * 60 + rest


def _gpus(facts: Mapping[str, str], tres: Mapping[str, str], environ: Mapping[str, str], nodes: int) -> int:
    """GPUs of a node: as asked for by node, as allocated, or as the environment of the batch script has it."""
    asked = re.search(r"gpu(?::\w*[A-Za-z]\w*)?[:=](\d+)", facts.get("TresPerNode", ""))
    if asked:
        return int(asked[1])
    if "gres/gpu" in tres:
        return int(tres["gres/gpu"]) // nodes
    return int(environ.get("SLURM_GPUS_ON_NODE") or 0)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([\d.]+)([KMGT]?)", text)
    if not found:
        return 0
    return int(float(found[1]) * 1024 ** ("KMGT".index(found[2]) + 1 if found[2] else 2))


def _time(text: str | None) -> float | None:
    """Slurm writes local times without a zone."""
    if not text or not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", text):
        return None
    return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
