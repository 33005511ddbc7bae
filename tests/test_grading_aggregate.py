import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.errors import UserError
from survey_scan.grading import aggregate
from survey_scan.grading.schemes import LETTERS, SCHEMES, letters_of

VALUES = [0, 1, 2, 3]
NAN = float("nan")


def table(*rows: list[float]) -> pd.DataFrame:
    return pd.DataFrame(list(rows), index=[f"o{i}" for i in range(len(rows))]).add_prefix("g")


def test_seven_graders_by_hand():
    found = aggregate.summary(
        table([0, 3, 3, 2, 2, 1, 3], [NAN] * 7, [2, NAN, NAN, NAN, 1, NAN, NAN]), LETTERS["gonzalez"]
    )
    assert found.index.tolist() == ["o0", "o2"]  # nobody graded o1
    assert found["mean"].tolist() == [2.0, 1.5]
    assert found["trimmed_mean"].tolist() == pytest.approx([11 / 5, NAN], nan_ok=True)  # without a 0 and a 3
    assert found["grade_mean"].tolist() == pytest.approx([2.2, 1.5])
    assert found["n_graders"].tolist() == [7, 2]
    assert found["std"].tolist() == pytest.approx([np.std([0, 3, 3, 2, 2, 1, 3], ddof=1), np.sqrt(0.5)])
    assert found["grade"].tolist() == ["A", "B"]
    plain = aggregate.summary(table([0, 3, 3, 2, 2, 1, 3]), LETTERS["holismokes"])
    assert plain["grade_mean"].tolist() == [2.0] and plain["grade"].tolist() == ["B"]


def test_one_grader_has_no_spread():
    found = aggregate.summary(table([3.0]), LETTERS["holismokes"])
    assert np.isnan(found["std"].iloc[0]) and np.isnan(found["trimmed_mean"].iloc[0])
    assert found["grade"].tolist() == ["A"]


def test_nothing_graded():
    assert len(aggregate.summary(table([NAN, NAN]), LETTERS["holismokes"])) == 0


@pytest.mark.parametrize(
    ("name", "means", "letters"),
    [
        ("huang", [4, 3.5, 3.25, 3, 2.5, 2, 1.5, 1], "AABBCC--"),
        ("holismokes", [3, 2.51, 2.5, 1.5, 1.49, 0], "AABB--"),
        ("gonzalez", [3, 1.8, 1.79, 1.2, 1.19, 0.8, 0.79], "AABBCC-"),
    ],
)
def test_letters_by_convention(name, means, letters):
    assert "".join(LETTERS[name].letter(mean) for mean in means) == letters


def test_letters_of_another_scheme():
    assert letters_of("0-3", None).name == "holismokes" and letters_of("ABC", None).name == "huang"
    with pytest.raises(UserError) as error:
        letters_of("ABC", "gonzalez")
    assert str(error.value) == "--letters gonzalez is for grades 0-3; these are ABC. Allowed: huang."


grades = st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)), min_size=1, max_size=40)


@settings(deadline=None)
@given(grades)
def test_kappa_is_that_of_scikit_learn(pairs):
    metrics = pytest.importorskip("sklearn.metrics")
    a, b = zip(*pairs, strict=True)
    found = aggregate.kappa(a, b, VALUES)
    if len(set(a)) == len(set(b)) == 1 and a[0] == b[0]:
        assert np.isnan(found)
    else:
        assert found == pytest.approx(metrics.cohen_kappa_score(a, b, labels=VALUES, weights="quadratic"))


@settings(deadline=None)
@given(grades)
def test_kappa_by_properties(pairs):
    a, b = (np.array(side) for side in zip(*pairs, strict=True))
    found = aggregate.kappa(a, b, VALUES)
    assert found == pytest.approx(aggregate.kappa(b, a, VALUES), nan_ok=True)
    assert found == pytest.approx(aggregate.kappa(3 - a, 3 - b, VALUES), nan_ok=True)
    gaps = [*a, NAN, 1], [*b, 2, NAN]
    assert found == pytest.approx(aggregate.kappa(*gaps, VALUES), nan_ok=True)
    assert np.isnan(found) or found <= 1


def test_kappa_by_hand():
    assert aggregate.kappa([0, 1, 2, 3], [0, 1, 2, 3], VALUES) == 1
    assert aggregate.kappa([0, 0, 3, 3], [3, 3, 0, 0], VALUES) == pytest.approx(-1)
    assert aggregate.kappa([0, 0, 3, 3], [0, 3, 0, 3], VALUES) == pytest.approx(0)
    assert np.isnan(aggregate.kappa([], [], VALUES))


@given(st.lists(st.lists(st.sampled_from([*VALUES, None]), min_size=6, max_size=6), min_size=1, max_size=8))
def test_means_lie_between_the_grades_and_know_no_order(rows):
    frame = table(*[[NAN if v is None else v for v in row] for row in rows])
    found = aggregate.summary(frame, LETTERS["gonzalez"])
    pd.testing.assert_frame_equal(found, aggregate.summary(frame[frame.columns[::-1]], LETTERS["gonzalez"]))
    kept = frame.loc[found.index]
    assert (found["grade_mean"] >= kept.min(axis=1) - 1e-9).all()
    assert (found["grade_mean"] <= kept.max(axis=1) + 1e-9).all()
    assert found["trimmed_mean"].notna().tolist() == (found["n_graders"] >= 5).tolist()


def test_counts():
    found = aggregate.counts(table([0, 3], [0, NAN], [2, 3]), VALUES)
    assert found.loc["g0"].tolist() == [2, 0, 1, 0] and found.loc["g1"].tolist() == [0, 0, 0, 2]


def test_values_of_the_schemes():
    assert SCHEMES["ABC"].values == {"X": 1, "C": 2, "B": 3, "A": 4}
    assert SCHEMES["0-3"].values == {"0": 0, "1": 1, "2": 2, "3": 3}
