import json
from typing import Any

import numpy as np
import pytest
from networks import BANDS, SHAPE, SIZE, Networks, bare_demo, quiet

from survey_scan import models
from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models import Device, effect, precision

NETWORK = bare_demo()

MIXED = {"mixed_float16": "float16", "mixed_bfloat16": "bfloat16"}


def model(path: Any, **more: Any) -> Model:
    return Model(path=str(path), batch_size=16, **more)


def noise(n: int, size: int = SIZE, bands: int = len(BANDS)) -> np.ndarray:
    return np.random.default_rng(2).normal(0, 3, (n, size, size, bands)).astype(np.float32)


def dtypes(network: Any) -> dict[str, str]:
    return {layer.name: layer.compute_dtype for layer in network._file.keep._flatten_layers()}


@pytest.mark.parametrize("mixed", MIXED)
@pytest.mark.parametrize(("name", "last"), [("convolutional.keras", "last"), ("convolutional.h5", "last")])
def test_layers_compute_in_mixed_precision_but_the_last(networks_folder: Networks, mixed, name, last):
    path, images = networks_folder[name], noise(40)
    plain = models.load(model(path), BANDS, SIZE, "float32")
    network = models.load(model(path, precision=mixed), BANDS, SIZE, "float32")
    layers = dtypes(network)
    assert layers["convolution"] == MIXED[mixed] and layers[last] == "float32"
    assert {weight.dtype for weight in network._file.keep.weights} == {"float32"}
    expected, logits = plain.logits(images), network.logits(images)
    assert logits.dtype == np.float32
    difference = np.abs(logits - expected).max() / np.ptp(expected)
    assert 1e-7 < difference < (2e-3 if mixed == "mixed_float16" else 2e-2)
    short = logits.astype(np.float16).astype(np.float32)
    assert (short != logits).any()  # more digits than a logit computed in float16 has


@pytest.mark.parametrize("name", ["nested.keras", "nested_first.keras"])
def test_the_last_layer_is_found_in_a_nested_model(networks_folder: Networks, name):
    network = models.load(model(networks_folder[name], precision="mixed_float16"), BANDS, SIZE, "float32")
    layers = dtypes(network)
    assert layers["last"] == "float32" and layers[next(k for k in layers if k.startswith("flatten"))] == "float16"


def test_what_stands_after_the_last_weights_stays_in_float32_too(networks_folder: Networks):
    network = models.load(model(networks_folder["separate.keras"], precision="mixed_float16"), BANDS, SIZE, "float32")
    assert {name: dtypes(network)[name] for name in ("last", "end")} == {"last": "float32", "end": "float32"}


def test_float32_holds_for_a_network_that_was_saved_in_mixed_precision(networks_folder: Networks, tmp_path):
    import keras

    plain = keras.models.load_model(networks_folder["convolutional.keras"], compile=False)
    images = noise(20)
    expected = models.load(model(networks_folder["convolutional.keras"]), BANDS, SIZE, "float32").logits(images)
    precision.apply(plain, "mixed_float16")
    with quiet():
        plain.save(tmp_path / "mixed.keras")
    again = keras.models.load_model(tmp_path / "mixed.keras", compile=False)
    assert again.get_layer("convolution").compute_dtype == "float16"
    network = models.load(model(tmp_path / "mixed.keras"), BANDS, SIZE, "float32")
    assert set(dtypes(network).values()) == {"float32"}
    np.testing.assert_array_equal(network.logits(images), expected)


def test_layers_of_another_precision_stay_as_they_are():
    import keras

    inputs = keras.Input(SHAPE)
    x = keras.layers.Dense(3, dtype="float64", name="double")(inputs)
    network = keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten(name="flat")(x)))
    precision.apply(network, "mixed_bfloat16")
    assert network.get_layer("double").compute_dtype == "float64"
    assert network.get_layer("flat").compute_dtype == "bfloat16"


@pytest.mark.parametrize("mixed", MIXED)
def test_a_saved_model_is_refused(networks_folder: Networks, mixed):
    path = networks_folder["linear"]
    with pytest.raises(ModelError) as caught:
        models.load(model(path, output="logit", precision=mixed), BANDS, SIZE, "float32")
    assert str(caught.value) == (
        f"model.precision is '{mixed}', but the precision of {path}, a SavedModel folder, is that it was exported in. "
        "Set model.precision to 'float32' or 'tf32', or model.path to a .keras or .h5 file."
    )
    models.load(model(path, output="logit", precision="tf32"), BANDS, SIZE, "float32")


# --- what it does to the logits ---


def test_nothing_is_measured_where_nothing_can_differ():
    images = noise(20)
    for plain in (
        Model(path="loopback", precision="tf32", jit=True),
        model(NETWORK),
        model(NETWORK, backend="jax", jit=True),
    ):
        assert effect.measure(plain, BANDS, SIZE, "float32", images, None, Device()) is None


@pytest.mark.parametrize(
    ("more", "options"),
    [({"jit": True}, "XLA"), ({"precision": "mixed_float16", "jit": True}, "mixed_float16 + XLA"), ({"precision": "tf32"}, "tf32")],
)  # fmt: skip
def test_the_effect_is_the_difference_of_two_networks(more, options):
    bands, images = ["g", "r", "i"], noise(50, 45, 3)
    images[:, 18:27, 18:27] += np.linspace(0, 200, 50, dtype=np.float32)[:, None, None, None]
    wanted = model(NETWORK, **more)
    plain, fast = (models.load(m, bands, 45, "float32").logits(images) for m in (model(NETWORK), wanted))
    found = effect.measure(wanted, bands, 45, "float32", images, None, Device())
    change = np.abs(fast.astype(float) - plain)
    assert json.loads(json.dumps(found)) == {
        "options": options,
        "n": 50,
        "max": change.max(),
        "median": np.median(change),
        "lost": 0,
        "moved": len(set(np.argsort(-plain)[:5]) - set(np.argsort(-fast)[:5])),
    }
    assert (found["max"] > 1e-4) == ("mixed" in options)


def test_logits_that_get_lost_are_counted():
    before = np.arange(20, dtype=np.float32)
    after = before + np.float32(0.5)
    after[19], after[0] = np.nan, np.inf
    assert effect.compare(before, after) == {"max": 0.5, "median": 0.5, "lost": 2, "moved": 1}
    none = effect.compare(before, np.full(20, np.nan, np.float32))
    assert none == {"max": None, "median": None, "lost": 20, "moved": 2}
    assert effect.line({"options": "tf32", "n": 20, **none}) == (
        "tf32 leaves none of 20 cutouts a logit that float32 gives one"
    )


def test_the_effect_in_one_line():
    found = {"options": "mixed_float16 + XLA", "n": 256, "max": 0.0314, "median": 0.00212, "lost": 0, "moved": 1}
    text = (
        "mixed_float16 + XLA changes the logits of 256 cutouts by 0.0021 (median) to 0.031 (largest); "
        "of the best 26, 1 are others"
    )
    assert effect.line(found) == text
    assert effect.line({**found, "lost": 3}) == f"{text}; 3 of them get none"
