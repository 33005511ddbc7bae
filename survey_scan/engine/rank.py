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
from survey_scan.engine import rank_tasks
from survey_scan.engine.annotate import annotate
from survey_scan.engine.state import Standing
from survey_scan.layout import RunDirectory
from survey_scan.views import drift as drifting
from survey_scan.watch import bins

if TYPE_CHECKING:
    from distributed import Client

#: Partitions that one ``rank`` task reads.
RANK_GROUP = 1024


def rank(config: Config, run: RunDirectory, standing: Standing, client: "Client | None") -> None:
    """Merge the scores of all partitions into the candidates, and compare those of the tiles, in one pass over the score tables.

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
        calls = [_call(client, "ranks", i, rank_tasks.ranks, str(run), config, group) for i, group in enumerate(groups)]
        reduce(add, (one if client is None else one.result() for one in calls)).write(run.ranks)
    tiles = pd.read_parquet(run.tiles, columns=["n_targets"])["n_targets"]
    many = int((tiles > 0).sum()) > drifting.MOST_TILES
    best, counted = best_of(config, run, standing, client, ["seeing"] if many else ["tile", "seeing"])
    drifting.write(drifting.tables(counted), run.drift)
    best, described = annotate(config, best)
    ranking.finish(run, best, standing.done["scores"], standing.ranking_key, described)


def best_of(
    config: Config, run: RunDirectory, standing: Standing, client: "Client | None", names: Sequence[str] = ()
) -> tuple[pd.DataFrame, drifting.Counted]:
    """The best targets of a run, and how logits are distributed; the parameters but the last are those of :func:`rank`.

    Parameters
    ----------
    names : sequence of str
        By what logits are counted. Without any, partitions that cannot hold any of the best, by what their records count, are
        not read.
    """
    lowest, promising = _promising(config, standing)
    numbers = standing.partitions["partition"].tolist()
    promising = promising or set(numbers[:1])  # one at least, for its columns
    groups = [(group, promising.intersection(group)) for group in _groups(numbers)]
    calls = [
        _call(client, "rank", i, rank_tasks.top_and_counts, str(run), config, group, some, lowest, names)
        for i, (group, some) in enumerate(groups)
        if some or names
    ]
    best: list[pd.DataFrame] = []
    counted: drifting.Counted = {}
    for more, found in calls if client is None else _results(calls):  # merged as they come: only the best are held
        best = best if more is None else [ranking.merge([*best, more], config.ranking)]
        for name, counts in found.items():
            drifting.add(counted.setdefault(name, {}), counts)
    return best[0], counted


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
