"""Reading scores and labels, matching them, and every message about what is wrong with them."""

import json

import fitsio
import numpy as np
import pandas as pd
import pytest

from survey_scan import records, scores
from survey_scan.errors import RunError, UserError
from survey_scan.evaluation.sample import match
from survey_scan.evaluation.tables import read_labels, read_scores
from survey_scan.layout import RunDirectory
from survey_scan.ranking import probability

IDS = np.array([1_140_000_001, 9_007_199_254_740_993, 7, 8])  # the second is no float64
LOGIT = np.array([3.5, -1.25, np.nan, 0.5], np.float32)


def written(path, **columns):
    """A table in the format that its name says."""
    name = path.name
    if name.endswith(".csv"):
        pd.DataFrame(columns).to_csv(path, index=False)
    elif name.endswith(".parquet"):
        pd.DataFrame(columns).to_parquet(path)
    else:
        fitsio.write(
            str(path),
            {k: np.array(v, "S8") if np.array(v).dtype.kind in "UO" else np.array(v) for k, v in columns.items()},
        )
    return path


def run_directory(folder, parts, model="abc"):
    """A run with these score tables, as far as an evaluation looks."""
    run = RunDirectory(folder)
    run.plan.mkdir(parents=True)
    run.manifest.write_text(json.dumps({"format_version": 1, "survey_scan": "0.1.0"}))
    lines = [f"{p},0,1,1,1,d,a,b\n" for p in range(len(parts))]
    run.partitions.write_text(
        "partition,start,stop,n_targets,n_tiles,targets_digest,first_tile,last_tile\n" + "".join(lines)
    )
    for p, table in enumerate(parts):
        scores.write(run.scores(p), pd.DataFrame(table))
        records.write(run.record("scores", p), {"model": model if isinstance(model, str) else model[p]}, {})
    return run


def message(error) -> str:
    return str(error.value)


@pytest.fixture(params=["csv", "parquet", "fits", "fits.gz"])
def kind(request):
    return request.param


# -- scores -----------------------------------------------------------------------------------------------------------


def test_scores_of_every_kind_of_file(tmp_path, kind):
    path = written(tmp_path / f"s.{kind}", object_id=IDS, logit=LOGIT, status=np.array([0, 0, 4, 0], np.uint8))
    found = read_scores(path)
    assert (found.path, found.column) == (str(path), "logit")
    assert found.table["object_id"].tolist() == IDS.tolist()
    np.testing.assert_array_equal(found.table["logit"], LOGIT.astype(np.float64))
    assert found.table["status"].tolist() == [0, 0, 4, 0]


def test_texts_as_identifiers(tmp_path, kind):
    path = written(tmp_path / f"s.{kind}", object_id=["J0830", "007", "8"], logit=[1.0, 2.0, 3.0])
    assert read_scores(path).table["object_id"].tolist() == ["J0830", "007", "8"]


def test_numbers_with_leading_zeros_in_a_csv_are_names(tmp_path):
    (tmp_path / "s.csv").write_text("object_id;logit\n007;1.5\n8;2.5\n")
    assert read_scores(tmp_path / "s.csv").table["object_id"].tolist() == ["007", "8"]


def test_scores_of_a_run(tmp_path):
    run = run_directory(
        tmp_path / "run",
        [
            {"object_id": [1, 2], "logit": np.float32([0.5, np.nan]), "status": np.uint8([0, 3])},
            {"object_id": [3], "logit": np.float32([-2]), "status": np.uint8([0])},
        ],
    )
    found = read_scores(run.path)
    assert found.table["object_id"].tolist() == [1, 2, 3]
    assert found.table["status"].tolist() == [0, 3, 0]
    np.testing.assert_array_equal(found.table["logit"], [0.5, np.nan, -2])


def test_a_run_that_is_not_complete(tmp_path):
    part = {"object_id": [1], "logit": np.float32([0.5]), "status": np.uint8([0])}
    run = run_directory(tmp_path / "run", [part, part, part])
    run.record("scores", 1).unlink()
    with pytest.raises(RunError) as error:
        read_scores(run.path)
    assert message(error) == f"{run} lacks 1 of 3 partitions of scores. Run 'survey_scan run' first."


def test_a_run_half_scored_by_another_network(tmp_path):
    parts = [{"object_id": [i], "logit": np.float32([0.5]), "status": np.uint8([0])} for i in range(2)]
    run = run_directory(tmp_path / "run", parts, ["abc", "def"])
    with pytest.raises(RunError) as error:
        read_scores(run.path)
    assert message(error) == f"{run} holds scores of more than one network. Run 'survey_scan run' until it is complete."


