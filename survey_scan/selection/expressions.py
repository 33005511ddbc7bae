"""Derived columns and cuts: a small language, parsed to a whitelist and evaluated on columns.

An expression holds column names, numbers, 'texts', ``True`` and ``False``, arithmetic, comparisons (also chained),
``and`` ``or`` ``not`` (or ``&`` ``|`` ``~``), ``in [...]`` and the functions of :data:`FUNCTIONS`. Nothing else is
evaluated, and Python's ``eval`` never. Between whole numbers ``&`` and ``|`` act on their bits.

A number that is NaN or infinite is missing, and so is what arithmetic cannot give (``log10(0)``, ``1 / 0``). A
comparison with a missing number, ``!=`` too, is *undecided*; ``not``, ``and`` and ``or`` follow Kleene's three-valued
logic (:mod:`survey_scan.selection.logic`), so that ``mag > 20`` and ``not mag <= 20`` mean the same. A cut selects where it is
true.
"""

import ast
import operator
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, reduce
from typing import Any

import numpy as np
import pandas as pd

from survey_scan.errors import SelectionError
from survey_scan.selection.logic import KINDS, Kind, Value, both, either, finite, missing, negate

_LONGEST = 10_000  # characters

_ONE: dict[str, Callable[..., Any]] = {
    "abs": np.abs,
    "exp": np.exp,
    "floor": np.floor,
    "log": np.log,
    "log10": np.log10,
    "sqrt": np.sqrt,
}
_TWO: dict[str, Callable[..., Any]] = {"maximum": np.maximum, "minimum": np.minimum}
#: Names of the functions; ``isfinite`` is a condition, the others are numbers.
FUNCTIONS: tuple[str, ...] = tuple(sorted([*_ONE, *_TWO, "isfinite"]))

