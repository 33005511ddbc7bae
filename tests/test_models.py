import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import BANDS, SHAPE, SIZE, Networks, linear, quiet

from survey_scan import models
from survey_scan.config import Model
from survey_scan.errors import ModelError, ResourceError
from survey_scan.models import runtime
from survey_scan.models.memory import live_bytes
from survey_scan.models.readout import P_HIGH, P_LOW
from survey_scan.store.quantisation import NAN_INT16, quantise, restore

EXPORT = (
    "Export it where it was trained, with model.export('folder'), or tf.saved_model.save(model, 'folder') in Keras 2; "
    "then set model.path to the folder and model.output to what it gives."
)


@pytest.fixture
def networks(networks_folder: Networks) -> Networks:
    return networks_folder


def noise(n: int, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, *shape)).astype(np.float32)


def load(path: Path | str, size: int = SIZE, dtype: str = "float32", bands: list[str] = BANDS, **more: Any) -> Any:
    return models.load(Model(path=str(path), **{"batch_size": 16, **more}), bands, size, dtype)


# --- the logit ---


@pytest.mark.parametrize(
    "name",
    [
        "sigmoid.keras", "sigmoid.h5", "linear.keras", "separate.keras", "separate.h5", "linear_activation.keras",
        "nested.keras", "nested.h5", "nested_first.keras", "ops_sigmoid.keras", "tail.keras",
    ],
)  # fmt: skip
def test_logit_is_what_stands_before_the_last_activation(networks, name):
    images = noise(20)
    images[0] *= 100  # its sigmoid is exactly 0 or 1 in float32
    logits = load(networks[name]).logits(images)
    np.testing.assert_allclose(logits, linear(images)[:, 0], rtol=1e-5, atol=1e-5)
    assert abs(logits[0]) > 30


def test_a_shared_last_layer_stays_as_it_is_elsewhere_in_the_network(networks):
    images = noise(20)
    expected = linear(1 / (1 + np.exp(-images.astype(float))))[:, 0]
    np.testing.assert_allclose(load(networks["shared.keras"]).logits(images), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "name", ["softmax.keras", "softmax.h5", "softmax_layer.keras", "ops_softmax.keras", "logits_3.keras"]
)
@pytest.mark.parametrize("column", [0, 2])
def test_softmax_gives_the_logit_of_one_class_against_the_others(networks, name, column):
    images = noise(20)
    z = linear(images, 3)
    others = np.delete(z, column, axis=1)
    expected = z[:, column] - np.log(np.exp(others).sum(axis=1))
    logits = load(networks[name], column=column).logits(images)
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5)
    p = np.exp(z[:, column]) / np.exp(z).sum(axis=1)
    np.testing.assert_allclose(1 / (1 + np.exp(-logits.astype(float))), p, rtol=1e-5)


def test_two_classes_give_the_difference_of_their_logits(networks):
    images = noise(20)
    z = linear(images, 2)
    logits = load(networks["two_classes.keras"], column=1).logits(images)
    np.testing.assert_allclose(logits, z[:, 1] - z[:, 0], rtol=1e-5, atol=1e-5)


def test_independent_sigmoids_give_the_logit_of_their_column(networks):
    images = noise(20)
    logits = load(networks["sigmoids_3.keras"], column=1).logits(images)
    np.testing.assert_allclose(logits, linear(images, 3)[:, 1], rtol=1e-5, atol=1e-5)


def test_saved_model_of_probabilities_gives_logits_up_to_saturation(networks):
    images = noise(20)
    images[:2] *= 100
    images[1] = -images[0]
    network = load(networks["sigmoid"], output="probability")
    logits, z = network.logits(images), linear(images)[:, 0]
    inside = np.abs(z) < 5
    assert inside.sum() > 8
    np.testing.assert_allclose(logits[inside], z[inside], rtol=1e-4, atol=1e-4)
    low, high = np.sort(logits[:2])
    assert high == pytest.approx(np.log(P_HIGH / (1 - P_HIGH)))
    assert 16.6 < high < 16.7
    assert np.log(P_LOW) <= low < -80  # TensorFlow's sigmoid itself ends somewhere here
    assert network.describe()["warnings"] == [
        "a logit computed from a float32 probability cannot exceed 16.6, so that the best targets may tie; "
        "a .keras file that ends in a sigmoid or softmax does not have this limit"
    ]


