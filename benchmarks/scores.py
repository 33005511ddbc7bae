"""How much of a network's bare speed scoring keeps: from the store to a score table, against the same pixels in memory.

    python benchmarks/scores.py [--cores N] [--targets N] [--repeats N] [--network FILE.keras] [--dtype TYPE] [--jit]

``bare`` is the network in a ``tf.function`` of fixed shape, on float32 batches in memory, and nothing else. ``scoring``
is ``scores.score_partition`` on a store in a temporary folder, and ``scores.write``. ``predict`` is
``model.predict(batch, verbose=0)`` in a loop. ``feed`` is scoring with a network that takes no time. They take turns
within one run and in both orders; ratios are of the medians, by the clock and by the processor's time, which other
programs on the machine disturb less. Prints JSON.

Without ``--network`` the networks are the ResNet of CMU DeepLens (Lanusse et al. 2018; 3.5 million parameters, random
weights, which cost as much as trained ones), at 64 and 45 pixels, and one of 28 thousand parameters, which is about the
cheapest that finds lenses. ``curve`` is the cost of a target with the last, at 45 pixels, against the number of targets.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))
import kept

from survey_scan import models, scores, store
from survey_scan.config import Cutouts, Model
from survey_scan.imaging.base import Cutouts as Pixels
from survey_scan.models.network import Network
from survey_scan.models.runtime import configure

BANDS = ["g", "r", "i"]


class Nothing(Network):
    """A network that takes no time."""

    def stage(self, image: Any, step: Any = None) -> int:
        return len(image)

    def score(self, staged: int) -> Any:
        return np.zeros(staged, np.float32)

    def describe(self) -> dict[str, Any]:
        return {}

    def projected_bytes(self) -> int:
        return 0


def deeplens(size: int) -> Any:
    """CMU DeepLens' ResNet-46: pre-activation bottlenecks, ELU, 3,511,681 trainable parameters with three bands."""
    from survey_scan.models.architectures import build

    return build("cmu_deeplens", size, len(BANDS))


def small(size: int) -> Any:
    """Three convolutions and a dense layer."""
    from keras import Input, Sequential, layers

    convolutions = [
        layer
        for filters in (16, 32, 64)
        for layer in (layers.Conv2D(filters, 3, padding="same", activation="relu"), layers.MaxPooling2D())
    ]
    return Sequential([Input((size, size, len(BANDS))), *convolutions, layers.Flatten(), layers.Dense(1, "sigmoid")])


def make_store(path: Path, size: int, dtype: str, targets: int) -> tuple[store.Reader, Any]:
    """A store of noise with a round source in the middle, and its pixels as float32."""
    rng = np.random.default_rng(1)
    y, x = np.mgrid[:size, :size] - size / 2
    source = 300 * np.exp(-np.hypot(x, y) / 4)[..., None] * rng.uniform(0, 1, (targets, 1, 1, len(BANDS)))
    image = (rng.normal(0, 1, (targets, size, size, len(BANDS))) + source).astype(np.float32)
    spec = Cutouts(bands=BANDS, size=size, dtype=dtype, partition=targets)
    store.create(path, targets, spec, "int64", {})
    zeros = np.zeros((targets, len(BANDS)), np.float32)
    where = np.zeros(targets)
    store.write(path, 0, np.arange(targets), where, where, Pixels(image, np.zeros(targets, np.uint8), zeros))
    reader = store.Reader(path)
    return reader, reader.pixels(0, targets)


def turns(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[tuple[float, float]]]:
    """Seconds of each way, by the clock and of the processor, taking turns, the order reversed each time."""
    names = list(ways)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for way in ways.values():
        way()
    for repeat in range(repeats):
        for name in names if repeat % 2 else reversed(names):
            began = time.perf_counter(), time.process_time()
            ways[name]()
            seconds[name].append((time.perf_counter() - began[0], time.process_time() - began[1]))
    return seconds


