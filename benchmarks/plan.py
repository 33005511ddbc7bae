"""From a catalogue to targets in partitions: time and memory for ten million targets, and what a plain loop would take.

    python benchmarks/plan.py [--targets N] [--tiles N] [--workers N] [--naive N] [--shuffled]

The catalogue is FITS, a stripe of the sky a file as in the Legacy Surveys' sweeps (``--shuffled``: in no order), 20 per
cent larger than the number of targets, with fluxes, extinction and a colour cut. Tiles are brick-like (0.262 arcsec,
3600 x 3600 pixels, every 0.25 deg, so that neighbours overlap); their files have headers and a hole instead of pixels.
All is made in a temporary folder, about 1 GB for ten million. ``plan`` is ``planning.make_plan`` on a local cluster.

Two plain ways for comparison, on ``--naive`` targets of the first partition and in the same run, both reading each
header once: ``per_row`` finds the tile of one object after the other by comparing it with all tile edges, and its pixel
with astropy; ``per_tile`` goes through the tiles (a sample of them; the figure is for all) and asks astropy which
objects lie on each. Prints JSON; ratios are of targets per second of processor time, of all processes.
"""

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import fitsio
import numpy as np
import pandas as pd

sys.path.insert(0, str(Path(__file__).parent.parent))

from survey_scan.config import Catalogue, Config, Cutouts, Images, Magnitude, Model, Run, Selection
from survey_scan.engine import planning
from survey_scan.layout import RunDirectory

SIDE, SCALE, STEP = 3600, 0.262, 0.25
PER_FILE = 1_000_000


