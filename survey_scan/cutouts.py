"""The cutouts of one partition: targets in, pixels and a status for each out."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.config import CHUNK_ROWS
from survey_scan.imaging import fits_tiles, service
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
    zero_points: Mapping[str, float | None] | None = None,
    downloads: Path | None = None,
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
    zero_points : mapping, optional
        Band → zero point of the images, needed if ``spec.zero_point`` is given: pixels are multiplied by
        ``10 ** (0.4 * (spec.zero_point - zero point))``.
    downloads : Path, optional
        Folder for what a cutout service sends, needed if ``images.service`` is given.

    Returns
    -------
    Cutouts
        Row ``i`` is target ``i``.

    Raises
    ------
    OSError
        If the file system fails, as opposed to one file.
    ServiceError
        If a cutout service is out of reach, down, or refuses us.
    """
    if spec.zero_point is None:
        return _cut(targets, images, spec, pixel_scale, out, downloads)
    known = {band: point for band, point in (zero_points or {}).items() if point is not None}
    cut = _cut(targets, images.model_copy(update={"zero_point": known}), spec, pixel_scale, out, downloads)
    for b, band in enumerate(spec.bands):
        cut.image[..., b] *= np.float32(10 ** (0.4 * (spec.zero_point - known[band])))
    return cut


def _cut(
    targets: pd.DataFrame,
    images: config.Images,
    spec: config.Cutouts,
    pixel_scale: float | None,
    out: NDArray[np.float32] | None,
    downloads: Path | None,
) -> Cutouts:
    if images.service is None:
        return fits_tiles.cut(targets, images, spec, pixel_scale, out)
    if downloads is None:
        raise ValueError("a cutout service needs a folder for its files")
    return service.cut(targets, images, spec, downloads, out)


def projected_bytes(spec: config.Cutouts, images: config.Images, layout: Layout | None) -> int:
    """Most memory that cutting and storing one partition takes, beside the program itself.

    Parameters
    ----------
    spec, images
        Sections ``cutouts`` and ``images`` of the configuration.
    layout : Layout or None
        Of the survey's largest tile; None with a cutout service.

    Returns
    -------
    int
        Bytes: the cutouts of a partition and, of a strip while a tile is read or of a chunk while it is stored,
        whichever is more. Encoded chunks are written one by one and never held.
    """
    one = spec.size**2 * len(spec.bands) * 4
    # beside the pixels of a strip: as compressed, which are bad, and their running count (3 of 4 bytes)
    copies = 2.75 + (2 if images.mask is not None or images.weight is not None else 0)
    if images.service is not None:
        reading: float = service.projected_bytes(spec, images.service)
    elif layout is not None:
        reading = copies * strip_bytes(layout, spec.size)
    else:
        raise ValueError("tiles have a layout")
    storing = {"float32": 1, "float16": 2, "int16": 4}[spec.dtype] * CHUNK_ROWS * one
    return spec.partition * one + int(max(reading, storing))
