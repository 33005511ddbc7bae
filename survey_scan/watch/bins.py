"""Bins of the histogram of logits, the same in every task, so that counts can be added."""

from collections import Counter
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

#: Edges of the bins, 81 of them; the first and the last bin are open: they hold whatever lies beyond.
EDGES: NDArray[np.float64] = np.linspace(-20.0, 20.0, 81)


def count(logits: NDArray[np.floating]) -> dict[str, int]:
    """Count logits by bin.

    Parameters
    ----------
    logits : ndarray of float, shape (n,)
        NaN is no logit and is not counted.

    Returns
    -------
    dict
        Number of the bin, as text because JSON keys are text → how many; bins without any are left out. Bin i holds
        ``EDGES[i] <= logit < EDGES[i + 1]``, the first also all below, the last also all above.
    """
    known = logits[~np.isnan(logits)]
    number = np.clip(np.searchsorted(EDGES, known, side="right") - 1, 0, len(EDGES) - 2)
    counts = np.bincount(number, minlength=1)
    return {str(i): int(counts[i]) for i in np.flatnonzero(counts)}


def lowest_of_highest(counts: Iterable[Mapping[str, int]], n: int) -> float:
    """A logit that none of the ``n`` highest is below; -inf if there are no more than so many.

    Parameters
    ----------
    counts : iterable of mapping
        As :func:`count` gives them, of parts that together have all logits.
    n : int
        At least 1.
    """
    total: Counter[str] = Counter()
    for part in counts:
        total.update(part)
    above = 0
    for number in sorted(map(int, total), reverse=True):
        above += total[str(number)]
        if above >= n:
            return float(EDGES[number]) if number else -np.inf
    return -np.inf


def reach(numbers: Iterable[str | int], lowest: float) -> bool:
    """Whether any logit in bins of these numbers may be as high as that edge of a bin."""
    return any(EDGES[int(number) + 1] > lowest for number in numbers)
