"""``plan`` scans a few partitions beforehand and says what the whole will take."""

import json

import pytest
import small_survey
from click.testing import CliRunner

from survey_scan.cli import main
from survey_scan.cluster import projection
from survey_scan.cluster.projection import Workers
from survey_scan.config_file import load
from survey_scan.engine import calibration, forecast
from survey_scan.layout import RunDirectory


@pytest.fixture
def survey(scheduler, tmp_path):
    survey = small_survey.make(tmp_path / "survey", n_objects=1200)
    survey.edit(cutouts={"partition": 256})

    def call(*words, code=0):
        result = CliRunner().invoke(
            main, [words[0], str(survey.config), *words[1:], "--scheduler", scheduler], catch_exceptions=False
        )
        assert result.exit_code == code, result.output
        return result.output

    return survey, RunDirectory(survey.folder / "runs" / "lrg"), call


def told(text, words):
    """The lines that begin with one of some words."""
    return [line for line in text.splitlines() if line.split()[:1] and line.split()[0] in words]


WORDS = ("calibration", "targets", "workers", "disk", "cutouts", "scores", "besides", "altogether")


def test_a_plan_is_calibrated_once_and_projected(survey):
    _, run, call = survey
    first = told(call("plan"), WORDS)
    assert [line.split()[0] for line in first] == ["workers", "calibration", *WORDS]
    assert first[1] == "calibration scanning a few partitions beforehand (--no-calibrate leaves it out)"
    kept, facts = calibration.read(run), json.loads(run.plan_facts.read_text())
    assert f"kept in {run.calibration}" in first[2]
    assert kept.workers == Workers(1, 2, 2, shared=True)
    assert 0 < kept.targets <= facts["planned"] and kept.partitions == min(4, facts["partitions"])
    assert 0 < kept.fixed_seconds < kept.seconds and min(kept.rates.cutouts, kept.rates.scores) > 0
    assert {path.name for path in run.plan.iterdir()} == {
        "calibration.json", "cut_flow.csv", "memory.json", "partitions.csv", "plan.json", "tiles.parquet",
    }  # fmt: skip
    assert not run.records_folder.exists() and not run.store.exists()

    again = call("plan")
    assert "beforehand" not in again and told(again, WORDS) == first[2:]
    projected = json.loads(call("plan", "--json"))["projection"]
    hours = projected["cutouts_hours"] + projected["scores_hours"] + kept.fixed_seconds / 3600
    assert projected["targets"] == facts["planned"] and projected["hours"] == pytest.approx(hours)
    assert projected["gpu_hours"] is None


def test_what_was_measured_counts_for_the_same_scan_only(survey):
    survey, run, call = survey
    call("plan")
    before = run.calibration.read_bytes()
    survey.edit(ranking={"top": 7})
    assert "beforehand" in call("plan") and run.calibration.read_bytes() != before
    run.calibration.write_text("{}")
    assert calibration.read(run) is None
    assert "beforehand" in call("plan") and calibration.read(run).key != ""


def test_a_scan_that_cannot_be_done_leaves_the_plan(survey):
    survey, run, call = survey
    (survey.folder / "broken.keras").write_bytes(b"no network")
    survey.edit(model={"path": "broken.keras"})
    said = told(call("plan"), ["calibration"])
    assert said[-1].startswith(f"calibration failed: {survey.folder / 'broken.keras'}")
    assert run.partitions.exists() and not run.calibration.exists() and not (run.plan / "sample").exists()


def test_it_can_be_left_out(survey):
    _, run, call = survey
    assert "calibration" not in call("plan", "--no-calibrate")
    assert not run.calibration.exists()
    assert "projection" not in json.loads(call("plan", "--no-calibrate", "--json"))


def test_a_job_is_forecast_by_it_until_the_run_has_records(survey):
    survey, run, call = survey
    call("plan")
    config = load(survey.config)
    assert forecast._rates(RunDirectory(config.run.path), None) == calibration.read(run).rates
    call("run")
    own = forecast._rates(run, None)
    assert own == projection.measured(run.records_folder) and own != calibration.read(run).rates
