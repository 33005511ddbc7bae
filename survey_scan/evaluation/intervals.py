"""Intervals of a fraction: what so many objects allow one to say."""

import math

from scipy.special import betaincinv

#: Two-sided 95 % of the normal distribution.
Z95 = 1.959963984540054


def wilson(count: int, total: int) -> tuple[float, float]:
    """The 95 % interval of a fraction after Wilson (1927), which does not fail at 0 and 1.

    Parameters
    ----------
    count, total : int
        ``count`` of ``total`` objects; ``total`` may be 0, of which follows nothing.

    Returns
    -------
    (float, float)
        Lower and upper end, within [0, 1].
    """
    if total == 0:
        return 0.0, 1.0
    p, z2 = count / total, Z95**2
    middle = (p + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(p * (1 - p) / total + z2 / (4 * total**2))
    return (0.0 if count == 0 else middle - half), (1.0 if count == total else middle + half)


def most(count: int, total: int, confidence: float = 0.95) -> float:
    """The largest fraction that ``count`` of ``total`` still allow: the exact one-sided limit of Clopper and Pearson (1934).

    For a count of 0 and 95 % it is the rule of three, 3 / total.

    Parameters
    ----------
    count, total : int
        ``count`` of ``total`` objects.
    confidence : float
        How rarely the truth is above the limit: in at most ``1 - confidence`` of such samples.
    """
    return 1.0 if count >= total else float(betaincinv(count + 1, total - count, confidence))
