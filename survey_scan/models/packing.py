"""Make a model package: a folder with the network, its contract, and parity cutouts."""

import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from survey_scan import __version__
from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.models import parity
from survey_scan.models.contract import CONTRACT, Contract
from survey_scan.models.package import Cutouts, Package
from survey_scan.schema import Status
from survey_scan.store import Reader

#: Cutouts a package carries.
PARITY = 16

#: Name of their file.
PARITY_FILE = "parity.npz"


def pack(network: Path, contract: Contract, pixels: NDArray[np.float32], out: Path) -> dict[str, Any]:
    """Write a package; what the network gives some cutouts becomes what it must give them from now on.

    Parameters
    ----------
    network : Path
        The network's file, or SavedModel folder.
    contract : Contract
        Its contract; where it names the network and the parity cutouts, the package's are put.
    pixels : ndarray of float32, shape (n, size, size, bands)
        Cutouts as the contract describes them; NaN is a missing pixel.
    out : Path
        The folder; must not exist.

    Returns
    -------
    dict
        ``n``, the number of parity cutouts; the ``lowest`` and the ``highest`` of their logits.

    Raises
    ------
    ModelError
        If the folder exists, the network and the contract do not fit, or a logit is not finite.
    """
    if out.exists():
        raise ModelError(f"{out} exists already. Choose another folder, or move it away.")
    if not network.exists():
        raise ModelError(f"{network} does not exist. Name a .keras, .h5 or .onnx file, or a SavedModel folder.")
    package = Package.of(network, contract, out / CONTRACT)
    logits = parity.load_plain(package, Model(path=str(network))).logits(pixels)
    if not np.isfinite(logits).all():
        raise ModelError(
            f"{network} gives {int((~np.isfinite(logits)).sum())} of {len(pixels)} cutouts no finite logit. "
            "Use other cutouts, or mend the network or its contract."
        )
    partial = out.with_name(f".{out.name}.{uuid.uuid4().hex}.partial")
    partial.mkdir(parents=True)
    try:
        (shutil.copytree if network.is_dir() else shutil.copyfile)(network, partial / network.name)
        parity.write(partial / PARITY_FILE, pixels, logits)
        _write(partial / CONTRACT, contract.model_copy(update={"network": network.name, "parity": PARITY_FILE}))
        partial.replace(out)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return {"n": len(pixels), "lowest": float(logits.min()), "highest": float(logits.max())}


def choose(path: Path, network: Path, contract: Contract) -> NDArray[np.float32]:
    """Some cutouts of a store, as a contract describes them, spread over its first partition.

    Parameters
    ----------
    path : Path
        A run directory, or the store itself.
    network : Path
        For messages.
    contract : Contract
        Its bands and size are taken from the cutouts as they would be in a scan.

    Raises
    ------
    ModelError
        If the contract is for other cutouts, or none is whole.
    RunError
        If there is no store.
    """
    reader = open_store(path)
    view = Package.of(network, contract).view(cutouts_of(reader))
    stop = min(int(reader.attributes["partition"]), reader.n_targets)
    whole = np.flatnonzero((reader.column("status", 0, stop) == Status.OK) & reader.kept(0, stop))
    if not len(whole):
        kept = "" if reader.whole else " and kept"
        raise ModelError(f"{reader.path}: none of the first {stop} cutouts is whole{kept}. Use another store.")
    rows = whole[np.unique(np.linspace(0, len(whole) - 1, PARITY).astype(int))]
    pixels = np.concatenate([reader.pixels(int(row), int(row) + 1) for row in rows])
    inside = slice(view.margin, view.margin + view.size)
    return np.ascontiguousarray(pixels[:, inside, inside][..., list(view.numbers)])


def open_store(path: Path) -> Reader:
    """The store of a run or of a training set, or the store itself.

    Raises
    ------
    RunError
        If there is none.
    """
    return Reader(path if (path / "zarr.json").exists() else path / "cutouts.zarr")


def cutouts_of(reader: Reader) -> Cutouts:
    """What the cutouts of a store are, as far as it says."""
    said = reader.attributes
    points = said.get("zero_point")
    return Cutouts(
        tuple(said["bands"]),
        int(said["size"]),
        said.get("pixel_scale"),
        points if isinstance(points, dict) else dict.fromkeys(said["bands"], points),
        said.get("unit"),
    )


def _write(path: Path, contract: Contract) -> None:
    body = yaml.safe_dump(
        contract.model_dump(mode="json", exclude_defaults=True), sort_keys=False, allow_unicode=True, width=120
    )
    path.write_text(
        f"# Contract of the network beside it, packed by survey_scan {__version__}.\n{body}", encoding="utf-8"
    )
