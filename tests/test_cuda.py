"""dask-cuda's worker specs and a scan on them, without a GPU: NVIDIA's management library is a stand-in (fake_gpu/)."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import small_survey

pytest.importorskip("dask_cuda", reason="dask-cuda is not installed (it pins one dask: the extra [gpu])")

FAKE = {
    "PYTHONPATH": str(Path(__file__).parent / "fake_gpu"),
    "FAKE_GPUS": "3",
    "CUDA_VISIBLE_DEVICES": "0,1,2",
    "DASK_CUDA_TEST_SINGLE_GPU": "1",  # dask-cuda's own: its worker goes on where it can make no CUDA context
}

PROFILE = """\
kind: cuda
gpu: {launcher: dask-cuda, workers: 2, cores: 1, require: false}
cpu: {workers: 2}
"""

SPECS = """
from pathlib import Path
from survey_scan.cluster import local, profile, workers
chosen = profile.load("profile.yaml")
pools = workers.pools(chosen.gpu, chosen.cpu, 3, 16, 0)
for name, spec in local.specs(pools, chosen.gpu, local.visible_gpus(), "w.log", "tensorflow").items():
    options = spec["options"]
    plugins = [type(plugin).__name__ for plugin in options.get("plugins", [])]
    print(name, options["nthreads"], options["resources"], options["env"]["CUDA_VISIBLE_DEVICES"] or "-", plugins)
"""


def test_specs_of_two_gpu_workers_and_two_cpu_workers(tmp_path):
    (tmp_path / "profile.yaml").write_text(PROFILE)
    done = subprocess.run(
        [sys.executable, "-c", SPECS], cwd=tmp_path, env={**os.environ, **FAKE}, capture_output=True, text=True
    )
    assert done.stdout.splitlines() == [
        "gpu-0 2 {'scores': 2} 0,1 ['CPUAffinity']",
        "gpu-1 2 {'scores': 2} 1,0 ['CPUAffinity']",
        "cpu-0 1 {'cutouts': 1} - []",
        "cpu-1 1 {'cutouts': 1} - []",
    ], done.stderr


def test_a_scan_on_the_profile_cuda_gives_what_the_local_one_gives(tmp_path):
    survey = small_survey.make(tmp_path / "survey")
    (survey.folder / "profile.yaml").write_text(PROFILE)
    process = survey.command("run", "lrg.yaml", "--profile", "profile.yaml", env={**os.environ, **FAKE})
    out, err = process.communicate(timeout=240)
    assert process.returncode == 0, err
    assert "workers     4 workers on this machine" in out
    code, _, err = survey.call("run", "lrg.yaml", "--set", "run.name=here")
    assert code == 0, err
    runs = survey.folder / "runs"
    assert (runs / "lrg" / "candidates.parquet").read_bytes() == (runs / "here" / "candidates.parquet").read_bytes()
