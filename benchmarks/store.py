"""What keeping cutouts takes: bytes, files and processor time of each pixel type and of each ``cutouts.store``.

    python benchmarks/store.py [--rounds 3] [--targets 2048] [--keep]        prints JSON; some four minutes, the first time more

Pixels are cut from a DES-like tile (noise and galaxies, ``make_tiles``) at 45, 64 and 101 pixels in three bands. Ways take turns;
processor time is of all threads, the system's part of writing included; medians over rounds, ratios within a round.

* ``pixels``: bytes a cutout on disk, and microseconds a cutout to write (float32 pixels in memory to files that are flushed)
  and to read (files to pixels as stored). ``float32``, ``float16``, ``int16`` are ours; ``held`` is what the other two ways of
  ``cutouts.store`` do instead of writing, in int16; ``candidates`` writes one cutout in a thousand. Peers: the same pixels,
  chunks and codecs by zarr-python, and other codecs by it. The limits: copying the float32 pixels once (``memcpy``), and
  writing and flushing them as one plain file (``file``).
* ``curve``: microseconds a cutout against the number of targets of a partition, 45 pixels.
* ``surveys``: files, bytes and core-hours of the store at 8, 45 and 320 million targets, by what was measured here.
* ``scans``: a synthetic survey scanned in the three ways, by a scorer that costs nothing and by the demo's network:
  processor seconds of all workers over those of ``store: all``.
"""

import argparse
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))
import kept
import numpy as np
import small_survey
import zarr
from make_tiles import BANDS, cache_folder, make_tile, template
from zarr.codecs import BloscCodec, Crc32cCodec

import survey_scan
from survey_scan import config as sections
from survey_scan import store
from survey_scan.cluster import profile
from survey_scan.cluster.connect import Cluster, connect
from survey_scan.cluster.projection import FILES_BESIDE, stored_bytes, stored_files
from survey_scan.config import CHUNK_ROWS
from survey_scan.config_file import load
from survey_scan.cutouts import cut_partition
from survey_scan.engine import interrupt, pipeline, prepare, state
from survey_scan.engine.events import Events
from survey_scan.engine.watching import Watching
from survey_scan.imaging.base import Cutouts
from survey_scan.layout import RunDirectory
from survey_scan.store import single

SIZES = (45, 64, 101)
SURVEYS = {"8 M": 8_000_000, "45 M": 45_000_000, "320 M": 320_000_000}
OURS = ("float32", "float16", "int16")

#: One cutout in so many is kept of candidates.
ONE_IN = 1000

#: Codecs of zarr-python by name, beside the pixel type they are for.
CODECS: dict[str, tuple[str, Any]] = {
    "zarr float32": ("float32", None),
    "zarr float16": ("float16", None),
    "zarr int16 lz4": ("int16", BloscCodec(typesize=2, cname="lz4", clevel=5, shuffle="bitshuffle")),
    "zarr int16 zstd": ("int16", BloscCodec(typesize=2, cname="zstd", clevel=3, shuffle="bitshuffle")),
    "zarr float32 lz4": ("float32", BloscCodec(typesize=4, cname="lz4", clevel=5, shuffle="bitshuffle")),
    "zarr float32 zstd": ("float32", BloscCodec(typesize=4, cname="zstd", clevel=3, shuffle="bitshuffle")),
}


def pixels(size: int, n: int) -> Cutouts:
    """Cutouts of one tile."""
    targets = make_tile("des", cache_folder()).iloc[:n]
    images = sections.Images(files=template("des", cache_folder()), bands=BANDS, hdu="SCI")
    return cut_partition(targets, images, sections.Cutouts(bands=BANDS, size=size))


