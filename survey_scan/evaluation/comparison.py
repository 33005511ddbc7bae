"""Two models on the same objects: what differs, how surely, and which objects only one of them finds."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey_scan.evaluation.curve import allowed
from survey_scan.evaluation.intervals import Z95
from survey_scan.evaluation.metrics import placements
from survey_scan.evaluation.sample import Sample

#: Resamplings of the bootstrap, and the seed of its random numbers.
DRAWS, SEED = 1000, 0

#: Most identifiers that are listed.
LISTED = 1000


@dataclass(frozen=True)
class Difference:
    """Second minus first, with a 95 % interval; its ends are None where the sample does not allow one."""

    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class AtFpr:
    """Lenses found at one false-positive rate, each model with a threshold of its own.

    Parameters
    ----------
    fpr : float
        The rate that no model exceeds.
    tpr : Difference
        Of the true-positive rates.
    both, only_first, only_second, neither : int
        Lenses.
    """

    fpr: float
    tpr: Difference
    both: int
    only_first: int
    only_second: int
    neither: int


@dataclass(frozen=True)
class Shared:
    """Objects that both models have, or only one."""

    both: int
    only_first: int
    only_second: int


@dataclass(frozen=True)
class Top:
    """The best N of each model, ties in the order of ``object_id``, as the ranking has it.

    Parameters
    ----------
    budget : int
        N.
    lenses, others : Shared
        Lenses and non-lenses there.
    only_first, only_second : list
        Identifiers of the lenses that only one has there, its best first, up to :data:`LISTED`.
    """

    budget: int
    lenses: Shared
    others: Shared
    only_first: list[int | str]
    only_second: list[int | str]


def auc_difference(first: Sample, second: Sample) -> Difference:
    """Difference of the AUCs with DeLong's interval for paired curves (DeLong, DeLong & Clarke-Pearson 1988)."""
    (l1, o1), (l2, o2) = (placements(s.is_lens, s.logit) for s in (first, second))
    lenses, others = l2 - l1, o2 - o1
    value = float(lenses.mean())
    if min(len(lenses), len(others)) < 2:
        return Difference(value, None, None)
    half = Z95 * float(np.sqrt(lenses.var(ddof=1) / len(lenses) + others.var(ddof=1) / len(others)))
    return Difference(value, value - half, value + half)


def at_fpr(first: Sample, second: Sample, fpr: float, draws: int = DRAWS, seed: int = SEED) -> AtFpr:
    """Compare at one false-positive rate, with a bootstrap over lenses and non-lenses.

    Objects are drawn with both their scores, and each draw has thresholds of its own.

    Parameters
    ----------
    first, second : Sample
        The same objects in the same order.
    fpr : float
        Highest false-positive rate, below 1.
    draws, seed : int
        Resamplings, and the seed of their random numbers.
    """
    is_lens = first.is_lens
    lenses = np.stack([s.logit[is_lens] for s in (first, second)])
    others = np.stack([s.logit[~is_lens] for s in (first, second)])
    n, m = others.shape[1], lenses.shape[1]
    pass_at_most = allowed(fpr, n)
    a, b = (
        x > np.partition(o, n - 1 - pass_at_most)[n - 1 - pass_at_most] for x, o in zip(lenses, others, strict=True)
    )
    value = float(b.mean() - a.mean())
    counts = int((a & b).sum()), int((a & ~b).sum()), int((~a & b).sum()), int((~a & ~b).sum())
    if min(n, m) < 2:
        return AtFpr(fpr, Difference(value, None, None), *counts)

    # Only the highest non-lenses can set a threshold: drawing how often each of those comes is drawing from all.
    reach = min(n, pass_at_most + 1 + int(10 * np.sqrt(pass_at_most + 1)) + 50)
    near = np.unique(np.argpartition(others, n - reach, axis=1)[:, n - reach :])
    order = np.argsort(-others[:, near], axis=1)
    falling = np.take_along_axis(others[:, near], order, axis=1)
    chances = np.append(np.full(len(near), 1 / n), max(0.0, 1 - len(near) / n))
    rng = np.random.default_rng(seed)
    found = np.empty(draws)
    for k in range(draws):
        times = rng.multinomial(n, chances)[:-1]
        weight = rng.multinomial(m, np.full(m, 1 / m))
        limits = [
            values[np.argmax(np.cumsum(times[o]) > pass_at_most)] for values, o in zip(falling, order, strict=True)
        ]
        rates = [weight[x > limit].sum() / m for x, limit in zip(lenses, limits, strict=True)]
        found[k] = rates[1] - rates[0]
    low, high = np.quantile(found, [0.025, 0.975]).tolist()
    return AtFpr(fpr, Difference(value, low, high), *counts)


def top(first: Sample, second: Sample, budget: int) -> Top:
    """Which objects only one model has among its best."""
    best = [_best(sample, budget) for sample in (first, second)]
    inside = np.zeros((2, len(first.is_lens)), bool)
    for flags, rows in zip(inside, best, strict=True):
        flags[rows] = True
    one, two = inside
    groups = one & two, one & ~two, two & ~one
    lenses, others = ([int((group & kind).sum()) for group in groups] for kind in (first.is_lens, ~first.is_lens))
    only: list[list[int | str]] = [
        first.object_id[rows[first.is_lens[rows] & ~other[rows]]][:LISTED].tolist()
        for rows, other in zip(best, (two, one), strict=True)
    ]
    return Top(budget, Shared(*lenses), Shared(*others), *only)


def _best(sample: Sample, budget: int) -> NDArray[np.intp]:
    rows = np.flatnonzero(sample.scored)
    return rows[np.lexsort((sample.object_id[rows], -sample.logit[rows]))][:budget]


def budgets_that_tell(budgets: Sequence[int], first: Sample, second: Sample) -> list[int]:
    """Those budgets that are fewer than the objects: the best of all objects are all of them."""
    return [n for n in budgets if n < min(first.scored.sum(), second.scored.sum())]
