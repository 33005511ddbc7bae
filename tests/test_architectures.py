"""Networks by name: what they are made of, that they are saved, loaded and scored, and weights from elsewhere."""

import importlib.util
import json
import os
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from networks import quiet
from scipy.special import erf

from survey_scan import models
from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models import architectures
from survey_scan.models.architectures import build, load_weights_from, names, vit
from survey_scan.models.runtime import configure

TINY = vit.Shape(image=32, patch=16, width=24, depth=2, heads=3, hidden=48)

#: Name, size, bands and trainable parameters; of the two of unknown detail only one is held to a published count.
COUNTS = [
    ("cmu_deeplens", 101, 3, 3_511_681),
    ("cmu_deeplens", 45, 4, 3_513_249),
    ("cmu_deeplens", 45, 1, 3_508_545),
    ("shielded_resnet", 101, 3, 59_905),
    ("demo", 45, 3, 19_325),
]


@pytest.fixture(scope="module", autouse=True)
def _keras() -> None:
    configure()


def pixels(n: int, size: int, bands: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 1, (n, size, size, bands)).astype(np.float32)


def count(weights: list[Any]) -> int:
    return sum(int(np.prod(weight.shape)) for weight in weights)


def moved(model: Any) -> Any:
    """The network as if it had been trained: noise on what starts as zeros or ones, means and variances of some pixels."""
    from keras import layers

    rng = np.random.default_rng(0)
    model.set_weights(
        [w + rng.uniform(0, 0.2, w.shape).astype(w.dtype) if np.ptp(w) == 0 else w for w in model.get_weights()]
    )
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    if norms:
        model(pixels(16, *model.input.shape[2:], seed=1), training=True)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return model


def saved(model: Any, path: Path) -> Path:
    with quiet():
        model.save(path)
    return path


def load(path: Path, size: int, bands: int = 3, batch: int = 4, **more: Any) -> Any:
    return models.load(Model(path=str(path), batch_size=batch, **more), list("grizy"[:bands]), size, "float32")


# --- what they are ---


@pytest.mark.parametrize(("name", "size", "bands", "parameters"), COUNTS)
def test_trainable_parameters(name, size, bands, parameters):
    assert count(build(name, size, bands).trainable_weights) == parameters


@pytest.mark.parametrize(("size", "maps"), [(101, [101, 51, 26, 13, 7]), (45, [45, 23, 12, 6, 3])])
def test_cmu_deeplens_layer_by_layer(size, maps):
    from keras import layers

    model = build("cmu_deeplens", size, 3)
    convolutions = {layer.name: layer for layer in model.layers if isinstance(layer, layers.Conv2D)}
    shortcuts = {name for name in convolutions if "shortcut" in name}
    assert len(convolutions) - len(shortcuts) == 46
    assert shortcuts == {f"stage_{stage}_block_1_shortcut_conv" for stage in (2, 3, 4, 5)}
    assert [model.get_layer(f"stage_{stage}_block_3_sum").output.shape[1:] for stage in range(1, 6)] == [
        (side, side, width) for side, width in zip(maps, (32, 64, 128, 256, 512), strict=True)
    ]
    with_bias = {name for name, layer in convolutions.items() if layer.use_bias}
    assert with_bias == shortcuts | {name for name in convolutions if name.endswith("_3_conv")}
    halving = {name for name, layer in convolutions.items() if layer.strides == (2, 2)}
    assert halving == shortcuts | {f"stage_{stage}_block_1_1_conv" for stage in (2, 3, 4, 5)}
    norms = [layer for layer in model.layers if isinstance(layer, layers.BatchNormalization)]
    assert {(norm.epsilon, norm.momentum) for norm in norms} == {(1e-4, 0.9)}
    assert len(norms) == 1 + 15 * 3 - 1  # the first block takes what the first layer has activated
    assert not [layer for layer in model.layers if isinstance(layer, layers.MaxPooling2D)]
    assert [type(layer).__name__ for layer in model.layers[-3:]] == ["Add", "GlobalAveragePooling2D", "Dense"]


