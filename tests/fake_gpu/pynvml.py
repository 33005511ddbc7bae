"""A stand-in for nvidia-ml-py with N fake GPUs (test use only; put its folder first on PYTHONPATH)."""

import os

N = int(os.environ.get("FAKE_GPUS", "2"))
NVML_DEVICE_MIG_DISABLE, NVML_DEVICE_MIG_ENABLE = 0, 1


class NVMLError(Exception):
    value = 999


class NVMLError_LibraryNotFound(NVMLError):
    pass


class NVMLError_DriverNotLoaded(NVMLError):
    pass


class NVMLError_Unknown(NVMLError):
    pass


class NVMLError_NotSupported(NVMLError):
    pass


class NVMLError_NotFound(NVMLError):
    pass


class NVMLError_InvalidArgument(NVMLError):
    pass


class _Mem:
    total = 40 * 2**30
    used = 2**30
    free = 39 * 2**30


class _Util:
    gpu = 0
    memory = 0


def nvmlInit():
    pass


def nvmlShutdown():
    pass


def nvmlDeviceGetCount():
    return N


def nvmlDeviceGetHandleByIndex(i):
    i = int(i or 0)
    if i >= N:
        raise NVMLError_InvalidArgument(f"no fake GPU {i}")
    return i


def nvmlDeviceGetHandleByUUID(u):
    return int((u.decode() if isinstance(u, bytes) else u).rsplit("-", 1)[-1])


def nvmlDeviceGetUUID(h):
    return f"GPU-00000000-0000-0000-0000-{h:012d}"


def nvmlDeviceGetIndex(h):
    return h


def nvmlDeviceGetMemoryInfo(h):
    return _Mem


def nvmlDeviceGetUtilizationRates(h):
    return _Util


def nvmlDeviceGetMigMode(h):
    return [0, 0]


def nvmlDeviceGetCpuAffinity(h, n):
    return [2 ** min(64, os.cpu_count()) - 1] + [0] * (n - 1)


def nvmlDeviceGetComputeRunningProcesses(h):
    return []


def nvmlDeviceGetName(h):
    return "Fake A100"


def nvmlSystemGetDriverVersion():
    return "570.00"
