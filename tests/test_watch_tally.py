import json
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan.watch import bins
from survey_scan.watch.tally import Pool, StageCount, Tally

A100 = "NVIDIA A100-SXM4-40GB"
TWO = {"cutouts": Pool(4, 4), "scores": Pool(1, 2, device=A100)}
ONE = {"cutouts": Pool(2, 2, True), "scores": Pool(2, 2, True)}


class Clock:
    def __init__(self):
        self.time = 1_800_000_000.0

    def __call__(self):
        return self.time


def tally(clock, n=100, done=0, pools=TWO, walltime=None, before=None):
    counts = {
        stage: StageCount(n, done, 10 * n, 10 * done, **(before or {}).get(stage, {}))
        for stage in ("cutouts", "scores")
    }
    made = Tally("lrg", "/runs/lrg", counts, 10 * n, {"pid": 7}, None, walltime, clock)
    if pools:
        made.pools(pools)
    made.stage("scan")
    return made


def facts(seconds=1.0, targets=10, flagged=0, **more):
    return {
        "targets": targets,
        "status": {"0": targets - flagged, "1": flagged},
        "seconds": seconds,
        "host": "a",
        **more,
    }


def both(made, clock, partitions, seconds, device):
    """Each second ``4 / seconds`` partitions are cut and at once scored in ``device`` of the GPU's seconds."""
    for p in partitions:
        made.submitted("cutouts", p)
        clock.time += seconds / 4
        made.finished("cutouts", p, facts(seconds))
        made.submitted("scores", p)
        made.finished("scores", p, facts(device * 1.5, device_seconds=device, device=A100))


# bins


@given(st.lists(st.floats(width=32), max_size=200))
def test_every_logit_is_in_its_bin(values):
    logits = np.array(values, np.float32)
    found = bins.count(logits)
    assert sum(found.values()) == np.count_nonzero(~np.isnan(logits))
    assert all(n > 0 for n in found.values())
    inside = np.clip(logits[~np.isnan(logits)].astype(np.float64), -20, 20)
    expected, _ = np.histogram(inside, bins.EDGES)
    assert [found.get(str(i), 0) for i in range(80)] == expected.tolist()


# the snapshot


def test_before_a_plan_there_is_little_to_say():
    made = Tally("lrg", "/runs/lrg", {}, None, {"pid": 7}, None, None, Clock())
    found = made.snapshot()
    assert (found["stage"], found["state"], found["stages"], found["verdict"]) == ("plan", "running", {}, None)
    made.planned({"cutouts": StageCount(1, 0, 5, 0), "scores": StageCount(1, 0, 5, 0)}, 5)
    assert made.snapshot()["stages"]["scores"]["targets"] == 5


def test_a_snapshot_is_json_and_small():
    clock = Clock()
    made = tally(clock, n=2000)
    both(made, clock, range(1500), 1.0, 0.1)
    for p in range(1500, 1600):
        made.failed("cutouts", p, f"cutouts {p}: OSError: <b>&")
    found = made.snapshot()
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert len(json.dumps(found)) < 8000
    assert found["n_failures"] == 100 and [f["partition"] for f in found["failures"]] == list(range(1590, 1600))


def test_rates_and_time_left():
    clock = Clock()
    made = tally(clock, n=1000, done=100, walltime=clock() + 260)
    both(made, clock, range(100, 200), 1.0, 0.1)  # 4 partitions of 10 targets a second
    found = made.snapshot()
    cut = found["stages"]["cutouts"]
    assert cut["partitions_done"] == 200 and cut["done"] == 2000 and cut["running"] == 0
    assert cut["rate"] == pytest.approx(40)
    assert cut["eta"] == pytest.approx(clock() + 200)
    assert found["eta"] == pytest.approx(clock() + 200, abs=1)
    assert found["in_time"] is True
    clock.time += 40
    assert made.snapshot()["in_time"] is False


def test_the_rate_is_that_of_the_last_minutes():
    clock = Clock()
    made = tally(clock, n=100_000)
    both(made, clock, range(4000), 1.0, 0.1)
    both(made, clock, range(4000, 4300), 10.0, 0.1)  # 750 s at a tenth of the speed
    assert made.snapshot()["stages"]["cutouts"]["rate"] == pytest.approx(4, rel=0.05)


def test_partitions_that_take_longer_than_the_last_minutes_still_have_a_rate():
    clock = Clock()
    made = tally(clock, n=50)
    both(made, clock, range(10), 4 * 1200.0, 1.0)
    assert made.snapshot()["stages"]["cutouts"]["rate"] == pytest.approx(10 / 1200, rel=0.2)