def test_the_shortcut_is_of_the_activated_input_where_it_is_a_convolution_and_of_the_raw_one_elsewhere():
    model = build("cmu_deeplens", 16, 3)

    def before(name: str) -> set[str]:
        tensors = model.get_layer(name)._inbound_nodes[0].input_tensors
        return {tensor._keras_history.operation.name for tensor in tensors}

    assert before("stage_2_block_1_shortcut_conv") == before("stage_2_block_1_1_conv") == {"stage_2_block_1_in_elu"}
    assert before("stage_2_block_2_sum") == {"stage_2_block_2_3_conv", "stage_2_block_1_sum"}
    assert before("stage_1_block_1_sum") == {"stage_1_block_1_3_conv", "first_elu"}


def test_cmu_deeplens_starts_as_the_original():
    model = build("cmu_deeplens", 16, 3)
    kernel = np.asarray(model.get_layer("stage_5_block_2_2_conv").kernel)
    sigma = np.sqrt(2 / (9 * 256))
    assert kernel.std() == pytest.approx(sigma, rel=0.01)
    assert np.abs(kernel).max() > 4 * sigma  # of 590,000 normal numbers; Keras' own he_normal is cut off at two
    first = np.asarray(model.get_layer("first_conv").kernel)
    limit = np.sqrt(2) * np.sqrt(6 / (49 * 3 + 49 * 32))
    assert 0.99 * limit < np.abs(first).max() <= limit


def test_shielded_resnet_has_four_shields_and_15_blocks():
    model = build("shielded_resnet", 101, 3)
    shields = [model.get_layer(f"shield_{number}_conv") for number in (1, 2, 3, 4)]
    assert [shield.output.shape[1:] for shield in shields] == [(101, 101, 16), (51, 51, 16), (26, 26, 16), (13, 13, 16)]
    assert sum(layer.name.endswith("_sum") for layer in model.layers) == 15
    assert model.get_layer("last_elu").output.shape[1:] == (7, 7, 32)


def test_vit_b16_has_the_published_number_of_parameters():
    """85,798,656 before the head, as KerasHub counts its backbone; 86,567,656 with ImageNet's thousand classes."""
    model = build("vit_b16", 224, 3)
    assert count(model.trainable_weights) == 85_798_656 + 769
    assert count(model.weights) == model.count_params() == 85_799_425
    assert 85_798_656 + 769 * 1000 == 86_567_656


# --- saved, loaded, scored ---


def score(tmp_path: Path, model: Any, size: int, n: int = 5, **more: Any) -> None:
    """Save, load through the scan's own way, and compare with the network itself."""
    images = pixels(n, size)
    direct = np.asarray(model(images, training=False))[:, 0].astype(float)
    network = load(saved(model, tmp_path / "network.keras"), size, **more)
    logits = network.logits(images)
    assert np.isfinite(logits).all() and np.ptp(logits) > 1e-3
    np.testing.assert_allclose(logits, direct, rtol=1e-5, atol=1e-5)
    assert network.describe()["output"] == "logit, from the linear 'logit' (Dense)"


@pytest.mark.parametrize(
    ("name", "size"),
    [("cmu_deeplens", 45), ("cmu_deeplens", 101), ("shielded_resnet", 33), ("jacobs_cnn", 24), ("demo", 45)],
)
def test_saved_loaded_and_scored(tmp_path, name, size):
    score(tmp_path, moved(build(name, size, 3)), size)


@pytest.mark.parametrize("size", [32, 10])
@pytest.mark.parametrize("jit", [False, True])
def test_a_small_vision_transformer_is_saved_loaded_and_scored(tmp_path, size, jit):
    score(tmp_path, moved(vit.build(size, 3, shape=TINY)), size, jit=jit)


@pytest.mark.slow
@pytest.mark.parametrize("size", [224, 45])
def test_vit_b16_is_saved_loaded_and_scored(tmp_path, size):
    score(tmp_path, moved(build("vit_b16", size, 3)), size, n=3, batch=2)


def test_of_several_classes_one_is_scored_as_after_a_softmax(tmp_path):
    model = moved(build("shielded_resnet", 16, 2, classes=9))
    images = pixels(6, 16, 2)
    z = np.asarray(model(images, training=False)).astype(float)
    expected = z[:, 4] - np.log(np.exp(np.delete(z, 4, axis=1)).sum(axis=1))
    network = load(saved(model, tmp_path / "nine.keras"), 16, 2, column=4)
    np.testing.assert_allclose(network.logits(images), expected, rtol=1e-5, atol=1e-5)


