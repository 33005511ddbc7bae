"""Writing a small store, for tests that do so from several processes: imports little."""

from pathlib import Path

import numpy as np

from survey_scan import store
from survey_scan.config import Cutouts as Spec
from survey_scan.imaging.base import Cutouts

N = 600  # targets: two whole partitions of 256, and 88
IDS = np.arange(N, dtype=np.int64) * 7 + 2**40


def spec(dtype: str = "float32", size: int = 5) -> Spec:
    return Spec(bands=["g", "r"], size=size, partition=256, dtype=dtype)


def rows(partition: int) -> slice:
    return slice(partition * 256, min(partition * 256 + 256, N))


def cutouts(partition: int, n: int, size: int = 5) -> Cutouts:
    rng = np.random.default_rng(partition)
    image = rng.standard_normal((n, size, size, 2)).astype(np.float32)
    image[0] = np.nan
    image[1, 0, 0, 0] = np.nan
    status = rng.choice([0, 1, 2], n).astype(np.uint8)
    return Cutouts(image, status, rng.random((n, 2)).astype(np.float32))


def write(path: Path, partition: int, ids: np.ndarray = IDS) -> Cutouts:
    some = rows(partition)
    cut = cutouts(partition, some.stop - some.start)
    store.write(path, partition, ids[some], np.arange(N)[some] / 10, -np.arange(N)[some] / 10, cut)
    return cut


def make(path: Path, dtype: str = "float32", ids: np.ndarray = IDS) -> list[Cutouts]:
    store.create(path, N, spec(dtype), ids.dtype, {"pixel_scale": 0.263, "release": "dr2"})
    return [write(path, partition, ids) for partition in range(3)]


def write_again(path: str, partition: int) -> None:
    for _ in range(10):
        write(Path(path), partition)
