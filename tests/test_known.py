"""Known lenses: matched by position, recalled by grade, and told apart from what the network was trained on."""

import importlib.util

import numpy as np
import pandas as pd
import pytest

from survey_scan.errors import UserError
from survey_scan.ranking.groups import duplicates
from survey_scan.ranking.known import among_targets, in_training, lenscat, match, ranks, recall, sentences

needs_lenscat = pytest.mark.skipif(importlib.util.find_spec("lenscat") is None, reason="lenscat is not installed")


def scattered(table, rng, sigma):
    """The positions moved by so many arcseconds, in any direction, right also near the poles."""
    from astropy import units
    from astropy.coordinates import SkyCoord

    at = SkyCoord(table["ra"], table["dec"], unit="deg")
    n = len(table)
    moved = at.directional_offset_by(rng.uniform(0, 360, n) * units.deg, rng.uniform(0, sigma, n) * units.arcsec)
    return moved.ra.deg, moved.dec.deg


@pytest.fixture(scope="module")
def isolated():
    """Rows of lenscat with no other within a minute of arc."""
    from survey_scan.ranking.groups import friends

    table = lenscat()
    label = friends(table["ra"], table["dec"], 60)
    _, first, counts = np.unique(label, return_index=True, return_counts=True)
    return table.iloc[np.sort(first[counts == 1])].reset_index(drop=True)


@pytest.fixture(scope="module")
def truth(isolated):
    """A made survey: known lenses, some twice, among three times as many others; ranked at random, the first 1,500 candidates."""
    rng = np.random.default_rng(5)
    lenses = isolated.sample(1200, random_state=3).reset_index(drop=True)
    ra, dec = scattered(lenses, rng, 1.5)
    once = pd.DataFrame(
        {"ra": ra, "dec": dec, "lens": lenses["name"], "grade": lenses["grade"], "twin": np.arange(1200)}
    )
    again = once.iloc[:150].copy()
    again["ra"], again["dec"] = scattered(again, rng, 1.0)
    others = isolated.drop(isolated.index[isolated["name"].isin(lenses["name"])]).sample(3600, random_state=4)
    away = pd.DataFrame(
        {"ra": others["ra"], "dec": np.where(others["dec"] > 0, others["dec"] - 0.01, others["dec"] + 0.01)}
    )
    away = away.assign(lens="", grade="", twin=np.arange(10_000, 10_000 + len(away)))
    table = pd.concat([once, again, away], ignore_index=True).sample(frac=1, random_state=6).reset_index(drop=True)
    table = table.assign(object_id=10**17 + np.arange(len(table)), logit=-np.arange(len(table)) / 100.0, status=0)
    return table


@needs_lenscat
def test_lenscat_has_the_lenses_it_says():
    table = lenscat()
    assert len(table) >= 32_838 and list(table) == ["name", "ra", "dec", "grade"]
    assert set(table["grade"]) == {"confident", "probable"} and (table["name"] != "").all()
    assert table["ra"].between(0, 360).all() and table["dec"].between(-90, 90).all()


@needs_lenscat
def test_scattered_rows_of_lenscat_are_found_again_and_nothing_else(truth):
    found = match(truth, lenscat())
    assert (found["known_name"] == truth["lens"]).all()
    assert (found["known_grade"] == truth["grade"]).all()
    assert (found["is_new"] == (truth["lens"] == "")).all()
    assert found["known_separation"].max() <= 2.5 and found["known_separation"].isna().sum() == found["is_new"].sum()


@needs_lenscat
def test_duplicates_of_scattered_rows_are_the_truth(truth):
    found = duplicates(truth, 3.0)
    assert (found["n_group"] == truth.groupby("twin")["twin"].transform("size")).all()
    assert found["leader"].tolist() == (~truth["twin"].duplicated()).tolist()
    leader = truth.drop_duplicates("twin").set_index("twin")["object_id"].astype(str)
    expected = np.where(truth["twin"].duplicated(), truth["twin"].map(leader), "")
    assert found["duplicate_of"].tolist() == expected.tolist()


