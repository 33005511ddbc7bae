"""The steps of a normalisation done, in the compiled call of the network: float32, on TensorFlow and JAX alike.

What each does is said where its constants are, in :mod:`survey_scan.normalisation`. Imports Keras.
"""

from collections.abc import Callable, Iterable
from functools import singledispatch
from typing import Any

import numpy as np
from keras import ops
from numpy.typing import NDArray

from survey_scan import normalisation as steps
from survey_scan.normalisation import PerBand, Step

ZERO, ONE = np.float32(0), np.float32(1)


def apply(chain: Iterable[Step], x: Any, bands: list[str]) -> Any:
    """Do steps to pixels, one after the other.

    Parameters
    ----------
    chain : iterable of Step
        The steps.
    x : float32 tensor, shape (n, size, size, bands)
        Finite pixels; n is known.
    bands : list of str
        Their bands.

    Returns
    -------
    float32 tensor, shape (n, size, size, bands)
        Size and bands as the steps leave them.
    """
    for step in chain:
        x, bands = do(step, x, bands), step.leaves(bands, 0)[0]
    return x


def take(x: Any, numbers: list[int]) -> Any:
    """Bands by number; nothing is done if these are all of them, in their order."""
    if numbers == list(range(x.shape[-1])):
        return x
    return ops.stack([x[..., number] for number in numbers], axis=-1)


@singledispatch
def do(step: Step, x: Any, bands: list[str]) -> Any:
    """The pixels after one step."""
    raise TypeError(f"{type(step).__name__} is no step of a normalisation")


@do.register
def _(step: steps.Clip, x: Any, bands: list[str]) -> Any:
    if step.low is not None:
        x = _each(ops.maximum, x, step.low)
    return x if step.high is None else _each(ops.minimum, x, step.high)


@do.register
def _(step: steps.Scale, x: Any, bands: list[str]) -> Any:
    return _each(lambda x, offset, scale: (x - offset) / scale, x, step.offset, step.scale)


@do.register
def _(step: steps.Asinh, x: Any, bands: list[str]) -> Any:
    return _each(lambda x, scale: ops.arcsinh(x / scale), x, step.scale)


@do.register
def _(step: steps.Sqrt, x: Any, bands: list[str]) -> Any:
    return ops.sqrt(ops.maximum(x, ZERO))


@do.register
def _(step: steps.Log, x: Any, bands: list[str]) -> Any:
    return _each(lambda x, floor: ops.log10(ops.maximum(x, floor)), x, step.floor)


@do.register
def _(step: steps.ZScore, x: Any, bands: list[str]) -> Any:
    low, high, mean = (_statistic(function, x, step.per) for function in (ops.min, ops.max, ops.mean))
    x = _rows(ops.subtract, x, mean)
    variance = _statistic(ops.mean, ops.square(x), step.per)
    # The mean of equal numbers is not always that number: their variance need not be 0.
    flat = ops.logical_or(variance == 0, low == high)
    return _rows(ops.multiply, x, ops.where(flat, ZERO, 1 / ops.sqrt(ops.where(flat, ONE, variance))))


@do.register
def _(step: steps.MinMax, x: Any, bands: list[str]) -> Any:
    first, width = np.float32(step.to[0]), np.float32(step.to[1] - step.to[0])
    high = _statistic(ops.max, x, step.per)
    low = _statistic(ops.min, x, step.per) if step.low is None else ops.full_like(high, step.low)
    span = high - low
    x = _rows(lambda x, low, span: first + width * ((x - low) / span), x, low, ops.where(span == 0, ONE, span))
    return _rows(lambda x, flat: ops.where(flat > 0, first, x), x, ops.cast(span == 0, "float32"))


@do.register
def _(step: steps.Quantise, x: Any, bands: list[str]) -> Any:
    return ops.floor(ops.clip(x, ZERO, ONE) * np.float32(step.levels - 1))


