"""The plan as Dask tasks: catalogue → selection → tiles → partitions, in bounded memory.

Pass 1 has one task a partition of the catalogue's dataframe, pass 2 one task a group of partitions of the plan; in
between, each identifier is seen to occur once. Tasks leave files and return counts (see :mod:`survey_scan.plan`).
``plan/partitions.csv`` is written last: without it there is no plan.
"""

import secrets
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

from survey_scan import catalogue, plan, records, selection
from survey_scan.catalogue import Contents, Slice
from survey_scan.catalogue.columns import Type
from survey_scan.config import Catalogue, Config, Images, Selection
from survey_scan.errors import CatalogueError, ImageError, ResourceError
from survey_scan.imaging import agreement, bricks
from survey_scan.imaging.agreement import Header
from survey_scan.imaging.tiles import list_tiles, read_corners, tile_table
from survey_scan.layout import RunDirectory
from survey_scan.plan import Group, Place, locate, positions, targets_digest, unique
from survey_scan.selection import CutFlow

if TYPE_CHECKING:
    from distributed import Client

#: Targets one task of pass 2 handles, and identifiers one task compares.
GROUP_ROWS, SHARE_ROWS = 500_000, 4_000_000

#: Tiles whose headers one task reads for their corners, and tiles that are tried for some whose headers are compared
#: with the configuration.
_HEADERS, _TRIED = 500, 1000
_TILES = "tiles.parquet"

#: How objects are put on tiles: by position, on the Legacy Surveys' bricks by arithmetic, or not at all.
Way = Literal["tiles", "bricks", "nowhere"]
#: Told (pass, tasks done, tasks in all).
Report = Callable[[str, int, int], None]
#: Located file → the first and the last place it has rows of.
Spans = dict[int, tuple[Place, Place]]


@dataclass(frozen=True)
class PlanResult:
    """What the plan found.

    Parameters
    ----------
    facts : dict
        What stands in plan/plan.json.
    cut_flow : CutFlow
        Over the whole catalogue.
    warnings : list of str
        What the user should know.
    """

    facts: dict[str, Any]
    cut_flow: CutFlow
    warnings: list[str]


@dataclass(frozen=True)
class Located:
    """What pass 1 found in one piece of the catalogue."""

    number: int
    flow: CutFlow
    places: dict[Place, int]


@dataclass(frozen=True)
class Written:
    """What pass 2 wrote: lines of partitions.csv, its tiles, the longest identifier if they are texts."""

    partitions: list[dict[str, Any]]
    tiles: pd.DataFrame
    id_length: int


def make_plan(
    config: Config,
    run: RunDirectory,
    client: "Client | None" = None,
    limit: int | None = None,
    report: Report | None = None,
) -> PlanResult:
    """Write the targets of a run and plan/: what is to be cut and scored, in which order.

    Parameters
    ----------
    config : Config
        The catalogue, the selection, the images, the size of a partition.
    run : RunDirectory
        Where to write; what an earlier plan left there goes.
    client : Client, optional
        Where the tasks run; None does them here, one after the other.
    limit : int, optional
        Only the first so many (at least one) targets in the order of the plan are planned. The whole catalogue is
        read all the same: cut flow and counts are those of the whole.
    report : callable, optional
        Told ``(pass, tasks done, tasks in all)`` as they finish.

    Raises
    ------
    CatalogueError, SelectionError, ImageError
        If there is something to mend; there is no plan then.
    """
    contents = catalogue.survey(config.catalogue)
    columns, source = catalogue.empty(config.catalogue, contents), Path(contents.files[0]).name
    selection.check(config.selection, columns, source, contents.unlisted)
    run.partitions.unlink(missing_ok=True)
    for folder in (run.located, run.targets_folder):
        if folder.exists():
            shutil.rmtree(folder)
    # of a name of its own: a task of a plan that failed may still run, and must not write into this one
    scratch = run.located / secrets.token_hex(4)
    scratch.mkdir(parents=True)
    try:
        return _Planning(config, run, contents, scratch, client, report or _silent).make(limit)
    finally:
        shutil.rmtree(run.located, ignore_errors=True)


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
        tiles = _tiles(scratch / _TILES)
        names = np.append(tiles.names, "")[locate.locate(selected["ra"], selected["dec"], tiles)]
    rows, places = plan.located(selected, names)
    if len(rows):
        plan.write_located(rows, _part(scratch, number))
    return Located(number, flow, places)