def test_gpus_idle_while_cutouts_are_slow_and_the_sentence_says_how_many_are_missing():
    clock = Clock()
    made = tally(clock, n=1000)
    both(made, clock, range(200), 1.0, 0.1)  # 40 targets/s are cut; the GPU does 100 in a second
    found = made.snapshot()
    assert found["gpu_idle"] == pytest.approx(0.6, abs=0.02)
    assert found["pools"]["scores"]["busy"] == pytest.approx(0.4, abs=0.02)
    assert found["pools"]["cutouts"]["busy"] == pytest.approx(1, abs=0.02)
    assert found["verdict"] == "GPU idle 60 %: 6 more CPU workers would feed it"


def test_the_sentence_stands_when_a_stage_has_ended():
    clock = Clock()
    made = tally(clock, n=200)
    both(made, clock, range(199), 1.0, 0.1)
    said = made.snapshot()["verdict"]
    assert said is not None
    both(made, clock, [199], 1.0, 0.1)
    made.stage("complete")
    clock.time += 5000
    found = made.snapshot()
    assert found["verdict"] == said and found["state"] == "complete"
    assert found["gpu_idle"] == pytest.approx(0.6, abs=0.02)  # what comes after the last partition is not idle time
    assert found["stages"]["scores"]["rate"] == pytest.approx(40, rel=0.02) and found["eta"] is None


def test_a_pool_that_grows_is_measured_by_its_new_size():
    clock = Clock()
    made = tally(clock, pools={"cutouts": Pool(1, 1), "scores": Pool(1, 1)})
    for p in range(2):
        made.submitted("cutouts", p)
    clock.time += 100
    assert made.snapshot()["pools"]["cutouts"]["busy"] == pytest.approx(1)
    made.pools({"cutouts": Pool(4, 4), "scores": Pool(1, 1)})  # two of them have nothing to do
    clock.time += 100
    assert made.snapshot()["pools"]["cutouts"]["busy"] == pytest.approx((100 + 200) / (100 + 400))


def test_cpu_workers_have_no_idle_gpus():
    clock = Clock()
    made = tally(clock, pools={"cutouts": Pool(4, 4), "scores": Pool(2, 2)})
    for p in range(9):
        made.submitted("scores", p)
        clock.time += 1
        made.finished("scores", p, facts(1.0, device_seconds=0.5, device="CPU"))
    found = made.snapshot()
    assert found["gpu_idle"] is None
    assert found["pools"]["scores"] == {
        "workers": 2,
        "threads": 2,
        "shared": False,
        "device": "CPU",
        "busy": pytest.approx(0.5),
        "busy_whole": pytest.approx(0.5),
    }


def test_one_pool_divides_its_time():
    clock = Clock()
    made = tally(clock, pools=ONE)
    for p in range(20):
        made.submitted("cutouts", p)
        made.submitted("scores", 50 + p)
        clock.time += 2
        made.finished("cutouts", p, facts(1.2))
        made.finished("scores", 50 + p, facts(2.0))
    found = made.snapshot()
    assert found["verdict"] == "cutouts 30 %, scores 50 %, idle 20 % of 2 workers' time"
    assert found["eta"] == pytest.approx(clock() + 80 * (1.2 + 2.0) / 2)


def test_from_one_pool_to_two_nothing_in_flight_is_lost():
    clock = Clock()
    made = tally(clock, pools=ONE)
    for p in range(6):
        made.submitted("cutouts", p)
    made.pools(TWO)
    clock.time += 10
    found = made.snapshot()
    assert found["stages"]["cutouts"]["running"] == 6
    assert found["pools"]["cutouts"]["busy"] == pytest.approx(1)


def test_flagged_targets_are_those_of_the_cutouts_and_what_the_network_refused():
    made = tally(Clock(), n=4, done=1, before={"cutouts": {"status": {"0": 8, "4": 2}}, "scores": {"logits": {"3": 8}}})
    made.submitted("cutouts", 1)
    made.finished("cutouts", 1, facts(flagged=3))
    made.submitted("scores", 1)
    status = {"0": 6, "1": 3, "7": 1}
    made.finished("scores", 1, {**facts(), "status": status, "logits": {"3": 1, "79": 5}})
    found = made.snapshot()
    assert found["flagged"] == {"1": 3, "4": 2, "7": 1}
    assert found["flagged_fraction"] == 6 / 20
    assert found["histogram"]["counts"][3] == 9 and found["histogram"]["counts"][79] == 5
    assert len(found["histogram"]["edges"]) == len(found["histogram"]["counts"]) + 1


