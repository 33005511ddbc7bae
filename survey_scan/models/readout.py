"""From a network's output to one logit a cutout."""

import math
from typing import Any, Literal

import numpy as np

from survey_scan.errors import ModelError
from survey_scan.models.head import Head
from survey_scan.models.package import Package

#: The largest float32 below 1 and the smallest normal one: where a float32 probability is clipped.
P_HIGH, P_LOW = 1 - 2.0**-24, 2.0**-126

#: How far outside [0, 1] a probability may be by rounding; further out it is not one.
P_SLACK = 1e-5

Kind = Literal["independent", "classes", "probability"]


class Readout:
    """How the output of one network is read; called while the graph is traced.

    ``output`` may be left out where the file says it: a last sigmoid or softmax is taken off and its input read,
    exactly; a last linear layer gives logits. It must be given for SavedModel folders and other last layers.

    Parameters
    ----------
    package : Package
        ``output``, ``column``, ``temperature``, and where they stand.
    head : Head
        The network without its last activation.

    Raises
    ------
    ModelError
        If ``output`` contradicts the file, or is needed and missing.
    """

    def __init__(self, package: Package, head: Head):
        self.package, self.path = package, package.network
        self.head = head
        self.column = package.column
        self.columns = 1
        self.warnings: list[str] = []
        path, key, said, found = package.network, package.key("output"), package.output, head.activation
        if found in ("sigmoid", "softmax"):
            if said == "logit":
                raise ModelError(
                    f"{key} is 'logit', but {path} ends in a {found}, {head.layer}, and gives a probability. "
                    f"Remove {key}: the logit from before it is used."
                )
            self.kind: Kind = "independent" if found == "sigmoid" else "classes"
            self.text = f"logit, from before the {found} of {head.layer}"
        elif found == "linear":
            if said == "probability":
                raise ModelError(
                    f"{key} is 'probability', but {path} ends in a linear {head.layer} and gives a logit. "
                    f"Remove {key}, or set it to 'logit'."
                )
            self.kind = "classes"
            self.text = f"logit, from the linear {head.layer}"
        elif said is None:
            raise ModelError(
                f"{path} does not tell whether it gives a probability or a logit (it ends in {head.layer}). "
                f"Set {key} to 'probability' or 'logit'."
            )
        elif said == "logit":
            self.kind = "classes"
            self.text = f"logit, from {head.layer} as {key} says"
        else:
            self.kind = "probability"
            self.text = f"log p - log(1 - p) of the probability from {head.layer}, as {key} says"
            self.warnings.append(
                "a logit computed from a float32 probability cannot exceed 16.6, so that the best targets may tie; "
                "a .keras file that ends in a sigmoid or softmax does not have this limit"
            )

    def __call__(self, output: Any) -> Any:
        """Logits of a batch.

        Parameters
        ----------
        output : tensor, shape (n, ...)
            What the network gives; the axes after the first are taken as one row of columns.

        Returns
        -------
        float32 tensor, shape (n,)
            Of columns that were or would go through sigmoids, or a single column: the column. Of the columns of a
            softmax, and of several logits in general: ``z_k - log(sum of exp(z_j) over the others)``. Of probabilities:
            ``log p - log(1 - p)`` with p clipped to float32's range; infinite if p is not in [0, 1]. All z, or the logit of
            a probability, are divided by ``temperature`` first.

        Raises
        ------
        ModelError
            If the output is no row of numbers a cutout, or ``column`` or ``classes`` does not fit it.
        """
        from keras import backend, ops

        dtype, columns = backend.standardize_dtype(output.dtype), _columns(output.shape)
        if not backend.is_float_dtype(dtype) or not columns:
            raise ModelError(
                f"{self.path} gives {dtype} of shape {output.shape}, not one row of floating-point numbers "
                "a cutout. Use a model that gives a probability or a logit."
            )
        self.columns = columns
        k = self._column(columns)
        z = ops.reshape(ops.cast(output, "float32"), (-1, columns))
        temperature = np.float32(self.package.temperature)
        if self.kind != "probability" and self.package.temperature != 1:
            z = z / temperature
        if self.kind == "classes" and columns > 1:
            return z[:, k] - ops.logsumexp(ops.concatenate([z[:, :k], z[:, k + 1 :]], axis=1), axis=1)
        z = z[:, k]
        if self.kind != "probability":
            return z
        p = ops.clip(z, np.float32(P_LOW), np.float32(P_HIGH))
        logit = (ops.log(p) - ops.log1p(-p)) / temperature
        logit = ops.where(z < -P_SLACK, np.float32(-np.inf), logit)
        return ops.where(z > 1 + P_SLACK, np.float32(np.inf), logit)

    def describe(self) -> str:
        """What is read, in words."""
        contract, column = self.package.contract, self.column
        name = f", {contract.classes[column or 0]!r}" if contract is not None and contract.classes else ""
        text = self.text + (f"; column {column} of {self.columns}{name}" if self.columns > 1 else "")
        return text + (f"; over a temperature of {self.package.temperature:g}" if self.package.temperature != 1 else "")

    def _column(self, columns: int) -> int:
        classes = f"{columns} {'class' if columns == 1 else 'classes'}"
        if self.head.activation == "softmax" and self.head.classes != columns:
            raise ModelError(
                f"{self.path} ends in a softmax over {self.head.classes} classes but gives {columns} numbers a cutout. "
                "Use a model that gives one row of classes."
            )
        if self.head.activation == "softmax" and columns == 1:
            raise ModelError(
                f"{self.path} ends in a softmax over one class, which is always 1. "
                "Use a model that ends in a sigmoid, or in a softmax over two classes."
            )
        key, contract = self.package.key("column"), self.package.contract
        if contract is not None and contract.classes is not None and len(contract.classes) != columns:
            raise ModelError(
                f"{self.path} gives {classes}, but {self.package.key('classes')} has {len(contract.classes)} "
                f"({', '.join(contract.classes)}). Name all its classes, in their order."
            )
        allowed = f"Set {key} to one of 0 to {columns - 1}." if columns > 1 else f"Remove {key}."
        if self.column is None and columns > 1:
            raise ModelError(f"{self.path} gives {classes}, and which one is the lens is not known. {allowed}")
        if self.column is not None and self.column >= columns:
            raise ModelError(f"{key} is {self.column}, but {self.path} gives {classes}. {allowed}")
        return self.column or 0


def _columns(shape: Any) -> int:
    """Numbers a row, the axes after the first taken together; 0 if they are not known, or there are no rows."""
    try:
        axes = tuple(shape)
    except ValueError:  # of TensorFlow: not even how many axes there are
        return 0
    return 0 if not axes or None in axes[1:] else math.prod(axes[1:])
