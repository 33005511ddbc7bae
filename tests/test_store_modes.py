"""``cutouts.store``: the same scores and candidates whether all pixels are kept, those of candidates, or none."""

import json
import os
import re
import shutil
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_survey
import xarray
import zarr
from click.testing import CliRunner
from kill import finished, read_events
from store_writer import IDS, N, cutouts, rows

from survey_scan import store
from survey_scan.cli import main
from survey_scan.cluster.pools import Pools
from survey_scan.config import Cutouts as Spec
from survey_scan.config_file import load
from survey_scan.engine import memory, state
from survey_scan.errors import RunError
from survey_scan.store import shards, single

ABOVE = 0.25
MODES = {
    "all": (),
    "candidates": ("cutouts.store=candidates", f"cutouts.above={ABOVE}"),
    "none": ("cutouts.store=none",),
}


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def run(survey: small_survey.SmallSurvey, mode: str, *more: str, name: str | None = None, code: int = 0) -> str:
    sets = [f"run.name={name or mode}", *MODES[mode]]
    words = [word for one in sets for word in ("--set", one)]
    return call("run", survey.config, *words, *more, code=code)


@pytest.fixture(scope="module", params=["float32", "int16"])
def scanned(request, scheduler, tmp_path_factory):
    """A survey scanned in all three ways: the folder of its runs, and what was printed. Tests must not change it."""
    survey = small_survey.make(tmp_path_factory.mktemp("modes") / "survey", n_objects=1200)
    survey.edit(cutouts={"dtype": request.param})
    return survey, {mode: run(survey, mode, "--scheduler", scheduler) for mode in MODES}


def same(one: Path, other: Path) -> None:
    """Candidates and all score tables are the same, byte for byte."""
    assert (one / "candidates.parquet").read_bytes() == (other / "candidates.parquet").read_bytes()
    tables = sorted((one / "scores").iterdir())
    assert tables
    for table in tables:
        assert table.read_bytes() == (other / "scores" / table.name).read_bytes(), table.name


# whole scans


def test_scores_and_candidates_are_the_same_bytes(scanned):
    survey, said = scanned
    runs = survey.folder / "runs"
    for mode in ("candidates", "none"):
        same(runs / "all", runs / mode)
        assert json.loads(call("verify", runs / mode, "--json"))["ok"]
    assert not (runs / "none" / "cutouts.zarr").exists()
    assert "kept        no cutouts (cutouts.store: none)" in said["none"].splitlines()
    counts = {mode: json.loads(call("status", runs / mode, "--json"))["counts"] for mode in MODES}
    planned = counts["all"]["planned"]
    assert counts["none"] == counts["all"] | {"kept": 0} and counts["all"]["kept"] == planned
    candidates = pd.read_parquet(runs / "all" / "candidates.parquet")
    without = int((candidates["logit"] < ABOVE).sum())
    assert 0 < without < 500
    kept = counts["candidates"]["kept"]
    assert counts["candidates"] == counts["all"] | {"kept": kept} and 0 < kept < planned
    assert (
        f"kept        {kept:,} of {planned:,} cutouts, those with a logit of at least 0.25; {without} of 500 candidates "
        "have none" in said["candidates"].splitlines()
    )
    ok = f"cutouts     {counts['all']['cutouts_ok']:,} ok"
    for mode, end in {"all": "", "candidates": f"; pixels kept of {kept:,}", "none": "; pixels kept of 0"}.items():
        (line,) = (one for one in call("status", runs / mode).splitlines() if one.startswith(ok))
        assert line.endswith(end) and ("kept" in line) == bool(end)


