"""Under what an object is observed: point-spread function and noise of each band."""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from survey_scan.errors import ImageError
from survey_scan.simulation import images
from survey_scan.simulation.config import Band, Survey, between
from survey_scan.simulation.light import PSF_REACH, Blur, Frame, moffat

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Conditions:
    """Of one object.

    Attributes
    ----------
    fwhm : ndarray, shape (bands,)
        Of the point-spread function, in arcsec.
    blurs : list of Blur
        By band.
    noise : ndarray, shape (bands,)
        Standard deviation of the sky in a pixel.
    inverse_gain : ndarray, shape (bands,)
        Flux per electron; 0 where the photon noise of the objects is left out.
    """

    fwhm: Floats
    blurs: list[Blur]
    noise: Floats
    inverse_gain: Floats

    @classmethod
    def draw(cls, rng: np.random.Generator, survey: Survey, frame: Frame) -> Self:
        """Draw them, band by band."""
        kernels, fwhm, noise = [], [], []
        for band in survey.bands.values():
            kernel, width = _psf(rng, band, survey)
            kernels.append(kernel)
            fwhm.append(width)
            noise.append(_spread(rng, band.noise))
        gains = np.array([1 / band.gain if band.gain else 0.0 for band in survey.bands.values()])
        return cls(np.array(fwhm), [Blur(frame, kernel) for kernel in kernels], np.array(noise), gains)

    def variance(self, band: int, light: Floats) -> Floats:
        """Of each pixel of a band with so much light of objects."""
        return np.asarray(self.noise[band] ** 2 + np.maximum(light, 0.0) * self.inverse_gain[band])


def frame_of(survey: Survey, size: int) -> Frame:
    """The frame of cutouts of a survey, its margin as wide as the widest point-spread function reaches."""
    reach = 0
    for band in survey.bands.values():
        if band.psf is not None:
            reach = max(reach, *(len(kernel) // 2 for kernel, _ in _measured(band.psf, survey.pixel_scale)))
        else:
            reach = max(reach, _half(np.max(np.asarray(band.fwhm, float)), survey.pixel_scale))
    return Frame(size, reach, survey.pixel_scale, survey.supersampling)


def _half(fwhm: float | np.floating, scale: float) -> int:
    return int(np.ceil(PSF_REACH * fwhm / scale))


def _psf(rng: np.random.Generator, band: Band, survey: Survey) -> tuple[Floats, float]:
    if band.psf is not None:
        measured = _measured(band.psf, survey.pixel_scale)
        return measured[int(rng.integers(len(measured)))]
    fwhm = _spread(rng, band.fwhm)
    return moffat(fwhm / survey.pixel_scale, survey.moffat, _half(fwhm, survey.pixel_scale)), fwhm


def _spread(rng: np.random.Generator, value: float | list[float] | None) -> float:
    """A number, or one drawn flat between two."""
    return between(rng, value) if isinstance(value, list) else float(value or 0.0)


@lru_cache(maxsize=32)
def _measured(path: Path, scale: float) -> list[tuple[Floats, float]]:
    """The point-spread functions of a file, of unit sum, and their FWHM in arcsec.

    Raises
    ------
    ImageError
        If the file cannot be read, or an image has no middle pixel.
    """
    found = []
    for number, image in enumerate(images.read(path, "point-spread functions")):
        if image.shape[0] != image.shape[1] or len(image) % 2 == 0:
            raise ImageError(
                f"{path}: point-spread function {number} has shape {image.shape}; it must be square with an odd number "
                "of pixels, its peak on the middle one."
            )
        # the circle as large as the part above half maximum, on a grid ten times finer
        fine = ndimage.zoom(image, 10, order=3, grid_mode=True, mode="nearest")
        area = np.count_nonzero(fine > 0.5 * fine.max()) * (scale / 10) ** 2
        found.append((image / image.sum(), float(2 * np.sqrt(area / np.pi))))
    return found
