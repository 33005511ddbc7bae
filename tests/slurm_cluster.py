"""A real Slurm on this machine for the tests: three nodes of eight CPUs and four fake GPUs each (local-slurm.sh)."""

import os
import re
import subprocess
import time
from pathlib import Path

SCRIPT = Path(__file__).parent / "local-slurm.sh"

ENDED = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "PREEMPTED", "OUT_OF_MEMORY")


class Slurm:
    """The cluster and its commands, called from outside of it."""

    def __init__(self, base: Path):
        self.base = base

    def script(self, *words: str, **settings: str) -> str:
        """Run local-slurm.sh."""
        env = {**os.environ, "LOCAL_SLURM_BASE": str(self.base), **settings}
        done = subprocess.run([SCRIPT, *words], env=env, text=True, capture_output=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    @property
    def environment(self) -> dict[str, str]:
        """For a program that calls sbatch, squeue and so on, as on a login node."""
        return {
            "SLURM_CONF": str(self.base / "etc" / "slurm.conf"),
            "LOCAL_SLURM_BASE": str(self.base),
            "PATH": f"{self.base / 'bin'}:{os.environ['PATH']}",
        }

    def command(self, *words: str) -> str:
        """The output of a Slurm command."""
        env = {**os.environ, **self.environment}
        return subprocess.run(words, env=env, check=True, text=True, capture_output=True, timeout=60).stdout

    def job(self, number: str) -> dict[str, str]:
        """What ``scontrol show job`` says."""
        return dict(re.findall(r"(\S+?)=(\S*)", self.command("scontrol", "show", "job", "-o", number)))

    def wait(self, number: str, *states: str, timeout: float = 240) -> dict[str, str]:
        """Wait until a job is in one of some states; without any, until it has ended."""
        deadline = time.monotonic() + timeout
        while True:
            job = self.job(number)
            if job["JobState"] in (states or ENDED):
                return job
            assert time.monotonic() < deadline, f"job {number} is {job['JobState']} ({job['Reason']}) after {timeout} s"
            time.sleep(0.3)
