"""From the scores of all partitions to the candidates, and what is said of them; on Dask, or in this process."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survey_scan import ranking
from survey_scan.combination import Combination
from survey_scan.config import Config
from survey_scan.engine import tasks
from survey_scan.engine.annotate import annotate
from survey_scan.engine.state import Standing
from survey_scan.layout import RunDirectory
from survey_scan.views import drift as drifting
from survey_scan.watch import bins

if TYPE_CHECKING:
    from distributed import Client

#: Partitions whose best targets one ``rank`` task merges, and tables one ``merge`` task merges.
RANK_GROUP, MERGE_FAN_IN = 1024, 8


def rank(config: Config, run: RunDirectory, standing: Standing, client: "Client | None") -> None:
    """Merge the scores of all partitions into the candidates, in a tree whose nodes hold only the best.

    Parameters
    ----------
    config : Config
        Its ranking section.
    run : RunDirectory
        With all scores.
    standing : Standing
        Of that run.
    client : Client or None
        Where the tasks run; None does them here.
    """
    groups = _groups(standing.partitions["partition"].tolist())
    if config.ranking.combine == "mean_rank":
        counted = [_call(client, "ranks", i, tasks.ranks, str(run), group) for i, group in enumerate(groups)]
        reduce(add, (one if client is None else one.result() for one in counted)).write(run.ranks)
    best = best_of(config, run, standing, client)
    drift(run, standing.partitions["partition"].tolist(), client)
    best, described = annotate(config, best)
    ranking.finish(run, best, standing.done["scores"], standing.ranking_key, described)


def best_of(config: Config, run: RunDirectory, standing: Standing, client: "Client | None") -> pd.DataFrame:
    """The best targets of a run; the parameters are those of :func:`rank`.

    Partitions that cannot hold any, by what their records count, are not read.
    """
    lowest, promising = _promising(config, standing)
    numbers = [p for p in standing.partitions["partition"].tolist() if p in promising]
    groups = _groups(numbers or standing.partitions["partition"].tolist()[:1])
    tables: list[Any] = [_call(client, "rank", i, tasks.top, str(run), group, lowest) for i, group in enumerate(groups)]
    level = 0
    while len(tables) > 1:
        level += 1
        parts = [tables[i : i + MERGE_FAN_IN] for i in range(0, len(tables), MERGE_FAN_IN)]
        tables = [_call(client, f"rank-merge{level}", i, tasks.merge, str(run), part) for i, part in enumerate(parts)]
    best: pd.DataFrame = tables[0] if client is None else tables[0].result()
    return best


def _groups(numbers: Sequence[int]) -> list[list[int]]:
    return [list(numbers[i : i + RANK_GROUP]) for i in range(0, len(numbers), RANK_GROUP)]


def _promising(config: Config, standing: Standing) -> tuple[float, set[int]]:
    """A logit that none of the best is below, and the partitions with higher ones, by what the records count.

    Where targets are not ranked by a network's own logit, or a record is too old to count them, all are promising.
    """
    done = standing.done["scores"]
    if Combination(config).by != "last":
        return -np.inf, set(done)
    total, numbers = Counter[str](), dict[int, list[int]]()
    for p, record in done.items():  # once: to parse them takes as long as what is spared
        if "logits" not in record:
            return -np.inf, set(done)
        total.update(record["logits"])
        numbers[p] = [max(map(int, record["logits"]))] if record["logits"] else []
    lowest = bins.lowest_of_highest([total], config.ranking.top)
    return lowest, {p for p, highest in numbers.items() if bins.reach(highest, lowest)}


def drift(run: RunDirectory, partitions: Sequence[int], client: "Client | None") -> None:
    """Compare the scores of the tiles, and of the bins of seeing; of very many tiles only the latter."""
    names = ["tile", "seeing"]
    if int((pd.read_parquet(run.tiles, columns=["n_targets"])["n_targets"] > 0).sum()) > drifting.MOST_TILES:
        names = ["seeing"]
    calls = [
        _call(client, "drift", i, tasks.drift, str(run), group, names) for i, group in enumerate(_groups(partitions))
    ]
    counted: drifting.Counted = {}
    for found in calls if client is None else _results(calls):  # added up as they come: only the sum is held
        for name, more in found.items():
            drifting.add(counted.setdefault(name, {}), more)
    drifting.write(drifting.tables(counted), run.drift)


def _results(futures: list[Any]) -> Iterator[Any]:
    """Results in the order they come, each forgotten by its worker then."""
    from distributed import as_completed

    for batch in as_completed(futures, with_results=True).batches():
        for future, result in batch:
            yield result
            future.release()


def _call(client: "Client | None", name: str, number: int, function: Callable[..., Any], *arguments: Any) -> Any:
    if client is None:
        return function(*arguments)
    return client.submit(function, *arguments, key=f"{name}-{number:05d}", pure=False)
