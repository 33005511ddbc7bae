"""Exports: the same rows in every table, pixels where the sky is, a subject set that survives a kill."""

import csv
import io
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_survey
from astropy import units
from astropy.io import fits
from astropy.io.votable import parse_single_table
from astropy.table import Table
from astropy.wcs import WCS

from survey_scan.errors import RunError, UserError
from survey_scan.export import command, cutouts, folder, tables
from survey_scan.export.chosen import described
from survey_scan.export.command import Options
from survey_scan.layout import RunDirectory
from survey_scan.schema import CANDIDATE_COLUMNS, TARGET_COLUMNS


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    survey = small_survey.make(tmp_path_factory.mktemp("export") / "survey", n_objects=900)
    survey.edit(ranking={"top": 60}, resources={"workers": 1})
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, out + err
    return survey


@pytest.fixture(scope="module")
def run(survey):
    return RunDirectory(survey.folder / "runs" / "lrg")


@pytest.fixture(scope="module")
def candidates(run):
    return pd.read_parquet(run.candidates_parquet)


@pytest.fixture(scope="module")
def training(run, tmp_path_factory):
    """Cutouts with labels: those of the run itself, every third a lens."""
    made = tmp_path_factory.mktemp("training")
    shutil.copytree(run.store, made / "cutouts.zarr")
    ids = pd.concat([pd.read_parquet(path)["object_id"] for path in sorted(run.targets_folder.glob("*.parquet"))])
    pd.DataFrame({"object_id": ids, "label": np.arange(len(ids)) % 3 == 0}).to_csv(made / "truth.csv", index=False)
    return made


def export(run, form, out, **options):
    said: list[str] = []
    command.run(run, Options(form, out=out, **options), said.append)
    return said


def refused(run, form, out=None, error=UserError, **options):
    with pytest.raises(error) as caught:
        export(run, form, out, **options)
    return str(caught.value)


UNITS = {c.name: c.unit for c in (*TARGET_COLUMNS, *CANDIDATE_COLUMNS) if c.unit}
UCDS = {c.name: c.ucd for c in (*TARGET_COLUMNS, *CANDIDATE_COLUMNS) if c.ucd}


def same(table: Table, candidates: pd.DataFrame) -> None:
    """Names, rows, and what astropy makes of the units."""
    assert table.colnames == list(candidates)
    for name in candidates:
        values = candidates[name]
        found = np.asarray(table[name])
        if values.dtype.kind in "iufb":
            assert found.dtype.kind == values.dtype.kind and found.dtype.itemsize == values.dtype.itemsize, name
            np.testing.assert_array_equal(found, values.to_numpy())
        else:
            assert [x.decode() if isinstance(x, bytes) else str(x) for x in found.tolist()] == values.tolist()
    assert {name: table[name].unit for name in UNITS} == {name: units.Unit(text) for name, text in UNITS.items()}


def test_fits_has_the_rows_units_and_ucds(run, candidates, tmp_path):
    assert export(run, "fits", tmp_path / "c.fits") == [f"wrote       {tmp_path / 'c.fits'}: 60 candidates"]
    same(Table.read(tmp_path / "c.fits"), candidates)
    header = fits.getheader(tmp_path / "c.fits", 1)
    found = {header[f"TTYPE{i}"]: header.get(f"TUCD{i}") for i in range(1, header["TFIELDS"] + 1)}
    assert {name: found[name] for name in UCDS} == UCDS and header["TCOMM1"] == CANDIDATE_COLUMNS[0].description


def test_votable_has_the_rows_units_and_ucds(run, candidates, tmp_path):
    export(run, "votable", tmp_path / "c.vot")
    votable = parse_single_table(tmp_path / "c.vot", verify="exception")
    same(votable.to_table(), candidates)
    assert {field.name: field.ucd for field in votable.fields if field.name in UCDS} == UCDS


