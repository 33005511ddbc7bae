"""From a catalogue to targets in partitions: what a target costs, and how much memory that takes, for ever more targets.

    python benchmarks/plan.py [--targets N ...] [--orders sky|shuffled ...] [--index table|bricks] [--density N]
                              [--workers N] [--memory SIZE] [--repeats N] [--naive N] [--folder FOLDER] [--keep]

For each number of targets a field of the Legacy Surveys' bricks, as many as make ``--density`` targets a brick, twice as wide
as high; each brick's file has a header and a hole instead of pixels. The catalogue is FITS of a million rows a file, 20 per cent
more rows than targets, of which a colour cut leaves the targets; a file holds a box of the sky, as the Legacy Surveys' sweeps do,
in no order (``sky``), or a part of the whole field (``shuffled``: each piece of the catalogue touches every tile). Tiles come from
a table of the field's bricks (``--index table``, which goes for any survey) or by arithmetic. All is made in a temporary folder
and removed: some 200 bytes a target. The plan is ``planning.make_plan`` with a scheduler and workers in processes of their own,
each worker with ``--memory``.

* ``us_a_target``: processor time of all of them together, in microseconds, the median of ``--repeats``; ``by_process`` and
  ``by_part`` (of the workers' tasks) divide it. ``large_over_small``: that of the most targets over that of the least.
* ``peak_mb``: most resident memory of a worker, the driver and the scheduler, from the kernel.
* ``scratch``: most bytes a target and most files in the plan's scratch folder.
* ``limit_us``: reading the catalogue's rows and writing the same target tables alone, in this process, for the fewest targets.
* ``peer_us``: two plain ways for ``--naive`` targets, which read each header once: ``per_row`` finds the tile of one object after
  the other by comparing it with all tile edges, and its pixel with astropy; ``per_tile`` goes through the tiles (a sample; the
  figure is for all) and asks astropy which objects lie on each.

Prints JSON.
"""

import argparse
import contextlib
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import fitsio
import kept
import numpy as np
import pandas as pd
import psutil
import pyarrow.parquet as pq

from survey_scan.config import Catalogue, Config, Cutouts, Images, Magnitude, Model, Run, Selection
from survey_scan.engine import plan_tasks, planning
from survey_scan.imaging import bricks
from survey_scan.layout import RunDirectory

SIDE, SCALE = 3600, 0.262
PER_FILE = 1_000_000
#: Where the field begins, degrees.
WEST = 10.0
#: Parts of the workers' tasks: module, function.
PARTS = {
    "select": ("survey_scan.selection", "select_rows"),
    "locate": ("survey_scan.plan.locate", "locate"),
    "bricks": ("survey_scan.imaging.bricks", "brick_name"),
    "sort by tile": ("survey_scan.plan", "located"),
    "write located": ("survey_scan.plan", "write_located"),
    "unique": ("survey_scan.plan.unique", "repeated"),
    "gather": ("survey_scan.plan", "read_group"),
    "headers, pixels": ("survey_scan.plan.positions", "pixels"),
    "order": ("survey_scan.plan", "order"),
    "digest": ("survey_scan.plan", "partition_row"),
    "write targets": ("survey_scan.plan", "write_targets"),
}


def field(targets: int, density: float) -> tuple[float, float]:
    """Width and height (deg) of a field of so many targets."""
    height = float(np.sqrt(targets / density / 16 / 2))
    return 2 * height, height


