"""Cutouts per CPU second of one core, beside what others reach on the same files in the same run.

    python benchmarks/cutouts.py [--rounds 1] [--cases CASE ...] [--keep]        prints JSON; twelve minutes on an idle core

Each contender has a process of its own for each case, which first does a small piece of work for its imports. Contenders take
turns, each reports ``time.process_time`` of doing its work once, and a ratio is the median over rounds of ratios within a
round. Before each turn all free memory is made page cache, as on a machine that has been at work for a while: a virtual machine's
host takes back what is free, and gives it again at 0.4 GB/s, where writing to pages that are there reaches 6. A first round is
not counted. cutana, which takes longest, and as long each time, is only in the last round. Contenders:

ours          all targets of the tile, partition by partition, cut and written to a store (float32, int16)
decode        ``astropy.io.fits`` decodes the images and nothing else: the most a reader built on it can reach
own_decode    our decoder does (bands of 500 rows into memory that is used again): the most that we can
write         as many bytes as ours has in float32 are written and flushed, a file a partition, and nothing else is done
Cutout2D      as a user would: each image opened once; ``wcs.world_to_pixel(SkyCoord)`` and ``Cutout2D`` a target;
              nothing is stored. The loop runs over a random subset and is scaled up; opening and decoding are not.
cutana        cutana's own worker function, one process, float32, no resizing, no normalisation, into its Zarr store

Then, for 5 to 4,000 targets on one tile, the way the program chooses beside every fixed one, without a store; and the
functions that cutting and storing a dense tile spends its time in.
"""

import argparse
import contextlib
import cProfile
import os
import pstats
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import kept
import pandas as pd
import psutil
from make_tiles import BANDS, cache_folder, make_tile, template

LOOP = 600
FILLER = "filler"
OURS = ("ours-float32", "ours-int16")
#: Name of a case: tiles, targets, size, who takes part beside us.
CASES: dict[str, tuple[str, int, int, tuple[str, ...]]] = {
    "des-24000-64": ("des", 24_000, 64, ("decode", "own_decode", "write", "Cutout2D", "cutana")),
    "des-24000-101": ("des", 24_000, 101, ("decode", "own_decode", "write", "cutana")),
    "legacy-4000-64": ("legacy", 4_000, 64, ("decode", "own_decode", "cutana")),
    "legacy-50-64": ("legacy", 50, 64, ("decode", "Cutout2D", "cutana")),
    "des-plain-24000-64": ("des-plain", 24_000, 64, ("write", "cutana")),
    "des-plain-24000-101": ("des-plain", 24_000, 101, ("write", "cutana")),
}
NUMBERS = (5, 25, 100, 500, 1000, 4000)
#: A fixed way is left out where the prices say that it takes longer, in seconds a band.
LONG = 1.2


def ours(kind: str, targets: pd.DataFrame, work: Path, size: int, dtype: str) -> float:
    import numpy as np

    from survey_scan import store
    from survey_scan.cutouts import cut_partition

    images, spec = _config(kind, size, dtype)
    store.create(work / "cutouts.zarr", len(targets), spec, np.int64, {})
    out = np.full((spec.partition, size, size, len(BANDS)), np.nan, np.float32)  # a worker keeps it, once it has it
    start = time.process_time()
    for partition, first in enumerate(range(0, len(targets), spec.partition)):
        some = targets.iloc[first : first + spec.partition]
        cut = cut_partition(some, images, spec, None, out)
        store.write(work / "cutouts.zarr", partition, some["object_id"], some["ra"], some["dec"], cut)
    return time.process_time() - start


def _config(kind: str, size: int, dtype: str = "float32") -> Any:
    from survey_scan import config

    images = config.Images(files=template(kind, cache_folder()), bands=BANDS, hdu="SCI")
    return images, config.Cutouts(bands=BANDS, size=size, dtype=dtype)


def decode(kind: str, targets: pd.DataFrame, work: Path, size: int) -> float:
    from astropy.io import fits

    start = time.process_time()
    for path in _paths(kind):
        with fits.open(path) as file:
            assert file["SCI"].data.ndim == 2
    return time.process_time() - start


def own_decode(kind: str, targets: pd.DataFrame, work: Path, size: int) -> float:
    from survey_scan.imaging.fits_header import find_image
    from survey_scan.imaging.fits_image import FitsImage

    start = time.process_time()
    for path in _paths(kind):
        hdu = find_image(Path(path), "SCI")
        height, width = hdu.layout.shape
        with FitsImage(hdu, "rows") as image:
            for y in range(0, height, 500):
                assert image.read(y, min(y + 500, height), 0, width).shape[1] == width
    return time.process_time() - start


