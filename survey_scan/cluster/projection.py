"""What a scan will take before it is started: disk, files, and hours by rates that were measured."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from survey_scan import records
from survey_scan.config import CHUNK_ROWS
from survey_scan.layout import STAGES
from survey_scan.watch.tally import CPU

#: Seconds of a job in which nothing is scanned: starting its workers and networks, and stopping before its end.
LOST_SECONDS = 600.0

#: Files of a partition beside those of the store: targets, scores, and the record of each stage.
FILES_BESIDE = 4

#: Arrays of the store with one value a target, and bytes a value: object_id (as int64), ra, dec, status.
_SIDE_BYTES = 8 + 8 + 8 + 1

#: Bytes of a target in its tables: at most nine columns of eight bytes that do not compress, and id, logit and status.
_TABLE_BYTES = 9 * 8 + 13

#: Bytes of a partition's files that do not depend on its targets: footers of two Parquet files (3 kB each), two records.
_PARTITION_BYTES = 2 * 3000 + 2 * 1000


@dataclass(frozen=True)
class Workers:
    """What a scan will run on.

    Parameters
    ----------
    nodes : int
        Machines.
    cutouts : int
        Threads that cut.
    scores : int
        Devices that score: GPUs, or workers without.
    shared : bool
        Whether the same workers do both, each thread one thing at a time; then both numbers are theirs.
    gpu : bool
        Whether scores run on GPUs.
    """

    nodes: int
    cutouts: int
    scores: int
    shared: bool = False
    gpu: bool = False


@dataclass(frozen=True)
class Rates:
    """What was measured.

    Parameters
    ----------
    cutouts : float or None
        Targets/s of one thread; None if nothing was measured.
    scores : float or None
        Targets/s of one device at work; None if nothing was measured.
    device : str
        What scored: a GPU's name, or ``CPU``.
    where : str
        Hosts, day and number of partitions.
    kept : float or None
        Share of the cutouts whose pixels were kept, of a run that keeps those above a logit.
    """

    cutouts: float | None
    scores: float | None
    device: str
    where: str
    kept: float | None = None


@dataclass(frozen=True)
class Calibration:
    """What a scan of a few partitions took.

    Parameters
    ----------
    key : str
        What it depends on.
    measured : str
        When it ended.
    targets, partitions : int
        How many were scanned.
    seconds : float
        From its start to its end.
    fixed_seconds : float
        Of these, what was neither cutouts nor scores: checking and loading the network, starting workers, ranking, the report.
    workers : Workers
        What it ran on.
    rates : Rates
        How fast they were.
    """

    key: str
    measured: str
    targets: int
    partitions: int
    seconds: float
    fixed_seconds: float
    workers: Workers
    rates: Rates


@dataclass(frozen=True)
class Projection:
    """What a scan will take.

    Parameters
    ----------
    targets, partitions : int
        How many; an upper limit if ``at_most``, because nothing is selected yet.
    data_bytes, files : int
        On disk, all of the run directory but plan, logs and candidates; ``at_most`` of int16 pixels, which compress.
    cutouts_hours, scores_hours, hours : float or None
        Of each stage if it had the workers for itself, and of both side by side with what any scan takes besides; None without a
        rate.
    gpu_hours : float or None
        Of all GPUs for those hours; None without GPUs or hours.
    fixed_seconds : float
        What any scan takes besides, where that was measured.
    limits : str or None
        The stage that takes longer, or ``both`` where one pool does both.
    walltime : float or None
        Seconds of a job.
    jobs : int or None
        Jobs of that walltime it takes.
    store : str
        Which pixels are kept.
    cutout_bytes : int
        Of one cutout's pixels, at most.
    """

    targets: int
    at_most: bool
    partitions: int
    partition: int
    dtype: str
    workers: Workers
    rates: Rates
    data_bytes: int
    files: int
    cutouts_hours: float | None
    scores_hours: float | None
    hours: float | None
    gpu_hours: float | None
    fixed_seconds: float
    limits: str | None
    walltime: float | None
    jobs: int | None
    store: str = "all"
    cutout_bytes: int = 0


def measured(folder: Path) -> Rates:
    """Rates of a run by its folder of records, ``RunDirectory.records_folder``."""
    found = {s: map(records.read, sorted((folder / s).glob("*.json"))) for s in STAGES}
    return rates({stage: [record for record in those if record is not None] for stage, those in found.items()})


def rates(found: Mapping[Any, Iterable[Mapping[str, Any]]]) -> Rates:
    """The mean over the finished partitions of a run: all their targets by all their seconds.

    Parameters
    ----------
    found : mapping
        Stage → records of its finished partitions. Scores on a GPU count the time in which they held it, on a CPU all of
        their time but that of loading the network. Of several devices, only the one that most partitions were scored on counts.
    """
    cut, scored = list(found.get("cutouts", [])), list(found.get("scores", []))
    names = [record.get("device", CPU) for record in scored]
    device = max(sorted(set(names)), key=names.count, default=CPU)
    scored = [record for record, name in zip(scored, names, strict=True) if name == device]
    hosts = sorted({record["host"] for record in (*cut, *scored)})
    day = max((str(record["finished"])[:10] for record in (*cut, *scored)), default="")
    text = hosts[0] if len(hosts) == 1 else f"{len(hosts)} hosts"
    return Rates(
        cutouts=_rate(cut, lambda record: record["seconds"]),
        scores=_rate(scored, _scoring),
        device=device,
        where=f"{text}, {day}, {max(len(cut), len(scored)):,} partitions" if hosts else "nothing measured",
        kept=_share(cut),
    )


def project(
    targets: int | None,
    catalogue_rows: int,
    size: int,
    bands: int,
    dtype: str,
    partition: int,
    workers: Workers,
    measured: Rates,
    walltime: float | None,
    store: str = "all",
    fixed_seconds: float = 0.0,
) -> Projection:
    """What a scan will take.

    Parameters
    ----------
    targets : int or None
        To scan; None if nothing is selected yet: then at most all rows of the catalogue.
    catalogue_rows : int
        Of the catalogue.
    size, bands, dtype, partition
        Of section ``cutouts``: pixels a side, number of bands, type of the stored pixels, targets a partition.
    workers : Workers
        To scan with.
    measured : Rates
        How fast one of them is.
    walltime : float or None
        Seconds of a job; None if there is no limit.
    store : {'all', 'candidates', 'none'}
        Which pixels are kept; how many of candidates, ``measured`` says, and the bytes are without them if it does not.
    fixed_seconds : float
        What any scan takes besides, if it was measured.
    """
    n = catalogue_rows if targets is None else targets
    cut, score = (
        _hours(n, many, rate) for many, rate in ((workers.cutouts, measured.cutouts), (workers.scores, measured.scores))
    )
    hours, limits = None, None
    if cut is not None and score is not None:
        hours = (cut + score if workers.shared else max(cut, score)) + fixed_seconds / 3600
        limits = "both" if workers.shared else "cutouts" if cut >= score else "scores"
    return Projection(
        targets=n,
        at_most=targets is None,
        partitions=-(-n // partition),
        partition=partition,
        dtype=dtype,
        workers=workers,
        rates=measured,
        data_bytes=stored_bytes(n, size, bands, dtype, partition, store, measured.kept)
        + n * _TABLE_BYTES
        + -(-n // partition) * _PARTITION_BYTES,
        files=stored_files(n, dtype, partition, store) + FILES_BESIDE * -(-n // partition),
        cutouts_hours=cut,
        scores_hours=score,
        hours=hours,
        gpu_hours=hours * workers.scores if hours is not None and workers.gpu else None,
        fixed_seconds=fixed_seconds,
        limits=limits,
        walltime=walltime,
        jobs=_jobs(hours, walltime),
        store=store,
        cutout_bytes=size * size * bands * np.dtype(dtype).itemsize,
    )


def stored_bytes(
    targets: int, size: int, bands: int, dtype: str, partition: int, store: str = "all", kept: float | None = None
) -> int:
    """Bytes of cutouts.zarr without its metadata; of int16 pixels before compression, so at most.

    An image shard holds whole chunks of 256 targets, each with a checksum, and an index of 16 bytes a chunk; the small
    arrays are padded to whole partitions. Identifiers are taken to be int64. Of ``store: candidates`` a chunk is one target,
    and a share ``kept`` of them is there; each partition is taken to have one.
    """
    if store == "none":
        return 0
    per_band = 8 if dtype == "int16" else 4  # bad_fraction, and the step of int16
    one, partitions = size * size * bands * np.dtype(dtype).itemsize, -(-targets // partition)
    side = partitions * (partition * (_SIDE_BYTES + per_band * bands) + 4 * (_arrays(dtype) - 1))
    if store == "candidates":
        beside = partition * 16 + 4 + partition + 4  # the shard's index, and which are kept
        return math.ceil(targets * (kept or 0)) * (one + 4) + side + partitions * beside
    chunks = 0
    if targets:
        last = targets - (partitions - 1) * partition
        chunks = (partitions - 1) * (partition // CHUNK_ROWS) + -(-last // CHUNK_ROWS)
    pixels = chunks * (CHUNK_ROWS * one + 4)
    index = partitions * (partition // CHUNK_ROWS * 16 + 4)
    return pixels + index + side


def stored_files(targets: int, dtype: str, partition: int, store: str = "all") -> int:
    """Files of cutouts.zarr: one a partition and array, the metadata of each array, and the group's.

    Of ``store: candidates`` at most, since a partition without any kept has no shard of pixels.
    """
    if store == "none":
        return 0
    arrays = _arrays(dtype) + (store == "candidates")
    return -(-targets // partition) * arrays + arrays + 1


def _scoring(record: Mapping[str, Any]) -> float:
    """Seconds of a partition's scores; records of an earlier version do not say how long the network took to load."""
    if record.get("device", CPU) == CPU and "load_seconds" in record:
        return float(record["seconds"] - record["load_seconds"])
    return float(record.get("device_seconds") or record["seconds"])


