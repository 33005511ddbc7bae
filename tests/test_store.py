import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from multiprocessing import get_context
from pathlib import Path

import dask.array
import numpy as np
import pytest
import store_writer
import xarray
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from store_writer import IDS, N, cutouts, make, spec, write

from survey_scan import store
from survey_scan.config import Cutouts as Spec
from survey_scan.errors import RunError
from survey_scan.imaging.base import Cutouts
from survey_scan.schema import Status


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


# what is stored


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_pixels_come_back(tmp_path, dtype):
    path = tmp_path / "cutouts.zarr"
    image = np.concatenate([cut.image for cut in make(path, dtype)])
    reader = store.Reader(path)
    found = reader.pixels(0, N)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(np.isnan(found), np.isnan(image))
    error = np.nan_to_num(np.abs(found - image))
    batch = reader.read(0, N)
    assert batch.image.dtype == dtype
    if dtype == "float32":
        assert batch.step is None and not error.any()
    elif dtype == "float16":
        assert batch.step is None and (error <= np.abs(np.nan_to_num(image)) / 2048 + 3e-8).all()
    else:
        assert batch.step.shape == (N, 2) and batch.step.dtype == np.float32
        assert (error <= 0.5001 * batch.step[:, None, None, :]).all()


def test_float16_ends_at_its_largest_number(tmp_path):
    path = tmp_path / "cutouts.zarr"
    store.create(path, 1, spec("float16"), np.int64, {})
    image = np.zeros((1, 5, 5, 2), np.float32)
    image[0, 0, :3, 0] = 1e6, -1e6, 65519
    store.write(path, 0, [1], [0.0], [0.0], Cutouts(image, np.zeros(1, np.uint8), np.zeros((1, 2), np.float32)))
    np.testing.assert_array_equal(store.Reader(path).pixels(0, 1)[0, 0, :3, 0], [65504, -65504, 65504])


def test_columns_come_back_and_padding_is_marked(tmp_path):
    path = tmp_path / "cutouts.zarr"
    cut = make(path)
    reader = store.Reader(path)
    np.testing.assert_array_equal(reader.column("object_id", 0, N), IDS)
    np.testing.assert_array_equal(reader.column("ra", 0, N), np.arange(N) / 10)
    np.testing.assert_array_equal(reader.column("dec", 0, N), -np.arange(N) / 10)
    np.testing.assert_array_equal(reader.column("status", 0, N), np.concatenate([each.status for each in cut]))
    np.testing.assert_array_equal(
        reader.column("bad_fraction", 0, N), np.concatenate([each.bad_fraction for each in cut])
    )
    group = zarr.open_group(path, mode="r")
    assert {array.shape[0] for _, array in group.arrays()} == {768}
    assert (group["status"][N:] == store.UNWRITTEN).all() and (group["status"][:N] != store.UNWRITTEN).all()
    assert np.isnan(group["image"][N:]).all() and np.isnan(group["ra"][N:]).all()


@pytest.mark.parametrize(
    "ids", [IDS.astype(np.uint64) + 2**63, np.array([f"DES J{i:04d}-ü" for i in range(N)], dtype=object)]
)
def test_identifiers_of_other_kinds(tmp_path, ids):
    path = tmp_path / "cutouts.zarr"
    make(path, ids=ids)
    assert store.Reader(path).column("object_id", 250, 260).tolist() == ids[250:260].tolist()


def test_identifiers_of_another_kind_than_the_store_was_made_for(tmp_path):
    path = tmp_path / "cutouts.zarr"
    store.create(path, N, spec(), np.int64, {})
    with pytest.raises(TypeError):
        write(path, 0, IDS.astype(np.uint64))
    write(path, 0, np.arange(N, dtype=np.int32))
    assert store.Reader(path).column("object_id", 3, 5).tolist() == [3, 4]


@pytest.mark.parametrize("n", [255, 257])
def test_a_partition_takes_all_its_targets(tmp_path, n):
    path = tmp_path / "cutouts.zarr"
    store.create(path, N, spec(), np.int64, {})
    with pytest.raises(ValueError) as caught:
        store.write(path, 0, np.arange(n), np.zeros(n), np.zeros(n), cutouts(0, n))
    found = f"{n} targets and pixels of shape ({n}, 5, 5, 2)"
    assert str(caught.value) == f"partition 0 of {path} takes pixels of shape (256, 5, 5, 2), not {found}"
    with pytest.raises(ValueError):
        store.write(path, 0, np.arange(256), np.zeros(256), np.zeros(256), cutouts(0, 256, size=6))


