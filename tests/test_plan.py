"""The pure functions of the plan."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan import plan
from survey_scan.plan import Group, Place


def selected(n, seed=0, ids=None):
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "object_id": rng.permutation(n) if ids is None else ids,
            "ra": rng.uniform(0, 360, n),
            "dec": rng.uniform(-90, 90, n),
            "mag": rng.uniform(18, 22, n),
        }
    )


def test_located_rows_are_sorted_by_place_and_counted():
    frame = selected(6)
    frame["ra"], frame["dec"] = [0.5, 359.5, 0.5, 1.5, 0.5, 0.5], [-89.5, -89.5, 0.5, 0.5, 0.5, 0.5]
    rows, places = plan.located(frame, np.array(["", "", "B", "", "A", "B"]))
    assert rows["tile"].tolist() == ["A", "B", "B", "", "", ""]
    assert rows[plan.ZONE].tolist() == [0, 0, 0, 0, 359, 90 * 360 + 1]
    assert rows["object_id"].tolist() == frame["object_id"].iloc[[4, 2, 5, 0, 1, 3]].tolist()
    assert places.to_dict("list") == {
        "tile": ["A", "B", "", "", ""],
        "zone": [0, 0, 0, 359, 90 * 360 + 1],
        "n": [1, 2, 1, 1, 1],
    }
    assert list(rows.columns) == ["object_id", "ra", "dec", "tile", plan.ZONE, "mag"]
    rows, places = plan.located(frame.iloc[:0], np.array([], str))
    assert len(rows) == 0
    assert places.to_dict("list") == {"tile": [], "zone": [], "n": []}


def test_zones_of_the_ends_of_the_sky():
    ra, dec = np.array([0.0, 359.999, 12.0]), np.array([-90.0, 90.0, 0.0])
    assert plan.zones(ra, dec).tolist() == [0, 179 * 360 + 359, 90 * 360 + 12]


PLACES = st.dictionaries(
    st.one_of(
        st.builds(lambda name: Place(False, name, 0), st.sampled_from(["A", "B", "B1", "b", "é", "~"])),
        st.builds(lambda zone: Place(True, "", zone), st.integers(0, 64_799)),
    ),
    st.integers(1, 700),
    min_size=1,
)


def table(places):
    """As :func:`plan.located` counts them."""
    columns = {"tile": pd.Series([place.tile for place in places], dtype="str")}
    return pd.DataFrame(columns | {"zone": [place.zone for place in places], "n": list(places.values())})


@settings(max_examples=200, deadline=None)
@given(PLACES, st.sampled_from([256, 512]), st.integers(1, 3000), st.one_of(st.none(), st.integers(1, 4000)))
def test_groups_divide_the_plan(places, partition, rows, limit):
    total = min(sum(places.values()), limit or 10**9)
    counts = table(places)
    mixed = plan.together([counts.iloc[::2], counts.iloc[1::2].assign(n=0), counts.iloc[1::2]])
    assert [plan.place(mixed, i) for i in range(len(mixed))] == sorted(places)
    found = plan.groups(mixed, partition, rows, limit)
    assert [g.start for g in found] == [0, *(g.stop for g in found[:-1])]
    assert found[-1].stop == total
    assert all(g.start == g.partition * partition for g in found)
    assert all((g.stop - g.start) % partition == 0 for g in found[:-1])
    flat = [place for place in sorted(places) for _ in range(places[place])]
    for g in found:
        assert {flat[g.start], flat[g.stop - 1]} == {g.first, g.last}
        assert g.rows == sum(n for place, n in places.items() if g.first <= place <= g.last)
        assert flat.index(g.first) + g.skip == g.start


@pytest.mark.parametrize("rows", [256, 600, 10_000])
@pytest.mark.parametrize("pieces", [1, 5])
def test_groups_read_back_every_row_once(tmp_path, rows, pieces):
    frame = selected(3000)
    rng = np.random.default_rng(1)
    tile = rng.choice(["", "A", "B", "C", "D", "é"], 3000)
    places, paths = [], []
    for i in range(pieces):
        part, counts = plan.located(frame.iloc[i::pieces], tile[i::pieces])
        paths.append(tmp_path / f"part-{i}.arrow")
        plan.write_located(part, paths[-1])
        places.append(counts)
    result = []
    for group in plan.groups(plan.together(places), 256, rows, None):
        part = plan.read_group(paths, group)
        known = part["tile"] != ""
        part = plan.order(part.assign(x=part["ra"].where(known), y=part["dec"].where(known)))
        result.append(part.iloc[group.skip : group.skip + group.stop - group.start])
    together = pd.concat(result)
    assert sorted(together["object_id"]) == list(range(3000))
    assert list(together.columns) == ["object_id", "ra", "dec", "tile", "x", "y", "mag"]
    inside = together[together["tile"] != ""]
    assert (together["tile"].iloc[len(inside) :] == "").all()
    assert inside.equals(inside.sort_values(["tile", "y", "x"], kind="stable"))
    outside = together.iloc[len(inside) :]
    zone = plan.zones(outside["ra"].to_numpy(), outside["dec"].to_numpy())
    assert (np.lexsort((outside["object_id"], zone)) == np.arange(len(outside))).all()


def test_a_group_holds_no_located_file(tmp_path):
    """What is mapped counts as the worker's memory: of 240 files it was more than that of the rows."""
    part, places = plan.located(selected(1000), np.array(["A", "B"] * 500))
    plan.write_located(part, tmp_path / "p.arrow")
    group = plan.groups(places, 256, 256, None)[0]
    read = plan.read_group([tmp_path / "p.arrow"], group)
    assert (read["tile"] == "A").all() and len(read) == 500
    assert "p.arrow" not in Path("/proc/self/maps").read_text()


