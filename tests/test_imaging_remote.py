"""Tiles read over http, s3 and memory://: the same pixels as from a disk, few requests, and a reason for every failure."""

import gzip
import os
import pickle
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import fsspec
import numpy as np
import pytest
import small_survey
from astropy.io import fits
from file_server import FileServer
from small_tiles import header, noise, targets, write

from survey_scan import config
from survey_scan.config import Images
from survey_scan.config_file import load
from survey_scan.cutouts import cut_partition
from survey_scan.engine.planning import make_plan
from survey_scan.errors import ImageError, TileError, Unreachable
from survey_scan.imaging import attempts, remote
from survey_scan.imaging.fits_header import find_image
from survey_scan.imaging.fits_image import FitsImage
from survey_scan.imaging.remote import RemoteFile, file_at
from survey_scan.imaging.tiles import list_tiles, read_tile_info, tile_file, tile_table
from survey_scan.layout import RunDirectory
from survey_scan.schema import Status
from survey_scan.views.check import check

SIZE = (600, 500)
TILE = "/tiles/T1_g.fits.fz"
NO_LIST = (
    "Servers for https:// often do not: give images.index, a table of the tiles, or catalogue.tile_column; and no '*' in "
    "images.files."
)


@pytest.fixture(autouse=True)
def quick(monkeypatch, tmp_path):
    """No waiting, and copies in a folder of the test's own."""
    monkeypatch.setattr(attempts, "WAITS", (0.01, 0.01))
    monkeypatch.setattr(remote, "_copies", {})
    folder = tmp_path / "copies"
    folder.mkdir()
    monkeypatch.setattr(remote, "_folder", lambda: folder)
    return folder


@pytest.fixture
def survey(tmp_path) -> Path:
    """A folder of one tile in two bands, with a mask."""
    for i, band in enumerate("gr"):
        write(tmp_path / f"web/tiles/T1_{band}.fits.fz", noise(SIZE, seed=i), codec="RICE_1")
    mask = (np.random.default_rng(1).random(SIZE) < 0.01).astype(np.int32) * 4
    write(tmp_path / "web/masks/T1.fits", mask)
    return tmp_path / "web"


@pytest.fixture
def server(survey):
    with FileServer(survey) as running:
        yield running


def images(root: object, **more: object) -> Images:
    mask = config.Mask(files=f"{root}/masks/{{tile}}.fits", hdu=0, bits=[2])
    return Images(files=f"{root}/tiles/{{tile}}_{{band}}.fits.fz", bands=["g", "r"], hdu="SCI", mask=mask, **more)


