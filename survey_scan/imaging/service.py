"""Cutouts from a service: each target's file is downloaded and treated as a small tile.

The target stands where the file's own WCS says, and what is cut around it is what would be cut from a tile, pixel for
pixel; NaN where the file does not reach.
"""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.errors import ServiceError, TileError
from survey_scan.imaging import agreement, wcs
from survey_scan.imaging.base import Cutouts
from survey_scan.imaging.cost import Box
from survey_scan.imaging.service_file import Plane, planes
from survey_scan.imaging.service_http import Answer, Client
from survey_scan.imaging.windows import copy_windows, count_bad, place
from survey_scan.schema import SEVERITY, Status

#: Pixels asked for around a cutout, since a service may round a position otherwise than we do.
MARGIN = 1

#: Answers that are no use, one after the other, before the service is asked for something it served before.
PATIENCE = 10

#: Name of the file, beside those of the partitions, with a URL that the service has served.
SERVED = "served.url"

_ONE = np.zeros(1, dtype=np.int64)


def urls(service: config.Service, spec: config.Cutouts, scale: float, ra: float, dec: float) -> dict[str, list[str]]:
    """What to ask for one target: URL → the bands that its file is to hold."""
    size = spec.size + 2 * MARGIN
    fixed = {"ra": ra, "dec": dec, "size": size, "half_arcsec": round(size / 2 * scale, 6), "pixel_scale": scale}
    found: dict[str, list[str]] = {}
    for band in spec.bands:
        found.setdefault(service.url.format(**fixed, band=band, bands="".join(spec.bands)), []).append(band)
    return found


def requests_each(service: config.Service, spec: config.Cutouts) -> int:
    """How many requests each target takes."""
    return len(urls(service, spec, 1.0, 1.5, 1.5))


def cut(
    targets: pd.DataFrame,
    images: config.Images,
    spec: config.Cutouts,
    folder: Path,
    out: NDArray[np.float32] | None = None,
) -> Cutouts:
    """Cut targets out of what a service sends for them.

    Parameters
    ----------
    targets : DataFrame
        Columns ``ra``, ``dec`` (degrees).
    images : config.Images
        The service, and the pixel scale.
    spec : config.Cutouts
        Bands in order, size, and how many bad pixels are too many.
    folder : Path
        Where downloads are kept: what is there is not asked for again. Its parent keeps what is shared by folders.
    out : ndarray of float32, shape (at least n, size, size, bands), optional
        Memory for the pixels, overwritten; new if not given.

    Returns
    -------
    Cutouts
        A target has the most severe status of its bands (:data:`survey_scan.schema.SEVERITY`): OUTSIDE where the service
        has no image or its image does not reach, MISSING without one of the bands, MISMATCHED with other pixels than of
        ``images.pixel_scale``, UNREADABLE if the service serves others and never this. ``reads`` counts
        requests (``downloaded``) and files that were there (``kept``).

    Raises
    ------
    ServiceError
        If the service is out of reach, ill or refuses us; what came until then is kept.
    OSError
        If the file system fails.
    """
    assert images.service is not None and images.pixel_scale is not None
    n, service = len(targets), images.service
    shape = (n, spec.size, spec.size, len(spec.bands))
    result = Cutouts(
        image=np.empty(shape, dtype=np.float32) if out is None else out[:n],
        status=np.zeros(n, dtype=np.uint8),
        bad_fraction=np.ones((n, len(spec.bands)), dtype=np.float32),
        reads={"downloaded": 0, "kept": 0},
    )
    result.image[:] = np.nan
    sky = targets[["ra", "dec"]].to_numpy(np.float64)
    asked = [
        (row, url, bands)
        for row, (ra, dec) in enumerate(sky.tolist())
        for url, bands in urls(service, spec, images.pixel_scale, ra, dec).items()
    ]
    problems = _Problems()
    with Client(service, folder, most_bytes(spec)) as client:
        for (row, url, bands), answer in zip(
            asked, _answers(client, service, folder, [a[1] for a in asked]), strict=True
        ):
            result.reads["downloaded" if answer.new else "kept"] += 1
            given = _open(answer, images, bands)
            for band in bands:
                b, found = spec.bands.index(band), given[band]
                try:
                    if isinstance(found, TileError):
                        raise found
                    status = _cut_band(found, sky[row], images, spec, row, b, result)
                except TileError as error:
                    result.image[row, :, :, b] = np.nan
                    problems.add(error.message, band, url)
                    status = error.status
                if SEVERITY.index(status) > SEVERITY.index(Status(int(result.status[row]))):
                    result.status[row] = status
    result.problems.extend(problems.texts(len(spec.bands)))
    return result


def most_bytes(spec: config.Cutouts) -> int:
    """Largest file that may be a cutout: image, mask and variance of all bands, and what else a header may carry."""
    return 16 * 2**20 + 4 * 4 * (spec.size + 64) ** 2 * len(spec.bands)


def projected_bytes(spec: config.Cutouts, service: config.Service) -> int:
    """Most memory that downloads and decoded files take, beside the cutouts: one file a connection, and one open."""
    return (2 * service.connections + 4) * most_bytes(spec)


