"""Definitions, cuts and the account of what they remove."""

import warnings

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan import selection
from survey_scan.config import Selection
from survey_scan.errors import SelectionError
from survey_scan.selection import CutFlow, check, problems, select


def catalogue(n=6, **columns):
    base = {"object_id": np.arange(n), "ra": np.linspace(0, 350, n), "dec": np.linspace(-80, 80, n)}
    return pd.DataFrame({**base, **columns})


def test_definitions_then_cuts_in_order():
    frame = catalogue(
        mag_g=[20.0, 21.0, 22.0, np.nan, 19.0, 20.5],
        mag_r=[19.0, 19.5, 21.9, 20.0, 18.9, 25.0],
        kind=pd.Series(["DEV", "PSF", "DEV", "DEV", "EXP", "DEV"], dtype="str"),
    )
    chosen = Selection(
        define={"g_r": "mag_g - mag_r", "red": "g_r > 0.5"}, cuts={"red": "red", "galaxy": "kind != 'PSF'"}
    )
    selected, flow = select(frame, chosen)
    assert selected["object_id"].tolist() == [0]
    assert list(selected.columns) == ["object_id", "ra", "dec", "mag_g", "mag_r", "kind", "g_r", "red"]
    assert selected["red"].tolist() == [1.0]
    assert flow == CutFlow(6, {"valid position": 6, "red": 2, "galaxy": 1})
    assert flow.text() == (
        "  cut             kept  removed  fraction\n"
        "  valid position     6        0    1.0000\n"
        "  red                2        4    0.3333\n"
        "  galaxy             1        1    0.1667"
    )


def test_an_undecided_definition_is_kept_as_nan():
    frame = catalogue(3, a=[1.0, np.nan, 3.0])
    selected, _ = select(frame, Selection(define={"big": "a > 2", "one": "1"}))
    np.testing.assert_array_equal(selected["big"], [0.0, np.nan, 1.0])
    np.testing.assert_array_equal(selected["one"], [1.0, 1.0, 1.0])


def test_keep_and_its_order():
    frame = catalogue(2, tile=pd.Series(["A", "B"], dtype="str"), a=[1.0, 2.0], b=[3, 4])
    selected, _ = select(frame, Selection(define={"c": "a + b"}, keep=["c", "b", "ra"]))
    assert list(selected.columns) == ["object_id", "ra", "dec", "tile", "c", "b"]
    assert selected["b"].dtype == np.int64
    assert list(select(frame, Selection(keep=[]))[0].columns) == ["object_id", "ra", "dec", "tile"]


def test_positions_that_are_none_are_cut_first_and_counted():
    ra = [-180.0, -0.5, 0.0, 359.9, 360.0, 360.1, -180.1, np.nan, 10.0, 10.0, 10.0, np.inf, -1e-20]
    dec = [0.0, 90.0, -90.0, 0.0, 0.0, 0.0, 0.0, 0.0, 90.1, np.nan, -91.0, 0.0, 0.0]
    frame = pd.DataFrame({"object_id": range(13), "ra": ra, "dec": dec})
    selected, flow = select(frame, Selection(cuts={"all": "True"}))
    assert selected["object_id"].tolist() == [0, 1, 2, 3, 4, 12]
    np.testing.assert_array_equal(selected["ra"], [180.0, 359.5, 0.0, 359.9, 0.0, 0.0])
    assert flow.kept == {"valid position": 6, "all": 6}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.floats(0, 10) | st.just(np.nan), min_size=0, max_size=40),
    st.lists(st.sampled_from(["a > 3", "not a > 6", "a != 5", "isfinite(a)", "a in [1, 2]"]), min_size=0, max_size=4),
    st.integers(0, 40),
)
def test_every_row_is_selected_or_removed_by_one_cut(values, texts, split):
    frame = pd.DataFrame({"object_id": range(len(values)), "ra": 1.0, "dec": 2.0, "a": np.array(values, float)})
    chosen = Selection(cuts={f"cut{i}": text for i, text in enumerate(texts)})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        selected, flow = select(frame, chosen)
    table = flow.frame()
    assert len(selected) + table["removed"].sum() == len(frame) == flow.total
    assert flow.selected == len(selected)
    parts = [select(part, chosen) for part in (frame.iloc[:split], frame.iloc[split:])]
    assert parts[0][1] + parts[1][1] == flow == CutFlow.empty(chosen) + flow
    assert pd.concat([p[0] for p in parts])["object_id"].tolist() == selected["object_id"].tolist()


