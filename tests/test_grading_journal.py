import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan.errors import RunError, UserError
from survey_scan.grading import journal, order
from survey_scan.grading.journal import COLUMNS, Event, Journal


def quiet(line: str) -> None:
    raise AssertionError(line)


def opened(folder: Path, say=quiet, **more) -> Journal:
    return Journal(folder, **{"grader": "anna", "run": "r1", "scheme": "0-3", **more}, say=say)


def test_what_was_added_is_there_again(tmp_path):
    with opened(tmp_path / "grades") as one:
        one.add("grade", ("7", 0), 1, "3", 'an "arc",\nblue', 2.345, "deep@+2")
        one.add("note", ("8", 0), 2, note="later ✓")
        one.add("grade", ("7", 1), 1, "2")
    rows = journal.read(tmp_path / "grades" / "anna.csv")
    assert [(e.event, e.object_id, e.rank, e.grade, e.note, e.seconds, e.stretch, e.repeat) for e in rows] == [
        ("grade", "7", 1, "3", 'an "arc", blue', 2.3, "deep@+2", 0),
        ("note", "8", 2, "", "later ✓", 0, "", 0),
        ("grade", "7", 1, "2", "", 0, "", 1),
    ]
    assert {(e.scheme, e.run) for e in rows} == {("0-3", "r1")} and rows[0].time.endswith("Z")
    with opened(tmp_path / "grades") as two:
        assert two.standing.grades == {("7", 0): "3", ("7", 1): "2"}
        assert two.standing.notes == {("7", 0): 'an "arc", blue', ("8", 0): "later ✓", ("7", 1): ""}


def test_undo_gives_back_what_was_there(tmp_path):
    with opened(tmp_path) as one:
        one.add("grade", ("7", 0), 1, "3", "first")
        one.add("grade", ("7", 0), 1, "1", "second")
        one.add("grade", ("8", 0), 2, "2")
        for expected in ({("7", 0): "1"}, {("7", 0): "3"}, {}):
            one.add("undo", one.standing.last, 1)
            assert one.standing.grades == expected
        assert one.standing.last is None and one.standing.notes == {}
    assert len(journal.read(tmp_path / "anna.csv")) == 6  # nothing is ever removed


events = st.lists(st.tuples(st.sampled_from(["grade", "undo"]), st.sampled_from("abc"), st.sampled_from("0123")))


@given(events)
def test_grades_and_undos_are_a_stack(steps):
    made = [Event("", what, name, 1, grade, "", 0, "", 0, "0-3", "r") for what, name, grade in steps]
    stack: list[Event] = []
    for event in made:
        if event.event == "grade":
            stack.append(event)
        elif stack:
            stack.pop()
    assert journal.standing(made).grades == {(e.object_id, 0): e.grade for e in stack}


@given(cut=st.integers(1, 200))
def test_a_line_cut_short_is_mended(tmp_path_factory, cut):
    folder = tmp_path_factory.mktemp("grades")
    path = folder / "anna.csv"
    with opened(folder) as one:
        one.add("grade", ("7", 0), 1, "3", "ä note")
        whole = path.read_bytes()
        one.add("grade", ("8", 0), 2, "2", "ein Bogen, blau ✓")
    last = path.read_bytes()[len(whole) :]
    torn = last[: min(cut, len(last) - 1)]
    path.write_bytes(whole + torn)
    assert len(journal.read(path)) == 1  # who only reads is not disturbed
    said: list[str] = []
    with opened(folder, said.append) as two:
        assert two.standing.grades == {("7", 0): "3"}
        two.add("grade", ("9", 0), 3, "1")
    assert said == [
        f"mended      {path}: its last line was cut short, as by a kill, and is gone; it was never confirmed"
    ]
    assert [e.object_id for e in journal.read(path)] == ["7", "9"]


def test_a_header_cut_short_is_written_anew(tmp_path):
    (tmp_path / "anna.csv").write_text("time,ev")
    with opened(tmp_path, lambda line: None) as one:
        one.add("grade", ("7", 0), 1, "3")
    assert (tmp_path / "anna.csv").read_text().startswith(",".join(COLUMNS) + "\n")
    assert len(journal.read(tmp_path / "anna.csv")) == 1


def test_two_graders_with_one_name(tmp_path):
    with opened(tmp_path) as one:
        with pytest.raises(RunError) as error:
            opened(tmp_path)
        with opened(tmp_path, grader="ben"):
            pass
        one.add("grade", ("7", 0), 1, "3")
    text = str(error.value)
    assert text.startswith(
        f"{tmp_path / 'anna.csv'} is being written by pid {os.getpid()} on {os.uname().nodename} since 20"
    )
    assert text.endswith(
        ": somebody grades under this name already. Use that page, stop it with Ctrl-C, or give yourself another name with "
        "--grader."
    )
    with opened(tmp_path) as again:  # and it is free afterwards
        assert again.standing.grades == {("7", 0): "3"}