def test_saved_model_of_logits_gives_them(networks):
    images = noise(20)
    network = load(networks["linear"], output="logit")
    np.testing.assert_allclose(network.logits(images), linear(images)[:, 0], rtol=1e-5, atol=1e-5)
    assert network.describe()["warnings"] == []


def test_real_network_gives_its_published_scores(survey_data):
    folder = survey_data / "models_keras"
    given = np.load(folder / "braai_reference_io.npz")
    for name in ("braai_d6_m9.keras", "braai_d6_m9_keras3.h5"):
        network = load(folder / name, 63, bands=["sci", "ref", "diff"])
        logits = network.logits(given["x"].astype(np.float32))
        np.testing.assert_allclose(1 / (1 + np.exp(-logits.astype(float))), given["y"].ravel(), atol=1e-7)


def test_real_keras_2_file_is_refused_with_the_way_out(survey_data):
    path = survey_data / "models_keras" / "braai_d6_m9.h5"
    with pytest.raises(ModelError) as caught:
        load(path, 63, bands=["sci", "ref", "diff"])
    text = str(caught.value)
    assert text.startswith(f"{path}, written by Keras 2.2.4-tf, cannot be read by Keras 3.")
    assert text.endswith(EXPORT)


# --- the pixels ---


@pytest.mark.parametrize(("dtype", "jit"), [("float32", False), ("float16", False), ("int16", False), ("int16", True)])
def test_pixels_are_restored_filled_shifted_scaled_and_clipped(networks, dtype, jit):
    flux = noise(20)
    flux[3, 2, 5] = np.nan
    flux[7, 0] = np.nan
    image, step = flux.astype(np.float16), None
    if dtype == "float32":
        image = flux
    elif dtype == "int16":
        image, step = quantise(flux)
        assert (image == NAN_INT16).sum() == 18
    pixels = restore(image, step) if step is not None else image.astype(np.float32)
    rule = [
        {"step": "scale", "offset": [0.5, -1.0], "scale": [2.0, 4.0]},
        {"step": "clip", "low": -1.0, "high": 1.5},
    ]
    filled = np.where(np.isnan(pixels), 3.5, pixels).astype(float)
    expected = linear(np.clip((filled - [0.5, -1.0]) / [2.0, 4.0], -1, 1.5))[:, 0]
    network = load(networks["linear.keras"], dtype=dtype, nan_fill=3.5, normalisation=rule, jit=jit)
    np.testing.assert_allclose(network.logits(image, step), expected, rtol=1e-5, atol=1e-5)


