"""From the configuration's ``model`` section to a network that takes this store's cutouts."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from survey_scan.config import Model, Normalisation
from survey_scan.errors import ModelError, ResourceError
from survey_scan.models.device import Device
from survey_scan.models.loopback import Loopback
from survey_scan.models.network import Network, Pixels

if TYPE_CHECKING:
    from survey_scan.models.compiled import CompiledNetwork
    from survey_scan.models.files import File


def load(model: Model, bands: list[str], size: int, dtype: str, device: Device = Device()) -> Network:  # noqa: B008 - frozen
    """Load a network and make sure it fits the cutouts.

    Parameters
    ----------
    model : config.Model
        The section ``model``. ``path: loopback`` needs no framework.
    bands, size, dtype
        ``cutouts.bands``, ``cutouts.size`` and ``cutouts.dtype``.
    device : Device
        What the process may use; by default, of a process that has loaded a network before, what it already uses.

    Returns
    -------
    Network
        Compiled and tried out.

    Raises
    ------
    ModelError
        If it cannot be opened, does not take these cutouts, its output cannot be read as a logit, or the framework it
        needs is not there or sees no GPU while one is required.
    ResourceError
        If a batch does not fit in memory.
    DeviceLost
        If the GPU fails already now.
    """
    pixels = Pixels(tuple(bands), size, dtype)
    if model.path == "loopback":
        return Loopback(pixels, model.batch_size)
    _check_normalisation(model.normalisation, pixels)

    from survey_scan.models.files import open_file, short
    from survey_scan.models.readout import Readout
    from survey_scan.models.runtime import configure

    configure(model.backend, device)
    path = Path(model.path)
    file = open_file(path, model)
    _check_input(path, file, pixels, model.batch_size)
    kind = _kind(model.backend)
    try:
        network = kind(pixels, model, file, Readout(path, file.head, model))
        _try_out(network, model)
    except kind.errors as error:
        n = model.batch_size
        if kind.exhausted(error):
            raise ResourceError(
                f"{model.path} does not fit in memory with a batch of {n} cutouts. Lower model.batch_size below {n}."
            ) from None
        way = " Set model.jit to false: XLA may be why." if model.jit and model.backend == "tensorflow" else ""
        raise ModelError(f"{model.path} failed on {n} cutouts of noise: {short(str(error))}{way}") from None
    return network


def _kind(backend: str) -> "type[CompiledNetwork]":
    if backend == "jax":
        from survey_scan.models.jax_network import JaxNetwork

        return JaxNetwork
    from survey_scan.models.tensorflow_network import TensorflowNetwork

    return TensorflowNetwork


def _check_normalisation(normalisation: Normalisation | None, pixels: Pixels) -> None:
    for name in ("offset", "scale") if normalisation else ():
        value = getattr(normalisation, name)
        if isinstance(value, list) and len(value) != len(pixels.bands):
            raise ModelError(
                f"model.normalisation.{name} has {len(value)} values, but cutouts.bands has {len(pixels.bands)} "
                f"({', '.join(pixels.bands)}). Give one number for all, or one a band in this order."
            )


def _check_input(path: Path, file: "File", pixels: Pixels, batch_size: int) -> None:
    shape, given, another = file.shape, ", ".join(pixels.bands), "or use another model"
    if len(shape) != 4:
        axes = ", ".join("any" if n is None else str(n) for n in shape)
        raise ModelError(
            f"{path} expects an input of shape ({axes}); cutouts are (batch, height, width, bands). Use another model."
        )
    if file.dtype not in ("float32", "float64", "float16", "bfloat16"):
        raise ModelError(
            f"{path} expects {file.dtype} pixels; cutouts are fluxes, float32. Save the model with a float32 input."
        )
    batch, height, width, depth = shape
    if depth not in (None, len(pixels.bands)):
        if height == len(pixels.bands):
            way = "It seems to take the bands as the first axis; save it with the bands as the last"
        else:
            way = "Set cutouts.bands to its bands in the order it was trained with"
        raise ModelError(
            f"{path} expects {depth} {'band' if depth == 1 else 'bands'}; "
            f"cutouts.bands has {len(pixels.bands)} ({given}). {way}, {another}."
        )
    if height not in (None, pixels.size) or width not in (None, pixels.size):
        way = f"Set cutouts.size to {height or width}" if height == width else "Save it for square cutouts"
        raise ModelError(
            f"{path} expects cutouts of {height} × {width} pixels; cutouts.size is {pixels.size}. {way}, {another}."
        )
    if batch not in (None, batch_size):
        raise ModelError(
            f"{path} expects batches of {batch}; model.batch_size is {batch_size}. Set model.batch_size to {batch}."
        )


def _try_out(network: Network, model: Model) -> None:
    """Score one batch of noise, of positive noise and of zeros, in the unit the normalisation expects."""
    n, shape = network.batch_size, network.pixels.shape
    given = model.normalisation or Normalisation()
    noise = np.random.default_rng(0).standard_normal((n, *shape))
    noise[n // 2 :] = np.abs(noise[n // 2 :])
    noise[n - n // 8 :] = 0
    scale = np.broadcast_to(np.asarray(given.scale, np.float64), shape[-1:])
    image, step = (np.asarray(given.offset) + noise * scale).astype(network.pixels.dtype), None
    if network.pixels.dtype == "int16":
        image, step = (noise * 100).astype(np.int16), np.tile(np.abs(scale / 100).astype(np.float32), (n, 1))
    logits = network.logits(image, step)
    if model.output == "probability" and np.isinf(logits).any():
        side = "above 1" if np.isposinf(logits).any() else "below 0"
        raise ModelError(
            f"model.output is 'probability', but {model.path} gave a number {side}. Set model.output to 'logit'."
        )
    if not np.isfinite(logits).any():
        raise ModelError(
            f"{model.path} gave no finite number on {n} cutouts of noise. "
            "Use another model if its weights are damaged, or mend model.normalisation."
        )
