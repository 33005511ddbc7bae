import math
from dataclasses import replace

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from survey_scan.watch.verdict import Use, verdict

#: 10 workers of 2 threads that cut 50 targets/s each: 1,000/s.
CUT = Use(10, 20, 9999, targets=5000.0, seconds=100.0, device_seconds=0.0, left=True, busy=1.0, device_busy=None)
#: 2 GPUs that score 1,600/s each: 3,200/s.
GPU = Use(2, 4, 9999, 16_000.0, 20.0, device_seconds=10.0, left=True, busy=0.4, device_busy=0.31, gpu=True)


def test_hungry_gpus_want_cpu_workers():
    assert verdict(CUT, GPU, False) == "GPUs idle 69 %: 22 more CPU workers would feed them"


def test_one_gpu_wants_one_cpu_worker():
    cutouts, scores = replace(CUT, workers=5), replace(GPU, workers=1, targets=11_900.0, device_busy=0.9)
    assert verdict(cutouts, scores, False) == "GPU idle 10 %: 1 more CPU worker would feed it"
    scores = replace(scores, targets=12_100.0)
    assert verdict(cutouts, scores, False) == "GPU idle 10 %: 2 more CPU workers would feed it"


def test_slow_gpus_want_more_of_them():
    scores = replace(GPU, targets=2000.0, device_busy=0.97)
    assert verdict(CUT, scores, False) == "cutouts wait for the GPUs (idle 3 %): 3 more GPUs would keep up"


def test_scoring_on_cpus_is_named_so():
    scores = replace(GPU, gpu=False, device_seconds=0.0, device_busy=None)
    assert verdict(CUT, scores, False) == "scoring workers idle 60 %: 22 more CPU workers would feed them"


def test_balanced():
    scores = replace(GPU, targets=5100.0, device_busy=0.96)
    assert verdict(CUT, scores, False) == "CPU workers and GPUs keep pace (GPUs idle 4 %)"


def test_gpus_fed_from_earlier_cutouts_want_nobody():
    assert verdict(CUT, replace(GPU, device_busy=0.99), False) == "CPU workers and GPUs keep pace (GPUs idle 1 %)"


def test_gpus_whose_workers_read_too_slowly_do_not_want_cpu_workers():
    assert verdict(CUT, replace(GPU, busy=0.99), False) == (
        "GPUs idle 69 % though always given work: reading pixels and writing scores takes the rest. "
        "More threads a worker may help, more CPU workers would not"
    )


@pytest.mark.parametrize(
    ("cutouts", "scores"),
    [
        (replace(CUT, finished=29), GPU),
        (CUT, replace(GPU, finished=5)),
        (CUT, replace(GPU, busy=None, device_busy=None)),
        (replace(CUT, left=False), GPU),
        (replace(CUT, left=False), replace(GPU, left=False, busy=0.99)),
        (replace(CUT, workers=0, threads=0), GPU),
        (CUT, replace(GPU, workers=0, threads=0)),
    ],
)
def test_nothing_is_said_before_enough_was_seen(cutouts, scores):
    assert verdict(cutouts, scores, False) is None


def test_one_pool():
    cutouts, scores = replace(CUT, workers=2, busy=0.38), replace(GPU, workers=2, busy=0.57)
    assert verdict(cutouts, scores, True) == "cutouts 38 %, scores 57 %, idle 5 % of 2 workers' time"
    assert (
        verdict(replace(cutouts, workers=1), scores, True) == "cutouts 38 %, scores 57 %, idle 5 % of 1 worker's time"
    )
    assert verdict(replace(cutouts, finished=2), scores, True) is None
    assert verdict(replace(cutouts, finished=0, left=False, busy=0.0), scores, True) is not None


@given(
    st.integers(1, 500),
    st.integers(1, 4),
    st.integers(1, 64),
    st.floats(1, 1000),
    st.floats(100, 20_000),
)
def test_the_missing_cpu_workers_are_enough_and_not_one_too_many(workers, threads, gpus, cut_rate, gpu_rate):
    cutouts = replace(CUT, workers=workers, threads=workers * threads, targets=cut_rate, seconds=1.0)
    scores = replace(GPU, workers=gpus, targets=gpu_rate, device_seconds=1.0)
    assume(scores.capacity > 1.1 * cutouts.capacity)
    text = verdict(cutouts, scores, False)
    more = int(text.split(": ")[1].split(" more")[0].replace(",", ""))
    each = threads * cut_rate
    assert (workers + more) * each >= scores.capacity * (1 - 1e-6)
    assert (workers + more - 1) * each < scores.capacity * (1 + 1e-6)
    assert math.isfinite(more) and more > 0
