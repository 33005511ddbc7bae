"""Cutouts from a service on this machine that misbehaves as it is told."""

import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits
from astropy.wcs import WCS
from pydantic import ValidationError
from service_server import TEMPLATE, Service
from small_tiles import header, noise, reference

from survey_scan import config
from survey_scan.cutouts import cut_partition, projected_bytes
from survey_scan.errors import ServiceError, TileError
from survey_scan.imaging import service, service_file, service_http

SHAPE, SIZE = (300, 260), 24


@pytest.fixture
def sky(monkeypatch):
    monkeypatch.setattr(service_http, "BACKOFF", 0.01)
    cards = header(SHAPE)
    with Service({band: noise(SHAPE, seed) for seed, band in enumerate("griz")}, cards) as found:
        yield found


def images(server: Service, url: str = TEMPLATE, **more: object) -> config.Images:
    sections = {"bands": ["g", "r", "i", "z"], "pixel_scale": 0.263, **more}
    asked = {"rate": 1000.0, "connections": 3, "tries": 3, "timeout": 5.0, **sections.pop("service", {})}
    return config.Images(service=config.Service(url=server.url + url, **asked), **sections)


SPEC = config.Cutouts(bands=["r", "g", "z"], size=SIZE)


def targets(server: Service, x: object, y: object) -> pd.DataFrame:
    ra, dec = server.wcs.all_pix2world(np.asarray(x, float), np.asarray(y, float), 0)
    return pd.DataFrame({"object_id": np.arange(len(ra)), "ra": np.round(ra, 6), "dec": np.round(dec, 6), "tile": ""})


def some(server: Service, n: int = 12) -> pd.DataFrame:
    rng = np.random.default_rng(5)
    return targets(server, rng.uniform(40, SHAPE[1] - 40, n), rng.uniform(40, SHAPE[0] - 40, n))


def cut(server: Service, rows: pd.DataFrame, folder: Path, spec: config.Cutouts = SPEC, **more: object):
    return cut_partition(rows, images(server, **more), spec, downloads=folder / "downloads" / "00000")


def misbehave(server: Service, rows: pd.DataFrame, row: int, *misdeeds: str) -> None:
    server.misdeeds[round(rows["ra"][row], 6), round(rows["dec"][row], 6)] = list(misdeeds)


def times_asked(server: Service, rows: pd.DataFrame, row: int) -> int:
    return sum(f"ra={rows['ra'][row]!s}&" in path for _, path in server.asked)


def host(server: Service) -> str:
    return server.url.removeprefix("http://")


def assert_pixels(server: Service, rows: pd.DataFrame, found, chosen=slice(None), spec: config.Cutouts = SPEC) -> None:
    for row in np.arange(len(rows))[chosen]:
        for b, band in enumerate(spec.bands):
            ra, dec = rows["ra"][row], rows["dec"][row]
            expected = reference(server.sky[band], server.wcs, ra, dec, spec.size)
            np.testing.assert_array_equal(found.image[row, :, :, b], expected, err_msg=f"{row} {band}")


@pytest.mark.parametrize("size", [24, 25])
def test_pixels_are_those_that_astropy_cuts_out_of_the_sky(sky, tmp_path, size):
    rows, spec = some(sky, 40), SPEC.model_copy(update={"size": size})
    found = cut(sky, rows, tmp_path, spec)
    assert (found.status == 0).all() and not found.bad_fraction.any() and not found.problems
    assert_pixels(sky, rows, found, spec=spec)
    assert found.reads == {"downloaded": 40, "kept": 0}
    assert len(sky.asked) == 40
    (agent,) = sky.agents
    assert agent.startswith("survey_scan/0.")


