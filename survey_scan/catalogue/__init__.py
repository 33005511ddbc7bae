"""The parent catalogue: FITS, Parquet or CSV files → one table with the columns the configuration names.

:func:`survey` looks at headers only; :func:`read_slice` is the pure function that reads one piece;
:func:`open_catalogue` is the Dask dataframe of all pieces.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from survey_scan.catalogue import csv, fits, parquet
from survey_scan.catalogue.columns import Column, Read, Source, Table, Type, canonical, common, find, listed, text
from survey_scan.catalogue.files import file_format, find_files
from survey_scan.config import Catalogue, Magnitude
from survey_scan.errors import CatalogueError

if TYPE_CHECKING:
    import dask.dataframe as dd

#: Columns whose numbers are names: whole, and never decimal because some are missing.
_EXACT = {"catalogue.id_column": "An identifier", "catalogue.tile_column": "A tile's name"}


@dataclass(frozen=True)
class Slice:
    """A piece of the catalogue that one task reads.

    Parameters
    ----------
    path : str
        The file.
    start, stop : int
        Its rows (bytes of a CSV file).
    """

    path: str
    start: int
    stop: int


@dataclass(frozen=True)
class Contents:
    """What the files hold, from their headers.

    Parameters
    ----------
    files : tuple of str
        In the order in which they are read.
    slices : tuple of Slice
        All rows, each once.
    rows : int or None
        Rows of all files; None if some are CSV, which does not say.
    types : dict
        Column as the configuration names it in its file → its type over all files.
    unlisted : tuple of str
        Columns of the first file that the configuration does not use.
    """

    files: tuple[str, ...]
    slices: tuple[Slice, ...]
    rows: int | None
    types: dict[str, Type]
    unlisted: tuple[str, ...]


def survey(config: Catalogue) -> Contents:
    """Look at the headers of all files.

    Raises
    ------
    CatalogueError
        If there are no files, one cannot be read, or one lacks a column.
    """
    files = find_files(config.files)
    tables = {path: _describe(path, config) for path in files}
    types: dict[str, Type] = {}
    used: set[str] = set()
    for name, key in _wanted(config):
        sources = {path: find(name, table.columns, path, key) for path, table in tables.items()}
        used.add(sources[files[0]].name)
        columns = [(path, tables[path].columns[source.name]) for path, source in sources.items()]
        if key in _EXACT:
            columns = [(path, _exact(path, sources[path], column)) for path, column in columns]
        types[name] = common(columns, key, exact=key in _EXACT)
        _check_use(name, key, types[name], files[0])
    slices = tuple(Slice(path, *piece) for path, table in tables.items() for piece in table.slices)
    if not slices:
        raise CatalogueError(f"catalogue.files: there are no rows in {listed(files, 3)}. Name files that have some.")
    unlisted = tuple(name for name in tables[files[0]].columns if name not in used)
    counts = [table.rows for table in tables.values() if table.rows is not None]
    rows = sum(counts) if len(counts) == len(tables) else None
    return Contents(tuple(files), slices, rows, types, unlisted)


def open_catalogue(config: Catalogue, contents: Contents | None = None) -> "dd.DataFrame":
    """The whole catalogue as a Dask dataframe, one partition a slice.

    Parameters
    ----------
    config : Catalogue
        Which files and columns.
    contents : Contents, optional
        What :func:`survey` found, if it has been called already.

    Raises
    ------
    CatalogueError
        As :func:`survey`.
    """
    import dask.dataframe as dd

    contents = survey(config) if contents is None else contents
    meta = empty(config, contents)
    return dd.from_map(read_slice, contents.slices, config=config, types=contents.types, meta=meta, label="catalogue")


def empty(config: Catalogue, contents: Contents) -> pd.DataFrame:
    """The catalogue's table without rows: its columns and their types."""
    read = {name: Read(np.zeros(0, object if kind == "str" else kind)) for name, kind in contents.types.items()}
    return _table(config, contents.types, read, "")


def read_slice(piece: Slice, config: Catalogue, types: dict[str, Type]) -> pd.DataFrame:
    """Read one slice.

    Parameters
    ----------
    piece : Slice
        Which rows of which file.
    config : Catalogue
        Which columns, magnitudes and sentinels.
    types : dict
        Of :class:`Contents`.

    Returns
    -------
    DataFrame
        object_id (int64, uint64 or str), ra, dec (float64, deg, also where a FITS file has radians and says so; NaN if
        missing), tile (str, if configured), then ``config.columns`` and ``config.magnitudes``. In columns of decimal
        numbers, what is missing in the file or equals one of ``config.missing`` is NaN; the sentinels do not count in
        positions.

    Raises
    ------
    CatalogueError
        If the file cannot be read or a row has no identifier.
    """
    table = _describe(piece.path, config)
    sources = {name: find(name, table.columns, piece.path, key) for name, key in _wanted(config)}
    names = list(dict.fromkeys(source.name for source in sources.values()))
    match file_format(piece.path):
        case "fits":
            read = fits.read(piece.path, config.hdu, names, piece.start, piece.stop)
        case "parquet":
            read = parquet.read(piece.path, names, piece.start, piece.stop)
        case _:
            kinds = {source.name: types[name] for name, source in sources.items()}
            read = csv.read(piece.path, names, piece.start, piece.stop, kinds)
    found = {}
    for name, source in sources.items():
        values, missing = read[source.name]
        if source.element is not None and np.ndim(values) > 1:
            flat = np.reshape(values, (len(values), -1))[:, source.element]
            gaps = None if missing is None else np.reshape(missing, (len(values), -1))[:, source.element]
            found[name] = Read(flat, gaps)
        else:
            found[name] = Read(values, missing)
    for name in {config.ra_column, config.dec_column}:
        if table.columns[sources[name].name].radians:  # as in the tables of Rubin's afw
            found[name] = Read(np.rad2deg(found[name].values), found[name].missing)
    return _table(config, types, found, piece.path)


