"""Rows a second from a catalogue to the selected objects: this program against reading the table with astropy and cutting it.

    python benchmarks/catalogue.py [--rows N] [--repeats N] [--rows-per-file N] [--parquet] [--folder FOLDER] [--workers N]

The table is laid out as a sweep of the Legacy Surveys' DR10: 130 columns, 503 bytes a row, one FITS file (or one for each
``--rows-per-file``; and the same as Parquet with ``--parquet``, by row groups of 100,000). The cut is that of ``selection:
{paper: storfer2024}`` under ``survey: legacy-dr10-south``, as a scan makes it: 22 of the columns are read, all magnitudes are
made. Each way runs in a process of its own, whose peak resident memory is read at its end, after one pass over the files
(so that they come from the page cache as far as it holds them):

* ``astropy``: ``Table.read`` of each file whole, then the same cut in numpy;
* ``ours, one process``: :func:`survey_scan.catalogue.read_rows` and :func:`survey_scan.selection.select_rows`, slice after slice;
* ``ours, workers``: the same as tasks of a local Dask cluster, as the first pass of a plan submits them.

Prints JSON; all ways must select the same rows.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fitsio
import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from survey_scan import catalogue, selection
from survey_scan.config import Catalogue, Config, Selection
from survey_scan.config_file import load
from survey_scan.selection import CutFlow

BLOCK = 100_000
OPTICAL, WISE = ("G", "R", "I", "Z"), ("W1", "W2", "W3", "W4")
TYPES = np.array([b"PSF", b"REX", b"EXP", b"DEV", b"SER"])


def columns() -> list[tuple[Any, ...]]:
    """Names and types of the columns of a DR10 sweep, as its page of files lists them."""
    found: list[tuple[Any, ...]] = [
        ("RELEASE", "i2"),
        ("BRICKID", "i4"),
        ("BRICKNAME", "S8"),
        ("OBJID", "i4"),
        ("TYPE", "S3"),
    ]
    found += [("RA", "f8"), ("DEC", "f8"), ("RA_IVAR", "f4"), ("DEC_IVAR", "f4"), ("DCHISQ", "f4", (5,)), ("EBV", "f4")]

    def each(name: str, kind: str, bands: tuple[str, ...]) -> None:
        found.extend((f"{name}_{band}", kind) for band in bands)

    for name in ("FLUX", "FLUX_IVAR", "MW_TRANSMISSION"):
        each(name, "f4", OPTICAL + WISE)
    each("NOBS", "i2", OPTICAL + WISE)
    for name in ("RCHISQ", "FRACFLUX"):
        each(name, "f4", OPTICAL + WISE)
    for name in ("FRACMASKED", "FRACIN"):
        each(name, "f4", OPTICAL)
    for name in ("ANYMASK", "ALLMASK"):
        each(name, "i2", OPTICAL)
    each("WISEMASK", "u1", WISE[:2])
    each("PSFSIZE", "f4", OPTICAL)
    each("PSFDEPTH", "f4", OPTICAL + WISE[:2])
    each("GALDEPTH", "f4", OPTICAL)
    found.append(("WISE_COADD_ID", "S8"))
    found += [(f"SHAPE_{part}{ivar}", "f4") for part in ("R", "E1", "E2") for ivar in ("", "_IVAR")]
    each("FIBERFLUX", "f4", OPTICAL)
    each("FIBERTOTFLUX", "f4", OPTICAL)
    found += [("REF_CAT", "S2"), ("REF_ID", "i8"), ("REF_EPOCH", "f4")]
    gaia = [f"PHOT_{band}_MEAN_{what}" for band in ("G", "BP", "RP") for what in ("MAG", "FLUX_OVER_ERROR")]
    gaia += ["ASTROMETRIC_EXCESS_NOISE", "PHOT_BP_RP_EXCESS_FACTOR", "ASTROMETRIC_SIGMA5D_MAX"]
    found += [(f"GAIA_{name}", "f4") for name in gaia]
    found += [("GAIA_DUPLICATED_SOURCE", "?"), ("GAIA_ASTROMETRIC_PARAMS_SOLVED", "u1")]
    found += [(f"{name}{ivar}", "f4") for name in ("PARALLAX", "PMRA", "PMDEC") for ivar in ("", "_IVAR")]
    return [*found, ("MASKBITS", "i2"), ("FITBITS", "i2"), ("SERSIC", "f4"), ("SERSIC_IVAR", "f4")]


def block(rng: np.random.Generator, first: int, n: int) -> Any:
    """Rows of a table: what the cut looks at is drawn, the rest is noise."""
    table = np.zeros(n, columns())
    for name in table.dtype.names or ():
        if table.dtype[name].kind == "f":
            table[name] = rng.random(table[name].shape, np.float32)
    table["RELEASE"], table["OBJID"] = 10_000, np.arange(first, first + n) % 20_000
    table["BRICKID"] = 300_000 + np.arange(first, first + n) // 20_000
    table["BRICKNAME"] = np.char.add(np.char.zfill((table["BRICKID"] % 3600).astype("S4"), 4), b"p125")
    table["TYPE"] = rng.choice(TYPES, n)
    table["RA"], table["DEC"] = rng.uniform(0, 360, n), rng.uniform(-20, 30, n)
    for band in OPTICAL:
        table[f"FLUX_{band}"] = rng.lognormal(1.5, 1.5, n)
        table[f"MW_TRANSMISSION_{band}"] = rng.uniform(0.8, 1.0, n)
        table[f"NOBS_{band}"] = rng.integers(0, 7, n)
    return table


def make(folder: Path, rows: int, per_file: int, parquet: bool) -> None:
    """Write the table in pieces."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rng = np.random.default_rng(1)
    for number, start in enumerate(range(0, rows, per_file)):
        stop = min(start + per_file, rows)
        stem = folder / f"sweep-{number:03d}p000-{number:03d}p005"
        writer = None
        with fitsio.FITS(f"{stem}.fits", "rw", clobber=True) as file:
            for first in range(start, stop, BLOCK):
                piece = block(rng, first, min(BLOCK, stop - first))
                if first == start:
                    file.write(piece, extname="SWEEP")
                else:
                    file[1].append(piece)
                if parquet:
                    table = pa.table({n: arrow(piece[n]) for n in piece.dtype.names or ()})
                    writer = writer or pq.ParquetWriter(f"{stem}.parquet", table.schema, compression="zstd")
                    writer.write_table(table)
        if writer is not None:
            writer.close()