@pytest.mark.parametrize(("size", "margin"), [(23, 0), (24, 0), (24, 1), (37, 3)])
def test_what_is_cut_around_the_middle_of_a_resampled_cutout_is_its_middle(tmp_path, size, margin):
    """The viewer's way: a projection whose middle is the target; rounding must not move the cutout."""
    side = size + 2 * margin
    image = noise((side, side))
    for ra, dec in ((150.123456789, 2.2), (0.0001, -89.2), (359.99999, 60.0)):
        fits.PrimaryHDU(image, header((side, side), ra, dec)).writeto(tmp_path / "a.fits", overwrite=True)
        asked = config.Images(service=config.Service(url="http://h/{ra}{dec}{band}"), bands=["g"], pixel_scale=0.263)
        plane = service_file.planes(tmp_path / "a.fits", asked, ["g"])["g"]
        result = service.Cutouts(
            np.empty((1, size, size, 1), np.float32), np.zeros(1, np.uint8), np.zeros((1, 1), np.float32)
        )
        spec = config.Cutouts(bands=["g"], size=size)
        assert service._cut_band(plane, np.array([ra, dec]), asked, spec, 0, 0, result) == 0
        np.testing.assert_array_equal(result.image[0, ..., 0], image[margin : side - margin, margin : side - margin])


@pytest.mark.parametrize("misdeed", ["429", "500", "502", "503", "cut", "short", "html", "drop", "slow 0.6", "408"])
def test_what_passes_is_asked_for_again_and_nothing_else(sky, tmp_path, misdeed):
    rows = some(sky)
    misbehave(sky, rows, 4, misdeed, misdeed)
    found = cut(sky, rows, tmp_path, service={"timeout": 0.3 if misdeed.startswith("slow") else 5.0})
    assert (found.status == 0).all() and not found.problems
    assert_pixels(sky, rows, found)
    assert times_asked(sky, rows, 4) == 3
    assert len(sky.asked) == 14


@pytest.mark.parametrize("form", ["429 1", "503 1", "429 @2"])
def test_all_rest_as_long_as_the_service_asks(sky, tmp_path, form):
    rows = some(sky)
    misbehave(sky, rows, 3, form)
    cut(sky, rows, tmp_path)
    times = np.array([when for when, _ in sky.asked])
    # those under way when the answer came may still arrive; a date has whole seconds
    assert np.diff(times).max() > 0.9
    assert (np.diff(times) > 0.8).sum() == 1


