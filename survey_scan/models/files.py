"""Network files: what opens, and for what does not, why and what to do."""

import json
import re
import warnings
import zipfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models import precision
from survey_scan.models.head import Head, take_off

#: The way out for a file this Keras cannot read: a SavedModel needs no Keras.
EXPORT = (
    "Export it where it was trained, with model.export('folder'), or tf.saved_model.save(model, 'folder') in Keras 2; "
    "then set model.path to the folder and model.output to what it gives."
)

#: What Keras raises for a file it does not like.
_KERAS_ERRORS = (ValueError, TypeError, KeyError, AttributeError, NotImplementedError, OSError, zipfile.BadZipFile)


@dataclass(frozen=True)
class File:
    """An opened network.

    Parameters
    ----------
    kind : str
        ``keras``, ``savedmodel`` or ``onnx``.
    head : Head
        What to call, and the last activation (None for a SavedModel or ONNX network, which does not tell).
    shape : tuple
        Input shape ``(batch, height, width, bands)``, None where it is free.
    dtype : str
        Type of the input.
    parameters, weight_bytes : int
        Number and size of the weights.
    keep : object
        What must stay alive for ``head`` to work.
    outside : callable
        Bytes that the network takes beside what the framework knows of.
    """

    kind: str
    head: Head
    shape: tuple[int | None, ...]
    dtype: str
    parameters: int
    weight_bytes: int
    keep: Any
    outside: Callable[[], int] = lambda: 0


def open_file(path: Path, model: Model, layout: str | None = None) -> File:
    """Open a Keras file (``.keras``, ``.h5``), a SavedModel folder or an ONNX file.

    Nothing in a Keras file is run while it is loaded (Keras' safe mode).

    Parameters
    ----------
    path : Path
        The network.
    model : config.Model
        ``backend``, ``precision`` and ``jit``.
    layout : {'NHWC', 'NCHW'}, optional
        Order of an ONNX network's axes.

    Raises
    ------
    ModelError
        If it is not there, not a network, not readable by this Keras, has more than one input or output, has weights that
        are not finite, or cannot run on this backend or in this precision.
    """
    if not path.exists():
        raise ModelError(
            f"{path} does not exist. Set model.path to a model package, a .keras, .h5 or .onnx file, a SavedModel folder, "
            "or 'loopback'."
        )
    if path.is_dir():
        return _open_saved_model(path, model)
    if path.suffix == ".keras":
        return _open_keras(path, _check_keras(path), model.precision)
    if path.suffix in (".h5", ".hdf5"):
        return _open_keras(path, _check_h5(path), model.precision)
    if path.suffix == ".onnx":
        from survey_scan.models.onnx_file import open_onnx

        only_tensorflow(path, "an ONNX file", model)
        return open_onnx(path, model, layout)
    raise ModelError(
        f"{path} is not a network this program reads. Allowed are model packages, .keras, .h5 and .onnx files, SavedModel "
        "folders and 'loopback'. Set model.path to one of these."
    )


def _check_keras(path: Path) -> str:
    """The Keras version that wrote a ``.keras`` file."""
    try:
        with zipfile.ZipFile(path) as archive:
            if not {"config.json", "metadata.json"} <= set(archive.namelist()):
                raise ModelError(
                    f"{path} is a zip file without a Keras network. Save the network with model.save('name.keras')."
                )
            return str(json.loads(archive.read("metadata.json")).get("keras_version", "unknown"))
    except (zipfile.BadZipFile, ValueError) as error:
        raise _damaged(path, error) from None


def _check_h5(path: Path) -> str:
    """The Keras version that wrote a ``.h5`` file."""
    import h5py

    try:
        with h5py.File(path) as file:
            if "model_config" not in file.attrs:
                raise ModelError(
                    f"{path} holds weights without a network. "
                    "Save the whole network with model.save('name.keras'), not with model.save_weights."
                )
            version = file.attrs.get("keras_version", "unknown")
            return version.decode() if isinstance(version, bytes) else str(version)
    except OSError as error:
        raise _damaged(path, error) from None


def _damaged(path: Path, error: Exception) -> ModelError:
    return ModelError(
        f"{path} is damaged, cut short or no {path.suffix} file: {short(str(error))} Copy or save it again."
    )


