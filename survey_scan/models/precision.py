"""The precision a Keras network computes in, whatever it was saved with."""

from collections.abc import Iterator
from typing import Any

#: Policies that are exchanged for another; layers of float64, or quantised ones, stay as they are.
_EXCHANGED = ("float32", "mixed_float16", "mixed_bfloat16")


def apply(model: Any, precision: str) -> None:
    """Let the layers of a network compute in a precision, those of nested models too; weights stay float32.

    In mixed precision the last layers with weights on the way to the output, and what follows them, stay in float32, as
    Keras advises: the logit would otherwise have 3 digits. Of ``tf32``, which is a way to multiply float32 numbers, the
    layers know nothing.

    Parameters
    ----------
    model : keras.Model
        The network; changed.
    precision : {'float32', 'tf32', 'mixed_float16', 'mixed_bfloat16'}
        ``model.precision``.
    """
    import keras

    policy = precision if precision.startswith("mixed") else "float32"
    last = {id(operation) for output in model.outputs for operation in _last(output)}
    for layer in model._flatten_layers():
        # A model has no numbers of its own; with this policy it would only round what it is given.
        if not isinstance(layer, keras.Model) and layer.dtype_policy.name in _EXCHANGED:
            layer.dtype_policy = "float32" if id(layer) in last else policy


def _last(output: Any) -> Iterator[Any]:
    """The operations from an output back to the first with weights on each way."""
    import keras

    history = output._keras_history
    operation = history.operation
    if isinstance(operation, keras.Model):
        yield from _last(operation.outputs[history.tensor_index])
        return
    yield operation
    if not getattr(operation, "weights", ()):
        for tensor in operation._inbound_nodes[history.node_index].input_tensors:
            yield from _last(tensor)
