"""Preloaded by every Dask worker we start: the driver alone decides what a signal means.

A terminal's Ctrl-C and Slurm's signals reach the whole process group. A worker that died of them could not finish the
partition it holds; it goes on, and ends when its nanny says so or when the driver is gone.
"""

import logging
import os
import signal
from typing import Any

#: Environment variable with the file for a worker's own messages; without it they go where Dask sends them.
LOG = "SURVEY_SCAN_WORKER_LOG"

#: Environment variable with the threads TensorFlow may use in a worker: its share of the machine; 1 without it.
THREADS = "SURVEY_SCAN_WORKER_THREADS"

#: The loggers Dask gives handlers of their own.
LOGGERS = ("distributed", "distributed.client", "bokeh", "tornado", "tornado.application")


def threads() -> int:
    """Threads a network may use in this process."""
    return int(os.environ.get(THREADS, "1"))


def dask_setup(worker: Any) -> None:
    """Called by Dask in the worker's main thread."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1):
        signal.signal(number, signal.SIG_IGN)
    if LOG in os.environ:
        handler = logging.FileHandler(os.environ[LOG])
        handler.setLevel(logging.WARNING)
        handler.setFormatter(logging.Formatter(f"%(asctime)s {os.getpid()} %(name)s %(levelname)s %(message)s"))
        for name in LOGGERS:
            logging.getLogger(name).handlers = [handler]
            logging.getLogger(name).propagate = False
