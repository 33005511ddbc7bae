"""The framework networks run on, set up once a process: quiet, on one GPU or none, with the threads it is given."""

import os
import re
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

from survey_scan.errors import ModelError
from survey_scan.models.device import Device, gpu_memory

#: What TensorFlow's C++ side prints while it is imported, whatever TF_CPP_MIN_LOG_LEVEL says: notes, not warnings.
_NOTES = re.compile(rb"^(WARNING: All log messages before absl::InitializeLog\(\) is called|I\d{4} )")

_NAMES = {"tensorflow": "TensorFlow", "jax": "JAX"}
_EXTRAS = {"tensorflow": "[tf-cpu] or [gpu]", "jax": "[jax]"}

_lock = threading.Lock()
_settled: list[tuple[str, Device]] = []


def configure(backend: str = "tensorflow", device: Device | None = None) -> None:
    """Import Keras on a framework and settle what cannot be changed once that runs.

    Only the first visible GPU is used unless ``device.every`` says otherwise, since a worker is one process on one GPU and
    all of a node's GPUs may be visible to it, and its memory is taken as it is needed. Called again it does nothing,
    unless it asks for something else; ``every`` is no more than a wish then.

    Parameters
    ----------
    backend : {'tensorflow', 'jax'}
        Keras' backend.
    device : Device, optional
        What may be used; by default, and in every field left at its default, what is settled already.

    Raises
    ------
    ModelError
        If the framework or Keras is not installed, Keras already runs on another backend, a GPU is required and there is
        none, or a fraction of an unknown memory is asked for.
    RuntimeError
        If the framework already runs in this process with other settings.
    """
    device = device or Device()
    with _lock:
        if not _settled:
            (_tensorflow if backend == "tensorflow" else _jax)(device)
            _settled.append((backend, device))
        running, settled = _settled[0]
        if running != backend:
            raise _other_backend(running, backend)
        for name in (field.name for field in fields(Device) if field.name != "every"):
            wanted, has = getattr(device, name), getattr(settled, name)
            if wanted not in (has, getattr(Device, name)):
                runs = f"{has or 'all'} threads" if name == "threads" else f"{name}={has!r}"
                raise RuntimeError(f"{_NAMES[backend]} runs with {runs} here and cannot change to {wanted}.")


def _tensorflow(device: Device) -> None:
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # whatever ~/.keras/keras.json says
    with _imports("tensorflow"):
        import keras
        import tensorflow as tf
    _check_backend(keras, "tensorflow")
    if device.threads is not None:
        tf.config.threading.set_intra_op_parallelism_threads(device.threads)
        tf.config.threading.set_inter_op_parallelism_threads(1)
    gpus = tf.config.list_physical_devices("GPU") if device.gpu != "none" else []
    if device.gpu == "require" and not gpus:
        raise _no_gpu("tensorflow")
    gpus = gpus if device.every else gpus[:1]
    tf.config.set_visible_devices(gpus, "GPU")
    if device.memory_fraction is None:
        for gpu in gpus:
            tf.config.experimental.set_memory_growth(gpu, True)
    elif gpus:
        os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"  # set_memory_growth refuses a device with a limit
        limit = int(device.memory_fraction * gpu_memory()) >> 20
        tf.config.set_logical_device_configuration(gpus[0], [tf.config.LogicalDeviceConfiguration(memory_limit=limit)])


def _jax(device: Device) -> None:
    # Read when JAX first looks for devices.
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    if device.memory_fraction is not None:
        os.environ["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(device.memory_fraction)
        os.environ.pop("XLA_CLIENT_MEM_FRACTION", None)  # its newer name, which JAX refuses beside this one
    os.environ["KERAS_BACKEND"] = "jax"
    with _imports("jax"):
        import jax

        if device.gpu == "none":
            jax.config.update("jax_platforms", "cpu")
        jax.config.update("jax_cuda_visible_devices", "0")  # else it takes memory on every GPU it sees
        import keras
    _check_backend(keras, "jax")
    with _hidden("tensorflow"):
        keras.saving.serialize_keras_object(keras.activations.linear)
    try:
        with _processors(device.threads):
            platform = jax.devices()[0].platform
    except RuntimeError as error:
        raise ModelError(f"JAX finds no device it may use: {error} Mend or unset JAX_PLATFORMS.") from None
    if device.gpu == "require" and platform != "gpu":
        raise _no_gpu("jax")
    if device.gpu == "none" and platform != "cpu":
        raise RuntimeError("JAX runs on a GPU here already and cannot change to none.")


@contextmanager
def _hidden(name: str) -> Iterator[None]:
    """Let a module seem not to be installed.

    Keras looks for TensorFlow once, the first time that it reads or writes an object, and loads it whole if it is there:
    seconds and half a gigabyte, of which only the answer is used on other backends.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]
    try:
        yield
    finally:
        del sys.modules[name]


@contextmanager
def _processors(threads: int | None) -> Iterator[None]:
    """Let XLA believe in that many processors while it makes its threads; it has no other setting for them."""
    before = os.environ.get("NPROC")
    if threads is not None:
        os.environ["NPROC"] = str(threads)
    try:
        yield
    finally:
        if before is not None:
            os.environ["NPROC"] = before
        elif threads is not None:
            del os.environ["NPROC"]


@contextmanager
def _imports(backend: str) -> Iterator[None]:
    try:
        with _without_notes():
            yield
    except ModuleNotFoundError as error:
        needs = "scoring" if backend == "tensorflow" else "model.backend 'jax'"
        instead = "model.path to 'loopback'" if backend == "tensorflow" else "model.backend to 'tensorflow'"
        raise ModelError(
            f"{needs} needs {error.name}, which is not installed. "
            f"Install survey_scan with the extra {_EXTRAS[backend]}, or set {instead}."
        ) from None


def _check_backend(keras: Any, wanted: str) -> None:
    if keras.backend.backend() != wanted:
        raise _other_backend(keras.backend.backend(), wanted)


def _other_backend(running: str, wanted: str) -> ModelError:
    return ModelError(f"Keras already runs on {running} in this process. Start Python with KERAS_BACKEND={wanted}.")


def _no_gpu(backend: str) -> ModelError:
    sees = os.environ.get("CUDA_VISIBLE_DEVICES")
    package = "jax[cuda12]" if backend == "jax" else "survey_scan with the extra [gpu]"
    return ModelError(
        f"a GPU is required, but {_NAMES[backend]} sees none on {socket.gethostname()} "
        f"(CUDA_VISIBLE_DEVICES is {'not set' if sees is None else repr(sees)}). "
        f"See what nvidia-smi shows there and install {package}, or set gpu.require to false in the profile."
    )


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
