"""The report of a scan: what stands in it, of whole runs and of unfinished ones, and how a browser shows it."""

import base64
import io
import json
import re
import shutil

import numpy as np
import pandas as pd
import pytest
import screenshot
import small_survey
from click.testing import CliRunner
from PIL import Image

from survey_scan.cli import main
from survey_scan.config import Selection
from survey_scan.report import facts, figures, sample

CHROMIUM = pytest.mark.skipif(screenshot.CHROMIUM is None, reason="no Chromium on this machine")


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def finished(scheduler, tmp_path_factory):
    """A finished run; tests must not change it."""
    survey = small_survey.make(tmp_path_factory.mktemp("report") / "survey", n_objects=1500)
    said = call("run", survey.config, "--scheduler", scheduler)
    return survey.folder / "runs" / "lrg", said


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", re.sub(r"<style.*?</style>|<svg.*?</svg>|<[^>]+>", " ", page, flags=re.S))


def test_a_finished_scan_ends_with_its_report(finished):
    run, said = finished
    assert said.splitlines()[-1] == f"report      {run}/report.html"
    page = (run / "report.html").read_text()
    text = text_of(page)
    counts = json.loads(call("status", run, "--json"))["counts"]
    for name in ("catalogue", "scored", "candidates"):
        assert f"{name} {counts[name]:,}" in text
    flow = pd.read_csv(run / "plan" / "cut_flow.csv")
    for row in flow[flow["removed"] > 0].itertuples():
        assert f"{row.cut} {row.kept:,} {row.removed:,} removed" in text
    for reason, n in pd.read_csv(run / "failures.csv")["reason"].value_counts().items():
        assert f"{reason} {n:,}" in text
    assert "A10_r.fits.fz does not exist" in text
    assert page.count("<svg") == 4 and 'id="best"' in page
    candidates = pd.read_parquet(run / "candidates.parquet")
    assert page.count("<figure>") == 100
    assert f"1 · {candidates['logit'][0]:.2f} {candidates['object_id'][0]}" in text
    manifest = json.loads((run / "manifest.json").read_text())
    assert f"numpy {manifest['packages']['numpy']}" in text and "network loopback" in text


def test_it_asks_for_nothing_and_says_so(finished):
    page = (finished[0] / "report.html").read_text()
    assert "<script" not in page and "default-src 'none'" in page
    outside = set(re.findall(r'(?:src|href)="([^"]{1,30})', page)) - {""}
    assert all(link.startswith(("#", "data:")) for link in outside)
    assert not re.findall(r"url\((?!#)", page)


def test_its_pictures_show_the_candidates_pixels(finished):
    run, _ = finished
    found = re.findall(
        r'<img src="data:image/png;base64,([^"]+)" alt="candidate (\d+), (\d+)"', (run / "report.html").read_text()
    )
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) for data, _, _ in found]
    assert all(image.shape == (20, 20, 3) for image in images)
    candidates = pd.read_parquet(run / "candidates.parquet")
    assert [int(object_id) for _, _, object_id in found] == candidates["object_id"].tolist()[:100]
    assert len({image.tobytes() for image in images}) == 100


def test_the_same_run_has_the_same_report(finished):
    path = finished[0] / "report.html"
    before = path.read_bytes()
    assert call("report", finished[0]) == f"wrote       {path}\n"
    assert path.read_bytes() == before


def test_an_unfinished_run_has_a_report_of_what_there_is(finished, tmp_path):
    run = tmp_path / "lrg"
    shutil.copytree(finished[0], run)
    for path in (
        run / "candidates.parquet",
        run / "candidates.fits",
        run / "records" / "rank.json",
        run / "logs" / "now.json",
    ):
        path.unlink()
    for path in sorted((run / "records" / "scores").iterdir())[:2]:
        path.unlink()
    shutil.rmtree(run / "cutouts.zarr")
    call("report", run)
    page = (run / "report.html").read_text()
    assert "incomplete: 2 of 6 partitions of scores to do" in page
    assert 'id="best"' not in page and page.count("<svg") == 3


def test_of_no_run_at_all(tmp_path):
    said = call("report", tmp_path, code=2)
    assert said.startswith(f"{tmp_path} is not a run directory")


