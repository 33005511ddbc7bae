"""What Dask calls when a run is ranked: each function reads the scores of some partitions, and returns little."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import reduce
from operator import add
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey_scan import ranking, scores
from survey_scan.combination import Combination, Ranks, column
from survey_scan.config import Config, Ranking
from survey_scan.engine import state
from survey_scan.layout import RunDirectory
from survey_scan.ranking import summary
from survey_scan.views import drift as drifting
from survey_scan.views.drift import Counted

#: Rows a ``rank`` task chooses before it ranks them and goes on with the best.
CHOSEN_ROWS = 1 << 17


def top(path: str, config: Config, partitions: Sequence[int], lowest: float = -np.inf) -> pd.DataFrame:
    """The best targets of some partitions, at most as many as there will be candidates.

    Parameters
    ----------
    path, config, partitions
        The run directory, its configuration, and which partitions; one at least.
    lowest : float
        A logit that none of the run's best is below, where one is known: tables without a higher one are read no further.
    """
    run = RunDirectory(Path(path))
    return _top(run, config, ((p, scores.footer(run.scores(p))) for p in partitions), lowest)


def top_and_counts(
    path: str,
    config: Config,
    partitions: Sequence[int],
    promising: Collection[int],
    lowest: float,
    names: Sequence[str],
) -> tuple[pd.DataFrame | None, Counted]:
    """The best targets of some partitions, and how their logits are distributed; each score table is opened once.

    Parameters
    ----------
    path, config, partitions
        The run directory, its configuration, and which partitions.
    promising : collection of int
        Those of them that may have any of the best.
    lowest : float
        As for :func:`top`.
    names : sequence of str
        By what logits are counted: ``tile``, ``seeing``; nothing of what is not promising is opened if by neither.

    Returns
    -------
    DataFrame or None
        None if no partition is promising.
    dict
        As :func:`survey_scan.views.drift.count` returns it.
    """
    run = RunDirectory(Path(path))
    # One step after the other for all partitions: each finds its code in the processor's cache, which takes a third less.
    footers = {p: scores.footer(run.scores(p)) for p in (partitions if names else sorted(promising))}
    counting = drifting.Counting(run, names)
    for p, footer in footers.items():
        counting.add(p, footer)
    own = [(p, footer) for p, footer in footers.items() if p in promising]
    return (_top(run, config, own, lowest) if own else None), counting.found


def _top(
    run: RunDirectory, config: Config, footers: Iterable[tuple[int, Mapping[bytes, bytes]]], lowest: float
) -> pd.DataFrame:
    """The best by the footers of score tables, and by the tables where these do not say enough; see :func:`top`."""
    combination = state.combination(run, config)
    best: list[pd.DataFrame] = []
    chosen: list[tuple[pa.Table, dict[str, NDArray[Any]]]] = []
    n = 0  # rows chosen
    for p, footer in footers:
        short = summary.best(footer)
        first = not (best or chosen)  # one at least is chosen, for its columns
        if short is not None and lowest > short.beyond:  # no other row of it can be among the best
            if first or (short.scored["logit"] >= lowest).any():
                chosen.append((short.targets, short.scored))
                n += len(short.targets)
        else:
            file = scores.opened(run.scores(p))
            scored = _logits(file, combination)
            rows = ranking.possible(scored["logit"], scored["status"], config.ranking, lowest)
            if first or len(rows):
                targets = scores.opened(run.targets(p)).read(use_threads=False)
                ids = file.read(["object_id"], use_threads=False)
                ranking.check_same(targets["object_id"].to_numpy(), ids["object_id"].to_numpy())
                chosen.append((targets.take(rows), {name: values[rows] for name, values in scored.items()}))
                n += len(rows)
        if n >= CHOSEN_ROWS:
            best, chosen, n = [ranking.merge([*best, _ranked(chosen, config.ranking, lowest)], config.ranking)], [], 0
            if len(best[0]) == config.ranking.top:
                lowest = max(lowest, float(best[0]["logit"].iloc[-1]))
    return ranking.merge([*best, *([_ranked(chosen, config.ranking, lowest)] if chosen else [])], config.ranking)


def _ranked(chosen: list[tuple[pa.Table, dict[str, NDArray[Any]]]], rule: Ranking, lowest: float) -> pd.DataFrame:
    """The best of rows chosen from several partitions, made a data frame once: one of each takes as long as reading it."""
    tables = [table.replace_schema_metadata() for table, _ in chosen]
    columns = {name: np.concatenate([own[name] for _, own in chosen]) for name in chosen[0][1]}
    rows = ranking.possible(columns["logit"], columns["status"], rule, lowest)
    targets = pa.concat_tables(tables, promote_options="permissive").take(rows).to_pandas()
    return ranking.best(targets, {name: values[rows] for name, values in columns.items()}, rule)


def _logits(file: pq.ParquetFile, combination: Combination) -> dict[str, NDArray[Any]]:
    """The logits of a score table, with the one that its targets are ranked by, and its status."""
    table = file.read([*map(column, combination.names), "status"], use_threads=False)
    if combination.names == [""]:
        return {name: table[name].to_numpy() for name in table.column_names}
    return {str(name): values.to_numpy() for name, values in combination.apply(table.to_pandas()).items()}


def ranks(path: str, config: Config, partitions: Sequence[int]) -> Ranks:
    """How the networks' logits of some partitions are distributed."""
    run, names = RunDirectory(Path(path)), list(config.networks)
    return reduce(add, (Ranks.of(pd.read_parquet(run.scores(p)), names) for p in partitions))
