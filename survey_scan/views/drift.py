"""Where in a run scores are distributed otherwise than elsewhere."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from survey_scan import records
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
    """Count the logits of some partitions by ``tile``, ``seeing`` and columns of the targets.

    By the first two alone they are counted already where they were scored, but for partitions of an older run.
    """
    seeing = {tile: label for tile, label in drifting.seeing(pd.read_parquet(run.tiles)).items() if label}
    found: Counted = {name: {} for name in names if name != "seeing" or seeing}
    columns = [name for name in names if name not in ("tile", "seeing")]
    others = partitions if columns else [p for p in partitions if not _counted(run, p, found, seeing)]
    for part in parts.scored(run, ["tile", *columns], others):
        for name, total in found.items():
            group = part["tile"].map(seeing) if name == "seeing" else part[name]
            group = group.astype(object).where(group.notna(), "").astype(str)
            logit = part["logit"].where(group != "") if name in ("tile", "seeing") else part["logit"]
            add(total, drifting.count(logit, group))
    return found


def _counted(run: RunDirectory, partition: int, found: Counted, seeing: Mapping[Any, str]) -> bool:
    """Add what the footer of a score table counts; False if it does not."""
    with pa.OSFile(str(run.scores(partition))) as file:
        tiles = summary.counts(pq.ParquetFile(file, pre_buffer=False).metadata.metadata)
    if tiles is None:
        return False
    for tile, bins, counts in tiles:
        for name, total in found.items():
            if group := seeing.get(tile) if name == "seeing" else tile:
                if group not in total:
                    total[group] = np.zeros(drifting.BINS, np.int64)
                total[group][bins] += counts
    return True


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