def test_ecsv_and_csv_have_the_rows(run, candidates, tmp_path):
    export(run, "ecsv", tmp_path / "c.ecsv")
    table = Table.read(tmp_path / "c.ecsv")
    empty = candidates["duplicate_of"].to_numpy() == ""
    np.testing.assert_array_equal(table["duplicate_of"].mask, empty)  # astropy reads "" as missing
    table["duplicate_of"] = np.where(empty, "", np.asarray(table["duplicate_of"]).astype(str))
    same(table, candidates)
    assert {name: table[name].meta["ucd"] for name in UCDS} == UCDS
    export(run, "csv", tmp_path / "c.csv", top=7)
    rows = list(csv.DictReader((tmp_path / "c.csv").read_text().splitlines()))
    assert len(rows) == 7 and list(rows[0]) == list(candidates)
    for name, values in candidates.head(7).items():
        found = [values.dtype.type(row[name]) if values.dtype.kind in "iuf" else row[name] for row in rows]
        assert found == (
            values.tolist() if values.dtype.kind in "iuf" else values.astype(str).tolist()
        )  # what is written of a number is exact


def test_texts_that_are_not_ascii_and_columns_that_others_added(run, candidates, tmp_path):
    from survey_scan.export.chosen import Chosen

    table = candidates.head(2).assign(known_name=["Schütz", ""], is_new=[False, True], grade=["A", ""])
    chosen = Chosen(table, described(run.candidates_parquet))
    (tmp_path / "c.fits").write_bytes(tables.write(chosen, "fits"))
    found = Table.read(tmp_path / "c.fits")
    assert np.asarray(found["known_name"]).astype(str).tolist() == ["Sch\\xfctz", ""] and found["is_new"].tolist() == [
        False,
        True,
    ]
    for form in ("votable", "ecsv"):
        data = io.BytesIO(tables.write(chosen, form))
        found = Table.read(data, format={"votable": "votable", "ecsv": "ascii.ecsv"}[form])
        assert str(found["known_name"][0]) == "Schütz" and found["is_new"].tolist() == [False, True]


def test_the_same_candidates_give_the_same_bytes(run, tmp_path):
    for form in command.FORMATS[:5]:
        export(run, form, tmp_path / f"1{form}")
        export(run, form, tmp_path / f"2{form}")
        assert (tmp_path / f"1{form}").read_bytes() == (tmp_path / f"2{form}").read_bytes()


def test_regions_are_boxes_with_ranks_and_colours(run, candidates, tmp_path):
    export(run, "ds9", tmp_path / "c.reg", top=3)
    first, second, system, *boxes = (tmp_path / "c.reg").read_text().splitlines()
    assert first == "# Region file format: DS9 version 4.1" and system == "fk5" and len(boxes) == 3
    row = candidates.iloc[0]
    assert boxes[0] == (
        f'box({row["ra"]:.7f},{row["dec"]:.7f},5.260",5.260",0) # color=green text={{1}} tag={{{row["object_id"]}}}'
    )
    from survey_scan.export import regions

    table = candidates.head(3).assign(known_name=["", "Q{1}", "Q2"], grade=["B", "", "A"])
    said = regions.write(table, 5.26).decode().splitlines()[3:]
    assert [line.split("color=")[1].split()[0] for line in said] == ["orange", "cyan", "red"]
    assert said[1].endswith("tag={Q(1)}")


def test_cutouts_show_the_tile_s_pixels_at_the_tile_s_sky(run, survey, candidates, tmp_path):
    said = export(run, "cutouts", tmp_path / "cut", top=8)
    assert said == [f"wrote       {tmp_path / 'cut'}: 8 files"]
    for row in candidates.head(8).to_dict("records"):
        with fits.open(tmp_path / "cut" / cutouts.name(row)) as file:
            assert [hdu.name for hdu in file] == ["PRIMARY", "G", "R"]
            assert file[0].header["OBJECT"] == row["object_id"] and file[0].header["RANK"] == row["rank"]
            assert file["G"].header["WCSFROM"] == "tile" and file["G"].header["BAND"] == "g"
            own, data = WCS(file["G"].header), file["G"].data
            corner = own.all_pix2world([[0, 0], [19, 5]], 0)
        with fits.open(survey.tile(row["tile"], "g")) as file:
            tile, pixels = WCS(file["SCI"].header), file["SCI"].data
        x, y = np.rint(tile.all_world2pix(corner, 0)).astype(int).T
        assert tile.all_world2pix(corner, 0) == pytest.approx(np.stack([x, y], axis=1), abs=1e-4)
        np.testing.assert_array_equal(data[[0, 5], [0, 19]], pixels[y, x])
        assert own.all_world2pix(row["ra"], row["dec"], 0) == pytest.approx(
            [row["x"] - np.ceil(row["x"] - 10), row["y"] - np.ceil(row["y"] - 10)], abs=1e-4
        )


