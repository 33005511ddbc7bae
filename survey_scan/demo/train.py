"""Train the network that the package ships: ``python -m survey_scan.demo.train [--out FILE] [--seed N]``.

The skies it learns from are drawn from other seeds than the demo's. A few minutes on two cores.
"""

import argparse
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from survey_scan.demo.network import build
from survey_scan.demo.profiles import Float
from survey_scan.demo.samples import Sample, draw_sample
from survey_scan.demo.survey import DEMO_SEED, N_GALAXIES, N_STARS, OVERLAP, TILE_SIZE

NETWORK = Path(__file__).with_name("network.keras")
"""The network that the package ships."""
TRAIN_SEEDS = (1, 2, 3, 4, 5, 6)
"""Seeds of the skies the network learns from; never the demo's."""
TRAIN_LENSES = 700
"""Lenses in each training sky, against 30 in the demo's: one target in five is a lens."""
EPOCHS, BATCH_SIZE, LEARNING_RATE, WEIGHT_DECAY = 10, 64, 3e-3, 1e-3

assert DEMO_SEED not in TRAIN_SEEDS


def batches(sample: Sample, rng: np.random.Generator) -> Iterator[tuple[Float, Float]]:
    """Go once through a sample in random order, every batch turned or mirrored one of the eight ways."""
    order = rng.permutation(len(sample.cutouts))
    for start in range(0, len(order) - BATCH_SIZE + 1, BATCH_SIZE):
        rows = np.sort(order[start : start + BATCH_SIZE])
        pixels = np.rot90(sample.cutouts[rows], int(rng.integers(4)), (1, 2))
        pixels = pixels[:, :, ::-1] if rng.random() < 0.5 else pixels
        yield np.ascontiguousarray(pixels), sample.is_lens[rows].astype(np.float32)[:, None]


def fit(sample: Sample, seed: int, epochs: int = EPOCHS) -> Any:
    """Train a network on a sample.

    Parameters
    ----------
    sample : Sample
    seed : int
        Of the weights, the order of the batches and their turns.
    epochs : int

    Returns
    -------
    keras.Model
        Without its optimizer, ready to be saved.
    """
    import keras

    keras.utils.set_random_seed(seed)
    network = build()
    steps = epochs * (len(sample.cutouts) // BATCH_SIZE)
    warmup = steps // 15
    rate = keras.optimizers.schedules.CosineDecay(
        LEARNING_RATE / 20, steps - warmup, alpha=0.01, warmup_target=LEARNING_RATE, warmup_steps=warmup
    )
    optimizer = keras.optimizers.AdamW(rate, weight_decay=WEIGHT_DECAY)
    network.compile(optimizer, keras.losses.BinaryCrossentropy())
    rng = np.random.default_rng([seed, 2])
    for epoch in range(epochs):
        started = time.monotonic()
        losses = [float(network.train_on_batch(x, y)) for x, y in batches(sample, rng)]
        print(f"epoch {epoch + 1}/{epochs}: loss {np.mean(losses):.4f}, {time.monotonic() - started:.0f} s", flush=True)
    trained = build()
    trained.set_weights(network.get_weights())
    return trained


def join(samples: Sequence[Sample]) -> Sample:
    """Put samples together."""
    import pandas as pd

    truth = pd.concat([sample.truth for sample in samples], ignore_index=True)
    return Sample(np.concatenate([sample.cutouts for sample in samples]), truth)


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw the training skies, train, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=NETWORK, help="file to write (default: the shipped one)")
    parser.add_argument("--seed", type=int, default=0, help="seed of the weights and of the order of the batches")
    options = parser.parse_args(arguments)
    started = time.monotonic()
    sample = join([draw_sample(seed, N_GALAXIES, TRAIN_LENSES, N_STARS, TILE_SIZE, OVERLAP) for seed in TRAIN_SEEDS])
    print(f"{len(sample.cutouts)} cutouts, {sample.is_lens.sum()} of lenses, {time.monotonic() - started:.0f} s")
    fit(sample, options.seed).save(options.out)
    print(f"wrote {options.out}: {options.out.stat().st_size} bytes, {time.monotonic() - started:.0f} s in all")


if __name__ == "__main__":
    main()
