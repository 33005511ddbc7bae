"""From the noiseless sky to the pixels of one tile and band: point-spread function, stars, noise."""

import numpy as np
from scipy import fft

from survey_scan.demo.photometry import GAIN, MOFFAT_BETA
from survey_scan.demo.profiles import Float

MARGIN = 30
"""Pixels of sky rendered beyond a tile's edge, and half width of the point-spread function."""
SATURATION = 60_000.0
"""Counts at which a pixel stops rising."""


def moffat(fwhm: float, half: int, dx: float = 0.0, dy: float = 0.0) -> Float:
    """Moffat profile of unit sum.

    Parameters
    ----------
    fwhm : float
        Full width at half maximum in pixels.
    half : int
        The stamp is (2 half + 1) pixels wide.
    dx, dy : float
        Offset of the profile from the middle pixel, in pixels.
    """
    alpha2 = (0.5 * fwhm) ** 2 / (2.0 ** (1.0 / MOFFAT_BETA) - 1.0)
    steps = np.arange(-half, half + 1, dtype=np.float32)
    r2 = (steps[None, :] - np.float32(dx)) ** 2 + (steps[:, None] - np.float32(dy)) ** 2
    image = (1.0 + r2 / np.float32(alpha2)) ** np.float32(-MOFFAT_BETA)
    return np.asarray(image / image.sum(), np.float32)


def blur(sky: Float, fwhm: float) -> Float:
    """Convolve a piece of sky with a point-spread function and drop its margin.

    Parameters
    ----------
    sky : float32 array (height + 2 MARGIN, width + 2 MARGIN)
    fwhm : float
        In pixels.

    Returns
    -------
    float32 array (height, width)
    """
    shape = [fft.next_fast_len(side, real=True) for side in sky.shape]
    kernel = np.zeros(shape, np.float32)
    kernel[: 2 * MARGIN + 1, : 2 * MARGIN + 1] = moffat(fwhm, MARGIN)
    blurred = fft.irfft2(fft.rfft2(sky, shape) * fft.rfft2(kernel), shape)
    # the kernel's middle stands at (MARGIN, MARGIN), so results lie MARGIN further; what wraps round is dropped
    return np.asarray(blurred[2 * MARGIN : sky.shape[0], 2 * MARGIN : sky.shape[1]], np.float32)


def add_noise(rng: np.random.Generator, image: Float, sky_noise: float) -> Float:
    """Add white sky noise and the photon noise of the objects, and cut bright stars off at saturation.

    Real coadds are resampled and their noise is slightly correlated; here every pixel is independent.
    """
    sigma = np.sqrt(np.maximum(image, 0.0) / np.float32(GAIN) + np.float32(sky_noise**2))
    noisy = image + sigma * rng.standard_normal(image.shape, np.float32)
    return np.minimum(noisy, np.float32(SATURATION))
