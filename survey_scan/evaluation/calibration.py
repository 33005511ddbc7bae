"""Whether a score of 0.9 means nine in ten, and the two one-number corrections that keep the order of the objects.

A correction by isotonic regression is not offered: it ties objects, and where it ties them they can no longer be ranked.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey_scan.evaluation.intervals import wilson
from survey_scan.evaluation.sample import Sample
from survey_scan.ranking import probability

Float = NDArray[np.float64]

#: Bins of equal width, as in Guo et al. (2017).
BINS = 15

#: Temperatures that are tried; beyond, the classes are as good as separated, or the order is reversed.
TEMPERATURES = (1e-3, 1e3)


@dataclass(frozen=True)
class Bin:
    """Objects whose probabilities are alike: their mean probability against the fraction of lenses, with its 95 % interval."""

    objects: int
    probability: float
    lenses: float
    lenses_low: float
    lenses_high: float


@dataclass(frozen=True)
class Calibration:
    """How well probabilities are probabilities, over the objects with a score.

    Parameters
    ----------
    bins : list of Bin
        The reliability curve of the scores as they are; bins without objects are left out.
    ece : float
        Expected calibration error: mean distance of probability and fraction of lenses over bins, by their objects.
    shift, ece_shift : float
        What to add to the logit so that the mean probability is the sample's fraction of lenses, and the error then.
    temperature, ece_temperature : float or None
        What to divide the logit by for the highest likelihood, and the error then. None if no temperature in
        :data:`TEMPERATURES` is the best, as when 0 separates the classes.
    prior : float
        A fraction of lenses other than the sample's.
    prior_shift : float
        What to add to the logit of a network trained on the sample's fraction so that it is a probability at ``prior``:
        the difference of their log odds.
    ece_prior, ece_prior_shift : float
        The error at that prior of the scores as they are, and with ``prior_shift``. Objects are weighted by class.
    """

    bins: list[Bin]
    ece: float
    shift: float
    ece_shift: float
    temperature: float | None
    ece_temperature: float | None
    prior: float
    prior_shift: float
    ece_prior: float
    ece_prior_shift: float


def calibration(sample: Sample, prior: float) -> Calibration:
    """Reliability, and its mending by a shift or a temperature; both are fitted to the sample they are then measured on.

    Parameters
    ----------
    sample : Sample
        Labelled objects; both classes have scores.
    prior : float
        Fraction of lenses in a survey, for the figures at that prior.
    """
    logit, is_lens = sample.logit[sample.scored], sample.is_lens[sample.scored]
    fraction = float(is_lens.mean())
    shift, temperature = _shift(logit, fraction), _temperature(logit, is_lens)
    moved = float(np.log(prior / (1 - prior)) - np.log(fraction / (1 - fraction)))
    weight = np.where(is_lens, prior / fraction, (1 - prior) / (1 - fraction))
    return Calibration(
        bins=reliability(probability(logit), is_lens),
        ece=ece(probability(logit), is_lens),
        shift=shift,
        ece_shift=ece(probability(logit + shift), is_lens),
        temperature=temperature,
        ece_temperature=None if temperature is None else ece(probability(logit / temperature), is_lens),
        prior=prior,
        prior_shift=moved,
        ece_prior=ece(probability(logit), is_lens, weight),
        ece_prior_shift=ece(probability(logit + moved), is_lens, weight),
    )


def reliability(p: Float, is_lens: NDArray[np.bool_]) -> list[Bin]:
    """Mean probability and fraction of lenses in :data:`BINS` bins of equal width."""
    at = _bins(p)
    bins = []
    for k in np.unique(at):
        here = at == k
        n, lenses = int(here.sum()), int(is_lens[here].sum())
        bins.append(Bin(n, float(p[here].mean()), lenses / n, *wilson(lenses, n)))
    return bins


def ece(p: Float, is_lens: NDArray[np.bool_], weight: Float | None = None) -> float:
    """Expected calibration error in :data:`BINS` bins of equal width (Naeini et al. 2015; Guo et al. 2017)."""
    w = np.ones(len(p)) if weight is None else weight
    gaps = np.bincount(_bins(p), w * (is_lens - p), minlength=BINS)
    return float(np.abs(gaps).sum() / w.sum())


def _bins(p: Float) -> NDArray[np.intp]:
    return np.minimum((p * BINS).astype(np.intp), BINS - 1)


def _shift(logit: Float, fraction: float) -> float:
    """The shift at which the mean probability is ``fraction``, which is that of the highest likelihood."""
    reach = float(np.abs(logit).max()) + abs(float(np.log(fraction / (1 - fraction)))) + 1
    return _root(lambda b: float(probability(logit + b).mean()) - fraction, -reach, reach)


def _temperature(logit: Float, is_lens: NDArray[np.bool_]) -> float | None:
    """The temperature of the highest likelihood, if there is one."""

    def slope(log_temperature: float) -> float:  # of the likelihood by 1 / temperature; rises with the temperature
        return float(np.mean((is_lens - probability(logit / np.exp(log_temperature))) * logit))

    low, high = np.log(TEMPERATURES)
    if slope(low) >= 0 or slope(high) <= 0:
        return None
    return float(np.exp(_root(slope, low, high)))


def _root(rising: object, low: float, high: float) -> float:
    """Where a rising function is zero, by halving."""
    for _ in range(60):
        middle = (low + high) / 2
        if rising(middle) < 0:  # type: ignore[operator]
            low = middle
        else:
            high = middle
    return (low + high) / 2
