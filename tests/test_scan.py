"""Whole scans of a small survey through the command line: what comes out, what is said, what resumes."""

import json
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_survey
from astropy.io import fits
from astropy.table import Table
from click.testing import CliRunner
from small_survey import SmallSurvey

from survey_scan.cli import main
from survey_scan.engine.account import COUNTS


@pytest.fixture
def scan(scheduler, tmp_path):
    """Make a small survey, change it, scan it on the tests' scheduler: exit code, lines."""

    class Scan:
        survey = small_survey.make(tmp_path / "survey", n_objects=1200)
        run = tmp_path / "survey" / "runs" / "lrg"

        def __call__(self, *words: str, code: int = 0) -> str:
            words = tuple(str(w) for w in words)
            more = ("--scheduler", scheduler) if words[0] in ("run", "plan") else ()
            result = CliRunner().invoke(main, [*words, *more], catch_exceptions=False)
            assert result.exit_code == code, result.output
            return result.output

        def start(self, *words: str, code: int = 0) -> str:
            return self("run", self.survey.config, *words, code=code)

        def status(self) -> dict:
            return json.loads(self("status", self.run, "--json"))

    return Scan()


@pytest.fixture(scope="module")
def finished(scheduler, tmp_path_factory):
    """A survey and its finished run; tests must not change it."""
    survey = small_survey.make(tmp_path_factory.mktemp("finished") / "survey")
    result = CliRunner().invoke(main, ["run", str(survey.config), "--scheduler", scheduler], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return survey, survey.folder / "runs" / "lrg", result.output


def lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines()


def test_everything_is_accounted_for(finished):
    survey, run, said = finished
    status = json.loads(CliRunner().invoke(main, ["status", str(run), "--json"]).output)
    counts, stages = status["counts"], status["stages"]
    flow = pd.read_csv(run / "plan" / "cut_flow.csv")
    failures = pd.read_csv(run / "failures.csv")
    scores = pd.concat([pd.read_parquet(p) for p in sorted((run / "scores").iterdir())], ignore_index=True)
    targets = pd.concat([pd.read_parquet(p) for p in sorted((run / "targets").iterdir())], ignore_index=True)
    assert status["state"] == "complete"
    assert counts["catalogue"] == 3000 == counts["selected"] + flow["removed"].sum()
    assert counts["selected"] == counts["cutouts_ok"] + sum(counts["cutouts_flagged"].values()) == len(targets)
    assert counts["selected"] == counts["scored"] + counts["unscored"] == len(scores)
    assert counts["unscored"] == len(failures)
    assert set(counts["cutouts_flagged"]) == {"1", "2", "3"}
    assert tuple(counts) == COUNTS
    assert scores["object_id"].equals(targets["object_id"])
    assert set(failures["object_id"]) == set(scores["object_id"][scores["logit"].isna()])
    assert set(failures["status"].astype(str)) == set(counts["cutouts_flagged"])
    assert stages["cutouts"] == {"partitions": 11, "done": 11, "reasons": {}} == stages["scores"]
    assert stages["rank"] == {"partitions": 1, "done": 1, "reasons": {}}
    n = f"{counts['selected']:,} = scored {counts['scored']:,} + flagged {counts['unscored']:,}"
    assert f"            selected {n}" in lines(said)
    assert "network     loopback: no network, the logit is a function of the pixels" in lines(said)


def test_candidates_are_the_highest_logits(finished):
    survey, run, _ = finished
    scores = pd.concat([pd.read_parquet(p) for p in (run / "scores").iterdir()])
    candidates = pd.read_parquet(run / "candidates.parquet")
    best = scores.sort_values(["logit", "object_id"], ascending=[False, True])[:500]
    assert candidates["object_id"].tolist() == best["object_id"].tolist()
    assert candidates["rank"].tolist() == list(range(1, 501))
    assert set(candidates.columns) == {
        "rank", "object_id", "ra", "dec", "tile", "x", "y", "score", "logit", "mag_g", "mag_r", "g_r", "status",
        "group", "n_group", "leader", "duplicate_of",
    }  # fmt: skip
    catalogue = Table.read(survey.catalogue).to_pandas().set_index("ID")
    there = catalogue.loc[candidates["object_id"]]
    np.testing.assert_allclose(candidates["ra"], there["RA"] % 360)
    np.testing.assert_allclose(candidates["g_r"], there["MAG_G"] - there["MAG_R"])
    as_fits = Table.read(run / "candidates.fits")
    assert list(as_fits["object_id"]) == candidates["object_id"].tolist()


def test_a_logit_is_that_of_the_pixels_on_the_sky(finished):
    """End to end by other means: position → astropy's own WCS and Cutout2D → the loopback formula."""
    from astropy.coordinates import SkyCoord
    from astropy.nddata import Cutout2D
    from astropy.wcs import WCS

    survey, run, _ = finished
    for row in pd.read_parquet(run / "candidates.parquet").sample(20, random_state=1).itertuples():
        pixels = []
        for band in "gr":
            with fits.open(survey.tile(row.tile, band)) as hdus:
                wcs = WCS(hdus["SCI"].header)
                pixels.append(Cutout2D(hdus["SCI"].data, SkyCoord(row.ra, row.dec, unit="deg"), 20, wcs).data)
        mean = np.mean(np.stack(pixels, axis=-1), dtype=np.float64)
        assert row.logit == pytest.approx(np.arcsinh(mean), rel=1e-6)


def test_store_opens_with_other_libraries(finished):
    import dask.array
    import xarray
    import zarr

    _, run, _ = finished
    targets = pd.concat([pd.read_parquet(p) for p in sorted((run / "targets").iterdir())], ignore_index=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xarray.open_zarr(run / "cutouts.zarr", mask_and_scale=False)
        assert opened["image"].dims == ("target", "y", "x", "band")
        assert (opened["object_id"].values[: len(targets)] == targets["object_id"]).all()
        image = zarr.open(run / "cutouts.zarr", mode="r")["image"]
        assert image.shape == (2816, 20, 20, 2)
        lazy = dask.array.from_zarr(run / "cutouts.zarr", component="image")
        np.testing.assert_array_equal(lazy[300].compute(scheduler="synchronous"), image[300])


def test_the_five_lines_of_the_runs_readme_open_it(finished, monkeypatch):
    _, run, _ = finished
    monkeypatch.chdir(run)
    code = [line[4:] for line in (run / "README.txt").read_text().splitlines() if line.startswith("    ")]
    names: dict = {}
    exec("\n".join([*code[:-1], f"best = {code[-1]}"]), names)
    assert names["best"].shape == (20, 20, 2)
    assert len(names["scores"]) > len(names["candidates"]) == 500


def test_complete_run_does_nothing(finished, scheduler):
    survey, run, said = finished
    before = {p: p.stat().st_mtime_ns for p in run.rglob("*") if p.is_file() and "logs" not in p.parts}
    result = CliRunner().invoke(main, ["run", str(survey.config), "--scheduler", scheduler], catch_exceptions=False)
    assert lines(result.output)[0] == f"{run} is complete: nothing to do"
    account = [line for line in lines(said) if line.startswith(("account", " " * 12, "candidates"))]
    assert [line for line in lines(result.output) if line in account] == account
    changed = {p.name for p, when in before.items() if p.stat().st_mtime_ns != when}
    assert changed <= {"manifest.json", "README.txt", "config.yaml", "config.resolved.yaml"}


def test_inspect_says_all_of_one_object(finished):
    _, run, _ = finished
    best = pd.read_parquet(run / "candidates.parquet").iloc[0]
    found = json.loads(CliRunner().invoke(main, ["inspect", str(run), str(best["object_id"]), "--json"]).output)
    assert found["rank"] == 1
    assert found["score"]["logit"] == pytest.approx(best["logit"])
    assert found["cutout"] == {"status": 0, "reason": "ok", "bad_fraction": {"g": 0.0, "r": 0.0}, "kept": True}
    assert found["target"]["tile"] == best["tile"]
    failed = pd.read_csv(run / "failures.csv").iloc[0]
    text = CliRunner().invoke(main, ["inspect", str(run), str(failed["object_id"])]).output
    assert f"score        none: {failed['reason']}" in lines(text)
    assert "rank         not a candidate" in lines(text)
    nobody = CliRunner().invoke(main, ["inspect", str(run), "17"])
    assert nobody.exit_code == 2
    assert nobody.output == (
        f"{run} has no target with object_id 17. It is not in the catalogue, or a cut removed it "
        f"(see {run / 'plan' / 'cut_flow.csv'}).\n"
    )


def test_verify_finds_what_was_damaged(finished, tmp_path):
    _, run, _ = finished
    copy = tmp_path / "lrg"
    shutil.copytree(run, copy)
    assert json.loads(CliRunner().invoke(main, ["verify", str(copy), "--json"]).output)["ok"]
    shard = sorted((copy / "cutouts.zarr" / "image").glob("c.3.*"))[0]
    data = bytearray(shard.read_bytes())
    data[5000] ^= 1
    shard.write_bytes(data)
    pd.read_parquet(copy / "scores" / "part-00002.parquet")[::-1].to_parquet(copy / "scores" / "part-00002.parquet")
    result = CliRunner().invoke(main, ["verify", str(copy)])
    assert result.exit_code == 3
    assert "cutouts 00003:" in result.output and "damaged" in result.output
    assert "scores 00002: object_id differs from the targets" in lines(result.output)
    # what is damaged can be done again, one partition alone
    assert CliRunner().invoke(main, ["partition", str(copy), "cutouts", "3"]).exit_code == 0
    for number in ("2", "3"):
        assert CliRunner().invoke(main, ["partition", str(copy), "scores", number]).exit_code == 0
    assert json.loads(CliRunner().invoke(main, ["verify", str(copy), "--json"]).output)["ok"]


def test_new_ranking_leaves_the_scores_alone(finished, tmp_path):
    _, run, _ = finished
    copy = tmp_path / "lrg"
    shutil.copytree(run, copy)
    result = CliRunner().invoke(main, ["rank", str(copy), "--top", "10"], catch_exceptions=False)
    assert lines(result.output)[-2].startswith("overlap     10 stay, 0 new, 490 gone")
    assert any(line.startswith("candidates  10, logit ") for line in lines(result.output))
    everyone = pd.read_parquet(run / "candidates.parquet")
    ten = pd.read_parquet(copy / "candidates.parquet")
    own = [name for name in ten if name not in ("group", "n_group")]  # friends are looked for among the candidates
    pd.testing.assert_frame_equal(ten[own], everyone[own][:10])
    half = float(everyone["score"].iloc[4])
    CliRunner().invoke(main, ["rank", str(copy), "--threshold", repr(half)], catch_exceptions=False)
    assert len(pd.read_parquet(copy / "candidates.parquet")) == 5


def test_what_changed_is_done_again_and_said(scan):
    scan.start()
    first = pd.read_parquet(scan.run / "candidates.parquet")
    assert "cutouts     all 5 done" in lines(scan.start("--redo", "scores"))
    # a tile that was missing is there now: only partitions on it are cut again
    shutil.copy(scan.survey.tile("A00", "r"), scan.survey.tile("A10", "r"))
    said = scan.start()
    redone = next(line for line in lines(said) if line.startswith("cutouts  "))
    n = int(re.fullmatch(r"cutouts     (\d) to do \(\1 changed: images\), (\d) done", redone)[1])
    assert 1 <= n <= 3
    assert scan.status()["counts"]["cutouts_flagged"].get("3") is None
    # another ranking
    scan.survey.edit(ranking={"top": 3})
    said = scan.start()
    assert "cutouts     all 5 done" in lines(said)
    assert "scores      all 5 done" in lines(said)
    assert len(pd.read_parquet(scan.run / "candidates.parquet")) == 3
    assert len(first) == 500


def test_deleted_products_are_made_again_only_if_needed(scan):
    scan.start()
    first = (scan.run / "candidates.parquet").read_bytes()
    shutil.rmtree(scan.run / "cutouts.zarr")
    assert lines(scan.start())[0] == f"{scan.run} is complete: nothing to do"
    assert json.loads((scan.run / "manifest.json").read_text())["state"] == "complete"
    (scan.run / "candidates.parquet").unlink()
    assert scan.status()["stages"]["rank"]["reasons"] == {"missing": 1}
    assert "cutouts     all 5 done" in lines(scan.start())
    assert (scan.run / "candidates.parquet").read_bytes() == first
    assert not (scan.run / "cutouts.zarr").exists()
    said = scan.start("--redo", "scores")
    assert "cutouts     5 to do (5 new), 0 done" in lines(said)
    assert (scan.run / "candidates.parquet").read_bytes() == first


def test_another_configuration_is_refused_with_the_difference(scan):
    scan.start()
    scan.survey.edit(cutouts={"size": 24})
    assert scan.start(code=2) == (
        f"{scan.run} was planned with cutouts.size 20; the config says 24. Use a new run.name, or --redo cutouts.\n"
    )
    before = (scan.run / "config.resolved.yaml").read_bytes()
    scan.start("--redo", "cutouts")
    assert (scan.run / "config.resolved.yaml").read_bytes() != before
    scan.survey.edit(selection={"cuts": {"red": "g_r > 0.7"}})
    assert scan.start(code=2) == (
        f"{scan.run} was planned with selection.cuts {{'red': 'g_r > 0'}}; the config says {{'red': 'g_r > 0.7'}}. "
        "Use a new run.name, or --redo plan.\n"
    )
    scan.start("--redo", "plan")
    assert scan.start("--limit", "100", code=2) == (
        f"{scan.run} was planned with no --limit; now there is --limit 100. Use a new run.name, or --redo plan.\n"
    )
    said = scan.start("--limit", "300", "--redo", "plan")
    assert "plan        300 targets in 2 partitions on 2 tile(s)" in lines(said)
    assert scan.status()["counts"]["planned"] == 300


def test_newer_format_and_foreign_folder(scan):
    scan.run.mkdir(parents=True)
    (scan.run / "thesis.tex").write_text("dear diary")
    assert scan.start(code=2) == (
        f"{scan.run} exists and is no run directory: it holds thesis.tex. Choose another run.name.\n"
    )
    (scan.run / "thesis.tex").unlink()
    (scan.run / "manifest.json").write_text('{"format_version": 9, "survey_scan": "4.2"}')
    expected = (
        f"{scan.run} has format version 9 (survey_scan 4.2); this program reads up to 1. Use a newer survey_scan, or a "
        "new run.name.\n"
    )
    assert scan.start(code=2) == expected
    assert scan("status", scan.run, code=2) == expected
    assert scan("status", scan.survey.folder, code=2) == (
        f"{scan.survey.folder} is not a run directory (it has no manifest.json). Give the folder a 'survey_scan run' wrote.\n"
    )


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def rewrite(path: Path, change) -> None:
    """Write a tile again with other pixels or another header."""
    with fits.open(path) as hdus:
        image, header = hdus["SCI"].data, hdus["SCI"].header
    image, header = change(image, header)
    path.unlink()
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image, header, name="SCI", compression_type="RICE_1")]).writeto(
        path
    )


