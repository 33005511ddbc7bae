"""Cutouts from tiles in FITS files, in one pass over each tile and band.

A band that cannot be used is NaN in the cutouts of its tile's targets, gives them a status and leaves one text; other
bands and tiles go on. Each band is cut by its own header's WCS.
"""

from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.errors import TileError
from survey_scan.imaging import agreement, cost, native, wcs
from survey_scan.imaging.base import Cutouts
from survey_scan.imaging.cost import Indices
from survey_scan.imaging.fits_header import ImageHdu, find_image, mask_planes, unreadable
from survey_scan.imaging.fits_image import FitsImage
from survey_scan.imaging.tiles import hdu_of, tile_file
from survey_scan.imaging.windows import copy_windows, count_bad, place, undefined
from survey_scan.schema import SEVERITY, Status

#: By how much the pixel scale of a tile may differ from the expected one.
SCALE_TOLERANCE = 0.005

_SEVERITY = np.array([SEVERITY.index(status) for status in Status], dtype=np.uint8)


@dataclass(frozen=True)
class _Band:
    """The images of one band of one tile."""

    name: str
    image: ImageHdu
    mask: ImageHdu | None
    weight: ImageHdu | None
    bits: list[int] | None


def cut(
    targets: pd.DataFrame,
    images: config.Images,
    spec: config.Cutouts,
    pixel_scale: float | None = None,
    out: NDArray[np.float32] | None = None,
) -> Cutouts:
    """Cut targets out of their tiles.

    Parameters
    ----------
    targets : DataFrame
        Columns ``ra``, ``dec`` (degrees) and ``tile``, empty for a target on no tile. Pixel positions are computed
        from the sky position by each band's header. Sorting by tile and y saves reading, nothing else.
    images : config.Images
        Where the tiles are.
    spec : config.Cutouts
        Bands in order, size, and how many bad pixels are too many.
    pixel_scale : float, optional
        Arcseconds; tiles that differ by more than 0.5 % are not used.
    out : ndarray of float32, shape (at least n, size, size, bands), optional
        Memory for the pixels, overwritten; new if not given.

    Returns
    -------
    Cutouts
        A target has the most severe status of its bands (:data:`survey_scan.schema.SEVERITY`).

    Raises
    ------
    OSError
        If the file system fails, as opposed to one file.
    """
    shape = (len(targets), spec.size, spec.size, len(spec.bands))
    result = Cutouts(
        image=np.empty(shape, dtype=np.float32) if out is None else out[: len(targets)],
        status=np.zeros(len(targets), dtype=np.uint8),
        bad_fraction=np.ones((len(targets), len(spec.bands)), dtype=np.float32),
    )
    tiles = targets["tile"].to_numpy(dtype=object)
    nowhere = tiles == ""
    result.image[nowhere] = np.nan
    _raise_status(result.status, np.flatnonzero(nowhere), Status.OUTSIDE)
    codes, names = pd.factorize(np.where(nowhere, "", tiles))
    sky = targets[["ra", "dec"]].to_numpy(np.float64)
    reads: Counter[str] = Counter()
    for code, tile in enumerate(names):
        if tile:
            reads += _cut_tile(str(tile), np.flatnonzero(codes == code), sky, images, spec, pixel_scale, result)
    result.reads.update(reads)
    return result


def _cut_tile(
    tile: str,
    rows: Indices,
    sky: NDArray[np.float64],
    images: config.Images,
    spec: config.Cutouts,
    pixel_scale: float | None,
    result: Cutouts,
) -> Counter[str]:
    """Cut the targets of one tile into their rows of the result; how its bands were read."""
    reads: Counter[str] = Counter()
    failures: dict[str, TileError] = {}
    found: dict[str, _Band] = {}
    for name in spec.bands:
        try:
            found[name] = _find(images, tile, name, pixel_scale)
        except TileError as error:
            failures[name] = error
    shapes = Counter(band.image.layout.shape for band in found.values())
    for b, name in enumerate(spec.bands):
        try:
            if name in failures:
                raise failures[name]
            _check_shape(found[name].image, shapes)
            mode = _cut_band(found[name], rows, sky[rows], images, spec, b, result)
            reads.update([mode] if mode else [])
        except TileError as error:
            result.image[rows, :, :, b] = np.nan
            result.bad_fraction[rows, b] = 1
            _raise_status(result.status, rows, error.status)
            result.problems.append(f"tile {tile}, band {name}: {error}")
    return reads


def _find(images: config.Images, tile: str, band: str, pixel_scale: float | None) -> _Band:
    """The images of one band, checked as far as their headers go."""
    image = find_image(tile_file(images, tile, band), hdu_of(images.hdu, band))
    try:
        scale = wcs.pixel_scale(image.cards, image.layout.shape)
    except ValueError as error:
        raise unreadable(image, str(error)) from error
    if pixel_scale is not None and not abs(scale / pixel_scale - 1) <= SCALE_TOLERANCE:
        raise TileError(
            Status.MISMATCHED,
            f"{image} has pixels of {scale:.4f} arcsec; those of this survey are {pixel_scale:.4f} (within 0.5 %)",
        )
    expected, (found, card) = images.zero_point_of(band), agreement.zero_point_of(image)
    if expected is not None and found is not None and not abs(found - expected) <= agreement.ZERO_POINT_TOLERANCE:
        raise TileError(
            Status.MISMATCHED,
            f"{image} has zero point {found:g} ({card}); that of this survey is {expected:g} (within 0.01 mag)",
        )
    beside: list[ImageHdu | None] = []
    for section in (images.mask, images.weight):
        if section is None:
            beside.append(None)
            continue
        hdu = images.hdu if section.hdu is None else section.hdu
        other = find_image(tile_file(images, tile, band, section.files), hdu_of(hdu, band))
        _check_shape(other, Counter([image.layout.shape]), "image is")
        beside.append(other)
    mask, weight = beside
    bits = _bits(mask, images.mask.bits) if mask and images.mask and images.mask.bits is not None else None
    return _Band(band, image, mask, weight, bits)


