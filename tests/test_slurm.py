"""The demo's scan on a real Slurm: whatever happens to the job, the candidates are those of the undisturbed scan."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import pytest
import screenshot
import small_survey
import yaml
from kill import read_events
from slurm_cluster import SCRIPT, Slurm

pytestmark = [pytest.mark.slurm, pytest.mark.timeout(900)]

#: Twelve workers: one for scores, with a GPU, and three for cutouts on each of three nodes.
PROFILE = {
    "kind": "slurm-allocation",
    "gpu": {"workers": 1, "threads": 1, "cores": 1, "require": False},  # the GPUs are fake
    "cpu": {"workers": 3},
    "nanny": False,
    "batch": {
        "nodes": 3, "time": "20", "account": "m1234", "qos": "regular", "constraint": "gpu", "gpus_per_node": 4,
        "signal_seconds": 60, "options": ["--exclusive", "--mem=0"],
    },
}  # fmt: skip

#: Holds partitions from the fourth on until a file is there, so that a scan stands in its middle for as long as need be.
GATE = """
import os, sys, time
if "dask_worker" in " ".join(sys.orig_argv):
    from survey_scan.engine import tasks
    def gated(task):
        def run(path, partition, key):
            while partition >= int(os.environ["GATED_FROM"]) and not os.path.exists(os.environ["GATE"]):
                time.sleep(0.05)
            return task(path, partition, key)
        return run
    for stage in os.environ["GATED"].split():
        setattr(tasks, stage, gated(getattr(tasks, stage)))
"""


@pytest.fixture(scope="module")
def slurm():
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        pytest.skip("a Slurm of the tests' own needs root on Debian")
    cluster = Slurm(Path("/var/tmp/survey-scan-slurm"))
    cluster.script("up")
    yield cluster
    cluster.script("down")


@pytest.fixture(scope="module")
def demo(tmp_path_factory):
    """The demo's survey, network and configuration, in partitions of 256, and the candidates of a scan here."""
    from survey_scan.demo.survey import make_survey

    folder = tmp_path_factory.mktemp("demo")
    make_survey(folder / "survey")
    shutil.copytree(str(files("survey_scan.demo") / "model"), folder / "model")
    config = yaml.safe_load((files("survey_scan.demo") / "demo.yaml").read_text())
    config["cutouts"]["partition"] = 256
    config["resources"] = {"dashboard": 0, "workers": 2}
    (folder / "demo.yaml").write_text(yaml.safe_dump(config))
    words = [sys.executable, "-m", "survey_scan", "run", "demo.yaml", "--set", "run.name=here"]
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    return folder


@dataclass
class Scan:
    """A scan of the demo in Slurm jobs."""

    slurm: Slurm
    folder: Path
    name: str
    profile: dict
    gate: Path
    gated: str = "cutouts scores"
    gated_from: int = 4

    @property
    def run(self) -> Path:
        return self.folder / "runs" / self.name

    def call(self, *words: str) -> subprocess.CompletedProcess:
        env = {
            **os.environ, **self.slurm.environment, "GATE": str(self.gate),
            "GATED": self.gated, "GATED_FROM": str(self.gated_from), "PYTHONPATH": str(self.gate.parent),
        }  # fmt: skip
        words = [sys.executable, "-m", "survey_scan", *map(str, words)]
        return subprocess.run(words, cwd=self.folder, env=env, capture_output=True, text=True, timeout=300)

    def submit(self) -> str:
        path = self.gate.parent / "profile.yaml"
        path.write_text(yaml.safe_dump(self.profile))
        done = self.call("submit", "demo.yaml", "--profile", path, "--set", f"run.name={self.name}")
        assert done.returncode == 0, done.stderr
        (line,) = (line for line in done.stdout.splitlines() if line.startswith("submitted   job "))
        return line.split()[2]

    def log(self, number: str) -> str:
        path = self.run / "logs" / f"slurm-{number}.out"
        return path.read_text() if path.exists() else ""

    def until(self, what: str, happened) -> None:
        deadline = time.monotonic() + 240
        while not happened():
            assert time.monotonic() < deadline, f"waited for {what}: {self.said()}"
            time.sleep(0.1)

    def until_finished(self, at_least: int) -> None:
        """Wait for the middle of the scan."""
        self.until(
            f"{at_least} partitions",
            lambda: sum(e["event"] == "finished" for e in read_events(self.run)) >= at_least,
        )

    def open(self) -> None:
        self.gate.touch()

    def said(self) -> str:
        logs = self.run / "logs"
        return "\n".join(
            f"--- {p.name}\n{p.read_text()[-3000:]}" for p in sorted(logs.glob("*.*")) if p.suffix in (".out", ".log")
        )

    def is_right(self) -> None:
        """The candidates are those of the undisturbed scan, and no partition was done twice."""
        assert (self.run / "candidates.parquet").exists(), self.said()
        reference = self.folder / "runs" / "here" / "candidates.parquet"
        assert (self.run / "candidates.parquet").read_bytes() == reference.read_bytes()
        done = [(e["stage"], e["partition"]) for e in read_events(self.run) if e["event"] == "finished"]
        assert len(done) == len(set(done)), "a partition was reported twice"
        records = {(p.parent.name, int(p.stem)): p for p in self.run.glob("records/*/*.json")}
        assert set(done) <= set(records)
        assert len(records) == 2 * (len((self.run / "plan" / "partitions.csv").read_text().splitlines()) - 1)
        assert not list(self.run.rglob("*.partial")) and not (self.run / "run.lock").exists()
        status = json.loads(self.call("status", self.run, "--json").stdout)
        assert status["state"] == "complete"


