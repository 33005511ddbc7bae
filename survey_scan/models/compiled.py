"""The compiled call: stored pixels in, logits out, one shape, everything between on the device."""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.errors import ModelError
from survey_scan.models import steps
from survey_scan.models.device import DeviceLost, is_lost
from survey_scan.models.files import File, short
from survey_scan.models.network import Network, Pixels
from survey_scan.models.package import Package, View
from survey_scan.models.readout import Readout
from survey_scan.store.quantisation import NAN_INT16


class CompiledNetwork(Network):
    """A network as one compiled function of fixed shape; each framework has its own subclass.

    In the function, in this order: int16 counts become fluxes (``count * step``, -32768 is NaN); float32; NaN becomes
    ``nan_fill``, which is therefore in the unit of the pixels; the bands and the central pixels the network takes; the
    normalisation; the network, in ``model.precision``; the logit, in float32. With several views of a cutout the last two
    are done for each, and the mean of their logits is taken.

    A batch is always padded to the same size, so nothing is compiled twice and a cutout gets the same logit whatever else is in
    its batch: bit by bit on TensorFlow; on JAX its place in the batch can change the last bits. Any number of threads may stage
    and score at once.

    Parameters
    ----------
    pixels : Pixels
        The cutouts.
    model : config.Model
        Batch size, precision, whether XLA compiles the call.
    package : Package
        How the pixels are made.
    view : View
        What the network sees of the cutouts.
    file : File
        The opened network.
    readout : Readout
        From the network's output to the logit.

    Raises
    ------
    ModelError
        If the network cannot be traced on these cutouts, or its output not be read.
    """

    #: What the framework raises when an operation fails.
    errors: ClassVar[tuple[type[Exception], ...]]

    def __init__(self, pixels: Pixels, model: config.Model, package: Package, view: View, file: File, readout: Readout):
        super().__init__(pixels, model.batch_size)
        self._model, self._package, self._view, self._file, self._readout = model, package, view, file, readout

    @property
    @abstractmethod
    def device(self) -> tuple[bool, str]:
        """Whether it is a GPU, and its name; ``CPU`` if it is none."""

    @property
    @abstractmethod
    def jit(self) -> bool:
        """Whether XLA compiles the call."""

    @staticmethod
    @abstractmethod
    def status(error: Exception) -> str:
        """How an operation ended, of one of ``errors``: the framework's word in lower case, without underscores."""

    @staticmethod
    @abstractmethod
    def replace(condition: Any, number: np.float32, x: Any) -> Any:
        """``x`` with a number where the condition is true."""

    @classmethod
    def exhausted(cls, error: Exception) -> bool:
        """Whether an operation ended for want of memory."""
        return cls.status(error) == "resourceexhausted"

    def function(self, image: Any, step: Any = None) -> Any:
        """What is compiled, from stored pixels to logits."""
        x = prepare(image, step, self._package, self._view, self.replace)
        logits = [self._logit(view) for view in views(x, self._model.views)]
        return logits[0] if len(logits) == 1 else sum(logits[1:], logits[0]) / np.float32(len(logits))

    def _logit(self, x: Any) -> Any:
        refusals: tuple[type[Exception], ...] = (ValueError, TypeError, *self.errors)
        try:
            output = self._file.head.forward(x)
        except refusals as error:
            raise ModelError(
                f"{self._package.network} cannot run on cutouts of shape {tuple(x.shape[1:])}: {short(str(error))} "
                "Set cutouts.size and cutouts.bands to what it was trained with."
            ) from None
        return self._readout(output)

    def padded(self, image: NDArray[Any], step: NDArray[np.float32] | None) -> list[NDArray[Any]]:
        """The arguments of the compiled call, from a batch; zeros stand where it has no rows."""
        self.check_batch(image, step)
        arrays = [image] if step is None else [image, step]
        return [_padded(array, self.batch_size) for array in arrays]

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Tell a GPU that failed from all other errors of the framework, which pass.

        Raises
        ------
        DeviceLost
            Only on a GPU; see :func:`survey_scan.models.device.is_lost`.
        """
        try:
            yield
        except self.errors as error:
            gpu, name = self.device
            if gpu and is_lost(self.status(error), str(error)):
                raise DeviceLost(f"the GPU ({name}) failed: {short(str(error))}") from error
            raise

    def describe(self) -> dict[str, Any]:
        """Facts for people and for the manifest."""
        path = self._package.network
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        return {
            "path": str(path),
            "contract": None if self._package.place is None else str(self._package.place),
            "kind": self._file.kind,
            "input": [self.batch_size, *self.pixels.shape],
            "dtype": self.pixels.dtype,
            "view": self._view.words(self.pixels.bands, self.pixels.size),
            "normalisation": [step.words() for step in self._package.steps],
            "parameters": self._file.parameters,
            "bytes": sum(f.stat().st_size for f in files),
            "output": self._readout.describe(),
            "backend": self._model.backend,
            "device": self.device[1],
            "precision": self._model.precision,
            "views": self._model.views,
            "jit": self.jit,
            "warnings": self._readout.warnings,
        }


def prepare(image: Any, step: Any, package: Package, view: View, replace: Any) -> Any:
    """What the network is given, from what is stored.

    A row of pixels with all its bands is one axis here, and the numbers of the bands are repeated along it: arithmetic
    with an axis of length 3 costs TensorFlow several times as much.

    Parameters
    ----------
    image : tensor, shape (n, size, size, bands)
        As stored.
    step : float32 tensor, shape (n, bands), or None
        Value of one count, with int16 only.
    package : Package
        ``nan_fill`` and the steps of the normalisation.
    view : View
        Which bands and pixels the network takes.
    replace : callable
        ``replace(condition, number, x)``: ``x`` with a number where the condition is true.

    Returns
    -------
    float32 tensor, shape (n, size, size, bands)
        Size and bands as the normalisation leaves them.
    """
    from keras import ops

    n, size, _, bands = image.shape
    fill = np.float32(package.nan_fill)
    x = ops.cast(ops.reshape(image, (n, size, size * bands)), "float32")
    if step is None:
        x = replace(ops.isnan(x), fill, x)
    else:
        flux = x * ops.tile(step, (1, size))[:, None, :]
        x = replace(x == NAN_INT16, fill, flux)
    x = ops.reshape(x, image.shape)
    if view.margin:
        inside = slice(view.margin, size - view.margin)
        x = x[:, inside, inside]
    return steps.apply(package.steps, steps.take(x, list(view.numbers)), list(view.bands))


def views(x: Any, n: int) -> list[Any]:
    """A batch as it is, its mirror images, and the same of its transpose: the symmetries of the square.

    Parameters
    ----------
    x : tensor, shape (m, size, size, bands)
    n : {1, 4, 8}
        The batch alone; with its mirror images along x, along y and along both; all eight.
    """
    from keras import ops

    if n == 1:
        return [x]
    turned = [x] if n == 4 else [x, ops.transpose(x, (0, 2, 1, 3))]
    return [ops.flip(t, axis) if axis else t for t in turned for axis in (None, 1, 2, (1, 2))]


def _padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    if len(array) == rows:
        return array
    out = np.zeros((rows, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
