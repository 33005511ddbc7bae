"""Networks by name, untrained: ``build("cmu_deeplens", size=101, bands=3)``.

All end in the linear layer ``logit``, float32, one column a class: its column is the logit of a lens if there is one class,
and what a softmax takes if there are more. So scoring needs no ``model.output``, and of several classes only
``model.column``; a loss is told ``from_logits=True``. None of them normalises its pixels. Only layers and operations of
Keras itself are used, so a saved file loads in Keras' safe mode, and without this package.
"""

import difflib
from collections.abc import Callable
from typing import Any

from survey_scan.errors import ModelError
from survey_scan.models.architectures import cmu_deeplens, demo, jacobs_cnn, shielded_resnet, vit
from survey_scan.models.architectures.vit_weights import load_weights_from

__all__ = ["build", "load_weights_from", "names"]

_BUILDERS: dict[str, Callable[[int, int, int], Any]] = {
    "cmu_deeplens": cmu_deeplens.build,
    "shielded_resnet": shielded_resnet.build,
    "jacobs_cnn": jacobs_cnn.build,
    "vit_b16": vit.build,
    "demo": demo.build,
}

#: Pixels; with fewer, some of them would pool a map to nothing.
_SMALLEST = 8


def names() -> list[str]:
    """The architectures there are."""
    return list(_BUILDERS)


def build(name: str, size: int, bands: int, classes: int = 1) -> Any:
    """Build a network with new random weights, on the framework Keras runs on.

    Parameters
    ----------
    name : str
        One of :func:`names`.
    size : int
        Side of the cutouts in pixels.
    bands : int
        Number of bands.
    classes : int
        Columns of the output; 1 is "a lens or not".

    Returns
    -------
    keras.Model
        Input (n, size, size, bands), output (n, classes) from the layer ``logit``.

    Raises
    ------
    ModelError
        If there is no architecture of that name, or it is not for such cutouts.
    """
    if name not in _BUILDERS:
        near = difflib.get_close_matches(name, _BUILDERS, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ModelError(f"there is no architecture {name!r}.{hint} There are {', '.join(_BUILDERS)}.")
    for what, value, least in (("size", size, _SMALLEST), ("bands", bands, 1), ("classes", classes, 1)):
        if value < least:
            raise ModelError(f"{name} was asked for with {what} {value}; allowed is {least} or more.")
    return _BUILDERS[name](size, bands, classes)
