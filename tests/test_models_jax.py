"""The same networks on JAX, in one process of its own, against TensorFlow in this one."""

import importlib.util
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from networks import BANDS, SIZE, Networks, bare_demo

from survey_scan import models
from survey_scan.config import Model
from survey_scan.store.quantisation import quantise

NETWORK = bare_demo()

pytestmark = pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax: install the extra [jax]")

GRI = ["g", "r", "i"]
RULE = [
    {"step": "scale", "offset": [0.5, -1.0], "scale": [2.0, 4.0]},
    {"step": "clip", "low": -1.0, "high": 1.5},
]
SMALL = (BANDS, SIZE, "float32", "small")
DEMO = (GRI, 45, "float32", "sky")

#: By name: file, more of the section ``model``, and the pixels.
CASES: dict[str, tuple[str, dict[str, Any], tuple[Any, ...]]] = {
    "sigmoid": ("sigmoid.keras", {}, SMALL),
    "h5": ("separate.h5", {}, SMALL),
    "nested": ("nested.keras", {"jit": True}, SMALL),
    "shared": ("shared.keras", {}, SMALL),
    "softmax": ("softmax.keras", {"column": 2}, SMALL),
    "sigmoids": ("sigmoids_3.keras", {"column": 1}, SMALL),
    "probability": ("hard_sigmoid.keras", {"output": "probability"}, SMALL),
    "counts": ("convolutional.keras", {"normalisation": RULE, "nan_fill": 3.5}, (BANDS, SIZE, "int16", "counts")),
    "half": ("convolutional.keras", {"nan_fill": -1.0}, (BANDS, SIZE, "float16", "half")),
    "band by band": (
        "convolutional.keras",
        {
            "normalisation": [
                {"step": "z-score"},
                {"step": "asinh"},
                {"step": "resize", "size": 20, "method": "bicubic"},
                {"step": "scale", "scale": 0.1},
            ]
        },
        SMALL,
    ),
    "image by image": (
        "convolutional.keras",
        {
            "normalisation": [
                {"step": "log", "floor": 0.1},
                {"step": "z-score", "per": "image"},
                {"step": "min-max", "per": "image", "to": [-3.0, 3.0]},
                {"step": "order", "bands": ["r", "g"]},
                {"step": "resize", "size": 12, "method": "nearest"},
            ]
        },
        (BANDS, SIZE, "int16", "counts"),
    ),
    "bytes": (
        "convolutional.keras",
        {"normalisation": [{"step": "min-max"}, {"step": "quantise"}, {"step": "scale", "scale": 20.0}]},
        SMALL,
    ),
    "colours": (
        "demo",
        {"normalisation": [{"step": "lupton", "stretch": 5.0, "q": 8.0}, {"step": "scale", "scale": 0.01}]},
        DEMO,
    ),
    "contract": ("contract", {}, (["z", "r", "g"], SIZE, "float32", "three")),
    "demo": ("demo", {}, DEMO),
    "demo_float16": ("demo", {"precision": "mixed_float16"}, DEMO),
    "demo_bfloat16": ("demo", {"precision": "mixed_bfloat16"}, DEMO),
}


def pixels() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(11)
    small = rng.normal(0, 3, (20, SIZE, SIZE, 2)).astype(np.float32)
    small[0] *= 100
    holes = small.copy()
    holes[3, 2, 5] = np.nan
    counts, step = quantise(holes)
    three = rng.normal(0, 3, (20, SIZE, SIZE, 3)).astype(np.float32)
    three[4, 4] = np.nan
    sky = rng.normal(0, 1, (40, 45, 45, 3)).astype(np.float32)
    sky[:, 18:27, 18:27] += np.linspace(0, 200, 40, dtype=np.float32)[:, None, None, None]
    return {
        "three": three,
        "small": small,
        "half": holes.astype(np.float16),
        "counts": counts,
        "counts_step": step,
        "sky": sky,
    }


def package(networks: Networks) -> Path:
    """A network with a contract that takes the centre of two of three bands."""
    folder = networks.folder / "package"
    folder.mkdir(exist_ok=True)
    said = {
        "network": "../convolutional.keras", "bands": BANDS, "size": 6, "pixel_scale": 0.263, "temperature": 0.5,
        "allow": ["centre-crop", "re-order"], "nan_fill": 2.0,
    }  # fmt: skip
    (folder / "model.yaml").write_text(yaml.safe_dump(said))
    assert networks["convolutional.keras"].exists()
    return folder


def section(networks: Networks, case: str, backend: str) -> dict[str, Any]:
    name, more, _ = CASES[case]
    path = {"demo": NETWORK, "contract": package(networks)}.get(name) or networks[name]
    return {"path": str(path), "batch_size": 16, "backend": backend, **more}


@pytest.fixture(scope="module")
def on_jax(networks_folder: Networks, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Any]:
    """Facts and logits from the other process."""
    folder = tmp_path_factory.mktemp("jax")
    np.savez(folder / "arrays.npz", **pixels())
    saved = {"path": str(networks_folder["sigmoid"]), "output": "probability", "batch_size": 16, "backend": "jax"}
    tensorflow = section(networks_folder, "sigmoid", "tensorflow")
    large = {"path": str(networks_folder["deep.keras"]), "batch_size": 16, "backend": "jax"}
    job = {
        "arrays": str(folder / "arrays.npz"),
        "logits": str(folder / "logits.npz"),
        "cases": {case: (section(networks_folder, case, "jax"), *CASES[case][2]) for case in CASES},
        "bits": ({"path": str(NETWORK), "batch_size": 7, "backend": "jax"}, *DEMO),
        "refused": {
            "savedmodel": (saved, *SMALL[:3]),
            "tensorflow": (tensorflow, *SMALL[:3]),
            "size": (large, *SMALL[:3]),
        },
    }
    (folder / "job.json").write_text(json.dumps(job))
    script = Path(__file__).parent / "on_jax.py"
    environment = {**os.environ, "PYTHONPATH": str(script.parent.parent), "KERAS_BACKEND": "tensorflow"}
    environment.pop("XLA_PYTHON_CLIENT_PREALLOCATE", None)
    environment.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-W", "error", script, folder / "job.json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.stderr == ""
    with np.load(folder / "logits.npz") as logits:
        return json.loads(done.stdout), dict(logits)


