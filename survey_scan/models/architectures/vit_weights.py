"""Weights for the vision transformer from files of KerasHub or Hugging Face that the user has."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.errors import ModelError

_FILES = ("model.weights.h5", "model.safetensors")
_ALLOWED = (
    "Give a preset of KerasHub (such as vit_base_patch16_224_imagenet) or a checkpoint of Hugging Face "
    "(such as google/vit-base-patch16-224): a folder with model.weights.h5 or model.safetensors, or such a file."
)
_TYPES = {"F32": np.float32, "F16": np.float16}

#: Of the same layer in our network, KerasHub's and Hugging Face's, where a block's number stands for {}.
_LAYERS = {
    "patch_embedding": ("embedding/patch_embedding", "embeddings.patch_embeddings.projection"),
    "class_token": ("embedding", "embeddings.cls_token"),
    "position_embedding": ("embedding/position_embedding", "embeddings.position_embeddings"),
    "block_norm_1": ("encoder/{}/layer_norm_1", "encoder.layer.{}.layernorm_before"),
    "block_norm_2": ("encoder/{}/layer_norm_2", "encoder.layer.{}.layernorm_after"),
    "block_attention/query": ("encoder/{}/mha/query_dense", "encoder.layer.{}.attention.attention.query"),
    "block_attention/key": ("encoder/{}/mha/key_dense", "encoder.layer.{}.attention.attention.key"),
    "block_attention/value": ("encoder/{}/mha/value_dense", "encoder.layer.{}.attention.attention.value"),
    "block_attention/attention_output": ("encoder/{}/mha/output_dense", "encoder.layer.{}.attention.output.dense"),
    "block_dense_1": ("encoder/{}/mlp/dense_1", "encoder.layer.{}.intermediate.dense"),
    "block_dense_2": ("encoder/{}/mlp/dense_2", "encoder.layer.{}.output.dense"),
    "norm": ("encoder/layer_norm", "layernorm"),
}
_KERASHUB = {"kernel": "/vars/0", "bias": "/vars/1", "gamma": "/vars/0", "beta": "/vars/1", "embeddings": "/vars/0"}
_HUGGING_FACE = {"kernel": ".weight", "bias": ".bias", "gamma": ".weight", "beta": ".bias", "embeddings": ""}


def load_weights_from(model: Any, path: Path | str) -> None:
    """Give a ``vit_b16`` the weights of a trained one; its last layer, ``logit``, keeps its own.

    Nothing is fetched. KerasHub's files are HDF5 with the weights of its ``ViTBackbone``; Hugging Face's are safetensors
    with those of a ``ViTModel`` or ``ViTForImageClassification``. The pixels must be normalised as for that training.

    Parameters
    ----------
    model : keras.Model
        From ``build("vit_b16", ...)``, with three bands; changed.
    path : Path or str
        A file, or a folder with ``model.weights.h5`` or ``model.safetensors``.

    Raises
    ------
    ModelError
        If it is no such file, or of another network; the weights are then as before.
    """
    path = _file(Path(path))
    hub = path.suffix == ".h5"
    arrays = _read_hub(path) if hub else _read_safetensors(path)
    wanted = {_source(weight.path, hub): weight for weight in model.weights if not weight.path.startswith("logit/")}
    missing, extra = sorted(set(wanted) - set(arrays)), sorted(set(arrays) - set(wanted))
    if missing or extra:
        what = f"it has no '{missing[0]}'" if missing else f"'{extra[0]}' has no place in it"
        raise ModelError(f"{path} holds weights of another network than {model.name}: {what}. {_ALLOWED}")
    fitted = {}
    for name, weight in wanted.items():
        array, shape = _turned(arrays[name], hub), tuple(weight.shape)
        if array.size != np.prod(shape) or (hub and array.shape != shape):
            raise ModelError(
                f"{path} holds weights of another network than {model.name}: '{name}' has shape {arrays[name].shape} "
                f"there and does not fit {shape}. {_ALLOWED}"
            )
        fitted[name] = array.reshape(shape)
    for name, weight in wanted.items():
        weight.assign(fitted[name])


def _file(path: Path) -> Path:
    found = [path / name for name in _FILES if (path / name).is_file()] if path.is_dir() else [path]
    if not found or not found[0].is_file() or found[0].suffix not in (".h5", ".safetensors"):
        what = "does not exist" if not path.exists() else "holds no weights that can be read"
        raise ModelError(f"{path} {what}. {_ALLOWED}")
    return found[0]


def _source(path: str, hub: bool) -> str:
    """What the file calls a weight of ours, such as ``block_3_attention/query/kernel``."""
    match = re.fullmatch(r"(block_)?(?:(\d+)_)?(.+)/(\w+)", path)
    assert match is not None
    block, number, layer, kind = match.groups()
    name = _LAYERS[(block or "") + layer][0 if hub else 1].format(int(number or 1) - 1)
    return name + (_KERASHUB if hub else _HUGGING_FACE)[kind]


def _turned(array: NDArray[Any], hub: bool) -> NDArray[Any]:
    """An array in the order of our axes; PyTorch has the outputs of a layer first."""
    array = array.astype(np.float32)
    if hub:
        return array[0] if array.shape[:2] == (1, 1) and array.ndim == 3 else array  # the class token
    return array.transpose(2, 3, 1, 0) if array.ndim == 4 else array.T if array.ndim == 2 else array


def _read_hub(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of a backbone; without the names that Keras makes of the names of classes."""
    import h5py

    found: dict[str, NDArray[Any]] = {}

    def keep(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            name = re.sub(r"^layers/\w*patching_and_embedding/", "embedding/", name)
            name = re.sub(r"^layers/\w*encoder/", "encoder/", name)
            name = re.sub(
                r"^encoder/encoder_layers/\w*?block(?:_(\d+))?/", lambda match: f"encoder/{match[1] or 0}/", name
            )
            found[name] = item[()]

    try:
        with h5py.File(path) as file:
            file.visititems(keep)
    except OSError as error:
        raise ModelError(f"{path} is damaged, cut short or no .h5 file: {error} Copy it again.") from None
    return found


def _read_safetensors(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays but those of the last layers: 8 bytes for the length of the JSON that follows, and then the numbers."""
    data = path.read_bytes()
    try:
        start = 8 + int.from_bytes(data[:8], "little")
        header = json.loads(data[8:start])
        header.pop("__metadata__", None)
        found = {}
        for name, about in header.items():
            name = name.removeprefix("vit.")
            if name.startswith(("classifier.", "pooler.")):
                continue
            if about["dtype"] not in _TYPES:
                raise ModelError(f"{path} holds numbers of type {about['dtype']}; allowed are {', '.join(_TYPES)}.")
            first, last = (start + at for at in about["data_offsets"])
            found[name] = np.frombuffer(data[first:last], _TYPES[about["dtype"]]).reshape(about["shape"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{path} is damaged, cut short or no .safetensors file: {error}. Copy it again.") from None
    return found