def _answers(client: Client, service: config.Service, folder: Path, wanted: list[str]) -> Iterator[Answer]:
    """The answers in the order of the URLs; bad ones only as long as the service serves anything else.

    Raises
    ------
    ServiceError
        If many answers one after the other, or the last, are no use, and so is what was served before.
    """
    known, bad, last = folder.parent / SERVED, 0, None
    pool = ThreadPoolExecutor(service.connections, thread_name_prefix="service")
    try:
        for url, answer in zip(wanted, pool.map(client.fetch, wanted), strict=True):
            if answer.kind == "bad":
                bad, last = bad + 1, answer
                if bad % PATIENCE == 0:
                    _refuse_unless_served(client, known, answer, bad)
            elif answer.new:
                bad = 0
                if answer.kind == "file" and not known.exists():
                    known.write_text(url)
            yield answer
        if last is not None and bad % PATIENCE:
            _refuse_unless_served(client, known, last, bad)
    finally:
        pool.shutdown(cancel_futures=True)


def _refuse_unless_served(client: Client, known: Path, answer: Answer, bad: int) -> None:
    before = known.read_text() if known.exists() else None
    if before is None or client.fetch(before, keep=False).kind != "file":
        what = "nor what it served before" if before else "and has served nothing yet"
        raise ServiceError(
            f"{answer.text}, for the last {bad:,} of what it was asked for, {what}. Is it down? Try images.service.url "
            "in a browser; if it has no images of these objects, cut them from the selection."
        )


def _open(answer: Answer, images: config.Images, bands: list[str]) -> dict[str, Plane | TileError]:
    if answer.kind == "nothing":
        return dict.fromkeys(bands, TileError(Status.OUTSIDE, answer.text))
    if answer.kind == "bad":
        return dict.fromkeys(bands, TileError(Status.UNREADABLE, answer.text + ", though others come"))
    try:
        return planes(answer.path, images, bands)
    except ValueError as error:
        return dict.fromkeys(bands, TileError(Status.UNREADABLE, str(error)))


def check(plane: Plane, scale: float, zero_point: float | None) -> float:
    """The pixel scale of a file, in arcseconds.

    Raises
    ------
    TileError
        UNREADABLE without a WCS of the sky; MISMATCHED if pixel scale (0.5 %) or zero point (0.01 mag) are not those expected.
    """
    try:
        found = wcs.pixel_scale(plane.cards, plane.pixels.shape)
    except ValueError as error:
        raise TileError(Status.UNREADABLE, f"the file {error}") from error
    if not abs(found / scale - 1) <= agreement.SCALE_TOLERANCE:
        raise TileError(
            Status.MISMATCHED, f"pixels of {found:.4f} arcsec; those of this survey are {scale:.4f} (within 0.5 %)"
        )
    point, card = agreement.zero_point_in(plane.header)
    if zero_point is not None and point is not None and not abs(point - zero_point) <= agreement.ZERO_POINT_TOLERANCE:
        raise TileError(
            Status.MISMATCHED,
            f"zero point {point:g} ({card}); that of this survey is {zero_point:g} (within 0.01 mag)",
        )
    return found


def _cut_band(
    plane: Plane, sky: NDArray[np.float64], images: config.Images, spec: config.Cutouts, row: int, b: int, to: Cutouts
) -> Status:
    """Cut one band of one target."""
    assert images.pixel_scale is not None
    check(plane, images.pixel_scale, images.zero_point_of(spec.bands[b]))
    height, width = plane.pixels.shape
    windows = place(*wcs.world_to_pixel(plane.cards, sky[:1], sky[1:]), spec.size, (height, width))
    if not windows.overlaps[0]:
        return Status.OUTSIDE
    box = Box(0, height, 0, width, 0, 1)
    copy_windows(plane.pixels, box, windows, _ONE, to.image[..., b], _ONE + row)
    to.bad_fraction[row, b] = count_bad(plane.bad, box, windows, _ONE, spec.size)[0] / spec.size**2
    if not windows.inside[0]:
        return Status.PARTLY_COVERED
    return Status.BAD_PIXELS if to.bad_fraction[row, b] > spec.max_bad_fraction else Status.OK


class _Problems:
    """What was wrong with how many files and in which bands, each kind once, with the first URL."""

    def __init__(self) -> None:
        self._found: dict[str, dict[str, list[str]]] = {}

    def add(self, text: str, band: str, url: str) -> None:
        """Of one band of one file."""
        self._found.setdefault(text, {}).setdefault(url, []).append(band)

    def texts(self, asked: int) -> list[str]:
        """One line a kind; bands are named where it is not all of the ``asked`` of a file."""
        lines = []
        for text, urls in self._found.items():
            bands = dict.fromkeys(band for found in urls.values() for band in found)
            where = f" of band {', '.join(bands)}" if len(bands) < asked else ""
            lines.append(f"{len(urls):,} cutout{'s' * (len(urls) > 1)}{where}: {text}; the first: {next(iter(urls))}")
        return lines
