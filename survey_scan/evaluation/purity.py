"""What a person who inspects the best N gets to see, in this sample and in a survey where lenses are rare."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.evaluation.curve import Curve, Point, point

#: Targets of a large scan, about as many as Jacobs et al. (2019b) scored: what rates are translated into.
SCAN = 8_000_000

#: False positives below which a rate is hardly known: its 95 % interval spans a factor of three or more.
FEW = 10


@dataclass(frozen=True)
class Purity:
    """A precision at some prior, with an interval."""

    value: float | None
    low: float
    high: float


@dataclass(frozen=True)
class InSample:
    """The best N of the sample.

    Parameters
    ----------
    budget : int
        N as asked for.
    inspected : int
        N, or the objects with a score if those are fewer.
    lenses : float
        Lenses among them. Where a tie goes across the N-th place, the mean over all its orders; ``lenses_low`` and
        ``lenses_high`` are the worst and the best order.
    lenses_low, lenses_high : int
        The same as ``lenses`` where nothing ties there.
    completeness, purity : float
        Over all lenses of the sample; over the inspected.
    """

    budget: int
    inspected: int
    lenses: float
    lenses_low: int
    lenses_high: int
    completeness: float
    purity: float


@dataclass(frozen=True)
class InScan:
    """The threshold whose candidates a budget can inspect, in a scan of :data:`SCAN` targets.

    Parameters
    ----------
    budget : int
        Candidates that can be inspected.
    point : Point
        The most complete operating point with no more candidates than that; a point that finds nothing if even the objects
        with the highest logit are more.
    candidates, candidates_low, candidates_high : float
        Expected at that threshold; the range is that of the false-positive rate's interval.
    lenses : float
        Expected among them.
    purity : Purity
        Their precision.
    known : bool
        Whether at least :data:`FEW` non-lenses of the sample pass; if not, the number of candidates is hardly known.
    """

    budget: int
    point: Point
    candidates: float
    candidates_low: float
    candidates_high: float
    lenses: float
    purity: Purity
    known: bool


def precision(tpr: Any, fpr: Any, prior: float) -> NDArray[np.float64]:
    """``tpr prior / (tpr prior + fpr (1 - prior))``; NaN where nothing is found."""
    true, false = np.asarray(tpr) * prior, np.asarray(fpr) * (1 - prior)
    with np.errstate(invalid="ignore"):
        result: NDArray[np.float64] = true / (true + false)
    return result


def at_prior(point: Point, prior: float) -> Purity:
    """Precision at a prior.

    The interval takes the low end of the TPR's with the high end of the FPR's, and the other way round: it is wider than one of
    95 %.
    """
    value, low, high = (
        float(precision(*rates, prior))
        for rates in ((point.tpr, point.fpr), (point.tpr_low, point.fpr_high), (point.tpr_high, point.fpr_low))
    )
    return Purity(None if np.isnan(value) else value, low, high)


def in_sample(curve: Curve, budget: int) -> InSample:
    """Purity and completeness of the best ``budget`` objects of the sample."""
    found = curve.true + curve.false
    inspected = min(budget, int(found[-1]))
    at = int(np.searchsorted(found, inspected))  # the group of equal logits that the last one is of
    before_true, before = (int(curve.true[at - 1]), int(found[at - 1])) if at else (0, 0)
    group, lenses, taken = int(found[at]) - before, int(curve.true[at]) - before_true, inspected - before
    low, high = before_true + max(0, taken - (group - lenses)), before_true + min(taken, lenses)
    mean = before_true + taken * lenses / group
    return InSample(budget, inspected, mean, low, high, mean / curve.lenses, mean / inspected)


def in_scan(curve: Curve, budget: int, prior: float, targets: int = SCAN) -> InScan:
    """Purity and completeness of a budget in a scan of so many targets, a fraction ``prior`` of them lenses."""
    expected = expected_candidates(curve, prior, targets)
    chosen = point(curve, int(np.searchsorted(expected, budget * (1 + 1e-12), side="right")) - 1)
    lenses = chosen.tpr * prior * targets
    others = [rate * (1 - prior) * targets for rate in (chosen.fpr, chosen.fpr_low, chosen.fpr_high)]
    count, low, high = (lenses + n for n in others)
    return InScan(budget, chosen, count, low, high, lenses, at_prior(chosen, prior), chosen.false >= FEW)


def expected_candidates(curve: Curve, prior: float, targets: int = SCAN) -> NDArray[np.float64]:
    """Candidates expected at each threshold of a scan: rising along the curve."""
    return targets * (curve.tpr * prior + curve.fpr * (1 - prior))