def measure(name: str, model: Any, size: int, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """One network, three ways."""
    import tensorflow as tf

    file = folder / f"{name}.keras"
    model.save(file)
    batch, n = options.batch, options.targets
    reader, pixels = make_store(folder / f"{name}.zarr", size, options.dtype, n)
    network = models.load(
        Model(path=str(file), batch_size=batch, backend="tensorflow", jit=options.jit), BANDS, size, options.dtype
    )
    bare = tf.function(
        lambda x: model(x, training=False),
        input_signature=[tf.TensorSpec((batch, size, size, len(BANDS)), tf.float32)],
        jit_compile=options.jit,
    )
    nothing = Nothing(network.pixels, batch)
    rows = [slice(first, first + batch) for first in range(0, n, batch)]
    got = scores.score_partition(reader, 0, n, {"": network}).table["logit"].to_numpy()
    p = np.concatenate([bare(tf.constant(pixels[at])).numpy()[:, 0] for at in rows])
    seconds = turns(
        {
            "bare": lambda: [bare(tf.constant(pixels[at])).numpy() for at in rows],
            "scoring": lambda: scores.write(
                folder / "part.parquet", scores.score_partition(reader, 0, n, {"": network}).table
            ),
            "predict": lambda: [model.predict(pixels[at], verbose=0) for at in rows],
            "feed": lambda: scores.score_partition(reader, 0, n, {"": nothing}),
        },
        options.repeats,
    )
    clock = {way: statistics.median(wall for wall, _ in values) for way, values in seconds.items()}
    processor = {way: statistics.median(cpu for _, cpu in values) for way, values in seconds.items()}
    return {
        "network": name,
        "parameters": int(model.count_params()),
        "shape": [size, size, len(BANDS)],
        "targets_per_second": {way: round(n / value, 1) for way, value in clock.items()},
        "scoring_of_bare": {"clock": _of(clock, "scoring"), "processor": _of(processor, "scoring")},
        "predict_of_bare": {"clock": _of(clock, "predict"), "processor": _of(processor, "predict")},
        "bare_slowest_of_fastest": round(max(seconds["bare"])[0] / min(seconds["bare"])[0], 3),
        "processor_us": {way: round(value / n * 1e6, 1) for way, value in processor.items()},
        "largest_difference_of_p": float(np.abs(1 / (1 + np.exp(-got.astype(float))) - p).max()),
    }


def _of(seconds: dict[str, float], way: str) -> float:
    return round(seconds["bare"] / seconds[way], 3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cores", type=int, default=1, help="cores the process is bound to, and TensorFlow's threads")
    parser.add_argument("--targets", type=int, default=4096, help="a multiple of 256 and of the batch")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "int16"])
    parser.add_argument("--jit", action="store_true", help="compile with XLA")
    parser.add_argument("--network", type=Path, help="a Keras file to measure instead; takes three bands")
    kept.option(parser)
    options = parser.parse_args()
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    configure("tensorflow", models.Device(threads=options.cores))
    import keras

    if options.network:
        model = keras.models.load_model(options.network, compile=False)
        wanted = {options.network.stem: (model, int(model.inputs[0].shape[1]))}
    else:
        wanted = {"deeplens-64": (deeplens(64), 64), "deeplens-45": (deeplens(45), 45), "small-64": (small(64), 64)}
    with tempfile.TemporaryDirectory() as folder:
        results = [measure(name, model, size, Path(folder), options) for name, (model, size) in wanted.items()]
        curve = []
        for n in (1024, 4096, 16_384):
            few = argparse.Namespace(**{**vars(options), "targets": n})
            curve.append({"n": n, **measure(f"small-45-{n}", small(45), 45, Path(folder), few)["processor_us"]})
    facts = {k: v for k, v in vars(options).items() if k not in ("network", "keep")}
    kept.tell("score", {**facts, "networks": results, "curve": curve}, options.keep)


if __name__ == "__main__":
    main()
