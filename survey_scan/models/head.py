"""The last layer of a Keras network: what it is, and the network without it.

A sigmoid in float32 is exactly 1 above a logit of 16.6, so the top of a large survey would tie. The logit is therefore
taken before the last activation, exactly, instead of being recovered from the probability.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Activation = Literal["sigmoid", "softmax", "linear"]


@dataclass(frozen=True)
class Head:
    """A network that ends before its last activation.

    Parameters
    ----------
    forward : callable
        From normalised pixels to the output; without the last activation if that is a sigmoid or a softmax.
    activation : str or None
        The last activation; None if it is another one, or the last layer is of a kind that is not read.
    layer : str
        Name and class of the last layer, for messages.
    classes : int or None
        Length of the axis a softmax runs over.
    """

    forward: Callable[[Any], Any]
    activation: Activation | None
    layer: str
    classes: int | None = None


def take_off(inputs: Any, output: Any) -> Head:
    """Split a Keras network before its last activation.

    Layers that pass their input on (Flatten, Reshape, Dropout, Identity, a linear Activation) may follow it. It may
    be the activation of a Dense or convolution layer or stand alone, and sit in a nested model. The network is not
    changed, but while it is traced; one thread at a time may do that.

    Parameters
    ----------
    inputs, output : KerasTensor
        The network's input and output.
    """
    import keras

    layers = keras.layers
    history = output._keras_history
    last = history.operation
    sources = last._inbound_nodes[history.node_index].input_tensors
    name = f"'{last.name}' ({type(last).__name__})"
    whole = Head(_model(inputs, output), None, name)
    if len(sources) != 1:
        return whole
    before = _model(inputs, sources[0])
    if isinstance(last, keras.Model):
        inner = take_off(last.inputs[0], last.outputs[history.tensor_index])
        return Head(lambda x: inner.forward(before(x)), inner.activation, inner.layer, inner.classes)
    passes_on = (
        layers.Flatten,
        layers.Reshape,
        layers.Dropout,
        layers.SpatialDropout2D,
        layers.Identity,
        layers.ActivityRegularization,
    )
    activation = _activation(last)
    if isinstance(last, passes_on) or (activation == "linear" and isinstance(last, layers.Activation)):
        inner = take_off(inputs, sources[0])
        return Head(lambda x: last(inner.forward(x)), inner.activation, inner.layer, inner.classes)
    if activation is None:
        return whole
    classes = output.shape[-1] if activation == "softmax" else None
    if activation == "linear":
        return Head(whole.forward, activation, name)
    if not hasattr(last, "activation"):  # the layer Softmax, or a bare function: nothing but the activation
        return Head(before, activation, name, classes)
    return Head(lambda x: _without_activation(last, before(x)), activation, name, classes)


def _without_activation(layer: Any, x: Any) -> Any:
    import keras

    activation = layer.activation
    layer.activation = keras.activations.linear  # not at once and for good: the layer may stand elsewhere, too
    try:
        return layer(x)
    finally:
        layer.activation = activation


def _model(inputs: Any, output: Any) -> Callable[[Any], Any]:
    import keras

    if output is inputs:
        return lambda x: x
    model = keras.Model(inputs, output)
    return lambda x: model(x, training=False)


def _activation(layer: Any) -> Activation | None:
    """The activation a layer ends with, as far as it can be read."""
    import keras
    from keras import activations, layers, ops

    if isinstance(layer, layers.Softmax):
        return "softmax" if layer.axis == -1 else None
    if not isinstance(layer, layers.Layer):  # a function of keras.ops in the graph
        if type(layer).__name__ == "Softmax":
            return "softmax" if layer.axis == -1 else None
        return "sigmoid" if type(layer).__name__ == "Sigmoid" else None
    known = (layers.Activation, layers.Dense, layers.EinsumDense, layers.Conv1D, layers.Conv2D, layers.Conv3D)
    if type(layer) not in known:
        return None
    function = layer.activation
    if isinstance(function, keras.layers.Layer):
        return _activation(function)
    names: dict[Any, Activation] = {
        activations.sigmoid: "sigmoid",
        ops.sigmoid: "sigmoid",
        activations.softmax: "softmax",
        ops.softmax: "softmax",
        activations.linear: "linear",
        None: "linear",
    }
    return names.get(function)
