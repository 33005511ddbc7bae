"""One number for a whole ranking: the area under the ROC curve and the average precision."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey_scan.evaluation.curve import Curve
from survey_scan.evaluation.intervals import Z95
from survey_scan.evaluation.purity import precision
from survey_scan.evaluation.sample import Sample


@dataclass(frozen=True)
class Area:
    """Area under the ROC curve.

    Parameters
    ----------
    value : float
        Chance that a lens is ranked above a non-lens, ties counting half.
    low, high : float or None
        95 % interval; None where the sample does not allow one (perfect separation, fewer than two of a class).
    """

    value: float
    low: float | None
    high: float | None


def area(sample: Sample) -> Area:
    """AUC with an interval after DeLong et al. (1988), on the logit of the area, so that it stays within 0 and 1.

    Objects without a score are ranked last, and tie.
    """
    lenses, others = placements(sample.is_lens, sample.logit)
    value = float(lenses.mean())
    if not 0 < value < 1 or min(len(lenses), len(others)) < 2:
        return Area(value, None, None)
    variance = float(lenses.var(ddof=1) / len(lenses) + others.var(ddof=1) / len(others))
    middle, half = np.log(value / (1 - value)), Z95 * np.sqrt(variance) / (value * (1 - value))
    low, high = (float(1 / (1 + np.exp(-x))) for x in (middle - half, middle + half))
    return Area(value, low, high)


def placements(
    is_lens: NDArray[np.bool_], logit: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The parts that make up an AUC, by midranks (Sun & Xu 2014).

    Returns
    -------
    (ndarray, ndarray)
        For each lens the fraction of non-lenses below it, for each non-lens the fraction of lenses above it, ties counting
        half. The mean of either is the AUC.
    """
    lenses, others = logit[is_lens], logit[~is_lens]
    everywhere = _midranks(logit)
    return (
        (everywhere[is_lens] - _midranks(lenses)) / len(others),
        1 - (everywhere[~is_lens] - _midranks(others)) / len(lenses),
    )


def average_precision(curve: Curve, prior: float | None = None) -> float:
    """Precision averaged over the lenses: the sum of precision x rise of TPR over all thresholds.

    Parameters
    ----------
    curve : Curve
        Of the model. Lenses without a score add nothing.
    prior : float, optional
        Fraction of lenses among the objects; that of the sample if None.
    """
    prior = curve.lenses / (curve.lenses + curve.others) if prior is None else prior
    rise = np.diff(curve.tpr, prepend=0)
    return float(np.sum(rise * np.nan_to_num(precision(curve.tpr, curve.fpr, prior))))


def _midranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 1, those of equal values their mean."""
    _, at, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[at]
