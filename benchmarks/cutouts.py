"""Cutouts per CPU second of one core, beside what others reach on the same files in the same run.

    python benchmarks/cutouts.py [--rounds 3]        prints JSON; about five minutes

Each measurement is a fresh process that reports ``time.process_time`` of doing its work once, after a small run for
imports; contenders take turns, and a ratio is the median over rounds of ratios within a round. Contenders:

ours          all targets of the tile, partition by partition, cut and written to a store (float32, int16)
decode        ``astropy.io.fits`` decodes the images and nothing else: the most a reader built on it can reach
Cutout2D      as a user would: each image opened once; ``wcs.world_to_pixel(SkyCoord)`` and ``Cutout2D`` a target;
              nothing is stored. The loop runs over a random subset and is scaled up; opening and decoding are not.
cutana        cutana's own worker function, one process, float32, no resizing, no normalisation, into its Zarr store
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pandas as pd
from make_tiles import BANDS, cache_folder, make_tile, template

SIZE = 64
LOOP = 600
CASES = {"des-24000": ("des", 24_000), "legacy-4000": ("legacy", 4_000), "legacy-50": ("legacy", 50)}


def ours(kind: str, targets: pd.DataFrame, work: Path, dtype: str) -> float:
    import numpy as np

    from survey_scan import config, store
    from survey_scan.cutouts import cut_partition

    images = config.Images(files=template(kind, cache_folder()), bands=BANDS, hdu="SCI")
    spec = config.Cutouts(bands=BANDS, size=SIZE, dtype=dtype)
    store.create(work / "cutouts.zarr", len(targets), spec, np.int64, {})
    out = np.full((spec.partition, SIZE, SIZE, len(BANDS)), np.nan, np.float32)  # a worker keeps it, once it has it
    start = time.process_time()
    for partition, first in enumerate(range(0, len(targets), spec.partition)):
        some = targets.iloc[first : first + spec.partition]
        cut = cut_partition(some, images, spec, None, out)
        store.write(work / "cutouts.zarr", partition, some["object_id"], some["ra"], some["dec"], cut)
    return time.process_time() - start


def decode(kind: str, targets: pd.DataFrame, work: Path) -> float:
    from astropy.io import fits

    start = time.process_time()
    for band in BANDS:
        with fits.open(template(kind, cache_folder()).format(tile="T1", band=band)) as file:
            assert file["SCI"].data.ndim == 2
    return time.process_time() - start


def cutout2d(kind: str, targets: pd.DataFrame, work: Path) -> float:
    import numpy as np
    from astropy import units
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.nddata import Cutout2D
    from astropy.wcs import WCS

    some = targets.sample(min(LOOP, len(targets)), random_state=1)
    fixed = loop = 0.0
    for band in BANDS:
        start = time.process_time()
        with fits.open(template(kind, cache_folder()).format(tile="T1", band=band)) as file:
            data, wcs = file["SCI"].data, WCS(file["SCI"].header)
        opened = time.process_time()
        for ra, dec in zip(some["ra"], some["dec"], strict=True):
            position = wcs.world_to_pixel(SkyCoord(ra, dec, unit=units.deg))
            cutout = Cutout2D(data, position, SIZE, wcs=wcs, mode="partial", fill_value=np.nan, copy=True)
            assert cutout.data.shape == (SIZE, SIZE)
        fixed, loop = fixed + opened - start, loop + time.process_time() - opened
    return fixed + loop * len(targets) / len(some)


def cutana(kind: str, targets: pd.DataFrame, work: Path) -> float:
    from loguru import logger

    logger.remove()
    from cutana.cutout_process import create_cutouts_batch
    from cutana.get_default_config import get_default_config
    from cutana.job_tracker import JobTracker

    paths = [template(kind, cache_folder()).format(tile="T1", band=band) for band in BANDS]
    settings = get_default_config()
    settings.output_dir = str(work)
    settings.process_id = "benchmark"
    settings.fits_extensions = settings.selected_extensions = ["SCI"]
    settings.channel_weights = {
        f"{Path(path).stem}_SCI": [float(i == j) for j in range(len(BANDS))] for i, path in enumerate(paths)
    }
    settings.target_resolution = SIZE
    settings.interpolation = "nearest"
    settings.normalisation_method = "none"
    settings.apply_flux_conversion = False
    settings.skip_fits_check = settings.skip_catalogue_validation = True
    settings.process_threads = 1
    sources = [
        {"SourceID": str(i), "RA": ra, "Dec": dec, "diameter_pixel": SIZE, "fits_file_paths": str(paths)}
        for i, ra, dec in zip(targets["object_id"], targets["ra"], targets["dec"], strict=True)
    ]
    tracker = JobTracker(progress_dir=str(work))
    tracker.register_process(settings.process_id, len(sources))
    start = time.process_time()
    create_cutouts_batch(sources, settings, tracker)
    taken = time.process_time() - start
    import zarr

    stored = zarr.open_group(next(work.rglob("images.zarr")), mode="r")["images"]
    assert stored.shape == (len(targets), SIZE, SIZE, len(BANDS)), stored.shape
    return taken


CONTENDERS: dict[str, Callable[[str, pd.DataFrame, Path], float]] = {
    "ours-float32": lambda *case: ours(*case, "float32"),
    "ours-int16": lambda *case: ours(*case, "int16"),
    "decode": decode,
    "Cutout2D": cutout2d,
    "cutana": cutana,
}


def measure(case: str, contender: str) -> None:
    """Print the CPU seconds of one contender; in a process of its own."""
    kind, n = CASES[case]
    targets = make_tile(kind, cache_folder())
    targets = targets.sample(n, random_state=2).sort_values(["y", "x"], ignore_index=True)
    warm = make_tile("legacy", cache_folder()).iloc[:500]
    for tile, some in (("legacy", warm), (kind, targets)):  # the first time is for imports, and not counted
        with tempfile.TemporaryDirectory(dir=cache_folder()) as work:
            taken = CONTENDERS[contender](tile, some, Path(work))
    print(taken)


def run(rounds: int) -> dict[str, object]:
    """All measurements; rates and ratios."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    for kind, _ in CASES.values():
        make_tile(kind, cache_folder())
    result: dict[str, object] = {"size": SIZE, "bands": BANDS, "rounds": rounds, "Cutout2D_loop_subset": LOOP}
    for case, (_, n) in CASES.items():
        seconds: dict[str, list[float]] = {name: [] for name in CONTENDERS}
        for _ in range(rounds):
            for name, taken in seconds.items():
                command = [sys.executable, __file__, "--measure", case, name]
                found = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
                taken.append(float(found.stdout.split()[-1]))
        ratios = {}
        for dtype in ("float32", "int16"):
            own = seconds[f"ours-{dtype}"]
            for other, name in (
                ("Cutout2D", "times_Cutout2D"),
                ("cutana", "times_cutana"),
                ("decode", "of_decode_limit"),
            ):
                pairs = zip(seconds[other], own, strict=True)
                ratios[f"{dtype}_{name}"] = round(statistics.median(theirs / mine for theirs, mine in pairs), 2)
        rates = {name: round(n / statistics.median(taken), 1) for name, taken in seconds.items()}
        result[case] = {
            "targets": n,
            "cutouts_per_cpu_second": rates,
            "ratios": ratios,
            "cpu_seconds": {name: [round(each, 3) for each in taken] for name, taken in seconds.items()},
        }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="how often each contender runs (default 3)")
    parser.add_argument("--measure", nargs=2, metavar=("CASE", "CONTENDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        measure(*arguments.measure)
        return
    json.dump(run(arguments.rounds), sys.stdout, indent=1)
    print()


if __name__ == "__main__":
    main()
