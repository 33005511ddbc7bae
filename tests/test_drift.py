"""Drift: counts that add up, quantiles to a bin, and tests that name the one tile that is off, and no other."""

import shutil
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from survey_scan.ranking import drift


def tiles(rng, n, sizes, change=lambda i, x: x):
    """Logits of tiles, alike but for what ``change`` does to tile i."""
    logit = np.concatenate([change(i, rng.gumbel(-14, 3, size)) for i, size in zip(range(n), sizes, strict=True)])
    return logit, np.repeat([f"T{i:03d}" for i in range(n)], sizes)


def named(found):
    return found["group"][found["named"]].tolist()


@settings(max_examples=50, deadline=None)
@given(
    logit=hnp.arrays(np.float32, st.integers(0, 60), elements=st.floats(-1000, 1000, width=32) | st.just(np.nan)),
    cuts=st.lists(st.integers(0, 60), max_size=4),
)
def test_counts_of_partitions_add_up_however_they_are_divided(logit, cuts):
    group = np.array([f"T{i % 3}" for i in range(len(logit))], object)
    parts = [
        drift.count(a, g) for a, g in zip(np.split(logit, sorted(cuts)), np.split(group, sorted(cuts)), strict=True)
    ]
    whole, merged = drift.merge([drift.count(logit, group)]), drift.merge(reversed(parts))
    assert list(whole) == list(merged) == sorted(set(group[~np.isnan(logit)]))
    assert all((whole[name] == merged[name]).all() for name in whole)
    assert sum(c.sum() for c in whole.values()) == (~np.isnan(logit)).sum()


@pytest.mark.parametrize(("scale", "width"), [(1, 0.101), (5, 0.11), (100, 2.6)])
def test_quantiles_are_numpy_s_to_the_width_of_a_bin(scale, width):
    x = np.random.default_rng(1).normal(0, scale, 20_000)
    found = drift.quantiles(drift.count(x, np.full(len(x), "a"))["a"])
    assert found == pytest.approx(np.quantile(x, drift.QUANTILES, method="inverted_cdf"), abs=width)


def test_a_quantile_with_nothing_above_it_is_not_given():
    counts = drift.count(np.arange(100.0), np.full(100, "a"))["a"]
    assert np.isnan(drift.quantiles(counts)).tolist() == [False, False, False, True]
    assert np.isnan(drift.quantiles(np.zeros(drift.BINS, int))).all()


@pytest.mark.parametrize(
    "change", [lambda x: x + 1.5, lambda x: (x + 14) * 1.4 - 14, lambda x: np.where(x > -8, -20, x)]
)
@pytest.mark.parametrize("which", [0, 2])
def test_the_one_of_three_tiles_that_is_off_is_named(change, which):
    logit, group = tiles(np.random.default_rng(2), 3, [700] * 3, lambda i, x: change(x) if i == which else x)
    assert named(drift.table(drift.merge([drift.count(logit, group)]))) == [f"T{which:03d}"]


def test_alike_tiles_are_named_as_seldom_as_promised():
    rng, false = np.random.default_rng(3), 0
    for _ in range(150):
        false += bool(named(drift.table(drift.count(*tiles(rng, 3, [700, 650, 300])))))
    assert false <= 6  # 1.5 expected of 150 surveys at 1 %


def test_the_bad_tiles_of_many_are_named_and_hardly_others_though_all_scatter():
    rng = np.random.default_rng(4)
    false, off = 0, {7: 3.0, 31: -3.0}
    for _ in range(20):
        shifts = rng.normal(0, 0.25, 60)  # four times what chance gives the mean of 3,000
        logit, group = tiles(rng, 60, rng.integers(1000, 6000, 60), lambda i, x, s=shifts: x + s[i] + off.get(i, 0))
        found = set(named(drift.table(drift.count(logit, group))))
        assert found >= {"T007", "T031"}
        false += len(found) > 2
    assert false <= 2


