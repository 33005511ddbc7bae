import json
import pickle
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan import errors, identity, records
from survey_scan.schema import REASONS, SEVERITY, Status


def test_record_is_absent_or_whole(tmp_path):
    path = tmp_path / "records" / "cutouts" / "00001.json"
    assert records.read(path) is None
    records.write(path, {"targets": "a"}, {"n": 3})
    assert records.read(path) == {"key": {"targets": "a"}, "n": 3}
    assert [p.name for p in path.parent.iterdir()] == ["00001.json"]
    records.forget(path)
    records.forget(path)
    assert records.read(path) is None


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"n": 3}', b'{"key": 1}', b"\xff\xfe"])
def test_what_is_no_record_counts_as_not_finished(tmp_path, content):
    path = tmp_path / "r.json"
    path.write_bytes(content)
    assert records.read(path) is None


def test_failed_write_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "a.json"
    records.write_json(path, {"old": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(records.os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        records.write_json(path, {"new": 1})
    assert json.loads(path.read_text()) == {"old": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["a.json"]


keys = st.dictionaries(st.sampled_from("abcdef"), st.sampled_from("xyz"))


@given(keys, keys)
def test_explain_is_empty_exactly_for_equal_keys(old, new):
    changed = identity.explain(old, new)
    assert (not changed) == (old == new)
    assert set(changed) == {k for k in old | new if old.get(k) != new.get(k)}


def test_explain_without_an_old_key():
    assert identity.explain(None, {"a": "x"}) == ["new"]


@given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.floats(allow_nan=False), lambda c: st.dictionaries(st.text(), c)
    )
)
def test_digest_does_not_depend_on_the_order_of_keys(value):
    turned = dict(reversed(value.items())) if isinstance(value, dict) else value
    assert identity.digest(value) == identity.digest(turned)


def test_digest_of_a_folder_sees_names_and_content(tmp_path):
    def model(name, files):
        folder = tmp_path / name
        folder.mkdir()
        for file, text in files.items():
            (folder / file).write_text(text)
        return identity.digest_path(folder)

    first = model("one", {"a": "1", "b": "2"})
    assert model("same", {"b": "2", "a": "1"}) == first
    assert model("renamed", {"a": "1", "c": "2"}) != first
    assert model("changed", {"a": "1", "b": "3"}) != first


def test_errors_travel_between_processes():
    found = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.SurveyScanError)]
    assert len(found) == 15
    arguments = {
        errors.TileError: (Status.MISSING, "m.fits: gone"),
        errors.SelectionProblems: ([(("cuts", "red"), "m.fits: gone")],),
    }
    for kind in found:
        error = kind(*arguments.get(kind, ("m.fits: gone",)))
        copy = pickle.loads(pickle.dumps(error))
        assert (type(copy), str(copy), copy.exit_code) == (kind, "m.fits: gone", error.exit_code)


def test_every_status_has_a_reason_and_a_severity():
    assert set(REASONS) == set(Status) == set(SEVERITY)


def test_what_a_folder_of_records_holds(tmp_path):
    assert list(records.contents(tmp_path / "none")) == []
    for p in (0, 7, 123456):
        records.write(tmp_path / f"{p:05d}.json", {"targets": "a"}, {"n": p})
    for name in (".00008.json.77.partial", "rank.json", "00009.json.old", "00010"):
        (tmp_path / name).write_text("{}")
    (tmp_path / "00003.json").write_bytes(b"{")
    found = dict(records.contents(tmp_path))
    assert sorted(found) == [0, 3, 7, 123456]
    assert {p: records.parse(content) for p, content in found.items()} == {
        **{p: records.read(tmp_path / f"{p:05d}.json") for p in (0, 7, 123456)},
        3: None,
    }


def test_a_record_forgotten_while_its_folder_is_read_is_not_there(tmp_path):
    for p in range(3):
        records.write(tmp_path / f"{p:05d}.json", {}, {})
    reading = records.contents(tmp_path)
    first, _ = next(reading)
    records.forget(tmp_path / f"{(first + 1) % 3:05d}.json")
    assert {first} | {p for p, _ in reading} == {first, (first + 2) % 3}


def test_records_are_a_mapping_that_parses_them():
    found = records.Records()
    assert not found and 4 not in found
    found.add(4, b'{"key": {"a": "x"}, "n": 1}')
    found.add(2, b'{"key": {"a": "y"}, "n": 2}')
    assert len(found) == 2 and 4 in found and 3 not in found
    assert sorted(found) == [2, 4] and min(found) == 2
    assert found[4] == {"key": {"a": "x"}, "n": 1}
    assert [record["n"] for record in found.values()] == [1, 2]
    assert (found.remove(4), found.remove(4), dict(found)) == (True, False, {2: {"key": {"a": "y"}, "n": 2}})
    with pytest.raises(KeyError):
        found[4]


def test_records_are_held_as_what_differs_from_the_first_and_come_back_as_they_were():
    rng, found, written = random.Random(1), records.Records(), {}
    for p in rng.sample(range(1000), 200):
        key = {"targets": f"{rng.getrandbits(64):016x}", "spec": "0123456789abcdef"}
        facts = {
            "status": {"0": rng.randrange(4097)},
            "host": "nid001234",
            "problems": ["é" * rng.randrange(9)] * (p % 3),
        }
        written[p] = {"key": key, **facts}
        found.add(p, json.dumps(written[p], indent=1).encode())
    found.sort()
    assert list(found.items()) == sorted(written.items())
    assert sum(map(len, found._contents.values())) < 0.5 * sum(
        len(json.dumps(one, indent=1)) for one in written.values()
    )
