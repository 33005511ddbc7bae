"""Where in a run scores are distributed otherwise than elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey_scan import records, scores
from survey_scan.engine import state
from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
from survey_scan.ranking import drift as drifting
from survey_scan.ranking import summary
from survey_scan.views import parts

#: Tiles up to which they are compared at the end of a scan: their counts take 15 kB each.
MOST_TILES = 20_000

#: What is counted → group → counts.
Counted = dict[str, drifting.Counts]


def drift(run: RunDirectory, by: Sequence[str] = ()) -> dict[str, pd.DataFrame]:
    """Compare tiles, bins of seeing, and what columns tell apart, in one pass over the scores.

    Parameters
    ----------
    run : RunDirectory
        All of whose partitions are scored.
    by : sequence of str
        Columns of the targets, such as ``release``: a footprint each value.

    Returns
    -------
    dict
        ``tile``, ``seeing`` (if the width of the point spread function is known of some tile) and each of ``by`` → the
        table of :func:`survey_scan.ranking.drift.table`. Targets without a tile are left out of the first two.

    Raises
    ------
    RunError
        If there is no such column, or scores are missing.
    """
    _check(run, by)
    numbers = state.read_partitions(run)["partition"].tolist()
    parts.check(run, numbers)
    return tables(count(run, numbers, ("tile", "seeing", *by)))


def count(run: RunDirectory, partitions: Sequence[int], names: Sequence[str]) -> Counted:
    """Count the logits of some partitions by ``tile``, ``seeing`` and columns of the targets."""
    counting = Counting(run, names)
    for p in partitions:
        counting.add(p)
    return counting.found


class Counting:
    """Counts logits, partition by partition.

    By tile and seeing alone they are counted already where they were scored, but for partitions of an older run.

    Parameters
    ----------
    run : RunDirectory
        Whose.
    names : sequence of str
        ``tile``, ``seeing``, columns of the targets.

    Attributes
    ----------
    found : dict
        The counts; without ``seeing`` if that is not known of any tile.
    """

    def __init__(self, run: RunDirectory, names: Sequence[str]) -> None:
        table = pd.read_parquet(run.tiles) if "seeing" in names else None
        seeing = {} if table is None else {tile: label for tile, label in drifting.seeing(table).items() if label}
        self._run, self._seeing = run, seeing
        self._columns = [name for name in names if name not in ("tile", "seeing")]
        self.found: Counted = {name: {} for name in names if name != "seeing" or seeing}

    def add(self, partition: int, footer: Mapping[bytes, bytes] | None = None) -> None:
        """Count a partition's logits; the footer of its score table is read if it is not yet."""
        if not self.found:
            return
        if not self._columns:
            if footer is None:
                footer = scores.footer(self._run.scores(partition))
            if (tiles := summary.counts(footer)) is not None:
                for tile, bins, counts in tiles:
                    self._add_tile(tile, bins, counts)
                return
        for part in parts.scored(self._run, ["tile", *self._columns], [partition]):
            for name, total in self.found.items():
                group = part["tile"].map(self._seeing) if name == "seeing" else part[name]
                group = group.astype(object).where(group.notna(), "").astype(str)
                logit = part["logit"].where(group != "") if name in ("tile", "seeing") else part["logit"]
                add(total, drifting.count(logit, group))

    def _add_tile(self, tile: str, bins: NDArray[Any], counts: NDArray[Any]) -> None:
        for name, total in self.found.items():
            if group := self._seeing.get(tile) if name == "seeing" else tile:
                if group not in total:
                    total[group] = np.zeros(drifting.BINS, np.int64)
                total[group][bins] += counts


def add(total: drifting.Counts, more: drifting.Counts) -> None:
    """Add counts to others, in place."""
    for own, counts in more.items():
        total[own] = total[own] + counts if own in total else counts


def tables(counted: Counted) -> dict[str, pd.DataFrame]:
    """The groups of each kind, compared."""
    return {name: drifting.table(dict(sorted(counts.items()))) for name, counts in counted.items() if counts}


def write(found: dict[str, pd.DataFrame], path: Path) -> None:
    """Keep them as one CSV, with a column ``by`` that says which kind of group a row is."""
    every = [table.assign(by=name) for name, table in found.items()]
    text = pd.concat(every, ignore_index=True).to_csv(index=False, float_format="%.6g") if every else "by\n"
    records.write_atomically(path, text.encode())


def read(path: Path) -> dict[str, pd.DataFrame]:
    """What :func:`write` kept."""
    table = pd.read_csv(path, dtype={"group": str, "by": str}, keep_default_na=True)
    return {str(name): rows.drop(columns="by") for name, rows in table.groupby("by", sort=False)}


def show(found: dict[str, pd.DataFrame], say: Callable[[str], None], most: int = 20) -> None:
    """Print the quantiles of all groups (of many, only of those that are named), then what is out of line."""
    for name, table in found.items():
        shown = table if len(table) <= most else table[table["named"]]
        width = max([len(name), *shown["group"].astype(str).str.len()])
        say(
            f"{name:<{width}}  {'scored':>9} {'50 %':>8} {'90 %':>8} {'99 %':>8} {'99.9 %':>8} {'top 1 %':>8} {'expected':>8}"
        )
        for row in shown.to_dict("records"):
            numbers = "".join(f" {_number(row[q], '.2f'):>8}" for q in ("q0.5", "q0.9", "q0.99", "q0.999"))
            say(
                f"{row['group']:<{width}}  {row['scored']:>9,}{numbers} {row['top']:>8,} {_number(row['expected'], ',.0f'):>8}"
            )
        if len(shown) < len(table):
            say(f"  {len(table) - len(shown):,} more, none of which is out of line")
        lines = list(drifting.sentences(table, name))
        for line in lines or [f"no {name} is out of line"]:
            say(f"drift       {line}")


def _number(value: float, form: str) -> str:
    return "-" if pd.isna(value) else format(value, form)


def _check(run: RunDirectory, by: Sequence[str]) -> None:
    numbers = state.read_partitions(run)["partition"].tolist()
    if not numbers:
        raise RunError(f"{run} has no targets.")
    names = pq.read_schema(run.targets(numbers[0])).names
    for column in by:
        if column not in names:
            raise RunError(
                f"{run} has no column '{column}' in its targets; it has: {', '.join(names)}. Keep it by selection.keep, and plan "
                "again."
            )