def test_a_survey_across_right_ascension_zero_is_not_torn_apart():
    edges = [(359.5, 359.9), (359.9, 0.3), (0.3, 0.7)]
    tiles = pd.DataFrame([
        {"ra1": a, "dec1": 0, "ra2": b, "dec2": 0, "ra3": b, "dec3": 0.4, "ra4": a, "dec4": 0.4, "n_targets": 10 + i}
        for i, (a, b) in enumerate(edges)
    ])  # fmt: skip
    some = pd.DataFrame({"ra": [359.8, 0.1], "dec": [0.1, 0.2]})
    picture = figures.sky(tiles, some, some)
    labels = [float(label) for label in re.findall(r">([\d.]+)</text>", picture)]
    assert any(label > 359 for label in labels) and any(0 < label < 1 for label in labels)
    assert not any(20 < label < 340 for label in labels)


def test_a_sky_without_tiles_has_its_targets():
    some = pd.DataFrame({"ra": [10.0, 10.5], "dec": [0.1, 0.2]})
    for tiles in (pd.DataFrame({"tile": [], "n_targets": []}), pd.DataFrame({"tile": ["a"], "n_targets": [2]})):
        picture = figures.sky(tiles, some, some[:0])
        assert picture is not None and "some targets" in picture and "0 candidates" in picture
        assert figures.sky(tiles, some[:0], some[:0]) is None


def test_cuts_run_where_they_do():
    table = pd.DataFrame(
        {"mag_g": [21.0, 20.0], "mag_r": [20.0, 19.0], "mag_i": [19.5, 18.5], "g_r": [1.0, 1.0], "size": 1.0}
    )
    selection = Selection(
        define={"g_r": "mag_g - mag_r", "lost": "gone * 2"},
        cuts={
            "red": "g_r > 0.8",
            "slope": "mag_r - mag_i < 0.5 * g_r",
            "faint": "mag_r < 99",
            "gone": "lost > 1",
            "size": "size > 0",
        },
    )
    pair = sample.axes(table, ["g", "r", "i"])
    assert pair is not None and [axis.label for axis in pair] == ["mag_g - mag_r", "mag_r - mag_i"]
    x, y = np.linspace(0, 2, 21), np.linspace(0, 1, 11)
    found = sample.cuts(table, selection, pair, x, y)
    assert list(found) == ["red", "slope"]
    np.testing.assert_array_equal(found["red"][:, x != 0.8], np.broadcast_to(x > 0.8, (11, 21))[:, x != 0.8])
    margin = np.abs(y[:, None] - 0.5 * x) > 1e-9
    np.testing.assert_array_equal(found["slope"][margin], (y[:, None] < 0.5 * x)[margin])
    two = sample.axes(table[["mag_g", "mag_r"]], ["g", "r", "i"])
    assert two is not None and [axis.label for axis in two] == ["mag_r", "mag_g - mag_r"]
    bright = sample.cuts(
        table[["mag_g", "mag_r"]],
        Selection(cuts={"bright": "mag_g < 20"}),
        two,
        np.array([18.0, 19.5]),
        np.array([0.0, 1.0]),
    )
    assert bright["bright"].tolist() == [[True, True], [True, False]]
    assert sample.axes(table[["mag_g"]], ["g", "r", "i"]) is None


def test_a_torn_line_of_the_log_is_left_out(tmp_path):
    from survey_scan.layout import RunDirectory

    run = RunDirectory(tmp_path)
    run.logs.mkdir()
    run.events.write_text('{"event": "started", "time": 1.0}\n{"event": "fin')
    assert facts.read_events(run) == [{"event": "started", "time": 1.0}]


@pytest.mark.browser
@CHROMIUM
def test_a_browser_shows_it(finished, tmp_path):
    url = f"file://{finished[0]}/report.html"
    for width in (1200, 390):
        seen = screenshot.shoot(url, tmp_path / f"{width}.png", "document.readyState == 'complete'", width, 800)
        assert seen.errors == [] and seen.width == width
        assert {r for r in seen.requests if not r.startswith("data:")} == {url}
        assert "From the catalogue to the candidates" in seen.text
