"""Drift: where in the survey scores are distributed otherwise than elsewhere.

A tile with a wrong zero point, a bad background, or another release's reduction gives the network pixels it was not trained
on; its scores then mean something else. Logits are counted in fixed bins, group by group (a tile, a footprint, a bin of
seeing), so that counts of partitions can be added and no process holds all scores.

A group is compared with the others together in two ways. *Top*: how many of its objects are above the 99 % quantile of all,
as two Poisson rates (the binomial test of Przyborowski & Wilenski 1940). *Shape*: a chi-square of :data:`SHAPE` bins with
equal numbers of all objects, which also sees a spread that grew and a median that moved. It is named if either is significant at
:data:`ALPHA`, divided by the number of tests (Bonferroni), and the effect is worth a look (:data:`EFFECT`, :data:`RATIO`). The
worst is named first and taken out of "the others", until none is left; so a bad tile does not make its siblings look
bad. Tiles
of a real survey differ more than chance has it: from :data:`SCATTER` groups on, a group must also be out of line with the scatter
of the others, whose width is taken from the median effect, so that a few large ones do not widen it.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

#: Quantiles of the logits that are given.
QUANTILES = (0.5, 0.9, 0.99, 0.999)

#: The top is what lies above this quantile of all scores.
TOP = 0.99

#: Bins of the shape; groups with fewer than five objects for each are not compared.
SHAPE = 20
FEWEST = 5 * SHAPE

#: Chance of naming any group of a survey whose groups are all alike.
ALPHA = 0.01

#: Least effect of a shape that is named (Cohen's w, a small effect), and of a top: so many times more, or less.
EFFECT, RATIO = 0.1, 1.5

#: From so many groups on their own scatter is known well enough to be allowed for.
SCATTER = 20

#: Bins of equal width in asinh(logit / 20): 0.1 wide at 0, 0.12 at 15, 0.5 at 100; the last, beyond 995, are open.
_STEP, _SOFT, _HALF = 0.005, 20.0, 920
BINS = 2 * _HALF

#: Group → (BINS,) int64.
Counts = dict[str, NDArray[np.int64]]


class Compared(NamedTuple):
    """Groups against the others, each field (groups,)."""

    expected: NDArray[np.float64]
    p_top: NDArray[np.float64]
    effect: NDArray[np.float64]
    p_shape: NDArray[np.float64]


def count(logit: ArrayLike, group: ArrayLike) -> Counts:
    """Count the logits of one partition by group.

    Parameters
    ----------
    logit : array_like of float, shape (n,)
        NaN, no score, is not counted.
    group : array_like of str, shape (n,)
        Such as the tile; a group without a score is not in the result.
    """
    values = np.asarray(logit, np.float64)
    known = ~np.isnan(values)
    bins = np.clip(np.floor(np.arcsinh(values[known] / _SOFT) / _STEP), -_HALF, _HALF - 1).astype(np.int64) + _HALF
    codes, names = pd.factorize(pd.Series(np.asarray(group, object)[known]).astype(str), sort=True)
    return {str(name): np.bincount(bins[codes == i], minlength=BINS) for i, name in enumerate(names)}


def merge(parts: Iterable[Mapping[str, NDArray[np.int64]]]) -> Counts:
    """The counts of several partitions together, whatever their order."""
    total: Counts = {}
    for part in parts:
        for name, counts in part.items():
            total[name] = total[name] + counts if name in total else counts
    return dict(sorted(total.items()))


def seeing(tiles: pd.DataFrame, width: float = 0.1) -> "pd.Series[str]":
    """Which bin of seeing each tile is in.

    Parameters
    ----------
    tiles : DataFrame
        plan/tiles.parquet: ``tile`` and ``psf_<band>`` (FWHM, arcseconds; NaN where it is not known).
    width : float
        Of a bin, arcseconds.

    Returns
    -------
    Series
        Index ``tile``; ``1.10-1.20`` for the mean of the bands that are known, empty if none is.
    """
    fwhm = tiles.filter(regex="^psf_").astype(float).mean(axis=1)
    low = np.floor(fwhm.to_numpy() / width + 1e-9) * width
    labels = ["" if np.isnan(x) else f"{x:.2f}-{x + width:.2f}" for x in low]
    return pd.Series(labels, pd.Index(tiles["tile"].astype(str), name="tile"), dtype="str")


def quantiles(counts: ArrayLike, at: Iterable[float] = QUANTILES) -> NDArray[np.float64]:
    """Quantiles of counted logits, to the width of a bin; NaN where fewer than one object lies above.

    Parameters
    ----------
    counts : array_like of int, shape (..., BINS)
        Of groups, or sums of groups.
    at : iterable of float, k of them
        Within 0 and 1.

    Returns
    -------
    ndarray of float64, shape (..., k)
    """
    total = np.cumsum(np.asarray(counts), axis=-1)
    scored = total[..., -1]
    found = []
    for q in at:
        bin = np.minimum((total < (q * scored)[..., None]).sum(axis=-1), BINS - 1)
        upto = np.take_along_axis(total, bin[..., None], -1)[..., 0]
        before = np.where(bin > 0, np.take_along_axis(total, np.maximum(bin - 1, 0)[..., None], -1)[..., 0], 0)
        inside = (q * scored - before) / np.maximum(upto - before, 1)
        logit = _SOFT * np.sinh((bin - _HALF + inside) * _STEP)
        found.append(np.where(scored * (1 - q) < 1 - 1e-9, np.nan, logit))
    return np.stack(found, axis=-1)


def table(counts: Counts) -> pd.DataFrame:
    """Quantiles of each group, how it compares with the others, and whether it is out of line.

    Parameters
    ----------
    counts : dict
        From :func:`merge`.

    Returns
    -------
    DataFrame
        A row a group: ``group``, ``scored``; ``q0.5``, ``q0.9``, ``q0.99``, ``q0.999`` (logits); ``top`` (objects above the 99 %
        quantile of all) and ``expected`` if it were as the others; ``p_top``; ``median_shift`` (logit; its median less that
        of the others), ``spread`` (its interquartile range in theirs), ``effect`` (Cohen's w of the shape, chance taken
        off), ``p_shape``; ``named`` (bool). p-values are those of single tests, the groups' scatter allowed for.
        The others are the groups that are not named. NaN where there are too few objects, or no others.

    Notes
    -----
    Of two groups that differ nobody knows which is at fault: both are named. No more than that is asked of two that are left.
    """
    names = list(counts)
    every = np.array([counts[name] for name in names], np.int64).reshape(len(names), BINS)
    coarse, top = _coarse(every)
    scored = every.sum(axis=1)
    judged = scored >= FEWEST
    pair = judged.sum() == 2
    named, others = np.zeros(len(names), bool), judged.copy()
    while others.sum() > 2 or (pair and not named.any()):
        worst = _worst(_compare(coarse, top, others), top, others, ALPHA / (2 * judged.sum()))
        if worst is None:
            break
        if pair:
            named = judged
            break
        named[worst], others[worst] = True, False
    found = _compare(coarse, top, others)
    pool = every[others].sum(axis=0)
    own, theirs = _quantiles(every, pool, others)
    low, middle, high = theirs.T
    with np.errstate(divide="ignore", invalid="ignore"):
        spread = np.where(high > low, (own[:, 5] - own[:, 4]) / (high - low), np.nan)
    alone = ~judged | (pool.sum() - np.where(others, scored, 0) == 0)
    compared = {"median_shift": own[:, 0] - middle, "spread": spread, **found._asdict()}
    columns = {
        "group": names,
        "scored": scored,
        **{f"q{q:g}": own[:, i] for i, q in enumerate(QUANTILES)},
        "top": top,
        "named": named,
        **{name: np.where(alone, np.nan, values) for name, values in compared.items()},
    }
    return pd.DataFrame(columns, columns=_COLUMNS).astype(dict.fromkeys(_NUMBERS, np.float64))


def _quantiles(
    every: NDArray[np.int64], pool: NDArray[np.int64], others: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Those of each group, quartiles at the end, and the quartiles of the others together; some groups at a time."""
    own, theirs = np.empty((len(every), len(QUANTILES) + 2)), np.empty((len(every), 3))
    for i in range(0, len(every), 256):
        rows = slice(i, i + 256)
        own[rows] = quantiles(every[rows], (*QUANTILES, 0.25, 0.75))
        theirs[rows] = quantiles(pool - np.where(others[rows, None], every[rows], 0), (0.25, 0.5, 0.75))
    return own, theirs