def test_a_folder_that_is_neither_run_nor_table(tmp_path):
    with pytest.raises(UserError) as error:
        read_scores(tmp_path)
    assert message(error) == (
        f"scores: folder {tmp_path} holds no .parquet files. Name a table, or a folder of its parts."
    )


def test_a_run_that_is_not_planned(tmp_path):
    (tmp_path / "manifest.json").write_text(json.dumps({"format_version": 1}))
    with pytest.raises(RunError, match="plan"):
        read_scores(tmp_path)


def test_folders_of_parts(tmp_path):
    """As the truth of a training set, and the scores of a run on their own."""
    (tmp_path / "truth").mkdir()
    for p in range(3):
        written(
            tmp_path / f"truth/part-{p:05d}.parquet",
            object_id=[2 * p, 2 * p + 1],
            label=[1, 0],
            kind=["painted", "ring"],
        )
    found = read_labels(tmp_path / "truth")
    assert found.table["object_id"].tolist() == list(range(6))
    assert found.table["is_lens"].tolist() == [True, False] * 3
    run = run_directory(
        tmp_path / "run",
        [{"object_id": [i], "logit": np.float32([i]), "status": np.uint8([0])} for i in range(3)],
    )
    assert read_scores(run.scores_folder).table["logit"].tolist() == read_scores(run.path).table["logit"].tolist()


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_probabilities_become_logits_and_still_tie_where_they_saturate(tmp_path, kind):
    below = np.nextafter(kind(1), kind(0))
    score = np.array([0.25, 1.0, 1.0, 0.0, below, np.nan], kind)
    found = read_scores(written(tmp_path / "s.parquet", object_id=range(6), score=score)).table["logit"].to_numpy()
    assert np.isfinite(found[:5]).all()
    assert np.isnan(found[5])
    np.testing.assert_allclose(probability(found[:5]), score[:5], rtol=1e-6, atol=1e-37)
    assert (
        found[1] == found[2] == pytest.approx(found[4] + np.log(2))
    )  # above all that is not rounded to 1, and not far
    assert found[0] == pytest.approx(-np.log(3))
    assert -1000 < found[3] < -80


def test_the_column_can_be_named(tmp_path):
    path = written(tmp_path / "s.csv", object_id=[1, 2], p_lens=[0.5, 0.9], Logit_b=[-7.0, 7.0])
    assert read_scores(path, "p_lens").table["logit"].tolist() == pytest.approx([0, np.log(9)])
    assert read_scores(path, "logit_b").table["logit"].tolist() == [-7, 7]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            {"object_id": [1, 2], "p": [0.5, 0.5]},
            "scores: {path} has no column 'logit' or 'score'. Name the one with the scores by --column. It has: object_id, p.",
        ),
        (
            {"objectid": [1, 2], "logit": [0.5, 0.5]},
            "scores: {path} has no column 'object_id'. Did you mean 'objectid'? It has: objectid, logit.",
        ),
        (
            {"object_id": [1, 1, 2, 2, 3], "logit": [0.5] * 5},
            "scores: 2 object_ids of {path} stand in it more than once, the first is 1. Leave one score for each object.",
        ),
        (
            {"object_id": [1.5, 2.0], "logit": [0.5, 0.5]},
            "scores: column 'object_id' of {path} is of type Float64. An identifier is a whole number or a text.",
        ),
        (
            {"object_id": [1, 2], "logit": [np.inf, 0.5]},
            "scores: column 'logit' of {path} has 1 infinite values. Leave it empty where there is no score; the object then "
            "counts as not found.",
        ),
        (
            {"object_id": [1, 2], "logit": ["high", "low"]},
            "scores: column 'logit' of {path} holds texts where numbers are needed.",
        ),
        (
            {"object_id": [1, 2], "score": [0.5, 1.5]},
            "scores: column 'score' of {path} has 1 values outside 0 to 1. A column whose name does not begin with 'logit' is "
            "read as probabilities: rename it, or name another by --column.",
        ),
        (
            {"object_id": [1, 2], "logit": [0.5, 1.5], "status": [0, 999]},
            "scores: column 'status' of {path} holds other values than 0 to 255. Rename it.",
        ),
        ({"object_id": [], "logit": []}, "scores: {path} has no rows. Name a table that has some."),
        (
            {"object_id": pd.array([1, None], "Int64"), "logit": [0.5, 1.5]},
            "scores: 1 rows of {path} have no 'object_id'. Give each one, or remove those rows.",
        ),
    ],
)
def test_scores_that_cannot_be_used(tmp_path, columns, text):
    path = written(tmp_path / "s.parquet", **columns)
    with pytest.raises(UserError) as error:
        read_scores(path)
    assert message(error) == text.format(path=path)


