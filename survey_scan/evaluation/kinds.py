"""Which kinds of objects a model confuses: its scores by kind, where the labels say what an object is."""

from dataclasses import dataclass

import numpy as np

from survey_scan.evaluation.curve import Point
from survey_scan.evaluation.sample import Sample

#: Quantiles that stand for a distribution.
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True)
class Kind:
    """Scores of one kind of object.

    Parameters
    ----------
    kind : str
        As the labels have it.
    is_lens : bool
        Objects of one kind with both labels make two of these.
    objects, scored, found : int
        How many, how many with a score, and how many at or above the threshold.
    quantiles : tuple of float
        Of the logits, at :data:`QUANTILES`; empty without a score.
    """

    kind: str
    is_lens: bool
    objects: int
    scored: int
    found: int
    quantiles: tuple[float, ...]


def by_kind(sample: Sample, at: Point) -> list[Kind] | None:
    """Scores by kind: lenses first, then by the fraction that is found, the most confused first.

    Returns
    -------
    list of Kind or None
        None if the labels name no kinds.
    """
    if sample.kind is None:
        return None
    kinds = []
    for name in np.unique(sample.kind.astype(str)):
        for is_lens in (True, False):
            here = (sample.kind == name) & (sample.is_lens == is_lens)
            if not here.any():
                continue
            logit = sample.logit[here & sample.scored]
            found = 0 if at.threshold is None else int((logit >= at.threshold).sum())
            quantiles = tuple(np.quantile(logit, QUANTILES).tolist()) if len(logit) else ()
            kinds.append(Kind(str(name), is_lens, int(here.sum()), len(logit), found, quantiles))
    return sorted(kinds, key=lambda k: (not k.is_lens, -k.found / k.objects, k.kind))