def sentences(found: pd.DataFrame, what: str = "tile") -> Iterator[str]:
    """A line on each group that :func:`table` names."""
    for row in found[found["named"]].to_dict("records"):
        yield (
            f"{what} {row['group']}: its scores are out of line with the others' (p {min(row['p_shape'], row['p_top']):.0e}, "
            f"effect {row['effect']:.2f}): median {row['median_shift']:+.2f}, spread x {row['spread']:.2f}, "
            f"{row['top']:,.0f} of {row['scored']:,} in the survey's top 1 % where {row['expected']:,.0f} were expected"
        )


_NUMBERS = [*(f"q{q:g}" for q in QUANTILES), "expected", "p_top", "median_shift", "spread", "effect", "p_shape"]
_COLUMNS = ["group", "scored", *_NUMBERS[:4], "top", *_NUMBERS[4:], "named"]


def _coarse(every: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Counts in bins that hold about equally many of all, and counts of the top, both by whole fine bins."""
    total = np.cumsum(every.sum(axis=0))
    edges = np.searchsorted(total, np.arange(1, SHAPE) / SHAPE * total[-1], side="left") + 1
    starts = np.unique(np.concatenate([[0], np.minimum(edges, BINS - 1)]))
    last = int(np.searchsorted(total, TOP * total[-1], side="left")) + 1
    return np.add.reduceat(every, starts, axis=1), every[:, last:].sum(axis=1)


def _worst(found: Compared, top: NDArray[np.int64], others: NDArray[np.bool_], limit: float) -> int | None:
    """The group most out of line of the others, if any is."""
    ratio = (top + 0.5) / (found.expected + 0.5)
    bad_top = others & (found.p_top < limit) & ((ratio >= RATIO) | (ratio <= 1 / RATIO))
    bad_shape = others & (found.p_shape < limit) & (found.effect >= EFFECT)
    if not (bad_top | bad_shape).any():
        return None
    p = np.minimum(np.where(bad_top, found.p_top, 2), np.where(bad_shape, found.p_shape, 2))
    return int(np.lexsort((-found.effect, p))[0])


def _compare(coarse: NDArray[np.int64], top: NDArray[np.int64], others: NDArray[np.bool_]) -> Compared:
    """Each group with the others together, itself left out; the others' own scatter allowed for where it is known."""
    from scipy.special import betainc, betaincc, chdtrc, gammaincinv  # scipy.stats takes a second to import

    rest, rest_top = (x[others].sum(axis=0) - np.where(_column(others, x), x, 0) for x in (coarse, top))
    n, m = coarse.sum(axis=1), rest.sum(axis=1)
    both = np.maximum(n + m, 1)
    # the binomial distribution: so many of all above, or fewer; so many, or more
    low = np.where(rest_top > 0, betaincc(top + 1, np.maximum(rest_top, 1), n / both), 1)
    high = np.where(top > 0, betainc(np.maximum(top, 1), rest_top + 1, n / both), 1)
    p_top = np.minimum(1, 2 * np.minimum(low, high))
    median = 2 * gammaincinv(0.5, 0.5)  # of chi-square with one degree of freedom
    share = (coarse + rest) / both[:, None]
    terms = np.zeros(share.shape)
    for counts, size in ((coarse, n), (rest, m)):
        expected = size[:, None] * share
        np.add(terms, (counts - expected) ** 2 / np.where(expected > 0, expected, 1), out=terms)
    statistic, degrees = terms.sum(axis=1), np.maximum((share > 0).sum(axis=1) - 1, 1)
    effect = np.sqrt(np.maximum(statistic - degrees, 0) * both / np.maximum(n * m, 1))
    p_shape = chdtrc(degrees, statistic)
    expected = rest_top * n / np.maximum(m, 1)
    if others.sum() >= SCATTER:
        ratio = np.log((top + 0.5) / (expected + 0.5)) ** 2
        chance = 1 / (top + 0.5) + n / np.maximum(m, 1) / (expected + 0.5)
        wider = max(0.0, float(np.median((ratio - chance)[others]))) / median
        p_top = np.maximum(p_top, chdtrc(1, ratio / (chance + wider))) if wider else p_top
        if width := float(np.median(effect[others] ** 2)) / median:
            p_shape = np.maximum(p_shape, chdtrc(1, effect**2 / width))
    return Compared(expected, p_top, effect, p_shape)


def _column(mask: NDArray[np.bool_], like: NDArray[np.int64]) -> NDArray[np.bool_]:
    return mask.reshape(-1, *[1] * (like.ndim - 1))