_ARITHMETIC: dict[type[ast.operator], Callable[..., Any]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
    ast.Div: np.divide,
    ast.FloorDiv: np.floor_divide,
    ast.Mod: np.mod,
    ast.Pow: np.power,
}
_COMPARISONS: dict[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_ALLOWED = (
    "An expression may hold column names, numbers, 'texts', + - * / // % **, < <= == != >= >, and or not, & | ~, "
    f"in [...], and the functions {', '.join(FUNCTIONS)}."
)


@dataclass(frozen=True)
class Expression:
    """A parsed expression.

    Parameters
    ----------
    text : str
        As written, in one line.
    names : tuple of str
        The columns it uses, in order of appearance.
    """

    text: str
    names: tuple[str, ...]
    _tree: ast.expr

    def evaluate(self, columns: Mapping[str, Value]) -> Value:
        """Evaluate on columns.

        Parameters
        ----------
        columns : mapping
            All of ``names``.

        Raises
        ------
        SelectionError
            If kinds do not fit, such as a text in arithmetic. This depends on the columns' types only (but for
            ``&`` and ``|`` between decimal numbers), so that evaluating on tables without rows finds it.
        """
        return _Evaluation(self.text, columns).of(self._tree)


@lru_cache(maxsize=1024)
def parse(text: str) -> Expression:
    """Parse an expression.

    Raises
    ------
    SelectionError
        If it is not an expression, or holds what is not allowed; with the place (characters count from 1).
    """
    line = re.sub(r"\s*\n\s*", " ", text.strip())
    if len(line) > _LONGEST:
        raise SelectionError(f"'{line[:30]}...' is {len(line)} characters long; at most {_LONGEST} are read. Split it.")
    try:
        tree = ast.parse(line, mode="eval").body
    except SyntaxError as error:
        place = error.offset or len(line) + 1
        where = f"from character {place} ({line[place - 1 :][:10]!r})" if place <= len(line) else "at its end"
        raise SelectionError(f"'{line}' cannot be read {where}. {_ALLOWED}") from None
    except (ValueError, RecursionError, MemoryError):
        raise SelectionError(f"'{line[:60]}' cannot be read. {_ALLOWED}") from None
    try:
        names = dict.fromkeys(_Check(line).names(tree))
    except RecursionError:
        raise SelectionError(f"'{line[:60]}' is nested too deeply. Split it into several definitions.") from None
    return Expression(line, tuple(names), tree)


class _Check:
    """Refuse what is not in the language; collect the names."""

    def __init__(self, text: str):
        self.text = text

    def names(self, node: ast.expr) -> list[str]:
        match node:
            case ast.Name(id=name):
                return [name]
            case ast.Constant(value=int() as constant) if constant >= 2**64:
                raise self.error(node, "is too large a number")
            case ast.Constant(value=constant) if isinstance(constant, int | float | str):
                return []
            case ast.UnaryOp(op=ast.USub() | ast.UAdd() | ast.Not() | ast.Invert(), operand=operand):
                return self.names(operand)
            case ast.BinOp(left=left, op=op, right=right) if isinstance(op, (*_ARITHMETIC, ast.BitAnd, ast.BitOr)):
                return self.names(left) + self.names(right)
            case ast.BoolOp(values=parts):
                return [name for part in parts for name in self.names(part)]
            case ast.Compare(left=left, ops=ops, comparators=rights):
                return self._comparison([left, *rights], ops)
            case ast.Call(func=ast.Name(id=function), args=arguments, keywords=[]) if function in FUNCTIONS:
                wanted = 2 if function in _TWO else 1
                if len(arguments) != wanted:
                    raise self.error(node, f"needs {wanted} argument{'s' * (wanted > 1)}, not {len(arguments)}")
                return [name for argument in arguments for name in self.names(argument)]
            case ast.Call(func=ast.Name(id=function)) if function not in FUNCTIONS:
                raise self.error(node, f"uses the function '{function}', which there is not")
        raise self.error(node, "is not allowed")

    def _comparison(self, parts: list[ast.expr], ops: list[ast.cmpop]) -> list[str]:
        found = self.names(parts[0])
        for op, left, right in zip(ops, parts, parts[1:], strict=False):
            for part in (left, right):
                joined = isinstance(part, ast.BinOp) and isinstance(part.op, ast.BitAnd | ast.BitOr)
                if joined and not self._bracketed(part):
                    raise self.error(part, "binds before the comparison beside it. Write 'and' / 'or', or put brackets")
            if isinstance(op, tuple(_COMPARISONS)):
                found += self.names(right)
            elif not isinstance(op, ast.In | ast.NotIn):
                raise self.error(right, "is compared with 'is'")
            elif not isinstance(right, ast.List | ast.Tuple | ast.Set) or not all(map(_is_constant, right.elts)):
                raise self.error(right, "is not a list of numbers or texts, such as 'in [1, 2]'")
            else:
                found += [name for element in right.elts for name in self.names(element)]
        return found

    def _bracketed(self, node: ast.expr) -> bool:
        start, stop = _span(self.text, node)
        return self.text[:start].rstrip().endswith("(") and self.text[stop:].lstrip().startswith(")")

    def error(self, node: ast.expr, what: str) -> SelectionError:
        return SelectionError(f"{_part(self.text, node)} {what}. {_ALLOWED}")


@dataclass(frozen=True)
class _Evaluation:
    text: str
    columns: Mapping[str, Value]

    def of(self, node: ast.expr) -> Value:
        match node:
            case ast.Name(id=name):
                return self.columns[name]
            case ast.Constant(value=bool() as constant):
                return Value("condition", np.asarray(constant))
            case ast.Constant(value=str() as constant):
                return Value("text", constant)
            case ast.Constant(value=constant):
                return Value("number", finite(constant) if isinstance(constant, float) else constant)
            case ast.UnaryOp(op=ast.Not() | ast.Invert(), operand=operand):
                return negate(self.condition(operand))
            case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() as constant)):
                return Value("number", -constant)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return Value("number", -self.number(operand))
            case ast.UnaryOp(operand=operand):
                return Value("number", self.number(operand))
            case ast.BoolOp(op=op, values=parts):
                return reduce(both if isinstance(op, ast.And) else either, [self.condition(part) for part in parts])
            case ast.BinOp(left=left, op=(ast.BitAnd() | ast.BitOr()) as op, right=right):
                return self._join(node, op, self.of(left), self.of(right))
            case ast.BinOp(left=left, op=op, right=right):
                with np.errstate(all="ignore"):
                    return Value("number", finite(_ARITHMETIC[type(op)](self.number(left), self.number(right))))
            case ast.Compare(left=left, ops=ops, comparators=rights):
                parts = [left, *rights]
                return reduce(both, [self._compare(*pair) for pair in zip(parts, ops, rights, strict=False)])
            case ast.Call(func=ast.Name(id="isfinite"), args=[argument]):
                return Value("condition", ~np.isnan(self.number(argument)))
            case ast.Call(func=ast.Name(id=function), args=arguments):
                numbers = [self.number(argument) for argument in arguments]
                with np.errstate(all="ignore"):
                    return Value("number", finite((_ONE | _TWO)[function](*numbers)))
        raise AssertionError(f"{ast.dump(node)} passed the check")

    def number(self, node: ast.expr) -> Any:
        return np.asarray(self.kind(node, "number").data, np.float64)

    def condition(self, node: ast.expr) -> Value:
        return self.kind(node, "condition")

    def kind(self, node: ast.expr, kind: Kind) -> Value:
        found = self.of(node)
        if found.kind != kind:
            raise self.error(node, f"is {KINDS[found.kind]} where {KINDS[kind]} is needed")
        return found

    def _compare(self, left: ast.expr, op: ast.cmpop, right: ast.expr) -> Value:
        if isinstance(op, ast.In | ast.NotIn):
            assert isinstance(right, ast.List | ast.Tuple | ast.Set)
            texts = [e.value for e in right.elts if isinstance(e, ast.Constant) and isinstance(e.value, str)]
            data = self.of(left).data
            strings = isinstance(getattr(data, "dtype", None), pd.StringDtype)
            if strings and len(texts) == len(right.elts):  # quicker than one after the other
                found = Value("condition", np.asarray(pd.Series(data).isin(texts)))
                return found if isinstance(op, ast.In) else negate(found)
            each = [self._compare(left, ast.Eq(), element) for element in right.elts]
            found = reduce(either, each, Value("condition", np.zeros((), bool)))
            return found if isinstance(op, ast.In) else negate(found)
        a, b = self.of(left), self.of(right)
        if a.kind != b.kind:
            raise self.error(right, f"is {KINDS[b.kind]}, compared with {KINDS[a.kind]}")
        if a.kind != "number" and not isinstance(op, ast.Eq | ast.NotEq):
            raise self.error(right, f"is {KINDS[b.kind]}; only numbers can be compared with < and >")
        if isinstance(a.data, pd.Categorical) and isinstance(b.data, pd.Categorical):  # not of the same categories
            a = Value("text", np.asarray(a.data, object))
        undecided = a.undecided | b.undecided | missing(a) | missing(b)
        with np.errstate(invalid="ignore"):
            result = np.asarray(_COMPARISONS[type(op)](a.data, b.data), bool)
        return Value("condition", result & ~undecided, undecided)

    def _join(self, node: ast.expr, op: ast.operator, a: Value, b: Value) -> Value:
        if a.kind == b.kind == "condition":
            return both(a, b) if isinstance(op, ast.BitAnd) else either(a, b)
        if not a.kind == b.kind == "number":
            raise self.error(node, "joins neither two conditions nor two whole numbers")
        left, right = self._whole(node, a.data), self._whole(node, b.data)
        bits = left & right if isinstance(op, ast.BitAnd) else left | right
        gaps = np.asarray(missing(a) | missing(b))
        return Value("number", np.where(gaps, np.nan, bits) if gaps.any() else bits)

    def _whole(self, node: ast.expr, data: Any) -> Any:
        numbers = np.asarray(data)
        if numbers.dtype.kind in "iu":
            return numbers.astype(np.int64)
        known = np.nan_to_num(numbers.astype(np.float64), nan=0.0)
        broken = (known != np.floor(known)) | (np.abs(known) >= 2.0**63)
        if broken.any():
            raise self.error(node, f"needs whole numbers, not {known[broken].flat[0]}")
        return known.astype(np.int64)

    def error(self, node: ast.expr, what: str) -> SelectionError:
        return SelectionError(f"{_part(self.text, node)} {what}.")


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        node = node.operand
    return isinstance(node, ast.Constant) and isinstance(node.value, int | float | str)


def _part(text: str, node: ast.expr) -> str:
    start, stop = _span(text, node)
    return f"'{text[start:stop]}' (character {start + 1} of '{text}')"


def _span(text: str, node: ast.expr) -> tuple[int, int]:
    """First and last+1 character of a node (the tree counts bytes)."""
    raw = text.encode()
    stop = len(raw) if node.end_col_offset is None else node.end_col_offset
    return len(raw[: node.col_offset].decode()), len(raw[:stop].decode())