def test_cut_flows_of_different_cuts_do_not_add():
    with pytest.raises(ValueError, match="different cuts"):
        CutFlow(1, {"a": 1}) + CutFlow(1, {"b": 1})


def test_a_cut_that_leaves_nothing_is_named():
    flow = CutFlow(30_000, {"valid position": 30_000, "red": 12, "bright": 0, "round": 0})
    with pytest.raises(SelectionError) as caught:
        selection.refuse_empty(flow)
    assert str(caught.value) == (
        "cut 'bright' leaves none of the 30,000 objects of the catalogue. Widen it, or see whether columns, units and "
        "catalogue.missing are right.\n"
        "  cut               kept  removed  fraction\n"
        "  valid position  30,000        0    1.0000\n"
        "  red                 12   29,988    0.0004\n"
        "  bright               0       12    0.0000\n"
        "  round                0        0    0.0000"
    )
    selection.refuse_empty(CutFlow(3, {"valid position": 1}))


COLUMNS = catalogue(0, mag_g=np.zeros(0), mag_r=np.zeros(0), kind=pd.Series([], dtype="str"))


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        (
            Selection(cuts={"red": "g_r > 1"}),
            "cut 'red' uses 'g_r', which is neither a column of sweep-000.fits nor defined. "
            "Defined: mag_g, mag_r, kind. Did you mean 'mag_r'?",
        ),
        (
            Selection(cuts={"red": "zzz > 1"}),
            "cut 'red' uses 'zzz', which is neither a column of sweep-000.fits nor defined. "
            "Defined: mag_g, mag_r, kind.",
        ),
        (
            Selection(cuts={"w": "FLUX_W1 > 1"}),
            "cut 'w' uses 'FLUX_W1', a column of sweep-000.fits that is not read. "
            "Add it to catalogue.columns: FLUX_W1: FLUX_W1",
        ),
        (
            Selection(cuts={"valid position": "dec > 0"}),
            "cut 'valid position': this is the name of the built-in cut. Choose another.",
        ),
        (Selection(cuts={"red": "mag_g - 1"}), "cut 'red': 'mag_g - 1' is a number, not a condition. Compare it."),
        (
            Selection(cuts={"psf": "kind > 2"}),
            "cut 'psf': '2' (character 8 of 'kind > 2') is a number, compared with a text.",
        ),
        (Selection(define={"k": "kind"}), "definition 'k': 'kind' is a text. Define a number or a condition."),
        (
            Selection(define={"mag_g": "mag_r"}),
            "definition 'mag_g': this is the name of a column there is already. Choose another.",
        ),
        (
            Selection(define={"x": "mag_r"}),
            "definition 'x': this is the name of a column there is already. Choose another.",
        ),
        (
            Selection(keep=["mag_g", "g_r"]),
            "selection.keep uses 'g_r', which is neither a column of sweep-000.fits nor defined. "
            "Defined: mag_g, mag_r, kind. Did you mean 'mag_r'?",
        ),
    ],
)
def test_messages(chosen, message):
    with pytest.raises(SelectionError) as caught:
        check(chosen, COLUMNS, "sweep-000.fits", ["FLUX_W1"])
    assert str(caught.value) == message


def test_all_problems_at_once_but_each_cause_once():
    chosen = Selection(
        define={"late": "early + 1", "early": "mag_g + 1", "broken": "mag_g +"},
        cuts={"fine": "early > 1", "follows": "broken > late", "own": "mag_g"},
        keep=["broken"],
    )
    found = problems(chosen, COLUMNS, "cat.fits")
    assert [p.place for p in found] == [
        ("selection", "define", "late"),
        ("selection", "define", "broken"),
        ("selection", "cuts", "own"),
    ]
    assert found[0].text.startswith(
        "definition 'late' uses 'early', which is neither a column of cat.fits nor defined."
    )


def test_a_good_selection_has_no_problems():
    chosen = Selection(
        define={"g_r": "mag_g - mag_r"},
        cuts={"box": "0 < g_r < 2 and kind in ['DEV', 'EXP']", "north": "dec > 0"},
        keep=["g_r", "mag_g", "ra"],
    )
    check(chosen, COLUMNS, "cat.fits")
