"""A small finished run to grade: targets, cutouts with arcs, candidates, records; and its server as a process."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from survey_scan import records, store
from survey_scan.config import Cutouts as Spec
from survey_scan.imaging.base import Cutouts
from survey_scan.layout import RunDirectory
from survey_scan.ranking.candidates import write_candidates
from survey_scan.schema import Column

PARTITION = 256


def image(rng: np.random.Generator, n: int, size: int, bands: int) -> np.ndarray:
    """Round red galaxies in noise; every second has a blue arc above it."""
    y, x = np.indices((size, size)) - size // 2
    radius = np.hypot(x, y)
    galaxy = 60 * np.exp(-radius / (size / 14))
    arc = 14 * np.exp(-0.5 * ((radius - size / 4) / 1.5) ** 2) * (y > np.abs(x))
    slopes = np.linspace(0.3, 1.2, bands), np.linspace(1.2, 0.3, bands)
    made = rng.standard_normal((n, size, size, bands), dtype=np.float32)
    made += (galaxy[..., None] * slopes[0]).astype(np.float32)
    made[::2] += (arc[..., None] * slopes[1]).astype(np.float32)
    return made


def make(
    path: Path, n_targets: int = 600, n_candidates: int = 60, size: int = 21, dtype: str = "float32", bands: str = "gri"
) -> RunDirectory:
    """Write it; candidates are scattered over all partitions."""
    run = RunDirectory(path)
    rng = np.random.default_rng(3)
    ids = np.arange(n_targets, dtype=np.int64) * 7 + 10**12
    ra, dec = 30 + np.arange(n_targets) / 1000, -40 - np.arange(n_targets) / 1000
    tiles = np.array([f"T{i // 200:05d}" for i in range(n_targets)])
    spec = Spec(bands=list(bands), size=size, partition=PARTITION, dtype=dtype)  # type: ignore[arg-type]
    store.create(run.store, n_targets, spec, ids.dtype, {"zero_point": 30.0, "pixel_scale": 0.263})
    lines = []
    run.targets_folder.mkdir(parents=True)
    run.plan.mkdir()
    for p, start in enumerate(range(0, n_targets, PARTITION)):
        rows = slice(start, min(start + PARTITION, n_targets))
        n = rows.stop - rows.start
        pixels = image(rng, n, size, len(bands))
        cut = Cutouts(pixels, np.zeros(n, np.uint8), np.zeros((n, len(bands)), np.float32))
        store.write(run.store, p, ids[rows], ra[rows], dec[rows], cut)
        pd.DataFrame({"object_id": ids[rows], "tile": tiles[rows]}).to_parquet(run.targets(p))
        lines.append((p, rows.start, rows.stop, n, 1, tiles[rows][0], tiles[rows][-1], f"d{p}"))
        for stage in ("cutouts", "scores"):
            records.write(run.record(stage, p), {"targets": f"d{p}"}, {})  # type: ignore[arg-type]
    names = ["partition", "start", "stop", "n_targets", "n_tiles", "first_tile", "last_tile", "targets_digest"]
    pd.DataFrame(lines, columns=names).to_csv(run.partitions, index=False)
    best = rng.permutation(n_targets)[:n_candidates]
    logit = np.sort(rng.normal(size=n_candidates))[::-1].astype(np.float32)
    table = pd.DataFrame({
        "object_id": ids[best], "ra": ra[best], "dec": dec[best], "tile": tiles[best], "x": 1.0, "y": 2.0,
        "mag_r": 20 + np.arange(n_candidates) / 100, "known_name": np.where(np.arange(n_candidates) == 1, "DESJ0", ""),
        "score": 1 / (1 + np.exp(-logit)), "logit": logit, "status": np.zeros(n_candidates, np.uint8),
    })  # fmt: skip
    write_candidates(
        table, run.candidates_parquet, run.candidates_fits, {"mag_r": Column("mag_r", "mag", "phot.mag;em.opt.R", "")}
    )
    records.write(run.ranking_record, {"scores": "s"}, {"candidates": n_candidates})
    run.manifest.write_text(json.dumps({"format_version": 1, "survey_scan": "0", "state": "complete"}))
    return run


class Server:
    """``survey_scan grade`` as a person starts it."""

    def __init__(self, run: RunDirectory, *words: str):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "survey_scan", "grade", str(run), *words],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.said = ""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line
            if "Ctrl-C" in line:
                break
        found = re.search(r"page +(http://127\.0\.0\.1:\d+/[\w-]+/)", self.said)
        if found is None:
            raise AssertionError(f"{self.said}{self.process.communicate()}")
        self.url = found[1]

    def kill(self) -> None:
        self.process.kill()
        self.process.communicate(timeout=20)

    def stop(self) -> tuple[int, str, str]:
        """Ctrl-C: exit code, the rest of what was said, errors."""
        self.process.send_signal(signal.SIGINT)
        out, err = self.process.communicate(timeout=20)
        return self.process.returncode, out, err
