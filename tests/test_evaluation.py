"""Curves, areas, purity, completeness, calibration and kinds: against scikit-learn, by hand, and as properties."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from sklearn import metrics as reference

from survey_scan.evaluation import calibration, completeness, curve, intervals, kinds, metrics, purity
from survey_scan.evaluation.sample import Sample
from survey_scan.ranking import probability


def sample(logit, is_lens, **more):
    logit = np.array(logit, np.float64)
    return Sample(np.arange(len(logit)), np.array(is_lens, bool), logit, **more)


def drawn(lenses=300, others=2000, seed=0, digits=None):
    rng = np.random.default_rng(seed)
    logit = np.concatenate([rng.normal(1.5, 1.5, lenses), rng.normal(-1.5, 1.5, others)])
    return sample(logit if digits is None else logit.round(digits), np.arange(lenses + others) < lenses)


@st.composite
def samples(draw, least=2):
    """Small samples with many ties, both classes, and objects without a score."""
    lenses, others = draw(st.integers(least, 12)), draw(st.integers(least, 30))
    values = st.one_of(st.integers(-4, 4).map(float), st.floats(-30, 30), st.just(-np.inf))
    logit = draw(st.lists(values, min_size=lenses + others, max_size=lenses + others))
    return sample([0.0, *logit[1:]], np.arange(lenses + others) < lenses)


# -- curve ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_curve_is_that_of_scikit_learn(digits):
    s = drawn(digits=digits)
    found = curve.curve(s)
    fpr, tpr, threshold = reference.roc_curve(s.is_lens, s.logit, drop_intermediate=False)
    np.testing.assert_array_equal(found.threshold, threshold[1:])
    np.testing.assert_allclose(found.tpr, tpr[1:])
    np.testing.assert_allclose(found.fpr, fpr[1:])


def test_objects_that_tie_come_together():
    found = curve.curve(sample([3, 2, 2, 2, 1], [1, 1, 0, 1, 0]))
    assert found.threshold.tolist() == [3, 2, 1]
    assert found.true.tolist() == [1, 3, 3]
    assert found.false.tolist() == [0, 1, 2]


def test_objects_without_a_score_are_found_by_no_threshold():
    found = curve.curve(sample([3, -np.inf, 1, -np.inf], [1, 1, 0, 0]))
    assert found.threshold.tolist() == [3, 1]
    assert (found.tpr.tolist(), found.fpr.tolist()) == ([0.5, 0.5], [0, 0.5])


def test_tpr0_and_tpr10_by_hand():
    # two lenses, a non-lens, a lens, eight non-lenses, a lens, a non-lens, a lens
    s = sample(np.arange(15)[::-1], [1, 1, 0, 1, *[0] * 8, 1, 0, 1])
    found = curve.curve(s)
    none, ten = curve.with_at_most(found, 0), curve.with_at_most(found, 9)
    assert (none.true, none.false, none.tpr, none.threshold) == (2, 0, 0.4, 13)
    assert (ten.true, ten.false, ten.tpr, ten.threshold) == (4, 9, 0.8, 2)


def test_tpr0_does_not_split_a_tie_with_a_non_lens():
    none = curve.with_at_most(curve.curve(sample([5, 5, 5, 1], [1, 1, 0, 0])), 0)
    assert (none.threshold, none.true, none.tpr) == (None, 0, 0.0)


@pytest.mark.parametrize(
    ("fpr", "others", "count"), [(0.01, 100, 1), (0.29, 100, 29), (0.01, 11_940, 119), (1e-4, 99, 0)]
)
def test_false_positives_allowed(fpr, others, count):
    assert curve.allowed(fpr, others) == count


@given(samples(), st.floats(1e-3, 0.99))
def test_point_at_an_fpr_is_the_most_complete_one(s, fpr):
    found = curve.at_fpr(curve.curve(s), fpr)
    assert found.fpr <= fpr * (1 + 1e-9)
    others = int((~s.is_lens).sum())
    for threshold in np.unique(s.logit[s.scored]):
        if (s.logit[~s.is_lens] >= threshold).sum() <= fpr * others:
            assert found.tpr >= (s.logit[s.is_lens] >= threshold).mean()
    assert found.tpr_low <= found.tpr <= found.tpr_high
    assert found.fpr_low <= found.fpr <= found.fpr_high


@given(samples())
def test_counts_are_conserved(s):
    found, tied = curve.curve(s), curve.ties(curve.curve(s))
    assert (np.diff(found.true) >= 0).all()
    assert (np.diff(found.false) >= 0).all()
    assert found.true[-1] + found.false[-1] == s.scored.sum() == tied.scored
    assert found.lenses + found.others == len(s.logit)
    assert tied.distinct == len(np.unique(s.logit[s.scored]))
    top = s.logit == s.logit.max()
    assert (tied.top_lenses, tied.top_others) == ((top & s.is_lens).sum(), (top & ~s.is_lens).sum())


def test_saturated_scores_are_counted():
    s = drawn()
    saturated = np.minimum(s.logit, 2.0)
    tied = curve.ties(curve.curve(sample(saturated, s.is_lens)))
    assert tied.top_lenses == (s.logit[s.is_lens] >= 2).sum()
    assert tied.top_others == (s.logit[~s.is_lens] >= 2).sum()
    assert tied.largest == tied.top_lenses + tied.top_others


def test_a_thinned_curve_keeps_its_ends_and_its_start():
    found = curve.curve(drawn(5000, 50_000))
    kept = curve.thinned(found)
    assert len(kept) < 900
    assert (kept[0], kept[-1]) == (0, len(found.threshold) - 1)
    first = int(np.searchsorted(found.false, 1))  # the first false positive, and the point before it, which is TPR0
    assert {first - 1, first} <= set(kept.tolist())
    assert np.diff(found.tpr[kept]).max() < 0.02


# -- areas ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("digits", [None, 1, 0])
def test_areas_are_those_of_scikit_learn(digits):
    s = drawn(digits=digits)
    assert metrics.area(s).value == pytest.approx(reference.roc_auc_score(s.is_lens, s.logit), abs=1e-12)
    average = metrics.average_precision(curve.curve(s))
    assert average == pytest.approx(reference.average_precision_score(s.is_lens, s.logit), abs=1e-12)


@given(samples())
def test_auc_is_the_chance_of_a_pair_in_order(s):
    lenses, others = s.logit[s.is_lens, None], s.logit[~s.is_lens]
    pairs = ((lenses > others) + 0.5 * (lenses == others)).mean()
    assert metrics.area(s).value == pytest.approx(pairs, abs=1e-12)


@given(samples(), st.floats(0.1, 10), st.floats(-5, 5))
def test_monotone_maps_change_no_ranking(s, slope, shift):
    # steps, because a smooth map could merge neighbouring floats
    levels = np.unique(s.logit[s.scored])
    moved = np.full(len(s.logit), -np.inf)
    moved[s.scored] = (np.searchsorted(levels, s.logit[s.scored]) * slope + shift) ** 3
    other = sample(moved, s.is_lens)
    assert metrics.area(other) == metrics.area(s)
    a, b = curve.curve(s), curve.curve(other)
    assert (a.true.tolist(), a.false.tolist()) == (b.true.tolist(), b.false.tolist())
    assert metrics.average_precision(a) == metrics.average_precision(b)


def test_interval_of_the_auc_holds_the_truth_as_often_as_it_says():
    truth = 0.9213503964748574  # two normal distributions 2 sigma apart: Phi(2 / sqrt 2)
    inside = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        found = metrics.area(sample(np.concatenate([rng.normal(2, 1, 80), rng.normal(0, 1, 200)]), np.arange(280) < 80))
        inside += found.low <= truth <= found.high
    assert binomtest(inside, 400, 0.95).pvalue > 0.001


def test_perfect_separation_has_no_interval():
    assert metrics.area(sample([2, 1, 0, -1], [1, 1, 0, 0])) == metrics.Area(1.0, None, None)
    assert metrics.area(sample([2, 1, 3], [1, 0, 0])).low is None


def test_average_precision_falls_with_the_prior():
    found = curve.curve(drawn())
    own = found.lenses / (found.lenses + found.others)
    values = [metrics.average_precision(found, prior) for prior in (1e-6, 1e-4, own, 0.5)]
    assert values == sorted(values)
    assert values[2] == pytest.approx(metrics.average_precision(found))


def test_average_precision_at_a_prior_is_that_of_a_sample_with_that_prior():
    s = drawn(500, 500)
    logit, is_lens = s.logit, s.is_lens
    copies = 20  # each non-lens 20 times: a prior of 1 / 21
    many = sample(np.concatenate([logit[is_lens], np.repeat(logit[~is_lens], copies)]), np.arange(500 * 21) < 500)
    found = metrics.average_precision(curve.curve(s), 1 / 21)
    assert found == pytest.approx(metrics.average_precision(curve.curve(many)), abs=1e-12)


# -- intervals --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("count", "total"), [(0, 10), (1, 10), (5, 10), (10, 10), (37, 11_940)])
def test_wilson_is_that_of_scipy(count, total):
    known = binomtest(count, total).proportion_ci(0.95, "wilson")
    assert intervals.wilson(count, total) == pytest.approx((known.low, known.high), abs=1e-12)


@pytest.mark.parametrize(("count", "total"), [(0, 100), (3, 100), (100, 100)])
def test_limit_is_that_of_clopper_and_pearson(count, total):
    known = binomtest(count, total, alternative="less").proportion_ci(0.95, "exact")
    assert intervals.most(count, total) == pytest.approx(known.high, abs=1e-12)


def test_rule_of_three():
    assert 8_000_000 * intervals.most(0, 100_000) == pytest.approx(240, abs=0.5)
    assert intervals.wilson(0, 0) == (0.0, 1.0)


# -- purity -----------------------------------------------------------------------------------------------------------


@given(st.floats(1e-3, 1), st.floats(1e-6, 1), st.floats(1e-5, 0.5))
def test_purity_formula(tpr, fpr, prior):
    value = float(purity.precision(tpr, fpr, prior))
    assert value == pytest.approx(tpr * prior / (tpr * prior + fpr * (1 - prior)))
    assert 0 <= value <= 1
    assert float(purity.precision(tpr, fpr / 2, prior)) >= value


def test_purity_by_hand():
    assert float(purity.precision(0.9, 0.01, 1e-4)) == pytest.approx(0.9e-4 / (0.9e-4 + 0.009999))
    assert np.isnan(purity.precision(0.0, 0.0, 1e-4))


def test_purity_at_a_point_without_false_positives_is_not_certain():
    s = drawn(300, 2000)
    found = purity.at_prior(curve.with_at_most(curve.curve(s), 0), 1e-4)
    assert found.value == 1.0
    assert found.low < 0.05
    nothing = purity.at_prior(curve.with_at_most(curve.curve(sample([1, 1, 0], [1, 0, 0])), 0), 1e-4)
    assert nothing.value is None


@given(samples(), st.integers(1, 50))
def test_best_n_of_the_sample_over_all_orders_of_ties(s, n):
    found = purity.in_sample(curve.curve(s), n)
    assert found.inspected == min(n, s.scored.sum())
    rows = np.flatnonzero(s.scored)
    orders = [rows[np.lexsort((key[rows], -s.logit[rows]))] for key in (s.is_lens.astype(int), -s.is_lens.astype(int))]
    worst, best = (int(s.is_lens[order[: found.inspected]].sum()) for order in orders)
    assert (found.lenses_low, found.lenses_high) == (worst, best)
    assert worst - 1e-9 <= found.lenses <= best + 1e-9
    assert found.completeness == pytest.approx(found.lenses / s.is_lens.sum())
    assert found.purity == pytest.approx(found.lenses / found.inspected)


def test_best_n_within_a_tie_is_the_mean():
    found = purity.in_sample(curve.curve(sample([9, 5, 5, 5, 5, 1], [1, 1, 0, 0, 1, 0])), 3)
    assert (found.lenses, found.lenses_low, found.lenses_high) == (2.0, 1, 3)
    assert (found.completeness, found.purity) == (pytest.approx(2 / 3), pytest.approx(2 / 3))


@given(samples(), st.integers(1, 10_000), st.floats(1e-5, 0.3))
def test_budget_of_a_scan_is_kept_and_used(s, budget, prior):
    found = curve.curve(s)
    chosen = purity.in_scan(found, budget, prior, 10_000)
    assert chosen.candidates <= budget * (1 + 1e-9)
    assert chosen.candidates_low <= chosen.candidates <= chosen.candidates_high
    expected = purity.expected_candidates(found, prior, 10_000)
    assert (np.diff(expected) > 0).all()
    better = expected[found.tpr > chosen.point.tpr]
    assert (better > budget).all()
    if chosen.purity.value is not None:
        assert chosen.purity.low <= chosen.purity.value <= chosen.purity.high
        assert chosen.lenses == pytest.approx(chosen.purity.value * chosen.candidates)
    assert chosen.known == (chosen.point.false >= 10)


def test_a_budget_smaller_than_the_tie_at_the_top_finds_nothing():
    chosen = purity.in_scan(curve.curve(sample([5] * 10 + [0] * 10, [1] * 5 + [0] * 15)), 1000, 1e-4)
    assert (chosen.point.threshold, chosen.candidates, chosen.purity.value) == (None, 0.0, None)


# -- completeness and kinds -------------------------------------------------------------------------------------------


def lensed(n=400, seed=1):
    rng = np.random.default_rng(seed)
    is_lens = np.arange(2 * n) < n
    theta_e, snr = (np.where(is_lens, rng.uniform(*span, 2 * n), np.nan) for span in ((0.6, 2.4), (12, 160)))
    logit = np.where(is_lens, 2 * (np.nan_to_num(theta_e) - 1) + rng.normal(0, 1, 2 * n), rng.normal(-3, 1, 2 * n))
    return sample(logit, is_lens, theta_e=theta_e, arc_snr=snr)


def test_completeness_map_counts_every_lens_once():
    s = lensed()
    s.theta_e[:7] = np.nan
    s.arc_snr[7:9] = -1
    at = curve.at_fpr(curve.curve(s), 0.01)
    found = completeness.completeness(s, at)
    assert found.lenses.sum() + found.unplaced[0] == 400
    assert found.found.sum() + found.unplaced[1] == at.true
    assert found.unplaced[0] == 9
    assert (found.found <= found.lenses).all()
    assert found.lenses.shape == (len(found.theta_e) - 1, len(found.arc_snr) - 1)
    assert (found.theta_e[0], found.theta_e[-1]) == (0.5, 2.5)
    assert (found.arc_snr[0], found.arc_snr[-1]) == (10, 200)
    for i, j in np.ndindex(found.lenses.shape):
        inside = s.is_lens & (s.theta_e >= found.theta_e[i]) & (s.theta_e < found.theta_e[i + 1])
        inside &= (s.arc_snr >= found.arc_snr[j]) & (s.arc_snr < found.arc_snr[j + 1])
        assert found.lenses[i, j] == inside.sum()
        assert found.found[i, j] == (inside & (s.logit >= at.threshold)).sum()


def test_the_map_says_what_the_model_misses():
    s = lensed(2000)
    found = completeness.completeness(s, curve.at_fpr(curve.curve(s), 0.01))
    by_radius = found.found.sum(1) / found.lenses.sum(1)
    assert by_radius[-1] - by_radius[0] > 0.3


def test_an_edge_belongs_to_the_bin_above_and_the_last_bin_has_no_end():
    s = sample([1, 1, 0], [1, 1, 0], theta_e=np.array([0.5, 99.0, np.nan]), arc_snr=np.array([10.0, 1000.0, np.nan]))
    found = completeness.completeness(s, curve.at_fpr(curve.curve(s), 0.5))
    assert (found.theta_e[0], found.theta_e[-1], found.arc_snr[0], found.arc_snr[-1]) == (0.5, np.inf, 10, np.inf)
    assert found.lenses[0, 0] == found.lenses[-1, -1] == 1


def test_no_map_without_radii():
    at = curve.at_fpr(curve.curve(drawn()), 0.01)
    assert completeness.completeness(drawn(), at) is None
    nothing = np.full(2300, np.nan)
    empty = sample(drawn().logit, drawn().is_lens, theta_e=nothing, arc_snr=nothing)
    assert completeness.completeness(empty, at) is None


def test_kinds_say_which_negatives_are_confused():
    logit = [4, 3, 2, 1, 0, -1, -np.inf, 2.5]
    s = sample(
        logit, [1, 1, 0, 0, 0, 0, 0, 1], kind=np.array(["lens"] * 2 + ["ring", "star", "ring", "star", "star", "ring"])
    )
    found = kinds.by_kind(s, curve.at_fpr(curve.curve(s), 0.2))
    assert [(k.kind, k.is_lens, k.objects, k.scored, k.found) for k in found] == [
        ("lens", True, 2, 2, 2),
        ("ring", True, 1, 1, 1),
        ("ring", False, 2, 2, 1),
        ("star", False, 3, 2, 0),
    ]
    assert found[2].quantiles[2] == 1.0
    assert kinds.by_kind(drawn(), curve.at_fpr(curve.curve(drawn()), 0.01)) is None


# -- calibration ------------------------------------------------------------------------------------------------------


def calibrated(n=40_000, seed=0, shift=-2.0):
    rng = np.random.default_rng(seed)
    logit = rng.normal(shift, 2.5, n)
    return sample(logit, rng.random(n) < probability(logit))


def test_a_calibrated_model_needs_no_correction():
    found = calibration.calibration(calibrated(), 1e-3)
    assert found.ece < 0.01
    assert found.shift == pytest.approx(0, abs=0.06)
    assert found.temperature == pytest.approx(1, abs=0.04)
    assert all(b.lenses_low - 0.02 <= b.probability <= b.lenses_high + 0.02 for b in found.bins)


@pytest.mark.parametrize(("shift", "temperature"), [(3.0, 1.0), (0.0, 3.0), (0.0, 0.4)])
def test_corrections_find_what_was_done_to_the_logit(shift, temperature):
    s = calibrated()
    found = calibration.calibration(sample(s.logit * temperature + shift, s.is_lens), 1e-3)
    assert found.ece > 0.03
    if shift:
        assert found.shift == pytest.approx(-shift, abs=0.06)
        assert found.ece_shift < 0.01
    else:
        assert found.temperature == pytest.approx(temperature, rel=0.04)
        assert found.ece_temperature < 0.01


def test_prior_shift_calibrates_a_model_that_was_trained_on_too_many_lenses():
    """One lens in three of a training set, one in a thousand of a survey."""
    rng = np.random.default_rng(0)
    is_lens = np.arange(60_000) < 20_000
    # the log odds of two normal distributions 4 apart, sigma 2, are x for as many of each
    logit = rng.normal(np.where(is_lens, 2.0, -2.0), 2.0) + np.log(1 / 2)
    found = calibration.calibration(sample(logit, is_lens), 1e-3)
    assert found.ece < 0.01
    assert found.prior_shift == pytest.approx(np.log(2 / 999))
    assert found.ece_prior > 0.1
    assert found.ece_prior_shift < 0.001


def test_ece_by_hand():
    p, is_lens = np.array([0.05, 0.05, 0.95, 0.95]), np.array([False, False, True, False])
    assert calibration.ece(p, is_lens) == pytest.approx((2 * 0.05 + 2 * 0.45) / 4)
    assert calibration.ece(p, is_lens, np.array([1, 1, 2, 0])) == pytest.approx((2 * 0.05 + 2 * 0.05) / 4)
    bins = calibration.reliability(p, is_lens)
    assert [(b.objects, b.lenses) for b in bins] == [(2, 0.0), (2, 0.5)]


def test_classes_that_zero_separates_have_no_temperature():
    assert calibration.calibration(sample([2, 1, -1, -2], [1, 1, 0, 0]), 0.1).temperature is None
    assert calibration.calibration(sample([-2, -1, 1, 2], [1, 1, 0, 0]), 0.1).temperature is None


@settings(max_examples=50)
@given(samples())
def test_shift_gives_the_fraction_of_lenses(s):
    kept = s.scored
    if not s.is_lens[kept].any() or s.is_lens[kept].all():
        return
    found = calibration.calibration(s, 1e-3)
    assert probability(s.logit[kept] + found.shift).mean() == pytest.approx(s.is_lens[kept].mean(), abs=1e-6)
    assert sum(b.objects for b in found.bins) == kept.sum()
    assert 0 <= found.ece <= 1
