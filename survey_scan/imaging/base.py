"""What cutting gives back."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Cutouts:
    """Cutouts of some targets, row by row in the order of the targets.

    Attributes
    ----------
    image : ndarray of float32, shape (n, size, size, bands)
        Pixels ``image[i, y, x, band]`` in the orientation and unit of the tile: y runs up the array as in the file.
        NaN where the cutout runs off the tile or the band could not be read.
    status : ndarray of uint8, shape (n,)
        :class:`survey_scan.schema.Status` of each target.
    bad_fraction : ndarray of float32, shape (n, bands)
        Fraction of a cutout's pixels that are not finite, off the tile, masked, of no positive weight, or equal to
        ``images.blank``.
    problems : list of str
        One text for each tile and band that could not be used, in the order met.
    reads : dict of str to int
        How many images of one tile and band were read in which way (``windows``, ``rows``, ``whole``, ``sections``).
    """

    image: NDArray[np.float32]
    status: NDArray[np.uint8]
    bad_fraction: NDArray[np.float32]
    problems: list[str] = field(default_factory=list)
    reads: dict[str, int] = field(default_factory=dict)