def _way(images: Images) -> Way:
    if images.service is not None:
        return "nowhere"
    return "bricks" if images.index == bricks.WORD else "tiles"


def find_repeated(scratch: Path, numbers: list[int], share: int, shares: int) -> unique.Repeated:
    """Between the passes: identifiers of one share that occur more than once."""
    return unique.repeated([_part(scratch, number) for number in numbers], share, shares)


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
    frame = plan.read_group([_part(scratch, number) for number in numbers], group)
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


def look(config: Config, names: Sequence[str]) -> list[Header]:
    """What the headers of some tiles say of the bands to be cut, wherever in the survey there are files.

    Parameters
    ----------
    config : Config
        Its images and the bands of its cutouts.
    names : sequence of str
        Tiles.

    Raises
    ------
    ImageError
        If they cannot be those of the survey that the configuration describes.
    """
    golden = (np.arange(len(names)) * 0.6180339887498949) % 1  # the first few of these are spread evenly, however many
    spread = (names[i] for i in np.argsort(golden)[:_TRIED])
    headers, _ = agreement.look(config.images, spread, config.cutouts.bands)
    if problems := agreement.refusals(headers, config.images):
        raise ImageError("\n".join(problems))
    return headers


@dataclass(frozen=True)
class _Planning:
    """One plan in the making: the driver's half."""

    config: Config
    run: RunDirectory
    contents: Contents
    scratch: Path
    client: "Client | None"
    report: Report

    def make(self, limit: int | None) -> PlanResult:
        config, contents, scratch = self.config, self.contents, self.scratch
        corners = None
        way = _way(config.images)
        if way == "tiles" and (config.catalogue.tile_column is None or config.images.index is not None):
            corners = self._corners()
            corners.to_parquet(scratch / _TILES)
        flow, places, spans = self._pass_1(way)
        if contents.rows not in (None, flow.total):
            raise CatalogueError(
                f"catalogue.files: {flow.total:,} rows were read, but the files' headers say {contents.rows:,}. Did "
                "the files change meanwhile? Run again."
            )
        selection.refuse_empty(flow)
        shares = -(-flow.selected // SHARE_ROWS)
        calls = [("unique", i, find_repeated, (scratch, sorted(spans), i, shares)) for i in range(shares)]
        repeated = list(self._do(calls))
        unique.refuse({n: (_part(scratch, n), contents.slices[n].path) for n in spans}, repeated, flow.selected)
        outside = sum(n for place, n in places.items() if place.outside and config.images.service is None)
        if outside == flow.selected:
            located = corners if config.catalogue.tile_column is None else None
            locate.refuse_nowhere(outside, located, config.images.index or config.images.files)
        names = [place.tile for place in places if not place.outside]
        if way == "bricks":
            corners = bricks.table(names)
        headers = look(config, sorted(names))
        psf_bands = sorted({header.band for header in headers if header.psf is not None})
        written = self._pass_2(spans, plan.groups(places, config.cutouts.partition, GROUP_ROWS, limit), psf_bands)
        return _finish(config, self.run, flow, outside, limit, corners, written, headers)

    def _corners(self) -> pd.DataFrame:
        """Corners of all tiles: from the index, else from the headers."""
        images = self.config.images
        names = list_tiles(images) if images.index is None else []
        if not names:
            return tile_table(images)
        chunks = [names[i : i + _HEADERS] for i in range(0, len(names), _HEADERS)]
        calls = [("headers", i, read_corners, (images, chunk)) for i, chunk in enumerate(chunks)]
        tables: list[pd.DataFrame] = list(self._do(calls))
        return pd.concat(tables).sort_values("tile", ignore_index=True)

    def _pass_1(self, way: Way) -> tuple[CutFlow, Counter[Place], Spans]:
        """Select and locate. What comes back is summed as it comes: every piece may touch every tile."""
        chosen, contents = self.config.selection, self.contents
        how = (self.config.catalogue, contents.types, chosen, self.scratch, way)
        calls = [("locate", n, locate_slice, (piece, n, *how)) for n, piece in enumerate(contents.slices)]
        flow = CutFlow.empty(chosen)
        places: Counter[Place] = Counter()
        spans: Spans = {}
        for piece in self._do(calls):
            flow += piece.flow
            places.update(piece.places)
            if piece.places:
                spans[piece.number] = min(piece.places), max(piece.places)
        return flow, places, spans

    def _pass_2(self, spans: Spans, groups: list[Group], psf_bands: list[str]) -> list[Written]:
        calls = []
        for i, group in enumerate(groups):
            numbers = sorted(n for n, (first, last) in spans.items() if first <= group.last and last >= group.first)
            where = (
                self.config.images,
                self.config.cutouts.partition,
                self.run,
                self.scratch,
                psf_bands,
                self.contents.described,
            )
            calls.append(("targets", i, write_group, (group, numbers, *where)))
        return sorted(self._do(calls), key=lambda written: int(written.partitions[0]["partition"]))

    def _do(self, calls: Iterable[tuple[str, int, Any, tuple[Any, ...]]]) -> Iterator[Any]:
        """Run calls, each with a name and a number, as Dask tasks; results come as they are ready."""
        import dask

        tasks, name = [], ""
        for name, number, function, arguments in calls:
            key = f"{name}-{number:05d}"
            tasks.append(dask.delayed(function, pure=False)(*arguments, dask_key_name=key))
        here = (task.compute(scheduler="synchronous") for task in tasks)
        for done, result in enumerate(here if self.client is None else _gather(self.client, tasks), start=1):
            self.report(name, done, len(tasks))
            yield result


def _gather(client: "Client", tasks: list[Any]) -> Iterator[Any]:
    from distributed import KilledWorker, as_completed

    futures = client.compute(tasks, retries=2)
    try:
        for future in as_completed(futures):
            yield future.result()
            future.release()  # a result is needed once; keeping them all would keep every piece's counts
    except KilledWorker as error:
        raise ResourceError(
            f"plan: the task {error.task} killed its worker again and again, as it does where memory is short. Raise "
            "resources.memory, have fewer resources.workers, or lower catalogue.rows_per_task."
        ) from None
    finally:
        client.cancel(futures)


def _finish(
    config: Config,
    run: RunDirectory,
    flow: CutFlow,
    outside: int,
    limit: int | None,
    corners: pd.DataFrame | None,
    written: list[Written],
    headers: list[Header],
) -> PlanResult:
    tiles = positions.merge([group.tiles for group in written], corners)
    partitions = pd.DataFrame([row for group in written for row in group.partitions])
    planned = int(partitions["n_targets"].sum())
    if planned != (flow.selected if limit is None else min(limit, flow.selected)):
        raise RuntimeError(f"{planned} targets were written of {flow.selected} selected (limit {limit})")
    readable = tiles[tiles["problem"] == ""]
    if readable.empty and len(tiles):
        raise ImageError(
            f"images.files: none of the {len(tiles):,} tiles with targets can be read. The first: "
            f"{tiles['problem'].iloc[0]}. Check images.files and images.hdu."
        )
    if not headers:  # few tiles of many have files
        headers = look(config, readable["tile"].tolist())
    flux = flux_scale(config, headers)
    tiles = tiles.assign(**{f"psf_{b}": np.nan for b in config.images.bands if f"psf_{b}" not in tiles})
    scale = config.images.pixel_scale
    if scale is None and len(readable):
        scale = float(readable["pixel_scale"].median())
    length = max(group.id_length for group in written)
    ids = pd.read_parquet(run.targets(0), columns=["object_id"])["object_id"]
    facts = {
        "catalogue": flow.total,
        "selected": flow.selected,
        "planned": planned,
        "limit": limit,
        "outside": outside,
        "service": config.images.service.host if config.images.service else None,
        "partitions": len(partitions),
        "n_tiles": len(tiles),
        "pixel_scale": scale,
        "flux": flux,
        "layouts": positions.layouts(readable),
        "object_id": f"<U{length}" if length else str(ids.dtype),
    }
    tiles.to_parquet(run.tiles, index=False)
    records.write_json(run.plan_facts, facts)
    records.write_atomically(run.cut_flow, flow.frame().to_csv(index=False).encode())
    records.write_atomically(run.partitions, partitions.to_csv(index=False).encode())
    return PlanResult(facts, flow, _warnings(flow, outside, tiles, flux["differ"]))


def flux_scale(config: Config, headers: list[Header]) -> dict[str, Any]:
    """What a pixel's value means, for the store and for cutting.

    Returns
    -------
    dict
        ``zero_point`` (band → number or None), ``unit`` (as the headers have it, or None), ``from_headers`` (bands
        whose zero point the configuration does not give, but the headers), ``differ`` (bands whose tiles do not agree
        in theirs, and the configuration gives none).

    Raises
    ------
    ImageError
        If pixels are to be brought to a zero point, and that of the images is not known.
    """
    bands = config.cutouts.bands
    points = agreement.zero_points(headers, config.images, bands)
    given = {band for band in bands if config.images.zero_point_of(band) is not None}
    stated = {header.band for header in headers if header.zero_point is not None}
    units = {header.unit for header in headers if header.unit}
    unknown = [band for band in bands if points[band] is None]
    if config.cutouts.zero_point is not None and unknown:
        raise ImageError(
            f"cutouts.zero_point is {config.cutouts.zero_point:g}, but the zero point of the images is not known in "
            f"{', '.join(unknown)}: neither images.zero_point gives it, nor do the headers agree in one. Give "
            "images.zero_point, one number or one a band, or leave cutouts.zero_point out."
        )
    return {
        "zero_point": points,
        "unit": ", ".join(sorted(units)) or None,
        "from_headers": [band for band in bands if band not in given and points[band] is not None],
        "differ": [band for band in unknown if band in stated],
    }


def _warnings(flow: CutFlow, outside: int, tiles: pd.DataFrame, differ: list[str]) -> list[str]:
    found = []
    invalid = flow.total - flow.kept[selection.VALID_POSITION]
    if invalid:
        found.append(f"{invalid:,} of {flow.total:,} objects of the catalogue have no valid position")
    if outside:
        found.append(f"{outside:,} of {flow.selected:,} selected objects lie on no tile and get no score")
    if differ:
        found.append(
            f"the zero points of tiles differ in {', '.join(differ)}, so a pixel means another flux on another tile; "
            "'survey_scan check' says what they are"
        )
    bad = tiles.loc[tiles["problem"] != "", "problem"]
    found += [str(problem) for problem in bad.head(3)]
    if len(bad) > 3:
        found.append(f"{len(bad) - 3:,} more tiles cannot be read: see column 'problem' of plan/tiles.parquet")
    return found


def _part(scratch: Path, number: int) -> Path:
    return scratch / f"part-{number:05d}.parquet"


@lru_cache(maxsize=1)
def _tiles(path: Path) -> locate.Tiles:
    """The polygons, made once a process."""
    return locate.polygons(pd.read_parquet(path))


def _silent(name: str, done: int, total: int) -> None:
    """Report nothing."""


__all__ = ["PlanResult", "find_repeated", "locate_slice", "make_plan", "targets_digest", "write_group"]
