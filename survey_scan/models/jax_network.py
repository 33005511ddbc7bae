"""A network on JAX: one function, compiled by XLA before it is first called."""

from typing import Any

import jax
import keras
import numpy as np
from numpy.typing import NDArray

from survey_scan import config
from survey_scan.errors import ModelError
from survey_scan.models.compiled import CompiledNetwork
from survey_scan.models.files import File, short
from survey_scan.models.memory import projected_bytes
from survey_scan.models.network import Pixels
from survey_scan.models.package import Package, View
from survey_scan.models.readout import Readout


class JaxNetwork(CompiledNetwork):
    """See :class:`CompiledNetwork`. XLA always compiles it, whatever ``model.jit`` says."""

    errors = (jax.errors.JaxRuntimeError,)

    def __init__(self, pixels: Pixels, model: config.Model, package: Package, view: View, file: File, readout: Readout):
        super().__init__(pixels, model, package, view, file, readout)
        self._target = jax.devices()[0]
        variables = file.keep.variables
        self._weights = jax.device_put([variable.value for variable in variables], self._target)

        def function(weights: list[Any], *arrays: Any) -> Any:
            # The weights are arguments: as constants, XLA would spend minutes on computing with them in advance.
            with keras.StatelessScope(state_mapping=list(zip(variables, weights, strict=True))):
                return self.function(*arrays)

        shapes = [jax.ShapeDtypeStruct((model.batch_size, *pixels.shape), pixels.dtype)]
        if pixels.dtype == "int16":
            shapes.append(jax.ShapeDtypeStruct((model.batch_size, len(pixels.bands)), "float32"))
        # How a GPU multiplies what is float32; in mixed precision that is the last layer only.
        products = "float32" if model.precision == "float32" else "tensorfloat32"
        with jax.default_matmul_precision(products):
            try:
                self.call = jax.jit(function).lower(self._weights, *shapes).compile()
            except ValueError as error:  # half precision on a CPU, for one
                raise ModelError(
                    f"{package.network} cannot be compiled for {self.device[1]} in {model.precision}: {short(str(error))} "
                    "Set model.precision to float32, or model.backend to tensorflow."
                ) from None

    @property
    def device(self) -> tuple[bool, str]:
        """Whether it is a GPU, and its name; ``CPU`` if it is none."""
        gpu = self._target.platform == "gpu"
        return gpu, self._target.device_kind if gpu else "CPU"

    @property
    def jit(self) -> bool:
        """Whether XLA compiles the call: always."""
        return True

    @staticmethod
    def status(error: Exception) -> str:
        """Such as ``internal`` of a message that begins with ``INTERNAL:``."""
        return str(error).partition(":")[0].replace("_", "").lower()

    @staticmethod
    def replace(condition: Any, number: np.float32, x: Any) -> Any:
        """``x`` with a number where the condition is true."""
        return keras.ops.where(condition, number, x)

    def stage(self, image: NDArray[Any], step: NDArray[np.float32] | None = None) -> tuple[int, list[Any]]:
        """Pad a batch to the compiled shape and bring it to the device."""
        arrays = self.padded(image, step)
        with self.watched():
            return len(image), jax.device_put(arrays, self._target)

    def score(self, staged: tuple[int, list[Any]]) -> NDArray[np.float32]:
        """Logits of a staged batch, shape (n,)."""
        n, arrays = staged
        with self.watched():
            return np.asarray(self.call(self._weights, *arrays))[:n]  # errors of the device come when it is waited for

    def projected_bytes(self) -> int:
        """Estimate of a scoring process' memory; what the call needs at one time is what XLA's compiler laid out."""
        live = self.call.memory_analysis().temp_size_in_bytes
        return projected_bytes(live, self._file.weight_bytes, self.batch_size, self.pixels)