def test_files_that_cannot_be_read(tmp_path):
    cases = {
        "gone.csv": "scores: {path}: no such file",
        "s.txt": "scores: {path} is of no kind that is read. Kinds are: .parquet, .pq, .csv, .fits, .fits.gz, .fit.",
    }
    (tmp_path / "s.txt").write_text("x")
    for name, text in cases.items():
        with pytest.raises(UserError) as error:
            read_scores(tmp_path / name)
        assert message(error) == text.format(path=tmp_path / name)


@pytest.mark.parametrize("name", ["s.parquet", "s.fits", "s.fits.gz", "s.csv"])
def test_damaged_files(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"object_id,logit\n1,2,3,4\n1\n" if name == "s.csv" else b"PAR1 nothing of this is true")
    with pytest.raises(UserError) as error:
        read_scores(path)
    assert message(error).startswith(f"scores: {path} cannot be read (")
    assert message(error).endswith("). Write it again.")


def test_a_fits_file_without_a_table(tmp_path):
    fitsio.write(str(tmp_path / "image.fits"), np.zeros((3, 3), np.float32))
    with pytest.raises(UserError) as error:
        read_scores(tmp_path / "image.fits")
    assert message(error) == f"scores: {tmp_path}/image.fits cannot be read (it has no binary table). Write it again."


def test_a_column_that_begins_with_gaps_or_whole_numbers(tmp_path):
    n = 200_000
    logit = ["" if i < n - 2 else str(i + 0.5) for i in range(n)]
    (tmp_path / "s.csv").write_text("object_id,logit\n" + "".join(f"{i},{v}\n" for i, v in enumerate(logit)))
    found = read_scores(tmp_path / "s.csv").table["logit"]
    assert found.notna().sum() == 2


# -- labels -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "label",
    [
        [1, 0, 1],
        [1.0, 0.0, 1.0],
        [True, False, True],
        ["lens", "non-lens", "Lens"],
        ["1", "0", "1"],
        ["yes", "NO", "yes"],
    ],
)
def test_labels_in_numbers_and_words(tmp_path, label, kind):
    if kind.startswith("fits") and isinstance(label[0], bool):
        label = np.array(label)
    found = read_labels(written(tmp_path / f"l.{kind}", object_id=[1, 2, 3], label=label))
    assert found.table["is_lens"].tolist() == [True, False, True]
    assert found.column == "label"


def test_a_truth_table_says_by_its_kind_what_is_a_lens(tmp_path, kind):
    path = written(
        tmp_path / f"truth.{kind}",
        object_id=[1, 2, 3],
        kind=["lens", "merger", "star"],
        theta_E=[1.2, np.nan, np.nan],
        arc_snr=[50, 0, 0],
    )
    found = read_labels(path)
    assert (found.column, found.table["is_lens"].tolist()) == ("kind", [True, False, False])
    assert found.table["kind"].tolist() == ["lens", "merger", "star"]
    assert found.table["theta_E"].tolist()[0] == pytest.approx(1.2)
    assert np.isnan(found.table["theta_E"].tolist()[1])
    assert found.table["arc_snr"].tolist() == [50, 0, 0]


@pytest.mark.parametrize(
    ("columns", "text"),
    [
        (
            {"object_id": [1, 2], "lable": [1, 0]},
            "labels: {path} has no column 'label'. Did you mean 'lable'? It has: object_id, lable.",
        ),
        (
            {"id": [1, 2], "label": [1, 0]},
            "labels: {path} has no column 'object_id'. It has: id, label.",
        ),
        (
            {"object_id": [1, 2, 3], "label": [1, 0, np.nan]},
            "labels: 1 rows of {path} have no 'label'. Give each object 1 or 0, or lens or non-lens, or remove those rows.",
        ),
        (
            {"object_id": [1, 2, 3, 4], "label": ["lens", "maybe", "A", "non-lens"]},
            "labels: column 'label' of {path} holds 'maybe', 'A', neither lens nor non-lens. Give each object 1 or 0, or lens or "
            "non-lens, or remove those rows.",
        ),
        (
            {"object_id": [1, 2, 3], "label": [1, 0, 2]},
            "labels: column 'label' of {path} holds 2, neither lens nor non-lens. Give each object 1 or 0, or lens or "
            "non-lens, or remove those rows.",
        ),
        (
            {"object_id": [1, 2], "label": [1, 1]},
            "labels: {path} holds 2 lenses and nothing else. An evaluation needs both classes.",
        ),
        (
            {"object_id": [1, 2], "label": [0, 0]},
            "labels: {path} holds 2 non-lenses and nothing else. An evaluation needs both classes.",
        ),
        (
            {"object_id": [1, 1], "label": [1, 0]},
            "labels: 1 object_ids of {path} stand in it more than once, the first is 1. Leave one label for each object.",
        ),
        (
            {"object_id": [1, 2], "label": [1, 0], "theta_E": ["wide", "none"]},
            "labels: column 'theta_E' of {path} holds texts where numbers are needed.",
        ),
    ],
)
def test_labels_that_cannot_be_used(tmp_path, columns, text):
    for name in ("l.parquet", "l.csv"):
        path = written(tmp_path / name, **columns)
        with pytest.raises(UserError) as error:
            read_labels(path)
        assert message(error) == text.format(path=path)


