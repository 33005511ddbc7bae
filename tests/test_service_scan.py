"""Whole scans whose pixels come from a cutout service, through the command line."""

import json
import os
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_survey
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner
from service_server import TEMPLATE, Service
from small_tiles import noise, reference

from survey_scan.cli import main
from survey_scan.engine import progress

SIDE = 2 * small_survey.SIDE - small_survey.OVERLAP


@pytest.fixture
def sky():
    cards = small_survey.header(0, 0)
    with Service({band: noise((SIDE, SIDE), seed) for seed, band in enumerate("gr")}, cards) as found:
        yield found


@pytest.fixture
def scan(sky, scheduler, tmp_path):
    """Make a small catalogue, scan it with pixels from the service: exit code, lines."""

    class Scan:
        survey = small_survey.make(tmp_path / "survey", n_objects=420)
        run = tmp_path / "survey" / "runs" / "lrg"

        def __init__(self):
            shutil.rmtree(self.survey.folder / "tiles")
            table = Table.read(self.survey.catalogue)
            inside = (table["RA"] > 0.001) & (table["RA"] < 0.01) & (table["MAG_G"] - table["MAG_R"] > 0)
            table[np.argsort(~inside, kind="stable")].write(
                self.survey.catalogue, overwrite=True
            )  # the first is no edge
            self.service()

        def service(self, **more: object) -> None:
            section = {"url": sky.url + TEMPLATE, "rate": 500, "connections": 4, "tries": 3, "timeout": 10, **more}
            self.survey.edit(images={"files": None, "hdu": 0, "pixel_scale": small_survey.SCALE, "service": section})

        def __call__(self, *words: str, code: int = 0) -> str:
            more = ("--scheduler", scheduler) if words[0] in ("run", "plan") else ()
            result = CliRunner().invoke(main, [*map(str, words), *more], catch_exceptions=False)
            assert result.exit_code == code, result.output
            return result.output

        def start(self, *words: str, code: int = 0) -> str:
            return self("run", self.survey.config, *words, code=code)

        def targets(self) -> pd.DataFrame:
            return pd.concat([pd.read_parquet(p) for p in sorted((self.run / "targets").iterdir())], ignore_index=True)

    return Scan()


def lines(text: str) -> list[str]:
    return text.rstrip("\n").splitlines()


def host(sky: Service) -> str:
    return sky.url.removeprefix("http://")


def contents(folder: Path) -> bytes:
    return b"".join(path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file())


def test_a_whole_scan(scan, sky):
    import zarr

    said = scan.start()
    status = json.loads(scan("status", scan.run, "--json"))
    counts, targets = status["counts"], scan.targets()
    n = len(targets)
    assert status["state"] == "complete"
    assert counts["selected"] == n == counts["scored"] + counts["unscored"]
    assert set(counts["cutouts_flagged"]) == {"1", "2"} and counts["cutouts_flagged"]["2"] < 10
    assert f"plan        {n} targets in 2 partitions from {host(sky)}" in lines(said)
    assert f"service     {host(sky)}: {n} requests, at most 500 a second: 1 s at least" in lines(said)
    assert f"            selected {n} = scored {counts['scored']} + flagged {counts['unscored']}" in lines(said)
    assert not any(line.startswith("balance") for line in lines(said))
    assert "lie on no tile" not in said and "warning" not in said
    assert len(sky.asked) == n
    assert (targets["tile"] == "").all() and targets["x"].isna().all()
    store = zarr.open(scan.run / "cutouts.zarr", mode="r")
    assert store.attrs["pixel_scale"] == small_survey.SCALE
    image, ok = store["image"][:n], store["status"][:n]
    for row in range(0, n, 17):
        for b, band in enumerate("gr"):
            expected = reference(sky.sky[band], sky.wcs, targets["ra"][row], targets["dec"][row], 20)
            np.testing.assert_array_equal(image[row, ..., b], expected)
    best = pd.read_parquet(scan.run / "candidates.parquet")
    for row in best[:20].itertuples():
        pixels = [reference(sky.sky[band], sky.wcs, row.ra, row.dec, 20) for band in "gr"]
        assert row.logit == pytest.approx(np.arcsinh(np.mean(pixels, dtype=np.float64)), rel=1e-6)
    assert (ok == 0).sum() == counts["scored"]
    assert not (scan.run / "downloads").exists()
    assert lines(scan.start())[0] == f"{scan.run} is complete: nothing to do"
    assert len(sky.asked) == n
    failed = pd.read_csv(scan.run / "failures.csv").iloc[0]
    assert f"score        none: {failed['reason']}" in lines(scan("inspect", scan.run, failed["object_id"]))
    assert scan("verify", scan.run)


