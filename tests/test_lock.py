import json
import os
import re
import socket
import subprocess
import sys
import time

import pytest

from survey_scan.engine import lock
from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory


@pytest.fixture
def run(tmp_path):
    return RunDirectory(tmp_path / "lrg")


def test_held_and_released(run):
    assert lock.holder(run) is None
    with lock.held(run):
        assert lock.holder(run)["pid"] == os.getpid()
    assert not run.lock.exists()
    assert list(run.path.iterdir()) == []


def test_second_driver_is_refused_and_told_who(run):
    with lock.held(run):
        since = json.loads(run.lock.read_text())["since"]
        with pytest.raises(RunError) as error, lock.held(run):
            pass
        pid, host = os.getpid(), socket.gethostname()
        assert str(error.value) == (
            f"{run} is in use by pid {pid} on {host} since {since}. Wait until it ends, or stop it (kill {pid}); "
            f"'survey_scan status {run}' shows how far it is."
        )
        assert lock.holder(run)["pid"] == pid


def test_killed_holder_is_told_from_a_live_one(run):
    code = f"""
import os, signal
from pathlib import Path
from survey_scan.engine import lock
from survey_scan.layout import RunDirectory
with lock.held(RunDirectory(Path({str(run.path)!r}))):
    os.kill(os.getpid(), signal.SIGKILL)
"""
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert run.lock.exists()
    assert lock.holder(run) is None
    with lock.held(run):
        assert lock.holder(run)["pid"] == os.getpid()


def test_process_that_took_the_pid_of_a_dead_holder_is_not_the_holder(run):
    run.path.mkdir()
    mine = {"host": socket.gethostname(), "pid": os.getpid(), "started": 1.0, "slurm_job": None, "since": "14:02"}
    run.lock.write_text(json.dumps(mine))
    assert lock.holder(run) is None


def test_holder_on_another_host_lives_while_it_beats(run):
    run.path.mkdir()
    other = {"host": "nid001", "pid": 4411, "started": 1.0, "slurm_job": "99120", "since": "2026-11-21 14:02"}
    run.lock.write_text(json.dumps(other))
    with pytest.raises(RunError, match=re.escape("in use by pid 4411 on nid001 (slurm 99120) since 2026-11-21 14:02.")):
        with lock.held(run):
            pass
    long_ago = time.time() - lock.DEAD_AFTER_SECONDS - 1
    os.utime(run.lock, (long_ago, long_ago))
    with lock.held(run):
        assert lock.holder(run)["host"] == socket.gethostname()


def test_of_many_drivers_one_wins(run):
    code = f"""
import sys
from pathlib import Path
from survey_scan.engine import lock
from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
sys.stdin.readline()
try:
    with lock.held(RunDirectory(Path({str(run.path)!r}))):
        print("won", flush=True)
        sys.stdin.readline()
except RunError:
    print("refused", flush=True)
"""
    run.path.mkdir()
    dead = {"host": socket.gethostname(), "pid": 2**22 + 1, "started": 1.0, "slurm_job": None, "since": "x"}
    run.lock.write_text(json.dumps(dead))
    drivers = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    for driver in drivers:
        driver.stdin.write("go\n")
        driver.stdin.flush()
    said = [driver.stdout.readline().strip() for driver in drivers]  # the winner holds on until all have been told
    for driver in drivers:
        driver.communicate("end\n")
    assert sorted(said) == ["refused"] * 5 + ["won"]
