"""The configuration of ``survey_scan train``: strict models like those of a scan, read in the same way."""

import difflib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, FiniteFloat, field_validator, model_validator

from survey_scan import config_file
from survey_scan.config import Identifier, PositiveInt, Section
from survey_scan.config_paths import resolve_paths
from survey_scan.errors import ConfigError
from survey_scan.models import architectures
from survey_scan.training import normalising
from survey_scan.yaml_file import Location, place_of, read

#: Files of schedules, with their augmentation and balance, by name.
PRESETS = Path(__file__).parent / "presets"

#: The one that is taken where none is named.
DEFAULT = "default"

#: Keys whose values are paths; beside them those of the entries of ``data`` and ``validation.data``.
PATHS: tuple[Location, ...] = (("output", "directory"), ("network", "start"))

#: Sections that a preset fills.
FILLED = ("schedule", "augmentation", "balance")

Positive = Annotated[FiniteFloat, Field(gt=0)]
NotNegative = Annotated[FiniteFloat, Field(ge=0)]


class Output(Section):
    """Where the training goes; ``seed`` decides weights, order, turns and noise."""

    directory: Path = Field(strict=False)
    seed: Annotated[int, Field(ge=0)] = 1


class Hard(Section):
    """Non-lenses that are drawn ``repeat`` times as often as others, by a table of their ``object_id``."""

    table: Path = Field(strict=False)
    repeat: Annotated[int, Field(ge=2, le=1000)]


class Labelled(Section):
    """A store of cutouts, and a table of what some of its objects are.

    ``store`` is a run directory, a folder of ``survey_scan simulate``, or a ``cutouts.zarr``. ``labels`` has columns
    ``object_id`` and ``label``; without it, a simulated folder's own truth is taken.
    """

    store: Path = Field(strict=False)
    labels: Path | None = Field(default=None, strict=False)


class Data(Labelled):
    """A store to learn from."""

    hard_negatives: Hard | None = None


class Validation(Section):
    """What a network is judged by after each epoch, and never learns from: a ``fraction`` of the rows, or stores of its own."""

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    data: Annotated[list[Labelled], Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.fraction is None) == (self.data is None):
            raise ValueError("give 'fraction' (of the rows of 'data') or 'data' (stores of its own), one of them")
        return self


class Network(Section):
    """What is trained: a new network of an ``architecture``, or a package to ``start`` from, with its contract.

    ``bands`` and ``size`` are those of the stores unless they are given; of larger stores the central pixels are taken.
    ``normalisation`` is as in a contract, but the word ``measured`` may stand in place of a mean or a standard
    deviation: see :mod:`survey_scan.training.normalising`.
    """

    architecture: str | None = None
    start: Path | None = Field(default=None, strict=False)
    bands: Annotated[list[Identifier], Field(min_length=1)] | None = None
    size: Annotated[int, Field(ge=8, le=1024)] | None = None
    nan_fill: FiniteFloat = 0.0
    normalisation: Any = []
    measure: Annotated[int, Field(ge=16)] = 500

    @field_validator("architecture")
    @classmethod
    def _is_known(cls, value: str | None) -> str | None:
        if value is not None and value not in (known := architectures.names()):
            near = difflib.get_close_matches(value, known, n=1)
            hint = f" Did you mean '{near[0]}'?" if near else ""
            raise ValueError(f"there is no architecture {value!r}.{hint} There are {', '.join(known)}")
        return value

    @field_validator("normalisation")
    @classmethod
    def _usable(cls, value: Any) -> Any:
        normalising.check(value)
        return value

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.architecture is None) == (self.start is None):
            raise ValueError("give 'architecture' (a new network) or 'start' (a package to train further), one of them")
        given = [name for name in ("bands", "size", "nan_fill", "normalisation") if name in self.model_fields_set]
        if self.start is not None and given:
            raise ValueError(f"the contract of 'start' says {', '.join(given)}; remove it here")
        return self


class Schedule(Section):
    """How long, in which batches, and how fast.

    ``rate`` rises from 0 over ``warm_up`` epochs; then ``decay`` lets it fall: along a cosine to the part ``end`` of it,
    or by ``factor`` after each of the epochs ``drops`` (below 1: a part of all epochs), or not.
    """

    epochs: PositiveInt
    batch: Annotated[int, Field(ge=2)]
    optimizer: Literal["adam", "adamw", "sgd"]
    rate: Positive
    weight_decay: NotNegative
    warm_up: NotNegative
    decay: Literal["cosine", "drops", "none"]
    end: NotNegative
    drops: list[Positive]
    factor: Positive

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.warm_up >= self.epochs:
            raise ValueError(f"'warm_up' is {self.warm_up:g} epochs of {self.epochs}; it must be shorter")
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError(f"'weight_decay' belongs to the optimizer adamw; {self.optimizer} has none. Set it to 0")
        return self