@pytest.fixture
def scan(slurm, demo, tmp_path, request):
    """A scan whose gate is shut."""
    gate = tmp_path / "gate"
    (tmp_path / "sitecustomize.py").write_text(GATE)
    profile = {**PROFILE, "batch": dict(PROFILE["batch"])}
    yield Scan(slurm, demo, request.node.name.replace("[", "-").strip("]"), profile, gate)
    for line in slurm.command("squeue", "-h", "-o", "%A").split():
        slurm.command("scancel", line)
    slurm.script("up")  # a crashed node comes back
    deadline = time.monotonic() + 60
    while slurm.command("squeue", "-h").strip():
        assert time.monotonic() < deadline
        time.sleep(0.3)


def test_twelve_gpu_workers_that_cut_and_score_run_to_complete(scan):
    scan.open()
    scan.profile["gpu"] = {"cutouts": True, "cores": 2, "require": False}
    scan.profile["cpu"] = {}
    number = scan.submit()
    job = scan.slurm.wait(number, timeout=400)
    said = scan.log(number)
    assert (job["JobState"], job["ExitCode"], job["Restarts"]) == ("COMPLETED", "0:0", "0"), scan.said()
    assert f"workers     4 GPU workers on each of 3 nodes, job {number}, until " in said
    assert "ssh -L " in said
    scan.is_right()


LOOK = """
import sys
from pathlib import Path
from screenshot import TEXT, shoot
url, folder = sys.argv[1:]
seen = shoot(url + "/survey-scan", Path(folder, "survey-scan-page.png"), "document.querySelector('svg rect') != null", 1100, 900)
assert seen.errors == [] and seen.strangers(url) == [], seen
print(seen.text)
ready = "!!(window.Bokeh && Bokeh.documents.length && Bokeh.documents[0].is_idle)"
seen = shoot(url + "/status", Path(folder, "dask-dashboard.png"), ready, 1400, 900)
assert seen.errors == [], seen
"""


@pytest.mark.browser
@pytest.mark.skipif(screenshot.CHROMIUM is None, reason="no Chromium here")
def test_the_dashboard_during_a_scan(scan):
    """Pictures of the page and of Dask's own dashboard; SURVEY_SCAN_PICTURES names a folder to keep them in."""
    scan.name, scan.gated, scan.gated_from = "demo", "scores", 10
    number = scan.submit()
    scan.until_finished(21)  # all but the scores of the last partition
    time.sleep(5)  # a snapshot later
    (line,) = (line for line in scan.log(number).splitlines() if line.startswith("this scan "))
    url = line.split()[2].removesuffix("/survey-scan")
    folder = os.environ.get("SURVEY_SCAN_PICTURES", str(scan.gate.parent))
    env = {**os.environ, "PYTHONPATH": str(Path(__file__).parent), "LOCAL_SLURM_BASE": str(scan.slurm.base)}
    done = subprocess.run(
        [SCRIPT, "exec", sys.executable, "-c", LOOK, url, folder], env=env, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    assert "cutouts" in done.stdout and f"(slurm {number})" in done.stdout
    assert "2,748 of 2,748 targets" in done.stdout
    scan.open()
    watched = scan.call("status", scan.run, "--watch")  # until the scan ends
    assert "cutouts" in watched.stdout, watched
    assert scan.slurm.wait(number)["JobState"] == "COMPLETED", scan.said()
    scan.is_right()


def test_a_warning_before_the_time_limit(scan):
    number = scan.submit()
    scan.until_finished(4)
    scan.slurm.command("scontrol", "update", f"jobid={number}", "EndTime=now+90")
    scan.until("the warning", lambda: "SIGUSR1: finishing the partitions in flight" in scan.log(number))
    scan.open()
    scan.until("the requeueing", lambda: "goes back into the queue and resumes by itself" in scan.log(number))
    job = scan.slurm.wait(number)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), scan.said()
    said = scan.log(number)
    assert "stopped by SIGUSR1; run the same command again to resume." in said
    assert f"job {number} (start 2)" in said
    scan.is_right()