def make_tiles(folder: Path, width: float, height: float) -> int:
    """Write the files of all bricks that reach into the field, and a table of them; returns how many."""
    names = bricks.names()
    where = bricks.bounds(np.arange(1, len(names) + 1))
    inside = (where.ra2 > WEST) & (where.ra1 < WEST + width) & (where.dec2 > -height / 2) & (where.dec1 < height / 2)
    names, ra, dec = names[inside], where.ra[inside], where.dec[inside]
    fitsio.write(
        folder / "bricks.fits", {"BRICKNAME": names.astype("S8"), "RA": ra, "DEC": dec}, clobber=True
    )  # as survey-bricks.fits.gz
    size = 2880 + -(-SIDE * SIDE * 4 // 2880) * 2880
    for start in {name[:3] for name in names}:
        (folder / start).mkdir()
    for name, a, d in zip(names, ra, dec, strict=True):
        cards = [
            "SIMPLE  =                    T", "BITPIX  =                  -32", "NAXIS   =                    2",
            f"NAXIS1  = {SIDE:20d}", f"NAXIS2  = {SIDE:20d}", "CTYPE1  = 'RA---TAN'", "CTYPE2  = 'DEC--TAN'",
            f"CRVAL1  = {a:20.12f}", f"CRVAL2  = {d:20.12f}", f"CRPIX1  = {SIDE / 2 + 0.5:20.1f}",
            f"CRPIX2  = {SIDE / 2 + 0.5:20.1f}", f"CD1_1   = {-SCALE / 3600:20.12E}", "CD1_2   =                  0.0",
            "CD2_1   =                  0.0", f"CD2_2   = {SCALE / 3600:20.12E}", "END",
        ]  # fmt: skip
        with (folder / name[:3] / f"{name}-g.fits").open("wb") as file:
            file.write("".join(card.ljust(80) for card in cards).ljust(2880).encode())
            file.truncate(size)
    return len(names)


def make_catalogue(folder: Path, rows: int, width: float, height: float, shuffled: bool) -> None:
    """Write the files of the catalogue, one after the other."""
    rng = np.random.default_rng(1)
    boxes = 1 if shuffled else max(1, round(np.sqrt(rows / PER_FILE)))  # along each side
    files = -(-rows // PER_FILE) if shuffled else boxes**2
    top = np.sin(np.deg2rad(height / 2))
    edges = np.linspace(0, rows, files + 1).astype(int)
    for i in range(files):
        column, row = (0, 0) if shuffled else divmod(i, boxes)
        n = int(edges[i + 1] - edges[i])
        dtype = [("ID", "i8"), ("RA", "f8"), ("DEC", "f8"), ("FLUX_G", "f4"), ("FLUX_R", "f4")]
        table = np.zeros(n, dtype)
        table["ID"] = rng.permutation(n) + edges[i]
        table["RA"] = WEST + (column + rng.random(n)) * width / boxes
        table["DEC"] = np.rad2deg(np.arcsin((2 * (row + rng.random(n)) / boxes - 1) * top))
        table["FLUX_R"] = rng.lognormal(2, 1, n)
        table["FLUX_G"] = table["FLUX_R"] * 10 ** (-0.4 * rng.uniform(-0.2, 1.0, n))  # one in six is too blue
        fitsio.write(folder / f"sweep-{i:03d}.fits", table, clobber=True)


def configuration(folder: Path, index: str) -> Config:
    """A colour cut on magnitudes."""
    magnitudes = {f"mag_{b.lower()}": Magnitude(flux=f"FLUX_{b}") for b in "GR"}
    return Config(
        run=Run(name="plan"),
        catalogue=Catalogue(files=[f"{folder}/sweep-*.fits"], id_column="ID", magnitudes=magnitudes),
        selection=Selection(define={"g_r": "mag_g - mag_r"}, cuts={"red": "g_r > 0"}, keep=["mag_r", "g_r"]),
        images=Images(
            files=f"{folder}/{{tile:.3}}/{{tile}}-{{band}}.fits",
            bands=["g"],
            index="bricks" if index == "bricks" else f"{folder}/bricks.fits",
        ),
        cutouts=Cutouts(bands=["g"], size=64, partition=4096),
        model=Model(path="loopback"),
    )


@contextlib.contextmanager
def cluster(folder: Path, workers: int, memory: str) -> Iterator[tuple[Any, int]]:
    """A scheduler and workers, each a process of its own, with the program's settings; the scheduler's process id."""
    from distributed import Client

    file = folder / "scheduler.json"
    settings = Path(planning.__file__).parents[1] / "cluster" / "dask.yaml"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path[:2]), "DASK_CONFIG": str(settings)}
    environment |= {"MALLOC_TRIM_THRESHOLD_": "67108864", "MALLOC_MMAP_THRESHOLD_": "33554432"}
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0"]
    command += ["--dashboard-address", "127.0.0.1:0", "--scheduler-file", str(file)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", "--nthreads", "1", "--no-dashboard"]
    worker += ["--memory-limit", memory, "--local-directory", str(folder), "--scheduler-file", str(file)]
    with (folder / "log").open("w") as log, contextlib.ExitStack() as stack:
        options: dict[str, Any] = {"env": environment, "stdout": log, "stderr": log}
        scheduler = stack.enter_context(subprocess.Popen(command, **options))
        stack.callback(scheduler.terminate)
        while not file.exists():
            time.sleep(0.1)
        for _ in range(workers):
            stack.callback(stack.enter_context(subprocess.Popen(worker, **options)).terminate)
        with Client(scheduler_file=str(file)) as client:
            client.wait_for_workers(workers, timeout=120)
            yield client, scheduler.pid


def imported() -> None:
    """In any process: what it imports at the first plan, and would not at the second."""
    import dask  # noqa: F401
    import pandas.core.arrays  # noqa: F401


def instrument() -> int:
    """In a worker: note what each part of a task takes; its process id."""
    import importlib

    import survey_scan.engine.planning  # noqa: F401

    def timed(name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            began = time.process_time()
            try:
                return function(*arguments, **named)
            finally:
                took[name] = took.get(name, 0.0) + time.process_time() - began

        return call

    took: dict[str, float] = {}
    for name, (module, function) in PARTS.items():
        place = importlib.import_module(module)
        setattr(place, function, timed(name, getattr(place, function)))
    plan_tasks.took = took  # type: ignore[attr-defined]
    return os.getpid()


def parts() -> dict[str, float]:
    """In a worker: what :func:`instrument` noted."""
    return dict(plan_tasks.took)  # type: ignore[attr-defined]


def peak_mb(pid: int) -> float:
    """VmHWM of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


class Scratch(threading.Thread):
    """Looks at a folder once a second: most bytes and most files in it."""

    def __init__(self, folder: Path):
        super().__init__(daemon=True)
        self.folder, self.bytes, self.files, self.done = folder, 0, 0, threading.Event()
        self.start()

    def run(self) -> None:
        """Until it is stopped."""
        while not self.done.wait(1.0):
            sizes = []
            for path in self.folder.rglob("*"):
                with contextlib.suppress(FileNotFoundError):
                    sizes.append(path.stat().st_size)
            self.bytes, self.files = max(self.bytes, sum(sizes)), max(self.files, len(sizes))


def plan(folder: Path, index: str, workers: int, memory: str) -> dict[str, Any]:
    """Plan once; runs in a process of its own, which is then the driver."""
    import dask
    import plan as here  # by a name that workers can import, too

    from survey_scan.cluster import settings

    run = RunDirectory(folder / "run")
    with dask.config.set(settings.load()), cluster(folder, workers, memory) as (client, scheduler):
        client.run_on_scheduler(here.imported)
        pids = [("worker", pid) for pid in client.run(here.instrument).values()]
        processes = [
            (kind, psutil.Process(pid)) for kind, pid in [*pids, ("driver", os.getpid()), ("scheduler", scheduler)]
        ]

        def used() -> dict[str, float]:
            total = dict.fromkeys(("worker", "driver", "scheduler"), 0.0)
            for kind, process in processes:
                total[kind] += sum(process.cpu_times()[:2])
            return total

        def peaks() -> dict[str, int]:
            found: dict[str, int] = {}
            for kind, process in processes:
                found[kind] = max(found.get(kind, 0), round(peak_mb(process.pid)))
            return found

        before, idle, began = used(), peaks(), time.perf_counter()
        ends: dict[str, tuple[float, dict[str, float], dict[str, int]]] = {}

        def report(name: str, done: int, total: int) -> None:
            if done == total:
                ends[name] = time.perf_counter() - began, used(), peaks()

        scratch = Scratch(run.located)
        result = planning.make_plan(configuration(folder, index), run, client, report=report)
        ends["finish"] = time.perf_counter() - began, used(), peaks()
        scratch.done.set()
        took: dict[str, float] = {}
        for one in client.run(here.parts).values():
            for name, seconds in one.items():
                took[name] = took.get(name, 0.0) + seconds
    n = result.facts["planned"]
    passes, last, so_far = {}, 0.0, before
    for name, (end, total, peak) in ends.items():
        us = {kind: round((total[kind] - so_far[kind]) / n * 1e6, 3) for kind in total}
        passes[name] = {"wall_s": round(end - last, 1), "us": us, "peak_mb": peak}
        last, so_far = end, total
    by_process = {kind: round((so_far[kind] - before[kind]) / n * 1e6, 3) for kind in so_far}
    return {
        "targets": n,
        "catalogue_rows": result.facts["catalogue"],
        "tiles": result.facts["n_tiles"],
        "outside": result.facts["outside"],
        "partitions": result.facts["partitions"],
        "wall_s": round(last, 1),
        "us_a_target": round(sum(by_process.values()), 3),
        "by_process": by_process,
        "by_part": {name: round(seconds / n * 1e6, 3) for name, seconds in took.items()},
        "passes": passes,
        "peak_mb": ends["finish"][2],
        "peak_mb_before": idle,
        "scratch": {"bytes_a_target": round(scratch.bytes / n, 1), "files": scratch.files},
    }


def limit(folder: Path) -> float:
    """Microseconds a target of reading the catalogue and writing the targets again, and nothing else."""
    run = RunDirectory(folder / "run")
    tables = [pq.read_table(path) for path in sorted(run.targets_folder.iterdir())]
    began = time.process_time()
    for path in sorted(folder.glob("sweep-*.fits")):
        fitsio.read(path)
    for i, table in enumerate(tables):
        pq.write_table(table, folder / f"copy-{i:05d}.parquet", compression="zstd")
    return (time.process_time() - began) / sum(map(len, tables)) * 1e6


def naive(folder: Path, count: int) -> dict[str, Any]:
    """The two plain ways, on the first targets of the plan, from which they must not differ: microseconds a target."""
    from astropy.coordinates import SkyCoord
    from astropy.io import fits
    from astropy.wcs import WCS

    run = RunDirectory(folder / "run")
    targets = pd.read_parquet(run.targets(0))
    targets = targets.sample(min(count, len(targets)), random_state=1)
    index = bricks.table(fitsio.read(folder / "bricks.fits", columns="BRICKNAME").astype(str))

    @cache
    def wcs(tile: str) -> Any:
        return WCS(fits.getheader(folder / tile[:3] / f"{tile}-g.fits"))

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
        "per_row": round(per_row / len(targets) * 1e6),
        "per_row_same_tile": agree,
        "per_tile": round(per_tile * len(index) / len(sample) / len(targets) * 1e6),
    }


def apart(function: Any, *arguments: Any) -> Any:
    """Call it in a process of its own, so that its memory is not taken for another's."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def make(folder: Path, targets: int, density: float, shuffled: bool) -> None:
    """Make all data of one field."""
    width, height = field(targets, density)
    make_tiles(folder, width, height)
    make_catalogue(folder, round(targets * 1.2), width, height, shuffled)


def main() -> None:
    """Make the data, plan, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--targets", type=lambda text: int(float(text)), nargs="+", default=[10**6, 10**7, 3 * 10**7])
    parser.add_argument("--orders", choices=["sky", "shuffled"], nargs="+", default=["sky", "shuffled"])
    parser.add_argument("--index", choices=["table", "bricks"], default="table")
    parser.add_argument("--density", type=float, default=1000, help="targets a brick")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--memory", default="1 GiB", help="of a worker")
    parser.add_argument("--repeats", type=int, default=3, help="of the fewest targets; others once")
    parser.add_argument("--naive", type=int, default=300)
    parser.add_argument("--folder", type=Path, help="for temporary folders")
    kept.option(parser)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    found: dict[str, list[dict[str, Any]]] = {order: [] for order in options.orders}
    alone: dict[str, Any] = {}
    for targets in sorted(options.targets):
        for order in options.orders:
            with tempfile.TemporaryDirectory(prefix="survey_scan-plan-", dir=options.folder) as name:
                folder = Path(name)
                apart(make, folder, targets, options.density, order == "shuffled")
                runs = []
                for _ in range(options.repeats if targets == min(options.targets) else 1):
                    shutil.rmtree(folder / "run", ignore_errors=True)
                    (folder / "scheduler.json").unlink(missing_ok=True)
                    runs.append(apart(plan, folder, options.index, options.workers, options.memory))
                    print(order, json.dumps(runs[-1]), file=sys.stderr, flush=True)
                runs.sort(key=lambda one: one["us_a_target"])
                found[order].append(runs[len(runs) // 2])
                if not alone:
                    costs = [limit(folder) for _ in range(3)]
                    alone = {"limit_us": round(statistics.median(costs), 2), "peer_us": naive(folder, options.naive)}
    kept.tell("plan", summary(found, alone, options), options.keep)


def summary(found: dict[str, list[dict[str, Any]]], alone: dict[str, Any], options: Any) -> dict[str, Any]:
    """All runs together."""
    from dask.utils import parse_bytes

    counts = [one["targets"] for one in next(iter(found.values()))]
    curve = [{"n": n} | {order: runs[i]["us_a_target"] for order, runs in found.items()} for i, n in enumerate(counts)]
    over = {order: round(runs[-1]["us_a_target"] / runs[0]["us_a_target"], 2) for order, runs in found.items()}
    every = [one for runs in found.values() for one in runs]
    peaks = {kind: max(one["peak_mb"][kind] for one in every) for kind in ("worker", "driver", "scheduler")}
    memory = [
        {"n": n} | {f"{kind} {order}": runs[i]["peak_mb"][kind] for order, runs in found.items() for kind in peaks}
        for i, n in enumerate(counts)
    ]
    allowed = round(parse_bytes(options.memory) / 2**20)
    first = next(iter(found.values()))[0]
    return {
        "wanted": {
            "cost of the most targets over that of the least, at most 1.5": over,
            f"peak memory of a worker, MB, at most {allowed}": peaks["worker"],
            f"peak memory of the driver, MB, at most {allowed}": peaks["driver"],
        },
        "curve": curve,
        "large_over_small": over,
        "peak_mb": memory,
        **alone,
        "over_limit": round(first["us_a_target"] / alone["limit_us"], 1),
        "faster_than_peer": {
            way: round(alone["peer_us"][way] / first["us_a_target"]) for way in ("per_row", "per_tile")
        },
        "runs": found,
    }


if __name__ == "__main__":
    main()