def write_alone(kind: str, targets: pd.DataFrame, work: Path, size: int) -> float:
    import numpy as np

    partition = _config(kind, size)[1].partition
    pixels = np.ones((32, size, size, len(BANDS)), np.float32).data
    start = time.process_time()
    for first in range(0, len(targets), partition):
        with (work / str(first)).open("wb") as file:
            for _ in range(first, min(first + partition, len(targets)), 32):
                file.write(pixels)
            file.flush()
            os.fsync(file.fileno())
    return time.process_time() - start


def _paths(kind: str) -> list[str]:
    return [template(kind, cache_folder()).format(tile="T1", band=band) for band in BANDS]


def cutout2d(kind: str, targets: pd.DataFrame, work: Path, size: int) -> float:
    import numpy as np
    from astropy import units
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.nddata import Cutout2D
    from astropy.wcs import WCS

    some = targets.sample(min(LOOP, len(targets)), random_state=1)
    fixed = loop = 0.0
    for path in _paths(kind):
        start = time.process_time()
        with fits.open(path) as file:
            data, wcs = file["SCI"].data, WCS(file["SCI"].header)
        opened = time.process_time()
        for ra, dec in zip(some["ra"], some["dec"], strict=True):
            position = wcs.world_to_pixel(SkyCoord(ra, dec, unit=units.deg))
            cutout = Cutout2D(data, position, size, wcs=wcs, mode="partial", fill_value=np.nan, copy=True)
            assert cutout.data.shape == (size, size)
        fixed, loop = fixed + opened - start, loop + time.process_time() - opened
    return fixed + loop * len(targets) / len(some)


def cutana(kind: str, targets: pd.DataFrame, work: Path, size: int) -> float:
    from loguru import logger

    logger.remove()
    from cutana.cutout_process import create_cutouts_batch
    from cutana.get_default_config import get_default_config
    from cutana.job_tracker import JobTracker

    paths = _paths(kind)
    settings = get_default_config()
    settings.output_dir = str(work)
    settings.process_id = "benchmark"
    settings.fits_extensions = settings.selected_extensions = ["SCI"]
    settings.channel_weights = {
        f"{Path(path).stem}_SCI": [float(i == j) for j in range(len(BANDS))] for i, path in enumerate(paths)
    }
    settings.target_resolution = size
    settings.interpolation = "nearest"
    settings.normalisation_method = "none"
    settings.apply_flux_conversion = False
    settings.skip_fits_check = settings.skip_catalogue_validation = True
    settings.process_threads = 1
    sources = [
        {"SourceID": str(i), "RA": ra, "Dec": dec, "diameter_pixel": size, "fits_file_paths": str(paths)}
        for i, ra, dec in zip(targets["object_id"], targets["ra"], targets["dec"], strict=True)
    ]
    tracker = JobTracker(progress_dir=str(work))
    tracker.register_process(settings.process_id, len(sources))
    start = time.process_time()
    create_cutouts_batch(sources, settings, tracker)
    taken = time.process_time() - start
    import zarr

    stored = zarr.open_group(next(work.rglob("images.zarr")), mode="r")["images"]
    assert stored.shape == (len(targets), size, size, len(BANDS)), stored.shape
    return taken


CONTENDERS: dict[str, Callable[[str, pd.DataFrame, Path, int], float]] = {
    "ours-float32": lambda *case: ours(*case, "float32"),
    "ours-int16": lambda *case: ours(*case, "int16"),
    "decode": decode,
    "own_decode": own_decode,
    "write": write_alone,
    "Cutout2D": cutout2d,
    "cutana": cutana,
}


def chosen(kind: str, n: int, seed: int = 2) -> pd.DataFrame:
    """Some targets of a tile, in the order of the plan."""
    return make_tile(kind, cache_folder()).sample(n, random_state=seed).sort_values(["y", "x"], ignore_index=True)


def contend(case: str, contender: str) -> None:
    """In a process of its own: print the CPU seconds of doing the work once, for each line read."""
    kind, n, size, _ = CASES[case]
    work = [(kind, chosen(kind, n)), ("legacy", chosen("legacy", 500))]
    while True:
        tile, some = work.pop() if len(work) > 1 else work[0]  # the first time is for imports
        with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
            fill_page_cache(tile)
            print(CONTENDERS[contender](tile, some, Path(folder), size), flush=True)
        if not sys.stdin.readline():
            return