@needs_lenscat
@pytest.mark.parametrize("partition", [4950, 512, 97])
def test_recall_by_grade_is_the_truth_however_the_targets_are_divided(truth, partition):
    parts = [truth.iloc[i : i + partition] for i in range(0, len(truth), partition)]
    found = among_targets(lenscat(), iter(parts))
    found["rank"] = ranks(found["logit"], (part["logit"] for part in parts))
    table = recall(found, truth["object_id"][:1500]).set_index("grade")
    lenses = truth[truth["lens"] != ""]
    best = lenses.assign(place=lenses.index + 1).drop_duplicates("lens")
    for grade, some in [*best.groupby("grade"), ("all", best)]:
        row = table.loc[grade]
        assert row["known"] == row["scored"] == len(some)
        assert row["candidates"] == (some["place"] <= 1500).sum()
        assert row["recall"] == row["candidates"] / len(some)
        assert row["median_rank"] == some["place"].median()


def known(**columns):
    n = len(next(iter(columns.values())))
    return pd.DataFrame({"name": [f"L{i}" for i in range(n)], "dec": np.zeros(n), "grade": "A", **columns})


def part(ra, logit, status=None):
    n = len(ra)
    status = np.zeros(n, int) if status is None else status
    return pd.DataFrame({"object_id": np.arange(n), "ra": ra, "dec": np.zeros(n), "logit": logit, "status": status})


def test_the_nearest_wins_and_the_edge_belongs_to_it():
    lenses = known(ra=[0.0, 4 / 3600, 359.9999])
    found = match(pd.DataFrame({"ra": [1.5 / 3600, 2.5 / 3600, 0.01, 359.99985], "dec": [0.0] * 4}), lenses)
    assert found["known_name"].tolist() == ["L0", "L1", "", "L2"]
    assert found["known_separation"].round(3).tolist()[:2] == [1.5, 1.5]
    assert match(pd.DataFrame({"ra": [10.0], "dec": [0.0]}), lenses.iloc[:0])["is_new"].tolist() == [True]
    assert match(pd.DataFrame({"ra": [np.nan], "dec": [0.0]}), lenses)["is_new"].tolist() == [True]
    assert len(match(pd.DataFrame({"ra": [], "dec": []}), lenses)) == 0


def test_a_lens_takes_the_best_of_the_targets_near_it_and_a_flagged_one_has_no_place():
    parts = [part([0.0, 1 / 3600, 50.0], [1.0, 2.0, 9.0]), part([0.5 / 3600, 20.0], [1.5, np.nan], [0, 3])]
    found = among_targets(known(ra=[0.0, 20.0, 80.0]), parts)
    assert found["targets"].tolist() == [3, 1, 0]
    assert found["object_id"].tolist() == ["1", "1", ""] and found["status"].tolist() == [0, 3, -1]
    assert found["logit"].fillna(-99).tolist() == [2.0, -99, -99]
    found["rank"] = ranks(found["logit"], (p["logit"] for p in parts))
    assert found["rank"].tolist() == [2, 0, 0]
    row = recall(found, []).set_index("grade").loc["A"]
    assert (row["known"], row["scored"], row["candidates"], row["recall"], row["median_rank"]) == (2, 1, 0, 0.0, 2.0)


def test_ties_share_the_best_place():
    assert ranks([3.0, 2.0, np.nan, 2.0], [[3.0, 2.0], [2.0, 5.0, np.nan]]).tolist() == [2, 3, 0, 3]
    assert ranks([], [[1.0]]).tolist() == []


def test_what_stood_in_the_training_set_is_told_and_left_out_of_the_recall():
    table = pd.DataFrame({"object_id": [1, 2, 3], "ra": [0.0, 10.0, 20.0], "dec": [0.0] * 3})
    by_place = pd.DataFrame({"object_id": [1, 1], "ra": [10.0, np.nan], "dec": [0.0001, np.nan]})
    assert in_training(table, by_place).tolist() == [False, True, False]
    assert in_training(table, pd.DataFrame({"object_id": ["3"]})).tolist() == [False, False, True]
    with pytest.raises(UserError) as caught:
        in_training(table, pd.DataFrame({"id": [1]}))
    assert str(caught.value) == (
        "training set: its table has neither 'ra' and 'dec' nor 'object_id'. Give it one of these."
    )
    found = among_targets(known(ra=table["ra"]), [part(table["ra"], [3.0, 2.0, 1.0])])
    found["rank"] = ranks(found["logit"], [[3.0, 2.0, 1.0]])
    found["in_training"] = [False, True, False]
    row = recall(found, [0, 1]).set_index("grade").loc["all"]
    assert (row["known"], row["in_training"], row["candidates"], row["recall"]) == (3, 1, 1, 0.5)
    assert list(sentences(recall(found, [0, 1])))[1] == (
        "all         1 of 2 known lenses among the targets are candidates, median rank 2; 1 more stood in the training set"
    )


