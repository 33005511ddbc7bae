"""Scheduler and workers on the nodes of the Slurm job this process runs in."""

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from survey_scan.cluster import pools, settings, slurm, workers
from survey_scan.cluster.profile import SlurmAllocation
from survey_scan.errors import Interrupted, ResourceError

if TYPE_CHECKING:
    from distributed import Client

Say = Callable[[str], None]

#: Seconds for Dask to close by itself before it is ended.
CLOSE_SECONDS = 15


class Allocation:
    """Scheduler and worker processes of one start of a job.

    Parameters
    ----------
    profile : SlurmAllocation
        What to start.
    job : slurm.Job
        Where.
    logs : Path
        Folder for the scheduler file, and what the processes print.
    port : int
        Of the dashboard; another one if it is taken.
    backend : str or None
        What networks run on; None if there is no network.
    """

    def __init__(self, profile: SlurmAllocation, job: slurm.Job, logs: Path, port: int, backend: str | None):
        self.profile, self.job, self.logs, self.port, self.backend = profile, job, logs, port, backend
        self.pools = workers.job_pools(profile, job)
        self.nodes = profile.nodes or len(job.nodes)
        self.wanted = sum(pool.workers for pool in self.pools) * self.nodes
        self.scheduler_file = logs / f"scheduler-{slurm.start_name()}.json"
        self._scheduler: subprocess.Popen[bytes] | None = None
        self._steps: list[subprocess.Popen[bytes]] = []

    @contextlib.contextmanager
    def running(self, say: Say) -> Iterator["Client"]:
        """A client of the started cluster, for as long as the context lasts.

        Raises
        ------
        ResourceError
            If the scheduler or all the workers of a pool do not come up.
        """
        for old in self.logs.glob("scheduler-*.json"):
            old.unlink()
        interface = self.profile.interface or slurm.fast_interface()
        environ = workers.clean_environment(os.environ) | {"DASK_CONFIG": str(settings.write(self.logs))}
        try:
            words = workers.scheduler_command(self.profile, str(self.scheduler_file), interface, self.port)
            self._scheduler = self._start(words, environ, "scheduler.log")
            client = self._connect()
            with client:
                for pool in self.pools:
                    words = workers.worker_command(self.profile, pool, self.nodes, str(self.scheduler_file), interface)
                    own = workers.environment(pool, self.profile.gpu, str(self.logs / "workers.log"), self.backend)
                    self._steps.append(self._start(words, environ | own, "srun.log"))
                self._wait(client, say)
                yield client
                self._close(client)
        finally:
            self._end()

    def lost(self) -> str | None:
        """Why no worker can come any more; None as long as one may."""
        if self._scheduler is not None and self._scheduler.poll() is not None:
            return f"the Dask scheduler ended (see {self.logs / 'scheduler.log'})"
        if self._steps and all(step.poll() is not None for step in self._steps):
            return f"all workers ended (see {self.logs / 'srun.log'})"
        return None

    def _start(self, words: list[str], environ: dict[str, str], log: str) -> "subprocess.Popen[bytes]":
        # A session of its own: what a terminal or Slurm sends to the driver's process group is for the driver.
        with (self.logs / log).open("ab") as stream:
            stream.write(f"\n--- start {slurm.start_name()}: {' '.join(words)}\n".encode())
            stream.flush()
            return subprocess.Popen(
                words, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, env=environ,
                start_new_session=True,
            )  # fmt: skip

    def _connect(self) -> "Client":
        from distributed import Client

        deadline = time.monotonic() + self.profile.start_seconds
        while time.monotonic() < deadline:
            if why := self.lost():
                raise ResourceError(f"{why}: {_last_line(self.logs / 'scheduler.log')}")
            # Dask does not write the file in one go: it counts once it can be read.
            with contextlib.suppress(OSError, ValueError):
                json.loads(self.scheduler_file.read_text())
                return Client(scheduler_file=str(self.scheduler_file), timeout=30)
            time.sleep(0.1)
        raise ResourceError(
            f"the Dask scheduler did not start within {self.profile.start_seconds} s. See {self.logs / 'scheduler.log'}, "
            "or raise start_seconds in the profile."
        )

    def _wait(self, client: "Client", say: Say) -> None:
        """Until all workers are there, or the time for it is up and each stage has at least one."""
        began = said = time.monotonic()
        while (come := len(client.scheduler_info(n_workers=-1)["workers"])) < self.wanted:
            if why := self.lost():
                raise Interrupted(f"{why}: {_last_line(self.logs / 'srun.log')}. Run the same command again.")
            now = time.monotonic()
            if now - began > self.profile.start_seconds:
                break
            if now - said > 30:
                said = now
                say(f"workers     {come} of {self.wanted} have come after {now - began:.0f} s")
            time.sleep(0.2)
        else:
            return
        missing = [stage for stage, workers in pools.find(client).workers.items() if not workers]
        if missing:
            raise ResourceError(
                f"no worker for {missing[0]} came within {self.profile.start_seconds} s: "
                f"{_last_line(self.logs / 'srun.log')}. See {self.logs / 'srun.log'}, or raise start_seconds in the profile."
            )
        say(
            f"warning     {come} of {self.wanted} workers came within {self.profile.start_seconds} s; "
            f"going on with them (see {self.logs / 'srun.log'})"
        )

    def _close(self, client: "Client") -> None:
        """Ask Dask to end: workers first, so that none complains of a scheduler that went away."""
        with contextlib.suppress(OSError, TimeoutError):
            client.shutdown()
            deadline = time.monotonic() + CLOSE_SECONDS
            while any(step.poll() is None for step in self._steps) and time.monotonic() < deadline:
                time.sleep(0.1)

    def _end(self) -> None:
        """End what still runs. A TERM to srun kills its tasks at once."""
        running = [p for p in (*self._steps, self._scheduler) if p is not None and p.poll() is None]
        for process in running:
            process.terminate()
        for process in running:
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self.scheduler_file.unlink(missing_ok=True)


def _last_line(path: Path) -> str:
    try:
        lines = [line.strip() for line in path.read_text(errors="replace").splitlines() if line.strip()]
    except OSError:
        return "nothing was printed"
    return "nothing was printed" if not lines or lines[-1].startswith("--- start") else lines[-1]