def _rate(found: Iterable[Mapping[str, Any]], clock: Callable[[Mapping[str, Any]], float]) -> float | None:
    """Targets/s by some clock of the records."""
    timed = [(record["targets"], clock(record)) for record in found]
    targets, seconds = (sum(column) for column in zip(*timed, strict=True)) if timed else (0, 0.0)
    return targets / seconds if targets and seconds > 0 else None


def _share(cut: Iterable[Mapping[str, Any]]) -> float | None:
    """Share of the cutouts that were kept, of records that say it of any."""
    said = [(record["kept"], record["targets"]) for record in cut if "kept" in record]
    kept, targets = (sum(numbers) for numbers in zip(*said, strict=True)) if said else (0, 0)
    return kept / targets if kept else None


def _hours(targets: int, many: int, rate: float | None) -> float | None:
    return targets / (many * rate) / 3600 if many and rate else None


def _jobs(hours: float | None, walltime: float | None) -> int | None:
    if hours is None or walltime is None or walltime <= LOST_SECONDS:
        return None
    return max(1, math.ceil(hours * 3600 / (walltime - LOST_SECONDS)))


def _arrays(dtype: str) -> int:
    """image, object_id, ra, dec, status, bad_fraction; and step."""
    return 7 if dtype == "int16" else 6