def without_wcs(image, header):
    return image, None


def other_scale(image, header):
    for key in ("CDELT1", "CDELT2", "CD1_1", "CD2_2", "PC1_1", "PC2_2"):
        if key in header:
            header[key] *= 1.1
    return image, header


def other_shape(image, header):
    return image[:-7], header


@pytest.mark.parametrize(
    ("harm", "status", "text"),
    [
        (Path.unlink, "3", "does not exist"),
        (truncate, "5", "truncated"),
        (lambda path: path.write_bytes(b""), "5", "empty"),
        (lambda path: rewrite(path, without_wcs), "5", "WCS"),
        (lambda path: rewrite(path, other_scale), "6", "0.5 %"),
        (lambda path: rewrite(path, other_shape), "6", "400 x 393"),
        (lambda path: path.write_bytes(b"<html>404</html>" * 500), "5", "FITS"),
    ],
    ids=["missing", "truncated", "zero", "no-wcs", "scale", "shape", "html"],
)
def test_a_bad_tile_costs_its_own_targets_only(scan, harm, status, text):
    scan.survey.edit(images={"pixel_scale": 0.263})
    bad = scan.survey.tile("A11", "r")
    harm(bad)
    said = scan.start()
    found = scan.status()
    counts = found["counts"]
    assert found["state"] == "complete"
    assert counts["cutouts_flagged"][status] > 100
    assert counts["scored"] > 300
    assert counts["selected"] == counts["scored"] + counts["unscored"]
    problem = [p for p in found["problems"] if "A11_r" in p]
    assert len(problem) == 1 and text in problem[0], found["problems"]
    assert f"tile        {problem[0]}" in lines(said)
    failures = pd.read_csv(scan.run / "failures.csv")
    assert (failures["tile"] == "A11").sum() > 100


