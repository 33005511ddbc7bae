"""The batch script that runs a scan in a Slurm job."""

import shlex

from survey_scan.cluster.profile import Batch

#: Cores of the driver where it is a step of its own; the scheduler runs beside it on the same ones.
DRIVER_CORES = 2


def script(batch: Batch, name: str, words: list[str], python: str, log: str) -> str:
    """The text of a batch script; Slurm starts it in the folder it is submitted from.

    Parameters
    ----------
    batch : Batch
        What is asked of Slurm.
    name : str
        Of the job.
    words : list of str
        The command line that runs the scan, without what starts Python.
    python : str
        What starts Python.
    log : str
        File for what it prints; ``%j`` is the job's number.
    """
    options = [
        f"--job-name={name}",
        *(f"--{key}={value}" for key, value in _identity(batch) if value is not None),
        f"--nodes={batch.nodes}",
        *([f"--gpus-per-node={batch.gpus_per_node}"] if batch.gpus_per_node else []),
        f"--time={batch.time}",
        # Exactly the driver is warned: the batch script becomes it, or it is a step.
        f"--signal={'B:' if batch.driver == 'exec' else ''}USR1@{batch.signal_seconds}",
        "--requeue",
        "--open-mode=append",
        f"--output={log}",
        *batch.options,
    ]
    command = shlex.join([python, "-m", "survey_scan", *words])
    if batch.driver == "exec":
        last = ["# exec: Slurm's signals reach the driver itself, and its exit code is the job's.", f"exec {command}"]
    else:
        step = (
            f"srun --overlap --nodes=1 --ntasks=1 --cpus-per-task={DRIVER_CORES} --mem=0"
            f"{' --gpus=0' if batch.gpus_per_node else ''}"
        )
        last = [
            "# A step: where preemption warns steps only, the driver hears it. In the background, so that bash hears, too.",
            f"{step} \\\n  {command} &",
            "driver=$!",
            "# Slurm's CONT interrupts wait: ask again, or the job would end with its driver still at work.",
            "wait $driver; code=$?",
            "while kill -0 $driver 2>/dev/null; do wait $driver; code=$?; done",
            "exit $code",
        ]
    return "\n".join(["#!/bin/bash -l", *(f"#SBATCH {option}" for option in options), "", *batch.setup, *last, ""])


def _identity(batch: Batch) -> list[tuple[str, str | None]]:
    return [
        ("account", batch.account),
        ("qos", batch.qos),
        ("partition", batch.partition),
        ("constraint", batch.constraint),
    ]
