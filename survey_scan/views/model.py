"""``survey_scan model``: a network and its contract, whether they belong together, a package made of them, its scores."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from survey_scan import scores
from survey_scan.config import Model
from survey_scan.engine.model_check import parity_line
from survey_scan.errors import RunError
from survey_scan.models.loader import load_package
from survey_scan.models.package import Package, open_package
from survey_scan.models.packing import cutouts_of, open_store
from survey_scan.schema import Status

Say = Callable[[str], None]


def show(path: Path, say: Say) -> None:
    """Print a network's facts and its contract in words.

    Raises
    ------
    UserError
        If either cannot be read.
    """
    from survey_scan.models.files import open_file
    from survey_scan.models.runtime import configure

    model = Model(path=str(path))
    package = open_package(model)
    configure(model.backend)
    file = open_file(package.network, model, package.layout)
    shape = " x ".join("any" if n is None else str(n) for n in file.shape[1:])
    count = f"{file.parameters:,} parameters, " if file.parameters else ""
    say(f"network        {package.network} ({file.kind}, {count}input {shape}, ends in {file.head.layer})")
    if package.contract is None:
        say("contract       none: no model.yaml in it or beside it that names it")
        return
    for name, text in _contract(package):
        say(f"{name:<15}{text}")


def check(path: Path, say: Say) -> None:
    """Load a network with its contract, try it on noise, compare it with its parity cutouts, and print what was found.

    Raises
    ------
    UserError
        If anything is wrong.
    """
    from survey_scan.models import parity

    model = Model(path=str(path))
    package = open_package(model)
    network = parity.load_plain(package, model)
    found = network.describe()
    say(f"network        {found['path']} ({found['kind']}), by {found['contract']}")
    say(f"takes          {' x '.join(str(n) for n in found['input'][1:])}, and gives noise finite logits")
    say(f"gives          {found['output']}")
    for warning in found["warnings"]:
        say(f"warning        {warning}")
    compared = parity.compare(network, package)
    if compared is None:
        say("parity         not compared: the contract names no parity cutouts; 'survey_scan model pack' makes some")
        return
    say(
        f"parity         {parity_line(compared).removeprefix('; ')} (allowed: {compared['allowed']:g}, or that part of the logit)"
    )
    say("all is well.")


def pack(network: Path, contract: Path, cutouts: Path, out: Path, say: Say) -> None:
    """Make a package of a network, a contract, and cutouts of a run or store.

    Raises
    ------
    UserError
        If they do not fit, or the folder exists.
    """
    from survey_scan.models import packing
    from survey_scan.models.contract import read_contract

    said = read_contract(contract)
    made = packing.pack(network, said, packing.choose(cutouts, network, said), out)
    say(
        f"parity         {made['n']} cutouts of {cutouts}, with logits from {made['lowest']:.2f} to {made['highest']:.2f}"
    )
    say(f"packed         {out}; in a configuration: model: {{path: {out}}}")


def score(path: Path, cutouts: Path, out: Path, views: int, say: Say) -> None:
    """Score a store in this process, without a scan: a training set, or another scan's cutouts.

    Parameters
    ----------
    path : Path
        The network.
    cutouts : Path
        A run directory, a training set, or the store itself.
    out : Path
        The score table, as those of a scan; an earlier one there is replaced.
    views : int
        As ``model.views``.

    Raises
    ------
    UserError
        If the network is not for these cutouts.
    """
    model = Model.model_validate({"path": str(path), "views": views})
    package, reader = open_package(model), open_store(cutouts)
    said = cutouts_of(reader)
    package.view(said)
    network = load_package(package, model, list(said.bands), said.size, str(reader.attributes["dtype"]))
    began, step = time.perf_counter(), int(reader.attributes["partition"])
    parts = [
        scores.score_partition(reader, start, min(start + step, reader.n_targets), {"": network}).table
        for start in range(0, reader.n_targets, step)
    ]
    if not parts:
        raise RunError(f"{reader.path} holds no cutouts. Name another store.")
    table, seconds = pd.concat(parts, ignore_index=True), time.perf_counter() - began
    if not reader.whole:
        kept = reader.kept(0, reader.n_targets)
        say(f"kept           {kept.sum():,} of {len(table):,} cutouts have pixels; the table is of these alone")
        table = table[kept].reset_index(drop=True)
    scores.write(out, table)
    scored = int((table["status"] == Status.OK).sum())
    say(f"scored         {scored:,} of {len(table):,} cutouts of {cutouts}, {scored / seconds:,.0f} a second")
    say(f"wrote          {out}; against labels: survey_scan evaluate {out} --labels FILE")


def _contract(package: Package) -> Iterator[tuple[str, str]]:
    contract: Any = package.contract
    yield "contract", str(package.place)
    yield (
        "pixels",
        f"bands {', '.join(contract.bands)}; {contract.size} x {contract.size} of {contract.pixel_scale:g} arcsec",
    )
    points = contract.zero_points
    if len(set(points.values())) > 1:
        yield "flux", "zero point " + ", ".join(f"{band} {point:g}" for band, point in points.items())
    elif (point := points[contract.bands[0]]) is not None:
        yield "flux", f"zero point {point:g}{f' ({contract.unit})' if contract.unit else ''}"
    else:
        yield "flux", contract.unit or "of any linear unit"
    if contract.allow:
        yield "allows", ", ".join(contract.allow)
    yield "missing pixels", f"become {contract.nan_fill:g}"
    for number, step in enumerate(package.steps, 1):
        yield f"step {number}", step.words()
    if not package.steps:
        yield "steps", "none: the network takes pixels as they are"
    if contract.classes:
        yield (
            "classes",
            ", ".join(contract.classes) + (f"; {contract.column!r} is scored" if len(contract.classes) > 1 else ""),
        )
    if contract.output:
        yield "gives", contract.output
    if contract.temperature != 1:
        yield "temperature", f"{contract.temperature:g}"
    yield "parity", contract.parity or "no cutouts to compare with"
    for name, value in contract.training.items():
        yield ("training" if name == next(iter(contract.training)) else ""), f"{name}: {_text(value)}"


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_text(inner)}" for key, inner in value.items())
    if isinstance(value, list):
        return ("; " if any(isinstance(inner, dict) for inner in value) else ", ").join(map(_text, value)) or "none"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
