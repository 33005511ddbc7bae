"""Selected objects → partitions of targets: the pure functions of both passes.

Pass 1 takes one piece of the catalogue to a *located* file: its selected rows with their tiles, sorted by tile. From
the counts of all pieces follows at which row of the plan each tile begins. Pass 2 takes the tiles of a few consecutive
partitions out of all located files, finds pixel positions, sorts, and writes the partitions. Neither the size of the
pieces nor the order of the tasks leaves a trace in the result.

Targets are sorted by tile, y, x, object_id; those without a tile stand last, sorted by *zone* (whole degrees of
declination, then of right ascension, so that they too come in bounded portions), then object_id.
"""

import hashlib
import io
from bisect import bisect_left, bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey_scan import records
from survey_scan.plan import unique
from survey_scan.schema import TARGET_COLUMNS

#: Column of located files that no configuration can name.
ZONE = "#zone"
_TARGET = ("object_id", "ra", "dec", "tile", "x", "y")


class Place(NamedTuple):
    """Where in the order of the plan rows belong: a tile, or a zone outside all tiles. Sorts in that order."""

    outside: bool
    tile: str
    zone: int


@dataclass(frozen=True)
class Group:
    """Consecutive partitions that one task writes.

    Parameters
    ----------
    partition : int
        The first of them.
    start, stop : int
        Rows of the plan.
    first, last : Place
        Which rows of the located files are needed.
    skip : int
        How many of those, in order, belong to earlier partitions.
    rows : int
        How many of those there are.
    """

    partition: int
    start: int
    stop: int
    first: Place
    last: Place
    skip: int
    rows: int


