"""One driver a run: ``run.lock`` says who, and tells a dead holder from a live one."""

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil

from survey_scan.cluster import slurm
from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory

#: A holder on another host touches its lock this often, and is taken for dead after missing ten of these.
HEARTBEAT_SECONDS = 30
DEAD_AFTER_SECONDS = 10 * HEARTBEAT_SECONDS


@contextlib.contextmanager
def held(run: RunDirectory) -> Iterator[None]:
    """Hold the lock of a run.

    Raises
    ------
    RunError
        If a live driver holds it; the message says who.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    _acquire(run)
    done = threading.Event()
    heart = threading.Thread(target=_beat, args=(run.lock, done), daemon=True, name="run.lock")
    heart.start()
    try:
        yield
    finally:
        done.set()
        heart.join()
        run.lock.unlink(missing_ok=True)


def holder(run: RunDirectory, ask_slurm: bool = True) -> dict[str, Any] | None:
    """Who drives this run now: host, pid, slurm job and since when; None if nobody alive does.

    Parameters
    ----------
    run : RunDirectory
        The run.
    ask_slurm : bool
        Whether Slurm is asked of another job's driver; who looks every few seconds should not, and learns of a crashed
        node when its heartbeat is missed.
    """
    try:
        found = json.loads(run.lock.read_text())
        silent = time.time() - run.lock.stat().st_mtime
    except FileNotFoundError:
        return None
    except ValueError:  # another driver is just writing it, or died while it did
        return None if _age(run.lock) > 1 else {"pid": "?", "host": "?", "slurm_job": None, "since": "now"}
    if found["slurm_job"] and _start_ended(found["slurm_job"], found.get("slurm_restart", "0"), ask_slurm):
        alive = False
    elif found["host"] == socket.gethostname():
        alive = psutil.pid_exists(found["pid"]) and _started(found["pid"]) == found["started"]
    else:
        alive = silent < DEAD_AFTER_SECONDS
    return found if alive else None


def _start_ended(job: str, restart: str, ask_slurm: bool) -> bool:
    """Whether a start of a Slurm job is known to be over: on a node that crashed nobody took the lock away."""
    if job == os.environ.get("SLURM_JOB_ID"):
        return restart != os.environ.get("SLURM_RESTART_COUNT", "0")  # Slurm ends one start before the next
    return ask_slurm and slurm.ended(job)


def describe(found: dict[str, Any]) -> str:
    """A holder in words, as in ``pid 4411 on login3 (slurm 99120) since 14:02``."""
    job = f" (slurm {found['slurm_job']})" if found["slurm_job"] else ""
    return f"pid {found['pid']} on {found['host']}{job} since {found['since']}"


def _acquire(run: RunDirectory) -> None:
    mine = {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "started": _started(os.getpid()),
        "slurm_job": os.environ.get("SLURM_JOB_ID"),
        "slurm_restart": os.environ.get("SLURM_RESTART_COUNT", "0"),
        "since": time.strftime("%Y-%m-%d %H:%M"),
    }
    with _one_at_a_time(run.path):
        while True:
            with contextlib.suppress(FileExistsError), run.lock.open("x") as stream:
                json.dump(mine, stream)
                return
            found = holder(run)
            if found is not None:
                raise RunError(
                    f"{run} is in use by {describe(found)}. Wait until it ends, or stop it (kill {found['pid']}); "
                    f"'survey_scan status {run}' shows how far it is."
                )
            run.lock.unlink(missing_ok=True)


@contextlib.contextmanager
def _one_at_a_time(folder: Path) -> Iterator[None]:
    """Between seeing that a lock is dead and taking its place, no other driver may do the same."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # a file system without flock: the moment stays unguarded
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _beat(path: Path, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_SECONDS):
        with contextlib.suppress(FileNotFoundError):
            os.utime(path)


def _started(pid: int) -> float | None:
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.NoSuchProcess:
        return None


def _age(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0