# -- matching ---------------------------------------------------------------------------------------------------------


def matched(tmp_path, labels, *tables):
    read = [read_scores(written(tmp_path / f"s{i}.parquet", **table)) for i, table in enumerate(tables)]
    return match(read, read_labels(written(tmp_path / "l.parquet", **labels)))


LABELS = {"object_id": [1, 2, 3, 4, 5, 6], "label": [1, 1, 1, 0, 0, 0], "theta_E": [1.0, 2, 3, np.nan, np.nan, np.nan]}


def test_every_object_is_accounted_for(tmp_path):
    table = {
        "object_id": [6, 5, 4, 3, 2, 99],
        "logit": [-1, np.nan, -3, 3, 2, 50.0],
        "status": [0, 0, 1, 7, 0, 0],
    }
    [(sample, account)] = matched(tmp_path, LABELS, table)
    assert sample.object_id.tolist() == [2, 3, 4, 5, 6]
    assert sample.logit.tolist() == [
        2,
        -np.inf,
        -np.inf,
        -np.inf,
        -1,
    ]  # a flagged object has no score, whatever stands there
    assert sample.is_lens.tolist() == [True, True, False, False, False]
    assert sample.theta_e[:2].tolist() == [2, 3]
    assert sample.kind is None
    assert (account.scores, account.unlabelled) == (6, 1)
    assert (account.labelled, account.without_row, account.in_sample) == ((3, 3), (1, 0), (2, 3))
    assert account.without_score == {
        "no score in the table": (0, 1),
        "cutout runs off the tile": (0, 1),
        "network gave no finite logit": (1, 0),
    }


def test_two_models_are_matched_to_the_same_objects(tmp_path):
    one = {"object_id": [1, 2, 4, 5, 6], "logit": [1.0, 2, 4, 5, 6]}
    two = {"object_id": [6, 5, 4, 3, 1], "logit": [60.0, 50, 40, 30, -8]}
    (a, account), (b, other) = matched(tmp_path, LABELS, one, two)
    assert a.object_id.tolist() == b.object_id.tolist() == [1, 4, 5, 6]
    assert a.logit.tolist() == [1, 4, 5, 6]
    assert b.logit.tolist() == [-8, 40, 50, 60]
    assert account.without_row == other.without_row == (2, 0)
    assert (account.unlabelled, other.unlabelled) == (0, 0)


def test_numbers_meet_texts(tmp_path):
    table = {"object_id": ["1", "4"], "logit": [1.0, 4.0]}
    [(sample, _)] = matched(tmp_path, LABELS, table)
    assert sample.logit.tolist() == [1, 4]


def test_labels_of_other_objects(tmp_path):
    with pytest.raises(UserError) as error:
        matched(tmp_path, LABELS, {"object_id": ["DES-1", "DES-4"], "logit": [1.0, 4.0]})
    assert message(error) == (
        f"none of the 6 object_ids of {tmp_path}/l.parquet is in {tmp_path}/s0.parquet: 1 in the labels, DES-1 in the scores. "
        "Name labels of the objects that were scored."
    )


def test_only_one_class_was_scored(tmp_path):
    with pytest.raises(UserError) as error:
        matched(tmp_path, LABELS, {"object_id": [4, 5], "logit": [1.0, 4.0]})
    assert message(error) == (
        f"of the objects of {tmp_path}/l.parquet, 0 lenses and 2 non-lenses have a row in {tmp_path}/s0.parquet. An evaluation "
        "needs both: label more of the objects that were scored."
    )


def test_two_models_of_different_objects(tmp_path):
    with pytest.raises(UserError) as error:
        matched(tmp_path, LABELS, *({"object_id": ids, "logit": [1.0, 4.0]} for ids in ([1, 4], [2, 5])))
    assert message(error).startswith(f"of the objects of {tmp_path}/l.parquet, 0 lenses and 0 non-lenses have a row in")
    assert f"{tmp_path}/s0.parquet and {tmp_path}/s1.parquet." in message(error)


def test_no_lens_has_a_score(tmp_path):
    with pytest.raises(UserError) as error:
        matched(tmp_path, LABELS, {"object_id": [1, 2, 4, 5], "logit": [np.nan, np.nan, 1.0, 4.0]})
    assert message(error) == (
        f"no labelled lens has a score in {tmp_path}/s0.parquet, though 4 labelled objects have a row. See its status."
    )
