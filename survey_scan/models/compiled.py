"""The compiled call: stored pixels in, logits out, one shape, everything between on the device."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.errors import ModelError
from survey_scan.models.files import File, short
from survey_scan.models.memory import projected_bytes
from survey_scan.models.network import Network, Pixels
from survey_scan.models.readout import Readout
from survey_scan.store.quantisation import NAN_INT16


class CompiledNetwork(Network):
    """A network as one ``tf.function`` of fixed shape.

    Inside the graph, in this order: int16 counts become fluxes (``count * step``, -32768 is NaN); float32; NaN becomes
    ``nan_fill``, which is therefore in the unit of the pixels; ``clip((pixels - offset) / scale)``; the network; the
    logit.

    A batch is always padded to the same size, so nothing is traced twice and a cutout gets the same logit, bit by bit,
    whatever else is in its batch.

    Parameters
    ----------
    pixels : Pixels
        The cutouts.
    model : config.Model
        Path, normalisation, batch size, whether XLA compiles the call.
    file : File
        The opened network.
    readout : Readout
        From the network's output to the logit.

    Raises
    ------
    ModelError
        If the network cannot be traced on these cutouts, or its output not be read.
    """

    def __init__(self, pixels: Pixels, model: config.Model, file: File, readout: Readout):
        import tensorflow as tf

        super().__init__(pixels, model.batch_size)
        self._model, self._file, self._readout = model, file, readout
        gpus = tf.config.get_visible_devices("GPU")
        self._device = "GPU:0" if gpus else "CPU:0"
        details = tf.config.experimental.get_device_details(gpus[0]) if gpus else {"device_name": "CPU"}
        self._device_name = str(details.get("device_name", "GPU"))

        def call(image: Any, step: Any = None) -> Any:
            x = prepare(image, step, model)
            try:
                output = file.head.forward(x)
            except (ValueError, TypeError, tf.errors.OpError) as error:
                raise ModelError(
                    f"{model.path} cannot run on cutouts of shape {pixels.shape}: {short(str(error))} "
                    "Set cutouts.size and cutouts.bands to what it was trained with."
                ) from None
            return readout(output)

        signature = [tf.TensorSpec((model.batch_size, *pixels.shape), pixels.dtype)]
        if pixels.dtype == "int16":
            signature.append(tf.TensorSpec((model.batch_size, len(pixels.bands)), tf.float32))
        with tf.device(self._device):
            self.call = tf.function(call, input_signature=signature, jit_compile=model.jit, autograph=False)
            self._graph = self.call.get_concrete_function().graph

    def stage(self, image: NDArray[Any], step: NDArray[np.float32] | None = None) -> tuple[int, tuple[Any, ...]]:
        """Pad a batch to the compiled shape and bring it to the device."""
        import tensorflow as tf

        self.check_batch(image, step)
        arrays = (image,) if step is None else (image, step)
        with tf.device(self._device):
            return len(image), tuple(tf.constant(_padded(a, self.batch_size)) for a in arrays)

    def score(self, staged: tuple[int, tuple[Any, ...]]) -> NDArray[np.float32]:
        """Logits of a staged batch, shape (n,)."""
        n, tensors = staged
        logits: NDArray[np.float32] = self.call(*tensors).numpy()
        return logits[:n]

    def describe(self) -> dict[str, Any]:
        """Facts for people and for the manifest."""
        path = Path(self._model.path)
        files = [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
        return {
            "path": str(path),
            "kind": self._file.kind,
            "input": [self.batch_size, *self.pixels.shape],
            "dtype": self.pixels.dtype,
            "parameters": self._file.parameters,
            "bytes": sum(f.stat().st_size for f in files),
            "output": self._readout.describe(),
            "device": self._device_name,
            "jit": self._model.jit,
            "warnings": self._readout.warnings,
        }

    def projected_bytes(self) -> int:
        """Estimate of a scoring process' memory; see :func:`survey_scan.models.memory.projected_bytes`."""
        return projected_bytes(self._graph, self._file.weight_bytes, self.batch_size, self.pixels)


def prepare(image: Any, step: Any, model: config.Model) -> Any:
    """What the network is given, from what is stored.

    A row of pixels with all its bands is one axis here, and the numbers of the bands are repeated along it: arithmetic
    with an axis of length 3 costs TensorFlow several times as much, and so does its ``where`` with a number.

    Parameters
    ----------
    image : tensor, shape (n, size, size, bands)
        As stored.
    step : float32 tensor, shape (n, bands), or None
        Value of one count, with int16 only.
    model : config.Model
        ``nan_fill`` and ``normalisation``.

    Returns
    -------
    float32 tensor, shape (n, size, size, bands)
    """
    import tensorflow as tf

    n, size, _, bands = image.shape
    flat = (n, size, size * bands)
    fill = tf.fill(flat, np.float32(model.nan_fill))
    x = tf.cast(tf.reshape(image, flat), tf.float32)
    if step is None:
        x = tf.raw_ops.Select(condition=tf.math.is_nan(x), x=fill, y=x)
    else:
        flux = x * tf.tile(step, (1, size))[:, None, :]
        x = tf.raw_ops.Select(condition=x == NAN_INT16, x=fill, y=flux)
    given = model.normalisation
    if given is not None:
        offset, scale = (np.asarray(value, np.float32) for value in (given.offset, given.scale))
        x = (x - np.resize(offset, size * bands)) / np.resize(scale, size * bands)
        if given.clip is not None:
            x = tf.clip_by_value(x, np.float32(given.clip[0]), np.float32(given.clip[1]))
    return tf.reshape(x, image.shape)


def _padded(array: NDArray[Any], rows: int) -> NDArray[Any]:
    if len(array) == rows:
        return array
    out = np.zeros((rows, *array.shape[1:]), array.dtype)
    out[: len(array)] = array
    return out