def magnitude(flux: pd.Series, spec: Magnitude, transmission: pd.Series | None, ebv: pd.Series | None) -> pd.Series:
    """Magnitudes of fluxes, corrected for extinction.

    Returns
    -------
    Series
        ``zero_point - 2.5 log10(flux / transmission) - extinction * ebv``, float64; NaN where flux or transmission are
        not positive or anything is missing.
    """
    value = flux.to_numpy(np.float64)
    if transmission is not None:
        through = transmission.to_numpy(np.float64)
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = np.where(through > 0, value / through, np.nan)
    good = np.isfinite(value) & (value > 0)
    result = spec.zero_point - 2.5 * np.log10(np.where(good, value, 1.0))
    if ebv is not None and spec.extinction is not None:
        result = result - spec.extinction * ebv.to_numpy(np.float64)
    return pd.Series(np.where(good & np.isfinite(result), result, np.nan))


def _wanted(config: Catalogue) -> Iterator[tuple[str, str]]:
    """Columns of the files that are needed, and the configuration's key for each."""
    for name in _ids(config):
        yield name, "catalogue.id_column"
    yield config.ra_column, "catalogue.ra_column"
    yield config.dec_column, "catalogue.dec_column"
    if config.tile_column is not None:
        yield config.tile_column, "catalogue.tile_column"
    for own, name in config.columns.items():
        yield name, f"catalogue.columns.{own}"
    for own, spec in config.magnitudes.items():
        for part in ("flux", "transmission", "ebv"):
            if (column := getattr(spec, part)) is not None:
                yield column, f"catalogue.magnitudes.{own}.{part}"


def _ids(config: Catalogue) -> list[str]:
    return [config.id_column] if isinstance(config.id_column, str) else list(config.id_column)


def _exact(path: str, source: Source, column: Column) -> Column:
    """The column, of a CSV file with a type that holds all of its identifiers."""
    return csv.identifiers(path, source.name) if file_format(path) == "csv" else column


def _check_use(name: str, key: str, kind: Type, path: str) -> None:
    if key in _EXACT and kind not in ("int64", "uint64", "str"):
        raise CatalogueError(f"{key}: column '{name}' of {path} is {kind}. {_EXACT[key]} is a whole number or a text.")
    number = key.startswith("catalogue.magnitudes.") or key in ("catalogue.ra_column", "catalogue.dec_column")
    if number and kind == "str":
        raise CatalogueError(f"{key}: column '{name}' of {path} holds texts where numbers are needed.")


def _table(config: Catalogue, types: dict[str, Type], read: dict[str, Read], path: str) -> pd.DataFrame:
    def column(name: str) -> pd.Series:
        return canonical(read[name], types[name], config.missing)

    table = {"object_id": _identifier(config, types, read, path)}
    for own, name in (("ra", config.ra_column), ("dec", config.dec_column)):
        table[own] = canonical(read[name], "float64", ())  # 99 is a right ascension
    if config.tile_column is not None:
        values, missing = read[config.tile_column]
        table["tile"] = text(values).mask(np.zeros(len(values), bool) if missing is None else missing, "")
    for own, name in config.columns.items():
        table[own] = column(name)
    for own, spec in config.magnitudes.items():
        transmission = None if spec.transmission is None else column(spec.transmission)
        table[own] = magnitude(column(spec.flux), spec, transmission, None if spec.ebv is None else column(spec.ebv))
    return pd.DataFrame(table)


def _identifier(config: Catalogue, types: dict[str, Type], read: dict[str, Read], path: str) -> pd.Series:
    """The identifier of each row; of several columns, their values joined by ``-``."""
    parts = []
    for name in _ids(config):
        values, missing = read[name]
        part = canonical(Read(values), types[name], ())
        absent = (part == "").to_numpy() if types[name] == "str" else missing
        if absent is not None and absent.any():
            raise CatalogueError(
                f"catalogue.id_column: {int(absent.sum()):,} rows of {path} have no '{name}'. Every object needs an "
                "identifier: name another column, or remove those rows."
            )
        parts.append(part)
    if len(parts) == 1:
        return parts[0]
    joined: Any = parts[0].astype("str")
    for part in parts[1:]:
        joined = joined + "-" + part.astype("str")
    return joined  # type: ignore[no-any-return]


def _describe(path: str, config: Catalogue) -> Table:
    match file_format(path):
        case "fits":
            return fits.describe(path, config.hdu, config.rows_per_task)
        case "parquet":
            return parquet.describe(path, config.rows_per_task)
        case _:
            return csv.describe(path, config.rows_per_task)


__all__ = ["Contents", "Slice", "empty", "find_files", "magnitude", "open_catalogue", "read_slice", "survey"]
