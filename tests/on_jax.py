"""Networks on JAX, for test_models_jax: a process has one backend. Takes a JSON job, writes logits and prints facts.

python -W error tests/on_jax.py JOB.json
"""

import json
import os
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np

from survey_scan import models
from survey_scan.config import Model
from survey_scan.errors import ModelError, ResourceError
from survey_scan.models import Device, DeviceLost, effect

DEVICE = Device(threads=1, gpu="none", memory_fraction=0.25)


def load(section: dict[str, Any], bands: list[str], size: int, dtype: str) -> Any:
    return models.load(Model(**section), bands, size, dtype, DEVICE)


def refusals(job: dict[str, Any]) -> dict[str, str]:
    """Messages about what cannot be done, by a name."""
    found = {}
    for name, arguments in job["refused"].items():
        try:
            load(*arguments)
        except ModelError as error:
            found[name] = str(error)
    return found


def failures(network: Any, image: np.ndarray) -> dict[str, str]:
    """What becomes of errors of the device, on a GPU and off it."""
    import jax

    from survey_scan.models.jax_network import JaxNetwork

    found = {}
    call, device = network.call, JaxNetwork.device
    for name, gpu, text in (
        ("lost", True, "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"),
        ("no gpu", False, "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"),
        ("memory", True, "RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes: CUDA_ERROR_UNKNOWN"),
        ("another", True, "INTERNAL: libdevice not found"),
    ):

        def fail(*_: Any, text: str = text) -> None:
            raise jax.errors.JaxRuntimeError(text)

        network.call, JaxNetwork.device = fail, (gpu, "NVIDIA H100")
        try:
            network.logits(image)
        except (DeviceLost, jax.errors.JaxRuntimeError) as error:
            found[name] = f"{type(error).__name__}: {error}"
        network.call, JaxNetwork.device = call, device
    return found


def out_of_memory(arguments: Any) -> str:
    import jax

    from survey_scan.models.jax_network import JaxNetwork

    def fail(*_: Any) -> None:
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")

    stage, JaxNetwork.stage = JaxNetwork.stage, fail
    try:
        load(*arguments)
    except ResourceError as error:
        return str(error)
    finally:
        JaxNetwork.stage = stage
    return ""


def same_logits(network: Any, image: np.ndarray) -> dict[str, Any]:
    """By how much a cutout's logit changes alone and elsewhere in a batch, and whether three threads give the same bits."""
    whole = network.logits(image)
    alone = np.concatenate([network.logits(one[None]) for one in image])
    with ThreadPoolExecutor(3) as pool:
        threads = list(pool.map(network.logits, [image] * 9))
    others = [alone, network.logits(image[::-1])[::-1]]
    assert len(set(whole.tolist())) == len(whole)
    return {
        "elsewhere": max(float(np.abs(whole - other).max()) for other in others),
        "threads": all(np.array_equal(whole, other) for other in threads),
    }


def main() -> None:
    job = json.loads(Path(sys.argv[1]).read_text())
    arrays = np.load(job["arrays"])
    facts: dict[str, Any] = {}
    try:
        models.load(
            Model(**job["cases"]["sigmoid"][0]), *job["cases"]["sigmoid"][1:4], Device(threads=1, gpu="require")
        )
    except ModelError as error:
        facts["require"] = str(error)
    logits = {}
    for name, (section, bands, size, dtype, images) in job["cases"].items():
        network = load(section, bands, size, dtype)
        step = arrays[f"{images}_step"] if dtype == "int16" else None
        logits[name] = network.logits(arrays[images], step)
        facts[name] = {**network.describe(), "projected_bytes": network.projected_bytes()}
    network = load(*job["bits"][:4])
    facts["same"] = same_logits(network, arrays[job["bits"][4]])
    facts["failures"] = failures(network, arrays[job["bits"][4]])
    facts["refused"] = refusals(job)
    facts["out_of_memory"] = out_of_memory(job["bits"][:4])
    mixed = job["cases"]["demo_float16"]
    facts["effect"] = effect.measure(Model(**mixed[0]), *mixed[1:4], arrays[mixed[4]], None, DEVICE)
    facts["tensorflow"] = "tensorflow" in sys.modules
    names = (Path("/proc/self/task") / task / "comm" for task in os.listdir("/proc/self/task"))  # noqa: PTH208
    facts["threads"] = Counter(name.read_text().strip() for name in names)["tf_XLAEigen"]
    facts["settings"] = {name: os.environ.get(f"XLA_PYTHON_CLIENT_{name}") for name in ("PREALLOCATE", "MEM_FRACTION")}
    np.savez(job["logits"], **logits)
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