@pytest.mark.slow
def test_how_fast_and_as_whom_it_is_asked_belongs_to_no_key(scan, sky, monkeypatch):
    scan.start()
    n = len(sky.asked)
    monkeypatch.setenv("TEST_DAS_USER", "me")
    monkeypatch.setenv("TEST_DAS_PASSWORD", "swordfish")
    scan.service(rate=3.0, connections=1, tries=9, timeout=1, user="TEST_DAS_USER", password="TEST_DAS_PASSWORD")
    assert lines(scan.start())[0] == f"{scan.run} is complete: nothing to do"
    scan.service(url=sky.url + TEMPLATE + "&layer=dr10")
    assert scan.start(code=2) == (
        f"{scan.run} was planned with images.service ...scale}}&bands={{bands}}; the config says "
        "...scale}&bands={bands}&layer=dr10. Use a new run.name, or --redo plan.\n"
    )
    assert len(sky.asked) == n
    scan.start("--redo", "plan")
    assert len(sky.asked) == 2 * n


def test_a_service_that_goes_down_stops_the_scan_and_the_next_start_resumes(scan, sky):
    """The second partition meets it."""
    scan("plan", scan.survey.config)
    targets = scan.targets()
    bad = targets.iloc[300]
    sky.misdeeds[round(bad["ra"], 6), round(bad["dec"], 6)] = ["503"] * 3
    said = scan.start(code=3)
    assert lines(said)[-2:] == [
        f"cutouts 00001: {host(sky)} answers 503 Service Unavailable (3 tries).",
        "What came until then is kept. Run the same command again to resume, when that is mended.",
    ]
    assert "Traceback" not in said
    asked = len(sky.asked)
    assert 300 < asked < 310 + 2 + 4
    kept = len(list((scan.run / "downloads" / "00001").iterdir()))
    assert 40 <= kept < 60
    said = scan.start()
    assert "cutouts     1 to do (1 new), 1 done" in lines(said)
    assert set(sky.served.values()) == {1}  # nothing was served twice
    assert not (scan.run / "downloads").exists()
    events = [json.loads(line) for line in (scan.run / "logs" / "events.jsonl").read_text().splitlines()]
    reads = {e["partition"]: e["reads"] for e in events if e["event"] == "finished" and e["stage"] == "cutouts"}
    assert reads[1] == {"downloaded": len(targets) - 256 - kept, "kept": kept}


@pytest.mark.slow
def test_problems_are_told_once_a_kind(scan, sky):
    scan("plan", scan.survey.config)
    targets = scan.targets()
    for row in (3, 8):
        sky.misdeeds[round(targets["ra"][row], 6), round(targets["dec"][row], 6)] = ["html"] * 3
    said = scan.start()
    told = [line for line in lines(said) if line.startswith("tile        2 cutouts")]
    assert len(told) == 1
    assert told[0].startswith(
        f"tile        2 cutouts: {host(sky)} sends no FITS file: it begins with '<!DOCTYPE html> <html><title>Please log in"
        "</title></html>' (3 tries), though others come; the first: http://127.0.0.1:"
    )
    assert f"              {2:>13,}  tile unreadable (status 5)" in lines(said)


def test_check_asks_for_one(scan, sky):
    said = scan("check", scan.survey.config)
    found = lines(said)
    at = found.index(f"images      cutouts of g, r from {host(sky)}, at most 500 requests a second")
    assert found[at + 1].startswith("            asked for object 10000000")
    assert found[at + 2 : at + 5] == [
        "              g        22 x 22 pixels of 0.2630 arcsec, 0% of them bad",
        "              r        22 x 22 pixels of 0.2630 arcsec, 0% of them bad",
        "              cutout of 20 x 20 pixels: ok",
    ]
    assert found[-1] == "all is well. Next: survey_scan run"
    assert len(sky.asked) == 1
    assert not scan.run.exists()


