"""Known lenses: which candidates are among them, and which of them the scan found.

Positions are matched on the sphere. A radius of :data:`RADIUS` covers the errors of published centroids (1 to 2 arcsec) and
those that give the brightest image of a quasar instead of the lens; an unrelated known lens is as near to one candidate
in 600,000 (32,838 lenses over the whole sky).
"""

import importlib.util
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from survey_scan.errors import UserError
from survey_scan.ranking.groups import angle, chord, unit_vectors
from survey_scan.schema import Column

#: A candidate at most so far from a known lens is that lens, arcseconds.
RADIUS = 3.0

#: What :func:`match` and :func:`in_training` say of each row.
COLUMNS: tuple[Column, ...] = (
    Column("known_name", None, "meta.id.assoc", "nearest known lens; empty if none is near"),
    Column("known_grade", None, "meta.code.qual", "grade of that lens, by its own table"),
    Column("known_separation", "arcsec", "pos.angDistance", "from that lens"),
    Column("is_new", None, "meta.code", "no known lens is near"),
    Column("in_training", None, "meta.code", "the network was trained on it: its score says nothing"),
)


def lenscat() -> pd.DataFrame:
    """The lenses of the package lenscat (https://github.com/lenscat/lenscat), from its data file.

    Returns
    -------
    DataFrame
        ``name``, ``ra``, ``dec`` (degrees), ``grade`` (``confident`` or ``probable``).

    Raises
    ------
    UserError
        If the package is not installed, or has other data than version 1.1.

    Notes
    -----
    The file alone is read: importing the package would import those it needs for maps of gravitational waves.
    """
    spec = importlib.util.find_spec("lenscat")
    if spec is None or not spec.submodule_search_locations:
        raise UserError(
            "known lenses: the package lenscat is not installed. pip install 'survey_scan[known]' (or, for its data alone, "
            "pip install --no-deps lenscat), or name a table of your own."
        )
    path = Path(next(iter(spec.submodule_search_locations))) / "data" / "catalog.csv"
    columns = {"name": "name", "RA [deg]": "ra", "DEC [deg]": "dec", "grading": "grade"}
    try:
        table = pd.read_csv(path, usecols=list(columns), keep_default_na=False)
    except (OSError, ValueError) as error:
        raise UserError(f"known lenses: {path} cannot be read ({error}). Install lenscat 1.1 again.") from None
    return table.rename(columns=columns)[list(columns.values())]


def match(table: pd.DataFrame, known: pd.DataFrame, radius: float = RADIUS) -> pd.DataFrame:
    """The known lens nearest to each candidate.

    Parameters
    ----------
    table : DataFrame
        ``ra``, ``dec``, degrees.
    known : DataFrame
        ``name``, ``ra``, ``dec``, and ``grade`` if there is one. Rows without a position match nothing.
    radius : float
        Arcseconds.

    Returns
    -------
    DataFrame
        With the index of ``table``: ``known_name``, ``known_grade`` (str, empty where there is none within ``radius``),
        ``known_separation`` (float64, arcseconds; NaN), ``is_new`` (bool).
    """
    lenses = _placed(known)
    at = unit_vectors(table["ra"], table["dec"])
    there = np.isfinite(at).all(axis=1)
    separation, row = np.full(len(table), np.nan), np.zeros(len(table), np.intp)
    if len(lenses) and there.any():
        distance, row[there] = _tree(lenses).query(at[there])
        separation[there] = angle(distance)
    found = separation <= radius
    named: dict[str, Any] = {}
    for name in ("name", "grade"):
        texts = np.full(len(table), "", object)
        texts[found] = lenses[name].to_numpy(object)[row[found]]
        named[f"known_{name}"] = pd.Series(texts, table.index, dtype="str")
    return pd.DataFrame(
        {**named, "known_separation": np.where(found, separation, np.nan), "is_new": ~found}, index=table.index
    )


