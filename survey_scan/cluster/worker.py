"""Preloaded by every Dask worker we start: the driver alone decides what a signal means.

A terminal's Ctrl-C and Slurm's signals reach the whole process group. A worker that died of them could not finish the
partition it holds; it goes on, and ends when its nanny says so or when the driver is gone.
"""

import asyncio
import importlib
import logging
import os
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from survey_scan.models import Device

#: Environment variable with the file for a worker's own messages; without it they go where Dask sends them.
LOG = "SURVEY_SCAN_WORKER_LOG"

#: Environment variable with the threads a network may use in a worker: its share of the machine; 1 without it.
THREADS = "SURVEY_SCAN_WORKER_THREADS"

#: Environment variable: whether a worker must have a GPU (``require``), may use one (``any``), or keeps off (``none``).
GPU = "SURVEY_SCAN_WORKER_GPU"

#: Environment variable with the share of the GPU's memory a worker may take; without it, what it needs.
GPU_MEMORY = "SURVEY_SCAN_WORKER_GPU_MEMORY"

#: Environment variable with the package (tensorflow, jax) a worker imports at once, while others cut the first partitions.
PRE_IMPORT = "SURVEY_SCAN_WORKER_PRE_IMPORT"

#: The loggers Dask gives handlers of their own.
LOGGERS = ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application")

_pre_importing: threading.Thread | None = None


def device() -> "Device":
    """The :class:`survey_scan.models.Device` this worker was given, once what it imports ahead is there."""
    if _pre_importing is not None:
        _pre_importing.join()  # two threads that import TensorFlow at once break it
    from survey_scan.models import Device

    fraction, wanted = os.environ.get(GPU_MEMORY), os.environ.get(GPU)
    return Device(
        threads=int(os.environ.get(THREADS, "1")),
        gpu="require" if wanted == "require" else "none" if wanted == "none" else "any",
        memory_fraction=float(fraction) if fraction else None,
    )


def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker's main thread."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if LOG in os.environ:
        handler = logging.FileHandler(os.environ[LOG])
        handler.setLevel(logging.WARNING)
        where = f"{socket.gethostname()} {os.getpid()}"
        handler.setFormatter(logging.Formatter(f"%(asctime)s {where} %(name)s %(levelname)s %(message)s"))
        for name in LOGGERS:
            logging.getLogger(name).handlers = [handler]
            logging.getLogger(name).propagate = False
    if package := os.environ.get(PRE_IMPORT):
        os.environ["KERAS_BACKEND"] = package
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
        global _pre_importing
        _pre_importing = threading.Thread(
            target=importlib.import_module, args=(package,), daemon=True, name="pre-import"
        )
        _pre_importing.start()


def missing(paths: list[str]) -> tuple[str, list[str]]:
    """Name of the worker's host, and which of some paths it does not see."""
    return socket.gethostname(), [path for path in paths if not Path(path).exists()]


async def gpu_problem(backend: str) -> tuple[str, str | None]:
    """Name of the worker's host, and why it lacks the GPU it must have; None if it has it, or need not."""
    if os.environ.get(GPU) != "require":
        return socket.gethostname(), None
    return socket.gethostname(), await asyncio.to_thread(_gpu_problem, backend)


def _gpu_problem(backend: str) -> str | None:
    from survey_scan.errors import ModelError
    from survey_scan.models.runtime import configure

    try:
        configure(backend, device())
    except ModelError as error:
        return str(error)
    return None
