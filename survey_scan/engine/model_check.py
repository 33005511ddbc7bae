"""Load the network in a process of its own, so that one that does not fit is refused before the cluster starts."""

import multiprocessing
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import Any

from survey_scan.config import Config, Model
from survey_scan.engine.state import model_key
from survey_scan.errors import ModelError
from survey_scan.models.package import cutouts_of, open_package, unknown


def describe(config: Config, facts: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """What the network is and the memory it will need.

    The process ends afterwards, so the driver never holds TensorFlow.

    Parameters
    ----------
    config : Config
        The network, and the cutouts it is for.
    facts : mapping, optional
        Those of the plan, if there is one.

    Returns
    -------
    dict
        That of :meth:`survey_scan.models.Network.describe`, ``projected_bytes``, and ``parity``: that of
        :func:`survey_scan.models.parity.compare`.

    Raises
    ------
    ConfigError
        If its contract cannot be read.
    ModelError
        If it cannot be loaded, not be used on these cutouts, or does not give the logits of its parity cutouts.
    """
    spec = config.cutouts
    arguments = (config.model.model_dump_json(), list(spec.bands), spec.size, spec.dtype)
    if config.model.path == "loopback":
        return _describe(*arguments)
    agree(config, facts)
    model_key(config.model, spec.bands, spec.size)  # before a process is started for a file that is not there
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_describe, *arguments).result()
        except BrokenProcessPool:
            raise ModelError(
                f"{config.model.path} killed the process that loaded it, perhaps for want of memory. "
                "Try it on a larger machine, or lower model.batch_size."
            ) from None


def agree(config: Config, facts: Mapping[str, Any] | None) -> list[str]:
    """Hold a scan's cutouts, as far as they are known, against the contract of its network.

    Returns
    -------
    list of str
        A warning about what is not known of them.

    Raises
    ------
    ModelError
        If the network is for others.
    """
    if config.model.path == "loopback":
        return []
    package, cutouts = open_package(config.model), cutouts_of(config, facts)
    package.view(cutouts)
    missing = unknown(package, cutouts)
    return (
        [f"nobody says the {' or the '.join(missing)} that {package.network} expects of its pixels"] if missing else []
    )


def line(found: dict[str, Any]) -> str:
    """What :func:`describe` found, in one line."""
    if found["kind"] == "loopback":
        return "loopback: no network, the logit is a function of the pixels"
    shape = " x ".join(str(n) for n in found["input"][1:])
    parameters = f"{found['parameters']:,} parameters, " if found["parameters"] else ""
    contract = f", by {found['contract']}" if found["contract"] else ""
    view = f"; it sees {found['view']}" if found["view"] else ""
    return (
        f"{found['path']} ({found['kind']}, {parameters}{found['bytes'] / 2**20:.1f} MiB){contract}, input {shape}{view}, "
        f"{found['output']}{parity_line(found['parity'])}"
    )


def parity_line(found: dict[str, Any] | None) -> str:
    """What the comparison with parity cutouts found, in words."""
    return f"; {found['n']} parity cutouts agree to {found['difference']:.1g}" if found else ""


def _describe(section: str, bands: list[str], size: int, dtype: str) -> dict[str, Any]:
    from survey_scan import models
    from survey_scan.models import parity

    model = Model.model_validate_json(section)
    found: dict[str, Any] | None = None
    if model.path != "loopback" and (package := open_package(model)).contract is not None:
        found = parity.compare(parity.load_plain(package, model), package)
    network = models.load(model, bands, size, dtype)
    return {**network.describe(), "projected_bytes": network.projected_bytes(), "parity": found}