def test_preemption_that_sends_the_signal(scan):
    preempted(scan, "SIGUSR1")


def test_preemption_that_sends_no_signal(scan):
    scan.slurm.script("down")
    scan.slurm.script("up", LOCAL_SLURM_USER_SIGNAL="0")
    try:
        preempted(scan, "SIGTERM")
    finally:
        scan.slurm.script("down")
        scan.slurm.script("up")


def preempted(scan: Scan, signal: str) -> None:
    """Another job takes the nodes; the driver, a step, hears of it, requeues, and resumes when they are free again."""
    scan.profile["batch"] |= {"qos": "preempt", "driver": "step"}
    number = scan.submit()
    scan.until_finished(4)
    other = scan.slurm.command(
        "sbatch", "--parsable", "-q", "regular", "-N3", "--exclusive", "-t5", "-o", "/dev/null", "--wrap", "sleep 1"
    ).strip()
    scan.until("the signal", lambda: f"{signal}: finishing the partitions in flight" in scan.log(number))
    scan.open()
    scan.slurm.wait(other)
    job = scan.slurm.wait(number)
    assert (job["JobState"], job["Restarts"]) == ("COMPLETED", "1"), scan.said()
    scan.is_right()


def test_scancel_and_another_submit(scan):
    number = scan.submit()
    scan.until_finished(4)
    scan.slurm.command("scancel", number)
    job = scan.slurm.wait(number)
    assert (job["JobState"], job["Restarts"]) == ("CANCELLED", "0")
    scan.open()
    another = scan.submit()
    assert scan.slurm.wait(another)["JobState"] == "COMPLETED", scan.said()
    scan.is_right()


@pytest.mark.parametrize("node", ["nid001002", "nid001001"], ids=["workers", "driver"])
def test_a_node_that_crashes(scan, node):
    number = scan.submit()
    scan.until_finished(4)
    scan.slurm.script("crash", node)
    scan.until("Slurm's requeueing", lambda: scan.slurm.job(number)["Restarts"] == "1")
    scan.open()
    scan.slurm.script("up")
    job = scan.slurm.wait(number)
    assert job["JobState"] == "COMPLETED", scan.said()
    scan.is_right()


@pytest.fixture
def small(slurm, tmp_path):
    """A small survey, scanned without a network, and a way to run words in a job on one node."""
    survey = small_survey.make(tmp_path / "survey")
    (tmp_path / "sitecustomize.py").write_text(GATE)

    def job(profile: dict, *settings: str, options: tuple[str, ...] = ("--gpus-per-node=1",)) -> str:
        path = survey.folder / f"profile-{len(list(survey.folder.iterdir()))}.yaml"
        path.write_text(yaml.safe_dump(profile))
        words = [sys.executable, "-m", "survey_scan", "run", "lrg.yaml", "--profile", str(path)]
        words += [word for setting in settings for word in ("--set", setting)]
        script = "#!/bin/bash\nexec " + " ".join(words)
        env = {**os.environ, **slurm.environment, "GATE": str(tmp_path / "gate"), "PYTHONPATH": str(tmp_path)}
        env |= {"GATED": "cutouts scores", "GATED_FROM": "0"}
        return subprocess.run(
            ["sbatch", "--parsable", "-q", "regular", "-c", "4", *options, "-o", "job-%j.out"],
            input=script, env=env, cwd=survey.folder, check=True, capture_output=True, text=True,
        ).stdout.strip()  # fmt: skip

    job.survey = survey
    yield job
    for line in slurm.command("squeue", "-h", "-o", "%A").split():
        slurm.command("scancel", line)


ONE = {"kind": "slurm-allocation", "cpu": {"workers": 1}, "nanny": False, "start_seconds": 120}


