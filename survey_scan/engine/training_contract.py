"""The contract of a network that is trained: what its stores or its start say, its normalisation, where it comes from."""

import datetime
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import ValidationError

from survey_scan import __version__
from survey_scan.config import Model
from survey_scan.engine.training_data import Opened
from survey_scan.errors import UserError
from survey_scan.models.contract import Contract
from survey_scan.models.package import Package, open_package
from survey_scan.training import normalising
from survey_scan.training.config import Network, Training
from survey_scan.training.reading import Stored, order

#: Name of the network's file in its package.
NETWORK = "network.keras"


def base_of(path: Path) -> Package:
    """The package to start from.

    Raises
    ------
    UserError
        If it is none, or has no contract.
    """
    package = open_package(Model(path=str(path), backend="tensorflow"))
    if package.contract is None:
        raise UserError(
            f"{path} has no contract (model.yaml), and what is trained further needs one. Make it a package first."
        )
    return package


def further(base: Package) -> Contract:
    """The contract of what starts from a package: the same pixels, one logit."""
    assert base.contract is not None
    anew = {"output": "logit", "column": None, "classes": None, "temperature": 1.0, "layout": None, "parity": None}
    return base.contract.model_copy(update={**anew, "network": NETWORK, "training": {}})


def of_stores(network: Network, opened: Opened) -> Contract:
    """The contract of a new network, by its stores, without its normalisation.

    Raises
    ------
    UserError
        If the stores do not say what it needs, or lack a band.
    """
    first = opened.entries[0]
    cutouts, said = first.cutouts, network.bands is not None or network.size is not None
    if cutouts.pixel_scale is None:
        raise UserError(
            f"{first.given} does not say its pixel scale, which the network's contract needs. Cut it again."
        )
    bands = network.bands or list(cutouts.bands)
    if absent := [band for band in bands if band not in cutouts.bands]:
        raise UserError(
            f"network.bands has {absent[0]!r}, which {first.given} does not hold. It has {', '.join(cutouts.bands)}."
        )
    points = {band: cutouts.zero_points.get(band) for band in bands}
    known = {band: point for band, point in points.items() if point is not None}
    point: Any = None
    if len(known) == len(bands):
        point = known if len(set(known.values())) > 1 else known[bands[0]]
    return Contract(
        network=NETWORK,
        bands=bands,
        size=network.size or cutouts.size,
        pixel_scale=cutouts.pixel_scale,
        zero_point=point,
        unit=cutouts.unit,
        nan_fill=network.nan_fill,
        output="logit",
        allow=["centre-crop", "re-order"] if said else [],
    )


def normalised(config: Training, stored: Stored, contract: Contract) -> Contract:
    """The contract with its normalisation, whose constants are measured where they are to be.

    Parameters
    ----------
    config : Training
    stored : Stored
        Pixels of the training rows.
    contract : Contract
        Without it.

    Raises
    ------
    UserError
        If it cannot be done to these pixels.
    """
    from survey_scan.training.network import applied

    pixels, network = None, config.network
    if normalising.is_measured(network.normalisation):
        rows = stored.rows
        index = order(rows, np.arange(len(rows)), config.reading.blocks, (config.output.seed, 4))[0][: network.measure]
        pixels = stored.fetch(index)
        pixels = np.where(np.isnan(pixels), np.float32(network.nan_fill), pixels)
    try:
        steps = normalising.settle(network.normalisation, pixels, contract.bands, applied)
        return Contract.model_validate({**contract.model_dump(), "normalisation": steps})
    except ValueError as error:
        raise UserError(f"network.normalisation: {_first(error)}") from None


def provenance(config: Training, opened: Opened, best: dict[str, float]) -> dict[str, Any]:
    """Where the network comes from, for its contract."""
    training, validation = opened.training, opened.validation
    judged = {name: round(best[name], 6) for name in ("auc", "tpr_1pct", "tpr0")}
    start = {} if config.network.start is None else {"start": _end(config.network.start)}
    return {
        "data": [
            {
                "store": _end(entry.given),
                "labels": _end(Path(entry.labels)),
                "lenses": rows.lenses,
                "others": rows.others,
            }
            for entry, rows in ((entry, entry.matched.rows) for entry in opened.entries)
        ],
        "lenses": training.lenses,
        "others": training.others,
        "architecture": config.network.architecture or "that of the start",
        **start,
        "preset": config.preset,
        "schedule": config.schedule.model_dump(mode="json"),
        "augmentation": config.augmentation.model_dump(mode="json", exclude_defaults=True),
        "balance": config.balance,
        "seed": config.output.seed,
        "epoch": int(best["epoch"]),
        "date": datetime.date.today().isoformat(),
        "versions": {
            "survey_scan": __version__,
            **{name: importlib.metadata.version(name) for name in ("keras", "numpy")},
            "tensorflow": _tensorflow(),
        },
        "evaluation": {**judged, "lenses": validation.lenses, "others": validation.others},
    }


def _end(path: Path) -> str:
    """The end of a path: a package travels, and where its data lay is nobody's business there."""
    return "/".join(path.parts[-2:])


def _tensorflow() -> str:
    import tensorflow as tf

    return str(tf.__version__)


def _first(error: ValueError) -> str:
    """The message of an error, or of the first of pydantic's."""
    text = error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error)
    return text.removeprefix("Value error, ")