def located(selected: pd.DataFrame, tile: NDArray[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Selected rows with their tiles, in the order of the plan as far as it is known before pixel positions are.

    Parameters
    ----------
    selected : DataFrame
        object_id, ra, dec, kept columns; perhaps a column tile, which ``tile`` replaces.
    tile : ndarray of str, shape (n,)
        Empty where there is none.

    Returns
    -------
    DataFrame
        object_id, ra, dec, tile, :data:`ZONE` (int32; 0 on a tile), kept columns.
    DataFrame
        Places in their order, tile and zone, and the number of rows of each, n.
    """
    names = pd.Series(tile, dtype="str")
    outside = (names == "").to_numpy()
    zone = np.where(outside, zones(selected["ra"].to_numpy(), selected["dec"].to_numpy()), 0).astype(np.int32)
    frame = selected.drop(columns="tile", errors="ignore").reset_index(drop=True)
    for name in frame.columns[[dtype.kind not in "iufb" for dtype in frame.dtypes]]:
        frame[name] = frame[name].astype("str")  # Dask has made them another kind of string
    frame.insert(3, "tile", names)
    frame.insert(4, ZONE, zone)
    codes = pd.factorize(frame["tile"], sort=True)[0]
    order = np.lexsort((zone, codes, outside))
    keys = np.stack([outside, codes, zone])[:, order]
    new = np.ones(len(order), bool)
    new[1:] = (keys[:, 1:] != keys[:, :-1]).any(axis=0)
    first = np.flatnonzero(new)
    frame = frame.iloc[order].reset_index(drop=True)
    places = frame.iloc[first][["tile", ZONE]].rename(columns={ZONE: "zone"}).reset_index(drop=True)
    return frame, places.assign(n=np.diff(first, append=len(order)))


def together(parts: list[pd.DataFrame]) -> pd.DataFrame:
    """Places of several pieces of the catalogue, as :func:`located` counts them: each once, in their order."""
    counts = pd.concat(parts).groupby(["tile", "zone"])[["n"]].sum().reset_index()
    outside = (counts["tile"] == "").to_numpy()
    return pd.concat([counts.loc[~outside], counts.loc[outside]], ignore_index=True)


def place(places: pd.DataFrame, i: int) -> Place:
    """One of the places that :func:`located` counts."""
    tile = str(places["tile"].iloc[i])
    return Place(not tile, tile, int(places["zone"].iloc[i]))


def zones(ra: NDArray[np.float64], dec: NDArray[np.float64]) -> NDArray[np.int32]:
    """Number of the square degree of a position: declination from the south pole on, then right ascension."""
    row, column = np.floor(dec).clip(-90, 89) + 90, np.floor(ra).clip(0, 359)
    return np.asarray(row * 360 + column, np.int32)


def write_located(frame: pd.DataFrame, path: Path) -> None:
    """Write a located file, and beside it the sorted hashes of its identifiers.

    The folder must be there: it goes when a plan fails, and what then still runs shall fail too.
    """
    table = pa.Table.from_pandas(frame, preserve_index=False, nthreads=1)
    with pa.ipc.new_file(
        str(path), table.schema
    ) as file:  # as in memory, so that rows are found without reading others
        file.write_table(table)
    unique.write_hashes(frame["object_id"], path)


def groups(places: pd.DataFrame, partition: int, rows: int, limit: int | None) -> list[Group]:
    """Divide the plan among tasks.

    Parameters
    ----------
    places : DataFrame
        Of all located files, from :func:`together`.
    partition : int
        Targets in a partition.
    rows : int
        Targets a task handles, about.
    limit : int or None
        Only the first so many rows are planned.
    """
    ends = np.cumsum(places["n"].to_numpy(np.int64))
    total = int(ends[-1]) if limit is None else min(int(ends[-1]), limit)
    step = max(1, rows // partition) * partition
    found = []
    for start in range(0, total, step):
        stop = min(start + step, total)
        a, b = int(np.searchsorted(ends, start, "right")), int(np.searchsorted(ends, stop, "left"))
        before = int(ends[a - 1]) if a else 0
        needed = int(ends[b]) - before
        first, last = place(places, a), place(places, b)
        found.append(Group(start // partition, start, stop, first, last, start - before, needed))
    return found


def read_group(paths: list[Path], group: Group) -> pd.DataFrame:
    """The rows of a group's places from all located files, in no particular order."""
    frame: pd.DataFrame = pa.concat_tables([_between(path, group.first, group.last) for path in paths]).to_pandas()
    if len(frame) != group.rows:
        raise RuntimeError(
            f"located files hold {len(frame)} rows from {group.first} to {group.last}; pass 1 counted {group.rows}"
        )
    return frame


def _between(path: Path, first: Place, last: Place) -> pa.Table:
    """The rows of a located file from one place to another, as a copy: what is mapped counts as the process's memory."""
    with pa.memory_map(str(path)) as file:
        table = pa.ipc.open_file(file).read_all()
        tile, zone = table["tile"], table[ZONE]

        def place_at(i: int) -> Place:
            name = tile[i].as_py()
            return Place(not name, name, zone[i].as_py())

        start = bisect_left(range(len(table)), first, key=place_at)
        stop = bisect_right(range(len(table)), last, lo=start, key=place_at)
        return table.take(pa.array(np.arange(start, stop)))


def order(frame: pd.DataFrame) -> pd.DataFrame:
    """Rows in the order of the plan, with the columns of a target table.

    Parameters
    ----------
    frame : DataFrame
        From :func:`read_group`, with x and y (NaN where there is no position).
    """
    tile, _ = pd.factorize(frame["tile"], sort=True)
    ids = frame["object_id"]
    rank = ids.to_numpy() if ids.dtype.kind in "iu" else pd.factorize(ids, sort=True)[0]
    outside = (frame["tile"] == "").to_numpy()
    keys = (rank, frame["x"].to_numpy(), frame["y"].to_numpy(), frame[ZONE].to_numpy(), tile, outside)
    kept = [name for name in frame.columns if name not in (*_TARGET, ZONE)]
    return frame.iloc[np.lexsort(keys)][[*_TARGET, *kept]].reset_index(drop=True)


def write_targets(targets: pd.DataFrame, path: Path, described: Mapping[str, tuple[str, str]] | None = None) -> None:
    """Write one partition's target table, atomically; equal tables make equal bytes.

    Parameters
    ----------
    targets : DataFrame
        From :func:`order`.
    path : Path
        Where to.
    described : mapping, optional
        Kept column → unit and UCD, written as the fields' metadata ``unit`` and ``ucd``, as those of our own columns are.
    """
    known = {c.name: (c.unit or "", c.ucd or "") for c in TARGET_COLUMNS} | dict(described or {})
    table, buffer = pa.Table.from_pandas(targets, preserve_index=False, nthreads=1), io.BytesIO()
    for i, field in enumerate(table.schema):
        facts = dict(zip(("unit", "ucd"), known.get(field.name, ("", "")), strict=True))
        if facts := {key: value for key, value in facts.items() if value}:
            table = table.cast(table.schema.set(i, field.with_metadata(facts)))
    pq.write_table(table, buffer, compression="zstd")
    records.write_atomically(path, buffer.getvalue())


def targets_digest(targets: pd.DataFrame) -> str:
    """Digest of a target table's content: names, types and values of all columns, row by row.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    sha = hashlib.sha256()
    for name in targets.columns:
        column = targets[name]
        numbers = column.dtype.kind in "iufb"
        sha.update(f"{name}:{column.dtype if numbers else 'str'}:{len(column)}\0".encode())
        if numbers:
            values = column.to_numpy()
            sha.update(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).tobytes())
        else:
            sha.update("\0".join(column.to_numpy(object)).encode())
    return sha.hexdigest()[:16]


def partition_row(number: int, start: int, targets: pd.DataFrame) -> dict[str, Any]:
    """One line of plan/partitions.csv."""
    return {
        "partition": number,
        "start": start,
        "stop": start + len(targets),
        "n_targets": len(targets),
        "n_tiles": int(targets.loc[targets["tile"] != "", "tile"].nunique()),
        "first_tile": str(targets["tile"].iloc[0]),
        "last_tile": str(targets["tile"].iloc[-1]),
        "targets_digest": targets_digest(targets),
    }
