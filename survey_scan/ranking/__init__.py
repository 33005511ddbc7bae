"""Scores to candidates: the best of every partition, merged; no process holds more than a few tables of the best."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
from numpy.typing import NDArray

from survey_scan import records
from survey_scan.config import Ranking
from survey_scan.errors import RunError
from survey_scan.identity import Key
from survey_scan.layout import RunDirectory
from survey_scan.ranking import budget
from survey_scan.ranking.candidates import write_candidates, write_failures
from survey_scan.schema import Column, Status

#: Raised by hand when the same scores would give other candidates.
RANKING_VERSION = 2

#: Highest first; the same logit by identifier (numbers by value, texts by code points), then by place on the sky.
ORDER = {"logit": False, "object_id": True, "ra": True, "dec": True}


def probability(logit: NDArray[Any]) -> NDArray[np.float64]:
    """Sigmoid in float64, which tells logits apart up to about 36.

    Parameters
    ----------
    logit : ndarray
        Any shape; NaN stays NaN.
    """
    x = np.asarray(logit, np.float64)
    e = np.exp(-np.abs(x))
    score: NDArray[np.float64] = np.where(x >= 0, 1, e) / (1 + e)
    return score


def top(targets: pd.DataFrame, scores: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    """The best targets of one partition.

    Parameters
    ----------
    targets, scores : DataFrame
        Tables of the same partition, row by row.
    ranking : config.Ranking
        How many, and the lowest score: ``score >= threshold`` for the ``score`` of the candidate table.

    Returns
    -------
    DataFrame
        The columns of ``targets``, then the ``logit_NAME`` of several networks, ``score``, ``logit``, ``status``; ranked.

    Raises
    ------
    RunError
        If the tables are not of the same targets.
    """
    check_same(targets["object_id"].to_numpy(), scores["object_id"].to_numpy())
    columns = {str(name): column.to_numpy() for name, column in scores.items()}
    rows = possible(columns["logit"], columns["status"], ranking)
    return best(targets.iloc[rows], {name: values[rows] for name, values in columns.items()}, ranking)


def possible(
    logit: NDArray[np.float32], status: NDArray[np.uint8], ranking: Ranking, lowest: float = -np.inf
) -> NDArray[np.intp]:
    """Rows of one partition that can be among the best.

    Parameters
    ----------
    logit, status : ndarray, shape (n,)
        Of its score table.
    ranking : config.Ranking
        As for :func:`top`.
    lowest : float
        A logit that none of the best of the whole run is below, where one is known.
    """
    rows = np.flatnonzero((status == Status.OK) & np.isfinite(logit) & (logit >= lowest))
    if ranking.threshold is not None:
        rows = rows[probability(logit[rows]) >= ranking.threshold]
    if len(rows) > ranking.top:  # nothing below the K-th logit can matter; what ties with it can
        rows = rows[logit[rows] >= np.partition(logit[rows], -ranking.top)[-ranking.top]]
    return rows


def check_same(targets: NDArray[Any], scored: NDArray[Any]) -> None:
    """See that two tables are of the same targets, by their identifiers.

    Raises
    ------
    RunError
        If they are not.
    """
    if len(targets) != len(scored) or not (targets == scored).all():
        raise RunError("a score table is not of its partition's targets. Run again with '--redo scores'.")


def best(targets: pd.DataFrame, scores: Mapping[str, NDArray[Any]], ranking: Ranking) -> pd.DataFrame:
    """Targets with their scores, ranked; as :func:`top` returns them.

    Parameters
    ----------
    targets : DataFrame
        Rows of :func:`possible`, of any partitions.
    scores : mapping
        Columns of their score tables, row by row.
    ranking : config.Ranking
        As for :func:`top`.
    """
    members = {name: values for name, values in scores.items() if name.startswith("logit_")}
    own = {"score": probability(scores["logit"]), "logit": scores["logit"], "status": scores["status"]}
    return _best(targets.assign(**members, **own), ranking)


def merge(tables: Sequence[pd.DataFrame], ranking: Ranking) -> pd.DataFrame:
    """The best of several tables of the best.

    The result is that of ranking everything at once, however the partitions are grouped and in whatever order.

    Parameters
    ----------
    tables : sequence of DataFrame
        At least one, from :func:`top` or :func:`merge`.
    ranking : config.Ranking
        The same for all.
    """
    filled = [table for table in tables if len(table)] or list(tables[:1])
    return _best(pd.concat(filled, ignore_index=True), ranking)


def failures(targets: pd.DataFrame, scores: pd.DataFrame) -> pd.DataFrame:
    """Targets of one partition that something kept from a score: ``object_id, ra, dec, tile, status, reason``.

    Those a cascade set aside are none: their first network's logit stands in the score table.

    Parameters
    ----------
    targets, scores : DataFrame
        Tables of the same partition, row by row.
    """
    status = scores["status"].to_numpy()
    rows = np.flatnonzero(~np.isin(status, (Status.OK, Status.SET_ASIDE)))
    table = targets[["object_id", "ra", "dec", "tile"]].iloc[rows]
    reasons = [Status(int(code)).reason for code in status[rows]]
    return table.assign(status=status[rows], reason=pd.Series(reasons, table.index, dtype=str)).reset_index(drop=True)


def finish(
    run: RunDirectory,
    best: pd.DataFrame,
    done: Mapping[int, Mapping[str, Any]],
    key: Key,
    described: Mapping[str, Column] | None = None,
) -> None:
    """Write the candidates, the failures and the record of the ranking.

    Parameters
    ----------
    run : RunDirectory
        With all scores.
    best : DataFrame
        The best targets of the whole run.
    done : mapping
        Partition → record of its scores; partitions whose record counts no failure are not read again.
    key : dict
        What the ranking depends on.
    described : mapping, optional
        What columns of ``best`` are that targets do not have.
    """
    last = None
    if run.candidates_parquet.exists():
        last = pd.read_parquet(run.candidates_parquet, columns=["object_id"])["object_id"]
    records.forget(run.ranking_record)
    known = _described(run.targets(min(done))) if done else {}
    write_candidates(best, run.candidates_parquet, run.candidates_fits, {**known, **(described or {})})
    no_failure = {str(int(status)) for status in (Status.OK, Status.SET_ASIDE)}
    failed = [p for p in sorted(done) if set(done[p]["status"]) - no_failure]
    columns = ["object_id", "ra", "dec", "tile"]
    pairs = ((pd.read_parquet(run.targets(p), columns=columns), pd.read_parquet(run.scores(p))) for p in failed)
    rows = write_failures((failures(targets, scores) for targets, scores in pairs), run.failures)
    facts: dict[str, Any] = {"candidates": len(best), "failures": rows}
    if last is not None:
        facts["overlap"] = budget.overlap(last, best["object_id"])._asdict()
    records.write(run.ranking_record, key, facts)


def _described(targets: Path) -> dict[str, Column]:
    """Units and UCDs of columns, as a target table has them."""
    fields = [(field.name, field.metadata or {}) for field in pq.read_schema(targets)]
    return {
        name: Column(name, facts.get(b"unit", b"").decode() or None, facts.get(b"ucd", b"").decode() or None, "")
        for name, facts in fields
        if facts
    }


def _best(table: pd.DataFrame, ranking: Ranking) -> pd.DataFrame:
    ranked = table.sort_values(list(ORDER), ascending=list(ORDER.values()), kind="stable", ignore_index=True)
    return ranked.head(ranking.top)
