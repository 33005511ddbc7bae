"""Kill a scan at random moments and see that the next start loses nothing, doubles nothing, and ends the same.

For every stage (plan, cutouts, scores, rank), every victim (a worker, the driver, the whole process group) and a number
of moments: start the scan from a copy that stands at the beginning of that stage, SIGKILL the victim at a random moment
of the stage, start it again, and compare with a run that nobody disturbed. ``python tests/kill.py --moments 10`` does
120 kills, ninety of them in cutouts, scores and rank. ``--store none`` and ``--store candidates`` do the same where pixels
go through memory; there is then no stage of scores alone, and candidates must be those of a scan that stored all.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).parent))
import small_survey

STAGES = ("plan", "cutouts", "scores", "rank")
VICTIMS = ("worker", "driver", "group")

#: The event that opens each stage in logs/events.jsonl, and the one that closes it.
OPENS = {"plan": "plan", "cutouts": "scan", "scores": "scan", "rank": "rank"}


class Bench:
    """An undisturbed run, and copies of it as it stood at the beginning of each stage."""

    def __init__(self, folder: Path, n_objects: int, store: str = "all"):
        self.survey = small_survey.make(folder / "survey", n_objects)
        self.survey.edit(cutouts={"size": 48})
        self.folder, self.streamed = folder, store != "all"
        if self.streamed:
            assert self._start(folder / "stored").wait(240) == 0
            self.survey.edit(cutouts={"store": store} | ({"above": 0.0} if store == "candidates" else {}))
        self.whole = self._start(folder / "whole")
        assert self.whole.wait(240) == 0, self.whole.stderr.read()
        self.reference = (folder / "whole" / "candidates.parquet").read_bytes()
        self.lasts = {stage: self._lasted(folder / "whole", stage) for stage in STAGES}
        if self.streamed:
            assert (folder / "stored" / "candidates.parquet").read_bytes() == self.reference
            return
        alone = self.copy("scores", "scores-alone")  # faster than beside cutouts
        assert self._start(alone).wait(240) == 0
        self.lasts["scores"] = self._lasted(alone, "scores")

    def _start(self, run: Path) -> subprocess.Popen:
        return self.survey.command(
            "run", "lrg.yaml", "--set", f"run.directory={run.parent}", "--set", f"run.name={run.name}"
        )

    def _lasted(self, run: Path, stage: str) -> float:
        """Seconds: of cutouts and scores from the first partition's end to the last one's, else of the stage."""
        events = read_events(run)
        ends = [e["time"] for e in events if e["event"] == "finished" and e["stage"] == stage]
        if ends:
            return ends[-1] - ends[0]
        times = [e["time"] for e in events if e["event"] == "stage"] + [events[-1]["time"]]
        opened = [e["stage"] for e in events if e["event"] == "stage"].index(OPENS[stage])
        return times[opened + 1] - times[opened]

    def copy(self, stage: str, name: str) -> Path:
        """A run directory that stands at the beginning of a stage."""
        run = self.folder / name
        shutil.rmtree(run, ignore_errors=True)
        if stage == "plan":
            return run
        shutil.copytree(self.folder / "whole", run)
        (run / "records" / "rank.json").unlink()
        (run / "logs" / "events.jsonl").unlink()
        for product in ("candidates.parquet", "candidates.fits", "failures.csv"):
            (run / product).unlink()
        for later in {"cutouts": ("cutouts", "scores"), "scores": ("scores",), "rank": ()}[stage]:
            shutil.rmtree(run / "records" / later)
            shutil.rmtree(run / {"cutouts": "cutouts.zarr", "scores": "scores"}[later], ignore_errors=self.streamed)
        return run

    def kill(self, stage: str, victim: str, number: int, rng: random.Random) -> dict:
        """One kill and its resume; raises AssertionError if anything is lost, doubled or different."""
        run = self.copy(stage, f"{stage}-{victim}-{number}")
        process = self._start(run)
        moment, early = rng.random(), rng.random() < 0.2
        deadline = time.monotonic() + 60
        while not began(run, stage, early):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline, f"{stage} never began"
            time.sleep(0.002)
        time.sleep(moment * self.lasts[stage])
        found = {"stage": stage, "victim": victim, "moment": round(moment, 3), "hit": shoot(process, victim, rng)}
        found["early"] = early
        if victim == "worker":
            out, err = process.communicate(timeout=240)
            before = {}
        else:
            process.communicate(timeout=60)
            before = finished(run)
        if self.streamed:  # a partition is finished with its scores; one that was not scored is cut again
            before = {name: one for name, one in before.items() if name.replace("cutouts", "scores") in before}
        found["finished_before"] = len(before)
        if process.returncode != 0:
            found["resumed"] = True
            again = self._start(run)
            out, err = again.communicate(timeout=240)
            assert again.returncode == 0, f"{found}\n{out}\n{err}"
        after = finished(run)
        for record, content in before.items():
            assert after[record] == content, f"{found}: {record} was done twice"
        done = [(e["stage"], e["partition"]) for e in read_events(run) if e["event"] == "finished"]
        assert len(done) == len(set(done)), f"{found}: a partition was reported twice"
        assert (run / "candidates.parquet").read_bytes() == self.reference, f"{found}: other candidates"
        if self.streamed:
            code, said, _ = self.survey.call("verify", str(run))
            assert code == 0, f"{found}: {said}"
        left = [str(p.relative_to(run)) for p in run.rglob("*") if ".partial" in p.name or p.name == "run.lock"]
        found["left_over"] = left
        shutil.rmtree(run)
        return found


def began(run: Path, stage: str, early: bool) -> bool:
    """Whether a stage has begun; of cutouts and scores, unless ``early``, whether their first partition is finished."""
    events = read_events(run)
    if stage in ("plan", "rank") or early:
        return any(e["event"] == "stage" and e["stage"] == OPENS[stage] for e in events)
    return any(e["event"] == "finished" and e["stage"] == stage for e in events)


def shoot(process: subprocess.Popen, victim: str, rng: random.Random) -> bool:
    """SIGKILL; False if the victim was gone already."""
    if process.poll() is not None:
        return False
    if victim == "driver":
        process.kill()
    elif victim == "group":
        os.killpg(process.pid, signal.SIGKILL)
    else:
        children = [c for c in psutil.Process(process.pid).children() if "spawn_main" in " ".join(c.cmdline())]
        if not children:
            return False
        rng.choice(children).kill()
    return True


def finished(run: Path) -> dict[str, tuple[bytes, int]]:
    """The records there are: content, and when they were written."""
    found = {}
    for path in (run / "records").rglob("[0-9]*.json"):
        found[str(path.relative_to(run))] = (path.read_bytes(), path.stat().st_mtime_ns)
    return found


def read_events(run: Path) -> list[dict]:
    """Whole lines of the event log."""
    try:
        lines = (run / "logs" / "events.jsonl").read_text().splitlines(keepends=True)
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line.endswith("\n")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=1)
    parser.add_argument("--objects", type=int, default=12000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage", choices=STAGES, action="append")
    parser.add_argument("--store", choices=("all", "candidates", "none"), default="all")
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    tally = {"kills": 0, "hit": 0, "resumed": 0, "failed": 0}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), arguments.objects, arguments.store)
        stages = arguments.stage or [stage for stage in STAGES if stage != "scores" or not bench.streamed]
        print("undisturbed, seconds:", {k: round(v, 2) for k, v in bench.lasts.items()}, flush=True)
        for stage in stages:
            for victim in VICTIMS:
                for number in range(arguments.moments):
                    tally["kills"] += 1
                    try:
                        found = bench.kill(stage, victim, number, rng)
                        while not found["hit"]:  # the scan had ended before its moment came
                            print("missed:", json.dumps(found), flush=True)
                            found = bench.kill(stage, victim, number, rng)
                    except (AssertionError, subprocess.TimeoutExpired) as error:
                        tally["failed"] += 1
                        print("FAILED", stage, victim, number, error, flush=True)
                        continue
                    tally["hit"] += found["hit"]
                    tally["resumed"] += found.get("resumed", False)
                    print(json.dumps(found), flush=True)
    print(json.dumps(tally))
    sys.exit(1 if tally["failed"] else 0)


if __name__ == "__main__":
    main()
