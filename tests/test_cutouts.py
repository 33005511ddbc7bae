import hashlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from small_tiles import header, noise, targets, write

from survey_scan import config
from survey_scan.cutouts import CUTOUTS_VERSION, cut_partition, projected_bytes
from survey_scan.imaging.cost import Layout
from survey_scan.imaging.tiles import read_tile_info
from survey_scan.store.quantisation import quantise

#: Of all that a cutout record vouches for, by version. Where this test fails, either the output changed by mistake, or
#: CUTOUTS_VERSION has to be raised so that resumed scans cut again; then add the new digest here.
GOLDEN = {"1": "8ed34430efe325536e6369d129ed9fbce2e6dcc0bc82c33a5782b1f8213c2d1d"}


def test_output_changes_only_with_its_version(tmp_path):
    y, x = np.mgrid[0:150, 0:120]
    for i, band in enumerate("gr"):
        image = ((x * 7919 + y * 104729 + i * 31) % 1000 - 500).astype(np.float32) / 8
        image[60:80, 40:70] = 0
        image[100, 100] = np.nan
        write(tmp_path / f"T1_{band}.fits", image, header((150, 120), shift=3.0 * i))
    mask = ((x + y) % 11 == 0).astype(np.int16) * 4
    write(tmp_path / "T1_mask.fits", mask, header((150, 120)))
    images = config.Images(
        files=str(tmp_path / "{tile}_{band}.fits"),
        bands=["g", "r"],
        mask=config.Mask(files=str(tmp_path / "{tile}_mask.fits"), hdu=0, bits=[2]),
    )
    spec = config.Cutouts(bands=["r", "g"], size=21, max_bad_fraction=0.2)
    x, y = np.array([60.3, 5.7, 118.2, 55.1, 400.0]), np.array([30.3, 149.3, 75.9, 70.4, 20.0])
    cut = cut_partition(targets(x, y, header((150, 120))), images, spec, 0.263)
    steps, step = quantise(cut.image)
    image = np.where(np.isnan(cut.image), np.float32(-9999), cut.image)
    sha = hashlib.sha256()
    for part in (image, cut.status, cut.bad_fraction, steps, step):
        sha.update(np.ascontiguousarray(part).tobytes())
    assert set(cut.status.tolist()) == {0, 1, 2, 4}
    assert sha.hexdigest() == GOLDEN[CUTOUTS_VERSION]


def spec(**more: object) -> config.Cutouts:
    return config.Cutouts(**{"bands": ["g", "r", "z"], "size": 64, "partition": 1024, **more})


def test_projected_memory_grows_with_what_it_is_made_of():
    images = config.Images(files="{tile}", bands=["g", "r", "z"])
    brick, des = Layout("RICE_1", (3600, 3600), (100, 100)), Layout("RICE_1", (10_000, 10_000), (1, 10_000))
    cutouts = 1024 * 64 * 64 * 3 * 4
    assert projected_bytes(spec(), images, brick) == cutouts + int(2.75 * 3600 * 3600 * 4)
    assert projected_bytes(spec(), images, des) == cutouts + int(2.75 * 96 * 2**20)
    assert projected_bytes(spec(), images, Layout("gzip", (10_000, 10_000), (1, 10_000))) == cutouts + int(2.75 * 4e8)
    with_weight = config.Images(files="{tile}", bands=["g", "r", "z"], weight=config.Weight(hdu=2))
    assert projected_bytes(spec(), with_weight, brick) == cutouts + int(4.75 * 3600 * 3600 * 4)
    assert projected_bytes(spec(size=1024, partition=256, dtype="int16"), images, brick) == 5 * 256 * 1024**2 * 12


@pytest.mark.parametrize(("codec", "dtype"), [("RICE_1", "int16"), (None, "float32")])
def test_a_partition_stays_within_its_projection(tmp_path, codec, dtype):
    """In a process of its own, whose highest memory is compared before and after."""
    shape = (3000, 2000)
    options = {} if codec is None else {"codec": codec, "tile_shape": (1, shape[1])}
    write(tmp_path / "T1.fits", noise(shape), header(shape), **options)
    code = f"""
import sys
import numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from small_tiles import header, targets
from survey_scan import config, store
from survey_scan.cutouts import cut_partition, projected_bytes
from survey_scan.imaging import cost
from survey_scan.imaging.tiles import read_tile_info

cost.STRIP_BYTES = 12 * 2**20

def peak():
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024

folder, shape = Path({str(tmp_path)!r}), {shape}
images = config.Images(files=str(folder / "{{tile}}.fits"), bands=["g", "r", "z"], hdu={0 if codec is None else 1})
spec = config.Cutouts(bands=["g", "r", "z"], size=64, partition=1024, dtype={dtype!r})
y, x = np.random.default_rng(0).uniform(0, shape, (1024, 2)).T
some = targets(x, y, header(shape)).sort_values(["y", "x"], ignore_index=True)
store.create(folder / "warm.zarr", 1, spec, np.int64, {{}})
for path, rows in (("warm.zarr", some[:1]), ("cutouts.zarr", some)):
    before = peak()
    if path != "warm.zarr":
        store.create(folder / path, len(rows), spec, np.int64, {{}})
    cut = cut_partition(rows, images, spec)
    store.write(folder / path, 0, rows["object_id"], rows["ra"], rows["dec"], cut)
print(peak() - before, projected_bytes(spec, images, read_tile_info(images, "T1").layout))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    taken, projected = map(int, done.stdout.split())
    assert 0.25 * projected < taken < projected


def test_a_partition_of_real_size_needs_no_more_targets_than_it_has(tmp_path):
    write(tmp_path / "T1.fits", noise((100, 100)), header((100, 100)))
    images = config.Images(files=str(tmp_path / "{tile}.fits"), bands=["g"])
    cut = cut_partition(targets([50.3], [50.3], header((100, 100))), images, spec(bands=["g"], size=10))
    assert cut.image.shape == (1, 10, 10, 1)
    assert read_tile_info(images, "T1").shape == (100, 100)


def test_a_common_zero_point(tmp_path):
    """One multiplication a band; a tile whose header says another zero point than its band's is not used."""
    cards = header((100, 100))
    for tile, band, zero_point in (("T1", "g", 25.0), ("T1", "r", 30.0), ("T2", "g", 25.0), ("T2", "r", 29.0)):
        cards["MAGZERO"] = zero_point
        write(tmp_path / f"{tile}_{band}.fits", noise((100, 100)), cards)
    images = config.Images(files=str(tmp_path / "{tile}_{band}.fits"), bands=["g", "r"])
    rows = targets([50.3, 50.3], [50.3, 50.3], cards).assign(tile=["T1", "T2"])
    as_is = cut_partition(rows, images, spec(bands=["g", "r"], size=10), 0.263, None, {"g": 25.0, "r": 30.0})
    assert as_is.status.tolist() == [0, 0]
    common = cut_partition(
        rows, images, spec(bands=["g", "r"], size=10, zero_point=27.5), 0.263, None, {"g": 25.0, "r": 30.0}
    )
    np.testing.assert_allclose(common.image[0], as_is.image[0] * np.array([10, 0.1]), rtol=1e-6)
    np.testing.assert_allclose(common.image[1, ..., 0], as_is.image[1, ..., 0] * 10, rtol=1e-6)
    assert np.isnan(common.image[1, ..., 1]).all()
    assert common.status.tolist() == [0, 6]
    np.testing.assert_array_equal(common.bad_fraction, [[0, 0], [0, 1]])
