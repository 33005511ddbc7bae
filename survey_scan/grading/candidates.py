"""The candidates of a run, and where their pixels lie in its store."""

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey_scan import records, scores
from survey_scan.engine import state
from survey_scan.errors import RunError
from survey_scan.identity import digest
from survey_scan.layout import STAGES, RunDirectory
from survey_scan.store import single
from survey_scan.store.reader import Reader

#: Columns shown beside the picture, where the table has them; the last are a known lens's, and tell too much to the blind.
FACTS = ("ra", "dec", "rank", "logit", "known_name", "known_grade")


def run_digest(run: RunDirectory) -> str:
    """What makes grades a run's own: the digest of its plan, the targets of all partitions.

    Not the ranking's: grades belong to object ids, and stay good when the run is ranked, scored or even cut again.
    """
    return digest(state.read_partitions(run)["targets_digest"].tolist())


def read(run: RunDirectory, top: int | None, say: Callable[[str], None]) -> pd.DataFrame:
    """The best candidates of a run, in the order of rank, ``object_id`` as text.

    Parameters
    ----------
    run : RunDirectory
        Says so if it is not complete; its candidates are then those of the last ranking.
    top : int or None
        How many; all if None.
    say : callable
        Prints a line.

    Raises
    ------
    RunError
        If this is no run, or it has no candidates yet; with what is missing.
    """
    manifest = state.read_manifest(run)
    missing = _missing(run, manifest)
    if not run.candidates_parquet.exists():
        raise RunError(
            f"{run} has no candidates yet ({'; '.join(missing) or 'candidates.parquet is missing'}). Finish the scan: run "
            "'survey_scan run' again with its config."
        )
    if missing:
        say(f"incomplete  {'; '.join(missing)}: these are the candidates of the last ranking, and there may be others")
    names = pq.read_schema(run.candidates_parquet).names
    columns = ["object_id", "tile", *(name for name in FACTS if name in names)]
    table = pd.read_parquet(run.candidates_parquet, columns=columns).sort_values("rank", kind="stable")
    table = table.head(len(table) if top is None else top).reset_index(drop=True)
    if not len(table):
        raise RunError(f"{run.candidates_parquet} has no rows: there is nothing to grade. Lower ranking.threshold.")
    table["object_id"] = table["object_id"].astype(str)
    return table


def without_pixels(run: RunDirectory) -> set[str]:
    """``object_id``, as text, of the candidates whose pixels were not kept.

    Raises
    ------
    RunError
        If there is no store.
    """
    reader = Reader(run.store)
    if reader.whole:
        return set()
    names, above = list(reader.attributes["kept_by"]), float(reader.attributes["above"])
    table = pd.read_parquet(run.candidates_parquet, columns=["object_id", *names])
    return set(table["object_id"][~scores.kept(table, names, above)].astype(str))


def with_pixels(run: RunDirectory, table: pd.DataFrame, say: Callable[[str], None]) -> pd.DataFrame:
    """Those rows of a table of candidates whose pixels were kept; says how many are left out.

    Raises
    ------
    RunError
        If none is left, or there is no store.
    """
    gone = table["object_id"].astype(str).isin(without_pixels(run)).to_numpy()
    if not gone.any():
        return table
    above = Reader(run.store).attributes["above"]
    why = f"their logit is below {above:g} (cutouts.above), and their cutouts were not kept"
    if gone.all():
        raise RunError(
            f"all {len(table):,} candidates lack a picture: {why}. Lower it, and cut again: survey_scan run CONFIG --redo cutouts"
        )
    say(f"left out    {gone.sum():,} of {len(table):,} candidates: {why}")
    return table[~gone].reset_index(drop=True)


def _missing(run: RunDirectory, manifest: dict[str, Any]) -> list[str]:
    """What a run lacks, in words; by its records, so that neither network nor survey need be here."""
    partitions = state.read_partitions(run)["partition"].tolist()
    found = []
    for stage in STAGES:
        lacking = sum(not run.record(stage, p).exists() for p in partitions)
        if lacking:
            found.append(f"{lacking:,} of {len(partitions):,} partitions have no {stage}")
    if records.read(run.ranking_record) is None:
        found.append("the ranking is not finished")
    elif manifest.get("state") != "complete" and not found:
        found.append("its last start did not end complete")
    return found


class Pixels:
    """Cutouts of candidates, found one by one as they are asked for; for use from several threads.

    A candidate's row in the store is found from the target tables: only the ids of those partitions are read whose tiles
    hold it, each once, and nothing is kept of them but the rows of candidates.

    Parameters
    ----------
    run : RunDirectory
        With a store.
    table : DataFrame
        From :func:`read`.

    Raises
    ------
    RunError
        If there is no store.
    """

    def __init__(self, run: RunDirectory, table: pd.DataFrame):
        self._run = run
        self._reader = Reader(run.store)
        #: Bands of the last axis.
        self.bands: list[str] = list(self._reader.attributes["bands"])
        #: Pixels on a side.
        self.size = int(self._reader.attributes["size"])
        #: Whether fluxes are in nanomaggies.
        self.nanomaggies = self._reader.attributes.get("zero_point") == 22.5
        self._ids: list[str] = table["object_id"].tolist()
        self._tiles: list[str] = table["tile"].astype(str).tolist()
        self._number = {object_id: i for i, object_id in enumerate(self._ids)}
        self._rows = np.full(len(table), -1, np.int64)
        partitions = state.read_partitions(run)
        self._partitions = partitions["partition"].to_numpy()
        self._starts = partitions["start"].to_numpy()
        self._first = partitions["first_tile"].tolist()
        self._last = partitions["last_tile"].tolist()
        self._read: set[int] = set()
        self._lock = threading.Lock()

    def cutout(self, number: int) -> NDArray[np.float32]:
        """Pixels of a candidate, shape (size, size, bands), y up, NaN where there is none.

        Parameters
        ----------
        number : int
            In the table.

        Raises
        ------
        RunError
            If its cutout is not there.
        """
        with self._lock:
            row = self._row(number)
        return single.pixels(self._reader, row)

    def _row(self, number: int) -> int:
        if self._rows[number] < 0:
            tile = self._tiles[number]
            likely = [i for i, (a, b) in enumerate(zip(self._first, self._last, strict=True)) if _within(tile, a, b)]
            for i in [*likely, *range(len(self._starts))]:
                self._look(i)
                if self._rows[number] >= 0:
                    break
            else:
                raise RunError(
                    f"candidate {self._ids[number]} is not among the targets of {self._run}: its candidates.parquet is of "
                    "another plan. Rank again: survey_scan rank"
                )
        return int(self._rows[number])

    def _look(self, i: int) -> None:
        """Note the rows of all candidates in a partition."""
        if i in self._read:
            return
        path: Path = self._run.targets(int(self._partitions[i]))
        try:
            ids = pd.read_parquet(path, columns=["object_id"])["object_id"].astype(str)
        except OSError as error:
            raise RunError(f"{path} cannot be read ({error}). Plan again: survey_scan run with --redo plan") from None
        for row, object_id in enumerate(ids):
            number = self._number.get(object_id)
            if number is not None:
                self._rows[number] = self._starts[i] + row
        self._read.add(i)


def _within(tile: str, first: str, last: str) -> bool:
    """Whether a tile's targets may lie in a partition: tables are sorted by tile, targets without one stand last."""
    lowest, highest, sought = ((not name, name) for name in (first, last, tile))
    return lowest <= sought <= highest