def _open_keras(path: Path, version: str, wanted: str) -> File:
    import keras

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # notes about how the file was written, years ago
            model = keras.models.load_model(path, compile=False)
    except _KERAS_ERRORS as error:
        text = str(error)
        if "Lambda" in text and "safe_mode" in text:
            raise ModelError(f"{path} has a Lambda layer, code that loading it would run. {EXPORT}") from None
        if _numbers(version) > _numbers(keras.__version__):
            raise ModelError(
                f"{path} was written by Keras {version}, which is newer than the Keras {keras.__version__} here, and cannot "
                f"be read by it: {short(text)} Install Keras {version} or newer. Or: {EXPORT}"
            ) from None
        missing = re.search(r"Could not locate (?:class|function) '([^']+)'", text)
        if missing and missing[1] not in ("Functional", "Sequential"):
            raise ModelError(f"{path} uses '{missing[1]}', which is not part of Keras. {EXPORT}") from None
        raise ModelError(
            f"{path}, written by Keras {version}, cannot be read by Keras {keras.__version__}: {short(text)} {EXPORT}"
        ) from None
    if not model.built:
        raise ModelError(f"{path} has no weights: it was saved before it was built. Save it after training.")
    if not hasattr(model, "inputs"):  # neither Functional nor Sequential
        raise ModelError(f"{path} is a {type(model).__name__}, whose layers cannot be followed. {EXPORT}")
    check_one(path, "input", [tensor.name for tensor in model.inputs])
    check_one(path, "output", [tensor.name for tensor in model.outputs])
    _check_finite(path, ((weight.path, weight) for weight in model.weights))
    precision.apply(model, wanted)
    (source,), (output,) = model.inputs, model.outputs
    return File("keras", take_off(source, output), tuple(source.shape), source.dtype, *_count(model.weights), model)


def _open_saved_model(path: Path, model: Model) -> File:
    only_tensorflow(path, "a SavedModel folder", model)
    import tensorflow as tf

    if not (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{path} is a folder without model.yaml, so no model package, and without saved_model.pb, so no SavedModel. "
            "Set model.path to a package, to what model.export('folder') wrote, or to a .keras or .h5 file."
        )
    try:
        loaded = tf.saved_model.load(str(path))
    except (OSError, ValueError, KeyError, AttributeError, tf.errors.OpError) as error:
        raise ModelError(f"{path} cannot be loaded: {short(str(error))} Copy or export it again.") from None
    names = sorted(loaded.signatures)
    name = "serving_default" if "serving_default" in names else names[0] if len(names) == 1 else None
    if name is None:
        raise ModelError(
            f"{path} has no signature 'serving_default' (but {', '.join(names) or 'none at all'}). "
            "Export it again with model.export('folder')."
        )
    signature = loaded.signatures[name]
    inputs = signature.structured_input_signature[1]
    check_one(path, "input", sorted(inputs))  # a SavedModel does not keep their order
    check_one(path, "output", sorted(signature.structured_outputs))
    ((argument, spec),), (output,) = inputs.items(), signature.structured_outputs
    shape = tuple(spec.shape) if spec.shape.rank is not None else (None,) * 4
    _check_finite(path, ((variable.name, variable) for variable in signature.variables))

    def forward(x: Any) -> Any:
        return signature(**{argument: tf.cast(x, spec.dtype)})[output]

    head = Head(forward, None, f"the signature '{name}'")
    return File("savedmodel", head, shape, spec.dtype.name, *_count(signature.variables), loaded)


def only_tensorflow(path: Path, what: str, model: Model) -> None:
    """Refuse settings that are for Keras files only.

    Raises
    ------
    ModelError
        If there are any.
    """
    if model.backend != "tensorflow":
        raise ModelError(
            f"{path} is {what}, which only runs with TensorFlow, and model.backend is '{model.backend}'. "
            "Set model.backend to 'tensorflow', or model.path to a .keras or .h5 file."
        )
    if model.precision.startswith("mixed"):
        raise ModelError(
            f"model.precision is '{model.precision}', but the precision of {path}, {what}, is that it was "
            "exported in. Set model.precision to 'float32' or 'tf32', or model.path to a .keras or .h5 file."
        )


def _check_finite(path: Path, weights: Iterable[tuple[str, Any]]) -> None:
    named = {name: np.asarray(weight) for name, weight in weights}
    bad = [name for name, value in named.items() if value.dtype.kind == "f" and not np.isfinite(value).all()]
    if bad:
        raise ModelError(
            f"{path} has weights that are not finite numbers, in {len(bad)} of {len(named)} arrays (the first: '{bad[0]}'): "
            "its training diverged, or the file is damaged. Use another model."
        )


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])


def check_one(path: Path, what: str, names: list[str]) -> None:
    """Refuse networks with several inputs or outputs.

    Raises
    ------
    ModelError
        If there are several, or none.
    """
    if len(names) != 1:
        raise ModelError(
            f"{path} is a multi-{what} network ({len(names)} {what}s: {', '.join(names)}), and one is needed. "
            "Save a network with one: keras.Model(input, output).save('name.keras')."
        )


def _count(weights: Iterable[Any]) -> tuple[int, int]:
    """Number and bytes of the numbers learnt; random states and counters are none."""
    from keras.backend import is_float_dtype, standardize_dtype

    found = [(int(np.prod(w.shape)), standardize_dtype(w.dtype)) for w in weights]
    learnt = [(n, np.dtype(dtype).itemsize) for n, dtype in found if is_float_dtype(dtype)]
    return sum(n for n, _ in learnt), sum(n * size for n, size in learnt)


def short(text: str) -> str:
    """The first lines of another library's message, as one sentence."""
    text = " ".join(text.split())
    return (text if len(text) <= 200 else text[:197] + "...").rstrip(".") + "."
