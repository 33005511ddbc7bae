"""Keras files for the tests, built once a session: a linear function of the pixels, ended in many ways."""

import atexit
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from survey_scan.demo import network as demo
from survey_scan.models.runtime import configure

SIZE, BANDS = 8, ["g", "r"]
SHAPE = (SIZE, SIZE, len(BANDS))

#: Weights of the linear function: one column of pixels to one number, or to three.
WEIGHT = np.random.default_rng(7).normal(0, 0.1, (SIZE * SIZE * len(BANDS), 3)).astype(np.float32)
BIAS = np.array([0.3, -0.2, 0.1], np.float32)


def linear(image: np.ndarray, columns: int = 1) -> np.ndarray:
    """The same function in float64."""
    return image.reshape(len(image), -1).astype(float) @ WEIGHT[:, :columns].astype(float) + BIAS[:columns]


@contextmanager
def quiet() -> Iterator[None]:
    """Keras warns when it saves (numpy's copy keyword; the .h5 format), which is not what is tested."""
    import absl.logging

    before = absl.logging.get_verbosity()
    absl.logging.set_verbosity(absl.logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    absl.logging.set_verbosity(before)


class Networks:
    """Files by name, made when first asked for."""

    def __init__(self, folder: Path):
        self.folder = folder
        configure()

    def __getitem__(self, name: str) -> Path:
        return self._made(name)

    @cache  # noqa: B019
    def _made(self, name: str) -> Path:
        path = self.folder / name
        kind = path.stem
        if path.suffix == ".onnx":
            onnx_linear(path)
            return path
        model = NETWORKS[kind]()
        with quiet():
            if path.suffix:
                model.save(path)
            else:
                model.export(path, verbose=False)
        return path


def _set(layer: Any, columns: int) -> Any:
    layer.kernel.assign(WEIGHT[:, :columns])
    layer.bias.assign(BIAS[:columns])


def _dense(columns: int = 1, activation: Any = None, after: Callable[[Any], Any] = lambda x: x) -> Any:
    import keras

    inputs = keras.Input(SHAPE)
    layer = keras.layers.Dense(columns, activation=activation, name="last")
    model = keras.Model(inputs, after(layer(keras.layers.Flatten()(inputs))))
    _set(layer, columns)
    return model


def _activation(name: str, **more: Any) -> Callable[[Any], Any]:
    def add(x: Any) -> Any:
        import keras

        return keras.layers.Activation(name, name="end", **more)(x)

    return add


def _nested() -> Any:
    import keras

    inputs = keras.Input(SHAPE)
    return keras.Model(inputs, _dense(1, "sigmoid")(keras.layers.Identity()(inputs)))


def _nested_first() -> Any:
    import keras

    return keras.Sequential([keras.Input(SHAPE), _dense(1, "sigmoid")])


def _sequential() -> Any:
    import keras

    layer = keras.layers.Dense(3, name="last")
    model = keras.Sequential([keras.Input(SHAPE), keras.layers.Flatten(), layer, keras.layers.Softmax()])
    _set(layer, 3)
    return model


def _shared() -> Any:
    """The last layer stands twice in the network, and only its second use is the output."""
    import keras

    inputs = keras.Input(SHAPE)
    end = keras.layers.Activation("sigmoid", name="end")
    layer = keras.layers.Dense(1, name="last")
    model = keras.Model(inputs, end(layer(keras.layers.Flatten()(end(inputs)))))
    _set(layer, 1)
    return model


def _ops(name: str, columns: int) -> Any:
    def after(x: Any) -> Any:
        import keras

        return getattr(keras.ops, name)(x)

    return _dense(columns, after=after)


def _tail() -> Any:
    import keras

    layers = keras.layers
    return _dense(1, "sigmoid", lambda x: layers.Flatten()(layers.Dropout(0.5)(layers.Reshape((1, 1, 1))(x))))


def _fully_convolutional() -> Any:
    """Takes any size; a convolution, a mean over the map, a sigmoid."""
    import keras

    keras.utils.set_random_seed(3)
    inputs = keras.Input((None, None, len(BANDS)))
    x = keras.layers.Conv2D(4, 3, activation="relu", name="convolution")(inputs)
    x = keras.layers.Conv2D(8, 3, activation="relu", padding="same")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    return keras.Model(inputs, keras.layers.Dense(1, activation="sigmoid", name="last")(x))


def _other(build: Callable[[Any, Any], Any], shape: Any = SHAPE, **more: Any) -> Any:
    """A network from ``build(layers, inputs)``."""
    import keras

    inputs = keras.Input(shape, **more)
    return keras.Model(inputs, build(keras.layers, inputs))


def _damaged() -> Any:
    model = _dense(1, "sigmoid")
    model.get_layer("last").kernel.assign(np.full((WEIGHT.shape[0], 1), np.nan))
    return model


def _sqrt(x: Any) -> Any:
    import keras

    return keras.ops.sqrt(x)


def _two_inputs() -> Any:
    import keras

    a, b = keras.Input(SHAPE, name="image"), keras.Input(SHAPE, name="weight")
    return keras.Model([a, b], keras.layers.Dense(1)(keras.layers.Flatten()(a + b)))


def _two_outputs() -> Any:
    import keras

    inputs = keras.Input(SHAPE)
    x = keras.layers.Flatten()(inputs)
    return keras.Model(inputs, {"lens": keras.layers.Dense(1)(x), "theta_e": keras.layers.Dense(1)(x)})


def _flat(layers: Any, x: Any, *more: Any) -> Any:
    return layers.Dense(1, activation="sigmoid", name="last")(layers.Flatten()(x))


def onnx_linear(
    path: Path,
    layout: str = "NHWC",
    columns: int = 1,
    end: str | None = "Sigmoid",
    shape: tuple[Any, ...] | None = None,
) -> None:
    """The linear function, as an ONNX file."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    order = (0, 1, 2) if layout == "NHWC" else (2, 0, 1)
    weight = WEIGHT[:, :columns].reshape(*SHAPE, columns).transpose(*order, 3).reshape(-1, columns)
    axes = shape or ("n", *(SHAPE[i] for i in order))
    nodes = [
        helper.make_node("Flatten", ["pixels"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight", "bias"], ["logits" if end else "scores"]),
        *([helper.make_node(end, ["logits"], ["scores"])] if end else []),
    ]
    graph = helper.make_graph(
        nodes,
        "linear",
        [helper.make_tensor_value_info("pixels", TensorProto.FLOAT, axes)],
        [helper.make_tensor_value_info("scores", TensorProto.FLOAT, ("n", columns))],
        [numpy_helper.from_array(weight, "weight"), numpy_helper.from_array(BIAS[:columns], "bias")],
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)


NETWORKS: dict[str, Callable[[], Any]] = {
    "sigmoid": lambda: _dense(1, "sigmoid"),
    "linear": _dense,
    "separate": lambda: _dense(after=_activation("sigmoid", dtype="float32")),
    "linear_activation": lambda: _dense(1, "sigmoid", _activation("linear")),
    "nested": _nested,
    "nested_first": _nested_first,
    "shared": _shared,
    "ops_sigmoid": lambda: _ops("sigmoid", 1),
    "ops_softmax": lambda: _ops("softmax", 3),
    "tail": _tail,
    "softmax": lambda: _dense(3, "softmax"),
    "softmax_layer": _sequential,
    "two_classes": lambda: _dense(2, "softmax"),
    "logits_3": lambda: _dense(3),
    "sigmoids_3": lambda: _dense(3, "sigmoid"),
    "tanh": lambda: _dense(1, "tanh"),
    "hard_sigmoid": lambda: _dense(1, "hard_sigmoid"),
    "one_class": lambda: _dense(1, "softmax"),
    "convolutional": _fully_convolutional,
    "damaged": _damaged,
    "root": lambda: _dense(after=lambda x: _sqrt(-1 - x * x)),
    "two_inputs": _two_inputs,
    "two_outputs": _two_outputs,
    "lambda": lambda: _other(lambda layers, x: _flat(layers, layers.Lambda(lambda z: z * 2)(x))),
    "bytes_in": lambda: _other(lambda layers, x: _flat(layers, layers.Rescaling(1 / 255)(x)), dtype="uint8"),
    "bands_first": lambda: _other(_flat, (2, SIZE, SIZE)),
    "three_bands": lambda: _other(_flat, (SIZE, SIZE, 3)),
    "one_band": lambda: _other(_flat, (SIZE, SIZE, 1)),
    "larger": lambda: _other(_flat, (16, 16, 2)),
    "oblong": lambda: _other(_flat, (SIZE, 16, 2)),
    "vector": lambda: _other(lambda layers, x: layers.Dense(1)(x), (128,)),
    "batches_of_4": lambda: _other(_flat, None, batch_shape=(4, *SHAPE)),
    "map_out": lambda: _other(lambda layers, x: layers.Conv2D(1, 1, activation="softmax")(x)),
    "deep": lambda: _other(
        lambda layers, x: layers.Dense(1)(layers.GlobalAveragePooling2D()(layers.Conv2D(1, 11)(x))), (None, None, 2)
    ),
}


@cache
def bare_demo() -> Path:
    """The demo's network alone, without its contract: a real one to be used as the configuration says."""
    folder = Path(tempfile.mkdtemp(prefix="bare-demo-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return Path(shutil.copy(demo.NETWORK / "network.keras", folder))
