import ctypes
import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from networks import BANDS, SHAPE, SIZE, Networks

from survey_scan import models
from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models import Device, DeviceLost, runtime
from survey_scan.models.device import gpu_memory, is_lost


@pytest.fixture
def network(networks_folder: Networks) -> Any:
    return models.load(Model(path=str(networks_folder["convolutional.keras"]), batch_size=16), BANDS, SIZE, "float32")


@pytest.fixture
def asked(networks_folder: Networks, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What TensorFlow is asked for by a process that sees two GPUs and has not settled anything."""
    import tensorflow as tf

    done: list[Any] = []
    monkeypatch.setattr(runtime, "_settled", [])
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [f"{kind}:2", f"{kind}:0"])
    monkeypatch.setattr(tf.config, "set_visible_devices", lambda *given: done.append(("visible", *given)))
    monkeypatch.setattr(tf.config.experimental, "set_memory_growth", lambda *given: done.append(("growth", *given)))
    monkeypatch.setattr(
        tf.config,
        "set_logical_device_configuration",
        lambda gpu, devices: done.append(("limit", gpu, *(device.memory_limit for device in devices))),
    )
    monkeypatch.setenv("TF_FORCE_GPU_ALLOW_GROWTH", "false")
    return done


def driver(monkeypatch: pytest.MonkeyPatch, total: int = 80 << 30, failed: int = 0) -> None:
    def memory(size: Any, device: Any) -> int:
        size._obj.value = total
        return failed

    library = SimpleNamespace(cuInit=lambda flags: 0, cuDeviceGet=lambda device, n: 0, cuDeviceTotalMem_v2=memory)
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)


# --- what is asked of the framework ---


def test_one_gpu_of_several_is_taken_and_its_memory_as_needed(asked):
    for gpu in ("any", "require"):
        runtime._settled.clear()
        runtime.configure("tensorflow", Device(gpu=gpu))
        runtime.configure()
        assert asked == [("visible", ["GPU:2"], "GPU"), ("growth", "GPU:2", True)]
        asked.clear()


def test_a_gpu_that_is_not_to_be_used_is_hidden(asked):
    runtime.configure("tensorflow", Device(gpu="none"))
    assert asked == [("visible", [], "GPU")]


def test_a_fraction_of_the_memory_is_a_limit(asked, monkeypatch):
    import os

    driver(monkeypatch)
    runtime.configure("tensorflow", Device(memory_fraction=0.25))
    assert asked == [("visible", ["GPU:2"], "GPU"), ("limit", "GPU:2", 20 << 10)]
    assert os.environ["TF_FORCE_GPU_ALLOW_GROWTH"] == "true"


def test_a_required_gpu_that_is_not_there(asked, monkeypatch):
    import tensorflow as tf

    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: [])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    for visible in ("'3'", "not set"):
        with pytest.raises(ModelError) as caught:
            runtime.configure("tensorflow", Device(gpu="require"))
        assert str(caught.value) == (
            f"a GPU is required, but TensorFlow sees none on {socket.gethostname()} (CUDA_VISIBLE_DEVICES is {visible}). "
            "See what nvidia-smi shows there and install survey_scan with the extra [gpu], "
            "or set gpu.require to false in the profile."
        )
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    runtime.configure("tensorflow", Device(memory_fraction=0.5))  # of no GPU: nothing to limit
    assert asked == [("visible", [], "GPU")]


@pytest.mark.parametrize(
    ("device", "text"),
    [
        (Device(threads=4), "TensorFlow runs with 2 threads here and cannot change to 4."),
        (Device(gpu="require"), "TensorFlow runs with gpu='none' here and cannot change to require."),
        (Device(threads=2, memory_fraction=0.5), "TensorFlow runs with memory_fraction=None here and cannot change to 0.5."),
    ],
)  # fmt: skip
def test_what_is_settled_cannot_be_changed(monkeypatch, device, text):
    monkeypatch.setattr(runtime, "_settled", [("tensorflow", Device(threads=2, gpu="none"))])
    runtime.configure("tensorflow", Device(threads=2, gpu="none"))
    runtime.configure("tensorflow", Device(threads=2))
    with pytest.raises(RuntimeError) as caught:
        runtime.configure("tensorflow", device)
    assert str(caught.value) == text


def test_one_process_has_one_backend(networks_folder):
    with pytest.raises(ModelError) as caught:
        models.load(Model(path=str(networks_folder["linear.keras"]), backend="jax"), BANDS, SIZE, "float32")
    assert str(caught.value) == (
        "Keras already runs on tensorflow in this process. Start Python with KERAS_BACKEND=jax."
    )


@pytest.mark.parametrize(
    ("backend", "missing", "text"),
    [
        ("tensorflow", "keras", "scoring needs keras, which is not installed. Install survey_scan with the extra "
         "[tf-cpu] or [gpu], or set model.path to 'loopback'."),
        ("jax", "jax", "model.backend 'jax' needs jax, which is not installed. Install survey_scan with the extra "
         "[jax], or set model.backend to 'tensorflow'."),
    ],
)  # fmt: skip
def test_without_the_framework_the_message_says_what_to_install(monkeypatch, backend, missing, text):
    monkeypatch.setattr(runtime, "_settled", [])
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.setenv("KERAS_BACKEND", "tensorflow")  # given back afterwards
    monkeypatch.setenv("XLA_PYTHON_CLIENT_PREALLOCATE", "false")
    with pytest.raises(ModelError) as caught:
        runtime.configure(backend)
    assert str(caught.value) == text


def test_the_memory_of_the_first_visible_gpu(monkeypatch):
    driver(monkeypatch, 85_899_345_920)
    assert gpu_memory() == 85_899_345_920
    driver(monkeypatch, failed=100)
    way = "Leave the fraction out: memory is then taken as it is needed."
    with pytest.raises(ModelError) as caught:
        gpu_memory()
    assert str(caught.value) == (
        "a fraction of the GPU's memory was asked for, but NVIDIA's driver does not tell how much there is "
        f"(CUDA error 100). {way}"
    )

    def absent(name: str) -> None:
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", absent)
    with pytest.raises(ModelError, match=r"\(libcuda\.so\.1: cannot open shared object file\)\. Leave the"):
        gpu_memory()


def test_tf32_is_used_only_when_asked_for(networks_folder):
    import tensorflow as tf

    path = str(networks_folder["linear.keras"])
    for precision, used in (("tf32", True), ("float32", False), ("mixed_float16", True), ("float32", False)):
        network = models.load(Model(path=path, precision=precision), BANDS, SIZE, "float32")
        assert tf.config.experimental.tensor_float_32_execution_enabled() == used
        assert network.describe()["precision"] == precision


# --- a GPU that fails ---

LOST = [
    ("internal", "CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"),
    ("internal", "Failed to synchronize: CUDA_ERROR_ECC_UNCORRECTABLE"),
    ("unknown", "GPU sync failed"),
    ("unknown", "CUDNN_STATUS_EXECUTION_FAILED in cudnnConvolutionForward"),
    ("aborted", "unspecified launch failure"),
    ("unavailable", "CUDA_ERROR_MPS_SERVER_NOT_READY"),
    ("dataloss", "uncorrectable ECC error encountered"),
]
NOT_LOST = [
    ("resourceexhausted", "CUDA_ERROR_OUT_OF_MEMORY: an illegal memory access was encountered"),
    ("internal", "CUDA_ERROR_OUT_OF_MEMORY: out of memory"),
    ("internal", "CUDA_ERROR_NO_BINARY_FOR_GPU: no kernel image is available for execution on the device"),
    ("internal", "libdevice not found at ./libdevice.10.bc"),
    ("invalidargument", "CUDA_ERROR_ILLEGAL_ADDRESS"),
    ("unimplemented", "DNN library is not found."),
]


@pytest.mark.parametrize(("status", "message", "lost"), [(*e, True) for e in LOST] + [(*e, False) for e in NOT_LOST])
def test_errors_after_which_a_gpu_is_of_no_more_use(status, message, lost):
    assert is_lost(status, message) == lost


def test_a_gpu_that_fails_is_told_from_a_network_that_does(network, monkeypatch):
    import tensorflow as tf

    errors = tf.errors
    image = np.zeros((3, *SHAPE), np.float32)

    def fail(error: Exception, gpu: bool) -> Exception:
        def call(*_: Any) -> None:
            raise error

        monkeypatch.setattr(type(network), "device", (gpu, "NVIDIA A100"))
        for where, change in (("score", (network, "call", call)), ("stage", (tf, "constant", call))):
            staged = network.stage(image)
            with monkeypatch.context() as patch, pytest.raises(Exception) as caught:
                patch.setattr(*change)
                network.score(staged) if where == "score" else network.stage(image)
            found = caught.value
            assert isinstance(found, DeviceLost) or found is error
        return found

    ecc = "CUDA_ERROR_ECC_UNCORRECTABLE: uncorrectable ECC error encountered"
    for kind in (
        errors.InternalError,
        errors.UnknownError,
        errors.AbortedError,
        errors.UnavailableError,
        errors.DataLossError,
    ):
        found = fail(kind(None, None, ecc), gpu=True)
        assert isinstance(found, DeviceLost)
        assert str(found) == f"the GPU (NVIDIA A100) failed: {ecc}."
        assert isinstance(fail(kind(None, None, ecc), gpu=False), kind)
    for kind in (errors.ResourceExhaustedError, errors.InvalidArgumentError):
        assert isinstance(fail(kind(None, None, ecc), gpu=True), kind)
    assert isinstance(fail(errors.InternalError(None, None, "no such kernel"), gpu=True), errors.InternalError)


# --- several threads ---


def test_threads_that_share_a_network_get_the_bits_of_one(network):
    images = np.random.default_rng(5).normal(0, 3, (6, 50, *SHAPE)).astype(np.float32)
    alone = [network.logits(image) for image in images]
    with ThreadPoolExecutor(3) as pool:
        for _ in range(5):
            for one, several in zip(alone, pool.map(network.logits, images), strict=True):
                np.testing.assert_array_equal(several, one)
