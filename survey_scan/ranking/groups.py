"""One galaxy, several rows: friends-of-friends on the sky.

An object that lies on two tiles, in two releases (North and South), or that was shredded into pieces, can stand in the
catalogue, and so among the candidates, more than once. The best of each group leads; the others say whom they double.
No row goes.
"""

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from survey_scan.config import LINKING_LENGTH
from survey_scan.schema import Column

#: What :func:`duplicates` says of each row.
COLUMNS: tuple[Column, ...] = (
    Column("group", None, "meta.id.assoc", "rows with the same number are one thing on the sky"),
    Column("n_group", None, "meta.number", "rows of the group"),
    Column("leader", None, "meta.code", "best of its group"),
    Column("duplicate_of", None, "meta.id.assoc", "object_id of the group's leader; empty for itself"),
)


def duplicates(table: pd.DataFrame, length: float = LINKING_LENGTH) -> pd.DataFrame:
    """Which rows of a ranked table are the same thing on the sky.

    Parameters
    ----------
    table : DataFrame
        ``object_id``, ``ra``, ``dec`` (degrees), best first.
    length : float
        Rows at most so far apart, arcseconds, are friends; friends of friends belong together, however far apart.

    Returns
    -------
    DataFrame
        With the index of ``table``: ``group`` (int64: 1 is the group of the best row, 2 of the best row outside it, and so on;
        a row without friends is a group too), ``n_group`` (int64, its rows), ``leader`` (bool, the first of its group),
        ``duplicate_of`` (str: the leader's ``object_id``; empty for a leader).
    """
    label = friends(table["ra"], table["dec"], length)
    _, first, group, size = np.unique(label, return_index=True, return_inverse=True, return_counts=True)
    number = np.empty(len(first), np.int64)
    number[np.argsort(first)] = np.arange(1, len(first) + 1)
    leads = first[group] == np.arange(len(table))
    ids = table["object_id"].astype(str).to_numpy(object)
    named: dict[str, Any] = {
        "group": number[group],
        "n_group": size[group].astype(np.int64),
        "leader": leads,
        "duplicate_of": pd.Series(np.where(leads, "", ids[first[group]]), table.index, dtype="str"),
    }
    return pd.DataFrame(named, index=table.index)


def friends(ra: ArrayLike, dec: ArrayLike, length: float) -> NDArray[np.int64]:
    """Label positions: those that are joined by steps of at most ``length`` share a number.

    Parameters
    ----------
    ra, dec : array_like of float, shape (n,)
        Degrees; any turn of right ascension. A position that is not finite has no friends.
    length : float
        Arcseconds, below 180 degrees.

    Returns
    -------
    ndarray of int64, shape (n,)
        From 0 on, in no particular order.
    """
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components
    from scipy.spatial import cKDTree

    points = unit_vectors(ra, dec)
    known = np.isfinite(points).all(axis=1)
    # what stands at one place comes as one point: pairs of n equal points would be n²/2
    places, at = np.unique(points[known], axis=0, return_inverse=True)
    pairs = cKDTree(places).query_pairs(chord(length), output_type="ndarray") if len(places) else np.empty((0, 2), int)
    graph = coo_array((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), shape=(len(places), len(places)))
    count, label = connected_components(graph, directed=False) if len(places) else (0, np.empty(0, int))
    found = np.empty(len(points), np.int64)
    found[known] = label[at.ravel()]
    found[~known] = count + np.arange((~known).sum())
    return found


def unit_vectors(ra: ArrayLike, dec: ArrayLike) -> NDArray[np.float64]:
    """Directions on the unit sphere, shape (n, 3), of positions in degrees; NaN where there is none.

    Their straight distances (:func:`chord`) know neither poles nor where right ascension begins.
    """
    alpha, delta = np.deg2rad(np.asarray(ra, np.float64)), np.deg2rad(np.asarray(dec, np.float64))
    return np.stack([np.cos(delta) * np.cos(alpha), np.cos(delta) * np.sin(alpha), np.sin(delta)], axis=1)


def chord(angle: float) -> float:
    """Straight distance, on the unit sphere, of two points so many arcseconds apart."""
    return float(2 * np.sin(np.deg2rad(angle / 3600) / 2))


def angle(distance: NDArray[np.float64]) -> NDArray[np.float64]:
    """Arcseconds between points of the unit sphere at a straight distance; the inverse of :func:`chord`."""
    found: NDArray[np.float64] = np.rad2deg(2 * np.arcsin(np.minimum(distance / 2, 1))) * 3600
    return found
