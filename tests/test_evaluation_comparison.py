"""Two models where it is known which is better, and by how much."""

import numpy as np
import pytest

from survey_scan.evaluation import comparison, curve, metrics
from survey_scan.evaluation.sample import Sample


def sample(logit, is_lens, ids=None):
    logit = np.array(logit, np.float64)
    return Sample(np.arange(len(logit)) if ids is None else ids, np.array(is_lens, bool), logit)


def pair(lenses=500, others=5000, better=0.0, noise=0.5, seed=0):
    """Two models that see the same object, each with noise of its own; the second moves lenses up."""
    rng = np.random.default_rng(seed)
    is_lens = np.arange(lenses + others) < lenses
    truth = rng.normal(np.where(is_lens, 2.0, 0.0), 1.0)
    first, second = (truth + rng.normal(0, noise, len(truth)) for _ in range(2))
    return sample(first, is_lens), sample(second + better * is_lens, is_lens)


def test_a_model_against_itself():
    first, _ = pair()
    assert comparison.auc_difference(first, first) == comparison.Difference(0.0, 0.0, 0.0)
    found = comparison.at_fpr(first, first, 0.01)
    assert found.tpr == comparison.Difference(0.0, 0.0, 0.0)
    assert (found.only_first, found.only_second) == (0, 0)
    best = comparison.top(first, first, 100)
    assert (best.lenses.both + best.others.both, best.only_first, best.only_second) == (100, [], [])


def test_differences_are_those_of_the_models_alone():
    first, second = pair(better=0.7)
    auc = comparison.auc_difference(first, second)
    assert auc.value == pytest.approx(metrics.area(second).value - metrics.area(first).value, abs=1e-12)
    assert 0 < auc.low < auc.value < auc.high
    for rate in (0.0005, 0.01, 0.1):
        found = comparison.at_fpr(first, second, rate)
        one, two = (curve.at_fpr(curve.curve(s), rate) for s in (first, second))
        assert found.tpr.value == pytest.approx(two.tpr - one.tpr, abs=1e-12)
        assert found.both + found.only_first == one.true
        assert found.both + found.only_second == two.true
        assert found.both + found.only_first + found.only_second + found.neither == 500
        assert found.tpr.low <= found.tpr.value <= found.tpr.high
    assert comparison.at_fpr(first, second, 0.01).tpr.low > 0


def test_interval_of_delong_by_the_textbook():
    """The covariance matrix of DeLong et al. (1988), written out in pairs."""
    first, second = pair(40, 60, better=0.5)
    parts = []
    for s in (first, second):
        lenses, others = s.logit[s.is_lens, None], s.logit[~s.is_lens]
        won = (lenses > others) + 0.5 * (lenses == others)
        parts.append((won.mean(1), won.mean(0)))
    between = [np.cov([parts[0][k], parts[1][k]]) for k in (0, 1)]
    matrix = between[0] / 40 + between[1] / 60
    error = np.sqrt(matrix[0, 0] + matrix[1, 1] - 2 * matrix[0, 1])
    found = comparison.auc_difference(first, second)
    assert found.high - found.value == pytest.approx(1.959963984540054 * error, rel=1e-9)


def test_pairing_makes_the_interval_narrow():
    """The models see the same objects: what they share is no uncertainty of their difference."""
    first, second = pair(noise=0.2)
    found = comparison.auc_difference(first, second)
    alone = metrics.area(first)
    assert found.high - found.low < 0.6 * (alone.high - alone.low)


@pytest.mark.parametrize(("fpr", "passing"), [(0.02, 4), (0.001, 0)])
def test_bootstrap_of_the_highest_non_lenses_is_the_bootstrap_of_all(fpr, passing):
    first, second = pair(200, 200, better=1.5)
    found = comparison.at_fpr(first, second, fpr, draws=4000)
    rng = np.random.default_rng(5)
    rates = []
    for _ in range(4000):
        lens, other = rng.integers(0, 200, (2, 200))
        rate = []
        for s in (first, second):
            limit = np.sort(s.logit[~s.is_lens][other])[::-1][passing]
            rate.append((s.logit[s.is_lens][lens] > limit).mean())
        rates.append(rate[1] - rate[0])
    low, high = np.quantile(rates, [0.025, 0.975])
    assert (found.tpr.low, found.tpr.high) == (pytest.approx(low, abs=0.02), pytest.approx(high, abs=0.02))


def test_the_same_seed_gives_the_same_interval():
    first, second = pair()
    assert comparison.at_fpr(first, second, 0.01) == comparison.at_fpr(first, second, 0.01)


def test_ties_of_a_saturated_model():
    """All lenses and fifty non-lenses at the same score: no threshold keeps 1 % of 1000, and nothing is found."""
    is_lens = np.arange(1100) < 100
    saturated = sample(np.where(np.arange(1100) < 150, 17.0, 0.0), is_lens)
    sharp = sample(np.where(is_lens, 17.0, 0.0), is_lens)
    found = comparison.at_fpr(saturated, sharp, 0.01)
    assert (found.tpr.value, found.only_second, found.both) == (1.0, 100, 0)
    assert (found.tpr.low, found.tpr.high) == (1.0, 1.0)


def test_objects_that_only_one_finds():
    is_lens = [1, 1, 1, 0, 0, 0]
    first = sample([9, 8, 1, 7, 0, -1], is_lens, np.array([10, 20, 30, 40, 50, 60]))
    second = sample([9, 1, 8, 0, 7, -np.inf], is_lens, first.object_id)
    found = comparison.top(first, second, 3)
    assert found.lenses == comparison.Shared(1, 1, 1)
    assert found.others == comparison.Shared(0, 1, 1)
    assert (found.only_first, found.only_second) == ([20], [30])


def test_ties_at_the_end_of_the_best_go_by_object_id_as_in_the_ranking():
    first = sample([5, 5, 5, 0], [1, 1, 1, 0], np.array(["c", "a", "b", "d"], object))
    second = sample([5, 4, 3, 0], [1, 1, 1, 0], first.object_id)
    found = comparison.top(first, second, 2)
    assert (found.only_first, found.only_second) == (["b"], ["c"])


def test_objects_without_a_score_are_in_no_best():
    first = sample([5, -np.inf, 3, 1], [1, 1, 0, 0])
    second = sample([5, 6, 3, 1], [1, 1, 0, 0])
    found = comparison.top(first, second, 3)
    assert found.only_second == [1]
    assert comparison.budgets_that_tell([2, 3, 4], first, second) == [2]


def test_too_few_objects_have_no_interval():
    first, second = sample([2, 1, 0], [1, 0, 0]), sample([1, 2, 0], [1, 0, 0])
    assert comparison.auc_difference(first, second) == comparison.Difference(-0.5, None, None)
    assert comparison.at_fpr(first, second, 0.1).tpr == comparison.Difference(-1.0, None, None)


@pytest.mark.slow
def test_intervals_hold_the_truth_as_often_as_they_say():
    """No model is better: of 200 intervals some ten lie beside 0."""
    beside = {"auc": 0, "tpr": 0}
    for seed in range(200):
        first, second = pair(150, 600, seed=seed)
        auc, tpr = comparison.auc_difference(first, second), comparison.at_fpr(first, second, 0.05, draws=300).tpr
        beside["auc"] += not auc.low <= 0 <= auc.high
        beside["tpr"] += not tpr.low <= 0 <= tpr.high
    assert 2 <= beside["auc"] <= 21
    assert 1 <= beside["tpr"] <= 24
