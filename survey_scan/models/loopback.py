"""``model.path: loopback``: a scorer without a network, to run and test everything around one."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.models.network import Network
from survey_scan.store.quantisation import restore


class Loopback(Network):
    """Logit = arcsinh of the mean of all finite pixels of all bands, in float64, rounded to float32.

    A cutout without a finite pixel gets NaN. Needs numpy alone, and gives the same bits whatever the batches. The other
    keys of the section ``model``, the batch size apart, have no effect.
    """

    def stage(
        self, image: NDArray[Any], step: NDArray[np.float32] | None = None
    ) -> tuple[NDArray[Any], NDArray[np.float32] | None]:
        """Check the batch; nothing is copied or padded."""
        self.check_batch(image, step)
        return image, step

    def score(self, staged: tuple[NDArray[Any], NDArray[np.float32] | None]) -> NDArray[np.float32]:
        """Logits of a batch, shape (n,)."""
        image, step = staged
        pixels = image if step is None else restore(image, step)
        # One row at a time: numpy's order of additions then depends on that row alone.
        finite = [row[np.isfinite(row)] for row in pixels]
        means = [np.mean(values, dtype=np.float64) if values.size else np.nan for values in finite]
        return np.arcsinh(np.array(means, np.float64)).astype(np.float32)

    def describe(self) -> dict[str, Any]:
        """Facts for people and for the manifest."""
        return {
            "path": "loopback",
            "contract": None,
            "kind": "loopback",
            "input": [self.batch_size, *self.pixels.shape],
            "dtype": self.pixels.dtype,
            "parameters": 0,
            "bytes": 0,
            "output": "logit: arcsinh of the mean of the finite pixels",
            "backend": "numpy",
            "device": "CPU",
            "precision": "float64",
            "views": 1,
            "warnings": [],
        }

    def projected_bytes(self) -> int:
        """A Python process with numpy, and a few batches."""
        return (200 << 20) + 8 * 4 * self.batch_size * int(np.prod(self.pixels.shape))
