"""Read a whole run again and say whether its parts belong together."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd

from survey_scan import scores as scoring
from survey_scan import store
from survey_scan.combination import column
from survey_scan.config import Config
from survey_scan.config_file import load
from survey_scan.engine import account, rank_tasks, state
from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
from survey_scan.plan import targets_digest
from survey_scan.schema import Status


def verify(run: RunDirectory) -> dict[str, Any]:
    """Check every finished partition and the ranking.

    Targets against their digest; the shard's checksums; ids and status row by row between targets, store and scores;
    the candidates against a ranking made anew.

    Returns
    -------
    dict
        ``ok``, how many partitions were read, and the problems as texts.

    Raises
    ------
    RunError
        If this is no planned run directory.
    """
    state.read_manifest(run)
    config = load(run.config_resolved)
    standing = state.standing(run, config)
    found: list[str] = []
    for p, digest in zip(standing.partitions["partition"].tolist(), standing.partitions["targets_digest"], strict=True):
        found += _partition(run, config, standing, p, digest)
    if standing.complete and not found:  # a ranking of damaged scores says nothing
        found += _ranking(run, standing)
    counts = account.counts(run, standing)
    return {
        "run": str(run),
        "ok": not found,
        "partitions": len(standing.partitions),
        "cutouts": len(standing.done["cutouts"]),
        "scores": len(standing.done["scores"]),
        "complete": standing.complete,
        "counts": counts,
        "problems": found,
    }


def _partition(run: RunDirectory, config: Config, standing: state.Standing, p: int, digest: str) -> Iterator[str]:
    try:
        targets = pd.read_parquet(run.targets(p))
    except (OSError, ValueError) as error:
        yield f"targets {p:05d}: {error}"
        return
    if targets_digest(targets) != digest:
        yield f"targets {p:05d}: the content differs from its digest in {run.partitions}"
    cut = kept = None
    if p in standing.done["cutouts"] and config.cutouts.store != "none":
        start = p * config.cutouts.partition
        stop = start + len(targets)
        try:
            reader = store.Reader(run.store)
            kept = reader.kept(start, stop)
            if len(there := np.flatnonzero(kept)):
                reader.read(start + int(there[0]), start + int(there[-1]) + 1)
            cut = reader.column("status", start, stop)
            same = np.array_equal(reader.column("object_id", start, stop), targets["object_id"].to_numpy())
        except RunError as error:
            yield f"cutouts {p:05d}: {error}"
        else:
            if not same:
                yield f"cutouts {p:05d}: object_id differs from the targets"
    if p in standing.done["scores"]:
        try:
            scores = pd.read_parquet(run.scores(p))
        except (OSError, ValueError) as error:
            yield f"scores {p:05d}: {error}"
            return
        if not scores["object_id"].equals(targets["object_id"]):
            yield f"scores {p:05d}: object_id differs from the targets"
        status = scores["status"].to_numpy()
        own = np.isin(status, (Status.NOT_FINITE, Status.SET_ASIDE))  # what scoring has found out
        if cut is not None and not np.array_equal(np.where(own, Status.OK, status), cut):
            yield f"scores {p:05d}: status differs from the cutouts"
        names, above = [column(name) for name in config.networks], config.cutouts.above
        if kept is not None and above is not None and not np.array_equal(kept, scoring.kept(scores, names, above)):
            yield f"cutouts {p:05d}: other cutouts are kept than those with a logit of at least {above:g}"
        finite = np.isfinite(scores.filter(regex="^logit").to_numpy()).all(axis=1)
        if not np.array_equal(finite, status == Status.OK):
            yield f"scores {p:05d}: a logit without status ok, or the other way round"


def _ranking(run: RunDirectory, standing: state.Standing) -> Iterator[str]:
    config = load(run.config_resolved)
    again = rank_tasks.top(str(run), config, standing.partitions["partition"].tolist())
    candidates = pd.read_parquet(run.candidates_parquet)
    if not candidates["object_id"].equals(again["object_id"]):
        yield f"{run.candidates_parquet.name}: ranking the scores again gives other candidates"