def test_attributes_say_all_a_reader_needs(tmp_path):
    path = tmp_path / "cutouts.zarr"
    make(path, "int16")
    found = store.Reader(path).attributes
    assert found["bands"] == ["g", "r"] and found["n_targets"] == N and found["partition"] == 256
    assert (
        found["size"] == 5 and found["dtype"] == "int16" and found["pixel_scale"] == 0.263 and found["release"] == "dr2"
    )
    assert found["orientation"] == (
        "image[target, y, x, band]: rows and columns as in the survey's FITS files, y up the array (show with"
        " origin='lower'); the first column is column ceil(x - size/2) of the tile, the first row row ceil(y - size/2)"
    )
    assert found["pixels"] == "flux = image * step, to half a step; -32768 is no data"
    assert found["status"] == {
        **{str(int(code)): code.reason for code in Status},
        "255": "padding or not written",
    }


def test_one_file_a_partition_and_array(tmp_path):
    """Inodes: 320 million targets are 78,000 shards."""
    path = tmp_path / "cutouts.zarr"
    make(path, "int16")
    names = ("object_id", "ra", "dec", "status")
    expected = {f"image/c.{p}.0.0.0" for p in range(3)} | {f"{name}/c.{p}" for name in names for p in range(3)}
    expected |= {f"{name}/c.{p}.0" for name in ("bad_fraction", "step") for p in range(3)}
    assert {name for name in files(path) if not name.endswith("zarr.json")} == expected


def test_a_few_targets_take_little_room(tmp_path):
    path = tmp_path / "cutouts.zarr"
    store.create(path, 3, Spec(bands=["g", "r"], size=5, partition=4096), np.int64, {})
    store.write(path, 0, [1, 2, 3], np.zeros(3), np.zeros(3), cutouts(0, 3))
    assert (path / "image" / "c.0.0.0.0").stat().st_size == 256 * 5 * 5 * 2 * 4 + 4 + 16 * 16 + 4
    assert np.isnan(zarr.open_array(path / "image", mode="r")[3:]).all()


# other programs


@pytest.mark.parametrize("ids", [IDS, np.array([f"J{i}" for i in range(N)], dtype=object)])
@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_opens_without_a_warning(tmp_path, dtype, ids):
    """Warnings are errors in these tests."""
    path = tmp_path / "cutouts.zarr"
    make(path, dtype, ids)
    expected = store.Reader(path).read(0, N).image
    group = zarr.open(path, mode="r")
    np.testing.assert_array_equal(group["image"][:N], expected)
    np.testing.assert_array_equal(zarr.open_group(path, mode="r", use_consolidated=False)["image"][:N], expected)
    with xarray.open_zarr(path, mask_and_scale=False) as dataset:
        assert dict(dataset.sizes) == {"target": 768, "y": 5, "x": 5, "band": 2}
        assert dataset["image"].dims == ("target", "y", "x", "band")
        assert dataset["object_id"].dims == ("target",) and dataset["bad_fraction"].dims == ("target", "band")
        np.testing.assert_array_equal(dataset["image"][:N].values, expected)
        assert dataset["object_id"][:3].values.tolist() == ids[:3].tolist()
        assert dataset.attrs["n_targets"] == N
    with xarray.open_zarr(path, consolidated=False) as dataset:
        assert dataset["status"].shape == (768,)
    lazy = dask.array.from_zarr(path, component="image")
    assert lazy.shape == (768, 5, 5, 2)
    np.testing.assert_array_equal(lazy[:N].compute(scheduler="sync"), expected)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_shards_are_those_zarr_itself_writes(tmp_path, dtype):
    path = tmp_path / "cutouts.zarr"
    make(path, dtype)
    shutil.copytree(path, tmp_path / "other.zarr")
    theirs = zarr.open_group(tmp_path / "other.zarr", mode="r+")
    theirs["image"][:512] = zarr.open_group(path, mode="r")["image"][:512]
    for partition in (0, 1):
        name = f"image/c.{partition}.0.0.0"
        ours = (path / name).read_bytes()
        assert ours == (tmp_path / "other.zarr" / name).read_bytes()


# reading


@given(st.integers(0, N), st.integers(0, N))
@settings(deadline=None, max_examples=30)
def test_any_range_of_rows(written, start, stop):
    path, image = written
    reader = store.Reader(path)
    start, stop = min(start, stop), max(start, stop)
    np.testing.assert_array_equal(reader.pixels(start, stop), image[start:stop])
    np.testing.assert_array_equal(reader.column("object_id", start, stop), IDS[start:stop])


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    path = tmp_path_factory.mktemp("store") / "cutouts.zarr"
    return path, np.concatenate([cut.image for cut in make(path)])


