"""Parity: a few cutouts with the logits that a network must give them, wherever and on whatever it runs."""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models.device import Device
from survey_scan.models.loader import load_package
from survey_scan.models.network import Network
from survey_scan.models.package import Package
from survey_scan.normalisation import Quantise

#: By how much a logit may differ, and a part of it if that is more; the second where the normalisation makes whole numbers of
#: pixels, since what lies within float32's rounding of one may become the next on other hardware.
TOLERANCE, QUANTISED = 1e-4, 1e-2

#: Rows of one call: a network takes all parity cutouts at once.
BATCH = 16


def load_plain(package: Package, model: Model, device: Device = Device()) -> Network:  # noqa: B008 - frozen
    """A network for the very cutouts that its contract describes, in float32, without XLA, and on one view of each.

    Raises
    ------
    ModelError, ResourceError, DeviceLost
        As :func:`survey_scan.models.load`, and if there is no contract.
    """
    contract = package.contract
    if contract is None:
        raise ModelError(f"{model.path} has no contract: there is no model.yaml in it or beside it that names it.")
    plain = model.model_copy(update={"precision": "float32", "jit": False, "batch_size": BATCH, "views": 1})
    return load_package(package, plain, contract.bands, contract.size, "float32", device)


def compare(network: Network, package: Package) -> dict[str, Any] | None:
    """Compare logits with those of the package's parity cutouts.

    Parameters
    ----------
    network : Network
        Of :func:`load_plain`.
    package : Package
        With a contract.

    Returns
    -------
    dict or None
        ``n`` cutouts, the largest ``difference`` of their logits, and what is ``allowed``; None if the contract names no
        parity cutouts.

    Raises
    ------
    ModelError
        If a logit differs by more than is allowed, or the parity cutouts cannot be used.
    """
    contract, place, allowed = package.contract, package.place, tolerance(package)
    if contract is None or place is None or contract.parity is None:
        return None
    path = place.parent / contract.parity
    pixels, expected = _read(path, (contract.size, contract.size, len(contract.bands)))
    logits = network.logits(pixels).astype(float)
    difference = np.abs(logits - expected)
    wrong = ~(difference <= allowed * np.maximum(1, np.abs(expected)))  # as NaN is
    if wrong.any():
        worst = int(np.argmax(np.where(wrong, np.nan_to_num(difference, nan=np.inf), -1)))
        raise ModelError(
            f"{package.network} does not give the logits of {path}: {wrong.sum()} of {len(pixels)} cutouts differ, most of all "
            f"number {worst}, which gets {logits[worst]:.6g} instead of {expected[worst]:.6g} (allowed: {allowed:g}, or that "
            "part of the logit). Network, contract and parity cutouts are not of one package; take it from its source again, "
            "or pack it anew."
        )
    return {"n": len(pixels), "difference": float(difference.max()), "allowed": allowed}


def tolerance(package: Package) -> float:
    """By how much a package's logits may differ from those of its parity cutouts."""
    return QUANTISED if any(isinstance(step, Quantise) for step in package.steps) else TOLERANCE


def write(path: Path, pixels: NDArray[np.float32], logits: NDArray[np.float32]) -> None:
    """Write parity cutouts: pixels of shape (n, size, size, bands), before NaN is filled, and logits of shape (n,)."""
    np.savez_compressed(path, pixels=pixels, logits=logits)


def _read(path: Path, shape: tuple[int, int, int]) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            pixels, logits = np.asarray(arrays["pixels"], np.float32), np.asarray(arrays["logits"], np.float64)
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise ModelError(
            f"the parity cutouts, {path}, cannot be read: {error}. They are an .npz file with 'pixels' and 'logits'."
        ) from None
    if pixels.shape[1:] != shape or logits.shape != pixels.shape[:1] or not len(pixels):
        raise ModelError(
            f"the parity cutouts, {path}, are {pixels.shape} with logits {logits.shape}; the contract's are (n, "
            f"{', '.join(map(str, shape))}) with logits (n,). Pack the model anew."
        )
    return pixels, logits