def test_grades_of_another_run_or_scheme_are_refused(tmp_path):
    folder = tmp_path / "run" / "grades"
    with opened(folder) as one:
        one.add("grade", ("7", 0), 1, "3")
    path = folder / "anna.csv"
    with pytest.raises(RunError) as error:
        opened(folder, run="r2")
    assert str(error.value) == (
        f"{path} has grades of another run (its plan is r1, that of {tmp_path / 'run'} is r2): the folder was copied, or the "
        "run planned anew. Move the file away, or to the run it belongs to."
    )
    with pytest.raises(UserError) as error:
        opened(folder, scheme="ABC")
    assert str(error.value) == (
        f"{path} has grades by the scheme 0-3, not ABC. Go on with --scheme 0-3, or grade under another name with --grader."
    )
    with opened(folder):  # neither refusal keeps the name
        pass


@pytest.mark.parametrize("name", ["", "../x", "a b", ".hidden", "x" * 41, "ä", "a/b"])
def test_names_that_cannot_be_files(tmp_path, name):
    with pytest.raises(UserError) as error:
        opened(tmp_path, grader=name)
    assert str(error.value) == (
        f"--grader {name!r}: a grader's name begins with a letter or digit, and has at most 40 letters, digits and '_', '-', "
        "'.' (A-Z without accents). Give another with --grader."
    )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("line", ["nonsense", "t,grade,7,x,3,,0,,0,0-3,r1", "t,praise,7,1,3,,0,,0,0-3,r1"])
def test_a_damaged_line_is_named(tmp_path, line):
    path = tmp_path / "anna.csv"
    path.write_text(",".join(COLUMNS) + f"\nt,grade,7,1,3,,0,,0,0-3,r1\n{line}\n")
    with pytest.raises(RunError) as error:
        journal.read(path)
    assert str(error.value) == (f"{path}:3: this line is not a grade, a note or an undo: {line!r}. Mend or remove it.")


def test_a_file_that_holds_something_else(tmp_path):
    (tmp_path / "anna.csv").write_text("object_id,grade\n7,3\n")
    with pytest.raises(RunError, match="this is no file of grades: its columns are not time,event,object_id"):
        opened(tmp_path)
    assert (tmp_path / "anna.csv").read_text() == "object_id,grade\n7,3\n"


def test_a_full_disk_records_nothing(tmp_path, monkeypatch):
    with opened(tmp_path) as one:
        one.add("grade", ("7", 0), 1, "3")
        before = one.path.read_bytes()
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:9]))
        with pytest.raises(OSError, match="No space left"):
            one.add("grade", ("8", 0), 2, "3")
        monkeypatch.undo()
        assert one.path.read_bytes() == before and one.standing.grades == {("7", 0): "3"}
        one.add("grade", ("9", 0), 3, "1")
    assert [e.object_id for e in journal.read(tmp_path / "anna.csv")] == ["7", "9"]


IDS = [str(i) for i in range(400)]


def test_order_of_rank_and_blind_orders():
    assert order.places(IDS, "anna", False, 0) == [(i, 0) for i in range(400)]
    anna, ben = (order.places(IDS, name, True, 0) for name in ("anna", "ben"))
    assert sorted(anna) == sorted(ben) == [(i, 0) for i in range(400)] and anna != ben
    assert anna == order.places(IDS, "anna", True, 0)
    fewer = [IDS[i] for i, _ in order.places(IDS[:200], "anna", True, 0)]
    assert fewer == [IDS[i] for i, _ in anna if i < 200]  # others do not move


@given(st.integers(1, 300), st.floats(0, 0.5), st.booleans())
def test_repeats_come_later(n, share, blind):
    found = order.places(IDS[:n], "anna", blind, share)
    repeated = [i for i, again in found if again]
    assert len(repeated) == len(set(repeated)) == round(share * n)
    assert [p for p in found if not p[1]] == order.places(IDS[:n], "anna", blind, 0)
    where = {place: at for at, place in enumerate(found)}
    for i in repeated:
        first, later = where[i, 0], where[i, 1]
        others = sum(not again for _, again in found[first + 1 : later])
        after = sum(not again for _, again in found[first + 1 :])
        assert later > first and others >= min(order.GAP - 1, after)


def test_a_smaller_share_is_part_of_a_larger_one():
    some, more = ({i for i, again in order.places(IDS, "anna", True, s) if again} for s in (0.05, 0.2))
    assert some < more and len(some) == 20