def test_jobs_that_cannot_do_what_they_are_for_say_so_in_one_line(slurm, small, request):
    shm = Path("/dev/shm/survey-scan-tiles")  # every node has its own
    shutil.copytree(small.survey.folder / "tiles", shm)
    request.addfinalizer(lambda: shutil.rmtree(shm))
    asked = {
        "the profile asks for 3 nodes, but job {job} has 1. Lower 'nodes' in the profile (or leave it out: all are used), "
        "or submit with --nodes.": small({**ONE, "nodes": 3}, "run.name=nodes"),
        "the profile wants GPU workers, but there are no GPUs here. Ask for them (sbatch --gpus-per-node=4), use a machine "
        "that has some, or use a profile without 'gpu'.": small({**ONE, "gpu": {"cores": 1}}, "run.name=gpus", options=()),
        f"nid00100N sees no {shm}. Put the files where every node of the cluster sees them (a shared file system), mount it "
        "in the container, or leave these nodes out (sbatch --exclude).": small(
            ONE, f"images.files={shm}/{{tile}}_{{band}}.fits.fz", "run.name=shm"
        ),
    }  # fmt: skip
    for message, number in asked.items():
        job = slurm.wait(number)
        said = (small.survey.folder / f"job-{number}.out").read_text()
        assert (job["JobState"], job["ExitCode"]) == ("FAILED", "2:0"), said
        assert re.sub("nid00100[123]", "nid00100N", said.splitlines()[-1]) == message.format(job=number)


def test_gpu_workers_whose_framework_sees_no_gpu(slurm, small, demo):
    profile = {**ONE, "gpu": {"cores": 1}, "cpu": {"workers": 1}}
    number = small(
        profile,
        f"model.path={demo / 'model'}",
        "cutouts.size=45",
        "images.bands=[g,r,i]",
        "cutouts.bands=[g,r,i]",
    )
    slurm.wait(number)
    said = (small.survey.folder / f"job-{number}.out").read_text()
    assert re.match(r"nid001001: a GPU is required, but TensorFlow sees none on nid001001", said.splitlines()[-1]), said


def test_a_walltime_shorter_than_one_partition(slurm, small):
    number = small(ONE, options=("-t", "10", "--signal=B:USR1@60", "--requeue"))
    events = small.survey.folder / "runs" / "lrg"
    deadline = time.monotonic() + 120
    while not any(e.get("stage") == "scan" for e in read_events(events)):
        assert time.monotonic() < deadline
        time.sleep(0.2)
    slurm.command("scontrol", "update", f"jobid={number}", "EndTime=now+45")
    job = slurm.wait(number)
    said = (small.survey.folder / f"job-{number}.out").read_text()
    assert (job["JobState"], job["Restarts"], job["ExitCode"]) == ("FAILED", "0", "3:0"), said
    assert "stopped by SIGUSR1, with 2 partitions unfinished; run the same command again to resume." in said
    assert re.search(
        r"requeue     no: not one partition was finished in \d of \d minutes: the walltime is too short. ", said
    )


def test_a_second_driver_is_told_of_the_first(slurm, small):
    first = small(ONE)
    run = small.survey.folder / "runs" / "lrg"
    deadline = time.monotonic() + 120
    while not (run / "run.lock").exists():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    second = small(ONE)
    slurm.wait(second)
    said = (small.survey.folder / f"job-{second}.out").read_text()
    assert re.fullmatch(
        rf"{run} is in use by pid \d+ on nid001001 \(slurm {first}\) since .*\. Wait until it ends, or stop it "
        rf"\(kill \d+\); 'survey_scan status {run}' shows how far it is\.\n", said
    )  # fmt: skip
    slurm.command("scancel", first)


def test_workers_as_jobs_of_their_own(slurm, small):
    """The driver on the login node, a job for each worker: two that cut and one that scores."""
    pytest.importorskip("dask_jobqueue")
    small.survey.edit(resources={"dashboard": 0})
    profile = {
        "kind": "slurm-jobs", "partition": "regular", "time": "10", "require_gpu": False, "start_seconds": 120,
        "cpu": {"jobs": 2, "memory": "1 GiB"},
        "gpu": {"jobs": 1, "memory": "1 GiB", "cores": 2, "options": ["--gpus=1"]},
    }  # fmt: skip
    (small.survey.folder / "profile.yaml").write_text(yaml.safe_dump(profile))
    words = [sys.executable, "-m", "survey_scan", "run", "lrg.yaml"]
    env = {**os.environ, "LOCAL_SLURM_BASE": str(slurm.base)}
    done = subprocess.run(
        [SCRIPT, "exec", *words, "--profile", "profile.yaml"],
        cwd=small.survey.folder, env=env, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    logs = small.survey.folder / "runs" / "lrg" / "logs"
    assert done.returncode == 0, done.stdout + done.stderr + "".join(p.read_text() for p in logs.glob("dask-worker*"))
    assert "workers     3 jobs submitted; the scan starts with the first of each kind (squeue --me)" in done.stdout
    assert slurm.command("squeue", "-h").strip() == ""
    here = subprocess.run([*words, "--set", "run.name=here"], cwd=small.survey.folder, capture_output=True, text=True)
    assert here.returncode == 0, here.stderr
    runs = small.survey.folder / "runs"
    assert (runs / "lrg" / "candidates.parquet").read_bytes() == (runs / "here" / "candidates.parquet").read_bytes()
