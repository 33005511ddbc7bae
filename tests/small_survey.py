"""A small survey on disk for tests of whole scans: four overlapping tiles, two bands, a catalogue, a configuration."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

SIDE, OVERLAP, SCALE = 400, 60, 0.263
TILES = ("A00", "A01", "A10", "A11")


@dataclass(frozen=True)
class SmallSurvey:
    """Where it lies."""

    folder: Path

    @property
    def config(self) -> Path:
        return self.folder / "lrg.yaml"

    @property
    def catalogue(self) -> Path:
        return self.folder / "cat.fits"

    def tile(self, name: str, band: str) -> Path:
        return self.folder / "tiles" / f"{name}_{band}.fits.fz"

    def edit(self, **sections: dict) -> None:
        """Change keys of the configuration."""
        data = yaml.safe_load(self.config.read_text())
        for section, keys in sections.items():
            data.setdefault(section, {}).update(keys)
        self.config.write_text(yaml.safe_dump(data, sort_keys=False))

    def command(self, *words: str, **options) -> subprocess.Popen:
        """Start the command line in a process group of its own."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "survey_scan", *map(str, words)],
            cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            start_new_session=True, **options,
        )  # fmt: skip

    def call(self, *words: str) -> tuple[int, str, str]:
        """Run the command line: exit code, output, errors."""
        process = self.command(*words)
        out, err = process.communicate(timeout=240)
        return process.returncode, out, err


def header(column: int, row: int, side: int = SIDE) -> fits.Header:
    """One TAN grid for all tiles; tile (column, row) starts (side - OVERLAP) pixels further."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = [0.0, -30.0]  # right across RA 0
    step = side - OVERLAP
    wcs.wcs.crpix = [side - column * step, side - row * step]
    wcs.wcs.cd = np.array([[-SCALE, 0], [0, SCALE]]) / 3600
    return wcs.to_header()


def make(folder: Path, n_objects: int = 3000, side: int = SIDE, seed: int = 7, bands: str = "gr") -> SmallSurvey:
    """Write tiles, catalogue and configuration.

    A10 lacks band r. Some objects lie outside every tile, some at edges; one in ten is blue and is cut.
    """
    rng = np.random.default_rng(seed)
    survey = SmallSurvey(folder)
    (folder / "tiles").mkdir(parents=True)
    for column in range(2):
        for row in range(2):
            name = f"A{column}{row}"
            for band in bands:
                if (name, band) == ("A10", "r"):
                    continue
                image = rng.normal(0, 3, (side, side)).astype(np.float32)
                hdus = fits.HDUList([
                    fits.PrimaryHDU(),
                    fits.CompImageHDU(image, header(column, row, side), name="SCI", compression_type="RICE_1",
                                      tile_shape=(1, side), quantize_method=2, quantize_level=16, dither_seed=1),
                ])  # fmt: skip
                hdus.writeto(survey.tile(name, band))
    total = 2 * side - OVERLAP
    x, y = rng.uniform(-10, total + 10, (2, n_objects))
    ra, dec = WCS(header(0, 0, side)).all_pix2world(x, y, 0)
    mag = rng.uniform(18, 22, n_objects)
    table = pd.DataFrame({
        "ID": np.arange(n_objects) * 7 + 100_000_000_000, "RA": ra, "DEC": dec, "MAG_G": mag + rng.uniform(0.5, 1.5, n_objects),
        "MAG_R": np.where(rng.random(n_objects) < 0.1, mag + 3, mag),
    })  # fmt: skip
    Table.from_pandas(table).write(survey.catalogue)
    config = {
        "run": {"name": "lrg"},
        "catalogue": {
            "files": "cat.fits", "id_column": "ID", "ra_column": "RA", "dec_column": "DEC",
            "columns": {"mag_g": "MAG_G", "mag_r": "MAG_R"}, "rows_per_task": 1000,
        },
        "selection": {"define": {"g_r": "mag_g - mag_r"}, "cuts": {"red": "g_r > 0"}},
        "images": {"files": "tiles/{tile}_{band}.fits.fz", "bands": list(bands), "hdu": "SCI"},
        "cutouts": {"bands": list(bands), "size": 20, "partition": 256},
        "model": {"path": "loopback"},
        "ranking": {"top": 500},
        "resources": {"workers": 2, "dashboard": 0},
    }  # fmt: skip
    survey.config.write_text(yaml.safe_dump(config, sort_keys=False))
    return survey
