"""How fast the architectures score, each against CMU DeepLens on cutouts of the same size.

    python benchmarks/architectures.py [--cores N] [--batch N] [--repeats N] [--jit]

Each network, with random weights, is saved, loaded by ``models.load`` and given batches in memory; the two of a pair take
turns within one run and in both orders. Rates are of the medians, by the clock and by the processor's time, which other
programs on the machine disturb less. ViT-B/16 resizes its cutouts to 224 pixels itself. Prints JSON.
"""

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from survey_scan import models
from survey_scan.config import Model
from survey_scan.models.architectures import build
from survey_scan.models.runtime import configure

BANDS = ["g", "r", "z"]
YARDSTICK = "cmu_deeplens"
#: Name and size of the cutouts.
WANTED = [("demo", 45), ("shielded_resnet", 101), ("jacobs_cnn", 101), ("vit_b16", 45)]


def scored(name: str, size: int, folder: Path, options: argparse.Namespace) -> Any:
    """A network as the scan scores with it."""
    path = folder / f"{name}-{size}.keras"
    build(name, size, len(BANDS)).save(path)
    section = Model(path=str(path), batch_size=options.batch, backend="tensorflow", jit=options.jit)
    return models.load(section, BANDS, size, "float32")


def rates(networks: dict[str, Any], image: np.ndarray, repeats: int) -> dict[str, dict[str, float]]:
    """Targets a second of each network, by the clock and by the processor's time."""
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in networks}
    for network in networks.values():
        network.logits(image)
    for repeat in range(repeats):
        for name in networks if repeat % 2 else reversed(networks):
            began = time.perf_counter(), time.process_time()
            networks[name].logits(image)
            seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return {
        name: {
            "clock": len(image) / statistics.median(wall for wall, _ in found),
            "processor": len(image) / statistics.median(cpu for _, cpu in found),
        }
        for name, found in seconds.items()
    }


def measure(name: str, size: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One network beside the yardstick."""
    rng = np.random.default_rng(1)
    image = rng.normal(0, 1, (options.batch, size, size, len(BANDS))).astype(np.float32)
    networks = {which: scored(which, size, folder, options) for which in (name, YARDSTICK)}
    found = rates(networks, image, options.repeats)
    return {
        "network": name,
        "parameters": networks[name].describe()["parameters"],
        "size": size,
        "targets_per_second": {way: round(rate, 1) for way, rate in found[name].items()},
        f"of_{YARDSTICK}": {way: round(rate / found[YARDSTICK][way], 3) for way, rate in found[name].items()},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=1, help="cores the process is bound to, and TensorFlow's threads")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    configure("tensorflow", models.Device(threads=options.cores))
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(name, size, Path(folder), options) for name, size in WANTED]
    print(json.dumps({**vars(options), "networks": results}, indent=1))


if __name__ == "__main__":
    main()
