"""Which kind of object stands in which row of the store: the kinds well mixed, so that every piece of it holds all."""

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from survey_scan.simulation.config import KINDS, Simulation


def of_partition(config: Simulation, partition: int) -> tuple[list[str], NDArray[np.int64]]:
    """The kinds of a partition's objects, and which of its kind each one is, counted from 0 in the order of the store."""
    codes, numbers = _all(config.output.seed, tuple(getattr(config.counts, kind) for kind in KINDS))
    rows = slice(partition * config.output.partition, (partition + 1) * config.output.partition)
    return [KINDS[code] for code in codes[rows]], numbers[rows]


def stream(seed: int, *key: int) -> np.random.Generator:
    """The random numbers of one purpose: of an object its partition and row, of the whole set one number."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=key))


@lru_cache(maxsize=2)
def _all(seed: int, counts: tuple[int, ...]) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    codes = np.repeat(np.arange(len(counts), dtype=np.int8), counts)
    codes = stream(seed, 0).permutation(codes)
    numbers = np.empty(len(codes), np.int64)
    for code, count in enumerate(counts):
        numbers[codes == code] = np.arange(count)
    return codes, numbers