def copies(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


# requests


def test_a_header_takes_two_requests_and_64_kib(server):
    found = find_image(file_at(server.url + TILE), "SCI")
    assert server.requests(TILE) == [("HEAD", ""), ("GET", "bytes=0-65535")]
    assert server.sent[TILE] == 65536
    assert str(found) == f"{server.url}{TILE}[1]"


def test_a_header_behind_data_takes_one_request_more(server, survey):
    image = np.zeros((300, 300), np.float32)
    hdus = [fits.PrimaryHDU(image, header(image.shape)), fits.ImageHDU(image, name="WGT")]
    fits.HDUList(hdus).writeto(survey / "two.fits")
    assert find_image(file_at(f"{server.url}/two.fits"), "WGT").number == 1
    assert [method for method, _ in server.requests("/two.fits")] == ["HEAD", "GET", "GET"]
    assert server.sent["/two.fits"] <= 2 * 65536


def test_ranges_grow_where_a_file_is_read_on_and_on(server, survey):
    (survey / "long").write_bytes(os.urandom(3_000_000))
    with file_at(f"{server.url}/long").open() as file:
        assert file.read(100) == (survey / "long").read_bytes()[:100]
        file.seek(50)
        assert file.read() == (survey / "long").read_bytes()[50:]
    assert len(server.requests("/long")) < 10


def test_pixels_take_one_request_however_often_they_are_read(server, survey, quick):
    hdu = find_image(file_at(server.url + TILE), "SCI")
    server.asked.clear()
    with fits.open(survey / TILE[1:]) as file:
        expected = file["SCI"].data
        for mode in ("whole", "rows", "sections"):
            with FitsImage(hdu, mode) as image:
                np.testing.assert_array_equal(image.read(100, 300, 20, 400), expected[100:300, 20:400])
    assert [asked for asked in server.requests(TILE) if asked[0] == "GET"] == [("GET", "")]
    assert copies(quick) == ["T1_g.fits.fz"]


def test_cutouts_are_those_of_the_same_files_on_disk(server, survey):
    rng = np.random.default_rng(3)
    some = targets(rng.uniform(-5, 505, 60), rng.uniform(-5, 605, 60), header(SIZE))
    spec = config.Cutouts(bands=["r", "g"], size=24)
    here, there = (cut_partition(some, images(root), spec, 0.263) for root in (survey, server.url))
    assert here.problems == there.problems == []
    for name in ("image", "status", "bad_fraction"):
        np.testing.assert_array_equal(getattr(here, name), getattr(there, name))
    assert [asked for asked in server.requests("/masks/T1.fits") if asked == ("GET", "")] == [("GET", "")]


@pytest.mark.parametrize("suffix", ["gz", "plain"])
def test_bytes_come_as_they_lie_there(server, survey, suffix):
    """A server may call ``.gz`` an encoding, which a client would undo unasked."""
    data = write(survey / "a.fits", noise((50, 60)), checksum=False).read_bytes()
    (survey / "b.fits").write_bytes(gzip.compress(data) if suffix == "gz" else data)
    server.encoding = "gzip" if suffix == "gz" else ""
    found = find_image(file_at(f"{server.url}/b.fits"), 0)
    assert found.layout.codec == ("gzip" if suffix == "gz" else "none")
    with FitsImage(found, "whole") as image:
        np.testing.assert_array_equal(image.read(0, 50, 0, 60), noise((50, 60)))
    assert remote.size(file_at(f"{server.url}/b.fits")) == (survey / "b.fits").stat().st_size


@pytest.mark.parametrize("lacks", ["ranges", "head"])
def test_servers_that_know_less(server, survey, lacks):
    setattr(server, lacks, False)
    file = file_at(server.url + TILE)
    assert find_image(file, "SCI").layout == find_image(survey / TILE[1:], "SCI").layout
    assert remote.size(file) == (survey / TILE[1:]).stat().st_size
    with (
        FitsImage(find_image(file, "SCI"), "whole") as image,
        FitsImage(find_image(survey / TILE[1:], "SCI"), "whole") as same,
    ):
        np.testing.assert_array_equal(image.read(0, 9, 0, 9), same.read(0, 9, 0, 9))


# failures


@pytest.mark.parametrize("faults", [[500], [503, 429], ["cut"], [408, "cut"]])
def test_what_passes_is_tried_again(server, faults):
    server.faults[TILE] = list(faults)
    hdu = find_image(file_at(server.url + TILE), "SCI")
    server.faults[TILE] = list(faults)
    with FitsImage(hdu, "whole") as image:
        assert image.read(0, 5, 0, 5).shape == (5, 5)
    assert server.faults[TILE] == []


def test_a_server_that_goes_on_failing_stops_the_partition_not_the_tile(server, quick):
    url = server.url + TILE
    server.faults[TILE] = [500] * 9
    with pytest.raises(Unreachable) as caught:
        find_image(file_at(url), "SCI")
    assert str(caught.value) == (
        f"{url} could not be read in 3 attempts (500 Internal Server Error). Run the same command again when it can be "
        "reached."
    )
    server.faults[TILE] = []
    hdu = find_image(file_at(url), "SCI")
    server.faults[TILE] = ["cut"] * 9
    with pytest.raises(Unreachable), FitsImage(hdu, "whole"):
        pass
    assert copies(quick) == []
    server.faults[TILE] = []
    with FitsImage(hdu, "whole") as image:
        assert image.read(0, 5, 0, 5).shape == (5, 5)


def test_a_server_that_is_down(survey):
    with FileServer(survey) as server:
        url = server.url + TILE
    for call in (
        lambda: find_image(file_at(url), 1),
        lambda: remote.size(file_at(url)),
        lambda: list_tiles(images(server.url)),
    ):
        with pytest.raises(Unreachable):
            call()


@pytest.mark.parametrize(
    ("status", "meaning", "why"),
    [
        (404, Status.MISSING, "does not exist"),
        (410, Status.MISSING, "does not exist"),
        (403, Status.UNREADABLE, "cannot be opened (403 Forbidden)"),
        (401, Status.UNREADABLE, "cannot be opened (401 Unauthorized)"),
    ],
)
def test_what_the_server_says_of_one_file_is_its_tiles_status(server, status, meaning, why):
    server.faults[TILE] = [status] * 3
    with pytest.raises(TileError) as caught:
        find_image(file_at(server.url + TILE), "SCI")
    assert (caught.value.status, str(caught.value)) == (meaning, f"{server.url}{TILE} {why}")


def test_a_file_that_is_not_there(server):
    url = f"{server.url}/tiles/T2_g.fits.fz"
    with pytest.raises(TileError) as caught:
        find_image(file_at(url), "SCI")
    assert (caught.value.status, str(caught.value)) == (Status.MISSING, f"{url} does not exist")
    assert remote.size(file_at(url)) is None
    some = targets([100.0], [100.0], header(SIZE), "T2")
    found = cut_partition(some, images(server.url), config.Cutouts(bands=["g", "r"], size=24))
    assert found.status.tolist() == [Status.MISSING]


def test_a_page_instead_of_a_file(server, survey):
    (survey / "tiles/T1_g.fits.fz").write_text("<html>please log in</html>")
    with pytest.raises(TileError) as caught:
        find_image(file_at(server.url + TILE), "SCI")
    assert str(caught.value) == f"{server.url}{TILE} is not a FITS file (it does not begin with SIMPLE)"


def test_truncated_on_the_server(server, survey):
    path = survey / TILE[1:]
    path.write_bytes(path.read_bytes()[:-5000])
    with pytest.raises(TileError) as caught:
        find_image(file_at(server.url + TILE), "SCI")
    assert "is truncated: HDU 1 should end at byte" in str(caught.value)


def test_a_full_disk_is_told_as_such(server, monkeypatch):
    hdu = find_image(file_at(server.url + TILE), "SCI")

    def full(*args: object, **kwargs: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(attempts._system(server.url), "get_file", full)
    with pytest.raises(OSError) as caught, FitsImage(hdu, "whole"):
        pass
    assert caught.value.errno == 28


def test_packages_that_are_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    with pytest.raises(ImageError) as caught:
        find_image(file_at("https://host/a.fits"), 0)
    assert str(caught.value) == (
        "https://host/a.fits: https:// cannot be read here (import of aiohttp halted; None in sys.modules). For https:// "
        "and s3://: pip install 'survey-scan[remote]'"
    )


def test_file_systems_nobody_knows():
    with pytest.raises(ImageError) as caught:
        find_image(file_at("htps://host/a.fits"), 0)
    assert str(caught.value) == (
        "htps://host/a.fits: htps:// is no file system that is known. Known are https:// and s3://."
    )


# copies


def test_few_copies_are_kept_and_those_in_use_always(server, survey, quick):
    for i in range(12):
        (survey / f"{i}.fits").write_bytes(b"%d" % i)
    files = [file_at(f"{server.url}/{i}.fits") for i in range(12)]
    with remote.local(files[0]) as first:
        for file in files[1:]:
            with remote.local(file) as path:
                assert path.read_bytes() == path.name.removesuffix(".fits").encode()
        assert first.read_bytes() == b"0"
        assert len(copies(quick)) == remote.KEPT + 1
    assert copies(quick) == sorted(f"{i}.fits" for i in range(12 - remote.KEPT, 12))
    server.asked.clear()
    with remote.local(files[11]):
        pass
    assert server.asked == [("HEAD", "/11.fits", "")]


def test_a_file_that_changed_is_fetched_again(server, survey):
    file = file_at(f"{server.url}/a.fits")
    for i, text in enumerate((b"one", b"two")):
        (survey / "a.fits").write_bytes(text)
        os.utime(survey / "a.fits", (i, i))
        with remote.local(file) as path:
            assert path.read_bytes() == text


def test_threads_share_one_copy(server):
    file, inside = file_at(server.url + TILE), threading.Barrier(8)

    def read(_: int) -> Path:
        with remote.local(file) as path:
            inside.wait(10)
            assert path.exists()
            return path

    with ThreadPoolExecutor(8) as pool:
        assert len(set(pool.map(read, range(8)))) == 1
    assert [asked for asked in server.requests(TILE) if asked[0] == "GET"] == [("GET", "")]


CHILD = """
import sys, time
from survey_scan.imaging import attempts, remote
with remote.local(remote.file_at(sys.argv[1])) as path:
    print(path, flush=True)
    sys.stdin.read()
"""


def child(url: str, folder: Path) -> tuple[subprocess.Popen, Path]:
    process = subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CHILD, url],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "TMPDIR": str(folder)},
    )  # fmt: skip
    return process, Path(process.stdout.readline().strip())