def test_rows_that_are_not_there(written):
    path, _ = written
    for start, stop in [(-1, 3), (0, N + 1), (700, 710), (5, 4)]:
        with pytest.raises(IndexError) as caught:
            store.Reader(path).read(start, stop)
        assert str(caught.value) == f"{path} has targets 0 to 599, not {start} to {stop - 1}"


def test_no_store(tmp_path):
    with pytest.raises(RunError) as caught:
        store.Reader(tmp_path / "cutouts.zarr")
    assert str(caught.value) == f"{tmp_path}/cutouts.zarr is not a store of cutouts. Run the scan first."


@pytest.mark.parametrize(("name", "file"), [("image", "c.1.0.0.0"), ("step", "c.1.0")])
def test_a_missing_partition_is_an_error_not_fill_values(tmp_path, name, file):
    path = tmp_path / "cutouts.zarr"
    make(path, "int16")
    (path / name / file).unlink()
    reader = store.Reader(path)
    reader.read(0, 256)
    reader.read(512, N)
    with pytest.raises(RunError) as caught:
        reader.read(250, 260)
    assert str(caught.value) == (
        f"partition 1 of {path} is not there (no {name}/{file}). "
        f"Cut it again: survey_scan partition {tmp_path} cutouts 1"
    )


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_every_wrong_byte_is_told(tmp_path, dtype):
    path = tmp_path / "cutouts.zarr"
    make(path, dtype)
    reader = store.Reader(path)
    rng = np.random.default_rng(0)
    arrays = [("image", "c.1.0.0.0"), ("step", "c.1.0")] if dtype == "int16" else [("image", "c.1.0.0.0")]
    for name, file in arrays:
        shard = path / name / file
        whole = shard.read_bytes()
        for at in [*rng.integers(0, len(whole), 25).tolist(), len(whole) - 1]:
            broken = bytearray(whole)
            broken[at] ^= 1 << int(rng.integers(8))
            shard.write_bytes(broken)
            with pytest.raises(RunError) as caught:
                reader.read(256, 512)
            assert str(caught.value).startswith(f"{shard} is damaged, in partition 1 (")
            assert str(caught.value).endswith(f"). Cut it again: survey_scan partition {tmp_path} cutouts 1")
        shard.write_bytes(whole)
        reader.read(256, 512)


@pytest.mark.parametrize("keep", [0, 3, 200, -1])
def test_a_truncated_shard_is_told(tmp_path, keep):
    path = tmp_path / "cutouts.zarr"
    make(path)
    shard = path / "image" / "c.1.0.0.0"
    shard.write_bytes(shard.read_bytes()[:keep])
    with pytest.raises(RunError) as caught:
        store.Reader(path).read(256, 512)
    assert str(caught.value).startswith(f"{shard} is damaged, in partition 1 (")


# writing


def test_create_refuses_what_is_there(tmp_path):
    path = tmp_path / "cutouts.zarr"
    make(path)
    before = files(path)
    with pytest.raises(RunError) as caught:
        store.create(path, N, spec(), np.int64, {})
    assert str(caught.value) == f"{path} exists already. Move it away, or delete it to cut all targets again."
    assert files(path) == before


def test_create_is_whole_or_not_at_all(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(zarr, "consolidate_metadata", full)
    with pytest.raises(OSError):
        store.create(tmp_path / "cutouts.zarr", N, spec(), np.int64, {})
    assert list(tmp_path.iterdir()) == []


def test_writing_again_gives_the_same_bytes_and_touches_nothing_else(tmp_path):
    path = tmp_path / "cutouts.zarr"
    make(path, "int16")
    before = files(path)
    shard = path / "image" / "c.1.0.0.0"
    shard.write_bytes(b"torn")  # zarr itself would read it before it writes it, and fail
    (path / "image" / "partial" / f"1.{'a' * 32}.partial").write_bytes(b"left by a killed writer")
    (path / "image" / "partial" / f"12.{'b' * 32}.partial").write_bytes(b"of another partition")
    inodes = {name: (path / name).stat().st_ino for name in before if ".1" not in name}
    write(path, 1)
    assert (path / "image" / "partial" / f"12.{'b' * 32}.partial").exists()
    (path / "image" / "partial" / f"12.{'b' * 32}.partial").unlink()
    assert files(path) == before
    assert inodes == {name: (path / name).stat().st_ino for name in inodes}


def test_the_old_partition_is_gone_before_the_new_one_is_written(tmp_path, monkeypatch):
    path = tmp_path / "cutouts.zarr"
    make(path, "int16")

    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError) as caught:
        write(path, 1)
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{path}/image/c.1.0.0.0'"
    assert not [name for name in files(path) if ".1" in name or "partial" in name]
    with pytest.raises(RunError):
        store.Reader(path).read(256, 257)


