"""The parent catalogue: FITS, Parquet or CSV files → one table with the columns the configuration names.

:func:`survey` looks at headers only; :func:`read_slice` is the pure function that reads one piece, :func:`read_rows` the same
some rows at a time; :func:`open_catalogue` is the Dask dataframe of all pieces.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from survey_scan.catalogue import absent, csv, fits, parquet
from survey_scan.catalogue.columns import Block, Column, Read, Source, Table, Type, common, find, listed
from survey_scan.catalogue.files import file_format, find_files
from survey_scan.catalogue.rows import Recipe, Rows, magnitude, names_of, parts
from survey_scan.config import Catalogue
from survey_scan.errors import CatalogueError

if TYPE_CHECKING:
    import dask.dataframe as dd

#: Columns whose numbers are names: whole, and never decimal because some are missing.
_EXACT = {"catalogue.id_column": "An identifier", "catalogue.tile_column": "A tile's name"}


#: Our columns → the configuration's key that names theirs.
_KEYS = {"object_id": "id_column", "ra": "ra_column", "dec": "dec_column", "tile": "tile_column"}


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
    described : dict
        Our column → its unit and UCD (empty: unknown), where all files have the same, or where we make it a magnitude.
    """

    files: tuple[str, ...]
    slices: tuple[Slice, ...]
    rows: int | None
    types: dict[str, Type]
    unlisted: tuple[str, ...]
    described: dict[str, tuple[str, str]]


def survey(config: Catalogue) -> Contents:
    """Look at the headers of all files.

    Raises
    ------
    CatalogueError
        If there are no files, one cannot be read, or one lacks a column.
    """
    files = find_files(config.files)
    tables = {path: _describe(path, config) for path in files}
    for path, table in tables.items():
        absent.refuse(path, list(_wanted(config)), table.columns)
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
    return Contents(tuple(files), slices, rows, types, unlisted, dict(_described(config, tables)))


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
    sources = {name: Source(name) for name in contents.types}
    nothing = {n: Read(np.zeros(0, "S1" if kind == "str" else kind)) for n, kind in contents.types.items()}
    return Recipe(config, contents.types, sources, frozenset(), "").frame([nothing])


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
    picked = [(rows.pick(), rows.recipe) for rows in read_rows(piece, config, types)]
    return picked[0][1].frame([read for read, _ in picked])


def read_rows(piece: Slice, config: Catalogue, types: dict[str, Type]) -> Iterator[Rows]:
    """The rows of a slice, some at a time, for whoever does not need all columns of all rows.

    Parameters
    ----------
    piece, config, types
        As for :func:`read_slice`.

    Yields
    ------
    Rows
        Good until the next are asked for.

    Raises
    ------
    CatalogueError
        As :func:`read_slice`.
    """
    columns = _describe(piece.path, config).columns
    sources = {name: find(name, columns, piece.path, key) for name, key in _wanted(config)}
    radians = frozenset(name for name, source in sources.items() if columns[source.name].radians)
    blocks: Iterable[Block]
    match file_format(piece.path):
        case "fits":
            blocks = fits.blocks(piece.path, config.hdu, piece.start, piece.stop)
        case "parquet":
            blocks = [parquet.Block(piece.path, piece.start, piece.stop)]
        case _:
            kinds = {source.name: types[name] for name, source in sources.items()}
            blocks = [csv.block(piece.path, list(kinds), piece.start, piece.stop, kinds)]
    recipe = Recipe(config, types, sources, radians, piece.path)
    for block in blocks:
        yield Rows(block, recipe)


def _wanted(config: Catalogue) -> Iterator[tuple[str, str]]:
    """Columns of the files that are needed, and the configuration's key for each."""
    for own, names in names_of(config).items():
        if own in config.magnitudes:
            for part, name in parts(config.magnitudes[own]):
                yield name, f"catalogue.magnitudes.{own}.{part}"
        elif own in config.columns:
            yield names[0], f"catalogue.columns.{own}"
        else:
            for name in names:
                yield name, f"catalogue.{_KEYS[own]}"


def _described(config: Catalogue, tables: dict[str, Table]) -> Iterator[tuple[str, tuple[str, str]]]:
    """Units and UCDs of our columns."""
    for own, name in config.columns.items():
        columns = [table.columns[find(name, table.columns, path, own).name] for path, table in tables.items()]
        said = {(column.unit, column.ucd) for column in columns}
        if len(said) == 1 and said != {("", "")}:
            yield own, said.pop()
    yield from ((own, ("mag", "phot.mag")) for own in config.magnitudes)


def _exact(path: str, source: Source, column: Column) -> Column:
    """The column, of a CSV file with a type that holds all of its identifiers."""
    return csv.identifiers(path, source.name) if file_format(path) == "csv" else column


def _check_use(name: str, key: str, kind: Type, path: str) -> None:
    if key in _EXACT and kind not in ("int64", "uint64", "str"):
        raise CatalogueError(f"{key}: column '{name}' of {path} is {kind}. {_EXACT[key]} is a whole number or a text.")
    number = key.startswith("catalogue.magnitudes.") or key in ("catalogue.ra_column", "catalogue.dec_column")
    if number and kind == "str":
        raise CatalogueError(f"{key}: column '{name}' of {path} holds texts where numbers are needed.")


def _describe(path: str, config: Catalogue) -> Table:
    match file_format(path):
        case "fits":
            return fits.describe(path, config.hdu, config.rows_per_task)
        case "parquet":
            return parquet.describe(path, config.rows_per_task)
        case _:
            return csv.describe(path, config.rows_per_task)


__all__ = [
    "Contents",
    "Rows",
    "Slice",
    "empty",
    "find_files",
    "magnitude",
    "open_catalogue",
    "read_rows",
    "read_slice",
    "survey",
]
