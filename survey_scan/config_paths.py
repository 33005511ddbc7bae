"""Paths in a configuration: relative to a folder, or below a URL, with ``~`` and variables expanded."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from survey_scan.yaml_file import Location

#: Keys whose values are paths (or globs of paths), resolved against the folder of the file; ``*`` is any name.
PATHS: tuple[Location, ...] = (
    ("run", "directory"),
    ("survey", "root"),
    ("catalogue", "files"),
    ("images", "files"),
    ("images", "index"),
    ("images", "mask", "files"),
    ("images", "weight", "files"),
    ("model", "path"),
    ("models", "*", "path"),
    ("ranking", "known"),
    ("ranking", "training"),
    ("resources", "profile"),
    ("selection", "box", "lenses"),
)


def resolve_paths(
    data: dict[str, Any],
    folder: Path | str,
    places: dict[Location, str],
    problems: list[str],
    only: Location | None = None,
) -> None:
    """Make paths absolute, from a folder or below a URL, with ``~`` and variables expanded.

    Parameters
    ----------
    data, places
        A configuration as read, and where everything in it stands; ``data`` is changed.
    folder : Path or str
        What paths are relative to.
    problems : list of str
        Gets a line for each variable that is not set.
    only : tuple of str, optional
        This key instead of :data:`PATHS`.
    """
    for location in _all(PATHS, data) if only is None else (only,):
        section: Any = data
        for key in location[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        last = location[-1]
        if not isinstance(section, dict) or last not in section:
            continue
        value = section[last]
        if isinstance(value, str):
            section[last] = _resolve(value, folder, location, places, problems)
        elif isinstance(value, list):
            section[last] = [
                _resolve(v, folder, location, places, problems) if isinstance(v, str) else v for v in value
            ]


def is_path(location: Location) -> bool:
    """Whether what stands there is a path."""
    return any(
        len(known) == len(location) and all(k in ("*", key) for k, key in zip(known, location, strict=True))
        for known in PATHS
    )


def _all(locations: tuple[Location, ...], data: dict[str, Any]) -> Iterator[Location]:
    """Those of the data, for each name where any will do."""
    for location in locations:
        if "*" not in location:
            yield location
            continue
        first, _, last = location
        named = data.get(str(first))
        yield from ((first, name, last) for name in (named if isinstance(named, dict) else ()))


def _resolve(
    text: str, folder: Path | str, location: Location, places: dict[Location, str], problems: list[str]
) -> str:
    if not text or (location[0] in ("model", "models") and text == "loopback"):
        return text
    if location == ("ranking", "known") and text == "lenscat":
        return text  # the package
    if location == ("images", "index") and text == "bricks":
        return text  # the Legacy Surveys' by arithmetic
    if location == ("resources", "profile") and not text.endswith((".yaml", ".yml")):
        return text  # the name of one that comes with the package
    expanded = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111 - a glob, perhaps a URL
    unknown = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unknown:
        problems.append(f"{places.get(location, '')}: environment variable {unknown.group(0)} in {text!r} is not set")
    if "://" in expanded:
        return expanded.removeprefix("file://")
    return f"{folder}/{expanded}" if "://" in str(folder) else os.path.normpath(Path(folder) / expanded)
