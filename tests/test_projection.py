import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from survey_scan import records, store
from survey_scan.cluster.projection import (
    Rates,
    Workers,
    measured,
    project,
    rates,
    stored_bytes,
    stored_files,
)
from survey_scan.cluster.projection_words import lines
from survey_scan.config import Cutouts as Spec
from survey_scan.imaging.base import Cutouts

PERLMUTTER = Workers(nodes=2, cutouts=112, scores=8, gpu=True)
GPU = Rates(400.0, 6000.0, "NVIDIA A100-SXM4-40GB", "nid001, 2026-11-20, 30 partitions")
CPU = Rates(400.0, 80.0, "CPU", "laptop, 2026-11-20, 6 partitions")


def projected(targets=8_000_000, rows=10**9, workers=PERLMUTTER, by=GPU, walltime=6 * 3600.0, dtype="float32"):
    return project(targets, rows, 64, 3, dtype, 4096, workers, by, walltime)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
@pytest.mark.parametrize("n", [1, 512, 1000])
def test_bytes_and_files_are_those_of_a_real_store(tmp_path, dtype, n):
    path, partition = tmp_path / "cutouts.zarr", 512
    spec = Spec(bands=["g", "r"], size=8, dtype=dtype, partition=partition)
    store.create(path, n, spec, np.int64, {})
    noise = np.random.default_rng(1).normal(size=(n, 8, 8, 2)).astype(np.float32)
    for p in range(-(-n // partition)):
        rows = slice(p * partition, min(n, (p + 1) * partition))
        m = len(range(n)[rows])
        cut = Cutouts(noise[rows], np.zeros(m, np.uint8), np.zeros((m, 2), np.float32))
        store.write(path, p, np.arange(n)[rows], np.zeros(m), np.zeros(m), cut)
    files = [file for file in path.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files if file.name != "zarr.json")
    assert len(files) == stored_files(n, dtype, partition)
    expected = stored_bytes(n, 8, 2, dtype, partition)
    if dtype == "int16":
        assert 0.2 * expected < size <= expected
    else:
        assert size == expected


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_bytes_and_files_of_a_store_of_some(tmp_path, dtype):
    path, n, partition = tmp_path / "cutouts.zarr", 1000, 512
    spec = Spec(bands=["g", "r"], size=8, dtype=dtype, partition=partition, store="candidates", above=0)
    store.create(path, n, spec, np.int64, {})
    kept = np.zeros(n, bool)
    kept[[5, 511, 600, 700, 999]] = True
    for p, rows in enumerate((slice(0, 512), slice(512, 1000))):
        m = rows.stop - rows.start
        cut = Cutouts(np.ones((m, 8, 8, 2), np.float32), np.zeros(m, np.uint8), np.zeros((m, 2), np.float32))
        store.write_kept(path, p, np.zeros(m), np.zeros(m), store.hold(np.arange(n)[rows], cut, dtype), kept[rows])
    files = [file for file in path.rglob("*") if file.is_file()]
    assert len(files) == stored_files(n, dtype, partition, "candidates")
    size = sum(file.stat().st_size for file in files if file.name != "zarr.json")
    assert size == stored_bytes(n, 8, 2, dtype, partition, "candidates", 5 / n)
    assert stored_bytes(n, 8, 2, dtype, partition, "none") == stored_files(n, dtype, partition, "none") == 0


def test_what_is_kept_is_said():
    def told(store, by=GPU):
        return lines(project(8_000_000, 10**9, 64, 3, "float32", 4096, PERLMUTTER, by, None, store))

    assert told("none")[2] == "disk        695.6 MB in 7,816 files"
    assert told("candidates")[2:4] == [
        "disk        1.1 GB in at most 21,502 files",
        "            and 49.2 kB for each cutout that is kept",
    ]
    by = Rates(400.0, 6000.0, GPU.device, GPU.where, kept=0.002)
    assert told("candidates", by)[2:4] == [
        "disk        1.9 GB in at most 21,502 files",
        "            with 0.20% of the cutouts kept (nid001, 2026-11-20, 30 partitions)",
    ]


def test_the_share_that_is_kept_is_that_of_the_records():
    record = {"targets": 100, "seconds": 2.0, "host": "a", "finished": "2026-01-02T08:00:00+0000"}
    assert rates({"cutouts": [{**record, "kept": 3}, {**record, "kept": 1}]}).kept == 0.02
    assert rates({"cutouts": [record]}).kept is None and rates({"cutouts": [{**record, "kept": 0}]}).kept is None


def test_rates_are_means_and_count_no_loading_of_networks():
    def record(seconds, targets=4096, **more):
        return {"targets": targets, "seconds": seconds, "host": "nid1", "finished": "2026-11-20T08:00:00+0000", **more}

    a100 = {"device": "A100", "device_seconds": 1.0}
    cut = [record(8.0), record(10.0), record(2.0, targets=4)]
    found = rates({"cutouts": cut, "scores": [record(4.0, **a100)] * 3 + [record(50.0)]})
    assert found == Rates(8196 / 20, 4096.0, "A100", "nid1, 2026-11-20, 3 partitions")
    # on a CPU all of the time, but for the first of a worker that of loading; older records do not say that
    new = [
        record(12.0, device="CPU", device_seconds=3.0, load_seconds=8.0),
        record(4.0, device="CPU", load_seconds=0.0),
    ]
    assert rates({"scores": new}).scores == 1024.0
    assert rates({"scores": [record(12.0, device="CPU", device_seconds=4.0)]}).scores == 1024.0


def test_rates_of_old_records_and_of_none(tmp_path):
    record = {"targets": 100, "seconds": 2.0, "host": "a", "finished": "2026-01-02T08:00:00+0000"}
    records.write(tmp_path / "scores" / "00000.json", {"k": "1"}, record)
    assert measured(tmp_path) == Rates(None, 50.0, "CPU", "a, 2026-01-02, 1 partitions")
    assert rates({}) == Rates(None, None, "CPU", "nothing measured")


def test_lines():
    assert lines(projected()) == [
        "targets     8,000,000 in 1,954 partitions of 4,096",
        "workers     2 nodes: 112 for cutouts, 8 GPUs for scores",
        "disk        394.2 GB in 19,547 files",
        "cutouts     3 min, by 400 targets/s a thread (nid001, 2026-11-20, 30 partitions)",
        "scores      3 min, by 6,000 targets/s a GPU (nid001, 2026-11-20, 30 partitions)",
        "altogether  3 min: cutouts take longer",
        "GPU-hours   0.4",
        "walltime    6 h 0 min: it fits",
    ]


def test_rates_of_a_cpu_do_not_stand_for_a_gpu():
    assert (
        "            scores were measured on CPU (laptop, 2026-11-20, 6 partitions): a GPU will be faster; measure it "
        "with 'survey_scan run --limit 20000' in a short job" in lines(projected(by=CPU))
    )
    assert "scores were measured on NVIDIA A100" in "\n".join(lines(projected(workers=Workers(1, 4, 4, True), by=GPU)))
    assert "were measured" not in "\n".join(lines(projected()))


def test_what_is_not_measured_is_said():
    told = lines(projected(by=Rates(400.0, None, "CPU", "laptop")))
    assert "scores      not known: measure it with 'survey_scan run --limit 20000' in a short job" in told
    assert not [line for line in told if line.startswith(("altogether", "walltime"))]


def test_before_the_selection_all_rows_are_an_upper_limit():
    told = lines(project(None, 5_000_000, 64, 3, "int16", 4096, PERLMUTTER, GPU, None))
    assert told[0] == "targets     at most 5,000,000 in 1,221 partitions of 4,096"
    assert told[2].startswith("disk        at most 12")


def test_one_pool_does_one_thing_at_a_time():
    found = projected(workers=Workers(1, 4, 4, True), by=CPU)
    assert found.limits == "both"
    assert found.hours == pytest.approx(8e6 / 4 / 3600 * (1 / 400 + 1 / 80))
    assert "workers     1 node: 4 for both stages" in lines(found)
    assert lines(found)[-1] == "walltime    6 h 0 min: 2 jobs, each going on where the last one stopped"
    assert "altogether  8 h 20 min: both stages in turn on the same workers, scores 83% of it" in lines(found)
    assert not [line for line in lines(found) if line.startswith(("GPU-hours", "besides"))]


def test_what_any_scan_takes_besides():
    told = lines(project(2748, 0, 45, 3, "float32", 512, Workers(1, 2, 2, True), CPU, None, fixed_seconds=21.0))
    assert told[-2:] == [
        "besides     21 s: starting workers, the network, ranking, the report",
        "altogether  42 s: both stages in turn on the same workers, scores 83% of it",
    ]


def test_a_walltime_that_is_too_short():
    assert lines(projected(walltime=300.0))[-1] == "walltime    5 min: too short: starting and stopping take 10 min"


@given(
    st.integers(1, 10**9),
    st.integers(0, 10**6),
    st.integers(1, 4000),
    st.integers(1, 500),
    st.sampled_from(["float32", "float16", "int16"]),
    st.booleans(),
)
def test_more_targets_take_more_and_more_workers_less_time(targets, more, cutouts, scores, dtype, shared):
    base = Workers(4, cutouts, scores, shared, True)
    a = projected(targets, workers=base, dtype=dtype)
    b = projected(targets + more, workers=base, dtype=dtype)
    assert b.hours >= a.hours and b.data_bytes >= a.data_bytes and b.files >= a.files and b.jobs >= a.jobs
    assert a.data_bytes >= targets * 64 * 64 * 3 * np.dtype(dtype).itemsize
    c = projected(targets, workers=Workers(4, cutouts + 1, scores + 1, shared, True), dtype=dtype)
    assert c.hours < a.hours and c.jobs <= a.jobs
    assert a.hours >= max(a.cutouts_hours, a.scores_hours)