def test_copies_go_with_their_process_and_those_of_a_killed_one_with_the_next(server, tmp_path):
    folder = tmp_path / "tmp"
    folder.mkdir()
    living, path = child(server.url + TILE, folder)
    killed, other = child(server.url + TILE, folder)
    assert path.exists() and other.exists() and path != other
    killed.send_signal(signal.SIGKILL)
    killed.wait(10)
    third, _ = child(server.url + TILE, folder)
    assert path.exists() and not other.parent.parent.exists()
    for process in (living, third):
        process.communicate()
        assert process.returncode == 0
    killed.communicate()
    assert list(folder.iterdir()) == []


# names


def test_tiles_are_listed_by_the_pages_of_folders(server):
    assert list_tiles(images(server.url)) == ["T1"]
    wild = Images(files=f"{server.url}/tiles/{{tile}}_*{{band}}.fits.fz", bands=["g"], hdu=1)
    assert tile_file(wild, "T1", "g") == RemoteFile(server.url + TILE)
    assert tile_file(wild, "T2", "g") == RemoteFile(f"{server.url}/tiles/T2_*g.fits.fz")
    assert tile_table(images(server.url))["tile"].tolist() == ["T1"]


@pytest.mark.parametrize("call", [list_tiles, tile_table])
def test_servers_that_do_not_list(server, call):
    server.listing = False
    with pytest.raises(ImageError) as caught:
        call(images(server.url))
    assert str(caught.value) == (
        f"{server.url}/tiles/*_g.fits.fz: the server does not list its folders (403 Forbidden). {NO_LIST}"
    )
    assert read_tile_info(images(server.url), "T1").band == "g"


