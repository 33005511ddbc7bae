"""The networks of ``gpu.py``, and the rate of one of them in one precision; run by ``gpu.py`` as a process of its own.

A process each, because a framework's precision and its share of the GPU's memory are settled once a process. Takes a job
as JSON, prints the result as JSON in its last line.
"""

import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

BANDS = ["g", "r", "z"]

#: Different batches that take turns on the device, so that the pixels of a call are not in its cache from the last.
BATCHES = 4


def vit(size: int) -> Any:
    """ViT-B/16, nine classes as González et al. 2025; cutouts are resized to 224 x 224."""
    from survey_scan.models.architectures import build

    return build("vit_b16", size, len(BANDS), classes=9)


def deeplens(size: int) -> Any:
    """CMU DeepLens' ResNet-46."""
    import scores

    return scores.deeplens(size)


def small(size: int) -> Any:
    """Three convolutions and a dense layer: little to compute, so that everything around it shows."""
    import scores

    return scores.small(size)


class Kind(NamedTuple):
    """A network, the cutouts it takes, and a batch that fills a large GPU."""

    build: Callable[[int], Any]
    size: int
    batch: int
    column: int | None


NETWORKS = {
    "deeplens45": Kind(deeplens, 45, 1024, None),
    "deeplens101": Kind(deeplens, 101, 256, None),
    "vit": Kind(vit, 45, 256, 0),
    "small45": Kind(small, 45, 2048, None),
}


def pixels(size: int, n: int) -> Any:
    """Noise with a round source in the middle, the same every time; shape (n, size, size, 3), float32."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size] - size / 2
    peaks = rng.uniform(0, 10, (n, 1, 1, len(BANDS))).astype(np.float32)
    source = np.exp(-np.hypot(x, y) / 4).astype(np.float32)[..., None] * peaks
    return rng.standard_normal((n, size, size, len(BANDS)), dtype=np.float32) + source


def turns(ways: dict[str, Callable[[int], object]], seconds: float, rounds: int) -> dict[str, list[float]]:
    """Calls a second of each way, taking turns, the order reversed each round.

    Parameters
    ----------
    ways : dict of callables
        Each makes the number of calls it is given and returns when the last has ended.
    seconds : float
        Of each way, all rounds together.
    rounds : int
        Turns of each way.
    """
    number = {}
    for name, way in ways.items():
        way(2)  # compiles, and chooses its algorithms
        number[name] = max(1, round(seconds / rounds / _seconds(way, 2) * 2))
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for i in range(rounds):
        for name in list(ways) if i % 2 else reversed(ways):
            rates[name].append(number[name] / _seconds(ways[name], number[name]))
    return rates


def _seconds(way: Callable[[int], object], n: int) -> float:
    began = time.perf_counter()
    way(n)
    return time.perf_counter() - began


def difference(reference: Any, logits: Any) -> dict[str, Any]:
    """How far logits are from those of the same cutouts on the CPU in float32, and what it does to the ranking.

    ``spread`` is the standard deviation of the reference, to measure the differences by; ``moved`` counts those of its
    best tenth that are not in the other's best tenth; ``largest_move`` is in ranks.
    """
    reference, logits = np.asarray(reference, np.float64), np.asarray(logits, np.float64)
    apart = np.abs(logits - reference)
    ranks = [np.argsort(np.argsort(-z, kind="stable"), kind="stable") for z in (reference, logits)]
    best = max(1, len(reference) // 10)
    return {
        "n": len(reference),
        "not_finite": int(np.count_nonzero(~np.isfinite(logits))),
        "max": float(apart.max()),
        "median": float(np.median(apart)),
        "spread": float(reference.std()),
        "best": best,
        "moved": int(np.count_nonzero((ranks[0] < best) & (ranks[1] >= best))),
        "largest_move": int(np.abs(ranks[0] - ranks[1]).max()),
    }


class Bare(NamedTuple):
    """A Keras network compiled by its framework and nothing else: pixels to the device, and the call."""

    put: Callable[[Any], Any]
    call: Callable[[Any], Any]


def bare_tensorflow(model: Any, batch: int, jit: bool) -> Bare:
    import tensorflow as tf

    device = "GPU:0" if tf.config.get_visible_devices("GPU") else "CPU:0"
    signature = [tf.TensorSpec((batch, *model.inputs[0].shape[1:]), tf.float32)]
    call = tf.function(lambda x: model(x, training=False), input_signature=signature, jit_compile=jit)

    def put(array: Any) -> Any:
        with tf.device(device):
            return tf.constant(array)

    return Bare(put, call)


def bare_jax(model: Any, precision: str) -> Bare:
    import jax

    device = jax.devices()[0]
    groups = model.trainable_variables, model.non_trainable_variables
    weights = jax.device_put([[variable.value for variable in group] for group in groups], device)
    call = jax.jit(lambda weights, x: model.stateless_call(*weights, x, training=False)[0])
    products = "float32" if precision == "float32" else "tensorfloat32"  # of float32 numbers; others are not changed

    def run(x: Any) -> Any:
        with jax.default_matmul_precision(products):
            return call(weights, x)

    return Bare(lambda array: jax.device_put(array, device), run)


def bare(job: dict[str, Any]) -> Bare:
    """The network of a job built anew with Keras' own dtype policy and the weights of the file."""
    import keras

    kind = NETWORKS[job["network"]]
    weights = keras.models.load_model(job["file"], compile=False).get_weights()
    mixed = job["precision"].startswith("mixed")
    keras.config.set_dtype_policy(job["precision"] if mixed else "float32")
    model = kind.build(kind.size)
    keras.config.set_dtype_policy("float32")
    model.set_weights(weights)
    if job["backend"] == "jax":
        return bare_jax(model, job["precision"])
    import tensorflow as tf

    if tf.config.experimental.tensor_float_32_execution_enabled() != (job["precision"] != "float32"):
        raise RuntimeError("the scan's call and the bare one would differ in TF32")
    return bare_tensorflow(model, job["batch"], job["jit"])


