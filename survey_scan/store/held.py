"""One partition's cutouts in memory, as they would be stored: what goes from the task that cuts to the one that scores."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.config import CHUNK_ROWS
from survey_scan.store.quantisation import quantise
from survey_scan.store.reader import StoredBatch

if TYPE_CHECKING:
    from survey_scan.imaging import base

#: Largest float16; pixels beyond it are stored as this.
FLOAT16_MAX = 65504.0


@dataclass(frozen=True)
class Held:
    """Rows of a partition; read as :class:`~survey_scan.store.reader.Reader` reads them, from row 0 on.

    Attributes
    ----------
    image : ndarray, shape (n, size, size, bands)
        As stored: float32, float16 or int16.
    step : ndarray of float32, shape (n, bands), or None
        Of int16 only.
    object_id, status : ndarray, shape (n,)
        Identifiers, and :class:`survey_scan.schema.Status`.
    bad_fraction : ndarray of float32, shape (n, bands)
        As of :class:`survey_scan.imaging.base.Cutouts`.
    """

    image: NDArray[Any]
    step: NDArray[np.float32] | None
    object_id: NDArray[Any]
    status: NDArray[np.uint8]
    bad_fraction: NDArray[np.float32]

    def read(self, start: int, stop: int) -> StoredBatch:
        """Rows ``start`` to ``stop - 1`` as stored; nothing is copied."""
        return StoredBatch(self.image[start:stop], None if self.step is None else self.step[start:stop])

    def column(self, name: str, start: int, stop: int) -> NDArray[Any]:
        """Rows ``start`` to ``stop - 1`` of an array."""
        values: NDArray[Any] = getattr(self, name)[start:stop]
        return values

    def kept(self, start: int, stop: int) -> NDArray[np.bool_]:
        """All rows are here."""
        return np.ones(stop - start, bool)

    def __sizeof__(self) -> int:
        """Bytes: Dask asks before it moves this to another worker."""
        arrays = (self.image, self.object_id, self.status, self.bad_fraction, self.step)
        return sum(array.nbytes for array in arrays if array is not None)


def hold(object_id: NDArray[Any], cutouts: "base.Cutouts", dtype: str) -> Held:
    """Cutouts as they would be stored.

    Parameters
    ----------
    object_id : ndarray
        Of the targets.
    cutouts : Cutouts
        Row by row those of the targets; float32 pixels are not copied.
    dtype : {'float32', 'float16', 'int16'}
        Of the stored pixels.
    """
    image: NDArray[Any] = cutouts.image
    step = np.empty((len(image), image.shape[-1]), np.float32) if dtype == "int16" else None
    if dtype != "float32":
        image = np.empty(image.shape, dtype)
        for start in range(0, len(image), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            image[rows], some = as_stored(cutouts.image[rows], dtype)
            if step is not None:
                step[rows] = some
    return Held(image, step, np.asarray(object_id), cutouts.status, cutouts.bad_fraction)


def as_stored(
    pixels: NDArray[np.float32], dtype: str, memory: NDArray[np.int16] | None = None
) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
    """Pixels in the type they are stored in, and the steps of int16, which are put into ``memory`` if that is given."""
    if dtype == "int16":
        return quantise(pixels, memory)
    if dtype == "float16":
        return np.clip(pixels, -FLOAT16_MAX, FLOAT16_MAX).astype(np.float16), None
    return pixels, None
