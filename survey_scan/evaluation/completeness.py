"""Which lenses are found: by Einstein radius and by signal-to-noise ratio of the arc."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from survey_scan.evaluation.curve import Point
from survey_scan.evaluation.sample import Sample

#: Edges of the bins, arcsec and dimensionless, the lower one belonging to the bin: the same for every model and sample, so that
#: tables can be laid side by side.
THETA_E = (0.0, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 4.0, np.inf)
ARC_SNR = (0.0, 5.0, 10.0, 20.0, 30.0, 50.0, 75.0, 100.0, 150.0, 200.0, np.inf)


@dataclass(frozen=True)
class Map:
    """Lenses and found lenses in bins of Einstein radius x S/N, as Lanusse et al. (2018) show them.

    Parameters
    ----------
    theta_e, arc_snr : ndarray
        (k + 1,) and (m + 1,) edges, the last one perhaps infinite; empty bins at the rims are left out.
    lenses, found : ndarray
        (k, m) int64.
    unplaced : (int, int)
        Lenses without an Einstein radius or an S/N, and the found ones of them.
    """

    theta_e: NDArray[np.float64]
    arc_snr: NDArray[np.float64]
    lenses: NDArray[np.int64]
    found: NDArray[np.int64]
    unplaced: tuple[int, int]


def completeness(sample: Sample, at: Point) -> Map | None:
    """The map at one operating point.

    Returns
    -------
    Map or None
        None if the labels have no Einstein radii or no S/N, or of no lens both.
    """
    if sample.theta_e is None or sample.arc_snr is None:
        return None
    theta_e, snr = sample.theta_e[sample.is_lens], sample.arc_snr[sample.is_lens]
    logit = sample.logit[sample.is_lens]
    found = np.zeros(len(logit), bool) if at.threshold is None else logit >= at.threshold
    placed = (theta_e >= 0) & (snr >= 0) & np.isfinite(theta_e) & np.isfinite(snr)
    if not placed.any():
        return None
    edges = np.array(THETA_E), np.array(ARC_SNR)
    rows, columns = (
        np.searchsorted(edge, values[placed], side="right") - 1
        for edge, values in zip(edges, (theta_e, snr), strict=True)
    )
    shape = len(THETA_E) - 1, len(ARC_SNR) - 1
    lenses, hits = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    np.add.at(lenses, (rows, columns), 1)
    np.add.at(hits, (rows, columns), found[placed])
    r, c = (slice(used.min(), used.max() + 1) for used in (rows, columns))
    outer = (slice(s.start, s.stop + 1) for s in (r, c))
    theta_edges, snr_edges = (edge[s] for edge, s in zip(edges, outer, strict=True))
    return Map(theta_edges, snr_edges, lenses[r, c], hits[r, c], (int((~placed).sum()), int(found[~placed].sum())))