@pytest.mark.parametrize(
    ("always", "says"),
    [
        ("404", "images.service: HOST has no image there: URL"),
        ("html", "images.service: HOST sends no FITS file: it begins with '<!DOCTYPE html> <html>"),
        (
            "scale",
            "images.service: band g: pixels of 0.5260 arcsec; those of this survey are 0.2630 (within 0.5 %): URL",
        ),
        ("503", "HOST answers 503 Service Unavailable (3 tries)."),
        ("403", "HOST refuses us: 403 Forbidden. If it wants a login, "),
        ("without r", "images.service: band r: no band r; the file has g: URL"),
    ],
)
def test_check_says_what_would_go_wrong(scan, sky, always, says):
    sky.always = always
    said = scan("check", scan.survey.config, code=2)
    url = sky.url + sky.asked[0][1]
    assert says.replace("HOST", host(sky)).replace("URL", url) in said
    assert "all is well" not in said and "Traceback" not in said


@pytest.mark.slow
def test_passwords_are_nowhere(scan, sky, monkeypatch):
    """In no file of the run and in nothing that is printed, whether they are right, wrong or missing."""
    login = {"user": "TEST_DAS_USER", "password": "TEST_DAS_PASSWORD"}
    scan.service(**login)
    said = scan.start(code=2)
    assert lines(said)[-1] == (
        "images.service.user: the environment variable TEST_DAS_USER is not set. Set it where the scan is started, so that "
        "its workers have it, too."
    )
    sky.login = "captain:swordfish"
    for password, code in (("sw0rdfish", 3), ("swordfish", 0)):
        environment = {**os.environ, "TEST_DAS_USER": "captain", "TEST_DAS_PASSWORD": password}
        process = scan.survey.command("run", "lrg.yaml", env=environment)
        out, err = process.communicate(timeout=240)
        assert process.returncode == code, out + err
        for secret in ("captain", password):
            assert secret not in out + err
            assert secret.encode() not in contents(scan.run)
        if code:
            assert (
                f"cutouts 00000: {host(sky)} refuses us: 401 Unauthorized. It was given what stands in the environment "
                "variables TEST_DAS_USER and TEST_DAS_PASSWORD." in lines(err)
            )
    assert json.loads(scan("status", scan.run, "--json"))["state"] == "complete"


def test_a_password_in_the_configuration_is_refused_and_not_repeated(scan):
    scan.service(user="captain", password="swordfish")
    said = scan.start(code=2)
    assert "swordfish" not in said and "captain" not in said
    assert "give the name of an environment variable, such as SSP_PDR_USR, never the thing itself" in said
    assert not scan.run.exists()


@pytest.mark.slow
def test_one_partition_alone(scan, sky):
    scan("plan", scan.survey.config)
    shutil.rmtree(scan.run / "cutouts.zarr", ignore_errors=True)
    scan.start()
    before = len(sky.asked)
    said = scan("partition", scan.run, "cutouts", "0")
    assert lines(said)[0].startswith("cutouts 00000: 256 targets in ")
    assert len(sky.asked) == before + 256


@pytest.mark.slow
def test_killed_in_the_middle_of_a_partition(scan, sky, tmp_path):
    """SIGKILL of everything; nothing is downloaded twice, and the candidates are those of a scan nobody disturbed."""
    scan.service(rate=60)
    process = scan.survey.command("run", "lrg.yaml", "--set", "run.name=killed")
    deadline = time.monotonic() + 120
    while len(sky.served) < 310:  # in the second partition of two
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=60)
    killed = scan.run.with_name("killed")
    time.sleep(0.3)  # what was on its way to nobody
    before = len(sky.asked)
    assert len(list((killed / "records" / "cutouts").iterdir())) == 1
    kept = len(list((killed / "downloads" / "00001").glob("[!.]*.*")))
    assert 45 < kept < 80
    scan.service(rate=500)
    out = scan.start("--set", "run.name=killed")
    assert "cutouts     1 to do (1 new), 1 done" in lines(out)
    n = len(scan_targets(killed))
    assert len(sky.asked) - before == n - 256 - kept
    assert n <= len(sky.asked) <= n + 4  # of those on their way when the kill came
    twice = [path for path, times in sky.served.items() if times > 1]
    assert len(twice) <= 4
    scan.start()
    assert (killed / "candidates.parquet").read_bytes() == (scan.run / "candidates.parquet").read_bytes()
    assert (killed / "failures.csv").read_bytes() == (scan.run / "failures.csv").read_bytes()
    assert not (killed / "downloads").exists()


