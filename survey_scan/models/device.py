"""What a network may run on, and how one knows that a GPU has failed."""

import ctypes
import re
from dataclasses import dataclass
from typing import Literal

from survey_scan.errors import ModelError

#: Status of an operation that a failed GPU may end with, spelt without underscores. Not: resource exhausted, invalid
#: argument, unimplemented, not found, which are the network's or ours.
STATUSES = ("internal", "unknown", "aborted", "unavailable", "dataloss")

#: What the message of such an operation then holds: the errors after which CUDA's documentation says that the process
#: must be ended (cudaError_t, "must be terminated and relaunched") or the device is gone, by name or as the driver puts
#: them into words, and what cuDNN, cuBLAS and TensorFlow say on meeting one. Not: out of memory, a kernel or library
#: that is missing, an invalid value.
_WORDS = re.compile(
    r"CUDA_ERROR_(?:ILLEGAL_ADDRESS|ILLEGAL_INSTRUCTION|INVALID_ADDRESS_SPACE|INVALID_PC|MISALIGNED_ADDRESS"
    r"|HARDWARE_STACK_ERROR|LAUNCH_FAILED|LAUNCH_TIMEOUT|ASSERT|ECC_UNCORRECTABLE|NVLINK_UNCORRECTABLE|CONTAINED"
    r"|TENSOR_MEMORY_LEAK|EXTERNAL_DEVICE|DEVICE_UNAVAILABLE|NO_DEVICE|SYSTEM_NOT_READY|CONTEXT_IS_DESTROYED"
    r"|DEINITIALIZED|MPS_\w+|UNKNOWN)\b"
    r"|an illegal memory access was encountered|an illegal instruction was encountered|misaligned address"
    r"|hardware stack error|unspecified launch failure|the launch timed out and was terminated"
    r"|uncorrectable (?:NVLink|ECC) error|device-side assert triggered|fallen off the bus"
    r"|CU(?:DNN|BLAS)_STATUS_(?:EXECUTION_FAILED|MAPPING_ERROR)|GPU sync failed"
)


@dataclass(frozen=True)
class Device:
    """What one process may use of its machine for networks; settled when it loads its first.

    Parameters
    ----------
    threads : int, optional
        Of one operation on processor cores; by default all cores.
    gpu : {'any', 'require', 'none'}
        The first visible GPU if there is one; refuse without one; never touch one.
    memory_fraction : float, optional
        Of the GPU's memory, at most. It is taken as it is needed, with a limit or without.
    every : bool
        All visible GPUs instead of the first; with TensorFlow, and without ``memory_fraction``.
    """

    threads: int | None = None
    gpu: Literal["any", "require", "none"] = "any"
    memory_fraction: float | None = None
    every: bool = False


class DeviceLost(RuntimeError):
    """The GPU failed while it was scoring; this process is of no more use, while its network is not to blame."""


def is_lost(status: str, message: str) -> bool:
    """Whether an operation on a GPU that ended like this means that the GPU has failed.

    Parameters
    ----------
    status : str
        Lower case, without underscores.
    message : str
        The framework's.
    """
    return status in STATUSES and _WORDS.search(message) is not None


def gpu_memory() -> int:
    """Bytes of memory of the first GPU (or part of one) this process sees, as NVIDIA's driver numbers them.

    Raises
    ------
    ModelError
        If there is no driver, or it does not say.
    """
    number, total = ctypes.c_int(), ctypes.c_size_t()
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise _no_memory(str(error)) from None
    failed = (
        driver.cuInit(0)
        or driver.cuDeviceGet(ctypes.byref(number), 0)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(total), number)
    )
    if failed:
        raise _no_memory(f"CUDA error {failed}")
    return total.value


def _no_memory(why: str) -> ModelError:
    return ModelError(
        f"a fraction of the GPU's memory was asked for, but NVIDIA's driver does not tell how much there is ({why}). "
        "Leave the fraction out: memory is then taken as it is needed."
    )
