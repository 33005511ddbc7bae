"""Load the networks in a process of their own, so that one that does not fit is refused before the cluster starts."""

import multiprocessing
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

from survey_scan.combination import Combination
from survey_scan.config import Config, Model
from survey_scan.engine.state import model_key
from survey_scan.errors import ModelError
from survey_scan.models.memory import BASE
from survey_scan.models.package import cutouts_of, open_package, unknown


def describe(config: Config, facts: Mapping[str, Any] | None = None) -> dict[str, dict[str, Any]]:
    """What the networks are and the memory they will need.

    The process ends afterwards, so the driver never holds TensorFlow.

    Parameters
    ----------
    config : Config
        The networks, and the cutouts they are for.
    facts : mapping, optional
        Those of the plan, if there is one.

    Returns
    -------
    dict
        Name → that of :meth:`survey_scan.models.Network.describe`, ``projected_bytes``, ``parity``: that of
        :func:`survey_scan.models.parity.compare`, and ``evaluation``: what its contract says of its own.

    Raises
    ------
    ConfigError
        If a contract cannot be read.
    ModelError
        If one cannot be loaded, not be used on these cutouts, or does not give the logits of its parity cutouts.
    """
    spec, real = config.cutouts, {n: m for n, m in config.networks.items() if m.path != "loopback"}
    agree(config, facts)
    for name, model in real.items():  # before a process is started for a file that is not there
        with told_of(name):
            model_key(model, spec.bands, spec.size)
    sections = {name: model.model_dump_json() for name, model in config.networks.items()}
    if not real:
        return _describe(sections, spec.bands, spec.size, spec.dtype)
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        try:
            return pool.submit(_describe, sections, spec.bands, spec.size, spec.dtype).result()
        except BrokenProcessPool:
            raise ModelError(
                f"{', '.join(model.path for model in real.values())} killed the process that loaded it, perhaps for want of "
                "memory. Try it on a larger machine, or lower model.batch_size."
            ) from None


@contextmanager
def told_of(name: str) -> Iterator[None]:
    """Say of which of several networks an error is."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"models.{name}: {error}") if name else error from None


def agree(config: Config, facts: Mapping[str, Any] | None) -> list[str]:
    """Hold a scan's cutouts, as far as they are known, against the contracts of its networks.

    Returns
    -------
    list of str
        A warning for each network about what is not known of them.

    Raises
    ------
    ModelError
        If a network is for others.
    """
    found = []
    for name, model in config.networks.items():
        if model.path == "loopback":
            continue
        with told_of(name):
            package, cutouts = open_package(model), cutouts_of(config, facts)
            package.view(cutouts)
        if missing := unknown(package, cutouts):
            found.append(f"nobody says the {' or the '.join(missing)} that {package.network} expects of its pixels")
    return found


def projected_bytes(found: Mapping[str, Mapping[str, Any]]) -> int:
    """Memory of a process that holds all networks; Python and the framework are there once."""
    together: int = sum(one["projected_bytes"] for one in found.values())
    return together - (len(found) - 1) * BASE


def lines(config: Config, found: Mapping[str, dict[str, Any]], width: int = 12) -> Iterator[str]:
    """What :func:`describe` found, and what is made of several networks' logits, a line each."""
    for name, one in found.items():
        yield f"{'network':<{width}}{name + ': ' if name else ''}{line(one)}"
        if one["evaluation"]:
            said = ", ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in one["evaluation"].items()
            )
            yield f"{'':<{width}}by its own evaluation: {said}"
        yield from (f"{'warning':<{width}}{name + ': ' if name else ''}{warning}" for warning in one["warnings"])
    if config.models is not None:
        yield f"{'ranked by':<{width}}{Combination(config).words()}"


def line(found: Mapping[str, Any]) -> str:
    """One network, in one line."""
    if found["kind"] == "loopback":
        return "loopback: no network, the logit is a function of the pixels"
    shape = " x ".join(str(n) for n in found["input"][1:])
    parameters = f"{found['parameters']:,} parameters, " if found["parameters"] else ""
    contract = f", by {found['contract']}" if found["contract"] else ""
    view = f"; it sees {found['view']}" if found["view"] else ""
    several = f", mean of {found['views']} views" if found["views"] > 1 else ""
    return (
        f"{found['path']} ({found['kind']}, {parameters}{found['bytes'] / 2**20:.1f} MiB){contract}, input {shape}{view}, "
        f"{found['output']}{several}{parity_line(found['parity'])}"
    )


def parity_line(found: dict[str, Any] | None) -> str:
    """What the comparison with parity cutouts found, in words."""
    return f"; {found['n']} parity cutouts agree to {found['difference']:.1g}" if found else ""


def _describe(sections: dict[str, str], bands: list[str], size: int, dtype: str) -> dict[str, dict[str, Any]]:
    from survey_scan import models
    from survey_scan.models import parity

    found: dict[str, dict[str, Any]] = {}
    for name, section in sections.items():
        model, compared, evaluation = Model.model_validate_json(section), None, None
        with told_of(name):
            if model.path != "loopback" and (contract := (package := open_package(model)).contract) is not None:
                compared = parity.compare(parity.load_plain(package, model), package)
                evaluation = contract.training.get("evaluation")
            network = models.load(model, bands, size, dtype)
        found[name] = {
            **network.describe(),
            "projected_bytes": network.projected_bytes(),
            "parity": compared,
            "evaluation": evaluation if isinstance(evaluation, dict) else None,
        }
    return found
