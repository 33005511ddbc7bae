"""From the configuration's ``model`` section to a network that takes this store's cutouts."""

from typing import TYPE_CHECKING

import numpy as np

from survey_scan.config import Model
from survey_scan.errors import ModelError, ResourceError
from survey_scan.models.device import Device
from survey_scan.models.loopback import Loopback
from survey_scan.models.network import Network, Pixels
from survey_scan.models.package import Cutouts, Package, View, open_package
from survey_scan.normalisation import Clip, Scale

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
    if model.path == "loopback":
        return Loopback(Pixels(tuple(bands), size, dtype), model.batch_size)
    return load_package(open_package(model), model, bands, size, dtype, device)


def load_package(
    package: Package,
    model: Model,
    bands: list[str],
    size: int,
    dtype: str,
    device: Device = Device(),  # noqa: B008 - frozen
) -> Network:
    """Load a network of which it is known where it lies and what is said of it; the rest as :func:`load`.

    Parameters
    ----------
    package : Package
        The network, and how it is used.
    model : config.Model
        How it is run: batch size, backend, precision, XLA.
    bands, size, dtype, device
        As of :func:`load`.
    """
    pixels = Pixels(tuple(bands), size, dtype)
    view = package.view(Cutouts(pixels.bands, size))

    from survey_scan.models.files import open_file, short
    from survey_scan.models.readout import Readout
    from survey_scan.models.runtime import configure

    configure(model.backend, device)
    file = open_file(package.network, model, package.layout)
    _check_input(package, view, file, pixels)
    kind, readout = _kind(model.backend), Readout(package, file.head)
    if file.shape[0] not in (None, model.batch_size):
        readout.warnings.append(
            f"{package.network} takes batches of {file.shape[0]} only, whatever model.batch_size says; "
            "save it with a free batch axis to score faster"
        )
        model = model.model_copy(update={"batch_size": file.shape[0]})
    try:
        network = kind(pixels, model, package, view, file, readout)
        _try_out(network, package)
    except kind.errors as error:
        n = model.batch_size
        if kind.exhausted(error):
            raise ResourceError(
                f"{package.network} does not fit in memory with a batch of {n} cutouts. Lower model.batch_size below {n}."
            ) from None
        way = " Set model.jit to false: XLA may be why." if model.jit and model.backend == "tensorflow" else ""
        raise ModelError(f"{package.network} failed on {n} cutouts of noise: {short(str(error))}{way}") from None
    return network


def _kind(backend: str) -> "type[CompiledNetwork]":
    if backend == "jax":
        from survey_scan.models.jax_network import JaxNetwork

        return JaxNetwork
    from survey_scan.models.tensorflow_network import TensorflowNetwork

    return TensorflowNetwork


def _check_input(package: Package, view: View, file: "File", pixels: Pixels) -> None:
    path, shape = package.network, file.shape
    if len(shape) != 4:
        axes = ", ".join("any" if n is None else str(n) for n in shape)
        raise ModelError(
            f"{path} expects an input of shape ({axes}); cutouts are (batch, height, width, bands). Use another model."
        )
    if file.dtype not in ("float32", "float64", "float16", "bfloat16"):
        raise ModelError(
            f"{path} expects {file.dtype} pixels; cutouts are fluxes, float32. Save the model with a float32 input."
        )
    _, height, width, depth = shape
    bands, size = package.fed(view)
    said = package.place or "model.normalisation"
    if depth not in (None, len(bands)):
        given, way = (
            f"cutouts.bands has {len(bands)}",
            "Set cutouts.bands to its bands in the order it was trained with",
        )
        if package.place is not None or bands != list(pixels.bands):
            given, way = f"{said} gives it {len(bands)}", f"Mend {said}"
        if height == len(bands):
            way = "It seems to take the bands as the first axis; save it with the bands as the last"
        raise ModelError(
            f"{path} expects {depth} {'band' if depth == 1 else 'bands'}; {given} ({', '.join(bands)}). {way}, "
            "or use another model."
        )
    if height not in (None, size) or width not in (None, size):
        given, way = f"cutouts.size is {size}", f"Set cutouts.size to {height or width}"
        if package.place is not None or size != pixels.size:
            given, way = f"{said} gives it {size}", f"Mend {said}"
        if height != width:
            way = "Save it for square cutouts"
        raise ModelError(f"{path} expects cutouts of {height} × {width} pixels; {given}. {way}, or use another model.")


def _try_out(network: Network, package: Package) -> None:
    """Score one batch of noise, of positive noise and of zeros, in the unit the normalisation expects."""
    n, shape = network.batch_size, network.pixels.shape
    noise = np.random.default_rng(0).standard_normal((n, *shape))
    noise[n // 2 :] = np.abs(noise[n // 2 :])
    noise[n - n // 8 :] = 0
    offset, scale = _unit(package)
    image, step = (offset + noise * scale).astype(network.pixels.dtype), None
    if network.pixels.dtype == "int16":
        image, step = (noise * 100).astype(np.int16), np.full((n, shape[-1]), scale / 100, np.float32)
    logits = network.logits(image, step)
    if package.output == "probability" and np.isinf(logits).any():
        side = "above 1" if np.isposinf(logits).any() else "below 0"
        raise ModelError(
            f"{package.key('output')} is 'probability', but {package.network} gave a number {side}. "
            f"Set {package.key('output')} to 'logit'."
        )
    if not np.isfinite(logits).any():
        raise ModelError(
            f"{package.network} gave no finite number on {n} cutouts of noise. "
            f"Use another model if its weights are damaged, or mend {package.key('normalisation')}."
        )


def _unit(package: Package) -> tuple[float, float]:
    """A pixel value, and by how much pixels may differ from it: of the first step that tells."""
    for step in package.steps:
        if isinstance(step, Scale):
            return float(np.mean(step.offset)), float(np.max(np.abs(step.scale)))
        if isinstance(step, Clip) and step.low is not None and step.high is not None:
            low, high = float(np.mean(step.low)), float(np.mean(step.high))
            return (low + high) / 2, (high - low) / 4
    return 0.0, 1.0