def test_wrong_hdu_everywhere_is_an_error(scan):
    scan.survey.edit(images={"hdu": "IMAGE"})
    said = scan.start(code=2)
    assert "IMAGE" in said and "images.hdu" in said
    assert "Traceback" not in said


def change_catalogue(survey: SmallSurvey, change) -> None:
    table = Table.read(survey.catalogue).to_pandas()
    change(table)
    Table.from_pandas(table).write(survey.catalogue, overwrite=True)


def test_positions_that_are_none_are_cut_and_counted(scan):
    def spoil(table):
        table.loc[3, "RA"] = np.nan
        table.loc[4, "DEC"] = 95.0
        table.loc[5, "RA"] = 1e30

    change_catalogue(scan.survey, spoil)
    said = scan.start()
    assert "  valid position          1,197 kept             3 removed   99.75%" in lines(said)
    assert "warning     3 of 1,200 objects of the catalogue have no valid position" in lines(said)


def test_duplicate_ids_are_an_error(scan):
    def spoil(table):
        table["MAG_R"] = table["MAG_G"] - 1
        table.loc[700, "ID"] = table.loc[20, "ID"]

    change_catalogue(scan.survey, spoil)
    said = scan.start(code=2)
    assert "catalogue.id_column: of the 1,200 selected objects' identifiers, 1 occurs more than once: " in said
    assert "100000000140 (in cat.fits, cat.fits)" in said
    status = scan.status()
    assert status["state"] == "incomplete"
    assert status["counts"]["selected"] is None
    assert lines(scan("status", scan.run))[1] == "not planned yet"


