"""What comes with the package as data: surveys and the cuts of papers, one YAML file each.

``surveys/NAME.yaml`` holds the sections ``catalogue`` and ``images`` of a configuration, as far as they are known;
``selection/papers/NAME.yaml`` holds cuts. Both begin with ``about``: where it is from, and what in it nobody has checked.
"""

import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from survey_scan.config import Expression, Identifier, PositiveInt, Section
from survey_scan.errors import ConfigError
from survey_scan.yaml_file import Location, read

Kind = Literal["survey", "paper"]

_FOLDERS: dict[Kind, str] = {"survey": "surveys", "paper": "selection/papers"}
_PACKAGE = Path(__file__).parent


class AboutSurvey(Section):
    """Where a survey's preset is from; ``unverified`` is what in it nobody has checked, or what it leaves out."""

    title: str
    reference: str
    unit: str
    tiles: str
    primary: str
    unverified: list[str]


class SurveyPreset(Section):
    """Parts of the sections ``catalogue`` and ``images`` of a configuration, and cuts that every selection on it begins with."""

    about: AboutSurvey
    cuts: dict[str, Expression] = {}
    catalogue: dict[str, Any] = {}
    images: dict[str, Any] = {}


class AboutPaper(Section):
    """Where cuts are from; ``count`` is how many objects the paper itself scored, ``needs`` says what each column is."""

    reference: str
    survey: str
    count: PositiveInt
    read: Literal["text", "abstract"]
    needs: dict[Identifier, str]
    unverified: list[str]


class Paper(Section):
    """Cuts, in order."""

    about: AboutPaper
    cuts: dict[str, Expression] = {}


@dataclass(frozen=True)
class File:
    """A preset's file.

    Parameters
    ----------
    path : Path
        The file.
    data : dict
        What it holds.
    places : dict
        The place of every key and value, as ``surveys/NAME.yaml:line:column``.
    """

    path: Path
    data: dict[str, Any]
    places: dict[Location, str]


def names(kind: Kind) -> list[str]:
    """The presets there are."""
    return sorted(path.stem for path in (_PACKAGE / _FOLDERS[kind]).glob("*.yaml"))


def file(kind: Kind, name: str) -> File:
    """Read a preset.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    known = names(kind)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ConfigError(f"there is no {kind} {name!r}.{hint} There are {', '.join(known)}.")
    path = _PACKAGE / _FOLDERS[kind] / f"{name}.yaml"
    data, places, problems = read(path, ["about"])
    assert not problems, problems
    return File(path, data, {at: place.replace(f"{_PACKAGE}/", "", 1) for at, place in places.items()})


def survey(name: str) -> SurveyPreset:
    """A survey's preset.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    return SurveyPreset.model_validate(file("survey", name).data)


def paper(name: str) -> Paper:
    """A paper's cuts.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    return Paper.model_validate(file("paper", name).data)


def put_under(data: dict[str, Any], places: dict[Location, str], preset: File) -> None:
    """Put a survey's sections under those of a configuration, which wins key by key.

    Mappings are merged, anything else is replaced. A column that the configuration defines takes the place of the
    preset's, be it one of ``columns`` or of ``magnitudes``; one that it gives as null is left out.

    Parameters
    ----------
    data, places
        The configuration as read, and where everything in it stands; both are changed.
    preset : File
        The survey's, with its paths resolved.
    """
    for section in ("catalogue", "images"):
        under = preset.data.get(section, {})
        over = data.setdefault(section, {})
        places.setdefault((section,), places.get(("survey",), ""))
        if not isinstance(over, dict):
            continue
        columns = ("columns", "magnitudes")
        for mine, other in (columns, columns[::-1]):
            for name in over[mine] if isinstance(over.get(mine), dict) else ():
                under.get(other, {}).pop(name, None)
        _merge(over, under, (section,), places, preset.places)
        for name in columns:
            if isinstance(over.get(name), dict):
                known = under.get(name, {})
                over[name] = {k: v for k, v in over[name].items() if v is not None or k not in known}


def _merge(
    over: dict[str, Any], under: dict[str, Any], at: Location, places: dict[Location, str], below: dict[Location, str]
) -> None:
    ordered = {**dict.fromkeys(under), **over}
    for key, value in under.items():
        here = (*at, key)
        if key not in over:
            ordered[key] = value
            places.update({found: place for found, place in below.items() if found[: len(here)] == here})
        elif isinstance(over[key], dict) and isinstance(value, dict):
            _merge(over[key], value, here, places, below)
    over.clear()
    over.update(ordered)
