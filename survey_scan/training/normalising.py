"""A normalisation whose constants may be measured: the word ``measured`` in place of a mean or a standard deviation.

In a step, ``offset`` or ``mean`` may be measured (the mean of each band), ``scale`` or ``std`` (its standard deviation), in
a recipe likewise the constants of these names. They are those of the pixels as they are before that step, over some cutouts
of the training set, after missing pixels are filled::

    normalisation: {recipe: storfer2024, mean: measured, std: measured}
    normalisation: [{step: clip, low: -10}, {step: asinh, scale: measured}]
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from survey_scan.normalisation import AnyStep, Normalisation

MEASURED = "measured"

#: Names of constants that can be measured.
MEANS, DEVIATIONS = ("offset", "mean"), ("scale", "std")

_ADAPTER: TypeAdapter[list[AnyStep]] = TypeAdapter(Normalisation)

#: ``apply(steps, pixels, bands)``: pixels after some steps.
Apply = Callable[[list[AnyStep], NDArray[np.float32], list[str]], NDArray[np.float32]]


def check(value: Any) -> None:
    """See that it is a normalisation, whatever will be measured.

    Raises
    ------
    ValueError
        If it is none, or something is to be measured that cannot be.
    """
    for number, item in enumerate(_listed(value), 1):
        wanted = _wanted(item)
        strange = [name for name in wanted if name not in (*MEANS, *DEVIATIONS)]
        if strange:
            raise ValueError(
                f"item {number}: '{strange[0]}' cannot be measured; what can is {', '.join((*MEANS, *DEVIATIONS))}"
            )
        _steps([{**item, **dict.fromkeys(wanted, 1.0)} if wanted else item], number)


def is_measured(value: Any) -> bool:
    """Whether something of it is to be measured."""
    return any(_wanted(item) for item in _listed(value))


def settle(value: Any, pixels: NDArray[np.float32] | None, bands: list[str], apply: Apply) -> list[AnyStep]:
    """The steps, with what is to be measured measured.

    Parameters
    ----------
    value : Any
        As :func:`check` lets it pass.
    pixels : ndarray of float32, shape (n, size, size, bands), or None
        Finite; needed if something is to be measured.
    bands : list of str
        Their bands.
    apply : callable
        Does steps to pixels.

    Raises
    ------
    ValueError
        If a standard deviation is 0, or the steps cannot be done one after the other.
    """
    done: list[AnyStep] = []
    for number, item in enumerate(_listed(value), 1):
        if wanted := _wanted(item):
            if pixels is None:
                raise ValueError("there are no pixels to measure")
            x = apply(done, pixels, bands).astype(np.float64)
            mean, deviation = x.mean(axis=(0, 1, 2)), x.std(axis=(0, 1, 2))
            if not (deviation > 0).all():
                raise ValueError(
                    f"item {number}: all pixels of a band are equal, so that there is nothing to divide by"
                )
            item = {**item, **{name: _numbers(mean if name in MEANS else deviation) for name in wanted}}
        done += _steps([item], number)
    return done


def _wanted(item: Any) -> list[str]:
    return [name for name, constant in item.items() if constant == MEASURED] if isinstance(item, dict) else []


def _listed(value: Any) -> list[Any]:
    if isinstance(value, str):
        return [{"recipe": value}]
    return value if isinstance(value, list) else [value]


def _numbers(values: NDArray[np.float64]) -> list[float]:
    """To seven digits: as many as float32 has."""
    return [float(f"{value:.7g}") for value in values]


def _steps(items: list[Any], number: int) -> list[AnyStep]:
    try:
        return _ADAPTER.validate_python(items)
    except ValidationError as error:
        detail = error.errors()[0]
        where = ".".join(str(part) for part in detail["loc"] if isinstance(part, str) and part in items[0])
        message = detail["msg"].removeprefix("Value error, ")
        raise ValueError(f"item {number}{f' ({where})' if where else ''}: {message}") from None