def test_folders_without_a_tile(server):
    none = Images(files=f"{server.url}/nothing/{{tile}}.fits", bands=["g"])
    with pytest.raises(ImageError) as caught:
        tile_table(none)
    assert str(caught.value) == (
        f"no file matches images.files '{server.url}/nothing/{{tile}}.fits' with a band of g. {NO_LIST}"
    )


def test_an_index_by_url(server, survey):
    corners = ",".join(f"{axis}{i}" for i in (1, 2, 3, 4) for axis in ("ra", "dec"))
    (survey / "index.csv").write_text(f"tile,{corners}\nT1,1,2,3,4,5,6,7,8\n")
    assert tile_table(images(server.url, index=f"{server.url}/index.csv"))["dec4"].tolist() == [8.0]
    with pytest.raises(ImageError) as caught:
        tile_table(images(server.url, index=f"{server.url}/none.csv"))
    assert str(caught.value) == f"images.index {server.url}/none.csv does not exist."
    (survey / "index.csv").write_text("name\nT1\n")
    os.utime(survey / "index.csv", (1, 1))
    with pytest.raises(ImageError, match=f"^images.index {server.url}/index.csv is no table of tiles that is known"):
        tile_table(images(server.url, index=f"{server.url}/index.csv"))
    os.utime(survey / "index.csv", (2, 2))
    server.faults["/index.csv"] = [500] * 9
    with pytest.raises(Unreachable):
        tile_table(images(server.url, index=f"{server.url}/index.csv"))


def test_names_of_files():
    assert file_at("/a/b.fits") == Path("/a/b.fits") == file_at("file:///a/b.fits")
    assert file_at("https://host/a/b.fits?c=d/e").name == "b.fits"
    survey = Images(files="https://host/{tile}?band={band}", bands=["g"])
    assert tile_file(survey, "T1", "g") == RemoteFile("https://host/T1?band=g")  # no wildcard in a URL


# other file systems


def check_whole(survey: Path, root: str) -> None:
    """Lists, sizes and cutouts of a survey are those of the folder."""
    here, there = images(survey), images(root)
    assert list_tiles(there) == ["T1"]
    assert remote.size(tile_file(there, "T1", "g")) == remote.size(tile_file(here, "T1", "g"))
    assert remote.size(tile_file(there, "T2", "g")) is None
    wild = Images(files=f"{root}/tiles/{{tile}}_{{band}}.*.fz", bands=["g"], hdu=1)
    assert str(tile_file(wild, "T1", "g")).endswith("web/tiles/T1_g.fits.fz")
    some = targets([100.0, 250.0], [300.0, 400.0], header(SIZE))
    spec = config.Cutouts(bands=["g", "r"], size=24)
    expected, found = (cut_partition(some, images, spec, 0.263) for images in (here, there))
    assert found.problems == []
    np.testing.assert_array_equal(found.image, expected.image)
    np.testing.assert_array_equal(found.bad_fraction, expected.bad_fraction)
    missing = cut_partition(some.assign(tile="T2"), there, spec, 0.263)
    assert missing.status.tolist() == [Status.MISSING] * 2


def test_memory(survey):
    memory = fsspec.filesystem("memory")
    memory.put(str(survey), "/web", recursive=True)
    try:
        check_whole(survey, "memory://web")
    finally:
        memory.rm("/web", recursive=True)


def test_file_urls(survey):
    check_whole(survey, f"file://{survey}")