def small(name: str) -> Any:
    return vit.build(10, 3, shape=TINY) if name == "vit_b16" else build(name, 16, 3)


@pytest.mark.parametrize("name", names())
def test_files_hold_nothing_but_keras(tmp_path, name):
    """So they load in safe mode, and without this package."""
    with zipfile.ZipFile(saved(small(name), tmp_path / "network.keras")) as archive:
        text = archive.read("config.json").decode()

    def modules(item: Any) -> set[str]:
        if isinstance(item, list):
            return set().union(*map(modules, item))
        if not isinstance(item, dict):
            return set()
        named = {str(item["module"])} if "registered_name" in item else set()
        assert item.get("class_name") != "Lambda"
        return named.union(*map(modules, item.values()))

    assert {module.split(".")[0] for module in modules(json.loads(text))} == {"keras"}
    assert "survey_scan" not in text


@pytest.mark.parametrize("name", names())
def test_every_trainable_weight_has_a_gradient(name):
    import tensorflow as tf

    model, images = small(name), pixels(4, 10 if name == "vit_b16" else 16)
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean(model(images, training=True) ** 2)
    gradients = tape.gradient(loss, [weight.value for weight in model.trainable_weights])
    assert all(gradient is not None for gradient in gradients)


def test_mixed_precision_changes_a_vision_transformer_little(tmp_path):
    path, images = saved(moved(vit.build(10, 3, shape=TINY)), tmp_path / "network.keras"), pixels(5, 10)
    plain, mixed = (load(path, 10, precision=p).logits(images) for p in ("float32", "mixed_bfloat16"))
    assert 0 < np.abs(plain - mixed).max() < 0.1


ON_JAX = """
import json, sys
import numpy as np
from survey_scan import models
from survey_scan.config import Model
job = json.loads(sys.argv[1])
images = np.load(job["images"])
out = {}
for name, (path, size) in job["networks"].items():
    model = Model(path=path, batch_size=4, backend="jax")
    out[name] = models.load(model, ["g", "r", "i"], size, "float32", models.Device(gpu="none")).logits(images[name]).tolist()
print(json.dumps(out))
"""