def load(job: dict[str, Any], gpu: str) -> Any:
    """The network of a job as a scan loads it."""
    from survey_scan import models
    from survey_scan.config import Model

    kind = NETWORKS[job["network"]]
    section = Model(
        path=job["file"], column=kind.column, batch_size=job["batch"], jit=job["jit"], backend=job["backend"],
        precision=job["precision"],
    )  # fmt: skip
    return models.load(section, BANDS, kind.size, "float32", models.Device(gpu=gpu))


def measure(job: dict[str, Any]) -> dict[str, Any]:
    """One network in one precision: its rates, bare and as scans call it, its memory, and its scores' differences."""
    began = time.perf_counter()
    network = load(job, "any")
    loaded = time.perf_counter() - began
    kind, batch = NETWORKS[job["network"]], job["batch"]
    logits = network.logits(pixels(kind.size, job["compare"]))
    plain = bare(job)
    host = np.split(pixels(kind.size, BATCHES * batch), BATCHES)
    resident, staged = [plain.put(each) for each in host], [network.stage(each) for each in host]
    ways: dict[str, Callable[[int], object]] = {
        "bare_resident": lambda n: np.asarray([plain.call(resident[i % BATCHES]) for i in range(n)][-1]),
        "bare_copied": lambda n: [np.asarray(plain.call(plain.put(host[i % BATCHES]))) for i in range(n)],
        "scan_resident": lambda n: [network.score(staged[i % BATCHES]) for i in range(n)],
        "scan_copied": lambda n: [network.score(network.stage(host[i % BATCHES])) for i in range(n)],
    }
    rates = turns(ways, job["seconds"], job["rounds"])
    median = {name: float(np.median(each)) * batch for name, each in rates.items()}
    facts = network.describe()
    return {
        "network": job["network"],
        "precision": job["precision"],
        "parameters": facts["parameters"],
        "shape": [batch, kind.size, kind.size, len(BANDS)],
        "device": facts["device"],
        "images_per_second": {name: _three(rate) for name, rate in median.items()},
        "slowest_of_fastest_round": {name: round(min(each) / max(each), 3) for name, each in rates.items()},
        "scan_of_bare": {
            way: round(median[f"scan_{way}"] / median[f"bare_{way}"], 3) for way in ("resident", "copied")
        },
        "load_seconds": round(loaded, 1),
        "gpu_memory": memory(job["backend"]),
        "against_cpu_float32": difference(np.load(job["reference"]), logits),
        "versions": versions(job["backend"]),
    }


def make(job: dict[str, Any]) -> dict[str, Any]:
    """Write networks with random weights, the same every time: they cost as much as trained ones."""
    import keras

    for name, file in job["files"].items():
        keras.utils.set_random_seed(5)
        NETWORKS[name].build(NETWORKS[name].size).save(file)
    return {}


def refer(job: dict[str, Any]) -> dict[str, Any]:
    """Write the logits of a network on the CPU in float32."""
    np.save(job["reference"], load(job, "none").logits(pixels(NETWORKS[job["network"]].size, job["compare"])))
    return {}


def _three(value: float) -> float:
    return float(f"{value:.4g}")


def memory(backend: str) -> dict[str, float] | None:
    """MiB of the GPU's memory: the most its framework needed at once, and in use by all of the card; None on a CPU."""
    if backend == "jax":
        import jax

        stats = jax.devices()[0].memory_stats() if jax.default_backend() == "gpu" else None
        peak = stats["peak_bytes_in_use"] if stats else None
    else:
        import tensorflow as tf

        gpus = tf.config.get_visible_devices("GPU")
        peak = tf.config.experimental.get_memory_info("GPU:0")["peak"] if gpus else None
    if peak is None:
        return None
    used = [card["memory_used_MiB"] for card in cards()]
    return {"peak_MiB": round(peak / 2**20), **({"card_MiB": max(used)} if used else {})}


def cards() -> list[dict[str, Any]]:
    """The GPUs of this machine as nvidia-smi lists them; none without it."""
    if shutil.which("nvidia-smi") is None:
        return []
    names = ["name", "driver_version", "memory.total", "memory.used"]
    command = ["nvidia-smi", f"--query-gpu={','.join(names)}", "--format=csv,noheader,nounits"]
    found = subprocess.run(command, capture_output=True, text=True, timeout=60)
    rows = [[word.strip() for word in line.split(",")] for line in found.stdout.splitlines() if line.strip()]
    return [
        {"name": name, "driver": driver, "memory_MiB": int(total), "memory_used_MiB": int(used)}
        for name, driver, total, used in rows
    ]


def versions(backend: str) -> dict[str, str]:
    """Of what computes."""
    from importlib.metadata import version

    packages = ["keras", "numpy", "jaxlib" if backend == "jax" else "tensorflow"]
    modules = {name: sys.modules.get(name) for name in packages}
    found = {n: getattr(m, "__version__", None) or version(n) for n, m in modules.items()}  # tensorflow-cpu is one, too
    return {"python": platform.python_version(), **found}


def main() -> None:
    job = json.loads(sys.argv[1])
    result = {"make": make, "reference": refer, "measure": measure}[job["task"]](job)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
