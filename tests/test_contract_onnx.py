"""ONNX files, by onnxruntime, against the same function in numpy."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from networks import BANDS, SIZE, linear, onnx_linear

from survey_scan import models
from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models.runtime import configure

pytest.importorskip("onnxruntime", reason="needs onnxruntime: install the extra [onnx]")
pytest.importorskip("onnx", reason="needs onnx, which writes the files of these tests")


@pytest.fixture(scope="module", autouse=True)
def _keras() -> None:
    configure()


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(3).normal(0, 3, (n, SIZE, SIZE, 2)).astype(np.float32)


def load(path: Path, batch_size: int = 16, **more: Any) -> Any:
    return models.load(Model(path=str(path), batch_size=batch_size, **more), BANDS, SIZE, "float32")


def contract(folder: Path, **more: Any) -> None:
    said = {"network": "net.onnx", "bands": BANDS, "size": SIZE, "pixel_scale": 0.263, **more}
    (folder / "model.yaml").write_text(yaml.safe_dump(said))


def refusal(path: Path, **more: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(path, **more)
    return str(caught.value)


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
def test_the_bands_are_where_the_lengths_of_the_axes_say(tmp_path, layout):
    path, images = tmp_path / "net.onnx", noise(40)
    images[0, 3, 3] = np.nan
    onnx_linear(path, layout, end=None)
    rule = [{"step": "scale", "offset": [0.5, -1.0], "scale": [2.0, 4.0]}]
    network = load(path, output="logit", normalisation=rule)
    expected = linear((np.nan_to_num(images.astype(float)) - [0.5, -1.0]) / [2.0, 4.0])[:, 0]
    np.testing.assert_allclose(network.logits(images), expected, rtol=1e-5, atol=1e-5)
    facts = network.describe()
    assert facts["kind"] == "onnx" and facts["bytes"] == path.stat().st_size
    assert facts["output"] == "logit, from the output 'scores' as model.output says"
    assert network.projected_bytes() > 900 << 20
    alone = np.concatenate([network.logits(image[None]) for image in images])
    np.testing.assert_array_equal(network.logits(images), alone)


def test_free_axes_may_tell_and_else_the_contract_does(tmp_path):
    path, images = tmp_path / "net.onnx", noise(7)
    onnx_linear(path, "NCHW", end=None, shape=("n", 2, "y", "x"))
    expected = linear(images)[:, 0]
    np.testing.assert_allclose(load(path, output="logit").logits(images), expected, rtol=1e-5, atol=1e-5)
    onnx_linear(path, "NCHW", end=None, shape=("n", "c", "y", "x"))
    assert refusal(path, output="logit") == (
        f"{path} takes an input of shape (any, any, any, any), which does not tell where the bands stand. Give it a contract, "
        "a model.yaml beside it, with layout: NHWC (bands last) or NCHW."
    )
    contract(tmp_path, layout="NCHW", output="logit")
    np.testing.assert_allclose(load(path).logits(images), expected, rtol=1e-5, atol=1e-5)


def test_the_class_of_a_softmax_is_named(tmp_path):
    path, images = tmp_path / "net.onnx", noise(9) / 3
    onnx_linear(path, columns=3, end="Softmax")
    contract(tmp_path, output="probability", classes=["spiral", "lens", "ring"], column="lens")
    network, z = load(path), linear(images, 3)
    expected = z[:, 1] - np.log(np.exp(z[:, [0, 2]]).sum(axis=1))
    np.testing.assert_allclose(network.logits(images), expected, rtol=1e-4, atol=1e-4)
    assert network.describe()["output"].endswith("; column 1 of 3, 'lens'")


def test_a_network_exported_for_one_cutout_is_fed_one_at_a_time(tmp_path):
    path, images = tmp_path / "net.onnx", noise(5)
    onnx_linear(path, "NCHW", end=None, shape=(1, 2, SIZE, SIZE))
    network = load(path, output="logit")
    np.testing.assert_allclose(network.logits(images), linear(images)[:, 0], rtol=1e-5, atol=1e-5)
    assert network.describe()["warnings"] == [
        f"{path} takes batches of 1 only, whatever model.batch_size says; save it with a free batch axis to score faster"
    ]


def test_refusals(tmp_path, monkeypatch):
    path = tmp_path / "net.onnx"
    onnx_linear(path)
    assert refusal(path) == (
        f"{path} does not tell whether it gives a probability or a logit (it ends in the output 'scores'). "
        "Set model.output to 'probability' or 'logit'."
    )
    assert refusal(path, output="probability", jit=True) == (
        f"model.jit is true, but XLA cannot compile {path}, which onnxruntime runs. Set it to false."
    )
    assert refusal(path, output="probability", precision="mixed_float16") == (
        f"model.precision is 'mixed_float16', but the precision of {path}, an ONNX file, is that it was exported in. "
        "Set model.precision to 'float32' or 'tf32', or model.path to a .keras or .h5 file."
    )
    with pytest.raises(ModelError) as caught:
        models.load(Model(path=str(path), output="probability"), ["g", "r", "i"], SIZE, "float32")
    assert str(caught.value) == (
        f"{path} expects 2 bands; cutouts.bands has 3 (g, r, i). Set cutouts.bands to its bands in the order it was trained "
        "with, or use another model."
    )
    path.write_bytes(b"\1\2\3" * 99)
    text = refusal(path, output="probability")
    assert text.startswith(f"{path} is damaged, or cannot be run by onnxruntime ") and text.endswith(
        " Export it again."
    )
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert refusal(path, output="probability") == (
        f"{path} needs onnxruntime, which is not installed. pip install 'survey_scan[onnx]'"
    )