def test_a_number_of_the_normalisation_holds_for_all_bands(networks):
    flux = noise(5)
    network = load(networks["linear.keras"], normalisation=[{"step": "scale", "offset": 1.0, "scale": 2.0}])
    np.testing.assert_allclose(network.logits(flux), linear((flux - 1.0) / 2.0)[:, 0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("jit", [False, True])
def test_logits_are_the_same_bits_wherever_a_cutout_stands(networks, jit):
    """Batch of 7, so that vector units are never filled evenly."""
    network = load(networks["convolutional.keras"], 21, batch_size=7, jit=jit)
    images = noise(40, shape=(21, 21, 2))
    alone = np.concatenate([network.logits(image[None]) for image in images])
    assert len(set(alone.tolist())) == 40
    np.testing.assert_array_equal(network.logits(images), alone)
    np.testing.assert_array_equal(network.logits(images[::-1])[::-1], alone)
    np.testing.assert_array_equal(network.logits(images[3:])[5:], alone[8:])
    bright = images[:7].copy()
    bright[1:] *= 1e4
    bright[2] = np.nan
    assert network.logits(bright)[0] == alone[0]


def test_nothing_is_traced_twice(networks):
    network = load(networks["convolutional.keras"], 12)
    for n in (1, 16, 5, 33, 15):
        assert network.logits(noise(n, shape=(12, 12, 2))).shape == (n,)
    assert network.call.experimental_get_tracing_count() == 1


def test_a_network_of_any_size_takes_the_size_of_the_cutouts(networks):
    assert load(networks["convolutional.keras"], 12).describe()["input"] == [16, 12, 12, 2]
    assert load(networks["convolutional.keras"], 31).describe()["input"] == [16, 31, 31, 2]


def test_a_network_of_a_fixed_batch_gets_batches_of_that_size(networks):
    network, images = load(networks["batches_of_4.keras"]), noise(9)
    assert network.describe()["input"] == [4, 8, 8, 2]
    assert network.describe()["warnings"] == [
        f"{networks['batches_of_4.keras']} takes batches of 4 only, whatever model.batch_size says; save it with a free "
        "batch axis to score faster"
    ]
    alone = np.concatenate([network.logits(image[None]) for image in images])
    np.testing.assert_array_equal(network.logits(images), alone)


def test_a_batch_of_other_pixels_is_a_mistake(networks):
    network = load(networks["linear.keras"], dtype="int16")
    image, step = quantise(noise(3))
    with pytest.raises(ValueError, match=r"this batch needs steps of shape \(3, 2\), not None"):
        network.logits(image)
    with pytest.raises(
        ValueError, match=r"a batch of float32\(3, 8, 8, 2\) was given to a network loaded for at most 16"
    ):
        network.logits(noise(3), step)
    with pytest.raises(ValueError, match=r"this batch needs steps of shape None, not \(3, 2\)"):
        load("loopback").logits(noise(3), step)


# --- what is refused, and how ---

REFUSED: dict[str, tuple[str, dict[str, Any], str]] = {
    "several inputs": (
        "two_inputs.keras", {},
        "{path} is a multi-input network (2 inputs: image, weight), and one is needed. "
        "Save a network with one: keras.Model(input, output).save('name.keras').",
    ),
    "several inputs of a SavedModel": (
        "two_inputs", {"output": "logit"},
        "{path} is a multi-input network (2 inputs: image, weight), and one is needed. "
        "Save a network with one: keras.Model(input, output).save('name.keras').",
    ),
    "Lambda": ("lambda.keras", {}, "{path} has a Lambda layer, code that loading it would run. " + EXPORT),
    "Lambda in h5": ("lambda.h5", {}, "{path} has a Lambda layer, code that loading it would run. " + EXPORT),
    "classes": (
        "softmax.keras", {},
        "{path} gives 3 classes, and which one is the lens is not known. Set model.column to one of 0 to 2.",
    ),
    "column": (
        "softmax.keras", {"column": 3},
        "model.column is 3, but {path} gives 3 classes. Set model.column to one of 0 to 2.",
    ),
    "column of one": (
        "linear.keras", {"column": 1},
        "model.column is 1, but {path} gives 1 class. Remove model.column.",
    ),
    "one class": (
        "one_class.keras", {},
        "{path} ends in a softmax over one class, which is always 1. "
        "Use a model that ends in a sigmoid, or in a softmax over two classes.",
    ),
    "softmax over a map": (
        "map_out.keras", {},
        "{path} ends in a softmax over 1 classes but gives 64 numbers a cutout. "
        "Use a model that gives one row of classes.",
    ),
    "sigmoid said to be a logit": (
        "sigmoid.keras", {"output": "logit"},
        "model.output is 'logit', but {path} ends in a sigmoid, 'last' (Dense), and gives a probability. "
        "Remove model.output: the logit from before it is used.",
    ),
    "linear said to be a probability": (
        "linear.keras", {"output": "probability"},
        "model.output is 'probability', but {path} ends in a linear 'last' (Dense) and gives a logit. "
        "Remove model.output, or set it to 'logit'.",
    ),
    "another activation": (
        "tanh.keras", {},
        "{path} does not tell whether it gives a probability or a logit (it ends in 'last' (Dense)). "
        "Set model.output to 'probability' or 'logit'.",
    ),
    "SavedModel": (
        "sigmoid", {},
        "{path} does not tell whether it gives a probability or a logit (it ends in the signature 'serving_default'). "
        "Set model.output to 'probability' or 'logit'.",
    ),
    "probability below 0": (
        "tanh.keras", {"output": "probability"},
        "model.output is 'probability', but {path} gave a number below 0. Set model.output to 'logit'.",
    ),
    "bands": (
        "three_bands.keras", {},
        "{path} expects 3 bands; cutouts.bands has 2 (g, r). "
        "Set cutouts.bands to its bands in the order it was trained with, or use another model.",
    ),
    "one band": (
        "one_band.keras", {},
        "{path} expects 1 band; cutouts.bands has 2 (g, r). "
        "Set cutouts.bands to its bands in the order it was trained with, or use another model.",
    ),
    "bands first": (
        "bands_first.keras", {},
        "{path} expects 8 bands; cutouts.bands has 2 (g, r). "
        "It seems to take the bands as the first axis; save it with the bands as the last, or use another model.",
    ),
    "size": (
        "larger.keras", {},
        "{path} expects cutouts of 16 × 16 pixels; cutouts.size is 8. Set cutouts.size to 16, or use another model.",
    ),
    "size of a SavedModel": (
        "larger", {"output": "logit"},
        "{path} expects cutouts of 16 × 16 pixels; cutouts.size is 8. Set cutouts.size to 16, or use another model.",
    ),
    "oblong": (
        "oblong.keras", {},
        "{path} expects cutouts of 8 × 16 pixels; cutouts.size is 8. Save it for square cutouts, or use another model.",
    ),
    "vector": (
        "vector.keras", {},
        "{path} expects an input of shape (any, 128); cutouts are (batch, height, width, bands). Use another model.",
    ),
    "bytes": (
        "bytes_in.keras", {},
        "{path} expects uint8 pixels; cutouts are fluxes, float32. Save the model with a float32 input.",
    ),
    "damaged weights": (
        "damaged.keras", {},
        "{path} has weights that are not finite numbers, in 1 of 2 arrays (the first: 'last/kernel'): its training "
        "diverged, or the file is damaged. Use another model.",
    ),
    "no number": (
        "root.keras", {"output": "logit"},
        "{path} gave no finite number on 16 cutouts of noise. "
        "Use another model if its weights are damaged, or mend model.normalisation.",
    ),
    "offsets": (
        "linear.keras", {"normalisation": [{"step": "scale", "offset": [1.0, 2.0, 3.0]}]},
        "model.normalisation: step 1 (scale): 'offset' has 3 values, but there are 2 bands (g, r). "
        "Give one number for all, or one a band in this order.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refusals_say_what_is_wrong_and_what_to_do(networks, case):
    name, more, text = REFUSED[case]
    path = networks[name]
    with pytest.raises(ModelError) as caught:
        load(path, **more)
    assert str(caught.value) == text.format(path=path)


def test_several_outputs_are_named(networks):
    for name in ("two_outputs.keras", "two_outputs"):
        with pytest.raises(
            ModelError, match=r"is a multi-output network \(2 outputs: .*\), and one is needed\. Save a"
        ):
            load(networks[name], output="logit")


def test_what_cannot_run_at_this_size_says_so(networks):
    with pytest.raises(ModelError) as caught:
        load(networks["deep.keras"])
    text = str(caught.value)
    assert text.startswith(f"{networks['deep.keras']} cannot run on cutouts of shape (8, 8, 2): ")
    assert text.endswith(" Set cutouts.size and cutouts.bands to what it was trained with.")


def spoil(folder: Path, networks: Networks) -> dict[str, str]:
    """Files that are no networks, and the message about each, from its path on."""
    whole = networks["sigmoid.keras"].read_bytes()
    old = networks["sigmoid.h5"].read_bytes()
    files = {
        "random.keras": b"\1\2\3" * 99,
        "random.h5": b"\1\2\3" * 99,
        "short.keras": whole[: len(whole) // 2],
        "short.h5": old[: len(old) // 2],
        "network.pt": b"PK",
    }
    for name, data in files.items():
        (folder / name).write_bytes(data)
    (folder / "folder").mkdir()
    again = "Copy or save it again."
    cannot = "Unable to synchronously open file"
    return {
        "random.keras": f" is damaged, cut short or no .keras file: File is not a zip file. {again}",
        "short.keras": f" is damaged, cut short or no .keras file: File is not a zip file. {again}",
        "random.h5": f" is damaged, cut short or no .h5 file: {cannot} (file signature not found). {again}",
        "short.h5": f" is damaged, cut short or no .h5 file: {cannot} (truncated file: "
        f"eof = {len(old) // 2}, sblock->base_addr = 0, stored_eof = {len(old)}). {again}",
        "network.pt": " is not a network this program reads. Allowed are model packages, .keras, .h5 and .onnx files, "
        "SavedModel folders and 'loopback'. Set model.path to one of these.",
        "folder": " is a folder without model.yaml, so no model package, and without saved_model.pb, so no SavedModel. "
        "Set model.path to a package, to what model.export('folder') wrote, or to a .keras or .h5 file.",
        "missing.keras": " does not exist. Set model.path to a model package, a .keras, .h5 or .onnx file, a SavedModel "
        "folder, or 'loopback'.",
    }


def test_what_is_no_network_is_told_apart(networks, tmp_path):
    for name, text in spoil(tmp_path, networks).items():
        with pytest.raises(ModelError) as caught:
            load(tmp_path / name)
        assert str(caught.value) == f"{tmp_path / name}{text}"


def test_weights_alone_are_no_network(networks, tmp_path):
    import keras

    with quiet():
        keras.models.load_model(networks["sigmoid.keras"]).save_weights(tmp_path / "lens.weights.h5")
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "lens.weights.h5")
    assert str(caught.value) == (
        f"{tmp_path / 'lens.weights.h5'} holds weights without a network. "
        "Save the whole network with model.save('name.keras'), not with model.save_weights."
    )


def test_a_zip_without_a_network_and_one_with_a_damaged_part(networks, tmp_path):
    import zipfile

    empty, bent = tmp_path / "empty.keras", tmp_path / "bent.keras"
    with zipfile.ZipFile(empty, "w") as archive:
        archive.writestr("readme.txt", "no network")
    with pytest.raises(ModelError) as caught:
        load(empty)
    assert str(caught.value) == (
        f"{empty} is a zip file without a Keras network. Save the network with model.save('name.keras')."
    )
    data = bytearray(networks["sigmoid.keras"].read_bytes())
    at = data.index(b"keras_version")
    data[at] ^= 1
    bent.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load(bent)
    assert str(caught.value) == (
        f"{bent} is damaged, cut short or no .keras file: Bad CRC-32 for file 'metadata.json'. Copy or save it again."
    )


def test_a_layer_keras_does_not_know_is_named(tmp_path):
    import keras

    class Stretch(keras.layers.Layer):
        def call(self, x: Any) -> Any:
            return keras.ops.arcsinh(x)

    inputs = keras.Input(SHAPE)
    path = tmp_path / "custom.keras"
    with quiet():
        keras.Model(inputs, keras.layers.Dense(1)(keras.layers.Flatten()(Stretch()(inputs)))).save(path)
    with pytest.raises(ModelError) as caught:
        load(path)
    assert str(caught.value) == f"{path} uses 'Stretch', which is not part of Keras. {EXPORT}"


def test_a_file_of_a_newer_keras_that_cannot_be_read_says_so(networks, tmp_path):
    import zipfile

    import keras

    path = tmp_path / "newer.keras"
    with zipfile.ZipFile(networks["sigmoid.keras"]) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            data = data.replace(b'"class_name": "Dense"', b'"class_name": "Denser"') if name == "config.json" else data
            if name == "metadata.json":
                data = json.dumps({**json.loads(data), "keras_version": "4.1.0"}).encode()
            new.writestr(name, data)
    with pytest.raises(ModelError) as caught:
        load(path)
    text = str(caught.value)
    here = keras.__version__
    assert text.startswith(
        f"{path} was written by Keras 4.1.0, which is newer than the Keras {here} here, and cannot be read by it: "
    )
    assert text.endswith(f" Install Keras 4.1.0 or newer. Or: {EXPORT}")


def test_saved_model_without_weights_files_is_damaged(networks, tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "saved_model.pb").write_bytes((networks["linear"] / "saved_model.pb").read_bytes())
    with pytest.raises(ModelError) as caught:
        load(tmp_path / "bare", output="logit")
    assert str(caught.value).startswith(f"{tmp_path / 'bare'} cannot be loaded: ")
    assert str(caught.value).endswith(" Copy or export it again.")


@pytest.mark.parametrize("jit", [False, True])
def test_failures_on_the_device_are_not_tracebacks(networks, monkeypatch, jit):
    import tensorflow as tf

    from survey_scan.models.tensorflow_network import TensorflowNetwork

    path = networks["linear.keras"]

    def fail(error: Exception) -> str:
        def score(*_: Any) -> None:
            raise error

        monkeypatch.setattr(TensorflowNetwork, "score", score)
        with pytest.raises((ModelError, ResourceError)) as caught:
            load(path, jit=jit)
        return str(caught.value)

    assert fail(tf.errors.ResourceExhaustedError(None, None, "OOM")) == (
        f"{path} does not fit in memory with a batch of 16 cutouts. Lower model.batch_size below 16."
    )
    hint = " Set model.jit to false: XLA may be why." if jit else ""
    assert fail(tf.errors.UnimplementedError(None, None, "no kernel")) == (
        f"{path} failed on 16 cutouts of noise: no kernel.{hint}"
    )


# --- facts ---


def test_describe_says_what_was_loaded(networks):
    path = networks["separate.keras"]
    network = load(path)
    assert json.loads(json.dumps(network.describe())) == {
        "path": str(path),
        "contract": None,
        "kind": "keras",
        "input": [16, 8, 8, 2],
        "dtype": "float32",
        "view": None,
        "normalisation": [],
        "parameters": 129,
        "bytes": path.stat().st_size,
        "output": "logit, from before the sigmoid of 'end' (Activation)",
        "backend": "tensorflow",
        "device": "CPU",
        "precision": "float32",
        "views": 1,
        "jit": False,
        "warnings": [],
    }
    folder = networks["logits_3"]
    facts = load(folder, output="logit", column=2, dtype="float16").describe()
    assert facts["output"] == "logit, from the signature 'serving_default' as model.output says; column 2 of 3"
    assert facts["kind"] == "savedmodel" and facts["parameters"] == 387 and facts["dtype"] == "float16"
    assert facts["bytes"] == sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())


def test_memory_is_counted_from_the_tensors_alive_at_once():
    import tensorflow as tf

    def chain(x: Any) -> Any:
        wide = tf.tile(x, (1, 10))  # 8 + 80 bytes a row alive here
        narrow = tf.reduce_sum(wide, axis=1)  # 80 + 4
        return narrow + 1.0

    graph = tf.function(chain).get_concrete_function(tf.TensorSpec((100, 2), tf.float32)).graph
    assert 8800 <= live_bytes(graph, (100, 2)) < 8800 + 100  # and a few constants
    free = tf.function(chain).get_concrete_function(tf.TensorSpec((None, 2), tf.float32)).graph
    assert live_bytes(free, (1000, 2)) >= 88000


def test_projected_memory_grows_with_the_batch_and_sees_into_a_saved_model(networks):
    file = networks["convolutional.keras"]
    small = load(file, 64, batch_size=16).projected_bytes()
    large = load(file, 64, batch_size=256).projected_bytes()
    maps = 240 * 62 * 62 * 4 * (4 + 8)  # two convolutions' outputs are alive together
    assert maps < large - small < 4 * maps
    folder = load(networks["convolutional"], 64, batch_size=256, output="probability").projected_bytes()
    assert large < folder < large + maps


# --- TensorFlow itself ---


@pytest.mark.slow
def test_scoring_is_silent_and_stays_on_its_threads(networks):
    code = f"""
import json, os, sys, warnings
warnings.simplefilter("error")
os.environ["KERAS_BACKEND"] = "jax"
from survey_scan import models
from survey_scan.config import Model
from survey_scan.models.runtime import configure
light = "tensorflow" in sys.modules
models.load(Model(path="loopback"), ["g", "r"], 8, "float32")
loopback = "tensorflow" in sys.modules or "jax" in sys.modules
one = models.Device(threads=1)
model = Model(path={str(networks["sigmoid.keras"])!r}, backend="tensorflow")
network = models.load(model, ["g", "r"], 8, "float32", one)
import tensorflow as tf
configure(), configure("tensorflow", one)
try:
    configure("tensorflow", models.Device(threads=2))
except RuntimeError as error:
    print(error, file=sys.stdout)
threads = tf.config.threading.get_intra_op_parallelism_threads(), tf.config.threading.get_inter_op_parallelism_threads()
print(json.dumps([light, loopback, *threads]))
"""
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    refusal, facts = done.stdout.splitlines()
    assert json.loads(facts) == [False, False, 1, 1]
    assert refusal == "TensorFlow runs with 1 threads here and cannot change to 2."


def test_only_the_notes_are_held_back_from_stderr(capfd):
    import os

    with runtime._without_notes():
        os.write(2, b"WARNING: All log messages before absl::InitializeLog() is called are written to STDERR\n")
        os.write(2, b"I0000 00:00:1795240651.256431 4171 port.cc:153] oneDNN custom operations are on.\n")
        os.write(2, b"E0000 00:00:1795240651.256431 4171 cuda.cc:1] no driver\n")
    assert capfd.readouterr().err == "E0000 00:00:1795240651.256431 4171 cuda.cc:1] no driver\n"


# --- loopback ---


def test_loopback_is_arcsinh_of_the_mean_of_the_finite_pixels():
    flux = noise(4)
    flux[1, 3] = np.nan
    flux[2, 0, 0, 0] = np.inf
    flux[3] = np.nan
    logits = load("loopback").logits(flux)
    expected = [np.arcsinh(np.mean(cutout[np.isfinite(cutout)], dtype=float)) for cutout in flux[:3]]
    np.testing.assert_array_equal(logits[:3], np.float32(expected))
    assert np.isnan(logits[3]) and logits.dtype == np.float32


def test_loopback_reads_counts_as_fluxes():
    flux = noise(9)
    flux[4, 2:5] = np.nan
    image, step = quantise(flux)
    logits = load("loopback", dtype="int16").logits(image, step)
    np.testing.assert_array_equal(logits, load("loopback").logits(restore(image, step)))
    np.testing.assert_allclose(logits, load("loopback").logits(flux), atol=0.02)
    half = load("loopback", dtype="float16").logits(flux.astype(np.float16))
    np.testing.assert_allclose(half, load("loopback").logits(flux), atol=1e-3)


@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 99), batch=st.integers(1, 30), start=st.integers(0, 20), strided=st.booleans())
def test_loopback_gives_the_same_bits_whatever_the_batches(seed, batch, start, strided):
    flux = noise(25, seed, (16, 16, 3))
    one = load("loopback", 16, bands=["g", "r", "i"], batch_size=25).logits(flux)
    if strided:  # not contiguous, as a slice of a larger array
        flux = np.repeat(flux, 2, axis=0)[::2]
    some = load("loopback", 16, bands=["g", "r", "i"], batch_size=batch).logits(flux[start:])
    np.testing.assert_array_equal(some, one[start:])


def test_loopback_describes_itself():
    network = load("loopback")
    assert network.describe()["output"] == "logit: arcsinh of the mean of the finite pixels"
    assert network.projected_bytes() < 1 << 30
    assert network.describe()["backend"] == "numpy" and network.describe()["device"] == "CPU"
