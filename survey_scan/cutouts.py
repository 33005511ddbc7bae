"""The cutouts of one partition: targets in, pixels and a status for each out."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.imaging import fits_tiles
from survey_scan.imaging.base import Cutouts
from survey_scan.imaging.cost import Layout, strip_bytes

#: Part of the key of every cutout record: raised by hand when cutouts or their status change for the same input.
CUTOUTS_VERSION = "1"


def cut_partition(
    targets: pd.DataFrame,
    images: config.Images,
    spec: config.Cutouts,
    pixel_scale: float | None = None,
    out: NDArray[np.float32] | None = None,
) -> Cutouts:
    """Cut the targets of one partition.

    Parameters
    ----------
    targets : DataFrame
        One row a target: ``ra``, ``dec`` (degrees), ``tile``, ``x``, ``y``.
    images, spec
        Sections ``images`` and ``cutouts`` of the configuration.
    pixel_scale : float, optional
        Arcseconds a pixel of this survey; a tile that differs by more than 0.5 % is not used.
    out : ndarray of float32, shape (at least n, size, size, bands), optional
        Memory to cut into, so that a worker need not get 200 MB anew from the system for each partition (15 % of the
        time in a virtual machine). What it held is overwritten; the result's pixels are a part of it.

    Returns
    -------
    Cutouts
        Row ``i`` is target ``i``.

    Raises
    ------
    OSError
        If the file system fails, as opposed to one file.
    """
    return fits_tiles.cut(targets, images, spec, pixel_scale, out)


def projected_bytes(spec: config.Cutouts, images: config.Images, layout: Layout) -> int:
    """Most memory that cutting and storing one partition takes, beside the program itself.

    Parameters
    ----------
    spec, images
        Sections ``cutouts`` and ``images`` of the configuration.
    layout : Layout
        Of the survey's largest tile.

    Returns
    -------
    int
        Bytes: the cutouts of a partition, and while a tile is read one strip of it.
    """
    cutouts = spec.partition * spec.size**2 * len(spec.bands) * 4
    # a strip beside the pixels themselves: as decoded, bad pixels and their running count (3 of 4 bytes)
    copies = 2.75 + (2 if images.mask is not None or images.weight is not None else 0)
    return cutouts + int(copies * strip_bytes(layout, spec.size))
