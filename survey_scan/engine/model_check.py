"""Load the network in a process of its own, so that one that does not fit is refused before the cluster starts."""

import multiprocessing
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from survey_scan.config import Config, Model
from survey_scan.engine.state import model_digest
from survey_scan.errors import ModelError


def describe(config: Config) -> dict[str, Any]:
    """What the network is and the memory it will need.

    The process ends afterwards, so the driver never holds TensorFlow.

    Returns
    -------
    dict
        That of :meth:`survey_scan.models.Network.describe`, and ``projected_bytes``.

    Raises
    ------
    ModelError
        If it cannot be loaded, or not used on these cutouts.
    """
    spec = config.cutouts
    arguments = (config.model.model_dump_json(), list(spec.bands), spec.size, spec.dtype)
    if config.model.path == "loopback":
        return _describe(*arguments)
    model_digest(config.model)  # before a process is started for a file that is not there
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_describe, *arguments).result()
        except BrokenProcessPool:
            raise ModelError(
                f"{config.model.path} killed the process that loaded it, perhaps for want of memory. "
                "Try it on a larger machine, or lower model.batch_size."
            ) from None


def line(found: dict[str, Any]) -> str:
    """What :func:`describe` found, in one line."""
    if found["kind"] == "loopback":
        return "loopback: no network, the logit is a function of the pixels"
    shape = " x ".join(str(n) for n in found["input"][1:])
    parameters = f"{found['parameters']:,} parameters, " if found["parameters"] else ""
    return f"{found['path']} ({found['kind']}, {parameters}{found['bytes'] / 2**20:.1f} MiB), input {shape}, {found['output']}"


def _describe(section: str, bands: list[str], size: int, dtype: str) -> dict[str, Any]:
    from survey_scan import models

    network = models.load(Model.model_validate_json(section), bands, size, dtype)
    return {**network.describe(), "projected_bytes": network.projected_bytes()}
