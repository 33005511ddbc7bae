"""ONNX files: run by onnxruntime on processor cores, from within the compiled call.

Pixels are prepared and logits read by the same TensorFlow graph as for any other network, so that a normalisation is written,
and tested, once; the price is a copy of each batch.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from numpy.typing import NDArray

from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models.files import File, check_one, short
from survey_scan.models.head import Head

#: Types of an input, as ONNX and numpy name them.
_TYPES = {"tensor(float)": "float32", "tensor(double)": "float64", "tensor(float16)": "float16"}

Shape = tuple[int | None, ...]


def open_onnx(path: Path, model: Model, layout: str | None) -> File:
    """Open an ONNX file.

    Parameters
    ----------
    path : Path
        The network.
    model : config.Model
        ``jit``.
    layout : {'NHWC', 'NCHW'} or None
        Order of its input's axes; None where their lengths tell.

    Raises
    ------
    ModelError
        If it cannot be read, has more than one input or output, its layout is not known, XLA should compile it, or
        onnxruntime is not installed.
    """
    if model.jit:
        raise ModelError(f"model.jit is true, but XLA cannot compile {path}, which onnxruntime runs. Set it to false.")
    try:
        import onnxruntime
        from onnxruntime.capi import onnxruntime_pybind11_state as state
    except ModuleNotFoundError as error:
        raise ModelError(
            f"{path} needs {error.name}, which is not installed. pip install 'survey_scan[onnx]'"
        ) from None
    import tensorflow as tf

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # errors, which are raised as well
    options.intra_op_num_threads = tf.config.threading.get_intra_op_parallelism_threads()  # 0: all cores
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        state.Fail,
        state.InvalidArgument,
        state.InvalidGraph,
        state.InvalidProtobuf,
        state.NoModel,
        state.NotImplemented,
        state.RuntimeException,
    ) as error:
        raise ModelError(
            f"{path} is damaged, or cannot be run by onnxruntime {onnxruntime.__version__}: {short(str(error))} "
            "Export it again."
        ) from None
    check_one(path, "input", [i.name for i in session.get_inputs()])
    check_one(path, "output", [o.name for o in session.get_outputs()])
    (source,), (output,) = session.get_inputs(), session.get_outputs()
    shape, dtype = _lengths(source.shape), _TYPES.get(source.type, source.type)
    layout = layout or _layout(path, shape)
    run = _Run(session, source.name, dtype if dtype in _TYPES.values() else "float32")

    def forward(x: Any) -> Any:
        if layout == "NCHW":
            x = tf.transpose(x, (0, 3, 1, 2))
        found = tf.numpy_function(run, [x], tf.float32)
        found.set_shape((x.shape[0], *_lengths(output.shape)[1:]))
        return found

    if layout == "NCHW" and len(shape) == 4:
        shape = (shape[0], shape[2], shape[3], shape[1])
    head = Head(forward, None, f"the output '{output.name}'")
    return File("onnx", head, shape, dtype, 0, path.stat().st_size, session, lambda: run.bytes)


class _Run:
    """One call of onnxruntime; ``bytes`` is the memory it took for its work, which it keeps for the next."""

    def __init__(self, session: Any, name: str, dtype: str):
        self._session, self._name, self._dtype = session, name, dtype
        self.bytes = 0

    def __call__(self, x: NDArray[np.float32]) -> NDArray[np.float32]:
        process = psutil.Process()
        before = process.memory_info().rss
        (found,) = self._session.run(None, {self._name: x.astype(self._dtype, copy=False)})
        self.bytes = max(self.bytes, process.memory_info().rss - before)
        return np.asarray(found, np.float32)


def _lengths(shape: Iterable[int | str | None]) -> Shape:
    """Of a shape whose free axes have names."""
    return tuple(n if isinstance(n, int) else None for n in shape)


def _layout(path: Path, shape: Shape) -> str:
    """The order of the axes, where one end differs from the middle, or is the only one of known length."""
    if len(shape) != 4:
        return "NHWC"  # it is refused for that
    _, first, middle, last = shape
    if middle == last != first:
        return "NCHW"
    if first == middle != last:
        return "NHWC"
    raise ModelError(
        f"{path} takes an input of shape ({', '.join('any' if n is None else str(n) for n in shape)}), which does not tell "
        "where the bands stand. Give it a contract, a model.yaml beside it, with layout: NHWC (bands last) or NCHW."
    )
