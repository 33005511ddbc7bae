"""The plan as Dask tasks: catalogue → selection → tiles → partitions, in bounded memory.

Pass 1 has one task a partition of the catalogue's dataframe, pass 2 one task a group of partitions of the plan; in
between, each identifier is seen to occur once. Tasks leave files and return counts (see :mod:`survey_scan.plan`).
``plan/partitions.csv`` is written last: without it there is no plan.
"""

import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survey_scan import catalogue, plan, records, selection
from survey_scan.catalogue import Contents
from survey_scan.config import Config
from survey_scan.engine import headers, memory, plan_tasks
from survey_scan.engine.plan_tasks import Way, Written
from survey_scan.errors import CatalogueError, ImageError, ResourceError
from survey_scan.imaging import bricks
from survey_scan.imaging.agreement import Header
from survey_scan.imaging.tiles import list_tiles, read_corners, tile_table
from survey_scan.layout import RunDirectory
from survey_scan.plan import Group, Place, locate, positions, unique
from survey_scan.selection import CutFlow

if TYPE_CHECKING:
    from distributed import Client

#: Targets one task of pass 2 handles (fewer with fewer ``catalogue.rows_per_task``), and identifiers one task compares.
GROUP_ROWS, SHARE_ROWS = 500_000, 4_000_000

#: Tiles whose headers one task reads for their corners.
_HEADERS = 500

#: Places that may wait until they are counted together.
_PLACES = 1_000_000

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
        way = plan_tasks.way_of(config.images)
        if way == "tiles" and (config.catalogue.tile_column is None or config.images.index is not None):
            corners = self._corners()
            corners.to_parquet(scratch / plan_tasks.TILES)
        columns, tiles = catalogue.empty(config.catalogue, contents), 0 if corners is None else len(corners)
        if self.client is not None:
            memory.check_pieces(config, contents.slices, columns, tiles, self.client)
        flow, places, spans = self._pass_1(way)
        if contents.rows not in (None, flow.total):
            raise CatalogueError(
                f"catalogue.files: {flow.total:,} rows were read, but the files' headers say {contents.rows:,}. Did "
                "the files change meanwhile? Run again."
            )
        selection.refuse_empty(flow)
        shares = -(-flow.selected // SHARE_ROWS)
        calls = [("unique", i, plan_tasks.find_repeated, (scratch, sorted(spans), i, shares)) for i in range(shares)]
        repeated = list(self._do(calls))
        unique.refuse(
            {n: (plan_tasks.part(scratch, n), contents.slices[n].path) for n in spans}, repeated, flow.selected
        )
        on_tile = places["tile"] != ""
        outside = int(places["n"][~on_tile].sum()) if config.images.service is None else 0
        if outside == flow.selected:
            located = corners if config.catalogue.tile_column is None else None
            locate.refuse_nowhere(outside, located, config.images.index or config.images.files)
        names = places["tile"][on_tile].tolist()
        if way == "bricks":
            corners = bricks.table(names)
        seen = headers.look(config, names)
        psf_bands = sorted({header.band for header in seen if header.psf is not None})
        rows = min(GROUP_ROWS, config.catalogue.rows_per_task)
        groups = plan.groups(places, config.cutouts.partition, rows, limit)
        if self.client is not None:
            largest = max(groups, key=lambda group: group.rows)
            memory.check_groups(config, largest.rows, largest.first.tile, columns, tiles, self.client)
        written = self._pass_2(spans, groups, psf_bands)
        return _finish(config, self.run, flow, outside, limit, corners, written, seen)

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

    def _pass_1(self, way: Way) -> tuple[CutFlow, pd.DataFrame, Spans]:
        """Select and locate. What comes back is summed soon: every piece may touch every tile."""
        chosen, contents = self.config.selection, self.contents
        how = (self.config.catalogue, contents.types, chosen, self.scratch, way)
        calls = [("locate", n, plan_tasks.locate_slice, (piece, n, *how)) for n, piece in enumerate(contents.slices)]
        flow = CutFlow.empty(chosen)
        places: list[pd.DataFrame] = []
        spans: Spans = {}
        for piece in self._do(calls):
            flow += piece.flow
            places.append(piece.places)
            if len(piece.places):
                spans[piece.number] = plan.place(piece.places, 0), plan.place(piece.places, -1)
            if sum(map(len, places[1:])) > max(_PLACES, 2 * len(places[0])):
                places = [plan.together(places)]
        return flow, plan.together(places), spans

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
            calls.append(("targets", i, plan_tasks.write_group, (group, numbers, *where)))
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
    seen: list[Header],
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
    if not seen:  # few tiles of many have files
        seen = headers.look(config, readable["tile"].tolist())
    flux = headers.flux_scale(config, seen)
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


def _silent(name: str, done: int, total: int) -> None:
    """Report nothing."""