def in_training(table: pd.DataFrame, training: pd.DataFrame, radius: float = RADIUS) -> NDArray[np.bool_]:
    """Which rows the network saw in its training: their scores say nothing.

    Parameters
    ----------
    table : DataFrame
        ``object_id``, ``ra``, ``dec``.
    training : DataFrame
        ``ra`` and ``dec``, rows without a position matching nothing; if it has none, ``object_id``. A simulated set's
        ``object_id`` is the row of its store and means nothing in a survey, so that positions go first.
    radius : float
        Arcseconds.

    Raises
    ------
    UserError
        If it has neither.
    """
    if {"ra", "dec"} <= set(training):
        return ~match(table, training[["ra", "dec"]].assign(name=""), radius)["is_new"].to_numpy()
    if "object_id" not in training:
        raise UserError("training set: its table has neither 'ra' and 'dec' nor 'object_id'. Give it one of these.")
    return table["object_id"].astype(str).isin(set(training["object_id"].astype(str))).to_numpy()


def among_targets(known: pd.DataFrame, parts: Iterable[pd.DataFrame], radius: float = RADIUS) -> pd.DataFrame:
    """What became of each known lens in a scan.

    Parameters
    ----------
    known : DataFrame
        As for :func:`match`.
    parts : iterable of DataFrame
        The targets, a partition at a time: ``object_id``, ``ra``, ``dec``, ``logit``, ``status``. One at a time is held.
    radius : float
        Arcseconds.

    Returns
    -------
    DataFrame
        The rows of ``known`` that have a position (``name``, ``ra``, ``dec``, ``grade``), with ``targets`` (how many within
        ``radius``), and of the best of these ``object_id`` (str), ``logit`` (NaN without a score), ``status`` (-1 where
        no target is near) and ``separation`` (arcseconds).
    """
    from scipy.spatial import cKDTree

    lenses = _placed(known)
    n = len(lenses)
    targets, status = np.zeros(n, np.int64), np.full(n, -1, np.int64)
    logit, separation, ids = np.full(n, np.nan), np.full(n, np.nan), np.full(n, "", object)
    tree = _tree(lenses) if n else None
    for part in parts if tree is not None else ():
        points = unit_vectors(part["ra"], part["dec"])
        there = np.flatnonzero(np.isfinite(points).all(axis=1))
        if not len(there):
            continue
        pairs = cKDTree(points[there]).sparse_distance_matrix(tree, chord(radius), output_type="ndarray")
        near = pd.DataFrame({"lens": pairs["j"], "row": there[pairs["i"]], "distance": pairs["v"]})
        np.add.at(targets, near["lens"].to_numpy(), 1)
        near["logit"] = part["logit"].to_numpy(np.float64)[near["row"]]
        best = near.sort_values(["logit", "distance", "row"], ascending=[False, True, True]).drop_duplicates("lens")
        j = best["lens"].to_numpy()
        # NaN is better than nothing, any logit better than NaN
        better = (status[j] < 0) | (best["logit"].to_numpy() > np.where(np.isnan(logit[j]), -np.inf, logit[j]))
        j, best = j[better], best[better]
        rows = best["row"].to_numpy()
        status[j], logit[j] = part["status"].to_numpy()[rows], best["logit"]
        separation[j], ids[j] = angle(best["distance"].to_numpy()), part["object_id"].astype(str).to_numpy(object)[rows]
    return lenses.assign(
        targets=targets, object_id=pd.Series(ids, dtype="str"), logit=logit, status=status, separation=separation
    )