def make_tiles(folder: Path, count: int) -> tuple[float, float]:
    """Write tiles in rows around the equator, across RA 0; returns half the width and height of the field (deg)."""
    columns = int(np.sqrt(2 * count))
    rows = -(-count // columns)
    index = ["tile,ra1,dec1,ra2,dec2,ra3,dec3,ra4,dec4"]
    half = np.tan(np.deg2rad(SIDE / 2 * SCALE / 3600))
    for k in range(rows * columns):
        row, column = divmod(k, columns)
        dec = (row - (rows - 1) / 2) * STEP
        ra = (column - (columns - 1) / 2) * STEP / np.cos(np.deg2rad(dec)) % 360
        name = f"{round(ra * 10) % 3600:04d}{'p' if dec >= 0 else 'm'}{abs(round(dec * 100)):04d}-{k:05d}"
        cards = [
            "SIMPLE  =                    T", "BITPIX  =                  -32", "NAXIS   =                    2",
            f"NAXIS1  = {SIDE:20d}", f"NAXIS2  = {SIDE:20d}", "CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'",
            f"CRVAL1  = {ra:20.12f}", f"CRVAL2  = {dec:20.12f}", f"CRPIX1  = {SIDE / 2 + 0.5:20.1f}",
            f"CRPIX2  = {SIDE / 2 + 0.5:20.1f}", f"CD1_1   = {-SCALE / 3600:20.12E}", "CD1_2   =                  0.0",
            "CD2_1   =                  0.0", f"CD2_2   = {SCALE / 3600:20.12E}", "END",
        ]  # fmt: skip
        with (folder / f"{name}-g.fits").open("wb") as file:
            file.write("".join(card.ljust(80) for card in cards).ljust(2880).encode())
            file.truncate(2880 + -(-SIDE * SIDE * 4 // 2880) * 2880)
        corners = []
        for x, y in ((half, -half), (-half, -half), (-half, half), (half, half)):
            d, r = np.deg2rad(dec), np.deg2rad(ra)
            below = np.cos(d) - y * np.sin(d)
            corners += [np.rad2deg(r + np.arctan2(x, below)) % 360]
            corners += [np.rad2deg(np.arctan2(np.sin(d) + y * np.cos(d), np.hypot(x, below)))]
        index.append(",".join([name, *(f"{c:.10f}" for c in corners)]))
    (folder / "index.csv").write_text("\n".join(index) + "\n")
    return columns * STEP / 2 * 0.98, rows * STEP / 2 * 0.98


def make_catalogue(folder: Path, count: int, half_ra: float, half_dec: float, shuffled: bool) -> None:
    """Write the files of the catalogue."""
    rng = np.random.default_rng(1)
    files = -(-count // PER_FILE)
    for i in range(files):
        n = min(PER_FILE, count - i * PER_FILE)
        low, high = (-1, 1) if shuffled else (2 * i / files - 1, 2 * (i + 1) / files - 1)
        dtype = [("RELEASE", "i2"), ("BRICKNAME", "S8"), ("ID", "i8"), ("TYPE", "S4"), ("RA", "f8"), ("DEC", "f8")]
        dtype += [(f"{a}_{b}", "f4") for a in ("FLUX", "MW_TRANSMISSION", "FLUX_IVAR", "FRACFLUX") for b in "GRZ"]
        table = np.zeros(n, dtype)
        table["ID"] = rng.permutation(n) + i * PER_FILE
        table["RA"] = rng.uniform(low, high, n) * half_ra % 360
        table["DEC"] = rng.uniform(-half_dec, half_dec, n)
        table["TYPE"] = rng.choice(np.array([b"DEV", b"REX", b"PSF"]), n)
        table["FLUX_R"] = rng.lognormal(2, 1, n)
        colour = rng.uniform(-0.2, 1.0, n)  # one in six is too blue
        table["FLUX_G"] = table["FLUX_R"] * 10 ** (-0.4 * colour)
        for band in "GRZ":
            table[f"MW_TRANSMISSION_{band}"] = 0.9
        fitsio.write(folder / f"sweep-{i:03d}.fits", table, clobber=True)


def make(folder: Path, targets: int, tiles: int, shuffled: bool) -> None:
    """Make all data."""
    make_catalogue(folder, round(targets * 1.2), *make_tiles(folder, tiles), shuffled)


def configuration(folder: Path) -> Config:
    """A colour cut on extinction-corrected magnitudes."""
    magnitudes = {f"mag_{b.lower()}": Magnitude(flux=f"FLUX_{b}", transmission=f"MW_TRANSMISSION_{b}") for b in "GR"}
    return Config(
        run=Run(name="plan"),
        catalogue=Catalogue(files=[f"{folder}/sweep-*.fits"], id_column="ID", magnitudes=magnitudes),
        selection=Selection(define={"g_r": "mag_g - mag_r"}, cuts={"red": "g_r > 0"}),
        images=Images(files=f"{folder}/{{tile}}-{{band}}.fits", bands=["g"], index=f"{folder}/index.csv"),
        cutouts=Cutouts(bands=["g"], size=64, partition=4096),
        model=Model(path="loopback"),
    )


def usage() -> dict[str, float]:
    """CPU seconds and peak resident memory of this process."""
    own = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": own.ru_utime + own.ru_stime, "peak_mb": own.ru_maxrss / 1024}


def plan(folder: Path, workers: int) -> dict[str, Any]:
    """Plan on a local cluster."""
    from distributed import Client, LocalCluster

    run = RunDirectory(folder / "run")
    passes: dict[str, float] = {}
    cluster = LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None)
    with cluster, Client(cluster) as client:
        client.run(_import)
        before, before_workers = usage(), client.run(usage)
        began = time.perf_counter()

        def report(name: str, done: int, total: int) -> None:
            passes[name] = round(time.perf_counter() - began, 2)

        result = planning.make_plan(configuration(folder), run, client, report=report)
        wall = time.perf_counter() - began
        after, after_workers = usage(), client.run(usage)
    busy = sum(after_workers[w]["cpu_s"] - before_workers[w]["cpu_s"] for w in after_workers)
    planned = result.facts["planned"]
    return {
        "targets": planned,
        "catalogue_rows": result.facts["catalogue"],
        "tiles": result.facts["n_tiles"],
        "partitions": result.facts["partitions"],
        "wall_s": round(wall, 1),
        "passes_end_at_s": passes,
        "cpu_s_workers": round(busy, 1),
        "cpu_s_driver": round(after["cpu_s"] - before["cpu_s"], 1),
        "targets_per_cpu_s": round(planned / (busy + after["cpu_s"] - before["cpu_s"])),
        "targets_per_wall_s": round(planned / wall),
        "peak_mb_worker": round(max(w["peak_mb"] for w in after_workers.values())),
        "peak_mb_worker_before": round(max(w["peak_mb"] for w in before_workers.values())),
        "peak_mb_driver": round(after["peak_mb"]),
        "peak_mb_driver_before": round(before["peak_mb"]),
    }


def _import() -> None:
    import survey_scan.engine.planning  # noqa: F401


def naive(folder: Path, count: int) -> dict[str, Any]:
    """The two plain ways, on the first targets of the plan, from which they must not differ."""
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.wcs import WCS

    run = RunDirectory(folder / "run")
    targets = pd.read_parquet(run.targets(0))
    targets = targets.sample(min(count, len(targets)), random_state=1)
    index = pd.read_csv(folder / "index.csv", dtype={"tile": str})

    @cache
    def wcs(tile: str) -> Any:
        return WCS(fits.getheader(folder / f"{tile}-g.fits"))

    def centred(x: Any, y: Any) -> Any:
        return np.minimum(np.minimum(x, SIDE - 1 - x), np.minimum(y, SIDE - 1 - y))

    began, found = time.process_time(), {}
    for row in targets.itertuples():
        turned = (index["ra1"] - row.ra + 180) % 360 - 180, (index["ra2"] - row.ra + 180) % 360 - 180
        inside = (turned[0] >= -0.01) & (turned[1] <= 0.01) & (index["dec1"] <= row.dec) & (index["dec3"] >= row.dec)
        best = ("", -1.0)
        for tile in index["tile"][inside]:
            x, y = wcs(tile).world_to_pixel(SkyCoord(row.ra, row.dec, unit="deg"))
            if (margin := centred(x, y)) > best[1]:
                best = (tile, margin)
        found[row.object_id] = best[0]
    per_row = time.process_time() - began
    agree = float(np.mean([found[row.object_id] == row.tile for row in targets.itertuples()]))

    began = time.process_time()
    sky = SkyCoord(targets["ra"].to_numpy(), targets["dec"].to_numpy(), unit="deg")
    margins = np.full(len(targets), -1.0)
    sample = index["tile"].sample(min(500, len(index)), random_state=1)
    for tile in sample:
        x, y = wcs(tile).world_to_pixel(sky)
        margins = np.fmax(margins, centred(x, y))
    per_tile = time.process_time() - began
    return {
        "targets": len(targets),
        "per_row_targets_per_cpu_s": round(len(targets) / per_row, 1),
        "per_row_same_tile": agree,
        "per_tile_targets_per_cpu_s_on_all_tiles": round(len(targets) / (per_tile * len(index) / len(sample)), 1),
    }


def main() -> None:
    """Make the data, plan, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--targets", type=int, default=10_000_000)
    parser.add_argument("--tiles", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--naive", type=int, default=500)
    parser.add_argument("--shuffled", action="store_true")
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="survey_scan-plan-") as name:
        folder = Path(name)
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:  # so that its memory is not taken for the plan's
            pool.submit(make, folder, options.targets, options.tiles, options.shuffled).result()
        ours = plan(folder, options.workers)
        plain = naive(folder, options.naive)
    rate = ours["targets_per_cpu_s"]
    ratios = {
        "over_per_row": round(rate / plain["per_row_targets_per_cpu_s"]),
        "over_per_tile": round(rate / plain["per_tile_targets_per_cpu_s_on_all_tiles"]),
    }
    print(json.dumps({"options": vars(options), "plan": ours, "plain": plain, "ratios": ratios}, indent=1))


if __name__ == "__main__":
    main()