def arrow(values: Any) -> Any:
    """A column as Arrow has it: texts, vectors of a fixed length."""
    import pyarrow as pa

    if values.dtype.kind == "S":
        return pa.array(values.astype(str))
    return pa.FixedSizeListArray.from_arrays(values.ravel(), values.shape[1]) if values.ndim > 1 else pa.array(values)


def configuration(folder: Path, suffix: str) -> Config:
    """What a user writes."""
    path = folder / f"{suffix}.yaml"
    path.write_text(
        f"run: {{name: catalogue}}\nsurvey: {{name: legacy-dr10-south, root: {folder}}}\n"
        f'catalogue: {{files: "sweep-*.{suffix}"}}\nselection: {{paper: storfer2024}}\n'
        "cutouts: {bands: [g, r, z], size: 101}\nmodel: {path: loopback}\n"
    )
    return load(path)


def astropy(folder: Path) -> dict[str, Any]:
    """The plain way."""
    from astropy.table import Table

    paths = sorted(folder.glob("sweep-*.fits"))
    touch(paths)
    began, began_cpu = time.perf_counter(), time.process_time()
    rows, selected = 0, 0
    used = ["RELEASE", "BRICKID", "OBJID", "BRICKNAME", "TYPE", "RA", "DEC", "MASKBITS", "EBV"]
    used += [f"{name}_{band}" for name in ("FLUX", "MW_TRANSMISSION", "NOBS") for band in OPTICAL]
    for path in paths:
        table = Table.read(path, hdu=1)
        magnitude = {}
        for band in OPTICAL:
            flux, through = (np.asarray(table[f"{n}_{band}"], np.float64) for n in ("FLUX", "MW_TRANSMISSION"))
            with np.errstate(divide="ignore", invalid="ignore"):
                magnitude[band] = 22.5 - 2.5 * np.log10(flux / through)
        kind = np.asarray(table["TYPE"])  # as bytes, the quickest way; a user would more likely strip and decode them
        keep = (np.abs(table["DEC"]) <= 90) & np.isfinite(table["RA"])
        keep &= (kind == b"SER") | (kind == b"DEV") | (kind == b"REX") | (kind == b"EXP")
        keep &= (magnitude["Z"] < 20) & (table["NOBS_G"] >= 3) & (table["NOBS_R"] >= 3) & (table["NOBS_Z"] >= 3)
        chosen = {name: np.asarray(table[name])[keep] for name in used}
        rows, selected = rows + len(table), selected + len(chosen["RA"])
    return result(rows, selected, time.perf_counter() - began, time.process_time() - began_cpu)


def one_process(folder: Path, suffix: str) -> dict[str, Any]:
    """Slice after slice."""
    config = configuration(folder, suffix)
    touch(sorted(folder.glob(f"sweep-*.{suffix}")))
    began, began_cpu = time.perf_counter(), time.process_time()
    contents = catalogue.survey(config.catalogue)
    flow = CutFlow.empty(config.selection)
    for piece in contents.slices:
        flow += counted(piece, config.catalogue, contents.types, config.selection)
    return result(flow.total, flow.selected, time.perf_counter() - began, time.process_time() - began_cpu)


