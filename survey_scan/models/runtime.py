"""TensorFlow, set up once a process: quiet, on one GPU, with as many threads as it is given."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from survey_scan.errors import ModelError

#: What TensorFlow's C++ side prints while it is imported, whatever TF_CPP_MIN_LOG_LEVEL says: notes, not warnings.
_NOTES = re.compile(rb"^(WARNING: All log messages before absl::InitializeLog\(\) is called|I\d{4} )")

_lock = threading.Lock()
_threads: list[int | None] = []


def configure_tensorflow(threads: int | None = None) -> None:
    """Import TensorFlow and settle what cannot be changed once it runs.

    Only the first visible GPU is used, since a worker is one process on one GPU and all of a node's GPUs may be visible
    to it, and its memory is taken as it is needed. Without a GPU nothing is asked of one. Called again it does nothing,
    unless it asks for another number of threads.

    Parameters
    ----------
    threads : int, optional
        Threads TensorFlow may use inside one operation; it runs one operation at a time then. By default all cores.

    Raises
    ------
    ModelError
        If TensorFlow or Keras is not installed, or another Keras backend is already loaded.
    RuntimeError
        If TensorFlow already runs in this process with other settings.
    """
    with _lock:
        if _threads:
            if threads not in (None, _threads[0]):
                running = _threads[0] or "all"
                raise RuntimeError(f"TensorFlow runs with {running} threads here and cannot change to {threads}.")
            return
        tf = _import()
        if threads is not None:
            tf.config.threading.set_intra_op_parallelism_threads(threads)
            tf.config.threading.set_inter_op_parallelism_threads(1)
        gpus = tf.config.list_physical_devices("GPU")
        if gpus:
            tf.config.set_visible_devices(gpus[:1], "GPU")
            tf.config.experimental.set_memory_growth(gpus[0], True)
        _threads.append(threads)


def _import() -> Any:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever ~/.keras/keras.json says
    try:
        with _without_notes():
            import keras
            import tensorflow as tf
    except ModuleNotFoundError as error:
        raise ModelError(
            f"scoring needs {error.name}, which is not installed. "
            "Install survey_scan with the extra [tf-cpu] or [gpu], or set model.path to 'loopback'."
        ) from None
    if keras.backend.backend() != "tensorflow":
        raise ModelError(
            f"Keras already runs on {keras.backend.backend()} in this process. "
            "Start Python with KERAS_BACKEND=tensorflow."
        )
    return tf


@contextmanager
def _without_notes() -> Iterator[None]:
    """Hold back what native code writes to stderr, and give it back without TensorFlow's notes."""
    sys.stderr.flush()
    saved = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        finally:
            sys.stderr.flush()
            os.dup2(saved, 2)
            os.close(saved)
            held.seek(0)
            os.write(2, b"".join(line for line in held if not _NOTES.match(line)))