def test_kept_pixels_are_those_of_all(scanned):
    survey, _ = scanned
    runs = survey.folder / "runs"
    whole, some = store.Reader(runs / "all" / "cutouts.zarr"), store.Reader(runs / "candidates" / "cutouts.zarr")
    n = whole.n_targets
    kept = some.kept(0, n)
    logit = pd.concat([pd.read_parquet(p) for p in sorted((runs / "all" / "scores").iterdir())])["logit"].to_numpy()
    np.testing.assert_array_equal(kept, logit >= np.float32(ABOVE))
    for name in ("object_id", "ra", "dec", "status", "bad_fraction"):
        np.testing.assert_array_equal(whole.column(name, 0, n), some.column(name, 0, n))
    everything, read = whole.read(0, n), some.read(0, n)
    np.testing.assert_array_equal(read.image[kept], everything.image[kept])
    if read.step is not None:
        np.testing.assert_array_equal(read.step, everything.step)
    assert np.isnan(some.pixels(0, n)[~kept]).all()
    row = int(np.flatnonzero(kept)[0])
    np.testing.assert_array_equal(single.pixels(some, row), single.pixels(whole, row))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with xarray.open_zarr(runs / "candidates" / "cutouts.zarr", consolidated=False, mask_and_scale=False) as opened:
            np.testing.assert_array_equal(opened["image"][:n].values[kept], everything.image[kept])
            np.testing.assert_array_equal(opened["kept"].values[:n], kept)
        array = zarr.open(runs / "candidates" / "cutouts.zarr", mode="r")["image"]
        np.testing.assert_array_equal(array[:n], read.image)


def test_what_needs_pixels_says_that_there_are_none(scanned, tmp_path):
    survey, _ = scanned
    none = survey.folder / "runs" / "none"
    why = (
        f"{none} kept no cutouts (cutouts.store: none), and this needs their pixels. Set cutouts.store to candidates or all, "
        "and cut again: survey_scan run CONFIG --redo cutouts\n"
    )
    assert call("export", none, "--format", "cutouts", "--out", tmp_path / "c", code=2) == why
    assert call("export", none, "--format", "zooniverse", "--out", tmp_path / "z", code=2) == why
    assert call("grade", none, code=2) == why
    page = (none / "report.html").read_text()
    assert (
        "There are no pictures: this scan kept no cutouts (cutouts.store: none)." in page
        and 'alt="candidate ' not in page
    )
    best = pd.read_parquet(none / "candidates.parquet").iloc[0]
    found = json.loads(call("inspect", none, best["object_id"], "--json"))
    assert found["cutout"] == {"status": 0, "reason": "ok", "bad_fraction": {}, "kept": False} and found["rank"] == 1
    assert "cutout       ok; its pixels were not kept" in call("inspect", none, best["object_id"]).splitlines()
    assert "cutouts.image" not in (none / "README.txt").read_text()


def test_what_shows_candidates_leaves_out_those_without_pixels(scanned, tmp_path):
    survey, _ = scanned
    some = survey.folder / "runs" / "candidates"
    candidates = pd.read_parquet(some / "candidates.parquet")
    n = int((candidates["logit"] < ABOVE).sum())
    said = call("export", some, "--format", "cutouts", "--out", tmp_path / "c").splitlines()
    why = "their logit is below 0.25 (cutouts.above), and their cutouts were not kept"
    assert f"left out    {n} of 500 candidates: {why}" in said
    assert len(list((tmp_path / "c").glob("*.fits"))) == 500 - n
    last = str(candidates["object_id"].iloc[-1])
    assert call("export", some, "--format", "cutouts", "--ids", last, "--out", tmp_path / "d", code=2) == (
        f"all 1 candidates lack a picture: {why}. Lower it, and cut again: survey_scan run CONFIG --redo cutouts\n"
    )
    page = (some / "report.html").read_text()
    assert "Pictures are of candidates with a logit of at least 0.25: other cutouts were not kept." in page
    assert page.count('alt="candidate ') + page.count("not kept</div>") == 100
    assert json.loads(call("inspect", some, last, "--json"))["cutout"]["kept"] is False