def spec(cut: Cutouts, dtype: str, mode: str = "all") -> sections.Cutouts:
    """One partition that holds all targets."""
    above = 0.0 if mode == "candidates" else None
    rows = -(-len(cut.image) // CHUNK_ROWS) * CHUNK_ROWS
    given = {"bands": BANDS, "size": cut.image.shape[1], "dtype": dtype, "partition": rows}
    return sections.Cutouts.model_validate({**given, "store": mode, "above": above})


class Way(NamedTuple):
    """One way to keep cutouts: what is done once a run, writing a partition, reading it."""

    write: Callable[[Path], Any]
    read: Callable[[Path], Any] | None = None
    create: Callable[[Path], Any] | None = None


def ours(cut: Cutouts, dtype: str) -> Way:
    n = len(cut.image)

    def create(folder: Path) -> None:
        store.create(folder / "ours.zarr", n, spec(cut, dtype), np.int64, {})

    def write(folder: Path) -> None:
        store.write(folder / "ours.zarr", 0, np.arange(n), np.zeros(n), np.zeros(n), cut)

    return Way(write, lambda folder: store.Reader(folder / "ours.zarr").read(0, n), create)


def candidates(cut: Cutouts) -> Way:
    n = len(cut.image)
    few = np.arange(n) % ONE_IN == 0

    def create(folder: Path) -> None:
        store.create(folder / "few.zarr", n, spec(cut, "int16", "candidates"), np.int64, {})

    def write(folder: Path) -> None:
        held = store.hold(np.arange(n), cut, "int16")
        store.write_kept(folder / "few.zarr", 0, np.zeros(n), np.zeros(n), held, few)

    def read(folder: Path) -> None:
        reader = store.Reader(folder / "few.zarr")
        for row in few.nonzero()[0].tolist():
            single.pixels(reader, row)

    return Way(write, read, create)


def by_zarr(cut: Cutouts, dtype: str, codec: Any) -> Way:
    """The same chunks in one shard, and the pixels only."""
    n, shape = len(cut.image), cut.image.shape[1:]
    rows = -(-n // CHUNK_ROWS) * CHUNK_ROWS

    def create(folder: Path) -> None:
        zarr.create_array(
            folder / "peer.zarr", shape=(rows, *shape), shards=(rows, *shape), chunks=(CHUNK_ROWS, *shape), dtype=dtype,
            compressors=[*([codec] if codec else []), Crc32cCodec()], fill_value=0,
        )  # fmt: skip

    def write(folder: Path) -> None:
        zarr.open_array(folder / "peer.zarr", mode="r+")[:n] = store.hold(np.arange(n), cut, dtype).image

    return Way(write, lambda folder: zarr.open_array(folder / "peer.zarr", mode="r")[:n], create)


def plain(cut: Cutouts) -> Way:
    def write(folder: Path) -> None:
        with (folder / "plain").open("wb") as stream:
            stream.write(cut.image.data)
            stream.flush()
            os.fsync(stream.fileno())

    return Way(write, lambda folder: np.fromfile(folder / "plain", np.float32))


def ways(cut: Cutouts) -> dict[str, Way]:
    to = np.zeros_like(cut.image)
    found: dict[str, Way] = {dtype: ours(cut, dtype) for dtype in OURS}
    found["held"] = Way(lambda folder: store.hold(np.arange(len(cut.image)), cut, "int16"))
    found["candidates"] = candidates(cut)
    found |= {name: by_zarr(cut, dtype, codec) for name, (dtype, codec) in CODECS.items()}
    return found | {"memcpy": Way(lambda folder: np.copyto(to, cut.image)), "file": plain(cut)}


def timed(call: Callable[[Path], Any], folder: Path, n: int) -> float:
    """Microseconds of processor time a cutout."""
    began = time.process_time()
    call(folder)
    return (time.process_time() - began) / n * 1e6


def measure(cut: Cutouts, rounds: int, only: tuple[str, ...] = ()) -> dict[str, dict[str, Any]]:
    """Bytes, and microseconds to write and to read, of all ways."""
    found: dict[str, dict[str, Any]] = {}
    chosen = {name: way for name, way in ways(cut).items() if not only or name in only}
    for turn in range(rounds + 1):  # the first is for imports, and not counted
        for name, way in chosen.items():
            with tempfile.TemporaryDirectory(prefix="survey_scan-store-") as text:
                folder, one = Path(text), found.setdefault(name, {"write_us": [], "read_us": []})
                if way.create is not None:
                    way.create(folder)
                taken = timed(way.write, folder, len(cut.image))
                files = [file for file in folder.rglob("*") if file.is_file() and file.name != "zarr.json"]
                one["bytes"] = round(sum(file.stat().st_size for file in files) / len(cut.image), 1)
                again = timed(way.read, folder, len(cut.image)) if way.read else 0.0
            if turn:
                one["write_us"].append(round(taken, 2))
                one["read_us"].append(round(again, 2))
    return found


def ratios(found: dict[str, dict[str, Any]]) -> dict[str, float]:
    """Medians of ratios within a round."""

    def over(one: str, other: str, what: str) -> float:
        pairs = zip(found[one][what], found[other][what], strict=True)
        return round(statistics.median(a / b for a, b in pairs), 3)

    said: dict[str, float] = {}
    for dtype, peer in (("float32", "zarr float32"), ("float16", "zarr float16"), ("int16", "zarr int16 lz4")):
        said[f"{dtype}: zarr-python / ours, write"] = over(peer, dtype, "write_us")
        said[f"{dtype}: zarr-python / ours, read"] = over(peer, dtype, "read_us")
        said[f"{dtype}: ours / plain file, write"] = over(dtype, "file", "write_us")
    said["float32: plain file / memcpy"] = over("file", "memcpy", "write_us")
    said["held / int16"] = over("held", "int16", "write_us")
    said["candidates / int16"] = over("candidates", "int16", "write_us")
    return said


def surveys(found: dict[int, dict[str, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Files, terabytes and core-hours of each survey, size, type and way of keeping, by arithmetic."""
    table = []
    for survey, n in SURVEYS.items():
        for size in SIZES:
            for mode, dtype in (*(("all", dtype) for dtype in OURS), ("candidates", "int16"), ("none", "int16")):
                name = {"all": dtype, "candidates": "candidates", "none": "held"}[mode]
                share = 1 / ONE_IN if mode == "candidates" else None
                ours = found[size][dtype if mode == "all" else name]
                held = stored_bytes(n, size, len(BANDS), dtype, 4096, mode, share)
                held = round(n * ours["bytes"]) if mode == "all" and dtype == "int16" else held
                files = {
                    str(rows): stored_files(n, dtype, rows, mode) + FILES_BESIDE * -(-n // rows)
                    for rows in (4096, 16384)
                }
                hours = n * statistics.median(ours["write_us"]) / 3.6e9
                table.append({
                    "targets": survey, "size": size, "store": mode, "dtype": dtype, "tb": round(held / 1e12, 3),
                    "files_by_partition": files, "core_hours": round(hours, 2),
                })  # fmt: skip
    return table


# scans


def prepared(
    folder: Path, targets: int, cluster: Cluster
) -> dict[tuple[str, str], tuple[sections.Config, RunDirectory]]:
    """Planned runs by scorer and mode."""
    survey = small_survey.make(folder / "survey", n_objects=targets, side=1500, bands="gri")
    network = Path(survey_scan.__file__).parent / "demo" / "model"
    found = {}
    for scorer, path in (("loopback", "loopback"), ("demo network", str(network))):
        for mode in ("all", "candidates", "none"):
            survey.edit(
                run={"name": f"{scorer.split()[0]}-{mode}"}, selection={"cuts": {}}, model={"path": path},
                images={"zero_point": 30.0, "pixel_scale": 0.263},
                cutouts={"size": 45, "partition": 512, "store": mode, "above": 3.0 if mode == "candidates" else None},
            )  # fmt: skip
            config = load(survey.config)
            config.run.path.mkdir(parents=True)
            run = prepare.open_run(config, survey.config, None, None)
            pipeline.planning.make_plan(config, run, cluster.client)
            found[scorer, mode] = config, run
    return found


def scan(cluster: Cluster, config: sections.Config, run: RunDirectory) -> tuple[float, float]:
    """Processor seconds of the workers and seconds on the clock of a scan of all partitions."""
    shutil.rmtree(run.records_folder, ignore_errors=True)
    shutil.rmtree(run.store, ignore_errors=True)
    standing = state.standing(run, config)
    if config.cutouts.store != "none":
        pipeline.create_store(config, run)
    used, began = sum(cluster.client.run(time.process_time).values()), time.perf_counter()
    with interrupt.handled(run, print) as stop:
        watching = Watching(run, cluster)
        watching.planned(standing)
        failures = pipeline.scan(cluster, config, run, standing, stop, Events(run.events), watching, lambda line: None)
    assert not failures, failures
    return sum(cluster.client.run(time.process_time).values()) - used, time.perf_counter() - began


def scans(targets: int, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory(prefix="survey_scan-store-") as name:
        logs = Path(name) / "logs"
        logs.mkdir()
        with connect(profile.load("local"), sections.Resources(dashboard=0), logs, lambda line: None) as cluster:
            runs = prepared(Path(name), targets, cluster)
            for config, run in runs.values():
                scan(cluster, config, run)  # warm
            taken: dict[tuple[str, str], list[tuple[float, float]]] = {key: [] for key in runs}
            for _ in range(rounds):
                for key, (config, run) in runs.items():
                    taken[key].append(scan(cluster, config, run))
    found: dict[str, Any] = {"targets": targets, "size": 45, "dtype": "float32"}
    for scorer in ("loopback", "demo network"):
        of = {mode: taken[scorer, mode] for mode in ("all", "candidates", "none")}
        found[scorer] = {
            "processor_s": {mode: [round(cpu, 2) for cpu, _ in times] for mode, times in of.items()},
            "clock_s": {mode: [round(clock, 2) for _, clock in times] for mode, times in of.items()},
            "processor_over_all": {
                mode: round(statistics.median(a / b for (a, _), (b, _) in zip(of[mode], of["all"], strict=True)), 3)
                for mode in ("candidates", "none")
            },
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--targets", type=int, default=2048, help="cutouts a measurement")
    parser.add_argument("--scan-targets", type=int, default=8192)
    kept.option(parser)
    arguments = parser.parse_args()
    measured, curve = {}, []
    for size in SIZES:
        measured[size] = measure(pixels(size, arguments.targets), arguments.rounds)
        print(size, json.dumps(ratios(measured[size])), file=sys.stderr)
    only = ("float32", "int16", "held", "zarr float32", "zarr int16 lz4", "memcpy")
    for n in (256, 1024, 4096, 16384):
        found = measure(pixels(45, n), arguments.rounds, only)
        curve.append({"n": n, **{name: statistics.median(one["write_us"]) for name, one in found.items()}})
    result = {
        "options": {name: value for name, value in vars(arguments).items() if name != "keep"},
        "pixels": {
            size: {
                name: {
                    "bytes": one["bytes"],
                    **{what: statistics.median(one[what]) for what in ("write_us", "read_us")},
                }
                for name, one in of.items()
            }
            for size, of in measured.items()
        },
        "ratios": {size: ratios(of) for size, of in measured.items()},
        "curve": curve,
        "curve_is": "microseconds of processor time a cutout of 45 x 45 x 3 to write, against the targets of a partition",
        "surveys": surveys(measured),
        "scans": scans(arguments.scan_targets, arguments.rounds),
    }
    kept.tell("store", result, arguments.keep)


if __name__ == "__main__":
    main()