ROW = {"ra": 30.0, "dec": 60.0, "x": 100.25, "y": 50.75, "object_id": "a/b", "rank": 3}


def test_without_a_tile_north_is_up_and_the_header_says_so(tmp_path):
    header = cutouts.grid_header(ROW, 21, 0.2, None)
    assert header["WCSFROM"] == "assumed" and header.comments["WCSFROM"] == "no tile: north up, east left, no rotation"
    wcs = WCS(header)
    assert wcs.all_world2pix(30.0, 60.0, 0) == pytest.approx([100.25 - 90, 50.75 - 41])
    ra, dec = wcs.all_pix2world(10.25, 9.75 + 5, 0)
    assert (float(ra), float(dec)) == pytest.approx((30.0, 60.0 + 1 / 3600), abs=1e-9)
    ra, _ = wcs.all_pix2world(10.25 - 5, 9.75, 0)
    assert (float(ra) - 30) * np.cos(np.deg2rad(60)) * 3600 == pytest.approx(1.0, rel=1e-4)
    middle = cutouts.grid_header(ROW | {"x": np.nan, "y": np.nan}, 21, 0.2, None)
    assert WCS(middle).all_world2pix(30.0, 60.0, 0) == pytest.approx([10, 10])
    assert cutouts.name(ROW) == "000003-a_b.fits"


