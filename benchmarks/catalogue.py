"""From a catalogue to the selected objects: this program, astropy, which reads the table whole and cuts it, and the bytes alone.

    python benchmarks/catalogue.py [--rows N ...] [--rows-per-file N] [--repeats N] [--workers N] [--folder FOLDER] [--keep]

The table is laid out as the sweeps of the Legacy Surveys' DR10: 130 columns, 503 bytes a row, in FITS files of ``--rows-per-file``
rows, and the same as Parquet by row groups of 100,000. The cut is that of ``selection: {paper: storfer2024}`` under ``survey:
legacy-dr10-south``, as a scan makes it: 22 of the columns are read, all magnitudes are made. Each way runs in a process of its own,
whose peak resident memory is read at its end, after one pass over the files (so that they come from the page cache as far as it
holds them); all ways in turn, ``--repeats`` times:

* ``astropy``, the peer: ``Table.read`` of each FITS file whole, then the same cut in numpy;
* ``fits``, ``parquet``: :func:`survey_scan.catalogue.read_rows` and :func:`survey_scan.selection.select_rows`, slice after slice;
* ``fits bytes``, ``parquet bytes``, the limits: reading the bytes in which the 22 columns stand, and nothing else: all of a FITS
  file, as rows stand one after the other; of Parquet the columns' chunks. ``parquet decoded``: the columns with pyarrow, no cut;
* ``fits workers``, for the most rows: the same as tasks of a local Dask cluster, as the first pass of a plan submits them.

Prints JSON, kept as ``select``; ``curve`` has microseconds of processor time a row, the medians. All ways must select the same
rows.
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
sys.path.insert(0, str(Path(__file__).parent))

import kept

from survey_scan import catalogue, selection
from survey_scan.config import Catalogue, Config, Selection
from survey_scan.config_file import load
from survey_scan.selection import CutFlow

BLOCK = 100_000
OPTICAL, WISE = ("G", "R", "I", "Z"), ("W1", "W2", "W3", "W4")
#: Columns that are needed.
USED = ["RELEASE", "BRICKID", "OBJID", "BRICKNAME", "TYPE", "RA", "DEC", "MASKBITS", "EBV"]
USED += [f"{name}_{band}" for name in ("FLUX", "MW_TRANSMISSION", "NOBS") for band in OPTICAL]
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


def make(folder: Path, rows: int, per_file: int) -> None:
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
        chosen = {name: np.asarray(table[name])[keep] for name in USED}
        rows, selected = rows + len(table), selected + len(chosen["RA"])
    return result(rows, selected, time.perf_counter() - began, time.process_time() - began_cpu)


def fits_bytes(folder: Path) -> dict[str, Any]:
    """All bytes of the FITS files."""
    paths = sorted(folder.glob("sweep-*.fits"))
    touch(paths)
    began, began_cpu = time.perf_counter(), time.process_time()
    touch(paths)
    took = time.perf_counter() - began, time.process_time() - began_cpu
    return result(sum(path.stat().st_size // np.dtype(columns()).itemsize for path in paths), None, *took)


def parquet_bytes(folder: Path) -> dict[str, Any]:
    """The bytes of the columns' chunks in the Parquet files."""
    import pyarrow.parquet as pq

    paths, rows = sorted(folder.glob("sweep-*.parquet")), 0
    touch(paths)
    began, began_cpu = time.perf_counter(), time.process_time()
    for path in paths:
        meta = pq.read_metadata(path)
        rows += meta.num_rows
        with path.open("rb", buffering=0) as file:
            for i in range(meta.num_row_groups):
                for chunk in map(meta.row_group(i).column, range(meta.num_columns)):
                    if chunk.path_in_schema in USED:
                        file.seek(chunk.dictionary_page_offset or chunk.data_page_offset)
                        file.read(chunk.total_compressed_size)
    return result(rows, None, time.perf_counter() - began, time.process_time() - began_cpu)


def parquet_decoded(folder: Path) -> dict[str, Any]:
    """The columns of one row group after the other."""
    import pyarrow.parquet as pq

    paths, rows = sorted(folder.glob("sweep-*.parquet")), 0
    touch(paths)
    began, began_cpu = time.perf_counter(), time.process_time()
    for path in paths:
        with pq.ParquetFile(path) as file:
            for i in range(file.num_row_groups):
                rows += len(file.read_row_group(i, columns=USED, use_threads=False))
    return result(rows, None, time.perf_counter() - began, time.process_time() - began_cpu)


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