def test_a_top_that_is_too_full_is_named_by_it_alone():
    def change(i, x):
        if i == 4:
            x[:40] = 12.0 + np.arange(40) / 100
        return x

    found = drift.table(drift.count(*tiles(np.random.default_rng(5), 8, [1000] * 8, change))).set_index("group")
    assert found.index[found["named"]].tolist() == ["T004"]
    row = found.loc["T004"]
    assert row["top"] >= 40 and row["p_top"] < 1e-9 and row["expected"] < 15


def test_of_two_groups_that_differ_both_are_named():
    rng = np.random.default_rng(6)
    found = drift.table(drift.count(*tiles(rng, 2, [5000, 900], lambda i, x: x + 4 * i)))
    assert found["named"].tolist() == [True, True]
    assert found["median_shift"].tolist() == pytest.approx([-4, 4], abs=0.5)
    assert drift.table(drift.count(*tiles(rng, 2, [5000, 900])))["named"].tolist() == [False, False]


def test_small_groups_are_counted_but_not_compared():
    found = drift.table(
        drift.count(*tiles(np.random.default_rng(7), 4, [800, 700, 900, 99], lambda i, x: x + 9 * (i == 3)))
    )
    assert found["named"].tolist() == [False] * 4 and found["scored"].tolist() == [800, 700, 900, 99]
    assert np.isnan(found["p_shape"][3]) and not np.isnan(found["q0.9"][3])


def test_one_group_none_and_all_the_same_logit():
    assert drift.table({}).empty and list(drift.sentences(drift.table({}))) == []
    assert not drift.table(drift.count(*tiles(np.random.default_rng(8), 1, [500])))["named"].any()
    same = drift.table(drift.count(np.zeros(900), np.repeat(["a", "b", "c"], 300)))
    assert not same["named"].any() and same["top"].tolist() == [0, 0, 0]


def test_what_is_said_of_a_named_tile():
    logit, group = tiles(np.random.default_rng(2), 3, [700] * 3, lambda i, x: x + 1.5 * (i == 1))
    (line,) = drift.sentences(drift.table(drift.count(logit, group)))
    assert line.startswith("tile T001: its scores are out of line with the others' (p ")
    assert line.endswith("median +1.54, spread x 1.00, 7 of 700 in the survey's top 1 % where 7 were expected"), line


def test_bins_of_seeing():
    table = pd.DataFrame({"tile": ["a", "b", "c"], "psf_g": [1.2, 1.0, np.nan], "psf_r": [1.0, np.nan, np.nan]})
    assert drift.seeing(table).to_dict() == {"a": "1.10-1.20", "b": "1.00-1.10", "c": ""}
    assert drift.seeing(table[["tile"]]).tolist() == ["", "", ""]


def shift(folder, factor):
    """Multiply a tile's pixels, in their compressed form: exactly, and nothing else of the file changes."""
    from astropy.io import fits

    for path in sorted(folder.glob("*.fits.fz")):
        with fits.open(path, mode="update", disable_image_compression=True) as file:
            file["SCI"].data["ZSCALE"] *= factor
            file["SCI"].data["ZZERO"] *= factor


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_tile_whose_zero_point_is_off_by_a_magnitude_is_named(tmp_path):
    from survey_scan.layout import RunDirectory
    from survey_scan.views.drift import drift as drift_of

    def call(*words):
        done = subprocess.run([sys.executable, "-m", "survey_scan", *map(str, words)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    call("demo", tmp_path / "demo")
    tile = "DEMO020419-4441"
    shutil.copytree(tmp_path / "demo" / "survey", tmp_path / "off" / "survey")
    shutil.copytree(tmp_path / "demo" / "model", tmp_path / "off" / "model")
    shutil.copy(tmp_path / "demo" / "demo.yaml", tmp_path / "off")
    shift(tmp_path / "off" / "survey" / "tiles" / tile, 10**0.4)
    call("run", tmp_path / "off" / "demo.yaml")
    assert named(drift_of(RunDirectory(tmp_path / "demo" / "runs" / "demo"))["tile"]) == []
    assert named(drift_of(RunDirectory(tmp_path / "off" / "runs" / "demo"))["tile"]) == [tile]
