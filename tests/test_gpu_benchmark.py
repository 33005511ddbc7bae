"""``benchmarks/gpu.py``: its arithmetic here, the whole of it in small on a CPU (slow), and in earnest on a GPU (gpu)."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))

import gpu  # noqa: E402
import gpu_models  # noqa: E402
import gpu_pipeline  # noqa: E402
from gpu_pipeline import Task  # noqa: E402

MODEL_KEYS = {
    "network", "precision", "parameters", "shape", "device", "images_per_second", "slowest_of_fastest_round", "scan_of_bare",
    "load_seconds", "gpu_memory", "against_cpu_float32", "versions", "seconds",
}  # fmt: skip
PIPELINE_KEYS = {
    "network", "precision", "targets", "partition", "workers", "survey", "bare_model_per_second", "cutouts_alone_per_second",
    "cutouts_alone_all_cores_per_second", "cutouts_alone_rounds", "slower", "pipeline_per_second", "pipeline_over_slower",
    "gpu_idle_share", "rounds", "with_start", "seconds",
}  # fmt: skip


def scan(cut: float, score: float, load: float, n: int = 40, device: float = 1.0) -> list[Task]:
    """Partitions of 100 targets, cut and scored one after the other; the network takes a while to load."""
    tasks, free = [], load
    for i in range(n):
        tasks.append(Task("cutouts", i * cut, (i + 1) * cut, 100, 0.0))
        began = max(free, (i + 1) * cut)
        free = began + score
        tasks.append(Task("scores", began, free, 100, device * score))
    return tasks


def test_a_scan_as_fast_as_its_slower_stage_has_ratio_one():
    limited_by_model = gpu_pipeline.evaluate(scan(cut=0.5, score=1.0, load=10.0), bare=100.0, alone=200.0)
    assert limited_by_model["over_slower"] == pytest.approx(1.0)
    assert limited_by_model["gpu_idle"] == pytest.approx(0.0)
    whole = gpu_pipeline.evaluate(scan(cut=0.5, score=1.0, load=10.0), bare=100.0, alone=200.0, start=True)
    assert whole["over_slower"] == pytest.approx(40 / 50)  # ten seconds of loading
    limited_by_cutouts = gpu_pipeline.evaluate(scan(cut=1.0, score=0.25, load=0.0), bare=400.0, alone=100.0)
    assert limited_by_cutouts["over_slower"] == pytest.approx(1.0, abs=0.02)  # but for the last partition's scores
    assert limited_by_cutouts["gpu_idle"] == pytest.approx(0.75, abs=0.01)


def test_work_done_while_the_network_loads_is_not_credited():
    """All is cut before the first score; what follows is at half the bare network's rate."""
    found = gpu_pipeline.evaluate(scan(cut=0.01, score=2.0, load=60.0, device=0.5), bare=100.0, alone=1e4)
    assert found["over_slower"] == pytest.approx(0.5)
    assert found["cutouts_per_second"] == 0
    assert found["gpu_idle"] == pytest.approx(0.5)


def test_too_few_partitions_are_refused():
    with pytest.raises(
        ValueError, match=r"^3 partitions are too few to tell a rate from: 4 at least\. Give more --targets\.$"
    ):
        gpu_pipeline.evaluate(scan(1.0, 1.0, 0.0, n=3), 1.0, 1.0)


def test_only_the_last_start_of_a_run_counts():
    done = {"event": "finished", "stage": "scores", "partition": 0, "seconds": 2.0, "targets": 7, "device_seconds": 1.5}
    events = [
        {"time": 1.0, "event": "started"},
        {"time": 5.0, **done},
        {"time": 6.0, "event": "started"},
        {"time": 7.0, "event": "stage", "stage": "scan"},
        {"time": 9.0, **done},
    ]
    assert gpu_pipeline.tasks_of([json.dumps(event) for event in events]) == [Task("scores", 7.0, 9.0, 7, 1.5)]


def test_difference_counts_what_leaves_the_best_tenth():
    reference = np.arange(100.0)
    same = gpu_models.difference(reference, reference + 1)  # all moved alike: no rank changes
    assert (same["max"], same["median"], same["moved"], same["largest_move"]) == (1.0, 1.0, 0, 0)
    other = reference.copy()
    other[[99, 0]] = other[[0, 99]]
    swapped = gpu_models.difference(reference, other)
    assert (swapped["best"], swapped["moved"], swapped["largest_move"], swapped["median"]) == (10, 1, 99, 0.0)


