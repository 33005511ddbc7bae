"""In which order a grader sees the candidates, and which of them twice."""

import hashlib
from collections.abc import Sequence

import numpy as np

#: A repeated image comes at least so many others after the first showing, if there are so many.
GAP = 30

#: A candidate's number in the table, and 1 if it is shown for the second time.
Place = tuple[int, int]


def places(ids: Sequence[str], grader: str, blind: bool, repeats: float) -> list[Place]:
    """The candidates as one grader is shown them.

    Parameters
    ----------
    ids : sequence of str
        Object ids in the order of rank.
    grader : str
        Seeds the order and the choice: the same after every start, and another for everybody.
    blind : bool
        Whether the order is drawn, instead of that of rank.
    repeats : float
        Share of the candidates that come again later, those of a smaller share among those of a larger one.

    Returns
    -------
    list of (int, int)
        Each candidate once, and some again.

    Notes
    -----
    Order and choice are by hashes of grader and id: a candidate that comes or goes leaves the others in their order.
    """
    n = len(ids)
    order = sorted(range(n), key=lambda i: _hash(grader, "order", ids[i])) if blind else list(range(n))
    again = sorted(range(n), key=lambda i: _hash(grader, "repeat", ids[i]))[: round(repeats * n)]
    first = np.empty(n)
    first[order] = np.arange(n)
    keys: list[tuple[float, int, Place]] = [(float(first[i]), 0, (i, 0)) for i in range(n)]
    for i in again:
        low = min(float(first[i]) + GAP, n)
        later = low + (n - low) * _hash(grader, "place", ids[i]) / 2**64
        keys.append((later, 1, (i, 1)))
    return [place for _, _, place in sorted(keys)]


def _hash(*words: str) -> int:
    return int.from_bytes(hashlib.sha256("\0".join(words).encode()).digest()[:8], "big")
