"""How much lenses count: as a share of each batch, by their weight, or as they are."""

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from survey_scan.training.labels import Rows

Balance = float | Literal["weights", "none"]


def groups(rows: Rows, balance: Balance, batch: int) -> list[tuple[NDArray[np.int64], int]]:
    """From which rows how many of each batch are drawn.

    Returns
    -------
    list of (ndarray of int64, int)
        Lenses and others by themselves where they have shares (at least one of each), else all rows together.
    """
    if isinstance(balance, str):
        return [(np.arange(len(rows)), batch)]
    count = min(max(round(balance * batch), 1), batch - 1)
    return [(np.flatnonzero(rows.is_lens), count), (np.flatnonzero(~rows.is_lens), batch - count)]


def weights(rows: Rows, balance: Balance) -> tuple[float, float]:
    """What a non-lens and a lens count in the loss: with ``weights`` both classes as much as the other, with a mean of 1."""
    if balance != "weights":
        return 1.0, 1.0
    lenses, others = (int(rows.repeat[rows.is_lens == is_lens].sum()) for is_lens in (True, False))
    return (lenses + others) / (2 * others), (lenses + others) / (2 * lenses)


def share(rows: Rows, balance: Balance) -> float:
    """What part of the training loss is that of lenses; validation weighs the classes in the same way."""
    if balance == "weights":
        return 0.5
    if isinstance(balance, float):
        return balance
    return float(rows.repeat[rows.is_lens].sum() / rows.repeat.sum())


def words(balance: Balance, batch: int) -> str:
    """In words."""
    if isinstance(balance, float):
        lenses = min(max(round(balance * batch), 1), batch - 1)
        return f"{lenses} lenses and {batch - lenses} non-lenses in each"
    return "both classes weigh the same in the loss" if balance == "weights" else "lenses as often as they are"