def test_no_targets_and_no_known_lenses():
    table = recall(among_targets(known(ra=[1.0]), []), [])
    assert table["grade"].tolist() == ["all"] and np.isnan(table["recall"][0]) and np.isnan(table["median_rank"][0])
    assert len(among_targets(known(ra=[1.0]).iloc[:0], [part([1.0], [1.0])])) == 0
    assert list(sentences(table)) == ["all         no known lens lies among the targets"]


def test_columns_are_described_by_words_of_the_ivoa():
    from astropy.io.votable.ucd import check_ucd

    from survey_scan.ranking import groups
    from survey_scan.ranking import known as knowing

    table = pd.DataFrame({"object_id": [1], "ra": [0.0], "dec": [0.0]})
    assert [c.name for c in groups.COLUMNS] == list(duplicates(table))
    assert [c.name for c in knowing.COLUMNS] == [*match(table, known(ra=[0.0])), "in_training"]
    assert all(check_ucd(c.ucd, check_controlled_vocabulary=True) for c in (*groups.COLUMNS, *knowing.COLUMNS))


def test_a_missing_lenscat_says_what_to_install(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError) as caught:
        lenscat()
    assert str(caught.value) == (
        "known lenses: the package lenscat is not installed. pip install 'survey_scan[known]' (or, for its data alone, "
        "pip install --no-deps lenscat), or name a table of your own."
    )


@pytest.mark.parametrize("suffix", [".csv", ".parquet", ".fits"])
def test_a_table_of_one_s_own_whatever_its_capitals(tmp_path, suffix):
    from astropy.table import Table

    from survey_scan.views.known import read_known

    path, given = (
        tmp_path / f"mine{suffix}",
        pd.DataFrame({"Name": ["x", "y"], "RA": [1.5, 2.5], "Dec": [-1.0, 3], "Grading": ["A", "B"]}),
    )
    if suffix == ".csv":
        given.to_csv(path, index=False)
    elif suffix == ".parquet":
        given.to_parquet(path)
    else:
        Table.from_pandas(given).write(path)
    found = match(pd.DataFrame({"ra": [2.5], "dec": [3.0001]}), read_known(path))
    assert found.iloc[0][["known_name", "known_grade"]].tolist() == ["y", "B"]


def test_tables_that_hold_no_positions(tmp_path):
    from survey_scan.views.known import read_known, read_training

    (tmp_path / "a.csv").write_text("name,ra,dec\nx,12:30:49.42,+12:23:28\n")
    (tmp_path / "b.csv").write_text("name,ra\nx,1.0\n")
    (tmp_path / "c.csv").write_text("ra,dec\n1.0,2.0\n")
    with pytest.raises(UserError) as caught:
        read_known(tmp_path / "a.csv")
    assert str(caught.value) == (
        f"known lenses: column 'ra' of {tmp_path / 'a.csv'} holds texts; it must be in degrees, such as 187.70593."
    )
    with pytest.raises(UserError) as caught:
        read_known(tmp_path / "b.csv")
    assert str(caught.value) == f"known lenses: {tmp_path / 'b.csv'} has no column 'dec'. It has: name, ra."
    with pytest.raises(UserError) as caught:
        read_training(tmp_path / "b.csv")
    assert str(caught.value) == (
        f"training set: {tmp_path / 'b.csv'} has neither 'ra' and 'dec' nor 'object_id'. Give it one of these."
    )
    assert read_known(tmp_path / "c.csv")["name"].tolist() == ["c 1"]
