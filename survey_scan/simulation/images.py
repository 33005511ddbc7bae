"""Small images a user has in a file: galaxies to lens, point-spread functions."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.errors import ImageError


def read(path: Path, what: str) -> list[NDArray[np.float64]]:
    """Read images: .npy or .npz (images, y, x), a Zarr array of that shape, or FITS, a cube or an image an HDU.

    Parameters
    ----------
    path : Path
        The file, or the folder of a Zarr array.
    what : str
        What they are, for messages.

    Raises
    ------
    ImageError
        If it cannot be read, or an image is not a plane of finite pixels whose sum is positive.
    """
    try:
        found = _load(path)
    except (OSError, ValueError, IndexError) as error:
        raise ImageError(f"{path}: cannot be read as {what}: {error}") from None
    images = [np.asarray(image, np.float64) for image in (found[None] if np.ndim(found) == 2 else found)]
    if not images:
        raise ImageError(f"{path}: holds no {what}. Give images of shape (images, y, x), or FITS with an image an HDU.")
    for number, image in enumerate(images):
        if image.ndim != 2:
            raise ImageError(f"{path}: image {number} of the {what} has shape {image.shape}, not (y, x).")
        total = float(image.sum())
        if not np.isfinite(total) or total <= 0:
            raise ImageError(
                f"{path}: image {number} of the {what} has a sum of {total:g}; it must be positive, and every pixel "
                "finite. Leave it out."
            )
    return images


def _load(path: Path) -> Any:
    if path.suffix == ".zarr":
        import zarr

        return zarr.open_array(path, mode="r")[:]
    if path.suffix == ".npz":
        with np.load(path) as file:
            return file[file.files[0]]
    if path.suffix == ".npy":
        return np.load(path)
    from astropy.io import fits

    with fits.open(path, memmap=False) as file:
        data = [hdu.data for hdu in file if hdu.is_image and hdu.data is not None]
    return data[0] if len(data) == 1 else data