def test_what_is_not_scored_is_cut_again(scanned, scheduler, tmp_path):
    survey, _ = scanned
    for mode in ("candidates", "none"):
        copy = survey.folder / "runs" / f"again-{mode}"
        shutil.copytree(survey.folder / "runs" / mode, copy)
        (copy / "records" / "scores" / "00002.json").unlink()
        (copy / "scores" / "part-00002.parquet").unlink()
        said = run(survey, mode, "--scheduler", scheduler, name=copy.name).splitlines()
        assert "cutouts     1 to do (1 again, whose pixels were not kept), 4 done" in said
        assert "scores      1 to do (1 new), 4 done" in said
        same(survey.folder / "runs" / "all", copy)
        said = run(survey, mode, "--scheduler", scheduler, "--redo", "scores", name=copy.name).splitlines()
        assert "cutouts     5 to do (5 again, whose pixels were not kept), 0 done" in said
        same(survey.folder / "runs" / "all", copy)
        assert run(survey, mode, "--scheduler", scheduler, name=copy.name).startswith(
            f"{copy} is complete: nothing to do"
        )
        # one by hand: both stages, whichever is named
        (copy / "scores" / "part-00003.parquet").write_bytes(b"")
        by_hand = call("partition", copy, "scores", "3").splitlines()
        assert [line.split(":")[0] for line in by_hand if not line.startswith(" ")] == ["cutouts 00003", "scores 00003"]
        same(survey.folder / "runs" / "all", copy)
        assert json.loads(call("verify", copy, "--json"))["ok"]
        shutil.rmtree(copy)


def test_another_mode_is_another_run(scanned, scheduler):
    survey, _ = scanned
    none = survey.folder / "runs" / "none"
    assert run(survey, "all", "--scheduler", scheduler, name="none", code=2) == (
        f"{none} was planned with cutouts.store none; the config says all. Use a new run.name, or --redo cutouts.\n"
    )
    assert "cutouts.store all; the config says candidates; cutouts.above None; the config says 0.25" in run(
        survey, "candidates", "--scheduler", scheduler, name="all", code=2
    )


def test_verify_sees_which_are_kept(scanned, tmp_path):
    survey, _ = scanned
    copy = tmp_path / "copy"
    shutil.copytree(survey.folder / "runs" / "candidates", copy)
    there = sorted(int(file.name.split(".")[1]) for file in (copy / "cutouts.zarr" / "image").glob("c.*"))
    flagged, broken, gone = there[:3]
    flags = copy / "cutouts.zarr" / "kept" / f"c.{flagged}"
    data = bytearray(flags.read_bytes()[:256])
    data[data.index(1)] = 0
    flags.write_bytes(b"".join(shards.checked(bytes(data))))
    said = call("verify", copy, code=3).splitlines()
    assert f"cutouts {flagged:05d}: other cutouts are kept than those with a logit of at least 0.25" in said
    shard = copy / "cutouts.zarr" / "image" / f"c.{broken}.0.0.0"
    content = bytearray(shard.read_bytes())
    content[40] ^= 1
    shard.write_bytes(content)
    (copy / "cutouts.zarr" / "image" / f"c.{gone}.0.0.0").unlink()
    said = call("verify", copy, code=3)
    damaged = rf"cutouts {broken:05d}: .* is damaged, in partition {broken} \(the checksum of cutout \d+ differs\)"
    assert re.search(damaged, said)
    assert f"cutouts {gone:05d}: partition {gone} of" in said and f"is not there (no image/c.{gone}.0.0.0)" in said


