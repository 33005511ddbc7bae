"""Which rows are learnt from, in which order, and their pixels."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from labelled_store import make

from survey_scan.errors import UserError
from survey_scan.models.package import View
from survey_scan.store import Reader
from survey_scan.training import balance, labels
from survey_scan.training.labels import Rows
from survey_scan.training.reading import Batches, Draws, Held, Stored, blocks, order


def rows(n: int, lenses: int, repeat: int = 1, stores: int = 1) -> Rows:
    """The last ones are lenses; every tenth is drawn more often."""
    is_lens = np.arange(n) >= n - lenses
    often = np.where((np.arange(n) % 10 == 0) & ~is_lens, repeat, 1)
    return Rows(np.arange(n) * stores // n, np.arange(n) % (-(-n // stores)), is_lens, often)


class Numbers:
    """Pixels that are the number of their row."""

    def fetch(self, index):
        return index[:, None, None, None].astype(np.float32)


# --- labels ---


def table(ids, is_lens):
    return pd.DataFrame({"object_id": ids, "is_lens": np.array(is_lens, bool)})


def test_labels_find_their_rows_and_what_is_missing_is_counted():
    ids, status = np.arange(100, 110), np.array([0, 0, 1, 0, 0, 0, 0, 0, 0, 2], np.uint8)
    found = labels.match(3, ("a", "b"), ids, status, table([108, 101, 102, 999], [1, 0, 1, 0]))
    assert found.rows.row.tolist() == [1, 8] and found.rows.is_lens.tolist() == [False, True]
    assert found.rows.store.tolist() == [3, 3] and (found.labelled, found.absent, found.flagged) == (4, 1, 1)
    texts = labels.match(0, ("a", "b"), ids, status, table(["101", "x"], [1, 0]))
    assert texts.rows.row.tolist() == [1]


@pytest.mark.parametrize(
    ("ids", "status", "wanted", "message"),
    [
        (
            [1, 2],
            [0, 0],
            [7, 8],
            "none of the 2 object_ids of labels.csv is in run: 7 in the table, 1 in the store. Name labels of the objects of "
            "this store.",
        ),
        (
            [1, 2],
            [1, 4],
            [1, 2],
            "none of the 2 labelled objects of run is whole: their status is not 0. See its array 'status', or use another "
            "store.",
        ),
        ([5, 5], [0, 0], [5, 6], "run holds object_id 5 more than once, so that a label cannot be given to one row."),
    ],
)
def test_labels_of_nothing_are_refused(ids, status, wanted, message):
    with pytest.raises(UserError) as caught:
        labels.match(0, ("run", "labels.csv"), np.array(ids), np.array(status, np.uint8), table(wanted, [1, 0]))
    assert str(caught.value) == message


def test_hard_negatives_are_drawn_more_often():
    ids = np.arange(50, 150)
    some = rows(100, 20)
    found = labels.repeated(some, ids, pd.Series([50, 53, 9999]), 5, ("run", "hard.csv"))
    assert found.repeat.sum() == 108 and found.repeat[[0, 3]].tolist() == [5, 5]
    index, _ = order(found, np.arange(100), 1, (1,))
    assert np.bincount(index)[[0, 1, 3]].tolist() == [5, 1, 5]
    with pytest.raises(UserError) as caught:
        labels.repeated(some, ids, pd.Series([50, 149]), 5, ("run", "hard.csv"))
    assert str(caught.value) == (
        "1 objects of hard.csv are lenses by their label, the first is 149. Hard negatives are non-lenses: remove them there, "
        "or mend the label."
    )
    with pytest.raises(UserError) as caught:
        labels.repeated(some, ids, pd.Series([1]), 5, ("run", "hard.csv"))
    assert str(caught.value) == (
        "none of the 1 hard negatives of hard.csv is a labelled non-lens of run. Label them 0 as well, or remove hard_negatives."
    )


def test_what_judges_is_held_out_by_name_class_by_class():
    some = rows(2000, 100, stores=2)
    ids = [np.arange(1000), np.arange(1000)]
    out = labels.held_out(some, ids, ["a", "b"], 0.1)
    assert out[some.is_lens].sum() == 10 and out[~some.is_lens].sum() == 190
    assert not np.array_equal(out[:1000], out[1000:])  # the same ids, of another store
    turned = Rows(1 - some.store, some.row, some.is_lens, some.repeat)
    assert np.array_equal(out, labels.held_out(turned, ids, ["b", "a"], 0.1))
    few = rows(4, 2)
    assert labels.held_out(few, [np.arange(4)], ["a"], 0.01).sum() == 2


# --- order ---


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 3000), st.integers(1, 5), st.integers(1, 3), st.integers(0, 99))
def test_a_pass_draws_every_row_as_often_as_it_is_to_be(n, at_once, repeat, seed):
    some = rows(n, n // 4, repeat)
    index, edges = order(some, np.arange(n), at_once, (seed, 0))
    np.testing.assert_array_equal(np.bincount(index, minlength=n), some.repeat)
    assert edges[0] == 0 and edges[-1] == len(index)
    for low, high in pairwise(edges):
        assert len(np.unique(blocks(some)[index[low:high]])) <= at_once
    again, _ = order(some, np.arange(n), at_once, (seed, 0))
    np.testing.assert_array_equal(index, again)
    if n > 50:
        assert not np.array_equal(index, order(some, np.arange(n), at_once, (seed, 1))[0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2500))
def test_drawing_goes_on_from_anywhere(start):
    some = rows(700, 100, 2)
    mine = np.flatnonzero(~some.is_lens)

    def drawn(first: int, count: int) -> list[int]:
        draws = Draws(Numbers(), some, mine, 2, (5, 1), first)
        found = np.concatenate([index for index, _ in draws.take(count)]).tolist()
        draws.close()
        return found

    assert drawn(start, 50) == drawn(0, start + 50)[start:]


def test_batches_hold_their_share_of_lenses_and_go_on_from_any_step():
    some = rows(1000, 30)
    groups = balance.groups(some, 0.25, 32)
    assert [len(mine) for mine, _ in groups] == [30, 970] and [count for _, count in groups] == [8, 24]

    def drawn(start: int, steps: int):
        batches = Batches(Numbers(), some, groups, 2, 9, start)
        found = [batches.take() for _ in range(steps)]
        batches.close()
        return found

    whole = drawn(0, 12)
    for pixels, is_lens in whole:
        assert is_lens.sum() == 8 and pixels.shape == (32, 1, 1, 1)
        np.testing.assert_array_equal(pixels[:, 0, 0, 0] >= 970, is_lens)
    assert any(is_lens[16:].any() for _, is_lens in whole)  # on every device some
    for (a, b), (c, d) in zip(whole[7:], drawn(7, 5), strict=True):
        np.testing.assert_array_equal(a, c)
        np.testing.assert_array_equal(b, d)


def test_balance_in_numbers():
    some = rows(1000, 100, 3)
    assert balance.weights(some, 0.25) == balance.weights(some, "none") == (1.0, 1.0)
    other, lens = balance.weights(some, "weights")
    n = some.repeat[~some.is_lens].sum()
    assert other * n == pytest.approx(lens * 100) and other * n + lens * 100 == pytest.approx(n + 100)
    assert (balance.share(some, 0.3), balance.share(some, "weights")) == (0.3, 0.5)
    assert balance.share(some, "none") == 100 / (n + 100)
    assert [count for _, count in balance.groups(some, 0.001, 4)] == [1, 3]
    assert [count for _, count in balance.groups(some, "none", 4)] == [4]


# --- pixels ---


def test_pixels_in_memory_and_by_chunks_are_those_of_the_store(tmp_path: Path):
    one, two = make(tmp_path / "one", 600), make(tmp_path / "two", 300, seed=1)
    readers = [Reader(folder / "cutouts.zarr") for folder in (one, two)]
    chosen = np.r_[np.arange(3, 600, 5), np.arange(0, 300, 4)]
    some = Rows(np.r_[np.zeros(120, int), np.ones(75, int)], chosen, chosen % 3 == 0, np.ones(195, int))
    view = View(("r", "g"), (1, 0), 10, 1)
    stored = Stored(readers, [view, view], some)
    assert stored.nbytes == 195 * 100 * 2 * 4
    index = np.random.default_rng(0).permutation(195)[:80]
    pixels = stored.fetch(index)
    for number, at in enumerate(index):
        expected = readers[some.store[at]].pixels(some.row[at], some.row[at] + 1)[0, 1:-1, 1:-1, ::-1]
        np.testing.assert_array_equal(pixels[number], expected)
    np.testing.assert_array_equal(Held(stored).fetch(index), pixels)
