"""What Dask does of a plan: both passes on one piece, and the search for repeated identifiers between them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from survey_scan import catalogue, plan, selection
from survey_scan.catalogue import Slice
from survey_scan.catalogue.columns import Type
from survey_scan.config import Catalogue, Images, Selection
from survey_scan.imaging import bricks
from survey_scan.layout import RunDirectory
from survey_scan.plan import Group, locate, positions, unique
from survey_scan.selection import CutFlow

#: Table of the corners of all tiles, in the folder of located files.
TILES = "tiles.parquet"

#: How objects are put on tiles: by position, on the Legacy Surveys' bricks by arithmetic, or not at all.
Way = Literal["tiles", "bricks", "nowhere"]


@dataclass(frozen=True)
class Located:
    """What pass 1 found in one piece of the catalogue."""

    number: int
    flow: CutFlow
    places: pd.DataFrame


@dataclass(frozen=True)
class Written:
    """What pass 2 wrote: lines of partitions.csv, its tiles, the longest identifier if they are texts."""

    partitions: list[dict[str, Any]]
    tiles: pd.DataFrame
    id_length: int


def way_of(images: Images) -> Way:
    """How the objects of a survey are put on its tiles."""
    if images.service is not None:
        return "nowhere"
    return "bricks" if images.index == bricks.WORD else "tiles"


def locate_slice(
    piece: Slice,
    number: int,
    source: Catalogue,
    types: dict[str, Type],
    chosen: Selection,
    scratch: Path,
    way: Way = "tiles",
) -> Located:
    """Pass 1 on one piece of the catalogue: read, select, find tiles (unless there are none), write the located file."""
    selected, flow = selection.select_rows(catalogue.read_rows(piece, source, types), chosen)
    if way == "nowhere":
        names = np.full(len(selected), "")
    elif "tile" in selected.columns:
        names = selected["tile"].to_numpy(str)
    elif way == "bricks":
        names = bricks.brick_name(selected["ra"], selected["dec"])
    else:
        tiles = _tiles(scratch / TILES)
        names = np.append(tiles.names, "")[locate.locate(selected["ra"], selected["dec"], tiles)]
    rows, places = plan.located(selected, names)
    if len(rows):
        plan.write_located(rows, part(scratch, number))
    return Located(number, flow, places)


def find_repeated(scratch: Path, numbers: list[int], share: int, shares: int) -> unique.Repeated:
    """Between the passes: identifiers of one share that occur more than once."""
    return unique.repeated([part(scratch, number) for number in numbers], share, shares)


def write_group(
    group: Group,
    numbers: list[int],
    images: Images,
    partition: int,
    run: RunDirectory,
    scratch: Path,
    psf_bands: Sequence[str] = (),
    described: dict[str, tuple[str, str]] | None = None,
) -> Written:
    """Pass 2 on a group of partitions: gather its targets, find pixel positions, sort, write."""
    frame = plan.read_group([part(scratch, number) for number in numbers], group)
    x, y, tiles = positions.pixels(frame, images, psf_bands)
    frame = plan.order(frame.assign(x=x, y=y)).iloc[group.skip : group.skip + group.stop - group.start]
    rows: list[dict[str, Any]] = []
    for i in range(0, len(frame), partition):
        targets = frame.iloc[i : i + partition].reset_index(drop=True)
        rows.append(plan.partition_row(group.partition + len(rows), group.start + i, targets))
        plan.write_targets(targets, run.targets(rows[-1]["partition"]), described)
    ids = frame["object_id"]
    length = 0 if ids.dtype.kind in "iu" else int(ids.str.len().max())
    return Written(rows, positions.count(tiles, frame["tile"]), length)


def part(scratch: Path, number: int) -> Path:
    """The located file of one piece of the catalogue."""
    return scratch / f"part-{number:05d}.arrow"


@lru_cache(maxsize=1)
def _tiles(path: Path) -> locate.Tiles:
    """The polygons, made once a process."""
    return locate.polygons(pd.read_parquet(path))
