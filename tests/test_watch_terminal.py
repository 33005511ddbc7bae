import io
import json

import pytest
from rich.console import Console
from test_watch_tally import Clock, both, tally

from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
from survey_scan.watch import terminal


@pytest.fixture
def run(tmp_path):
    made = RunDirectory(tmp_path)
    made.now.parent.mkdir(parents=True)
    return made


@pytest.fixture
def scan():
    """A scan under way, and its clock."""
    clock = Clock()
    made = tally(clock, n=100, walltime=clock() + 600)
    both(made, clock, range(50), 4.0, 0.1)
    return made, clock


def shown(snapshot, now, alive=True):
    console = Console(file=io.StringIO(), width=140)
    console.print(terminal.view(snapshot, now, alive))
    return console.file.getvalue()


def test_the_numbers_are_there(scan):
    made, clock = scan
    text = shown(made.snapshot(), clock() + 1)
    assert "lrg  /runs/lrg  scanning" in text
    assert "50 s left, allocation ends in 9 min: in time" in text
    assert "50.0%  500 of 1,000  10/s  50 s left" in text
    assert "GPU idle 90 %: 36 more CPU workers would feed it" in text
    assert "scores: 1 × NVIDIA A100-SXM4-40GB, 10% busy" in text
    assert "slowest  cutouts 00000: 4.0 s on a" in text
    assert "nothing heard" not in text and "gone" not in text and "flagged  0.0%" not in text


def test_a_silent_driver_and_one_that_is_gone(scan):
    made, clock = scan
    found = made.snapshot()
    assert "nothing heard of the driver for 2 min" in shown(found, clock() + 100)
    assert "the driver is gone; these are its last numbers, 2 min old" in shown(found, clock() + 100, alive=False)
    made.stage("complete")
    text = shown(made.snapshot(), clock() + 100, alive=False)
    assert "complete" in text and "gone" not in text


def test_flags_failures_logits_and_why_it_stops(scan):
    made, clock = scan
    made.submitted("cutouts", 60)
    made.failed("cutouts", 60, "cutouts 00060: OSError: [red]no[/red]")
    made.submitted("scores", 61)
    facts = {"targets": 10, "status": {"0": 9, "7": 1}, "seconds": 1.0, "host": "b", "logits": {"0": 1000, "79": 1}}
    made.finished("scores", 61, facts)
    made.stopping("SIGUSR1")
    text = shown(made.snapshot(), clock())
    assert "stopping: SIGUSR1" in text
    assert "failures 1, the last:" in text and "cutouts 00060: OSError: [red]no[/red]" in text
    assert "network gave no finite logit 1" in text
    assert "logits   -20 █" + " " * 38 + "▁ 20  (log counts)" in text


def test_watching_ends_with_the_run(run, scan):
    made, clock = scan
    console = Console(file=io.StringIO(), width=140)
    run.now.write_text(json.dumps(made.snapshot()))

    def wait(seconds):
        made.stage("complete")
        run.now.write_text(json.dumps(made.snapshot()))

    found = terminal.watch(run, lambda run: {"pid": 7}, console, clock, wait)
    assert found["state"] == "complete"
    assert "complete" in console.file.getvalue()


def test_watching_ends_when_the_driver_is_gone(run, scan):
    made, clock = scan
    run.now.write_text(json.dumps(made.snapshot()))
    console = Console(file=io.StringIO(), width=140)
    terminal.watch(run, lambda run: None, console, clock, pytest.fail)
    assert "the driver is gone" in console.file.getvalue()


def test_watching_ends_with_ctrl_c(run, scan):
    made, clock = scan
    run.now.write_text(json.dumps(made.snapshot()))

    def wait(seconds):
        raise KeyboardInterrupt

    found = terminal.watch(run, lambda run: {"pid": 7}, Console(file=io.StringIO()), clock, wait)
    assert found["state"] == "running"


def test_no_snapshot_and_a_damaged_one(run):
    with pytest.raises(RunError) as caught:
        terminal.read(run)
    assert str(caught.value) == (
        f"{run} has no logs/now.json: no driver of this version has run here. 'survey_scan status {run}' says what is "
        f"finished."
    )
    run.now.write_text("{")
    with pytest.raises(RunError) as caught:
        terminal.read(run)
    assert str(caught.value) == f"{run.now} is not readable as JSON. Remove it; the driver writes it anew."


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-3, "0 s"), (59.4, "59 s"), (59.6, "1 min"), (3599, "1 h 0 min"), (19_000, "5 h 17 min"), (273_600, "3 d 4 h")],
)
def test_durations(seconds, text):
    assert terminal.duration(seconds) == text