def scan_targets(run: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(p) for p in sorted((run / "targets").iterdir())], ignore_index=True)


def test_real_preset_of_the_viewer_on_a_server_of_our_own(sky, scheduler, survey_data, tmp_path):
    """Preset and real sub-image: names, bands, scale and zero point agree."""
    path = survey_data / "legacysurvey/viewer_cutout/cutout_59.1067_-30.4848.fits"
    with fits.open(path) as file:
        real = Service({band: file[number].data for band, number in (("g", 1), ("r", 3), ("z", 5))}, file[1].header)
        wcs = WCS(file[1].header)
    for card in ("XTENSION", "PCOUNT", "GCOUNT", "BAND", "IMAGETYP"):
        real.cards.remove(card, ignore_missing=True)
    ra, dec = wcs.all_pix2world([128.0, 60.4, 200.7], [128.0, 99.6, 31.2], 0)
    catalogue = pd.DataFrame({"ID": [1, 2, 3], "RA": ra, "DEC": dec})
    catalogue.to_parquet(tmp_path / "cat.parquet")
    with real:
        url = real.url + TEMPLATE.replace("pixscale", "layer=ls-dr9&pixscale")
        text = (
            "run: {name: v}\nsurvey: legacy-dr9-viewer\n"
            "catalogue: {files: cat.parquet, id_column: ID, columns: {type: null, nobs_g: null, nobs_r: null, nobs_z: null, "
            "maskbits: null, ebv: null}, magnitudes: {mag_g: null, mag_r: null, mag_z: null}}\n"
            f"images: {{service: {{url: '{url}', rate: 100}}}}\n"
            "cutouts: {bands: [g, r, z], size: 50, partition: 256}\nmodel: {path: loopback}\nresources: {workers: 1}\n"
        )
        (tmp_path / "v.yaml").write_text(text)
        for command in (["check"], ["run", "--scheduler", scheduler]):
            result = CliRunner().invoke(
                main, [command[0], str(tmp_path / "v.yaml"), *command[1:]], catch_exceptions=False
            )
            assert result.exit_code == 0, result.output
    assert "selected 3 = scored 3 + flagged 0" in result.output


@pytest.mark.slow
def test_a_stop_does_not_wait_for_a_partition_that_takes_long(scan, sky):
    scan.service(rate=4)  # a partition takes a minute
    process = scan.survey.command("run", "lrg.yaml")
    deadline = time.monotonic() + 120
    while len(sky.served) < 12:
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3
    assert lines(err)[-1] == "stopped by SIGINT; run the same command again to resume."
    assert 12 <= len(sky.served) < 200
    kept = list((scan.run / "downloads" / "00000").glob("*.fits"))
    assert len(sky.served) - 4 <= len(kept) <= len(sky.served)


def test_how_far_a_partition_is(monkeypatch):
    monkeypatch.setattr(progress.time, "monotonic", lambda: 110.0)
    count = progress.Count(total=1000, before=200, now=0, began=10.0, part=150, kept=100)
    assert (count.done, count.rate, count.line()) == (350, 0.5, "350/1,000 (0.5/s, 21:40 left)")
    said: list[str] = []
    with progress.Progressing({"cutouts": progress.Count(500, 0)}, said.append) as shown:
        shown.under_way("cutouts", 7)
        shown.under_way("cutouts", 60)
        count = shown.counts["cutouts"]
        assert (count.kept, count.part, count.done) == (7, 60, 60)
        shown.finished("cutouts", 256)
        assert (count.now, count.part, count.done) == (256, 0, 256)