def result(rows: int, selected: int | None, wall: float, cpu: float) -> dict[str, Any]:
    """One way's figures."""
    return {
        "rows": rows, "selected": selected, "wall_s": round(wall, 2), "cpu_s": round(cpu, 2),
        "us_a_row": round(cpu / rows * 1e6, 4), "peak_mb": round(peak_mb()),
    }  # fmt: skip


def apart(way: str, folder: Path, *more: str) -> dict[str, Any]:
    """Run one of the ways in a process of its own."""
    command = [sys.executable, __file__, "--way", way, "--folder", str(folder), *more]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def main() -> None:
    """Make the tables, take each way, compare."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--rows", type=lambda text: int(float(text)), nargs="+", default=[10**5, 10**6, 10**7])
    parser.add_argument("--rows-per-file", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="for temporary folders")
    parser.add_argument("--way", help=argparse.SUPPRESS)
    kept.option(parser)
    options = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    one: dict[str, Callable[[], dict[str, Any]]] = {
        "astropy": lambda: astropy(options.folder),
        "fits": lambda: one_process(options.folder, "fits"),
        "fits bytes": lambda: fits_bytes(options.folder),
        "parquet": lambda: one_process(options.folder, "parquet"),
        "parquet bytes": lambda: parquet_bytes(options.folder),
        "parquet decoded": lambda: parquet_decoded(options.folder),
        "fits workers": lambda: workers(options.folder, "fits", options.workers),
    }
    if options.way:
        print(json.dumps(one[options.way]()))
        return
    found: dict[int, dict[str, list[dict[str, Any]]]] = {}
    for rows in sorted(options.rows):
        with tempfile.TemporaryDirectory(prefix="survey_scan-catalogue-", dir=options.folder) as name:
            make(Path(name), rows, options.rows_per_file)
            ways = [way for way in one if way != "fits workers" or rows == max(options.rows)]
            found[rows] = {way: [] for way in ways}
            for _ in range(options.repeats):  # one way after the other, so that a busy minute is not one way's alone
                for way in ways:
                    found[rows][way].append(apart(way, Path(name), "--workers", str(options.workers)))
    kept.tell("select", summary(found), options.keep)


def summary(found: dict[int, dict[str, list[dict[str, Any]]]]) -> dict[str, Any]:
    """All runs together."""

    def medians(unit: str) -> list[dict[str, Any]]:
        return [
            {"n": rows} | {way: round(float(np.median([one[unit] for one in runs])), 3) for way, runs in ways.items()}
            for rows, ways in found.items()
        ]

    curve, peaks = medians("us_a_row"), medians("peak_mb")
    least, most = curve[0], curve[-1]
    selected = {
        rows: {one["selected"] for runs in ways.values() for one in runs} - {None} for rows, ways in found.items()
    }
    ratios = {
        "faster than astropy": {
            way: round(most["astropy"] / most[way], 1) for way in most if way in ("fits", "parquet", "fits workers")
        },
        "over the bytes alone": {way: round(most[way] / most[f"{way} bytes"], 1) for way in ("fits", "parquet")},
        "over decoding": {"parquet": round(most["parquet"] / most["parquet decoded"], 2)},
        "most rows over fewest, a row": {
            way: round(most[way] / least[way], 2) for way in ("astropy", "fits", "parquet")
        },
    }
    return {
        "wanted": {
            "faster than astropy, at least 10": ratios["faster than astropy"]["fits"],
            "memory with the most rows over that with a tenth, at most 1.1": {
                way: round(peaks[-1][way] / peaks[-2:][0][way], 2) for way in ("fits", "parquet")
            },
        },
        "table": {"columns": len(columns()), "read": len(USED), "bytes_per_row": np.dtype(columns()).itemsize},
        "curve": curve,
        "peak_mb": peaks,
        "ratios": ratios,
        "same_selected": all(len(counts) == 1 for counts in selected.values()),
        "selected": {str(rows): max(counts) for rows, counts in selected.items()},
    }


if __name__ == "__main__":
    main()