@pytest.mark.parametrize(
    ("sections", "text"),
    [
        ({"catalogue": {"files": "nothing/*.fits"}}, "nothing/*.fits"),
        ({"catalogue": {"columns": {"mag_g": "MAG_GG"}}}, "Did you mean 'MAG_G'"),
        ({"selection": {"cuts": {"red": "g_r > 0", "blue": "g_r < 0"}}}, "cut 'blue' leaves none of the 1,200 objects"),
        ({"selection": {"cuts": {"red": "gr > 0"}}}, "'gr'"),
        ({"selection": {"cuts": {"red": "__import__('os')"}}}, "red"),
        ({"images": {"files": "{tile}/nowhere_{band}.fits"}}, "nowhere"),
        ({"model": {"path": "nothing.keras"}}, "nothing.keras"),
        ({"resources": {"memory": "lots"}}, "resources.memory is 'lots'"),
    ],
)
def test_mistakes_have_a_message_and_no_traceback(scan, sections, text):
    scan.survey.edit(**sections)
    if "leaves none" not in text:  # known only when all rows are read
        said = scan("check", scan.survey.config, code=2)
        assert text in said
    if "resources" not in sections:  # the tests' scheduler has its own
        said = scan.start(code=2)
        assert text in said
    assert "Traceback" not in said


