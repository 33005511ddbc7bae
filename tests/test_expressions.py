"""The language of definitions and cuts: what it means, and what it refuses."""

import math
import operator

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.errors import SelectionError
from survey_scan.selection import expressions
from survey_scan.selection.logic import value

ALLOWED = (
    "An expression may hold column names, numbers, 'texts', + - * / // % **, < <= == != >= >, and or not, & | ~, "
    "in [...], and the functions abs, exp, floor, isfinite, log, log10, maximum, minimum, sqrt."
)
TABLE = pd.DataFrame(
    {
        "a": [1.0, 2.5, np.nan, np.inf],
        "b": [0.0, 3.0, 1.0, 1.0],
        "f": np.array([1, 2, 3, 4], np.float32) / 10,
        "n": [1, 2, 6, 2**62 + 1],
        "flag": [True, False, True, False],
        "kind": pd.Series(["PSF", "DEV", "DEV", ""], dtype="str"),
    }
)


def evaluate(text, table=TABLE):
    return expressions.parse(text).evaluate({name: value(table[name]) for name in table})


def three(text, table=TABLE):
    """Conditions as True, False or None, one a row."""
    result = evaluate(text, table)
    data, undecided = (np.broadcast_to(x, len(table)) for x in (result.data, result.undecided))
    assert not (data & undecided).any()
    return [None if u else bool(d) for d, u in zip(data, undecided, strict=True)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a > 1", [False, True, None, None]),
        ("not (a > 1)", [True, False, None, None]),
        ("not a > 1", [True, False, None, None]),
        ("~(a > 1)", [True, False, None, None]),
        ("a != 1", [False, True, None, None]),
        ("a == a", [True, True, None, None]),
        ("a > 1 and b > 2", [False, True, False, False]),
        ("a > 1 or b == 1", [False, True, True, True]),
        ("a > 1 or b == 2", [False, True, None, None]),
        ("(a > 1) & (b > 2)", [False, True, False, False]),
        ("0 < b < 2", [False, False, True, True]),
        ("2 >= b != 0", [False, False, True, True]),
        ("0 < a <= 2.5 < b", [False, True, False, False]),
        ("b in [0, 1]", [True, False, True, True]),
        ("b not in (0, 1)", [False, True, False, False]),
        ("a in [1, 7]", [True, False, None, None]),
        ("a not in [1, 7]", [False, True, None, None]),
        ("b in []", [False, False, False, False]),
        ("-b in [-3]", [False, True, False, False]),
        ("n == 4611686018427387905", [False, False, False, True]),
        ("n == 4611686018427387904", [False, False, False, False]),
        ("n in [4611686018427387905, 2]", [False, True, False, True]),
        ("(n & 2) == 2", [False, True, True, False]),
        ("(n & 2) != 0 and b > 1", [False, True, False, False]),
        ("(b | 2) == 3", [False, True, True, True]),
        ("(a & 1) == 1 or b == 1", None),
        ("flag", [True, False, True, False]),
        ("flag == True", [True, False, True, False]),
        ("flag != True or kind == 'PSF'", [True, True, False, True]),
        ("~flag & (b > 0)", [False, True, False, True]),
        ("kind == 'DEV'", [False, True, True, False]),
        ('kind in ["DEV", "PSF"]', [True, True, True, False]),
        ("kind != ''", [True, True, True, False]),
        ("isfinite(a)", [True, True, False, False]),
        ("not isfinite(a)", [False, False, True, True]),
        ("log10(b) > -99", [None, True, True, True]),
        ("1 / b >= 0", [None, True, True, True]),
        ("sqrt(-b) == 0", [True, None, None, None]),
        ("(-b) ** 0.5 == 0", [True, None, None, None]),
        ("b % 2 == 1", [False, True, True, True]),
        ("b // 2 == 1", [False, True, False, False]),
        ("minimum(a, b) < 1", [True, False, None, None]),
        ("maximum(b, 2) == 2", [True, False, True, True]),
        ("abs(-b) == +b", [True, True, True, True]),
        ("b < 1e999", [None, None, None, None]),
        ("1 < 2", [True, True, True, True]),
        ("True", [True, True, True, True]),
        ("f < 0.3", [True, True, False, False]),
    ],
)
def test_conditions(text, expected):
    if expected is None:
        with pytest.raises(SelectionError, match=r"'a & 1' .* needs whole numbers, not 2\.5"):
            three(text)
    else:
        assert three(text) == expected