@pytest.mark.skipif(importlib.util.find_spec("jax") is None, reason="needs jax: install the extra [jax]")
@pytest.mark.slow
def test_jax_gives_the_same_logits(tmp_path):
    given = [("demo", 45), ("vit_b16", 10), ("cmu_deeplens", 45), ("shielded_resnet", 33), ("jacobs_cnn", 24)]
    made = {
        n: (moved(vit.build(size, 3, shape=TINY) if n == "vit_b16" else build(n, size, 3)), size) for n, size in given
    }
    images = {name: pixels(5, size) for name, (_, size) in made.items()}
    np.savez(tmp_path / "images.npz", **images)
    paths = {n: (str(saved(model, tmp_path / f"{n}.keras")), size) for n, (model, size) in made.items()}
    job = json.dumps({"images": str(tmp_path / "images.npz"), "networks": paths})
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    done = subprocess.run([sys.executable, "-c", ON_JAX, job], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for name, logits in json.loads(done.stdout).items():
        direct = np.asarray(made[name][0](images[name], training=False))[:, 0]
        np.testing.assert_allclose(logits, direct, rtol=1e-5, atol=1e-5, err_msg=name)


# --- weights of a trained vision transformer ---


def hugging_face(seed: int = 0, shape: vit.Shape = TINY, bands: int = 3) -> dict[str, np.ndarray]:
    """Arrays as a ``ViTForImageClassification`` saves them."""
    rng = np.random.default_rng(seed)
    w, h, tokens = shape.width, shape.hidden, (shape.image // shape.patch) ** 2 + 1
    shapes = {
        "vit.embeddings.cls_token": (1, 1, w),
        "vit.embeddings.position_embeddings": (1, tokens, w),
        "vit.embeddings.patch_embeddings.projection.weight": (w, bands, shape.patch, shape.patch),
        "vit.embeddings.patch_embeddings.projection.bias": (w,),
        "vit.layernorm.weight": (w,),
        "vit.layernorm.bias": (w,),
        "classifier.weight": (1000, w),
        "classifier.bias": (1000,),
    }
    dense = [
        "attention.attention.query",
        "attention.attention.key",
        "attention.attention.value",
        "attention.output.dense",
    ]
    for number in range(shape.depth):
        block = f"vit.encoder.layer.{number}."
        sizes = dict.fromkeys(dense, (w, w)) | {"intermediate.dense": (h, w), "output.dense": (w, h)}
        sizes |= {"layernorm_before": (w,), "layernorm_after": (w,)}
        for name, size in sizes.items():
            shapes |= {f"{block}{name}.weight": size, f"{block}{name}.bias": size[:1]}
    return {name: rng.normal(0, 0.3, size).astype(np.float32) for name, size in shapes.items()}


def write_safetensors(path: Path, arrays: dict[str, np.ndarray]) -> Path:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = b""
    types = {"float32": "F32", "float16": "F16", "float64": "F64"}
    for name, array in arrays.items():
        at = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": types[array.dtype.name], "shape": array.shape, "data_offsets": at}
        data += array.tobytes()
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def write_keras_hub(path: Path, arrays: dict[str, np.ndarray], shape: vit.Shape = TINY) -> Path:
    """The same weights as KerasHub saves a backbone."""
    import h5py

    def dense(name: str) -> np.ndarray:
        return arrays[f"{name}.weight"].T

    heads = (shape.heads, shape.width // shape.heads)
    patches, encoder = "layers/vi_t_patching_and_embedding", "layers/vi_t_encoder"
    found = {
        f"{patches}/vars/0": arrays["vit.embeddings.cls_token"],
        f"{patches}/position_embedding/vars/0": arrays["vit.embeddings.position_embeddings"][0],
        f"{patches}/patch_embedding/vars/0": arrays["vit.embeddings.patch_embeddings.projection.weight"].transpose(
            2, 3, 1, 0
        ),
        f"{patches}/patch_embedding/vars/1": arrays["vit.embeddings.patch_embeddings.projection.bias"],
        f"{encoder}/layer_norm/vars/0": arrays["vit.layernorm.weight"],
        f"{encoder}/layer_norm/vars/1": arrays["vit.layernorm.bias"],
    }
    for number in range(shape.depth):
        theirs = f"vit.encoder.layer.{number}"
        block = f"{encoder}/encoder_layers/vi_t_encoder_block{f'_{number}' if number else ''}"
        for part in ("query", "key", "value"):
            name = f"{theirs}.attention.attention.{part}"
            found[f"{block}/mha/{part}_dense/vars/0"] = dense(name).reshape(shape.width, *heads)
            found[f"{block}/mha/{part}_dense/vars/1"] = arrays[f"{name}.bias"].reshape(heads)
        name = f"{theirs}.attention.output.dense"
        found[f"{block}/mha/output_dense/vars/0"] = dense(name).reshape(*heads, shape.width)
        found[f"{block}/mha/output_dense/vars/1"] = arrays[f"{name}.bias"]
        for ours, name in (("dense_1", "intermediate.dense"), ("dense_2", "output.dense")):
            found[f"{block}/mlp/{ours}/vars/0"] = dense(f"{theirs}.{name}")
            found[f"{block}/mlp/{ours}/vars/1"] = arrays[f"{theirs}.{name}.bias"]
        for ours, name in (("layer_norm_1", "layernorm_before"), ("layer_norm_2", "layernorm_after")):
            found[f"{block}/{ours}/vars/0"] = arrays[f"{theirs}.{name}.weight"]
            found[f"{block}/{ours}/vars/1"] = arrays[f"{theirs}.{name}.bias"]
    with h5py.File(path, "w") as file:
        for name, array in found.items():
            file[name] = array
    return path


def by_hand(arrays: dict[str, np.ndarray], images: np.ndarray, shape: vit.Shape = TINY) -> np.ndarray:
    """What a vision transformer's head is given, in float64, from the definition."""
    a = {name: array.astype(float) for name, array in arrays.items()}

    def dense(x: np.ndarray, name: str) -> np.ndarray:
        return x @ a[f"{name}.weight"].T + a[f"{name}.bias"]

    def norm(x: np.ndarray, name: str) -> np.ndarray:
        x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return x * a[f"{name}.weight"] + a[f"{name}.bias"]

    def split(x: np.ndarray) -> np.ndarray:
        return x.reshape(*x.shape[:2], shape.heads, -1).transpose(0, 2, 1, 3)

    n, side, p = len(images), shape.image // shape.patch, shape.patch
    patches = (
        images.astype(float).reshape(n, side, p, side, p, -1).transpose(0, 1, 3, 5, 2, 4).reshape(n, side * side, -1)
    )
    projection = "vit.embeddings.patch_embeddings.projection"
    x = patches @ a[f"{projection}.weight"].reshape(shape.width, -1).T + a[f"{projection}.bias"]
    token = np.broadcast_to(a["vit.embeddings.cls_token"], (n, 1, shape.width))
    x = np.concatenate([token, x], axis=1) + a["vit.embeddings.position_embeddings"]
    for number in range(shape.depth):
        block = f"vit.encoder.layer.{number}"
        y = norm(x, f"{block}.layernorm_before")
        q, k, v = (split(dense(y, f"{block}.attention.attention.{part}")) for part in ("query", "key", "value"))
        weight = np.exp(q @ k.transpose(0, 1, 3, 2) / np.sqrt(shape.width / shape.heads))
        y = (weight / weight.sum(-1, keepdims=True) @ v).transpose(0, 2, 1, 3).reshape(x.shape)
        x = x + dense(y, f"{block}.attention.output.dense")
        y = dense(norm(x, f"{block}.layernorm_after"), f"{block}.intermediate.dense")
        x = x + dense(y * 0.5 * (1 + erf(y / np.sqrt(2))), f"{block}.output.dense")
    return norm(x, "vit.layernorm")[:, 0]


def logits_by_hand(model: Any, arrays: dict[str, np.ndarray], images: np.ndarray) -> np.ndarray:
    kernel, bias = model.get_layer("logit").get_weights()
    return by_hand(arrays, images) @ kernel.astype(float) + bias


@pytest.mark.parametrize("writer", [write_safetensors, write_keras_hub])
@pytest.mark.parametrize("folder", [False, True])
def test_weights_of_keras_hub_and_hugging_face_give_what_the_definition_gives(tmp_path, writer, folder):
    arrays, images = hugging_face(), pixels(5, 32)
    name = "model.safetensors" if writer is write_safetensors else "model.weights.h5"
    path = writer(tmp_path / name, arrays)
    model = vit.build(32, 3, classes=2, shape=TINY)
    head = model.get_layer("logit").get_weights()
    load_weights_from(model, tmp_path if folder else path)
    np.testing.assert_allclose(model(images), logits_by_hand(model, arrays, images), rtol=1e-5, atol=1e-5)
    for before, after in zip(head, model.get_layer("logit").get_weights(), strict=True):
        np.testing.assert_array_equal(before, after)


def test_weights_of_a_backbone_alone_and_of_half_precision(tmp_path):
    arrays, images = hugging_face(), pixels(5, 32)
    half = {name: array.astype(np.float16) for name, array in arrays.items()}
    backbone = {name.removeprefix("vit."): array for name, array in half.items() if not name.startswith("classifier")}
    backbone["pooler.dense.bias"] = np.zeros(24, np.float16)
    model = vit.build(32, 3, shape=TINY)
    load_weights_from(model, write_safetensors(tmp_path / "half.safetensors", backbone))
    np.testing.assert_allclose(model(images), logits_by_hand(model, half, images), rtol=1e-5, atol=1e-5)


def test_cutouts_of_another_size_are_resized_first(tmp_path):
    import keras

    path = write_safetensors(tmp_path / "model.safetensors", hugging_face())
    small, whole = vit.build(10, 3, shape=TINY), vit.build(32, 3, shape=TINY)
    load_weights_from(small, path)
    whole.set_weights(small.get_weights())
    images = pixels(5, 10)
    resized = keras.ops.image.resize(images, (32, 32), interpolation="bilinear")
    np.testing.assert_allclose(small(images), whole(resized), rtol=1e-5, atol=1e-5)


ALLOWED = (
    "Give a preset of KerasHub (such as vit_base_patch16_224_imagenet) or a checkpoint of Hugging Face "
    "(such as google/vit-base-patch16-224): a folder with model.weights.h5 or model.safetensors, or such a file."
)


def refused(model: Any, path: Path) -> str:
    before = model.get_weights()
    with pytest.raises(ModelError) as caught:
        load_weights_from(model, path)
    for ours, after in zip(before, model.get_weights(), strict=True):
        np.testing.assert_array_equal(ours, after)
    return str(caught.value)


def test_weights_of_another_network_are_refused(tmp_path):
    model, path = vit.build(32, 3, shape=TINY), tmp_path / "model.safetensors"
    arrays = hugging_face()
    other = f"{path} holds weights of another network than vit: "
    write_safetensors(path, {n: array for n, array in arrays.items() if n != "vit.layernorm.bias"})
    assert refused(model, path) == f"{other}it has no 'layernorm.bias'. {ALLOWED}"
    write_safetensors(path, hugging_face(shape=vit.Shape(32, 16, 24, 3, 3, 48)))
    extra = "encoder.layer.2.attention.attention.key.bias"
    assert refused(model, path) == f"{other}'{extra}' has no place in it. {ALLOWED}"
    write_safetensors(path, hugging_face(bands=4))
    projection = "embeddings.patch_embeddings.projection.weight"
    assert refused(model, path) == (
        f"{other}'{projection}' has shape (24, 4, 16, 16) there and does not fit (16, 16, 3, 24). {ALLOWED}"
    )
    hub = tmp_path / "heads.h5"
    write_keras_hub(hub, arrays, vit.Shape(32, 16, 24, 2, 4, 48))
    assert refused(model, hub) == (
        f"{hub} holds weights of another network than vit: 'encoder/0/mha/query_dense/vars/0' has shape (24, 4, 6) "
        f"there and does not fit (24, 3, 8). {ALLOWED}"
    )


def test_what_holds_no_weights_is_refused(tmp_path):
    model, path = vit.build(32, 3, shape=TINY), tmp_path / "model.safetensors"
    assert refused(model, tmp_path / "away") == f"{tmp_path / 'away'} does not exist. {ALLOWED}"
    assert refused(model, tmp_path) == f"{tmp_path} holds no weights that can be read. {ALLOWED}"
    torch = tmp_path / "pytorch_model.bin"
    torch.write_bytes(b"PK")
    assert refused(model, torch) == f"{torch} holds no weights that can be read. {ALLOWED}"
    whole = write_safetensors(path, hugging_face()).read_bytes()
    for data in (b"", whole[:100], whole[:-100], b"\1" * 99):
        path.write_bytes(data)
        text = refused(model, path)
        assert text.startswith(f"{path} is damaged, cut short or no .safetensors file: ")
        assert text.endswith(". Copy it again.")
    hub = tmp_path / "model.weights.h5"
    hub.write_bytes(b"\1" * 99)
    assert refused(model, hub).startswith(f"{hub} is damaged, cut short or no .h5 file: ")
    doubles = {name: array.astype(float) for name, array in hugging_face().items()}
    write_safetensors(path, doubles)
    assert refused(model, path) == f"{path} holds numbers of type F64; allowed are F32, F16."


# --- names ---


def test_a_mistake_in_the_name_is_answered_with_the_nearest():
    there = "There are cmu_deeplens, shielded_resnet, jacobs_cnn, vit_b16, demo."
    for name, hint in (
        ("cmu_deeplense", " Did you mean 'cmu_deeplens'?"),
        ("ViT_b16", " Did you mean 'vit_b16'?"),
        ("x", ""),
    ):
        with pytest.raises(ModelError) as caught:
            build(name, 45, 3)
        assert str(caught.value) == f"there is no architecture {name!r}.{hint} {there}"


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((7, 3), "demo was asked for with size 7; allowed is 8 or more."),
        ((45, 0), "demo was asked for with bands 0; allowed is 1 or more."),
        ((45, 3, 0), "demo was asked for with classes 0; allowed is 1 or more."),
    ],
)
def test_what_no_network_takes(arguments, text):
    with pytest.raises(ModelError) as caught:
        build("demo", *arguments)
    assert str(caught.value) == text


@pytest.mark.parametrize("name", [name for name in names() if name != "vit_b16"])
def test_the_smallest_cutouts_pass(name):
    assert architectures.build(name, 8, 1)(pixels(2, 8, 1)).shape == (2, 1)