def test_check_says_what_it_found(scan):
    said = scan("check", scan.survey.config)
    assert "catalogue   1 files; columns object_id, ra, dec, mag_g, mag_r" in lines(said)
    assert "images      on disk: g 4, r 3" in lines(said)
    assert "              compression  RICE_1, tiles 400 x 1                -" in lines(said)
    assert any("A10_r.fits.fz" in line and "warning" in line for line in lines(said))
    assert lines(said)[-1] == "all is well. Next: survey_scan run"
    assert not scan.run.exists()


def test_too_little_memory_is_refused_before_anything_is_cut(scan):
    scan.survey.edit(cutouts={"size": 1024, "partition": 8192})
    said = scan.start(code=2)
    assert re.search(r"cutouts needs [\d.]+ GiB a worker but a worker has [\d.]+ GiB. Lower cutouts.partition", said)
    assert not (scan.run / "cutouts.zarr").exists()
    assert scan.status()["state"] == "planned"


def test_no_scheduler(scan, tmp_path):
    config = str(scan.survey.config)
    gone = CliRunner().invoke(main, ["run", config, "--scheduler", str(tmp_path / "s.json")])
    assert gone.exit_code == 2
    assert lines(gone.output)[-1] == (
        f"--scheduler {tmp_path / 's.json'}: no such scheduler file. Give an address or the file of a running scheduler."
    )