def test_bits_of_decimal_columns_that_hold_whole_numbers():
    table = pd.DataFrame({"flags": [5.0, np.nan, 2.0]})
    assert three("(flags & 4) == 4", table) == [True, None, False]


def test_numbers_are_finite_or_missing():
    with np.errstate(all="raise"):
        for text in ("log10(b)", "b / 0", "exp(b * 10000)", "a - a", "b ** 9999", "b % 0", "b // 0", "10 ** 400"):
            data = np.asarray(evaluate(text).data)
            assert np.isfinite(data[~np.isnan(data)]).all() if data.ndim else np.isnan(data), text
    np.testing.assert_array_equal(evaluate("a - b").data, [1.0, -0.5, np.nan, np.nan])


def test_float32_is_compared_as_the_number_it_is():
    """0.3 as float32 is 0.30000001192, which is more than 0.3."""
    assert three("f > 0.3") == [False, False, True, True]


def test_names_in_order_of_appearance():
    assert expressions.parse("b - a > log10(n) and b in [1]").names == ("b", "a", "n")


def test_lines_are_joined():
    assert expressions.parse("\n a > 1\n and b < 2\n").text == "a > 1 and b < 2"


# ---- against a slow, obvious evaluator: one row at a time, None for missing

COLUMNS = ("u", "v", "w")


def _number(op, x, y):
    if x is None or y is None:
        return None
    try:
        z = op(x, y)
    except (ZeroDivisionError, OverflowError):
        return None
    return z if math.isfinite(z) else None


def _compare(op, x, y):
    return None if x is None or y is None else op(x, y)


def _and(x, y):
    return False if x is False or y is False else None if x is None or y is None else True


def _or(x, y):
    return True if x is True or y is True else None if x is None or y is None else False


def _binary(name, op, rule):
    return lambda x, y: (f"({x[0]} {name} {y[0]})", lambda row: rule(op, x[1](row), y[1](row)))


LEAVES = st.one_of(
    st.sampled_from(COLUMNS).map(lambda name: (name, lambda row: row[name])),
    st.integers(-3, 3).map(lambda n: (f"({n})", lambda row: float(n))),
)
NUMBERS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        *(
            st.builds(_binary(name, op, _number), inner, inner)
            for name, op in {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}.items()
        ),
        inner.map(lambda x: (f"(-{x[0]})", lambda row: None if x[1](row) is None else -x[1](row))),
        inner.map(lambda x: (f"abs({x[0]})", lambda row: None if x[1](row) is None else abs(x[1](row)))),
    ),
    max_leaves=5,
)
COMPARISONS = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge, "==": operator.eq, "!=": operator.ne,
}  # fmt: skip
SIMPLE = st.one_of(
    *(st.builds(_binary(name, op, _compare), NUMBERS, NUMBERS) for name, op in COMPARISONS.items()),
    NUMBERS.map(lambda x: (f"isfinite({x[0]})", lambda row: x[1](row) is not None)),
)
CONDITIONS = st.recursive(
    SIMPLE,
    lambda inner: st.one_of(
        st.builds(lambda x, y: (f"({x[0]} and {y[0]})", lambda row: _and(x[1](row), y[1](row))), inner, inner),
        st.builds(lambda x, y: (f"({x[0]} | {y[0]})", lambda row: _or(x[1](row), y[1](row))), inner, inner),
        inner.map(lambda x: (f"(not {x[0]})", lambda row: None if x[1](row) is None else not x[1](row))),
    ),
    max_leaves=6,
)
CELLS = st.one_of(st.integers(-3, 3).map(float), st.floats(-1e6, 1e6, width=32), st.just(math.nan), st.just(math.inf))


