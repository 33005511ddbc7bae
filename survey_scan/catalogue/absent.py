"""Several columns that a file lacks: it is of another release or survey than the configuration, and this says of which."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from survey_scan import presets
from survey_scan.catalogue.columns import Column, listed
from survey_scan.errors import CatalogueError

#: What stands in the vectors of Legacy Surveys' catalogues up to DR3, in order: ``DECAM_FLUX[1]`` is of g.
_VECTORS = {"DECAM_": "UGRIZY", "WISE_": ("W1", "W2", "W3", "W4")}


def refuse(path: str, wanted: list[tuple[str, str]], columns: Mapping[str, Column]) -> None:
    """Refuse a file that lacks more than one of the columns; where it lacks one, what says so names that.

    Parameters
    ----------
    path : str
        The file.
    wanted : list of (str, str)
        Columns, and the configuration's key for each.
    columns : mapping
        What the file has.

    Raises
    ------
    CatalogueError
        With all that are missing, what in the file looks like each, and the presets whose columns are all there.
    """
    names = {name: key for name, key in reversed(wanted)}
    absent = [name for name in dict.fromkeys(name for name, _ in wanted) if not _has(name, columns)]
    if len(absent) < 2:
        return
    used = {_plain(name) for name in names}
    lines = [f"catalogue: {path} lacks {len(absent)} of the {len(names)} columns that the configuration names:"]
    for name in absent:
        like = _like(name, {n: c for n, c in columns.items() if _plain(n) not in used})
        lines.append(f"  {name} ({names[name]}): " + (f"it has {like}" if like else "it has nothing like it"))
    lines.append(f"It has: {listed(columns)}.")
    fitting = [name for name in presets.names("survey") if _fits(presets.survey(name).catalogue, columns)]
    if fitting:
        lines.append(f"Presets whose columns it all has: {', '.join(fitting)}.")
    else:
        lines.append("There is no preset whose columns it all has.")
    lines.append("Name what it has under catalogue; a column that it lacks is left out by null, and a cut on it too.")
    raise CatalogueError("\n".join(lines))


def _like(name: str, columns: Mapping[str, Column]) -> str | None:
    """What a file has in place of a column: an element of a vector, else a name of the same words and others."""
    known = {_plain(column): column for column in columns}
    stem, _, band = _plain(name).upper().rpartition("_")
    for prefix, bands in _VECTORS.items():
        vector = known.get(_plain(prefix + stem))
        if band in bands and vector is not None and columns[vector].length == len(bands):
            return f"{vector}[{bands.index(band)}]"
    words = _words(name)
    near = [column for column in columns if words <= _words(column) or _words(column) <= words]
    return min(near, key=lambda column: (len(words ^ _words(column)), column), default=None)


def _fits(catalogue: Mapping[str, Any], columns: Mapping[str, Column]) -> bool:
    """Whether a file has all columns of a preset that names some besides positions."""
    return bool(catalogue.get("magnitudes") or catalogue.get("columns")) and all(
        _has(name, columns) for name in _of_preset(catalogue)
    )


def _of_preset(catalogue: Mapping[str, Any]) -> Iterator[str]:
    ids = catalogue.get("id_column", [])
    yield from [ids] if isinstance(ids, str) else ids
    yield from (catalogue[key] for key in ("ra_column", "dec_column", "tile_column") if catalogue.get(key))
    yield from catalogue.get("columns", {}).values()
    for parts in catalogue.get("magnitudes", {}).values():
        yield from (parts[key] for key in ("flux", "transmission", "ebv") if key in parts)


def _has(name: str, columns: Mapping[str, Column]) -> bool:
    known = {_plain(column) for column in columns}
    return _plain(name) in known or _plain(re.sub(r"\[\d+\]$", "", name)) in known


def _words(name: str) -> set[str]:
    return set(_plain(name).split("_"))


def _plain(name: str) -> str:
    return name.strip().lstrip("#").strip().casefold()
