"""What the headers of some tiles say of a survey: whether it is the one that is configured, and what a pixel's value means."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from survey_scan.config import Config
from survey_scan.errors import ImageError
from survey_scan.imaging import agreement
from survey_scan.imaging.agreement import Header

#: Tiles that are tried for some that have files.
TRIED = 1000


def look(config: Config, names: Sequence[str]) -> list[Header]:
    """What the headers of some tiles say of the bands to be cut, wherever in the survey there are files.

    Parameters
    ----------
    config : Config
        Its images and the bands of its cutouts.
    names : sequence of str
        Tiles.

    Raises
    ------
    ImageError
        If they cannot be those of the survey that the configuration describes.
    """
    golden = (np.arange(len(names)) * 0.6180339887498949) % 1  # the first few of these are spread evenly, however many
    spread = (names[i] for i in np.argsort(golden)[:TRIED])
    headers, _ = agreement.look(config.images, spread, config.cutouts.bands)
    if problems := agreement.refusals(headers, config.images):
        raise ImageError("\n".join(problems))
    return headers


def flux_scale(config: Config, headers: list[Header]) -> dict[str, Any]:
    """What a pixel's value means, for the store and for cutting.

    Returns
    -------
    dict
        ``zero_point`` (band → number or None), ``unit`` (as the headers have it, or None), ``from_headers`` (bands
        whose zero point the configuration does not give, but the headers), ``differ`` (bands whose tiles do not agree
        in theirs, and the configuration gives none).

    Raises
    ------
    ImageError
        If pixels are to be brought to a zero point, and that of the images is not known.
    """
    bands = config.cutouts.bands
    points = agreement.zero_points(headers, config.images, bands)
    given = {band for band in bands if config.images.zero_point_of(band) is not None}
    stated = {header.band for header in headers if header.zero_point is not None}
    units = {header.unit for header in headers if header.unit}
    unknown = [band for band in bands if points[band] is None]
    if config.cutouts.zero_point is not None and unknown:
        raise ImageError(
            f"cutouts.zero_point is {config.cutouts.zero_point:g}, but the zero point of the images is not known in "
            f"{', '.join(unknown)}: neither images.zero_point gives it, nor do the headers agree in one. Give "
            "images.zero_point, one number or one a band, or leave cutouts.zero_point out."
        )
    return {
        "zero_point": points,
        "unit": ", ".join(sorted(units)) or None,
        "from_headers": [band for band in bands if band not in given and points[band] is not None],
        "differ": [band for band in unknown if band in stated],
    }
