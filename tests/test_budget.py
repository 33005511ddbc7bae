"""Budgets: the logit a number means, what an evaluation lets expect, how lists overlap."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.errors import UserError
from survey_scan.ranking import budget
from survey_scan.views.budget import read_evaluation


@settings(max_examples=200, deadline=None)
@given(
    logits=st.lists(st.sampled_from([-2.0, -1.0, 0.0, 0.5, 3.0, float("nan")]), max_size=40),
    cuts=st.lists(st.integers(0, 40), max_size=4),
    n=st.integers(1, 45),
)
def test_the_logit_of_a_budget_is_that_of_sorting_everything(logits, cuts, n):
    every = np.sort([x for x in logits if not np.isnan(x)])[::-1]
    found = budget.budget(np.split(np.array(logits), sorted(min(c, len(logits)) for c in cuts)), n)
    assert (found.scored, found.inspected) == (len(every), min(n, len(every)))
    assert found.logit == (every[min(n, len(every)) - 1] if len(every) else None)
    assert found.ties == (0 if found.logit is None else (every >= found.logit).sum() - found.inspected)


def test_how_many_are_not_below_a_limit():
    parts = [np.array([1.0, 2.0, np.nan]), np.array([2.0, -5.0])]
    assert budget.above(parts, [2.0, -10.0, np.inf, 1.5]) == [2, 4, 0, 2]


def model(**changes):
    return {
        "curve": {"threshold": [5.0, 3.0, 0.0, -2.0], "true": [4, 8, 9, 10], "false": [0, 20, 400, 9000], "lenses": 10,
                  "others": 10_000},
        "at_fpr": [
            {"fpr": 1e-4, "allowed": 1, "point": {"tpr": 0.0, "threshold": None}},
            {"fpr": 1e-2, "allowed": 100, "point": {"tpr": 0.8, "threshold": 3.0}},
        ],
        **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("logit", "tpr", "fpr"), [(9.0, 0, 0), (5.0, 0.4, 0), (4.0, 0.4, 0), (3.0, 0.8, 2e-3), (-7.0, 1.0, 0.9)]
)
def test_what_an_evaluation_lets_expect(logit, tpr, fpr):
    found = budget.expected(model(), logit, 1_000_000, 1e-4)
    assert (found.tpr, found.fpr) == (tpr, fpr)
    assert found.lenses == pytest.approx(100 * tpr) and found.false == pytest.approx(fpr * 999_900)


def test_lists_overlap_whatever_the_type_of_the_ids():
    assert budget.overlap([1, 2, 3], np.array(["3", "4"])) == budget.Overlap(1, 1, 2)
    assert budget.overlap([], []) == budget.Overlap(0, 0, 0)


def test_what_is_said():
    found = budget.Budget(5000, 5000, 1_000_000, 3.0, 7)
    hopes = budget.expected(model(), 3.0, 1_000_000, 1e-4)
    said = list(budget.sentences(found, hopes, budget.recovery(model()), budget.Overlap(4000, 1000, 0)))
    assert said == [
        "budget      5,000 of 1,000,000 scored targets, 0.50%: logit 3.000 and above, score 0.952574",
        "            7 more have just that logit; among equals the lower object_id comes first",
        "expected    at a prior of 0.0001: 80.0 lenses (80.0% of 100.0) and 2,000 false positives",
        "recovery    at 1 % FPR: 80.0%, logit 3.000, 0 targets of this run",
        "recovery    at 0.1 % FPR: not in the evaluation",
        "recovery    at 0.01 % FPR: nothing (only 1 non-lenses behind it)",
        "overlap     4,000 stay, 1,000 new, 0 gone",
    ]


def test_a_survey_unlike_the_evaluation_s_is_told():
    found = budget.Budget(50_000, 50_000, 1_000_000, 3.0, 0)
    said = list(budget.sentences(found, budget.expected(model(), 3.0, 1_000_000, 1e-4), [], None))
    assert said[2] == (
        "            but 50,000 targets are above it where 2,080 were expected: the evaluation's objects are not those of "
        "this survey"
    )
    few = list(budget.sentences(found, budget.expected(model(), 4.0, 1_000_000, 1e-4), [], None))
    assert few[2] == (
        "            only 0 non-lenses of the evaluation are above that logit: the false positives are hardly known"
    )


def test_a_scan_with_fewer_scores_than_the_budget_and_one_with_none():
    assert next(budget.sentences(budget.budget([[1.0, 2.0]], 9), None, [], None)) == (
        "budget      9, but only 2 targets have a score: logit 1.000 and above, score 0.731059"
    )
    assert list(budget.sentences(budget.budget([[np.nan]], 9), None, [], None)) == [
        "budget      9: no target has a score"
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "{}: no such file. Make it: survey_scan evaluate"),
        ("{", "{} is not readable as JSON (Expecting property name enclosed in double quotes: line 1 column 2 (char 1)). "
              "Make it again: survey_scan evaluate"),
        ("[]", "{} is no evaluation of this program. Make it: survey_scan evaluate"),
        (json.dumps({"format": 1, "models": [1, 2]}),
         "{} is of 2 models, and nobody knows which ranked this run. Evaluate that one alone."),
    ],
)  # fmt: skip
def test_files_that_are_no_evaluation(tmp_path, text, message):
    file = tmp_path / "evaluation.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError) as caught:
        read_evaluation(tmp_path if text is not None else file)
    assert str(caught.value) == "--evaluation: " + message.format(file)