def _bits(mask: ImageHdu, wanted: list[int | str]) -> list[int]:
    """Numbers of a mask's bits; those given by the name of a plane, from the mask's own header."""
    planes = mask_planes(mask)
    for name in wanted:
        if isinstance(name, str) and name not in planes:
            there = f"its planes are {', '.join(sorted(planes))}" if planes else "it names no planes (cards MP_...)"
            raise unreadable(mask, f"is a mask without the plane {name!r} of images.mask.bits; {there}")
    return [planes[bit] if isinstance(bit, str) else bit for bit in wanted]


def _check_shape(image: ImageHdu, shapes: Counter[tuple[int, int]], others: str = "other bands are") -> None:
    """A tile's images have one shape: that of most of them, of the first band where there is no majority."""
    height, width = shapes.most_common(1)[0][0]
    if image.layout.shape != (height, width):
        raise TileError(
            Status.MISMATCHED,
            f"{image} is {image.layout.shape[1]} x {image.layout.shape[0]} pixels; "
            f"the tile's {others} {width} x {height}",
        )


def _cut_band(
    band: _Band,
    rows: Indices,
    sky: NDArray[np.float64],
    images: config.Images,
    spec: config.Cutouts,
    b: int,
    to: Cutouts,
) -> str | None:
    """Cut one band of one tile; how it was read, None if no target is on it."""
    layout, size = band.image.layout, spec.size
    windows = place(*wcs.world_to_pixel(band.image.cards, sky[:, 0], sky[:, 1]), size, layout.shape)
    to.image[rows[~windows.overlaps], :, :, b] = np.nan
    _raise_status(to.status, rows[~windows.overlaps], Status.OUTSIDE)
    _raise_status(to.status, rows[windows.overlaps & ~windows.inside], Status.PARTLY_COVERED)
    order = np.flatnonzero(windows.overlaps)
    if not len(order):
        return None
    order = order[np.lexsort((windows.x0[order], windows.y0[order]))]
    height, width = layout.shape
    y0, x0 = windows.y0[order], windows.x0[order]
    beside = [native.layout(hdu) for hdu in (band.mask, band.weight) if hdu]
    inside = np.maximum(y0, 0), np.minimum(y0 + size, height), np.maximum(x0, 0), np.minimum(x0 + size, width)
    mode, boxes = cost.choose(native.layout(band.image), *inside, *beside)
    with FitsImage(band.image, mode) as image:
        counts = None if beside else image.cut(windows, order, to.image[..., b], rows[order], images.blank)
        if counts is not None:
            to.bad_fraction[rows[order], b] = counts / size**2
        else:
            for box, pixels, bad in _read(band, images, image, boxes):
                chosen = order[box.first : box.last]
                copy_windows(pixels, box, windows, chosen, to.image[..., b], rows[chosen])
                to.bad_fraction[rows[chosen], b] = count_bad(bad, box, windows, chosen, size) / size**2
    full = rows[windows.overlaps]
    _raise_status(to.status, full[to.bad_fraction[full, b] > spec.max_bad_fraction], Status.BAD_PIXELS)
    return mode if counts is None else "windows"


def _read(
    band: _Band, images: config.Images, image: FitsImage, boxes: list[cost.Box]
) -> Iterator[tuple[cost.Box, NDArray[np.float32], NDArray[np.bool_]]]:
    """Pixels of each box, and which of them are bad."""
    with ExitStack() as stack:
        mask = stack.enter_context(FitsImage(band.mask, image.mode)) if band.mask else None
        weight = stack.enter_context(FitsImage(band.weight, image.mode)) if band.weight else None
        for box in boxes:
            pixels = np.asarray(image.read(*box[:4]), dtype=np.float32)
            bad = undefined(pixels, images.blank)
            if weight:
                bad |= ~(weight.read(*box[:4]) > 0)
            if mask:
                bad |= _masked(mask.hdu, mask.read(*box[:4]), band.bits)
            yield box, pixels, bad


def _masked(hdu: ImageHdu, mask: NDArray[Any], bits: list[int] | None) -> NDArray[np.bool_]:
    """Which pixels have any of the bits, or any bit at all."""
    if mask.dtype.kind not in "iu":
        raise unreadable(hdu, f"is a mask of {mask.dtype} values; integers are needed")
    if bits is None:
        return mask.astype(np.bool_)
    unsigned = mask.view(f"u{mask.dtype.itemsize}")
    wanted = sum(1 << bit for bit in set(bits)) % 2 ** (8 * mask.dtype.itemsize)
    return np.asarray(unsigned & unsigned.dtype.type(wanted), dtype=np.bool_)


def _raise_status(status: NDArray[np.uint8], rows: Indices, new: Status) -> None:
    """Give rows a status where it is more severe than what they have."""
    status[rows[_SEVERITY[status[rows]] < _SEVERITY[new]]] = new
