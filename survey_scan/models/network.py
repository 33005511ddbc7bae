"""What scoring asks of a network."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Pixels:
    """What the cutouts of a store look like.

    Parameters
    ----------
    bands : tuple of str
        Bands in the order of the last axis.
    size : int
        Side in pixels.
    dtype : str
        ``float32``, ``float16`` or ``int16`` (then each row and band has a step, and -32768 is a missing pixel).
    """

    bands: tuple[str, ...]
    size: int
    dtype: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """``(size, size, bands)``."""
        return self.size, self.size, len(self.bands)


class Network(ABC):
    """A function from stored cutouts to logits that takes batches of one size.

    A batch goes in two steps, so that one thread can bring the next to the device while another waits for this one:
    ``network.score(network.stage(image, step))``.

    Parameters
    ----------
    pixels : Pixels
        The cutouts it takes.
    batch_size : int
        Rows of one call; a smaller batch is padded.
    """

    def __init__(self, pixels: Pixels, batch_size: int):
        self.pixels = pixels
        self.batch_size = batch_size

    @abstractmethod
    def stage(self, image: NDArray[Any], step: NDArray[np.float32] | None = None) -> Any:
        """Bring at most ``batch_size`` cutouts to the device.

        Parameters
        ----------
        image : ndarray, shape (n, size, size, bands)
            Cutouts in the stored dtype.
        step : ndarray of float32, shape (n, bands), optional
            Value of one count; with int16 cutouts only.
        """

    @abstractmethod
    def score(self, staged: Any) -> NDArray[np.float32]:
        """Logits of what :meth:`stage` returned, shape (n,)."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Facts for people and for the manifest, as JSON can hold them."""

    @abstractmethod
    def projected_bytes(self) -> int:
        """Estimate of the host memory a process needs to score with this network, everything included."""

    def logits(self, image: NDArray[Any], step: NDArray[np.float32] | None = None) -> NDArray[np.float32]:
        """Logits of any number of cutouts, one after the other.

        Parameters
        ----------
        image : ndarray, shape (n, size, size, bands)
            Cutouts in the stored dtype.
        step : ndarray of float32, shape (n, bands), optional
            Value of one count; with int16 cutouts only.

        Returns
        -------
        ndarray of float32, shape (n,)
        """
        out = np.empty(len(image), np.float32)
        for first in range(0, len(image), self.batch_size):
            rows = slice(first, first + self.batch_size)
            out[rows] = self.score(self.stage(image[rows], None if step is None else step[rows]))
        return out

    def check_batch(self, image: NDArray[Any], step: NDArray[np.float32] | None) -> None:
        """Refuse a batch that is not what the network was loaded for.

        Raises
        ------
        ValueError
            Always a mistake of the caller, never of the user.
        """
        pixels = self.pixels
        if image.shape[1:] != pixels.shape or image.dtype != pixels.dtype or len(image) > self.batch_size:
            raise ValueError(
                f"a batch of {image.dtype}{image.shape} was given to a network loaded for at most {self.batch_size} "
                f"cutouts of {pixels.dtype}{pixels.shape}"
            )
        expected = (len(image), len(pixels.bands)) if pixels.dtype == "int16" else None
        if (None if step is None else step.shape) != expected:
            raise ValueError(f"this batch needs steps of shape {expected}, not {None if step is None else step.shape}")
