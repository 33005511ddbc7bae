"""Signals, and partitions that fail: the command as its user starts it."""

import json
import os
import signal
import time

import pandas as pd
import pytest
import small_survey
from kill import finished, read_events


@pytest.fixture
def survey(tmp_path):
    made = small_survey.make(tmp_path / "survey", n_objects=9000)
    made.edit(cutouts={"size": 48})
    return made


def wait_for(process, run, wanted) -> None:
    """Wait until the run's events satisfy a condition."""
    deadline = time.monotonic() + 120
    while not wanted(read_events(run)):
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.mark.parametrize(
    "name", ["SIGUSR1", pytest.param("SIGINT", marks=pytest.mark.slow), pytest.param("SIGTERM", marks=pytest.mark.slow)]
)
def test_a_signal_to_the_group_stops_gracefully_and_the_next_start_resumes(survey, name):
    run = survey.folder / "runs" / "lrg"
    process = survey.command("run", "lrg.yaml")
    wait_for(process, run, lambda events: sum(e["event"] == "finished" for e in events) >= 3)
    os.killpg(process.pid, getattr(signal, name))  # as a terminal or Slurm does
    out, err = process.communicate(timeout=120)
    assert process.returncode == 3, (out, err)
    assert f"{name}: finishing the partitions in flight; once more stops at once." in out.splitlines()
    assert err == f"stopped by {name}; run the same command again to resume.\n"
    before = finished(run)
    assert len(before) >= 3
    assert not (run / "run.lock").exists()
    code, said, _ = survey.call("status", "runs/lrg", "--json")
    assert json.loads(said)["state"] == "incomplete"
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, err
    after = finished(run)
    assert all(after[record] == content for record, content in before.items())
    assert len(pd.read_parquet(run / "candidates.parquet")) == 500


@pytest.mark.slow
def test_a_second_signal_stops_at_once(survey):
    run = survey.folder / "runs" / "lrg"
    process = survey.command("run", "lrg.yaml")
    wait_for(process, run, lambda events: any(e["event"] == "finished" for e in events))
    process.send_signal(signal.SIGINT)
    time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 3
    assert err.splitlines()[-1] in (
        "SIGINT: stopped at once; run the same command again to resume.",
        "stopped by SIGINT; run the same command again to resume.",  # it had ended before the second came
    )
    assert not (run / "run.lock").exists()


@pytest.mark.slow
def test_a_signal_during_the_plan(survey):
    run = survey.folder / "runs" / "lrg"
    process = survey.command("run", "lrg.yaml")
    wait_for(process, run, lambda events: any(e.get("stage") == "plan" for e in events))
    process.send_signal(signal.SIGTERM)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (3, "stopped by SIGTERM; run the same command again to resume.\n")
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, err


@pytest.mark.slow
def test_a_partition_that_fails_is_named_and_the_others_are_finished(survey):
    run = survey.folder / "runs" / "lrg"
    code, out, err = survey.call("plan", "lrg.yaml")
    assert code == 0, err
    good = (run / "targets" / "part-00003.parquet").read_bytes()
    (run / "targets" / "part-00003.parquet").write_bytes(b"not parquet")
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 3
    assert err.splitlines()[0] == "1 partitions failed, the others are finished:"
    assert err.splitlines()[1].startswith("  cutouts 00003: ArrowInvalid: ")
    assert err.splitlines()[2] == f"    try it alone: survey_scan partition {run} cutouts 3"
    assert err.splitlines()[-1] == "Run the same command again to try these 1 cutouts once more."
    code, said, _ = survey.call("status", "runs/lrg", "--json")
    stages = json.loads(said)["stages"]
    assert stages["cutouts"]["reasons"] == {"new": 1} == stages["scores"]["reasons"]
    (run / "targets" / "part-00003.parquet").write_bytes(good)
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, err
    assert "cutouts     1 to do (1 new), 31 done" in out.splitlines()


@pytest.mark.slow
def test_a_partition_that_kills_its_worker_is_named(survey, tmp_path, monkeypatch):
    """A partition whose reading kills: it is tried four times, then named, and the others are finished."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'spawn_main' in ' '.join(sys.orig_argv):\n"
        "    from survey_scan.engine import tasks\n"
        "    whole = tasks.cutouts\n"
        "    def cutouts(path, partition, key):\n"
        "        if partition == 3:\n"
        "            os.kill(os.getpid(), 9)\n"
        "        return whole(path, partition, key)\n"
        "    tasks.cutouts = cutouts\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 3, (out, err)
    assert err.splitlines()[:2] == [
        "1 partitions failed, the others are finished:",
        "  cutouts 00003 killed its worker 4 times",
    ]
    monkeypatch.delenv("PYTHONPATH")
    assert survey.call("run", "lrg.yaml")[0] == 0


@pytest.mark.slow
def test_two_drivers_on_one_run(survey):
    run = survey.folder / "runs" / "lrg"
    process = survey.command("run", "lrg.yaml")
    wait_for(process, run, lambda events: bool(events))
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 2
    assert err.startswith(f"{run} is in use by pid {process.pid} on ")
    code, out, _ = survey.call("status", "runs/lrg", "--json")
    assert json.loads(out)["state"] == "running"
    assert json.loads(out)["driver"]["pid"] == process.pid
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)


@pytest.mark.slow
def test_a_full_disk_stops_the_scan_and_says_so(survey, tmp_path):
    """A real full disk: a file system of two megabytes."""
    import subprocess

    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=30m", "tmpfs", str(small)], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs to mount a small file system, which takes root")
    try:
        code, out, err = survey.call("run", "lrg.yaml", "--set", f"run.directory={small}")
        assert code == 3, (out, err)
        assert "No space left on device" in err
        assert err.rstrip().endswith(
            "Free some space (or move run.directory) and run the same command again to resume."
        )
        subprocess.run(["mount", "-o", "remount,size=500m", str(small)], check=True)
        code, out, err = survey.call("run", "lrg.yaml", "--set", f"run.directory={small}")
        assert code == 0, err
        assert len(pd.read_parquet(small / "lrg" / "candidates.parquet")) == 500
    finally:
        subprocess.run(["umount", "-l", str(small)], check=True)


@pytest.mark.slow
def test_a_gpu_that_fails_costs_its_worker_and_one_try(survey, tmp_path, monkeypatch):
    """The process of a failed GPU is of no more use: it ends, and the partition is scored by another one."""
    (tmp_path / "sitecustomize.py").write_text(
        "import os, sys\n"
        "if 'spawn_main' in ' '.join(sys.orig_argv):\n"
        "    from survey_scan import scores\n"
        "    from survey_scan.models import DeviceLost\n"
        "    whole = scores.score_partition\n"
        "    def score_partition(reader, start, stop, networks, cascade):\n"
        "        if start == 5 * 256 and not os.path.exists(os.environ['FAILED']):\n"
        "            open(os.environ['FAILED'], 'w').close()\n"
        "            raise DeviceLost('CUDA_ERROR_ECC_UNCORRECTABLE')\n"
        "        return whole(reader, start, stop, networks, cascade)\n"
        "    scores.score_partition = score_partition\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FAILED", str(tmp_path / "failed"))
    code, out, err = survey.call("run", "lrg.yaml")
    assert code == 0, err
    assert (tmp_path / "failed").exists()
    assert "scores 00005: the GPU failed: CUDA_ERROR_ECC_UNCORRECTABLE; this worker ends." in err
    done = [
        (e["stage"], e["partition"]) for e in read_events(survey.folder / "runs" / "lrg") if e["event"] == "finished"
    ]
    assert len(done) == len(set(done)) == 2 * 32