def test_turns_alternate_and_count_calls():
    made: list[tuple[str, int]] = []
    ways = {name: (lambda n, name=name: made.append((name, n))) for name in ("a", "b")}
    rates = gpu_models.turns(ways, seconds=0.0, rounds=3)
    assert {name: len(each) for name, each in rates.items()} == {"a": 3, "b": 3}
    assert [name for name, _ in made[4:]] == [
        "b",
        "a",
        "a",
        "b",
        "b",
        "a",
    ]  # after two calls each to warm up and to time


def test_a_scan_fits_the_disk_and_feeds_every_worker():
    targets, partition = gpu.scan_size(50_000, 45, workers=12, free=1e12)
    assert targets * 45**2 * 12 <= gpu.STORE_BYTES
    assert partition == 4096
    targets, _ = gpu.scan_size(50_000, 45, workers=12, free=1e9)
    assert targets * 45**2 * 12 <= 0.25e9
    assert gpu.partition_size(2048, 1) == 256


def test_what_the_pipelines_need_comes_first():
    found = gpu.combinations(["a", "b"], ["float32", "tf32"], [("b", "tf32")])
    assert found == [("b", "tf32"), ("a", "float32"), ("b", "float32"), ("a", "tf32")]


def test_a_measurement_that_fails_says_why():
    found = gpu.child({"task": "no such task", "backend": "tensorflow"}, timeout=60)
    assert found["error"].endswith("KeyError: 'no such task'")


def run(folder: Path, *words: str, timeout: float) -> dict:
    keep = folder / "gpu.json"
    command = [sys.executable, str(BENCHMARKS / "gpu.py"), "--keep", str(keep), "--folder", str(folder), *words]
    done = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert json.loads(done.stdout) == json.loads(keep.read_text())
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_it_in_small_on_a_cpu(tmp_path):
    if gpu_models.cards():
        pytest.skip("this machine has a GPU; the test marked gpu is for it")
    words = "--networks small45 --precisions float32 --batch 64 --seconds 0.3 --rounds 2 --compare 16 --targets 2048"
    found = run(tmp_path, *words.split(), "--survey", "legacy", "--budget", "800", timeout=880)
    assert found["device"]["used"] == "CPU"
    note = "tensorflow used no GPU: these are not figures of a GPU and say nothing of one"
    assert found["device"]["note"] == note
    (model,), (pipeline,) = found["models"], found["pipelines"]
    assert model.keys() == MODEL_KEYS
    assert pipeline.keys() == PIPELINE_KEYS
    assert model["against_cpu_float32"]["max"] < 1e-5  # the same processor
    assert set(model["images_per_second"]) == {"bare_resident", "bare_copied", "scan_resident", "scan_copied"}
    assert 0 < pipeline["with_start"]["over_slower"] < pipeline["pipeline_over_slower"]


@pytest.mark.slow
def test_vit_has_its_parameters_and_scores_as_a_scan_loads_it(tmp_path):
    """Saved, loaded and called through the code of a scan, without a custom layer: which that would refuse."""
    job = {"task": "make", "backend": "tensorflow", "files": {"vit": str(tmp_path / "vit.keras")}}
    assert gpu.child(job, timeout=250, cpu=True) == {}
    job = {
        "task": "reference", "backend": "tensorflow", "network": "vit", "file": str(tmp_path / "vit.keras"), "batch": 2,
        "reference": str(tmp_path / "vit.npy"), "compare": 2, "jit": False, "precision": "float32",
    }  # fmt: skip
    assert gpu.child(job, timeout=250, cpu=True) == {}
    logits = np.load(tmp_path / "vit.npy")
    assert np.isfinite(logits).all()
    assert logits[0] != logits[1]


@pytest.mark.gpu
@pytest.mark.timeout(900)
def test_a_scan_keeps_nine_tenths_of_its_slower_stage_on_a_gpu(tmp_path):
    if shutil.which("nvidia-smi") is None or not gpu_models.cards():
        pytest.skip("no NVIDIA GPU here: nvidia-smi lists none")
    found = run(tmp_path, "--networks", "deeplens45", "--precisions", "float32", timeout=880)
    assert found["device"]["used"] != "CPU", found["device"]
    (pipeline,) = found["pipelines"]
    assert pipeline["pipeline_over_slower"] >= 0.9, pipeline
