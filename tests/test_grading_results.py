from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_grading
from astropy.io import votable
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from click.testing import CliRunner

from survey_scan.cli import main
from survey_scan.engine import lock
from survey_scan.errors import RunError, UserError
from survey_scan.grading import candidates, results
from survey_scan.grading.journal import Journal
from survey_scan.layout import RunDirectory


def silent(line: str) -> None:
    pass


@pytest.fixture
def run(tmp_path) -> RunDirectory:
    return small_grading.make(tmp_path / "small", n_targets=300, n_candidates=20, size=9)


def grade(
    run: RunDirectory, grader: str, given: dict[str, str], scheme: str = "0-3", repeat: int = 0, note: str = ""
) -> Path:
    with Journal(run.path / "grades", grader, candidates.run_digest(run), scheme, silent) as one:
        for object_id, value in given.items():
            one.add("grade", (object_id, repeat), 1, value, note)
    return one.path


@pytest.fixture
def ids(run) -> list[str]:
    return pd.read_parquet(run.candidates_parquet)["object_id"].astype(str).tolist()


def test_three_graders(run, ids):
    before = pd.read_parquet(run.candidates_parquet)
    grade(run, "anna", {ids[0]: "3", ids[1]: "2", ids[2]: "0", "gone": "1"}, note="blue arc")
    grade(run, "anna", {ids[0]: "3", ids[1]: "1"}, repeat=1)
    grade(run, "ben", {ids[0]: "0"})
    grade(run, "ben", {ids[0]: "3", ids[1]: "1", ids[2]: "0"}, note="ring, red")
    grade(run, "cleo", {ids[0]: "3", ids[1]: "3"})
    with Journal(run.path / "grades", "cleo", candidates.run_digest(run), "0-3", silent) as one:
        one.add("undo", (ids[1], 0), 1, "3")
    grade(run, "dora", {})
    said: list[str] = []
    results.run(run, None, said.append)
    assert said == [
        "scheme      0-3 (SuGOHI, HOLISMOKES; González et al. 2025)",
        "grader   graded       0      1      2      3   again  agreement",
        "anna          4       1      1      1      1       2  kappa 0.67, 50% the same",
        "ben           3       1      1      0      1       -",
        "cleo          1       0      0      0      1       -",
        "",
        "agreement   anna and ben: kappa 0.90, 67% the same on 3 objects",
        "agreement   anna and cleo: kappa undefined, 100% the same on 1 object",
        "agreement   ben and cleo: kappa undefined, 100% the same on 1 object",
        "            quadratic-weighted kappa: 1 is full agreement, 0 what chance gives",
        "letters     holismokes: A > 2.5, B 1.5 to 2.5, of the mean",
        "objects     4: 1 A, 1 B, 2 below",
        "            seen by 1 to 3 graders, 2 at the median",
        f"wrote       {run.path / 'grades.csv'}",
        f"            grade_mean, grade and n_graders in {run.candidates_parquet} and .fits: 3 candidates",
        "            1 graded object not among the candidates of the last ranking; only grades.csv has what was found",
    ]
    table = pd.read_csv(run.path / "grades.csv", dtype={"object_id": str})
    assert table["object_id"].tolist() == [ids[0], ids[1], "gone", ids[2]]
    assert table["grade_mean"].tolist() == [3, 1.5, 1, 0] and table["grade"].tolist() == ["A", "B", "-", "-"]
    assert table["n_graders"].tolist() == [3, 2, 1, 2]
    assert table["grade_by_ben"].tolist()[:2] == [3, 1] and np.isnan(table["grade_by_cleo"][1])
    assert table["notes"][0] == "anna: blue arc | ben: ring, red"
    after = pd.read_parquet(run.candidates_parquet)
    pd.testing.assert_frame_equal(after[before.columns], before)
    assert after["grade_mean"].tolist()[:3] == [3, 1.5, 0] and np.isnan(after["grade_mean"][3])
    assert after["grade"].tolist()[:4] == ["A", "B", "-", ""] and after["n_graders"].tolist()[:4] == [3, 2, 2, 0]
    results.run(run, "gonzalez", silent)  # again, with the columns there
    again = pd.read_parquet(run.candidates_parquet)
    assert again.columns.tolist() == after.columns.tolist() and again["grade"].tolist()[:4] == ["A", "B", "-", ""]


