"""Projected memory of a worker at each stage, and the refusal of a plan or a scan that would not fit."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from survey_scan import records
from survey_scan.catalogue import Slice
from survey_scan.catalogue.files import file_format
from survey_scan.cluster import pools
from survey_scan.config import Config
from survey_scan.cutouts import projected_bytes
from survey_scan.engine import state
from survey_scan.engine.scan import WINDOW
from survey_scan.errors import ResourceError
from survey_scan.imaging.cost import Layout
from survey_scan.layout import STAGES, RunDirectory, Stage

if TYPE_CHECKING:
    from distributed import Client

#: What a worker holds before it does anything: Python, Dask, pandas, astropy, zarr (peak_mem of the records of an
#: empty partition is a little less).
IDLE_BYTES = 350 * 2**20

#: Bytes that a task of a plan holds at most, as measured: of each row that it selects, so often those of its columns, and so many
#: more; the same of each target that it sorts; of each tile, while the polygons are made.
_SELECTED, _SORTED, _TILE = (6, 90), (4, 100), 800
#: Bytes of a text in a table, about.
_TEXT = 24
_ALWAYS = ("object_id", "ra", "dec")


def check_pieces(config: Config, pieces: Iterable[Slice], columns: pd.DataFrame, tiles: int, client: "Client") -> None:
    """Refuse a plan whose first pass would not fit the smallest worker.

    Parameters
    ----------
    config : Config
        Its catalogue and selection sections.
    pieces : iterable of Slice
        What the tasks read. Every row is taken to be selected, but of a gzipped file, which is one piece, and of CSV not more than
        ``catalogue.rows_per_task``.
    columns : DataFrame
        Of the catalogue, with their types.
    tiles : int
        Whose polygons a worker makes; 0 if it needs none.
    client : Client
        Of the cluster.

    Raises
    ------
    ResourceError
        With what takes how much, and what to change.
    """
    most = config.catalogue.rows_per_task
    parquet = {piece: file_format(piece.path) == "parquet" for piece in pieces}
    rows, path = max(
        (p.stop - p.start if whole else min(p.stop - p.start, most), p.path) for p, whole in parquet.items()
    )
    ways = "Lower catalogue.rows_per_task"
    if rows > most:
        ways = f"Write {path} anew with smaller row groups, which are read whole"
    each = _bytes(columns, len(config.selection.define), _SELECTED)
    _refuse_plan({f"{rows:,} rows at a time": rows * each, **_tiles(tiles)}, ways, client)


def check_groups(config: Config, rows: int, tile: str, columns: pd.DataFrame, tiles: int, client: "Client") -> None:
    """Refuse a plan whose second pass would not fit the smallest worker: targets of a tile are sorted together.

    Parameters
    ----------
    config, columns, tiles, client
        As for :func:`check_pieces`.
    rows : int
        Targets that one task sorts, at most.
    tile : str
        One of theirs.

    Raises
    ------
    ResourceError
        With what takes how much, and what to change.
    """
    kept = config.selection.keep
    if kept is None:
        kept = [*columns, *config.selection.define]
    each = _bytes(columns[[n for n in columns if n in (*_ALWAYS, *kept)]], len(set(kept) - set(columns)), _SORTED)
    ways = f"Targets of a tile are sorted together, here those of {tile or 'a square degree outside all tiles'}: keep fewer columns"
    what = {f"{rows:,} targets at a time": rows * each, **_tiles(tiles)}
    _refuse_plan(what, f"{ways} (selection.keep)", client)


def _bytes(columns: pd.DataFrame, defined: int, cost: tuple[int, int]) -> int:
    """Of a row in a task, with so many definitions."""
    widths = [dtype.itemsize if dtype.kind in "iufb" else _TEXT for dtype in columns.dtypes]
    return cost[0] * (sum(widths) + 8 * defined) + cost[1]


def _tiles(number: int) -> dict[str, int]:
    return {f"{number:,} tiles": number * _TILE} if number else {}


def _refuse_plan(what: dict[str, int], ways: str, client: "Client") -> None:
    """Raise if all of it together, beside an idle worker, is more than the smallest worker has."""
    limits = [limit for limit in pools.find(client).memory.values() if limit is not None]
    needed = IDLE_BYTES + sum(what.values())
    if limits and needed > min(limits):
        parts = ", ".join(f"{name} {gib(n)}" for name, n in {"an idle worker": IDLE_BYTES, **what}.items())
        raise ResourceError(
            f"the plan needs {gib(needed)} a worker ({parts}) but a worker has {gib(min(limits))}. {ways}, have fewer workers "
            "(resources.workers, or the profile), or give them more memory (resources.memory, or the profile)."
        )


def project(
    config: Config, layouts: Iterable[Layout], network_bytes: int, held: Mapping[Stage, int] | None = None
) -> dict[str, int]:
    """Bytes a worker needs at most, by stage.

    Parameters
    ----------
    config : Config
        Its cutouts and images sections.
    layouts : iterable of Layout
        Of the tiles, each kind once; of no use with a cutout service.
    network_bytes : int
        What the network says it needs, with everything; 0 if it is not asked.
    held : mapping, optional
        Stage → partitions whose pixels a worker holds at a time where these go through memory
        (:meth:`survey_scan.cluster.pools.Pools.held_by_one`); those of workers of one thread if it is not known.
    """
    kinds = layouts if config.images.service is None else [None]
    cut = IDLE_BYTES + max((projected_bytes(config.cutouts, config.images, layout) for layout in kinds), default=0)
    spec = config.cutouts
    pixels = spec.partition * spec.size**2 * len(spec.bands)
    kept = pixels * 4  # by a worker that cuts and scores in turn
    if not spec.streamed:
        return {"cutouts": cut, "scores": max(IDLE_BYTES, network_bytes) + kept}
    held = held or dict.fromkeys(STAGES, WINDOW)
    one = pixels * np.dtype(spec.dtype).itemsize
    same = one if spec.dtype == "float32" else 0  # what is cut is held where it is
    return {
        "cutouts": cut + held["cutouts"] * one - same,
        "scores": max(IDLE_BYTES, network_bytes) + (0 if same else kept) + held["scores"] * one,
    }


def refuse(projected: dict[str, int], allowed: dict[str, int | None]) -> None:
    """Raise if a stage does not fit.

    Parameters
    ----------
    projected : dict
        Bytes by stage.
    allowed : dict
        Bytes of the smallest worker that does this stage; None for no limit.

    Raises
    ------
    ResourceError
        With what to change.
    """
    ways = {"cutouts": "Lower cutouts.partition", "scores": "Lower model.batch_size"}
    lines = [
        f"{stage} needs {gib(needed)} a worker but a worker has {gib(limit)}. {ways[stage]}, have fewer workers "
        "(resources.workers, or the profile), or give them more memory (resources.memory, or the profile)."
        for stage, needed in projected.items()
        if (limit := allowed[stage]) is not None and needed > limit
    ]
    if lines:
        raise ResourceError("\n".join(lines))


def check(config: Config, run: RunDirectory, network_bytes: int, client: "Client") -> None:
    """Project, write plan/memory.json, and refuse what does not fit the smallest worker of its stage.

    Raises
    ------
    ResourceError
        If a stage does not fit.
    """
    known = state.plan_facts(run)["layouts"]
    layouts = [Layout(kind["codec"], tuple(kind["shape"]), tuple(kind["tile"])) for kind in known]
    there = pools.find(client)
    projected = project(config, layouts, network_bytes, there.held_by_one(WINDOW))
    allowed = there.memory
    records.write_json(run.memory, {"projected": projected, "allowed": allowed})
    refuse(projected, {stage: allowed[stage] for stage in STAGES})


def gib(n: int) -> str:
    """Bytes in words."""
    return f"{n / 2**30:.1f} GiB"