def test_scheduler_file(scan, scheduler, tmp_path):
    file = tmp_path / "s.json"
    file.write_text(json.dumps({"address": scheduler}))
    result = CliRunner().invoke(
        main, ["plan", str(scan.survey.config), "--scheduler", str(file)], catch_exceptions=False
    )
    assert result.exit_code == 0, result.output
    assert scan.status()["state"] == "planned"


def test_plan_alone(scan):
    said = json.loads(scan("plan", scan.survey.config, "--json"))
    assert said["state"] == "planned"
    assert said["stages"]["cutouts"]["reasons"] == {"new": 5}
    assert lines(scan("plan", scan.survey.config))[0] == f"{scan.run} is planned already"
    assert (
        scan("rank", scan.run, code=2)
        == f"{scan.run} lacks 10 partitions of cutouts or scores. Run 'survey_scan run' first.\n"
    )
    assert scan("partition", scan.run, "scores", "1", code=2).startswith(
        f"partition 1 of {scan.run} has no cutouts yet."
    )
    assert scan("partition", scan.run, "cutouts", "9", code=2) == f"{scan.run} has no partition 9; it has 0 to 4.\n"
    scan.start()


@pytest.mark.parametrize("dtype", ["float16", "int16"])
def test_other_pixel_types_rank_nearly_the_same(scan, dtype):
    scan.start()
    exact = pd.read_parquet(scan.run / "candidates.parquet")
    scan.survey.edit(run={"name": dtype}, cutouts={"dtype": dtype})
    scan.start()
    other = pd.read_parquet(scan.run.parent / dtype / "candidates.parquet")
    both = exact.merge(other, on="object_id")
    assert len(both) > 450
    np.testing.assert_allclose(both["logit_x"], both["logit_y"], atol=0.01)


@pytest.mark.slow
def test_what_mixed_precision_does_to_the_scores_is_printed(tmp_path):
    survey = small_survey.make(tmp_path / "survey", n_objects=1500, bands="gri")
    network = Path(small_survey.__file__).parent.parent / "survey_scan" / "demo" / "model"
    survey.edit(cutouts={"size": 45}, model={"path": str(network), "precision": "mixed_bfloat16", "batch_size": 64})
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, err
    (line,) = (line for line in out.splitlines() if line.startswith("effect "))
    assert re.match(r"effect      mixed_bfloat16 changes the logits of \d+ cutouts by ", line), line
    survey.edit(model={"precision": "float32"})
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, err
    assert re.search(r"scores +\d+ to do \(\d+ changed: contract\)", out)
    assert "effect" not in out
