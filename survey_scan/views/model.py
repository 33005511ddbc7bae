"""What ``survey_scan model`` prints: a network and its contract, whether they belong together, and a package made of them."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from survey_scan.config import Model
from survey_scan.engine.model_check import parity_line
from survey_scan.models.package import Package, open_package

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
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
