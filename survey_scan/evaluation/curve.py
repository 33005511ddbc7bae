"""The operating points of a model: what each threshold finds, and what it lets through."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey_scan.evaluation.intervals import wilson
from survey_scan.evaluation.sample import Sample


@dataclass(frozen=True)
class Curve:
    """What is found at every threshold there is: one for each distinct logit, so objects that tie come together.

    Parameters
    ----------
    threshold : ndarray
        (m,) float64, falling. An object is found if its logit is not below it.
    true, false : ndarray
        (m,) int64: lenses and non-lenses found.
    lenses, others : int
        How many there are, those without a score included.
    """

    threshold: NDArray[np.float64]
    true: NDArray[np.int64]
    false: NDArray[np.int64]
    lenses: int
    others: int

    @property
    def tpr(self) -> NDArray[np.float64]:
        """True-positive rate, the completeness."""
        return self.true / self.lenses

    @property
    def fpr(self) -> NDArray[np.float64]:
        """False-positive rate."""
        return self.false / self.others


@dataclass(frozen=True)
class Point:
    """One operating point, with 95 % intervals after Wilson for a threshold that is given.

    Parameters
    ----------
    threshold : float or None
        Lowest logit that is found; None if no threshold keeps what is asked, and nothing is found.
    true, false : int
        Lenses and non-lenses found.
    tpr, tpr_low, tpr_high, fpr, fpr_low, fpr_high : float
        Rates and the ends of their intervals.
    """

    threshold: float | None
    true: int
    false: int
    tpr: float
    tpr_low: float
    tpr_high: float
    fpr: float
    fpr_low: float
    fpr_high: float


@dataclass(frozen=True)
class Ties:
    """How well the scores tell objects apart.

    Parameters
    ----------
    distinct : int
        Different logits among ``scored`` objects.
    scored : int
        Objects with a score.
    top_lenses, top_others : int
        Those with the highest logit: one, or all that tie there.
    largest : int
        Most objects with the same logit.
    """

    distinct: int
    scored: int
    top_lenses: int
    top_others: int
    largest: int


def curve(sample: Sample) -> Curve:
    """All operating points.

    Parameters
    ----------
    sample : Sample
        Objects without a score are found by no threshold, so the last point need not be (1, 1).
    """
    scored = sample.scored
    levels, at = np.unique(-sample.logit[scored], return_inverse=True)
    is_lens = sample.is_lens[scored]
    true = np.cumsum(np.bincount(at[is_lens], minlength=len(levels)))
    false = np.cumsum(np.bincount(at[~is_lens], minlength=len(levels)))
    lenses = int(sample.is_lens.sum())
    return Curve(-levels, true, false, lenses, len(sample.is_lens) - lenses)


def point(curve: Curve, index: int) -> Point:
    """The point at one threshold, by its index; -1 is above all of them, where nothing is found."""
    threshold = float(curve.threshold[index]) if index >= 0 else None
    true, false = (int(curve.true[index]), int(curve.false[index])) if index >= 0 else (0, 0)
    return Point(
        threshold,
        true,
        false,
        true / curve.lenses,
        *wilson(true, curve.lenses),
        false / curve.others,
        *wilson(false, curve.others),
    )


def with_at_most(curve: Curve, false: int) -> Point:
    """The most complete point with at most so many false positives.

    TPR0, the highest TPR before the first false positive, is that with 0; TPR10, the highest with fewer than ten, that with 9
    (Metcalf et al. 2019, the Bologna challenge).
    """
    return point(curve, int(np.searchsorted(curve.false, false, side="right")) - 1)


def allowed(fpr: float, others: int) -> int:
    """False positives that a false-positive rate allows among so many non-lenses."""
    return int(np.floor(fpr * others * (1 + 1e-12)))  # 0.29 of 100 is 29


def at_fpr(curve: Curve, fpr: float) -> Point:
    """The most complete point whose false-positive rate is not above ``fpr``."""
    return with_at_most(curve, allowed(fpr, curve.others))


def ties(curve: Curve) -> Ties:
    """How many objects have the same logit."""
    sizes = np.diff(curve.true + curve.false, prepend=0)
    return Ties(len(sizes), int(sizes.sum()), int(curve.true[0]), int(curve.false[0]), int(sizes.max()))


def thinned(curve: Curve, points: int = 200) -> NDArray[np.intp]:
    """Indices of about twice as many points that draw the curve: even in TPR, and even in the logarithm of FPR."""
    false = np.searchsorted(curve.false, np.geomspace(1, max(curve.others, 1), points), side="left")
    true = np.searchsorted(curve.true, np.linspace(0, curve.lenses, points), side="left")
    last = len(curve.threshold) - 1
    return np.unique(np.concatenate([[0, last], np.maximum(false - 1, 0), np.minimum([*false, *true], last)])).astype(
        np.intp
    )