def fill_page_cache(kind: str) -> None:
    """Have all free memory hold pages of a file of holes, which nothing is read for, and then those of the tile."""
    filler, piece = cache_folder() / FILLER, bytearray(1 << 24)
    with filler.open("ab") as file:
        file.truncate(psutil.virtual_memory().total)
    for path in (filler, *_paths(kind)):
        with Path(path).open("rb", buffering=0) as file:
            while file.readinto(piece):
                pass


def compete(case: str, rounds: int) -> dict[str, Any]:
    """All contenders of one case, in turns."""
    kind, n, size, others = CASES[case]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    seconds: dict[str, list[float]] = {name: [] for name in (*OURS, *others)}
    with contextlib.ExitStack() as stack:
        running, said = {}, stack.enter_context(tempfile.TemporaryFile("w+"))
        for name in seconds:
            command = [sys.executable, __file__, "--contend", case, name]
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=said, text=True, env=environment
            )
            running[name] = stack.enter_context(process)
        for process in running.values():  # have done their imports
            _answer(process, said)
        for number in range(rounds + 1):
            for name, process in running.items():
                if name == "cutana" and number < rounds:
                    continue
                process.stdin.write("\n")
                process.stdin.flush()
                taken = _answer(process, said)
                if number:
                    seconds[name].append(taken)
        for process in running.values():
            process.stdin.close()
    ratios = {
        f"{own.removeprefix('ours-')}_{'times' if other in ('Cutout2D', 'cutana') else 'of'}_{other}": _median_ratio(
            seconds[other], seconds[own]
        )
        for own in OURS
        for other in others
    }
    return {
        "tiles": kind,
        "targets": n,
        "size": size,
        "cutouts_per_cpu_second": {name: round(n / statistics.median(taken), 1) for name, taken in seconds.items()},
        "ratios": ratios,
        "cpu_seconds": {name: [round(each, 3) for each in taken] for name, taken in seconds.items()},
    }


def _answer(process: Any, said: Any) -> float:
    for line in process.stdout:
        with contextlib.suppress(ValueError):  # cutana prints, too
            return float(line)
    said.seek(0)
    raise RuntimeError(f"{process.args} ended:\n{said.read()[-2000:]}")


def _median_ratio(theirs: list[float], mine: list[float]) -> float:
    return round(statistics.median(a / b for a, b in zip(theirs, mine[-len(theirs) :], strict=True)), 2)


@contextlib.contextmanager
def forced(mode: str | None, library: bool) -> Iterator[None]:
    """One way of reading boxes, or the program's choice; without our decoder."""
    from survey_scan.imaging import cost, native
    from survey_scan.imaging.fits_image import FitsImage

    with contextlib.ExitStack() as stack:
        if library:
            stack.enter_context(mock.patch.object(native, "decoder", lambda: None))
        if mode is not None:
            stack.enter_context(mock.patch.object(FitsImage, "cut", lambda *_: None))
            stack.enter_context(mock.patch.object(cost, "allowed", lambda _: (mode,)))
        yield


def ways(kind: str, libraries: bool, size: int = 64) -> list[dict[str, Any]]:
    """CPU microseconds a target, of three bands, by the program's choice and by each fixed way; without our decoder, too."""
    import numpy as np

    from survey_scan.imaging import cost, fits_tiles, native
    from survey_scan.imaging.fits_header import find_image

    images, spec = _config(kind, size)
    hdu = find_image(Path(_paths(kind)[0]), "SCI")
    found = []
    for n in NUMBERS:
        targets, out = chosen(kind, n, n), np.full((n, size, size, len(BANDS)), np.nan, np.float32)
        y0, x0 = (np.ceil(targets[axis].to_numpy() - size / 2).astype(np.int64) for axis in "yx")
        order = np.lexsort((x0, y0))
        row: dict[str, Any] = {"n": n}
        for library in (False, True) if libraries else (False,):
            for mode in (None, "whole", "rows", "sections"):
                with forced(mode, library):
                    layout = native.layout(hdu)
                    inside = (y0[order], y0[order] + size, x0[order], x0[order] + size)
                    if mode and cost.seconds(mode, layout, cost.boxes(mode, layout, *inside)) > LONG:
                        continue
                    taken: list[float] = []
                    while len(taken) < 3 and sum(taken) < 0.6:
                        start = time.process_time()
                        fits_tiles.cut(targets, images, spec, None, out)
                        taken.append(time.process_time() - start)
                row[("library_" if library else "") + (mode or "own_choice")] = round(1e6 * min(taken) / n, 1)
        fixed = [value for way, value in row.items() if way != "n" and not way.endswith("own_choice")]
        row["own_choice_over_best"] = round(row["own_choice"] / min(fixed), 2)
        if libraries:
            others = [
                value for way, value in row.items() if way in ("library_whole", "library_rows", "library_sections")
            ]
            row["library_own_choice_over_best"] = round(row["library_own_choice"] / min(others), 2)
        found.append(row)
    return found