@settings(max_examples=300, deadline=None)
@given(CONDITIONS, st.lists(st.tuples(CELLS, CELLS, CELLS), min_size=1, max_size=6))
def test_agrees_with_one_row_at_a_time(condition, rows):
    text, reference = condition
    table = pd.DataFrame(rows, columns=list(COLUMNS), dtype=np.float64)
    expected = []
    for row in rows:
        known = {name: x if math.isfinite(x) else None for name, x in zip(COLUMNS, row, strict=True)}
        expected.append(reference(known))
    assert three(text, table) == expected


# ---- what is refused


@settings(max_examples=500, deadline=None)
@given(st.text(st.sampled_from("ab01.+-*/()[]<>=!&|~^,'\" \\n_éandortif:lmex{}@#%"), max_size=25))
def test_any_text_is_read_or_refused_with_a_message(text):
    try:
        expression = expressions.parse(text)
        expression.evaluate({name: value(TABLE["b"]) for name in expression.names})
    except SelectionError as error:
        assert str(error)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os').system('true')", "a.real > 0", "a[0] > 0", "(lambda: 1)()", "[x for x in [1]]", "f'{a}'",
        "a if b else n", "{1: 2}", "(x := 1)", "abs(x=1)", "abs(*[a])", "a @ b", "a << 2", "a ^ b", "None", "...", "1j",
        "b'x'", "a is b", "(yield)", "await a", "[1, 2]", "a in b", "a in [b]", "a in [[1]]", "print(a)",
        "a in [1, " + "9" * 400 + "]", "~a", "-flag",
        "not a", "a and b", "flag + 1", "flag < flag", "kind < 'PSF'", "kind == 1", "a == 'x'", "kind + 'x' == 'y'",
        "a in ['x']", "abs(kind) > 1", "minimum(a) > 1", "abs(a, b) > 1", "isfinite(flag)", "a > 1 & b < 2",
        "a > 1 | b < 2", "b > 2 & n > 1", "flag & n", "1 +", "a >", "", "   ", "a b", "a = 1", "a; b", "import os",
        "1" * 400 + " < a", "a" * 20_000, "(" * 300 + "a" + ")" * 300, "-" * 5000 + "a", "a\x00b",
        "0x" + "f" * 300 + " & n",
    ],
)  # fmt: skip
def test_refused(text):
    with pytest.raises(SelectionError):
        evaluate(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 + * a", f"'1 + * a' cannot be read from character 5 ('* a'). {ALLOWED}"),
        ("(a > 1", f"'(a > 1' cannot be read from character 1 ('(a > 1'). {ALLOWED}"),
        ("1 +", f"'1 +' cannot be read at its end. {ALLOWED}"),
        ("a.real > 0", f"'a.real' (character 1 of 'a.real > 0') is not allowed. {ALLOWED}"),
        ("b > ln(a)", f"'ln(a)' (character 5 of 'b > ln(a)') uses the function 'ln', which there is not. {ALLOWED}"),
        (
            "minimum(a) > 1",
            f"'minimum(a)' (character 1 of 'minimum(a) > 1') needs 2 arguments, not 1. {ALLOWED}",
        ),
        (
            "a > 1 & b < 2",
            "'1 & b' (character 5 of 'a > 1 & b < 2') binds before the comparison beside it. Write 'and' / 'or', or "
            f"put brackets. {ALLOWED}",
        ),
        ("a in b", f"'b' (character 6 of 'a in b') is not a list of numbers or texts, such as 'in [1, 2]'. {ALLOWED}"),
        ("é > 1 and kind + 1", "'kind' (character 11 of 'é > 1 and kind + 1') is a text where a number is needed."),
        ("kind == 1", "'1' (character 9 of 'kind == 1') is a number, compared with a text."),
        ("kind < 'a'", "''a'' (character 8 of 'kind < 'a'') is a text; only numbers can be compared with < and >."),
        ("a is b", f"'b' (character 6 of 'a is b') is compared with 'is'. {ALLOWED}"),
        (f"a < {2**64}", f"'{2**64}' (character 5 of 'a < {2**64}') is too large a number. {ALLOWED}"),
        ("flag & n", "'flag & n' (character 1 of 'flag & n') joins neither two conditions nor two whole numbers."),
    ],
)
def test_messages(text, message):
    table = TABLE.assign(**{"é": 1.0})
    with pytest.raises(SelectionError) as caught:
        evaluate(text, table)
    assert str(caught.value) == message
