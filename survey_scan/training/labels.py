"""Which rows of which stores are lenses, and which of them only judge."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.errors import UserError
from survey_scan.schema import Status
from survey_scan.store import UNWRITTEN


@dataclass(frozen=True)
class Rows:
    """Labelled rows of stores, in the order of the stores and of their rows.

    Parameters
    ----------
    store, row : ndarray of int64, shape (n,)
        Number of the store, and row in it.
    is_lens : ndarray of bool, shape (n,)
    repeat : ndarray of int64, shape (n,)
        How many times as often as others a row is drawn.
    """

    store: NDArray[np.int64]
    row: NDArray[np.int64]
    is_lens: NDArray[np.bool_]
    repeat: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.row)

    def __getitem__(self, chosen: Any) -> Self:
        return type(self)(self.store[chosen], self.row[chosen], self.is_lens[chosen], self.repeat[chosen])

    @property
    def lenses(self) -> int:
        """How many are lenses."""
        return int(self.is_lens.sum())

    @property
    def others(self) -> int:
        """How many are not."""
        return len(self) - self.lenses

    @classmethod
    def join(cls, parts: "Sequence[Rows]") -> "Rows":
        """Rows of several stores, one after the other."""
        names = ("store", "row", "is_lens", "repeat")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


@dataclass(frozen=True)
class Matched:
    """What became of one table of labels.

    Parameters
    ----------
    rows : Rows
        Rows of the store that are labelled and whole.
    labelled : int
        Objects of the table.
    absent : int
        Those of them the store does not hold.
    flagged : int
        Those of them whose cutout is not whole.
    """

    rows: Rows
    labelled: int
    absent: int
    flagged: int


def match(
    number: int, paths: tuple[str, str], ids: NDArray[Any], status: NDArray[np.uint8], labels: pd.DataFrame
) -> Matched:
    """Find the labelled objects in a store.

    Parameters
    ----------
    number : int
        The store's.
    paths : tuple of str
        Of the store and of the table, for messages.
    ids, status : ndarray, shape (n,)
        Of the store's rows; only those of status 0 are used, and 255 are those without pixels.
    labels : DataFrame
        ``object_id`` (each once) and ``is_lens``.

    Raises
    ------
    UserError
        If the store holds none of the objects, none of those it holds is whole, or it holds one twice.
    """
    at = where(ids, labels["object_id"], paths[0])
    found = at >= 0
    if not found.any():
        raise UserError(
            f"none of the {len(labels):,} object_ids of {paths[1]} is in {paths[0]}: {labels['object_id'].iloc[0]} in the "
            f"table, {ids[0] if len(ids) else 'nothing'} in the store. Name labels of the objects of this store."
        )
    whole = found & (status[np.maximum(at, 0)] == Status.OK)
    if not whole.any():
        kept = "" if status.max(initial=0) < UNWRITTEN else ", or their pixels were not kept"
        raise UserError(
            f"none of the {int(found.sum()):,} labelled objects of {paths[0]} is whole: their status is not 0{kept}. "
            "See its array 'status', or use another store."
        )
    order = np.argsort(at[whole], kind="stable")
    row, is_lens = at[whole][order], labels["is_lens"].to_numpy(bool)[whole][order]
    rows = Rows(np.full(len(row), number), row, is_lens, np.ones(len(row), np.int64))
    return Matched(rows, len(labels), int((~found).sum()), int((found & ~whole).sum()))


def where(ids: NDArray[Any], wanted: "pd.Series[Any]", path: str) -> NDArray[np.int64]:
    """Where each wanted identifier stands, -1 if nowhere; numbers and texts are compared as texts.

    Raises
    ------
    UserError
        If the store holds an identifier twice.
    """
    have = pd.Series(ids)
    if have.dtype != wanted.dtype:
        have, wanted = have.astype(str), wanted.astype(str)
    index = pd.Index(have)
    if not index.is_unique:
        twice = index[index.duplicated()][0]
        raise UserError(f"{path} holds object_id {twice} more than once, so that a label cannot be given to one row.")
    return np.asarray(index.get_indexer(pd.Index(wanted)), np.int64)


def repeated(rows: Rows, ids: NDArray[Any], wanted: "pd.Series[Any]", repeat: int, paths: tuple[str, str]) -> Rows:
    """Rows of which the hard negatives are drawn more often.

    Parameters
    ----------
    rows : Rows
        Of one store.
    ids : ndarray
        Of all rows of the store.
    wanted : Series
        ``object_id`` of the hard negatives.
    repeat : int
        How many times as often.
    paths : tuple of str
        Of the store and of the table of hard negatives.

    Raises
    ------
    UserError
        If one of them is a lens, or none is among the rows.
    """
    at = where(ids, wanted, paths[0])
    hard = np.isin(rows.row, at[at >= 0])
    lenses = hard & rows.is_lens
    if lenses.any():
        raise UserError(
            f"{int(lenses.sum()):,} objects of {paths[1]} are lenses by their label, the first is "
            f"{ids[rows.row[lenses][0]]}. Hard negatives are non-lenses: remove them there, or mend the label."
        )
    if not hard.any():
        raise UserError(
            f"none of the {len(wanted):,} hard negatives of {paths[1]} is a labelled non-lens of {paths[0]}. "
            "Label them 0 as well, or remove hard_negatives."
        )
    return Rows(rows.store, rows.row, rows.is_lens, np.where(hard, repeat, rows.repeat))


def held_out(rows: Rows, ids: Sequence[NDArray[Any]], names: Sequence[str], fraction: float) -> NDArray[np.bool_]:
    """Which rows only judge: of each class of each store the same fraction, by a hash of the store's name and object_id.

    The same rows whatever the order of the data, and wherever they lie.

    Parameters
    ----------
    rows : Rows
    ids : sequence of ndarray
        ``object_id`` of all rows of each store.
    names : sequence of str
        The stores' names.
    fraction : float
        At least one row of each class of a store that has two.
    """
    chosen = np.zeros(len(rows), bool)
    for number, name in enumerate(names):
        for is_lens in (True, False):
            mine = np.flatnonzero((rows.store == number) & (rows.is_lens == is_lens))
            if len(mine) < 2:
                continue
            texts = pd.Series(ids[number][rows.row[mine]]).astype(str).to_numpy(object)
            marks = pd.util.hash_array(np.array([f"{name}:{text}" for text in texts], object), categorize=False)
            count = min(max(round(fraction * len(mine)), 1), len(mine) - 1)
            chosen[mine[np.argsort(marks, kind="stable")[:count]]] = True
    return chosen