def test_units_and_ucds_stay_and_new_ones_are_words_of_the_ivoa(run, ids):
    grade(run, "anna", {ids[0]: "3"})
    results.run(run, None, silent)
    fits = Table.read(run.candidates_fits)
    assert str(fits["mag_r"].unit) == "mag" and str(fits["ra"].unit) == "deg" and fits["n_graders"].dtype.kind == "i"
    assert fits["grade"][0] == "A" and fits["grade_mean"][0] == 3
    import io

    import pyarrow.parquet as pq

    header = pq.read_metadata(run.candidates_parquet).metadata[b"IVOA.VOTable-Parquet.content"]
    told = {field.name: field for field in votable.parse(io.BytesIO(header)).get_first_table().fields}
    assert told["mag_r"].ucd == "phot.mag;em.opt.R"
    for name, ucd in ((name, column.ucd) for name, column in results.COLUMNS.items()):
        assert told[name].ucd == ucd and check_ucd(ucd, check_controlled_vocabulary=True)


def test_a_new_ranking_keeps_the_grades(run, ids):
    grade(run, "anna", {ids[0]: "3", ids[-1]: "1"})
    table = pd.read_parquet(run.candidates_parquet).drop(columns="rank")
    from survey_scan.ranking.candidates import write_candidates

    write_candidates(table.iloc[::-1].head(5), run.candidates_parquet, run.candidates_fits)
    assert candidates.read(run, None, silent)["object_id"].tolist() == ids[::-1][:5]
    said: list[str] = []
    results.run(run, None, said.append)
    assert (
        said[-1]
        == "            1 graded object not among the candidates of the last ranking; only grades.csv has what was found"
    )


def test_no_grades_yet(run):
    with pytest.raises(RunError) as error:
        results.run(run, None, silent)
    assert str(error.value) == (
        f"{run} has no grades yet ({run.path / 'grades'} holds none). First: survey_scan grade {run}"
    )


def test_different_schemes(run, ids):
    grade(run, "anna", {ids[0]: "3"})
    grade(run, "ben", {ids[0]: "A"}, "ABC")
    with pytest.raises(RunError) as error:
        results.run(run, None, silent)
    assert str(error.value) == (
        "graders used different schemes (anna 0-3, ben ABC): no mean can be taken. Move files out of "
        f"{run.path / 'grades'}."
    )
    (run.path / "grades" / "anna.csv").unlink()
    said: list[str] = []
    results.run(run, None, said.append)
    assert "letters     huang: A >= 3.5, B 3.0 to 3.5, C 2.0 to 3.0, of the mean" in said
    with pytest.raises(UserError, match="--letters gonzalez is for grades 0-3"):
        results.run(run, "gonzalez", silent)


def test_grades_of_another_run(run, ids, tmp_path):
    path = grade(run, "anna", {ids[0]: "3"})
    path.write_text(path.read_text().replace(candidates.run_digest(run), "0123"))
    with pytest.raises(RunError, match="has grades of another run \\(its plan is 0123, that of"):
        results.run(run, None, silent)


def test_a_grade_that_is_none_of_the_scheme(run, ids):
    path = grade(run, "anna", {ids[0]: "3"})
    path.write_text(path.read_text().replace(f"{ids[0]},1,3,", f"{ids[0]},1,9,"))
    with pytest.raises(RunError) as error:
        results.run(run, None, silent)
    assert str(error.value) == f"{path}: grade '9' of {ids[0]} is none of the scheme 0-3. Mend the file."


def test_the_candidates_are_not_written_beside_a_scan(run, ids):
    grade(run, "anna", {ids[0]: "3"})
    with lock.held(run):
        with pytest.raises(RunError, match="is in use by pid"):
            results.run(run, None, silent)


def test_the_command_line(run, ids, tmp_path):
    grade(run, "anna", {ids[0]: "3"})
    done = CliRunner().invoke(main, ["grade", str(run), "--summary", "--letters", "gonzalez"])
    assert done.exit_code == 0 and "letters     gonzalez: A >= 1.8" in done.output
    assert "of the mean; of 5 or more graders the lowest and the highest are dropped" in done.output
    done = CliRunner().invoke(main, ["grade", str(tmp_path)])
    assert done.exit_code == 2 and "is not a run directory" in done.output
