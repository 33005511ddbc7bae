"""Values in expressions: numbers that may be missing, conditions that may be undecided, texts.

Conditions follow Kleene's three-valued logic: ``false and undecided`` is false, ``true or undecided`` is true, anything
else with an undecided part is undecided.
"""

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Kind = Literal["number", "condition", "text"]
KINDS: dict[Kind, str] = {"number": "a number", "condition": "a condition", "text": "a text"}


@dataclass(frozen=True)
class Value:
    """What a part of an expression is on all rows.

    Parameters
    ----------
    kind : {"number", "condition", "text"}
        What it may be used for.
    data : array
        Numbers (missing: NaN), bool, or texts; one a row, or a single one.
    undecided : array of bool
        Of a condition: where it is neither true nor false; ``data`` is False there.
    """

    kind: Kind
    data: Any
    undecided: NDArray[np.bool_] | np.bool_ = np.False_


def value(column: Any) -> Value:
    """A column of a table as a value: infinite numbers become NaN, float32 becomes float64, integers stay exact.

    Parameters
    ----------
    column : Series or array
        Numbers, booleans or texts.
    """
    dtype = getattr(column, "dtype", np.dtype(object))
    if isinstance(dtype, np.dtype) and dtype.kind == "b":
        return Value("condition", np.asarray(column))
    if isinstance(dtype, np.dtype) and dtype.kind in "iu":
        return Value("number", np.asarray(column))
    if isinstance(dtype, np.dtype) and dtype.kind == "f":
        return Value("number", finite(np.asarray(column, np.float64)))
    if isinstance(dtype, pd.StringDtype | pd.CategoricalDtype):
        return Value("text", getattr(column, "array", column))  # many times faster than one Python text after the other
    return Value("text", np.asarray(column, object))


def negate(a: Value) -> Value:
    """True where the condition is false."""
    return Value("condition", ~(a.data | a.undecided), a.undecided)


def both(a: Value, b: Value) -> Value:
    """Where both conditions are true."""
    true = a.data & b.data
    false = (~a.data & ~a.undecided) | (~b.data & ~b.undecided)
    return Value("condition", true, ~(true | false))


def either(a: Value, b: Value) -> Value:
    """Where at least one condition is true."""
    true = a.data | b.data
    return Value("condition", true, (a.undecided | b.undecided) & ~true)


def missing(v: Value) -> Any:
    """Where a number is missing."""
    if v.kind == "number" and getattr(v.data, "dtype", np.dtype(int)).kind == "f":
        return np.isnan(v.data)
    return np.zeros((), bool)


def finite(numbers: Any) -> Any:
    """Infinite numbers as NaN: what cannot be computed is missing."""
    return np.where(np.isfinite(numbers), numbers, np.nan)