def ranks(logit: ArrayLike, parts: Iterable[ArrayLike]) -> NDArray[np.int64]:
    """At which place of a whole scan logits stand: 1 and how many are higher.

    Parameters
    ----------
    logit : array_like of float
        Some; NaN has no place.
    parts : iterable of array_like of float
        The logits of all scored targets, a partition at a time.

    Returns
    -------
    ndarray of int64
        0 where ``logit`` is NaN. Equal logits share the best of their places.
    """
    wanted = np.asarray(logit, np.float64)
    known = np.flatnonzero(~np.isnan(wanted))
    order = known[np.argsort(wanted[known], kind="stable")]
    steps = np.zeros(len(order) + 1, np.int64)
    for part in parts:
        values = np.asarray(part, np.float64)
        below = np.searchsorted(wanted[order], values[~np.isnan(values)], side="left")  # higher than so many of them
        steps += np.bincount(below, minlength=len(steps))
    place = np.zeros(len(wanted), np.int64)
    place[order] = 1 + np.cumsum(steps[::-1])[::-1][1:]
    return place


def recall(found: pd.DataFrame, candidates: Collection[Any]) -> pd.DataFrame:
    """How many of the known lenses among the targets became candidates, by grade.

    Parameters
    ----------
    found : DataFrame
        From :func:`among_targets`, perhaps with ``rank`` (:func:`ranks`) and ``in_training`` (:func:`in_training`).
    candidates : collection
        ``object_id`` of the candidates.

    Returns
    -------
    DataFrame
        A row a grade, sorted, then ``all``: ``grade``, ``known`` (with a target), ``in_training`` (of these; the columns after
        it leave them out), ``scored``, ``candidates``, ``recall`` (candidates of all not in training; NaN of none),
        ``median_rank`` (of those with a score, wherever they stand; NaN of none).
    """
    reached = found[found["targets"] > 0]
    leaked = reached["in_training"].to_numpy(bool) if "in_training" in reached else np.zeros(len(reached), bool)
    ids = set(map(str, candidates))
    facts = reached.assign(
        leaked=leaked,
        scored=reached["logit"].notna().to_numpy() & ~leaked,
        candidate=reached["object_id"].isin(ids).to_numpy() & ~leaked,
        place=reached["rank"].where(reached["rank"] > 0).astype(float) if "rank" in reached else np.nan,
    )
    rows = []
    for grade, some in [*facts.groupby("grade", sort=True), ("all", facts)]:
        honest, hits = int((~some["leaked"]).sum()), int(some["candidate"].sum())
        places = some["place"][some["scored"]]
        rows.append(
            {
                "grade": str(grade),
                "known": len(some),
                "in_training": int(some["leaked"].sum()),
                "scored": int(some["scored"].sum()),
                "candidates": hits,
                "recall": hits / honest if honest else np.nan,
                "median_rank": float(places.median()) if places.notna().any() else np.nan,
            }
        )
    return pd.DataFrame(rows)


def sentences(table: pd.DataFrame) -> Iterator[str]:
    """A recall table in words, a line a grade: ``confident  8 of 10 known lenses are candidates, median rank 12``."""
    for row in table.to_dict("records"):
        honest = row["known"] - row["in_training"]
        place = "" if np.isnan(row["median_rank"]) else f", median rank {row['median_rank']:,.0f}"
        leak = f"; {row['in_training']:,} more stood in the training set" if row["in_training"] else ""
        grade = row["grade"] or "no grade"
        if not honest:
            yield f"{grade:<10}  no known lens lies among the targets{leak}"
            continue
        yield f"{grade:<10}  {row['candidates']:,} of {honest:,} known lenses among the targets are candidates{place}{leak}"


def _placed(known: pd.DataFrame) -> pd.DataFrame:
    """The rows with a position; ``grade`` as text, empty if there is none."""
    texts = {
        name: known[name].astype(object).where(known[name].notna(), "").astype(str) if name in known else ""
        for name in ("name", "grade")
    }
    table = known[["ra", "dec"]].astype(np.float64).assign(**texts)
    there = np.isfinite(table["ra"]) & np.isfinite(table["dec"])
    placed: pd.DataFrame = table.loc[there, ["name", "ra", "dec", "grade"]].reset_index(drop=True)
    return placed


def _tree(lenses: pd.DataFrame) -> Any:
    from scipy.spatial import cKDTree

    return cKDTree(unit_vectors(lenses["ra"], lenses["dec"]))