def test_a_failed_partition_is_no_longer_waited_for():
    clock = Clock()
    made = tally(clock, n=4)
    both(made, clock, range(3), 1.0, 0.1)
    made.submitted("cutouts", 3)
    assert made.snapshot()["eta"] is not None
    made.failed("cutouts", 3, "cutouts 00003: OSError: no")
    found = made.snapshot()
    assert found["eta"] is None and found["stages"]["scores"]["eta"] is None
    assert found["failures"] == [{"stage": "cutouts", "partition": 3, "reason": "cutouts 00003: OSError: no"}]


def test_slowest_partitions_of_each_stage():
    made = tally(Clock(), n=9)
    for p in range(9):
        made.submitted("cutouts", p)
        made.finished("cutouts", p, facts(seconds=float(p)))
    assert [(s["partition"], s["seconds"]) for s in made.snapshot()["slowest"]] == [(p, p) for p in (8, 7, 6, 5, 4)]


def test_a_task_that_hands_on_its_result_frees_its_thread_and_counts_when_that_is_done():
    clock = Clock()
    made = tally(clock, n=2)
    made.submitted("cutouts", 0)
    clock.time += 1
    made.handed("cutouts", 0)
    clock.time += 1
    made.submitted("scores", 0)
    found = made.snapshot()["stages"]
    assert (found["cutouts"]["running"], found["cutouts"]["partitions_done"], found["scores"]["running"]) == (0, 0, 1)
    clock.time += 2
    made.finished("cutouts", 0, facts(1.0))
    made.finished("scores", 0, facts(2.0, device_seconds=1.0, device=A100))
    found = made.snapshot()
    assert [found["stages"][s]["partitions_done"] for s in ("cutouts", "scores")] == [1, 1]
    assert found["pools"]["cutouts"]["busy"] == pytest.approx(1 / 16)  # one second of four threads' four
    made.submitted("cutouts", 1)
    made.handed("cutouts", 1)
    made.submitted("scores", 1)
    made.failed("scores", 1, "no", both=True)
    found = made.snapshot()
    assert found["stages"]["cutouts"]["eta"] is None and found["eta"] is None  # nothing is left to wait for


def test_stopping_says_why():
    made = tally(Clock())
    made.stopping("SIGUSR1: the allocation ends soon")
    found = made.snapshot()
    assert (found["state"], found["stopping"]) == ("stopping", "SIGUSR1: the allocation ends soon")
    made.stage("incomplete")
    assert made.snapshot()["state"] == "incomplete"


def test_a_clock_that_is_set_back_takes_nothing_back():
    clock = Clock()
    made = tally(clock)
    both(made, clock, range(20), 1.0, 0.1)
    before = made.snapshot()
    clock.time -= 3600
    assert made.snapshot() == before


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_nothing_is_lost_and_no_share_leaves_its_bounds(data):
    clock = Clock()
    n = data.draw(st.integers(1, 25))
    made = tally(clock, n=n, pools=data.draw(st.sampled_from([None, ONE, TWO])))
    waiting, flying = {"cutouts": list(range(n)), "scores": []}, []
    targets, ended = Counter(), Counter()
    for _ in range(data.draw(st.integers(0, 80))):
        clock.time += data.draw(st.floats(0, 400))
        kind = data.draw(st.sampled_from(["submit", "submit", "finish", "finish", "fail", "pools"]))
        stage = data.draw(st.sampled_from(["cutouts", "scores"]))
        if kind == "submit" and waiting[stage]:
            flying.append((stage, waiting[stage].pop(0)))
            made.submitted(*flying[-1])
        elif kind == "finish" and flying:
            stage, p = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            found = facts(data.draw(st.floats(0, 500)), targets=data.draw(st.integers(0, 10)))
            used = found["seconds"] * data.draw(st.floats(0, 1))
            made.finished(stage, p, {**found, "device_seconds": used, "device": A100})
            targets[stage] += found["targets"]
            ended[stage] += 1
            if stage == "cutouts":
                waiting["scores"].append(p)
        elif kind == "fail" and flying:
            stage, p = flying.pop(0)
            made.failed(stage, p, "no")
            ended["failed"] += 1
        elif kind == "pools":
            made.pools(data.draw(st.sampled_from([ONE, TWO, {s: Pool(0, 0) for s in TWO}])))
    found = made.snapshot()
    json.dumps(found, allow_nan=False)
    for stage, of in found["stages"].items():
        assert of["done"] == targets[stage] and of["partitions_done"] == ended[stage]
        assert of["running"] == sum(s == stage for s, _ in flying)
        assert of["rate"] is None or of["rate"] > 0
        assert of["eta"] is None or of["eta"] >= found["now"]
    assert found["n_failures"] == ended["failed"]
    shares = [found["gpu_idle"], found["flagged_fraction"]]
    shares += [pool[name] for pool in found["pools"].values() for name in ("busy", "busy_whole")]
    assert all(share is None or 0 <= share <= 1 for share in shares)