def test_processes_that_write_different_partitions_lose_nothing(tmp_path):
    path = tmp_path / "cutouts.zarr"
    image = np.concatenate([cut.image for cut in make(path)])
    context = get_context("spawn")
    jobs = [context.Process(target=store_writer.write_again, args=(str(path), p)) for p in range(3)]
    for job in jobs:
        job.start()
    for job in jobs:
        job.join(120)
        assert job.exitcode == 0
    np.testing.assert_array_equal(store.Reader(path).pixels(0, N), image)
    assert not list((path / "image" / "partial").iterdir())


def test_a_killed_writer_leaves_no_torn_shard(tmp_path):
    path = tmp_path / "cutouts.zarr"
    big = Spec(bands=["g", "r", "z"], size=64, partition=1024)
    store.create(path, 1024, big, np.int64, {})
    code = f"""
import numpy as np
from pathlib import Path
from survey_scan import store
from survey_scan.imaging.base import Cutouts
cut = Cutouts(np.ones((1024, 64, 64, 3), np.float32), np.zeros(1024, np.uint8), np.zeros((1024, 3), np.float32))
print("ready", flush=True)
while True:
    store.write(Path({str(path)!r}), 0, np.arange(1024), np.zeros(1024), np.zeros(1024), cut)
"""
    outcomes = set()
    for delay in np.linspace(0, 0.25, 6):
        writer = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert writer.stdout is not None and writer.stdout.readline() == "ready\n"
        time.sleep(delay)
        writer.send_signal(signal.SIGKILL)
        writer.communicate()
        if (path / "image" / "c.0.0.0.0").exists():
            assert (store.Reader(path).read(0, 1024).image == 1).all()
            outcomes.add("whole")
        else:
            outcomes.add("absent")
    cut = Cutouts(np.zeros((1024, 64, 64, 3), np.float32), np.zeros(1024, np.uint8), np.zeros((1024, 3), np.float32))
    store.write(path, 0, np.arange(1024), np.zeros(1024), np.zeros(1024), cut)
    assert (store.Reader(path).read(0, 1024).image == 0).all()
    assert not list((path / "image" / "partial").iterdir())


def test_the_pipeline_of_the_user_is_never_written_with(tmp_path):
    """The zarrs pipeline leaves torn shards; files are written here, whatever zarr is told to use."""
    path = tmp_path / "cutouts.zarr"
    store.create(path, N, spec(), np.int64, {})
    with zarr.config.set({"codec_pipeline.path": "no.such.Pipeline"}):
        write(path, 0)
    assert store.Reader(path).read(0, 256).image.shape == (256, 5, 5, 2)


def test_metadata_are_small_and_say_which_codecs(tmp_path):
    path = tmp_path / "cutouts.zarr"
    make(path, "int16")
    metadata = json.loads((path / "image" / "zarr.json").read_text())
    (sharding,) = metadata["codecs"]
    assert sharding["name"] == "sharding_indexed" and sharding["configuration"]["index_location"] == "end"
    assert [codec["name"] for codec in sharding["configuration"]["codecs"]] == ["bytes", "blosc", "crc32c"]
    assert metadata["chunk_key_encoding"] == {"name": "default", "configuration": {"separator": "."}}
    assert metadata["fill_value"] == -32768


@pytest.mark.parametrize(
    ("zero_points", "unit", "common", "said"),
    [
        ({"g": 22.5, "r": 22.5}, "nanomaggy", None, {"zero_point": 22.5, "unit": "nanomaggy"}),
        ({"r": 0.0, "Z": 30.0}, None, None, {"zero_point": {"r": 0.0, "Z": 30.0}, "unit": None}),
        ({"g": None, "r": None}, None, None, {"zero_point": None, "unit": None}),
        ({"g": 30.0, "r": None}, "adu", None, {"zero_point": {"g": 30.0, "r": None}, "unit": "adu"}),
        (
            {"r": 0.0, "Z": 30.0}, "adu", 22.5,
            {"zero_point": 22.5, "unit": "nanomaggy", "zero_point_of_images": {"r": 0.0, "Z": 30.0}},
        ),
        ({"g": 30.0}, "adu", 25.0, {"zero_point": 25.0, "unit": None, "zero_point_of_images": {"g": 30.0}}),
    ],
)  # fmt: skip
def test_what_a_pixel_means(zero_points, unit, common, said):
    assert store.flux_scale(zero_points, unit, common) == said | {
        "magnitude": "magnitude = zero_point - 2.5 log10(flux)"
    }
