"""A model's contract, ``model.yaml``: which pixels its network takes, what is done to them first, and what it gives.

It stands in the folder of the network's file, which it names. Scoring refuses pixels that it does not describe.
"""

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, field_validator, model_validator

from survey_scan import normalisation
from survey_scan.config import Identifier, Section
from survey_scan.config_file import validate
from survey_scan.errors import ConfigError
from survey_scan.normalisation import Normalisation
from survey_scan.yaml_file import read

#: Name of the file.
CONTRACT = "model.yaml"

#: AB zero points of units of flux density (3631 Jy are magnitude 0).
UNITS = {"nanomaggy": 22.5, "njy": 31.4, "ujy": 23.9, "jy": 8.9}


class Contract(Section):
    """A network and the pixels it was trained on.

    ``network`` and ``parity`` are paths from the contract's own folder. ``bands`` are those of the pixels, in order, ``size`` is
    in pixels on a side, ``pixel_scale`` in arcsec. What a pixel's value means is said by ``zero_point`` (magnitude =
    zero_point - 2.5 log10(pixel)), one number or one a band, or by ``unit``; by neither if any linear unit will do.

    ``nan_fill``, in that unit, takes the place of missing pixels; then comes ``normalisation``. ``output`` must be said where the
    file does not tell: see :class:`survey_scan.models.readout.Readout`. ``column`` is the class of interest, its number or its
    name among ``classes``; the network's logits are divided by ``temperature``. ``layout`` is the order of an ONNX network's axes
    where their lengths do not tell.

    What differs in size or order is refused unless it stands in ``allow``: a ``centre-crop`` of larger cutouts, and ``re-order``,
    bands picked by name.

    ``parity`` is an ``.npz`` with ``pixels`` as they are before ``nan_fill``, shape (n, size, size, bands), and ``logits``, what
    they must give. ``training`` holds where the network comes from, in words and numbers of your own.
    """

    network: Annotated[str, Field(min_length=1)]
    bands: list[Identifier] = Field(min_length=1)
    size: Annotated[int, Field(ge=4, le=1024)]
    pixel_scale: Annotated[FiniteFloat, Field(gt=0)]
    zero_point: FiniteFloat | dict[Identifier, FiniteFloat] | None = None
    unit: str | None = None
    nan_fill: FiniteFloat = 0.0
    normalisation: Normalisation = []
    output: Literal["probability", "logit"] | None = None
    column: Annotated[int, Field(ge=0)] | str | None = None
    classes: list[str] | None = None
    temperature: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    layout: Literal["NHWC", "NCHW"] | None = None
    allow: list[Literal["centre-crop", "re-order"]] = []
    parity: str | None = None
    training: dict[str, Any] = {}

    @field_validator("bands")
    @classmethod
    def _bands_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"a band is listed twice: {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _flux(self) -> Self:
        if isinstance(self.zero_point, dict) and set(self.zero_point) != set(self.bands):
            raise ValueError(
                f"'zero_point' has {', '.join(self.zero_point)}; give one number for all, or one for each of "
                f"{', '.join(self.bands)}"
            )
        by_unit = UNITS.get((self.unit or "").lower())
        if by_unit is not None and any(p not in (None, by_unit) for p in self._given().values()):
            raise ValueError(f"'unit' is {self.unit}, whose zero point is {by_unit:g}, but 'zero_point' is another")
        return self

    @model_validator(mode="after")
    def _classes(self) -> Self:
        if isinstance(self.column, str) and self.column not in (self.classes or ()):
            known = f"they are {', '.join(self.classes)}" if self.classes else "there are none"
            raise ValueError(f"'column' is {self.column!r}, which is not in 'classes' ({known})")
        if self.classes is not None and isinstance(self.column, int) and self.column >= len(self.classes):
            raise ValueError(f"'column' is {self.column}, but 'classes' has {len(self.classes)}, numbered from 0")
        if self.classes is not None and len(self.classes) > 1 and self.column is None:
            raise ValueError(
                "'classes' has several, and which one is the lens is not known: give 'column', one of them"
            )
        return self

    @model_validator(mode="after")
    def _steps(self) -> Self:
        normalisation.after(self.normalisation, self.bands, self.size)
        return self

    @property
    def zero_points(self) -> dict[str, float | None]:
        """Band → zero point; None where pixels of any unit will do, or of one that has none."""
        by_unit = UNITS.get((self.unit or "").lower())
        return {band: by_unit if point is None else point for band, point in self._given().items()}

    @property
    def class_number(self) -> int | None:
        """The column of the class of interest."""
        return self.classes.index(self.column) if isinstance(self.column, str) and self.classes else self.column  # type: ignore[return-value]

    def _given(self) -> dict[str, float | None]:
        given = self.zero_point
        return {band: given[band] if isinstance(given, dict) else given for band in self.bands}


def read_contract(path: Path) -> Contract:
    """Read a ``model.yaml``.

    Raises
    ------
    ConfigError
        With every problem found, one a line, each with file:line:column.
    """
    data, places, problems = read(path, list(Contract.model_fields))
    if problems:
        raise ConfigError("\n".join(problems))
    return validate(Contract, data, places, path)


def find(path: Path) -> Path | None:
    """The contract of a folder, or of a network's file: the one beside it that names it.

    Raises
    ------
    ConfigError
        If there is a ``model.yaml`` beside it that is no YAML.
    """
    inside, beside = path / CONTRACT, path.parent / CONTRACT
    if inside.is_file():
        return inside
    if not beside.is_file():
        return None
    named = read(beside, list(Contract.model_fields))[0].get("network")
    return beside if isinstance(named, str) and (beside.parent / named).resolve() == path.resolve() else None