@pytest.mark.parametrize(
    ("misdeeds", "status", "says"),
    [
        (["404"], 2, "1 cutout: HOST has no image there; the first: URL"),
        (["410"], 2, "1 cutout: HOST has no image there; the first: URL"),
        (["500"] * 3, 5, "1 cutout: HOST answers 500 Internal Server Error (3 tries), though others come; the first: URL"),
        (["400"], 5, "1 cutout: HOST answers 400 Bad Request, though others come; the first: URL"),
        (
            ["html"] * 3,
            5,
            "1 cutout: HOST sends no FITS file: it begins with '<!DOCTYPE html> <html><title>Please log in</title></html>' "
            "(3 tries), though others come; the first: URL",
        ),
        (
            ["short"] * 3,
            5,
            "1 cutout: HOST sends a truncated FITS file: 5,760 bytes of 10,992 (3 tries), though others come; the first: URL",
        ),
        (["zeros"], 4, None),
        (["more"], 0, None),
        (["order"], 0, None),
        (
            ["scale"],
            6,
            "1 cutout: pixels of 0.5260 arcsec; those of this survey are 0.2630 (within 0.5 %); the first: URL",
        ),
        (["without g"], 3, "1 cutout of band g: no band g; the file has r, z; the first: URL"),
        (
            ["nameless"],
            5,
            "\n".join(
                f"1 cutout of band {band}: HDU 0 does not name its bands (BAND, BANDS, BAND0, ...), so which is {band} is not "
                "known; the first: URL"
                for band in "rgz"
            ),
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_stays_bad_is_the_status_of_that_target_alone(sky, tmp_path, misdeeds, status, says):
    rows = some(sky)
    misbehave(sky, rows, 7, *misdeeds)
    found = cut(sky, rows, tmp_path)
    assert found.status.tolist() == [0] * 7 + [status] + [0] * 4
    others = np.arange(12) != 7
    assert_pixels(sky, rows, found, others)
    url = sky.url + next(path for _, path in sky.asked if f"ra={rows['ra'][7]!s}&" in path)
    expected = says.replace("HOST", host(sky)).replace("URL", url) if says else ""
    assert "\n".join(found.problems) == expected
    if status == 0:
        assert_pixels(sky, rows, found)
    elif "without g" in misdeeds:
        assert np.isnan(found.image[7, ..., 1]).all() and not np.isnan(found.image[7, ..., 0]).any()
    elif status != 4:
        assert np.isnan(found.image[7]).all() and (found.bad_fraction[7] == 1).all()
    else:
        assert (found.bad_fraction[7] == 1).all()


def test_at_the_edge_of_the_survey(sky, tmp_path):
    rows = targets(sky, [3, 200, 258, -40], [100, 299, 250.5, 10])
    found = cut(sky, rows, tmp_path)
    assert found.status.tolist() == [1, 1, 1, 2]
    assert_pixels(sky, rows, found)
    assert 0.3 < found.bad_fraction[0, 0] < 0.5


def test_a_request_a_band(sky, tmp_path):
    rows = some(sky)
    url = TEMPLATE.replace("{bands}", "{band}")
    assert list(service.urls(images(sky, url).service, SPEC, 0.263, 1.5, 2.5).values()) == [["r"], ["g"], ["z"]]
    found = cut(sky, rows, tmp_path, url=url)
    assert (found.status == 0).all()
    assert_pixels(sky, rows, found)
    assert len(sky.asked) == 36


@pytest.mark.parametrize(
    ("always", "says"),
    [
        ("503", "HOST answers 503 Service Unavailable (3 tries)."),
        ("429", "HOST answers 429 Too Many Requests (3 tries)."),
        ("429 7200", "HOST answers 429 Too Many Requests and asks to be left alone for 7,200 s."),
        (
            "401",
            "HOST refuses us: 401 Unauthorized. If it wants a login, name the environment variables that hold user and "
            "password in images.service.user and images.service.password, or use ~/.netrc.",
        ),
        (
            "403",
            "HOST refuses us: 403 Forbidden. If it wants a login, name the environment variables that hold user and "
            "password in images.service.user and images.service.password, or use ~/.netrc.",
        ),
        (
            "500",
            "HOST answers 500 Internal Server Error (3 tries), for the last 10 of what it was asked for, and has served nothing "
            "yet. Is it down? Try images.service.url in a browser; if it has no images of these objects, cut them from the "
            "selection.",
        ),
        ("slow 0.5", "HOST did not answer within 0.2 s (3 tries)."),
        (
            "drop",
            "HOST cannot be reached (Remote end closed connection without response; have the workers access to the internet?) "
            "(3 tries).",
        ),
    ],
    ids=lambda value: value.split()[0],
)  # fmt: skip
def test_a_service_that_is_down_or_refuses_stops_the_partition(sky, tmp_path, always, says):
    rows, sky.always = some(sky, 40), always
    with pytest.raises(ServiceError) as caught:
        cut(sky, rows, tmp_path, service={"timeout": 0.2 if "slow" in always else 5.0})
    assert str(caught.value) == says.replace("HOST", host(sky))
    # three connections with three tries each; refused, each asks once; 500 may be the position, so ten are tried
    assert len(sky.asked) <= {"401": 3, "403": 3, "500": 45}.get(always, 9)


def test_nobody_there(tmp_path, sky, monkeypatch):
    rows = some(sky)
    asked = images(sky).model_copy(
        update={"service": config.Service(url=f"http://127.0.0.1:1{TEMPLATE}", tries=2, rate=100)}
    )
    with pytest.raises(ServiceError) as caught:
        cut_partition(rows, asked, SPEC, downloads=tmp_path / "d")
    assert str(caught.value) == (
        "127.0.0.1:1 cannot be reached (Connection refused; have the workers access to the internet?) (2 tries)."
    )


def test_it_goes_down_after_a_while(sky, tmp_path):
    """What came is kept; what was served before is asked for to tell a position that is bad from a service that is."""
    rows = some(sky, 30)
    for row in range(12, 30):
        misbehave(sky, rows, row, *["500"] * 3)
    found = cut(sky, rows, tmp_path)
    assert found.status.tolist() == [0] * 12 + [5] * 18
    (served,) = [path for path, n in sky.served.items() if n > 1]
    assert sky.served[served] == 3  # once for its own sake, once after ten that were bad, once at the end
    rows = some(sky, 60)
    sky.always = "500"
    with pytest.raises(ServiceError) as caught:
        cut(sky, rows, tmp_path)
    assert str(caught.value).startswith(
        f"{host(sky)} answers 500 Internal Server Error (3 tries), for the last 10 of what it was asked for, nor what it "
        "served before. Is it down?"
    )


def test_nothing_is_asked_for_twice(sky, tmp_path):
    rows = some(sky, 30)
    misbehave(sky, rows, 2, "404")
    for row in (20, 21):
        misbehave(sky, rows, row, *["503"] * 9)
    with pytest.raises(ServiceError, match="503"):
        cut(sky, rows, tmp_path)
    before = len(sky.asked)
    folder = tmp_path / "downloads" / "00000"
    kept = sorted(folder.iterdir())
    assert 19 <= len(kept) < 30 and {path.suffix for path in kept} == {".fits", ".none"}
    kept[3 if kept[3].suffix == ".fits" else 4].write_bytes(b"SIMPLE  =  T")  # the machine broke down
    sky.misdeeds.clear()
    found = cut(sky, rows, tmp_path)
    assert found.status.tolist() == [0, 0, 2] + [0] * 27
    assert_pixels(sky, rows, found, np.arange(30) != 2)
    assert len(sky.asked) == before + 30 - len(kept) + 1
    assert found.reads == {"downloaded": 30 - len(kept) + 1, "kept": len(kept) - 1}
    assert max(sky.served.values()) == 2 and sum(n == 2 for n in sky.served.values()) == 1
    other = SPEC.model_copy(update={"size": 20})  # another request: not what is kept
    assert (cut(sky, rows, tmp_path, other).status == 0).all()


def test_the_rate_is_kept_by_all_connections_together(sky, tmp_path):
    rows = some(sky, 30)
    for row in (3, 9):
        misbehave(sky, rows, row, "500")
    cut(sky, rows, tmp_path, service={"rate": 20.0, "connections": 8})
    times = sorted(when for when, _ in sky.asked)
    assert len(times) == 32
    assert times[-1] - times[0] >= 31 / 20 * 0.97
    assert min(b - a for a, b in zip(times, times[8:], strict=False)) > 7 / 20  # never a burst, whatever the threads do
    assert times[-1] - times[0] < 8


def test_slow_answers_overlap(sky, tmp_path):
    rows = some(sky, 16)
    for row in range(16):
        misbehave(sky, rows, row, "slow 0.3")
    began = time.monotonic()
    assert (cut(sky, rows, tmp_path, service={"connections": 8}).status == 0).all()
    assert time.monotonic() - began < 0.7 * 16 * 0.3


def test_a_login_is_sent_and_never_shown(sky, tmp_path, monkeypatch):
    rows, sky.login = some(sky), "me:swordfish ü"
    login = {"user": "TEST_DAS_USER", "password": "TEST_DAS_PASSWORD"}
    with pytest.raises(ServiceError) as caught:
        cut(sky, rows, tmp_path, service=login)
    assert str(caught.value) == (
        "images.service.user: the environment variable TEST_DAS_USER is not set. Set it where the scan is started, so that "
        "its workers have it, too."
    )
    monkeypatch.setenv("TEST_DAS_USER", "me")
    monkeypatch.setenv("TEST_DAS_PASSWORD", "wrong swordfish")
    with pytest.raises(ServiceError) as caught:
        cut(sky, rows, tmp_path, service=login)
    assert str(caught.value) == (
        f"{host(sky)} refuses us: 401 Unauthorized. It was given what stands in the environment variables TEST_DAS_USER and "
        "TEST_DAS_PASSWORD."
    )
    monkeypatch.setenv("TEST_DAS_PASSWORD", "swordfish ü")
    assert (cut(sky, rows, tmp_path, service=login).status == 0).all()
    for path in tmp_path.rglob("*"):
        assert path.is_dir() or b"swordfish" not in path.read_bytes()


def test_netrc(sky, tmp_path, monkeypatch):
    rows, sky.login = some(sky, 3), "me:swordfish"
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password swordfish\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert (cut(sky, rows, tmp_path).status == 0).all()


def test_redirects_are_followed_but_not_round_and_round(sky, tmp_path):
    rows = some(sky)
    path = TEMPLATE.format(ra=rows["ra"][2], dec=rows["dec"][2], size=26, pixel_scale=0.263, bands="rgz")
    misbehave(sky, rows, 2, f"302 {path}")
    assert (cut(sky, rows, tmp_path).status == 0).all()
    misbehave(sky, rows, 2, *[f"302 {path}"] * 9)
    found = cut(sky, rows, tmp_path / "again")
    assert found.status[2] == 5
    assert found.problems[0].startswith(
        f"1 cutout: {host(sky)} sends us elsewhere (Exceeded 5 redirects.), though others come; the first: "
    )


def test_pixels_are_brought_to_a_common_zero_point(sky, tmp_path):
    rows, spec = some(sky, 4), SPEC.model_copy(update={"zero_point": 25.0})
    asked = images(sky, zero_point=22.5)
    found = cut_partition(rows, asked, spec, 0.263, None, dict.fromkeys("rgz", 22.5), tmp_path / "d")
    plain = cut(sky, rows, tmp_path)
    np.testing.assert_allclose(found.image, plain.image * 10, rtol=1e-6)
    sky.cards["MAGZERO"] = 30.0
    wrong = cut_partition(rows, asked, SPEC, 0.263, None, None, tmp_path / "e")
    assert (wrong.status == 6).all()
    assert wrong.problems[0].startswith(
        "4 cutouts: zero point 30 (MAGZERO); that of this survey is 22.5 (within 0.01 mag); the first: "
    )


def test_projected_memory_is_that_of_files_not_of_tiles(sky):
    spec = config.Cutouts(bands=["g", "r"], size=64, partition=1024)
    files = (2 * 3 + 4) * (16 * 2**20 + 16 * 128**2 * 2)
    assert projected_bytes(spec, images(sky), None) == 1024 * 64 * 64 * 2 * 4 + files


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({}, "'url': Field required"),
        ({"url": "ftp://h/{ra}{dec}{band}"}, "'url' must begin with http:// or https:// and a host, not 'ftp://h/{ra}{dec}{band}'"),
        (
            {"url": "https://me:secret@h/{ra}{dec}{band}"},
            "no user or password may stand in 'url': give 'user' and 'password', or use ~/.netrc",
        ),
        (
            {"url": "https://h/{ra}{dec}{layer}"},
            "'url' has {layer}; it may hold {ra}, {dec}, {bands}, {band}, {size}, {half_arcsec}, {pixel_scale}",
        ),
        ({"url": "https://h/{ra}"}, "'url' needs {ra}, {dec}, and one of {bands} (all in one file) and {band} (a request a band)"),
        ({"url": "https://h/{ra:d}{dec}{band}"}, "'url' cannot be filled in (Unknown format code 'd' for object of type 'float')"),
        ({"url": "https://h/{ra"}, "'url' cannot be filled in (expected '}' before end of string)"),
        (
            {"url": "https://h/{ra}{dec}{band}", "user": "me", "password": "secret"},
            "give the name of an environment variable, such as SSP_PDR_USR, never the thing itself",
        ),
        ({"url": "https://h/{ra}{dec}{band}", "user": "ME"}, "'user' and 'password' go together"),
    ],
)  # fmt: skip
def test_mistakes_in_the_section(section, says):
    with pytest.raises(ValidationError) as caught:
        config.Service(**section)
    error = caught.value.errors()[0]
    text = error["msg"].removeprefix("Value error, ")
    assert (f"'{error['loc'][0]}': {text}" if error["type"] == "missing" else text) == says


@pytest.mark.parametrize(
    ("section", "says"),
    [
        ({}, "give one of 'files' (tiles on disk) and 'service' (a cutout service); here is neither"),
        (
            {"files": "{tile}", "service": {"url": "https://h/{ra}{dec}{band}"}},
            "give one of 'files' (tiles on disk) and 'service' (a cutout service); here are both",
        ),
        (
            {"service": {"url": "https://h/{ra}{dec}{band}"}},
            "a 'service' needs 'pixel_scale', in arcsec: what it is asked for, and what must come",
        ),
        (
            {"service": {"url": "https://h/{ra}{dec}{band}"}, "pixel_scale": 0.2, "mask": {"files": "{tile}"}},
            "'mask.files' goes with tiles on disk; of what a 'service' sends, give 'hdu'",
        ),
    ],
)
def test_one_source_of_pixels(section, says):
    with pytest.raises(ValidationError) as caught:
        config.Images.model_validate({"bands": ["g"], **section})
    assert caught.value.errors()[0]["msg"] == f"Value error, {says}"


def asked_of(bands: str, **more: object) -> config.Images:
    url = "https://h/{ra}{dec}{bands}"
    return config.Images(service=config.Service(url=url), bands=list(bands), **{"pixel_scale": 0.262, **more})


def test_a_real_sub_image_of_the_viewer(survey_data):
    """An HDU a band, and one of weights for each."""
    path = survey_data / "legacysurvey/viewer_cutout/cutout_59.1067_-30.4848.fits"
    assert len(service_file.whole(path.read_bytes())) == path.stat().st_size
    found = service_file.planes(path, asked_of("grz", weight={"hdu": "invvar"}), list("zgri"))
    with fits.open(path) as file:
        for band, number in (("g", 1), ("r", 3), ("z", 5)):
            np.testing.assert_array_equal(found[band].pixels, file[number].data)
            np.testing.assert_array_equal(found[band].bad, (file[number + 1].data <= 0) | (file[number].data == 0))
            x, y = WCS(file[number].header).all_world2pix(59.1067, -30.4848, 0)
            mine = service.wcs.world_to_pixel(found[band].cards, [59.1067], [-30.4848])
            np.testing.assert_allclose(mine, [[x], [y]], atol=1e-6)
            assert service.check(found[band], 0.262, 22.5) == pytest.approx(0.262, rel=1e-6)
    assert isinstance(found["i"], TileError) and str(found["i"]) == "no band i; the file has g, r, z"


def test_real_cutouts_of_hsc(survey_data):
    """One band a file, a pixel more than was asked for, with a mask whose planes have names."""
    bands = asked_of("GRIZY", hdu=1, pixel_scale=0.168, mask={"hdu": 2, "bits": ["BAD", "NO_DATA", "SAT"]})
    for band in "GRI":
        path = survey_data / f"hsc/das_cutout_gri/222.51551376,0.09749601_300x300_{band.lower()}.fits"
        plane = service_file.planes(path, bands, [band])[band]
        assert plane.pixels.shape == (301, 301)
        service.check(plane, 0.168, 27.0)
        with fits.open(path) as file:
            bits = sum(1 << file[2].header[f"MP_{name}"] for name in ("BAD", "NO_DATA", "SAT"))
            np.testing.assert_array_equal(plane.bad, (file[2].data & bits > 0) | (file[1].data == 0))
        other = service_file.planes(path, bands, ["Z"])["Z"]
        assert str(other) == f"band Z was asked for; FILTER in the header is '{band.lower()}'"
    stars = asked_of("GRIZY", hdu=1, pixel_scale=0.168)
    shapes = set()
    for path in sorted((survey_data / "hsc/hyrax_stars").glob("*.fits")):
        if "cutout" in path.name:
            shapes.add(service_file.planes(path, stars, ["I"])["I"].pixels.shape)
    assert shapes == {(25, 25), (24, 25), (25, 24)}