def workers(folder: Path, suffix: str, count: int) -> dict[str, Any]:
    """Tasks of a local cluster."""
    import dask
    from distributed import Client, LocalCluster, as_completed

    from survey_scan.cluster import settings

    dask.config.set(settings.load())
    config = configuration(folder, suffix)
    touch(sorted(folder.glob(f"sweep-*.{suffix}")))
    with (
        LocalCluster(n_workers=count, threads_per_worker=1, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        client.run(usage)
        before = client.run(usage)
        began, began_cpu = time.perf_counter(), time.process_time()
        contents = catalogue.survey(config.catalogue)
        flow = CutFlow.empty(config.selection)
        how = {"config": config.catalogue, "types": contents.types, "chosen": config.selection}
        futures = client.map(counted, contents.slices, **how, pure=False)
        for future in as_completed(futures):
            flow += future.result()
        wall, own = time.perf_counter() - began, time.process_time() - began_cpu
        after = client.run(usage)
    busy = sum(after[w]["cpu_s"] - before[w]["cpu_s"] for w in after)
    found = result(flow.total, flow.selected, wall, own + busy)
    return found | {"peak_mb_worker": round(max(w["peak_mb"] for w in after.values()))}


def counted(piece: catalogue.Slice, config: Catalogue, types: Any, chosen: Selection) -> CutFlow:
    """Select as a plan's task does, which then writes the rows; here they are only counted."""
    rows, flow = selection.select_rows(catalogue.read_rows(piece, config, types), chosen)
    assert len(rows) == flow.selected
    return flow


def usage() -> dict[str, float]:
    """Processor seconds and peak resident memory of this process."""
    import survey_scan.engine.planning  # noqa: F401

    own = resource.getrusage(resource.RUSAGE_SELF)
    return {"cpu_s": own.ru_utime + own.ru_stime, "peak_mb": peak_mb()}


def peak_mb() -> float:
    """VmHWM: not that of the process that started this one, as ru_maxrss may be."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def touch(paths: list[Path]) -> None:
    """Read all bytes once."""
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.read(1 << 24):
                pass


def result(rows: int, selected: int, wall: float, cpu: float) -> dict[str, Any]:
    """One way's figures."""
    return {
        "rows": rows, "selected": selected, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2),
        "rows_per_s": round(rows / wall), "rows_per_cpu_s": round(rows / cpu), "peak_mb": round(peak_mb()),
    }  # fmt: skip


def apart(way: str, folder: Path, *more: str) -> dict[str, Any]:
    """Run one of the ways in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Make the table, take each way, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--rows-per-file", type=int, help="instead of one file")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=1, help="the quickest of each way counts")
    parser.add_argument("--parquet", action="store_true")
    parser.add_argument("--folder", type=Path, help="keep the table there, and use one that is there already")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    if options.way:
        one: dict[str, Callable[[], dict[str, Any]]] = {
            "astropy": lambda: astropy(options.folder),
            "one fits": lambda: one_process(options.folder, "fits"),
            "workers fits": lambda: workers(options.folder, "fits", options.workers),
            "one parquet": lambda: one_process(options.folder, "parquet"),
            "workers parquet": lambda: workers(options.folder, "parquet", options.workers),
        }
        print(json.dumps(one[options.way]()))
        return
    with tempfile.TemporaryDirectory(prefix="survey_scan-catalogue-") as name:
        folder = options.folder or Path(name)
        folder.mkdir(exist_ok=True)
        suffixes = ["fits", "parquet"] if options.parquet else ["fits"]
        if not all(list(folder.glob(f"*.{suffix}")) for suffix in suffixes):
            make(folder, options.rows, options.rows_per_file or options.rows, options.parquet)
        size = sum(path.stat().st_size for path in folder.glob("*.fits"))
        ways: dict[str, tuple[str, ...]] = {"astropy": ("astropy",)}
        for suffix in suffixes:
            ways[f"ours, one process, {suffix}"] = (f"one {suffix}",)
            ways[f"ours, workers, {suffix}"] = (f"workers {suffix}", "--workers", str(options.workers))
        found: dict[str, dict[str, Any]] = {}
        for _ in range(options.repeats):  # one way after the other, so that a busy minute is not one way's alone
            for way, (word, *more) in ways.items():
                once = apart(word, folder, *more)
                if way not in found or once["wall_s"] < found[way]["wall_s"]:
                    found[way] = once
    plain = found["astropy"]
    ratios = {
        way: {unit: round(f[f"rows_per_{unit}"] / plain[f"rows_per_{unit}"], 1) for unit in ("s", "cpu_s")}
        for way, f in found.items()
        if way != "astropy"
    }
    same = {f["selected"] for f in found.values() if f["rows"] == plain["rows"]}
    facts = {"columns": len(columns()), "bytes_per_row": np.dtype(columns()).itemsize, "gb": round(size / 1e9, 2)}
    print(
        json.dumps({"table": facts, "ways": found, "over astropy": ratios, "same selected": len(same) == 1}, indent=1)
    )


if __name__ == "__main__":
    main()