class Augmentation(Section):
    """What is done to each training cutout anew each time, at random; all but flips and turns interpolates or adds.

    ``flips`` and ``turns`` (by right angles) are exact. ``rotation`` is by any angle, ``zoom`` the part of the side that is
    kept and enlarged, ``shift`` in pixels along each axis, up to this; these three by one bilinear interpolation, which
    smooths the noise. ``noise`` is the standard deviation, in the unit of the pixels, of what is added, one number or one
    a band.
    """

    flips: bool = False
    turns: bool = False
    rotation: bool = False
    zoom: Annotated[list[Positive], Field(min_length=2, max_length=2)] | None = None
    shift: NotNegative = 0.0
    noise: NotNegative | Annotated[list[NotNegative], Field(min_length=1)] = 0.0

    @field_validator("zoom")
    @classmethod
    def _within(cls, value: list[float] | None) -> list[float] | None:
        if value is not None and not value[0] <= value[1] <= 1:
            raise ValueError(
                f"'zoom' is [lowest, highest] of the part of the side that is kept, at most 1, not {value}"
            )
        return value


class Reading(Section):
    """How pixels are read: all at once if they take less than ``memory`` GB, else ``blocks`` chunks of 256 rows at a time."""

    memory: NotNegative = 4.0
    blocks: Annotated[int, Field(ge=1)] = 32


class Training(Section):
    """A whole configuration, with what ``preset`` says put in."""

    output: Output
    data: Annotated[list[Data], Field(min_length=1)]
    validation: Validation = Validation(fraction=0.1)
    network: Network
    preset: str = DEFAULT
    schedule: Schedule
    augmentation: Augmentation
    balance: Annotated[float, Field(gt=0, lt=1)] | Literal["weights", "none"]
    reading: Reading = Reading()


def presets() -> list[str]:
    """The schedules there are."""
    return sorted(path.stem for path in PRESETS.glob("*.yaml"))


def load(path: Path, settings: tuple[str, ...] = ()) -> Training:
    """Read a configuration, as :func:`survey_scan.config_file.load` reads that of a scan.

    Raises
    ------
    ConfigError
        With every problem found, one a line, each with its place.
    """
    data, places, problems = read(path, list(Training.model_fields))
    _resolve(data, path.absolute().parent, places, problems)
    for setting in settings:
        config_file.apply_setting(data, places, setting, problems, PATHS.__contains__)
    _put_in(data, places, problems)
    if problems:
        raise ConfigError("\n".join(problems))
    return config_file.validate(Training, data, places, path)


def _resolve(data: dict[str, Any], folder: Path, places: dict[Location, str], problems: list[str]) -> None:
    """Make paths absolute, from the folder of the file; also those in lists."""
    for location in PATHS:
        resolve_paths(data, folder, places, problems, only=location)
    validation = data.get("validation")
    lists: list[tuple[Location, Any]] = [(("data",), data.get("data"))]
    if isinstance(validation, dict):
        lists.append((("validation", "data"), validation.get("data")))
    for at, entries in lists:
        for number, entry in enumerate(entries if isinstance(entries, list) else []):
            if not isinstance(entry, dict):
                continue
            here = {
                (*location[len(at) + 1 :],): place
                for location, place in places.items()
                if location[: len(at) + 1] == (*at, number)
            }
            for key in (("store",), ("labels",), ("hard_negatives", "table")):
                resolve_paths(entry, folder, here, problems, only=key)


def _put_in(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> None:
    """Put what the preset says under what the file says."""
    name = data.get("preset", DEFAULT)
    if not isinstance(name, str) or name not in (known := presets()):
        known = presets()
        near = difflib.get_close_matches(str(name), known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        problems.append(
            f"{place_of(places, ('preset',))}: there is no preset {name!r}.{hint} There are {', '.join(known)}."
        )
        return
    preset = read(PRESETS / f"{name}.yaml", ["about", *FILLED])[0]
    for section in FILLED:
        given = data.get(section)
        if isinstance(preset[section], dict) and (given is None or isinstance(given, dict)):
            data[section] = preset[section] | (given or {})
        elif given is None:
            data[section] = preset[section]
