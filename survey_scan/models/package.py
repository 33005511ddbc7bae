"""A network's file with all that is said of it: by its contract or, without one, by the configuration."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self

from survey_scan import normalisation
from survey_scan.config import Config, Model
from survey_scan.errors import ModelError
from survey_scan.identity import digest
from survey_scan.models.contract import CONTRACT, Contract, find, read_contract
from survey_scan.normalisation import AnyStep

#: By how much a pixel scale may differ (a part of it), and a zero point (magnitudes): as of the headers of tiles.
SCALE_TOLERANCE, ZERO_POINT_TOLERANCE = 0.005, 0.01

#: Keys of the section ``model`` that a contract says.
_SAID = ("output", "column", "normalisation", "nan_fill")


@dataclass(frozen=True)
class Cutouts:
    """What the cutouts of a scan are; None is not known, or not yet.

    Parameters
    ----------
    bands : tuple of str
        In order.
    size : int
        Pixels on a side.
    pixel_scale : float, optional
        Arcseconds.
    zero_points : mapping
        Band → zero point.
    unit : str, optional
        Of the pixels, by the headers of the images.
    """

    bands: tuple[str, ...]
    size: int
    pixel_scale: float | None = None
    zero_points: Mapping[str, float | None] = field(default_factory=dict)
    unit: str | None = None


@dataclass(frozen=True)
class View:
    """What a network sees of a scan's cutouts.

    Parameters
    ----------
    bands : tuple of str
        Those it takes, in its order.
    numbers : tuple of int
        Where they stand in the cutouts.
    size : int
        Pixels on a side.
    margin : int
        Pixels that are cut off on each side.
    """

    bands: tuple[str, ...]
    numbers: tuple[int, ...]
    size: int
    margin: int

    def words(self, bands: tuple[str, ...], size: int) -> str | None:
        """What is left out or re-ordered of cutouts of such bands and size, in words; None if nothing is."""
        crop = f"the central {self.size} of {size} pixels" if self.margin else ""
        chosen = f"bands {', '.join(self.bands)} of {', '.join(bands)}" if self.bands != bands else ""
        return ", ".join(filter(None, (crop, chosen))) or None


@dataclass(frozen=True)
class Package:
    """A network's file and how its pixels are made and its output is read.

    Parameters
    ----------
    network : Path
        The network's file or SavedModel folder.
    place : Path or None
        The contract's file.
    contract : Contract or None
        What it says.
    steps, nan_fill, output, column, temperature, layout
        Of the contract or, without one, of the section ``model``.
    """

    network: Path
    place: Path | None
    contract: Contract | None
    steps: tuple[AnyStep, ...]
    nan_fill: float
    output: Literal["probability", "logit"] | None
    column: int | None
    temperature: float = 1.0
    layout: Literal["NHWC", "NCHW"] | None = None

    @classmethod
    def of(cls, network: Path, contract: Contract, place: Path | None = None) -> Self:
        """A network with a contract."""
        said = contract.output, contract.class_number, contract.temperature, contract.layout
        return cls(network, place, contract, tuple(contract.normalisation), contract.nan_fill, *said)

    def key(self, name: str) -> str:
        """Where a key stands, for messages: ``model.output``, or ``output of lens/model.yaml``."""
        return f"model.{name}" if self.place is None else f"{name} of {self.place}"

    def view(self, cutouts: Cutouts) -> View:
        """What the network sees of these cutouts.

        Raises
        ------
        ModelError
            If the contract says otherwise, or the normalisation cannot be done to them.
        """
        contract = self.contract
        if contract is None:
            view = View(cutouts.bands, tuple(range(len(cutouts.bands))), cutouts.size, 0)
        else:
            _agree(self.network, contract, cutouts)
            bands = tuple(contract.bands)
            numbers = tuple(cutouts.bands.index(band) for band in bands)
            view = View(bands, numbers, contract.size, (cutouts.size - contract.size) // 2)
        self.fed(view)
        return view

    def fed(self, view: View) -> tuple[list[str], int]:
        """Bands and size of what the network is given, after the normalisation.

        Raises
        ------
        ModelError
            If a step cannot be done.
        """
        try:
            return normalisation.after(self.steps, list(view.bands), view.size)
        except ValueError as error:
            raise ModelError(f"{self.key('normalisation')}: {error}") from None

    def digest(self, cutouts: Cutouts, precision: str, views: int = 1) -> str:
        """Digest of all that changes a score but the pixels and the network itself.

        Raises
        ------
        ModelError
            As :meth:`view`.
        """
        view = self.view(cutouts)
        steps = [step.model_dump(mode="json") for step in self.steps]
        output = [self.output, self.column or 0, self.temperature, self.layout]
        several = [views] if views > 1 else []  # what was scored before there were views is still the same
        return digest([view.numbers, view.margin, self.nan_fill, steps, output, precision, *several])


def open_package(model: Model) -> Package:
    """Find the network that ``model.path`` names, and what is said of it.

    Raises
    ------
    ConfigError
        If its contract cannot be read.
    ModelError
        If the contract and the configuration both say how the network is used.
    """
    path = Path(model.path)
    place = find(path.parent if path.name == CONTRACT else path)
    if place is None:
        said = tuple(model.normalisation or ()), model.nan_fill or 0.0, model.output, model.column
        return Package(path, None, None, *said)
    contract = read_contract(place)
    network = Path(os.path.normpath(place.parent / contract.network))
    if not network.exists():
        raise ModelError(f"{place}: its network, {network}, does not exist. Put it there, or mend 'network'.")
    twice = [name for name in _SAID if getattr(model, name) is not None]
    if twice:
        raise ModelError(
            f"model.{twice[0]} is given, but {model.path} has a contract, {place}, which says how its network is used. "
            f"Remove model.{twice[0]}, or change the contract."
        )
    return Package.of(network, contract, place)


def cutouts_of(config: Config, facts: Mapping[str, Any] | None = None) -> Cutouts:
    """What the cutouts of a configuration are, as far as it says, and as far as its plan has found out.

    Parameters
    ----------
    config : Config
        A scan's.
    facts : mapping, optional
        Those of its plan.
    """
    facts = facts or {}
    flux = facts.get("flux", {})
    points, found = expected_zero_points(config), flux.get("zero_point", {})
    return Cutouts(
        tuple(config.cutouts.bands),
        config.cutouts.size,
        config.images.pixel_scale or facts.get("pixel_scale"),
        {band: found.get(band) if point is None else point for band, point in points.items()},
        flux.get("unit") if config.cutouts.zero_point is None else None,
    )


def expected_zero_points(config: Config) -> dict[str, float | None]:
    """The zero points that the pixels of the store have, as far as the configuration says."""
    common = config.cutouts.zero_point
    return {b: config.images.zero_point_of(b) if common is None else common for b in config.cutouts.bands}


def unknown(package: Package, cutouts: Cutouts) -> list[str]:
    """What the contract says and nobody says of the cutouts, in words."""
    contract = package.contract
    if contract is None:
        return []
    found = []
    if cutouts.pixel_scale is None:
        found.append(f"pixel scale ({contract.pixel_scale:g} arcsec)")
    bands = [b for b, p in contract.zero_points.items() if p is not None and cutouts.zero_points.get(b) is None]
    if bands:
        points = {f"{contract.zero_points[band]:g}" for band in bands}
        found.append(f"zero point ({', '.join(sorted(points))}) in {', '.join(bands)}")
    return found


def _agree(network: Path, contract: Contract, cutouts: Cutouts) -> None:
    """Refuse cutouts that are not those of a contract.

    Raises
    ------
    ModelError
        With all that differs, and what to do.
    """
    wanted, bands = contract.bands, list(cutouts.bands)
    expects, are = ", ".join(wanted), ", ".join(bands)
    ways: list[str | None] = []  # to mend each difference; None: there is none
    if bands != wanted and not ("re-order" in contract.allow and set(wanted) <= set(bands)):
        ways.append(f"cutouts.bands to [{', '.join(wanted)}]")
    if cutouts.pixel_scale is not None:
        expects, are = f"{expects} at {contract.pixel_scale:g} arcsec", f"{are} at {cutouts.pixel_scale:g}"
        if abs(cutouts.pixel_scale / contract.pixel_scale - 1) > SCALE_TOLERANCE:
            ways.append(None)
    larger = cutouts.size - contract.size
    if larger and not ("centre-crop" in contract.allow and larger > 0 and larger % 2 == 0):
        expects, are = f"{expects}, {contract.size} pixels on a side", f"{are}, {cutouts.size} on a side"
        odd = ", or more by an even number" if "centre-crop" in contract.allow else ""
        ways.append(f"cutouts.size to {contract.size}{odd}")
    points = contract.zero_points
    off = {b: (p, q) for b, p in points.items() if p is not None and (q := cutouts.zero_points.get(b)) is not None}
    off = {b: (p, q) for b, (p, q) in off.items() if abs(p - q) > ZERO_POINT_TOLERANCE}
    if off:
        band, (point, found) = next(iter(off.items()))
        expects, are = f"{expects}, zero point {point:g} in {band}", f"{are}, zero point {found:g}"
        ways.append(f"cutouts.zero_point to {point:g}" if set(points.values()) == {point} else None)
    if contract.unit and cutouts.unit and points[wanted[0]] is None and contract.unit.lower() != cutouts.unit.lower():
        expects, are = f"{expects}, in {contract.unit}", f"{are}, in {cutouts.unit}"
        ways.append(None)
    if not ways:
        return
    known = [way for way in ways if way is not None]
    way = f"Set {' and '.join(known)}, or use another model." if len(known) == len(ways) else "Use another model."
    raise ModelError(f"{network} expects bands {expects}; the cutouts are {are}. {way}")