@pytest.mark.slow
def test_two_pools(tmp_path):
    """CPU workers cut, others score, as with GPUs: pixels travel between processes."""
    from distributed import Nanny, Scheduler, SpecCluster

    survey = small_survey.make(tmp_path / "survey", n_objects=1200)
    survey.edit(cutouts={"dtype": "int16"})
    options = {"nthreads": 1, "preload": ["survey_scan.cluster.worker"], "dashboard_address": None}
    workers = {
        **{i: {"cls": Nanny, "options": {**options, "resources": {"cutouts": 1}}} for i in range(2)},
        2: {"cls": Nanny, "options": {**options, "nthreads": 2, "resources": {"scores": 2}}},
    }
    scheduler = {"cls": Scheduler, "options": {"dashboard_address": "127.0.0.1:0", "host": "127.0.0.1"}}
    with SpecCluster(workers=workers, scheduler=scheduler) as cluster:
        for mode in MODES:
            said = run(survey, mode, "--scheduler", cluster.scheduler_address)
            assert "kept" in said or mode == "all"
        for mode in ("candidates", "none"):
            same(tmp_path / "survey" / "runs" / "all", tmp_path / "survey" / "runs" / mode)
        with cluster.get_client() as client:
            assert not client.run_on_scheduler(
                lambda dask_scheduler: sum(ts.nbytes or 0 for ts in dask_scheduler.tasks.values())
            )


# failures


@pytest.fixture
def survey(tmp_path):
    made = small_survey.make(tmp_path / "survey", n_objects=1200)
    made.edit(cutouts={"store": "none"})
    return made


def test_a_failure_is_that_of_its_stage(survey, scheduler):
    folder = survey.folder / "runs" / "lrg"
    call("plan", survey.config, "--scheduler", scheduler)
    good = (folder / "targets" / "part-00001.parquet").read_bytes()
    (folder / "targets" / "part-00001.parquet").write_bytes(b"not parquet")
    (folder / "scores" / "part-00002.parquet").mkdir(parents=True)
    said = call("run", survey.config, "--scheduler", scheduler, "--set", "resources.retries=1", code=3).splitlines()
    at = said.index("2 partitions failed, the others are finished:")
    assert {line.split(": ")[0] for line in said[at + 1 : at + 5 : 2]} == {"  cutouts 00001", "  scores 00002"}
    assert {line for line in said[at + 2 : at + 6 : 2]} == {
        f"    try it alone: survey_scan partition {folder} cutouts 1",
        f"    try it alone: survey_scan partition {folder} scores 2",
    }
    now = json.loads((folder / "logs" / "now.json").read_text())
    assert {(f["stage"], f["partition"]) for f in now["failures"]} == {("cutouts", 1), ("scores", 2)}
    assert all(stage["running"] == 0 for stage in now["stages"].values())
    stages = json.loads(call("status", folder, "--json"))["stages"]
    assert stages["cutouts"]["reasons"] == {"new": 2} == stages["scores"]["reasons"]
    (folder / "targets" / "part-00001.parquet").write_bytes(good)
    (folder / "scores" / "part-00002.parquet").rmdir()
    said = call("run", survey.config, "--scheduler", scheduler).splitlines()
    assert "cutouts     2 to do (2 new), 3 done" in said


KILLS_ITSELF = """
import os, sys, time
if 'spawn_main' in ' '.join(sys.orig_argv):
    from survey_scan.engine import tasks
    whole = tasks.{function}
    def {function}(path, partition, *more):
        if partition == 3 and not {unless}:
            time.sleep({seconds})  # a worker that dies while its nanny still starts it is never started again
            with open(os.environ['KILLED'], 'a') as file:
                file.write('x')
            os.kill(os.getpid(), 9)
        return whole(path, partition, *more)
    tasks.{function} = {function}
"""


@pytest.mark.slow
@pytest.mark.parametrize(("function", "stage"), [("hold", "cutouts"), ("score_held", "scores")])
def test_what_kills_its_worker_is_named(survey, tmp_path, monkeypatch, function, stage):
    """Four times, then it is named; what lay in the killed workers' memory is made again."""
    (tmp_path / "sitecustomize.py").write_text(KILLS_ITSELF.format(function=function, unless="False", seconds=6))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(store.__file__).parents[2])]))
    monkeypatch.setenv("KILLED", str(tmp_path / "killed"))
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 3, (out, err)
    assert err.splitlines()[:2] == [
        "1 partitions failed, the others are finished:",
        f"  {stage} 00003 killed its worker 4 times",
    ]
    done = [
        (e["stage"], e["partition"]) for e in read_events(survey.folder / "runs" / "lrg") if e["event"] == "finished"
    ]
    assert sorted(done) == sorted((s, p) for s in ("cutouts", "scores") for p in (0, 1, 2, 4))


