"""Small stores of labelled cutouts, in which lenses have a bright ring, for tests of training."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from survey_scan import store
from survey_scan.config import Cutouts as Spec
from survey_scan.imaging.base import Cutouts

SIZE = 12


def make(
    folder: Path,
    n: int = 600,
    seed: int = 0,
    bands: tuple[str, ...] = ("g", "r"),
    size: int = SIZE,
    first: int = 1000,
    contrast: float = 1.5,
    ids: Any = None,
    **attributes: Any,
) -> Path:
    """A run directory's ``cutouts.zarr`` and ``labels.csv`` in a folder: a quarter are lenses, one row in fifty is flagged."""
    rng = np.random.default_rng(seed)
    is_lens = rng.random(n) < 0.25
    y, x = np.indices((size, size)) - (size - 1) / 2
    ring = np.exp(-((np.hypot(x, y) - size / 4) ** 2))[..., None]
    image = rng.normal(0, 1, (n, size, size, len(bands))).astype(np.float32)
    image += (is_lens * rng.uniform(0.5, 1, n) * contrast).astype(np.float32)[:, None, None, None] * ring.astype(
        np.float32
    )
    image[::7, 0, 0, 0] = np.nan
    status = np.where(np.arange(n) % 50 == 49, 1, 0).astype(np.uint8)
    ids = np.arange(first, first + n) if ids is None else ids
    folder.mkdir(parents=True, exist_ok=True)
    said = {"pixel_scale": 0.263, "zero_point": 30.0, "unit": None, **attributes}
    spec = Spec(bands=list(bands), size=size, partition=256)
    store.create(folder / "cutouts.zarr", n, spec, ids.dtype, said)
    for number in range(-(-n // 256)):
        rows = slice(number * 256, min(number * 256 + 256, n))
        nowhere = np.full(rows.stop - rows.start, np.nan)
        bad = np.zeros((rows.stop - rows.start, len(bands)), np.float32)
        store.write(
            folder / "cutouts.zarr", number, ids[rows], nowhere, nowhere, Cutouts(image[rows], status[rows], bad)
        )
    pd.DataFrame({"object_id": ids, "label": is_lens.astype(int)}).to_csv(folder / "labels.csv", index=False)
    return folder
