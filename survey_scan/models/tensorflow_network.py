"""A network on TensorFlow: one ``tf.function``, with XLA or without."""

from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.models.compiled import CompiledNetwork
from survey_scan.models.files import File
from survey_scan.models.memory import live_bytes, projected_bytes
from survey_scan.models.network import Pixels
from survey_scan.models.package import Package, View
from survey_scan.models.readout import Readout


class TensorflowNetwork(CompiledNetwork):
    """See :class:`CompiledNetwork`.

    Whether float32 numbers are multiplied as TF32, on GPUs that can, is one setting of a process in TensorFlow: that of
    the network loaded last holds for all.
    """

    errors = (tf.errors.OpError,)

    def __init__(self, pixels: Pixels, model: config.Model, package: Package, view: View, file: File, readout: Readout):
        super().__init__(pixels, model, package, view, file, readout)
        tf.config.experimental.enable_tensor_float_32_execution(model.precision != "float32")
        signature = [tf.TensorSpec((model.batch_size, *pixels.shape), pixels.dtype)]
        if pixels.dtype == "int16":
            signature.append(tf.TensorSpec((model.batch_size, len(pixels.bands)), tf.float32))
        self._where = "GPU:0" if self.device[0] else "CPU:0"
        with tf.device(self._where):
            self.call = tf.function(self.function, input_signature=signature, jit_compile=model.jit, autograph=False)
            self._graph = self.call.get_concrete_function().graph

    @property
    def device(self) -> tuple[bool, str]:
        """Whether it is a GPU, and its name; ``CPU`` if it is none."""
        gpus = tf.config.get_visible_devices("GPU")
        if not gpus:
            return False, "CPU"
        return True, str(tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU"))

    @property
    def jit(self) -> bool:
        """Whether XLA compiles the call."""
        return self._model.jit

    @staticmethod
    def status(error: Exception) -> str:
        """Such as ``internal`` of an ``InternalError``."""
        return type(error).__name__.removesuffix("Error").lower()

    @staticmethod
    def replace(condition: Any, number: np.float32, x: Any) -> Any:
        """``x`` with a number where the condition is true; TensorFlow's ``where`` with a number costs several times it."""
        return tf.raw_ops.Select(condition=condition, x=tf.fill(x.shape, number), y=x)

    def stage(self, image: NDArray[Any], step: NDArray[np.float32] | None = None) -> tuple[int, list[Any]]:
        """Pad a batch to the compiled shape and bring it to the device."""
        arrays = self.padded(image, step)
        with self.watched(), tf.device(self._where):
            return len(image), [tf.constant(array) for array in arrays]

    def score(self, staged: tuple[int, list[Any]]) -> NDArray[np.float32]:
        """Logits of a staged batch, shape (n,)."""
        n, tensors = staged
        with self.watched():
            logits: NDArray[np.float32] = self.call(*tensors).numpy()
        return logits[:n]

    def projected_bytes(self) -> int:
        """Estimate of a scoring process' memory; see :func:`survey_scan.models.memory.projected_bytes`."""
        live = live_bytes(self._graph, (self.batch_size, self.pixels.size))
        return projected_bytes(live, self._file.weight_bytes, self.batch_size, self.pixels) + self._file.outside()