@pytest.mark.slow
@pytest.mark.parametrize("function", ["hold", "score_held"])
def test_a_worker_that_dies_once_costs_nothing_but_time(survey, tmp_path, monkeypatch, function):
    once = "os.path.exists(os.environ['KILLED'])"
    (tmp_path / "sitecustomize.py").write_text(KILLS_ITSELF.format(function=function, unless=once, seconds=0))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), str(Path(store.__file__).parents[2])]))
    monkeypatch.setenv("KILLED", str(tmp_path / "killed"))
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, (out, err)
    assert (tmp_path / "killed").read_text() == "x"
    monkeypatch.delenv("PYTHONPATH")
    call("run", survey.config, "--set", "run.name=all", "--set", "cutouts.store=all")
    same(survey.folder / "runs" / "all", survey.folder / "runs" / "lrg")


@pytest.mark.slow
def test_a_stop_finishes_what_is_held(tmp_path):
    """A signal: partitions in memory are scored, none is lost; the next start does the others."""
    survey = small_survey.make(tmp_path / "survey", n_objects=9000)
    survey.edit(cutouts={"size": 48, "store": "candidates", "above": 0})
    folder = survey.folder / "runs" / "lrg"
    process = survey.command("run", "lrg.yaml")
    deadline = time.monotonic() + 120
    while sum(e["event"] == "finished" for e in read_events(folder)) < 3:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGUSR1)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, (out, err)
    before = finished(folder)
    assert {name.replace("cutouts", "scores") for name in before} == {name for name in before if "scores" in name}
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, err
    after = finished(folder)
    assert all(after[record] == content for record, content in before.items())


# parts


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            {"store": "candidates"},
            "'store: candidates' needs 'above', the logit from which on a target's cutout is kept",
        ),
        ({"above": 2.0}, "'above' goes with 'store: candidates', not with 'store: all': remove one of them"),
        (
            {"store": "none", "above": 1},
            "'above' goes with 'store: candidates', not with 'store: none': remove one of them",
        ),
    ],
)
def test_above_and_candidates_go_together(given, text):
    with pytest.raises(ValueError, match=re.escape(text)):
        Spec(bands=["g"], size=8, **given)


def test_runs_of_before_keep_their_keys(tmp_path):
    survey = small_survey.make(tmp_path / "survey", n_objects=50)
    config = load(survey.config)
    assert state._section(config, "cutouts") == {
        "bands": ["g", "r"], "size": 20, "dtype": "float32", "max_bad_fraction": 0.1, "partition": 256
    }  # fmt: skip
    survey.edit(cutouts={"store": "candidates", "above": 1.5})
    found = state._section(load(survey.config), "cutouts")
    assert (found["store"], found["above"]) == ("candidates", 1.5)