def test_s3(survey, monkeypatch):
    pytest.importorskip("s3fs")
    with FileServer(survey.parent) as server:
        for name, value in (("anon", True), ("endpoint_url", server.url)):
            monkeypatch.setitem(fsspec.config.conf.setdefault("s3", {}), name, value)
        check_whole(survey, "s3://web")
        server.faults["/web/tiles/T1_g.fits.fz"] = [403] * 9
        with pytest.raises(TileError) as caught:
            find_image(file_at("s3://web/tiles/T1_g.fits.fz"), "SCI")
        assert caught.value.status is Status.UNREADABLE


# whole scans


def scan(survey: small_survey.SmallSurvey, name: str, *settings: str) -> tuple[int, str]:
    """Exit code and what is printed; no copy of a tile may stay."""
    words = [word for setting in (f"run.name={name}", *settings) for word in ("--set", setting)]
    temporary = survey.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    process = survey.command("run", survey.config, *words, env={**os.environ, "TMPDIR": str(temporary)})
    out, err = process.communicate(timeout=240)
    assert "Traceback" not in err
    assert list(temporary.glob("survey_scan-tiles-*")) == []
    return process.returncode, out + err


@pytest.mark.slow
def test_a_scan_over_http_is_the_scan_from_disk(tmp_path):
    """By way of a server that breaks down in the middle; then the same command ends what is left."""
    survey = small_survey.make(tmp_path, n_objects=500)
    survey.edit(resources={"workers": 1})
    code, said = scan(survey, "disk")
    assert code == 0, said
    with FileServer(tmp_path) as server:
        settings = (f"images.files={server.url}/tiles/{{tile}}_{{band}}.fits.fz", "resources.retries=0")
        server.faults = {"/tiles/A11_r.fits.fz": [500] * 1000, "/tiles/A00_g.fits.fz": [503]}
        code, said = scan(survey, "http", *settings)
        assert code == 3, said
        assert "/tiles/A11_r.fits.fz could not be read in 4 attempts (500 Internal Server Error)" in said
        server.faults.clear()
        code, said = scan(survey, "http", *settings)
        assert code == 0, said
    disk, http = (tmp_path / "runs" / name for name in ("disk", "http"))
    for name in ("candidates.parquet", "candidates.fits", "failures.csv", "plan/cut_flow.csv"):
        assert (disk / name).read_bytes() == (http / name).read_bytes(), name


def test_a_plan_whose_server_fails_is_to_be_started_again(tmp_path):
    survey = small_survey.make(tmp_path, n_objects=20)
    with FileServer(tmp_path) as server:
        survey.edit(images={"files": f"{server.url}/tiles/{{tile}}_{{band}}.fits.fz"})
        config = load(survey.config)
        server.faults["/tiles/A01_g.fits.fz"] = [503] * 9
        with pytest.raises(Unreachable, match=r"A01_g\.fits\.fz could not be read in 3 attempts") as caught:
            make_plan(config, RunDirectory(tmp_path / "run"))
        assert caught.value.exit_code == 3
        assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)  # as it comes from a worker
        server.faults.clear()
        assert make_plan(config, RunDirectory(tmp_path / "run")).facts["n_tiles"] == 4


def test_check_lists_no_server_that_has_an_index(tmp_path):
    survey = small_survey.make(tmp_path, n_objects=20)
    images = load(survey.config).images
    tile_table(images).to_csv(tmp_path / "index.csv")
    with FileServer(tmp_path, listing=False) as server:
        survey.edit(
            images={"files": f"{server.url}/tiles/{{tile}}_{{band}}.fits.fz", "index": f"{server.url}/index.csv"}
        )
        said: list[str] = []
        check(load(survey.config), said.append)
        assert "images      4 tiles in images.index; their files lie elsewhere and are not counted" in said
        assert not [path for _, path, _ in server.asked if path.endswith("/")]


def test_file_urls_in_a_configuration_are_paths(tmp_path):
    survey = small_survey.make(tmp_path, n_objects=20)
    files = f"{tmp_path}/tiles/{{tile}}_{{band}}.fits.fz"
    assert load(survey.config, (f"images.files=file://{files}",)) == load(survey.config, (f"images.files={files}",))


def test_a_preset_whose_files_lie_elsewhere(tmp_path):
    survey = small_survey.make(tmp_path, n_objects=20)
    root = "https://host/dr9/south"
    config = load(survey.config, (f"survey={{name: legacy-dr9-south, root: {root}}}",))
    assert config.survey.root == root
    assert config.images.mask.files == f"{root}/coadd/{{tile:.3}}/{{tile}}/legacysurvey-{{tile}}-maskbits.fits.fz"
