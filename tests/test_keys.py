"""Keys made on demand, digests of many values, records compared with keys."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan import records
from survey_scan.engine.keys import Keys, compare
from survey_scan.identity import digest, digest_each


def test_keys_are_made_when_they_are_asked_for():
    asked = []

    def make(row):
        asked.append(row)
        return {"row": str(row)}

    keys = Keys({7: 0, 9: 1}, make)
    assert list(keys) == [7, 9] and len(keys) == 2 and 9 in keys and 8 not in keys and not asked
    assert (keys[9], asked) == ({"row": "1"}, [1])
    assert keys == {7: {"row": "0"}, 9: {"row": "1"}}
    with pytest.raises(KeyError):
        keys[8]


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.lists(st.floats(allow_nan=False)))))
def test_the_digest_of_values_one_by_one_is_that_of_their_list(values):
    assert digest_each(iter(values)) == digest(values)


def test_records_compared_with_keys_say_what_is_done_and_why_the_rest_is_to_do(tmp_path):
    keys = Keys({p: p for p in range(12)}, lambda row: {"targets": f"t{row}", "spec": "s", "code": "1"})
    for p in (11, 3, 5, 2, 10, 99):
        records.write(tmp_path / f"{p:05d}.json", keys[p] if p != 99 else {}, {"n": p})
    records.write(tmp_path / "00004.json", keys[4] | {"spec": "old"}, {})
    records.write(tmp_path / "00006.json", keys[6] | {"spec": "old"}, {})
    records.write(tmp_path / "00007.json", {"targets": "t7", "spec": "s", "more": "x"}, {})
    (tmp_path / "00008.json").write_bytes(b"{")
    done, todo = compare(tmp_path, keys)
    assert [(p, record["n"]) for p, record in done.items()] == [(2, 2), (3, 3), (5, 5), (10, 10), (11, 11)]
    assert list(todo.items()) == [
        (0, ["new"]), (1, ["new"]), (4, ["spec"]), (6, ["spec"]), (7, ["code", "more"]), (8, ["new"]), (9, ["new"]),
    ]  # fmt: skip
    assert todo[4] is todo[6]
    assert compare(tmp_path / "none", keys)[1] == {p: ["new"] for p in range(12)}
