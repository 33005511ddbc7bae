"""Identifiers that occur twice."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.errors import CatalogueError
from survey_scan.plan import unique


def write(folder, *pieces, dtype=None):
    paths = []
    for i, ids in enumerate(pieces):
        paths.append(folder / f"part-{i}.arrow")
        series = pd.Series(ids, dtype=dtype or ("str" if ids and isinstance(ids[0], str) else "int64"))
        series.to_frame("object_id").to_feather(paths[-1])
        unique.write_hashes(series, paths[-1])
    return paths


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.integers(-50, 50) | st.just(-(2**63)), max_size=30), min_size=1, max_size=4), st.integers(1, 7)
)
def test_all_shares_together_find_what_occurs_twice(tmp_path_factory, pieces, shares):
    paths = write(tmp_path_factory.mktemp("ids"), *pieces)
    found = [unique.repeated(paths, share, shares) for share in range(shares)]
    ids = pd.Series([i for piece in pieces for i in piece], dtype="int64")
    twice = sorted(set(ids[ids.duplicated()]))
    assert sum(each.number for each in found) == len(twice)
    hashes = np.sort(np.concatenate([each.hashes for each in found]))
    assert sorted({i for path in paths for i in unique.find_ids(path, hashes)}) == twice


def test_hashes_of_integers_are_different_and_spread():
    ids = pd.concat([pd.Series(np.arange(200_000)), pd.Series(-np.arange(1, 1000)), pd.Series([2**63 - 1, -(2**63)])])
    hashes = unique.hash_ids(ids)
    assert len(np.unique(hashes)) == len(ids)
    counts, _ = np.histogram(hashes.astype(float), 16, (0, 2.0**64))
    assert counts.min() > 0.9 * len(ids) / 16
    assert unique.hash_ids(pd.Series([2**64 - 1], dtype="uint64")).dtype == np.uint64


def refusal(*arguments):
    with pytest.raises(CatalogueError) as caught:
        unique.refuse(*arguments)
    return str(caught.value)


def test_the_message_has_the_number_the_first_and_their_files(tmp_path):
    paths = write(tmp_path, [5, 1, 2, 3], [9, 3, 2, 2], [5, 7, 1])
    located = dict(zip((0, 1, 2), zip(paths, ["/s/a.fits", "/s/a.fits", "/s/b.fits"], strict=True), strict=True))
    found = [unique.repeated(paths, share, 3) for share in range(3)]
    assert refusal(located, found, 11) == (
        "catalogue.id_column: of the 11 selected objects' identifiers, 4 occur more than once: 1 (in a.fits, b.fits); "
        "2 (in a.fits, a.fits, a.fits); 3 (in a.fits, a.fits); and 1 more. Name a column, or a list of columns, that "
        "is unique, or add a cut that keeps one row of each."
    )


def test_texts(tmp_path):
    paths = write(tmp_path, ["9010-1-2", "9010-1-3"], ["9010-1-2"])
    located = {n: (path, f"{n}.fits") for n, path in enumerate(paths)}
    assert (
        "of the 3 selected objects' identifiers, 1 occurs more than once: 9010-1-2 (in 0.fits, 1.fits). Name"
        in refusal(located, [unique.repeated(paths, 0, 1)], 3)
    )


def test_more_than_are_looked_up_are_counted_all_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(unique, "_SHOWN", 5)
    paths = write(tmp_path, list(range(100)), list(range(100)))
    located = {n: (path, f"{n}.fits") for n, path in enumerate(paths)}
    assert "identifiers, 100 occur more than once" in refusal(located, [unique.repeated(paths, 0, 1)], 200)


def test_different_texts_that_share_a_hash_are_no_repetition(tmp_path, monkeypatch):
    monkeypatch.setattr(unique, "hash_ids", lambda ids: np.full(len(ids), 7, np.uint64))
    paths = write(tmp_path, ["a"], ["b"])
    found = [unique.repeated(paths, 0, 1)]
    assert found[0].number == 1
    unique.refuse({n: (path, f"{n}.fits") for n, path in enumerate(paths)}, found, 2)


def test_nothing_repeated_reads_nothing():
    unique.refuse({}, [unique.Repeated(0, np.zeros(0, np.uint64))], 5)