@do.register
def _(step: steps.Lupton, x: Any, bands: list[str]) -> Any:
    x = _each(ops.subtract, x, step.minimum)
    planes = [x[..., i] for i in range(3)]
    mean = (planes[0] + planes[1] + planes[2]) / np.float32(3)
    above = ops.where(mean > 0, mean, ONE)
    slope = np.float32(0.1 / np.arcsinh(0.1 * step.q))
    factor = ops.arcsinh(above * np.float32(step.q / step.stretch)) * slope / above
    factor = ops.where(mean > 0, factor, ZERO)
    planes = [ops.maximum(plane * factor, ZERO) for plane in planes]
    highest = ops.maximum(ops.maximum(planes[0], planes[1]), ops.maximum(planes[2], ONE))
    return ops.stack([plane / highest for plane in planes], axis=-1)


@do.register
def _(step: steps.Resize, x: Any, bands: list[str]) -> Any:
    """By two products with one matrix: the frameworks' own ways differ from each other in the fourth digit."""
    n, old, _, depth = x.shape
    matrix = weights(step, old)
    x = ops.matmul(matrix, ops.reshape(x, (n, old, old * depth)))
    x = ops.transpose(ops.reshape(x, (n, step.size, old, depth)), (0, 1, 3, 2))
    x = ops.matmul(ops.reshape(x, (n * step.size * depth, old)), matrix.T)
    return ops.transpose(ops.reshape(x, (n, step.size, depth, step.size)), (0, 1, 3, 2))


@do.register
def _(step: steps.Order, x: Any, bands: list[str]) -> Any:
    return take(x, [bands.index(band) for band in step.bands])


def weights(step: steps.Resize, old: int) -> NDArray[np.float32]:
    """What each new pixel takes of each old one along an axis, shape (size, old)."""
    at = (np.arange(step.size) + 0.5) * old / step.size - 0.5
    if step.method == "nearest":
        whole: NDArray[np.float32] = np.eye(old, dtype=np.float32)[np.floor(at + 0.5).astype(int)]
        return whole
    wide = max(old / step.size, 1.0) if step.antialias else 1.0
    t = np.abs(at[:, None] - np.arange(old)) / wide
    if step.method == "bilinear":
        kernel = np.maximum(1 - t, 0)
    else:
        near, far = (1.5 * t - 2.5) * t * t + 1, ((-0.5 * t + 2.5) * t - 4) * t + 2
        kernel = np.where(t < 1, near, np.where(t < 2, far, 0))
    return np.asarray(kernel / kernel.sum(axis=1, keepdims=True), np.float32)


# A row of pixels with all its bands is one axis below, and the numbers of the bands are repeated along it: arithmetic with an
# axis of length 3 costs TensorFlow several times as much.


def _rows(function: Callable[..., Any], x: Any, *others: Any) -> Any:
    """``function(x, *others)``; the others are scalars, or have shape (1 or n, 1, 1 or bands)."""
    n, height, width, bands = x.shape
    spread = [ops.tile(other, (1, 1, width)) if other.shape and other.shape[-1] == bands else other for other in others]
    return ops.reshape(function(ops.reshape(x, (n, height, width * bands)), *spread), x.shape)


def _each(function: Callable[..., Any], x: Any, *constants: PerBand) -> Any:
    """``function(x, *constants)``, each of them one number, or one a band."""
    values = [np.asarray(c, np.float32).reshape((1, 1, -1) if isinstance(c, list) else ()) for c in constants]
    return _rows(function, x, *values)


def _statistic(function: Callable[..., Any], x: Any, per: str) -> Any:
    """Mean, minimum or maximum of each band of each row, shape (n, 1, bands), or of each row, shape (n, 1, 1)."""
    n, height, width, bands = x.shape
    columns = function(ops.reshape(x, (n, height, width * bands)), axis=1)
    if per == "image":
        return ops.reshape(function(columns, axis=1), (n, 1, 1))
    return ops.reshape(function(ops.reshape(columns, (n, width, bands)), axis=1), (n, 1, bands))