def test_a_tile_with_lookup_tables_is_linear_near_the_target(monkeypatch):
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval, wcs.wcs.crpix = ["RA---TAN", "DEC--TAN"], [30.1, 60.0], [500, 400]
    turn = np.deg2rad(30)
    wcs.wcs.cd = 0.2 / 3600 * np.array([[-np.cos(turn), np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    cards = wcs.to_header_string()
    monkeypatch.setattr(cutouts.wcs, "needs_tables", lambda text: True)
    header = cutouts.grid_header(ROW, 21, 0.2, cards)
    assert header["WCSFROM"] == "linear"
    points = np.array([[0, 0], [20, 0], [0, 20], [20, 20]])
    found, true = (w.all_pix2world(p, 0) for w, p in ((WCS(header), points), (wcs, points + [90, 41])))
    assert ((found - true) * [np.cos(np.deg2rad(60)), 1] * 3600) == pytest.approx(np.zeros((4, 2)), abs=2e-3)


def test_a_tile_that_is_gone_is_said_and_the_cutout_is_there(run, survey, tmp_path):
    other = tmp_path / "run"
    shutil.copytree(run.path, other)
    text = (other / "config.resolved.yaml").read_text()
    (other / "config.resolved.yaml").write_text(text.replace("/tiles/", "/nowhere/"))
    said = export(RunDirectory(other), "cutouts", tmp_path / "cut", top=2)
    assert said[-1] == f"wrote       {tmp_path / 'cut'}: 2 files; the WCS of 2 is assumed, north up"
    assert all(line.startswith("tile        ") and "nowhere" in line for line in said[:-1]) and len(said) > 1
    with fits.open(next((tmp_path / "cut").glob("*.fits"))) as file:
        assert file["R"].header["WCSFROM"] == "assumed" and np.isfinite(file["R"].data).any()


def rows_of(path: Path) -> list[dict[str, str]]:
    with (path / "manifest.csv").open(newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_subject_set_has_pictures_a_manifest_and_training_subjects_that_nobody_sees(
    run, candidates, training, tmp_path
):
    said = export(run, "zooniverse", tmp_path / "z", top=18, training=training, share=0.25)
    assert said == [f"wrote       {tmp_path / 'z' / 'manifest.csv'}: 24 subjects, 6 of them training"]
    rows = rows_of(tmp_path / "z")
    assert list(rows[0]) == [
        "subject", "image_1", "image_2", "image_3", "!object_id", "!ra", "!dec", "#training", "#label", "#rank", "#logit",
        "#known_name",
    ]  # fmt: skip
    assert [name for name in rows[0] if name[0] not in "!#"] == ["subject", "image_1", "image_2", "image_3"]
    known = [row for row in rows if row["#training"] == "0"]
    assert sorted(row["!object_id"] for row in known) == sorted(candidates["object_id"].head(18).astype(str))
    assert sorted(row["#label"] for row in rows if row["#training"] == "1") == ["lens"] * 3 + ["non-lens"] * 3
    assert [int(row["#rank"]) for row in known] != sorted(int(row["#rank"]) for row in known)  # the order tells nothing
    from PIL import Image

    pictures = [row[f"image_{i}"] for row in rows for i in (1, 2, 3)]
    assert len(set(pictures)) == 72 and not any("training" in name for name in pictures)
    for name in pictures:
        with Image.open(tmp_path / "z" / name) as image:
            assert image.size == (420, 420) and image.mode == "RGB"
    assert len(list((tmp_path / "z").iterdir())) == 72 + 2


def test_a_killed_subject_set_goes_on_and_ends_as_one_that_was_not(run, training, tmp_path, monkeypatch):
    options = {"top": 6, "training": training, "share": 0.25}
    export(run, "zooniverse", tmp_path / "whole", **options)
    calls, real = [], command.zooniverse.picture

    def dies(*args):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(command.zooniverse, "picture", dies)
    with pytest.raises(KeyboardInterrupt):
        export(run, "zooniverse", tmp_path / "killed", **options)
    assert not (tmp_path / "killed" / "manifest.csv").exists()
    (tmp_path / "killed" / ".x.png.1.partial").write_bytes(b"half")
    said = export(run, "zooniverse", tmp_path / "killed", **options)
    assert said[0] == f"resumed     {tmp_path / 'killed'}" and len(calls) == 8 + 24 - 7
    files = sorted(path.name for path in (tmp_path / "whole").iterdir())
    assert files == sorted(path.name for path in (tmp_path / "killed").iterdir())
    for name in files:
        assert (tmp_path / "whole" / name).read_bytes() == (tmp_path / "killed" / name).read_bytes(), name
    assert export(run, "zooniverse", tmp_path / "whole", **options) == [
        f"finished    {tmp_path / 'whole'} is there already, 25 files; nothing is left to do"
    ]
    assert refused(run, "zooniverse", tmp_path / "whole", top=6) == (
        f"--out: {tmp_path / 'whole'} holds another export (it differs in: share, training). Name another, or remove it."
    )


def test_training_sets_that_do_not_fit(run, training, tmp_path):
    assert refused(run, "zooniverse", tmp_path / "z", training=tmp_path / "no") == (
        f"--training: {tmp_path / 'no'} has no cutouts.zarr. Name the folder of a 'survey_scan simulate', or one with cutouts.zarr "
        "and truth.csv (object_id, label)."
    )
    few = tmp_path / "few"
    shutil.copytree(training, few)
    (few / "truth.csv").write_text("\n".join((training / "truth.csv").read_text().splitlines()[:3]))
    message = refused(run, "zooniverse", tmp_path / "z", training=few, share=0.5)
    assert message.startswith(f"--training: {few} has ") and message.endswith(
        " lenses with a cutout, 30 are needed. Lower --share."
    )
    (few / "cutouts.zarr" / "zarr.json").write_text(
        (few / "cutouts.zarr" / "zarr.json").read_text().replace('"size": 20', '"size": 45')
    )
    assert refused(run, "zooniverse", tmp_path / "z", training=few) == (
        f"--training: {few / 'cutouts.zarr'} has 45 pixels in g, r; the run's cutouts have 20 in g, r. They would be told apart at "
        "a glance."
    )
    assert not (tmp_path / "z").exists()


def test_options_that_do_not_go_together(run, tmp_path):
    assert refused(run, "csv", share=0.1) == (
        "--training and --share go with --format zooniverse, not csv. Leave them out."
    )
    assert refused(run, "zooniverse", share=1.5, training=tmp_path) == (
        "--share is 1.5; it must be above 0 and below 1, and --training name the subjects."
    )


def test_ids(run, candidates, tmp_path):
    ids = candidates["object_id"].astype(str)
    export(run, "csv", tmp_path / "a.csv", ids=f"{ids[5]}, {ids[2]}")
    assert pd.read_csv(tmp_path / "a.csv")["rank"].tolist() == [3, 6]
    (tmp_path / "ids.csv").write_text(f"object_id,why\n{ids[1]},nice\n\n{ids[0]},\n")
    export(run, "csv", tmp_path / "b.csv", ids=str(tmp_path / "ids.csv"))
    assert pd.read_csv(tmp_path / "b.csv")["rank"].tolist() == [1, 2]
    assert refused(run, "csv", tmp_path / "c.csv", ids=f"{ids[0]},17,18") == (
        f"--ids: 2 of 3 are no candidates of {run}, the first is 17. Candidates are in {run.candidates_parquet}; survey_scan "
        "inspect says of any target why it is none."
    )
    assert refused(run, "csv", tmp_path / "c.csv", ids=" , ") == (
        "--ids: ' , ' names no object. Give ids separated by commas, or a file with one a line."
    )


def test_an_output_that_exists_is_left_alone(run, tmp_path):
    (tmp_path / "c.fits").write_text("mine")
    assert refused(run, "fits", tmp_path / "c.fits") == (
        f"--out: {tmp_path / 'c.fits'} exists. Name another, or remove it."
    )
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "thesis.tex").write_text("mine")
    for out in (tmp_path / "d", tmp_path / "c.fits"):
        assert refused(run, "cutouts", out, top=1) == (
            f"--out: {out} exists and is no export of this program. Name another, or remove it."
        )
    assert (tmp_path / "c.fits").read_text() == "mine" and (tmp_path / "d" / "thesis.tex").read_text() == "mine"


def test_a_run_that_is_not_complete_an_empty_table_and_no_run(run, tmp_path):
    other = RunDirectory(tmp_path / "run")
    shutil.copytree(run.path, other.path)
    next((other.path / "records" / "scores").glob("*.json")).unlink()
    said = export(other, "csv", tmp_path / "c.csv", top=1)
    assert said[0].startswith("incomplete  1 of ") and said[-1] == f"wrote       {tmp_path / 'c.csv'}: 1 candidates"
    other.candidates_parquet.unlink()
    message = refused(other, "csv", tmp_path / "d.csv", RunError)
    assert message.startswith(f"{other} has no candidates yet (1 of ") and message.endswith(
        "Finish the scan: run 'survey_scan run' again with its config."
    )
    from survey_scan.ranking.candidates import write_candidates

    empty = pd.read_parquet(run.candidates_parquet).head(0)
    write_candidates(empty, other.candidates_parquet, other.candidates_fits)
    assert refused(other, "csv", tmp_path / "d.csv", RunError).startswith(f"{other.candidates_parquet} has no rows")
    with pytest.raises(RunError, match="is not a run directory"):
        export(RunDirectory(tmp_path), "csv", tmp_path / "d.csv")


def test_an_interrupted_folder_is_recognised_by_its_key(tmp_path):
    said: list[str] = []
    assert folder.begin(tmp_path / "f", {"a": 1}, said.append) and not said
    folder.put(tmp_path / "f" / "x", lambda: b"1")
    (tmp_path / "f" / "empty").touch()
    assert folder.begin(tmp_path / "f", {"a": 1}, said.append) and said == [f"resumed     {tmp_path / 'f'}"]
    folder.put(tmp_path / "f" / "x", lambda: b"2")
    folder.put(tmp_path / "f" / "empty", lambda: b"3")
    assert (tmp_path / "f" / "x").read_bytes() == b"1" and (tmp_path / "f" / "empty").read_bytes() == b"3"
    folder.end(tmp_path / "f", {"a": 1}, 2)
    assert not folder.begin(tmp_path / "f", {"a": 1}, said.append)


def test_what_is_said_of_the_whole_run(run, candidates):
    """The views that read all scores, on the same run: budgets, drift and known lenses."""
    from survey_scan.views import budget, drift, known

    said: list[str] = []
    budget.run(run, 40, None, run.path, said.append)
    scored = sum((pd.read_parquet(p)["status"] == 0).sum() for p in run.scores_folder.glob("*.parquet"))
    assert said[0].startswith(f"budget      40 of {scored} scored targets")
    assert (
        f"logit {candidates['logit'][39]:.3f} and above" in said[0]
        and said[-1] == "overlap     40 stay, 0 new, 20 gone"
    )
    found = drift.drift(run, ["tile"])
    assert list(found) == ["tile"] and found["tile"]["scored"].sum() == scored
    with pytest.raises(RunError) as caught:
        drift.drift(run, ["release"])
    assert str(caught.value) == (
        f"{run} has no column 'release' in its targets; it has: object_id, ra, dec, tile, x, y, mag_g, mag_r, g_r. Keep it by "
        "selection.keep, and plan again."
    )
    targets = pd.concat([pd.read_parquet(path) for path in sorted(run.targets_folder.glob("*.parquet"))])
    best, lost = candidates.iloc[[0, 50]], targets[targets["tile"] == ""].iloc[:1]
    lenses = pd.concat([best, lost])[["ra", "dec"]].assign(name=["a", "b", "c"], grade="A")
    lenses["dec"] += 1 / 3600
    table = known.recall(
        run, pd.concat([lenses, pd.DataFrame({"name": ["d"], "ra": 200.0, "dec": 80.0, "grade": "A"})])
    )
    row = table.iloc[0]
    assert (row["grade"], row["known"], row["scored"], row["candidates"]) == ("A", 3, 2, 2)
    assert row["median_rank"] == (1 + 51) / 2


def test_the_commands(run, candidates, tmp_path):
    from click.testing import CliRunner

    from survey_scan.cli import main

    def call(*words):
        done = CliRunner().invoke(main, [str(word) for word in words])
        return done.exit_code, done.output.splitlines()

    out, path = tmp_path / "c.csv", run.path
    assert call("export", path, "--format", "csv", "--out", out) == (0, [f"wrote       {out}: 60 candidates"])
    (tmp_path / "lenses.csv").write_text(candidates[["ra", "dec"]].head(2).to_csv(index=False))
    assert call("known", path, "--lenses", tmp_path / "lenses.csv") == (
        0,
        [
            f"known       2 lenses in {tmp_path / 'lenses.csv'}, matched within 3 arcsec",
            *(
                f"recall      {w:<10}  2 of 2 known lenses among the targets are candidates, median rank 2"
                for w in ("no grade", "all")
            ),
        ],
    )
    code, said = call("drift", path)
    assert code == 0 and said[0].split()[:2] == ["tile", "scored"] and said[-1].startswith("drift       ")
    copy = tmp_path / "copy"
    shutil.copytree(path, copy)
    code, said = call("rank", copy, "--budget", 9)
    assert code == 0 and said[0].startswith("budget      9 of ")
    assert said.count("overlap     9 stay, 0 new, 51 gone") == 1
    assert any(line.startswith("candidates  9, logit ") for line in said)
    assert pd.read_parquet(copy / "candidates.parquet")["object_id"].tolist() == candidates["object_id"].tolist()[:9]
    assert call("rank", path, "--budget", 9, "--top", 9) == (
        2,
        ["--budget says how many, so that --top and --threshold do not go with it. Leave them out."],
    )
    assert call("rank", path, "--against", path) == (
        2,
        ["--evaluation and --against go with --budget. Give --budget N."],
    )
    assert call("rank", path, "--budget", 9, "--against", tmp_path) == (
        2,
        [
            f"--against: {tmp_path / 'candidates.parquet'}: no such file. Name a run that is ranked, or its candidates.parquet."
        ],
    )


def test_nothing_is_warned_of(run, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for form in command.FORMATS:
            export(run, form, tmp_path / form, top=3)