def held(partition: int, dtype: str) -> store.Held:
    some = rows(partition)
    return store.hold(IDS[some], cutouts(partition, some.stop - some.start), dtype)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_a_store_of_some(tmp_path, dtype):
    """Partition 0 keeps a few, 1 none, 2 its last alone."""
    path, spec = (
        tmp_path / "cutouts.zarr",
        Spec(bands=["g", "r"], size=5, partition=256, dtype=dtype, store="candidates", above=2),
    )
    store.create(path, N, spec, IDS.dtype, {"kept_by": ["logit"]})
    chosen = np.zeros(N, bool)
    chosen[[3, 4, 200, N - 1]] = True
    everything = np.concatenate([held(p, dtype).image for p in range(3)])
    for p in range(3):
        some = rows(p)
        store.write_kept(path, p, np.arange(N)[some], np.arange(N)[some], held(p, dtype), chosen[some])
    files = {file.name for file in (path / "image").iterdir() if file.is_file()}
    assert files == {"zarr.json", "c.0.0.0.0", "c.2.0.0.0"}
    reader = store.Reader(path)
    assert not reader.whole and reader.attributes["above"] == 2
    np.testing.assert_array_equal(reader.kept(0, N), chosen)
    read = reader.read(0, N)
    np.testing.assert_array_equal(read.image[chosen], everything[chosen])
    assert read.image.dtype == dtype and np.isnan(reader.pixels(0, N)[~chosen]).all()
    np.testing.assert_array_equal(zarr.open(path, mode="r")["image"][:N], read.image)
    np.testing.assert_array_equal(single.pixels(reader, 200), reader.pixels(200, 201)[0])
    with pytest.raises(store.NotKept) as caught:
        single.pixels(reader, 5)
    assert str(caught.value) == (
        f"row 5 of {path} has no pixels: only cutouts with a logit of at least 2 were kept. Lower cutouts.above, and cut "
        "again: survey_scan run CONFIG --redo cutouts"
    )
    before = {file: file.read_bytes() for file in path.rglob("c.*")}
    store.write_kept(path, 0, np.arange(256), np.arange(256), held(0, dtype), chosen[:256])
    assert {file: file.read_bytes() for file in path.rglob("c.*")} == before
    (path / "image" / "c.0.0.0.0").unlink()
    with pytest.raises(RunError, match=r"partition 0 of .* is not there"):
        reader.read(0, 10)
    assert np.isnan(reader.pixels(5, 100)).all()  # none of these is kept


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_held_pixels_are_those_that_are_stored(tmp_path, dtype):
    path = tmp_path / "cutouts.zarr"
    store.create(path, N, Spec(bands=["g", "r"], size=5, partition=256, dtype=dtype), IDS.dtype, {})
    for p in range(3):
        some = rows(p)
        n = some.stop - some.start
        store.write(path, p, IDS[some], np.zeros(n), np.zeros(n), cutouts(p, n))
        stored, ours = store.Reader(path).read(some.start, some.stop), held(p, dtype)
        assert ours.image.tobytes() == stored.image.tobytes()
        assert (ours.step is None) == (stored.step is None)
        if ours.step is not None:
            assert ours.step.tobytes() == stored.step.tobytes()
        assert sys.getsizeof(ours) >= ours.image.nbytes


def test_memory_of_what_is_held(tmp_path):
    survey = small_survey.make(tmp_path / "survey", n_objects=50)
    survey.edit(cutouts={"size": 64, "partition": 4096})
    config, layout = load(survey.config), memory.Layout("RICE_1", (1000, 1000), (1, 1000))
    pixels = 4096 * 64**2 * 2 * 4

    def more(dtype: str, pools: Pools) -> dict[str, int]:
        spec = config.cutouts.model_copy(update={"dtype": dtype})
        plain = memory.project(config.model_copy(update={"cutouts": spec}), [layout], 0)
        spec = spec.model_copy(update={"store": "none"})
        streamed = memory.project(config.model_copy(update={"cutouts": spec}), [layout], 0, pools.held_by_one(2))
        return {stage: round((streamed[stage] - plain[stage]) / pixels, 2) for stage in plain}

    laptop = Pools({"cutouts": 4, "scores": 4}, {"cutouts": 4, "scores": 4}, {"cutouts": None, "scores": None}, True)
    node = Pools({"cutouts": 60, "scores": 4}, {"cutouts": 60, "scores": 8}, {"cutouts": None, "scores": None}, False)
    # float32 pixels are held where they were cut, and there is no other memory to cut into
    assert more("float32", laptop) == {"cutouts": 1, "scores": 1}
    assert more("int16", laptop) == {"cutouts": 1, "scores": 1}
    assert laptop.held(2) == 8 and node.held(2) == 136
    assert more("float32", node) == {"cutouts": 2, "scores": 3}
    assert more("int16", node) == {"cutouts": 1.5, "scores": 2}
