"""Which tile each of ten million positions is on: seconds and memory of one process, and how often two ways differ.

    python benchmarks/locate.py [--positions N] [--low DEG] [--high DEG] [--order sky|random]

Tiles are all Legacy Surveys bricks of a range of declinations (by default -30 to +80: 491,882), each an image of 3600 x
3600 pixels of 0.262 arcsec; neighbours overlap. ``polygons`` is the general way, :func:`survey_scan.plan.locate.locate`, for
tiles of any shape; ``bricks`` is arithmetic, :func:`survey_scan.imaging.bricks.brick_name`. Positions are uniform on that part
of the sky, in the order of the sky (by brick, as in a survey's catalogue) or in none. Each way runs in a process of its
own, whose peak memory (VmHWM) is given with what it held before. ``astropy`` is ``SkyCoord.match_to_catalog_sky``, the nearest
centre, on a tenth of the positions. Prints JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from survey_scan.imaging import bricks
from survey_scan.plan import locate


def positions(count: int, low: float, high: float, order: str) -> tuple[Any, Any]:
    """Right ascensions and declinations, degrees."""
    rng = np.random.default_rng(1)
    ra = rng.uniform(0, 360, count)
    dec = np.rad2deg(np.arcsin(rng.uniform(np.sin(np.deg2rad(low)), np.sin(np.deg2rad(high)), count)))
    if order == "sky":
        by_brick = np.argsort(bricks.brick_id(ra, dec))
        ra, dec = ra[by_brick], dec[by_brick]
    return ra, dec


def table(low: float, high: float) -> Any:
    """The tiles."""
    every = bricks.table()
    dec = bricks.bounds(np.arange(1, len(every) + 1)).dec
    return every[(dec >= low) & (dec <= high)]


def peak_mb() -> float:
    """Peak resident memory."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def way(options: argparse.Namespace) -> dict[str, Any]:
    """One way's figures; the names it found go to a file."""
    ra, dec = positions(options.positions, options.low, options.high, options.order)
    found: dict[str, Any] = {}
    tiles = table(options.low, options.high) if options.way != "bricks" else None
    found["mb_before"] = round(peak_mb())
    began = time.perf_counter(), time.process_time()
    if options.way == "polygons":
        known = locate.polygons(tiles)
        found["prepare_s"] = round(time.perf_counter() - began[0], 2)
        index = locate.locate(ra, dec, known)
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        names = np.append(known.names, "")[index]
    elif options.way == "bricks":
        names = bricks.brick_name(ra, dec)
        took = time.perf_counter() - began[0], time.process_time() - began[1]
    else:
        import astropy.units as u
        from astropy.coordinates import SkyCoord

        ra, dec = ra[::10], dec[::10]
        ids = np.flatnonzero(np.isin(bricks.names(), tiles["tile"].to_numpy(str))) + 1
        where = bricks.bounds(ids)
        index = SkyCoord(ra, dec, unit=u.deg).match_to_catalog_sky(SkyCoord(where.ra, where.dec, unit=u.deg))[0]
        took = time.perf_counter() - began[0], time.process_time() - began[1]
        names = bricks.names()[ids - 1][index]
    found |= {"wall_s": round(took[0], 2), "cpu_s": round(took[1], 2), "peak_mb": round(peak_mb())}
    found |= {"positions": len(ra), "us_per_position": round(took[1] / len(ra) * 1e6, 3)}
    np.save(options.names, names)
    return found


def main() -> None:
    """Take each way, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--positions", type=int, default=10_000_000)
    parser.add_argument("--low", type=float, default=-30.0)
    parser.add_argument("--high", type=float, default=80.0)
    parser.add_argument("--order", choices=["sky", "random"], default="random")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--names", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.way:
        print(json.dumps(way(options)))
        return
    import tempfile

    found, names = {}, {}
    with tempfile.TemporaryDirectory(prefix="survey_scan-locate-") as folder:
        for name in ("polygons", "bricks", "astropy"):
            file = f"{folder}/{name}.npy"
            command = [sys.executable, __file__, *sys.argv[1:], "--way", name, "--names", file]
            found[name] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout)
            names[name] = np.load(file)
        tiles = len(table(options.low, options.high))
        differ = float(np.mean(names["polygons"] != names["bricks"]))
        nearest = float(np.mean(names["polygons"][::10] != names["astropy"]))
    facts = {"tiles": tiles, "nowhere": int((names["polygons"] == "").sum())}
    compared = {
        "polygons differ from bricks": round(differ, 5),
        "polygons differ from the nearest centre": round(nearest, 5),
    }
    print(json.dumps({"options": vars(options), **facts, "ways": found, "compared": compared}, indent=1))


if __name__ == "__main__":
    main()