def test_rows_that_went_missing_are_noticed(tmp_path):
    part, places = plan.located(selected(10), np.array(["A"] * 10))
    plan.write_located(part.iloc[:9], tmp_path / "p.arrow")
    group = plan.groups(places, 256, 256, None)[0]
    with pytest.raises(RuntimeError, match=r"hold 9 rows .* pass 1 counted 10"):
        plan.read_group([tmp_path / "p.arrow"], group)


@pytest.mark.parametrize("ids", ["number", "text"])
def test_ties_are_broken_by_identifier(ids):
    numbers = [10, 9, 100, 2]
    part = pd.DataFrame(
        {
            "object_id": numbers if ids == "number" else pd.Series(map(str, numbers), dtype="str"),
            "ra": 1.0, "dec": 2.0, "tile": pd.Series(["A"] * 4, dtype="str"), plan.ZONE: 0, "x": 5.0, "y": 5.0,
        }
    )  # fmt: skip
    ordered = plan.order(part)["object_id"].tolist()
    assert ordered == ([2, 9, 10, 100] if ids == "number" else ["10", "100", "2", "9"])


def targets(ids="number"):
    part, _ = plan.located(
        selected(20).assign(kind=pd.Series(["DEV", "é"] * 10, dtype="str")), np.array(["A", ""] * 10)
    )
    if ids == "text":
        part["object_id"] = part["object_id"].map("{:02d}".format).astype("str")
    return plan.order(part.assign(x=1.5, y=np.nan))


@pytest.mark.parametrize("ids", ["number", "text"])
def test_targets_keep_their_digest_on_disk(tmp_path, ids):
    table = targets(ids)
    plan.write_targets(table, tmp_path / "a.parquet")
    plan.write_targets(table.copy(), tmp_path / "b.parquet")
    again = pd.read_parquet(tmp_path / "a.parquet")
    pd.testing.assert_frame_equal(again, table)
    assert plan.targets_digest(again) == plan.targets_digest(table)
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_the_digest_is_of_all_content():
    table = targets()
    digests = {plan.targets_digest(table)}
    for name in table.columns:
        changed = table.copy()
        changed.loc[3, name] = "Z" if name in ("tile", "kind") else 77
        digests.add(plan.targets_digest(changed))
    digests.add(plan.targets_digest(table.rename(columns={"mag": "mag_r"})))
    digests.add(plan.targets_digest(table.astype({"mag": "float32"})))
    digests.add(plan.targets_digest(table.iloc[::-1]))
    digests.add(plan.targets_digest(table.iloc[:-1]))
    assert len(digests) == 1 + len(table.columns) + 4


def test_the_digest_is_the_same_for_ever():
    """Records of finished runs hold it: a change here makes every run cut its targets again."""
    table = pd.DataFrame(
        {
            "object_id": [7, 2**62], "ra": [0.25, 359.5], "dec": [-1.0, 1e-3],
            "tile": pd.Series(["0001p330", ""], dtype="str"),
            "x": [10.5, np.nan], "y": [1.0, np.nan], "mag_r": np.array([20, np.nan], np.float32),
        }
    )  # fmt: skip
    assert plan.targets_digest(table) == "1693bbcbb48e7438"


def test_lines_of_partitions_csv():
    table = targets()
    row = plan.partition_row(3, 768, table)
    assert row == {
        "partition": 3, "start": 768, "stop": 788, "n_targets": 20, "n_tiles": 1, "first_tile": "A", "last_tile": "",
        "targets_digest": plan.targets_digest(table),
    }  # fmt: skip


def test_a_group_says_where_it_stands():
    places = table({Place(False, "A", 0): 300, Place(False, "B", 0): 300, Place(True, "", 5): 10})
    assert plan.groups(places, 256, 256, None)[1:] == [
        Group(1, 256, 512, Place(False, "A", 0), Place(False, "B", 0), 256, 600),
        Group(2, 512, 610, Place(False, "B", 0), Place(True, "", 5), 212, 310),
    ]