def profile(case: str, dtype: str) -> list[dict[str, Any]]:
    """Functions that cutting and storing a dense tile spends its processor time in, those with most of it."""
    kind, n, size, _ = CASES[case]
    profiler = cProfile.Profile(time.process_time)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        ours("legacy", chosen("legacy", 500), Path(folder), size, dtype)
    with tempfile.TemporaryDirectory(dir=cache_folder()) as folder:
        targets = chosen(kind, n)
        fill_page_cache(kind)
        profiler.enable()
        ours(kind, targets, Path(folder), size, dtype)
        profiler.disable()
    stats: Any = pstats.Stats(profiler)
    most = sorted(stats.stats.items(), key=lambda item: -item[1][2])[:8]
    return [
        {"case": f"{case} {dtype}", "function": _name(where), "share": round(taken[2] / stats.total_tt, 3)}
        for where, taken in most
    ]


def _name(where: tuple[str, int, str]) -> str:
    file, _, function = where
    return f"{Path(file).parent.name}/{Path(file).name} {function}" if file != "~" else function


def run(cases: list[str], rounds: int) -> dict[str, Any]:
    """All measurements."""
    for kind in {CASES[case][0] for case in cases} | {"legacy", "des"}:
        make_tile(kind, cache_folder())
    found = {case: compete(case, rounds) for case in cases}
    result: dict[str, Any] = {"bands": BANDS, "rounds": rounds, "Cutout2D_loop_subset": LOOP, "cases": found}
    result["curve"], result["curve_des"] = ways("legacy", True), ways("des", False)
    result["profile"] = [
        each
        for case in ("des-24000-64", "des-24000-101")
        for dtype in ("float32", "int16")
        for each in profile(case, dtype)
    ]
    (cache_folder() / FILLER).unlink(missing_ok=True)
    both = {name: found[name]["ratios"] for name in cases}

    def of(case: str, ratio: str) -> Any:
        return {dtype: both[case].get(f"{dtype}_{ratio}") for dtype in ("float32", "int16")} if case in both else None

    rows = result["curve"] + result["curve_des"]
    result["wanted"] = {
        "DES-like, 24,000 targets, 64 pixels, of decoding by astropy (at least 0.75)": of("des-24000-64", "of_decode"),
        "DES-like, 24,000 targets, 101 pixels, of decoding by astropy (at least 0.75)": of(
            "des-24000-101", "of_decode"
        ),
        "times cutana, .fz, 64 pixels (at least 3.5)": of("des-24000-64", "times_cutana"),
        "times cutana, .fz, 101 pixels (at least 4)": of("des-24000-101", "times_cutana"),
        "times cutana, not compressed, 64 pixels (at least 8)": of("des-plain-24000-64", "times_cutana"),
        "times cutana, not compressed, 101 pixels (at least 8)": of("des-plain-24000-101", "times_cutana"),
        "brick-like, 50 targets, times decoding the whole (at least 5)": of("legacy-50-64", "of_decode"),
        "own choice over the best fixed way, at worst (at most 1.2)": max(row["own_choice_over_best"] for row in rows),
        "the same without our decoder, bricks": max(row["library_own_choice_over_best"] for row in result["curve"]),
    }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=int, default=1, help="how often each contender runs and is counted (default 1)"
    )
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES), help="(default: all)")
    parser.add_argument("--contend", nargs=2, metavar=("CASE", "CONTENDER"), help=argparse.SUPPRESS)
    kept.option(parser)
    arguments = parser.parse_args()
    if arguments.contend:
        contend(*arguments.contend)
        return
    kept.tell("cutouts", run(arguments.cases, arguments.rounds), arguments.keep)


if __name__ == "__main__":
    main()
