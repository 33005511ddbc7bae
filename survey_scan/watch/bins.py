"""Bins of the histogram of logits, the same in every task, so that counts can be added."""

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