@pytest.mark.parametrize("case", [case for case in CASES if "float16" not in case])
def test_jax_gives_the_logits_of_tensorflow(on_jax, networks_folder, case):
    bands, size, dtype, images = CASES[case][2]
    given = pixels()
    network = models.load(Model(**section(networks_folder, case, "tensorflow")), bands, size, dtype)
    expected = network.logits(given[images], given[f"{images}_step"] if dtype == "int16" else None)
    assert np.ptp(expected) > 0.1 and len(set(expected.tolist())) > 9
    apart = 1e-2 if case == "bytes" else 1e-5  # a pixel may be rounded down to the next level on one of them
    np.testing.assert_allclose(on_jax[1][case], expected, rtol=apart, atol=apart)


@pytest.mark.parametrize(("case", "most"), [("demo_float16", 0.02), ("demo_bfloat16", 0.2)])
def test_mixed_precision_is_that_of_tensorflow_within_its_digits(on_jax, networks_folder, case, most):
    logits, plain = on_jax[1][case], on_jax[1]["demo"]
    assert 1e-4 < np.abs(logits - plain).max() < most
    network = models.load(Model(**section(networks_folder, case, "tensorflow")), *DEMO[:3])
    assert np.abs(logits - network.logits(pixels()["sky"])).max() < most


def test_logits_depend_neither_on_the_batch_nor_on_the_thread(on_jax):
    same = on_jax[0]["same"]
    assert same["threads"] is True and same["elsewhere"] < 1e-5  # its place in a batch changes the last bits


def test_facts(on_jax):
    facts = on_jax[0]
    size = Path(NETWORK).stat().st_size
    projected = facts["demo"].pop("projected_bytes")
    assert facts["demo"] == {
        "path": str(NETWORK),
        "contract": None,
        "kind": "keras",
        "input": [16, 45, 45, 3],
        "dtype": "float32",
        "view": None,
        "normalisation": [],
        "parameters": 19509,
        "bytes": size,
        "output": "logit, from the linear 'logit' (Dense)",
        "backend": "jax",
        "device": "CPU",
        "precision": "float32",
        "views": 1,
        "jit": True,
        "warnings": [],
    }
    assert facts["demo_bfloat16"]["precision"] == "mixed_bfloat16"
    maps = 16 * 45 * 45 * 4 * 3  # a batch of the network's pixels
    assert 900 << 20 < projected < (900 << 20) + 100 * maps
    assert projected > facts["sigmoid"]["projected_bytes"]


def test_jax_is_alone_on_its_threads_and_takes_no_memory_in_advance(on_jax):
    facts = on_jax[0]
    assert facts["tensorflow"] is False
    assert facts["threads"] == 1
    assert facts["settings"] == {"PREALLOCATE": "false", "MEM_FRACTION": "0.25"}


def test_refusals(on_jax, networks_folder):
    refused = on_jax[0]["refused"]
    folder, deep = networks_folder["sigmoid"], networks_folder["deep.keras"]
    assert on_jax[0]["require"] == (
        f"a GPU is required, but JAX sees none on {socket.gethostname()} (CUDA_VISIBLE_DEVICES is not set). "
        "See what nvidia-smi shows there and install jax[cuda12], or set gpu.require to false in the profile."
    )
    assert refused["savedmodel"] == (
        f"{folder} is a SavedModel folder, which only runs with TensorFlow, and model.backend is 'jax'. "
        "Set model.backend to 'tensorflow', or model.path to a .keras or .h5 file."
    )
    assert refused["tensorflow"] == (
        "Keras already runs on jax in this process. Start Python with KERAS_BACKEND=tensorflow."
    )
    assert refused["size"].startswith(f"{deep} cannot run on cutouts of shape (8, 8, 2): ")
    assert on_jax[0]["out_of_memory"] == (
        f"{NETWORK} does not fit in memory with a batch of 7 cutouts. Lower model.batch_size below 7."
    )


def test_a_gpu_that_fails_is_told_from_a_network_that_does(on_jax):
    cuda = "INTERNAL: CUDA_ERROR_ILLEGAL_ADDRESS: an illegal memory access was encountered"
    assert on_jax[0]["failures"] == {
        "lost": f"DeviceLost: the GPU (NVIDIA H100) failed: {cuda}.",
        "no gpu": f"JaxRuntimeError: {cuda}",
        "memory": "JaxRuntimeError: RESOURCE_EXHAUSTED: Out of memory while trying to allocate 99 bytes: CUDA_ERROR_UNKNOWN",
        "another": "JaxRuntimeError: INTERNAL: libdevice not found",
    }


def test_the_effect_of_mixed_precision(on_jax):
    found = on_jax[0]["effect"]
    change = np.abs(on_jax[1]["demo_float16"].astype(float) - on_jax[1]["demo"])
    assert found["options"] == "mixed_float16" and found["n"] == 40
    assert found["max"] == change.max() and found["median"] == np.median(change)
