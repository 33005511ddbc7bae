"""Rows of a file → a table under our names, of all columns or of some, of all rows or of some."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from survey_scan.catalogue.columns import Array, Block, Keep, Read, Source, Type, canonical, short_texts, text, together
from survey_scan.config import Catalogue, Magnitude
from survey_scan.errors import CatalogueError


@dataclass(frozen=True)
class Rows:
    """Some consecutive rows of the catalogue.

    Parameters
    ----------
    block : Block
        The rows in their file.
    recipe : Recipe
        How our columns are made.
    """

    block: Block
    recipe: "Recipe"

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.block)

    def columns(self, names: Collection[str]) -> dict[str, Array]:
        """Some of our columns, of all rows, for looking at: short texts may be categories.

        Raises
        ------
        CatalogueError
            If the file cannot be read or a row has no identifier.
        """
        read = self.block.read(self.recipe.needs(names))
        return self.recipe.make(read, names, quick=True)

    def pick(self, keep: Keep = None) -> dict[str, Read]:
        """Rows ``keep`` as they are in the file, for :meth:`Recipe.frame`.

        Raises
        ------
        CatalogueError
            If the file cannot be read.
        """
        return self.block.read(self.recipe.needs(names_of(self.recipe.config)), keep)


@dataclass(frozen=True)
class Recipe:
    """How our columns are made of a file's.

    Parameters
    ----------
    config : Catalogue
        Which columns, magnitudes and sentinels.
    types : dict
        Column as the configuration names it in its file → type.
    sources : dict
        The same → where it stands in the file.
    radians : set of str
        Those of them whose numbers are angles in radians.
    path : str
        The file.
    """

    config: Catalogue
    types: dict[str, Type]
    sources: dict[str, Source]
    radians: frozenset[str]
    path: str

    def needs(self, names: Collection[str]) -> list[str]:
        """The file's columns of which some of ours are made."""
        wanted = [name for own, theirs in names_of(self.config).items() if own in names for name in theirs]
        return list(dict.fromkeys(self.sources[name].name for name in wanted))

    def frame(self, picked: Sequence[dict[str, Read]]) -> pd.DataFrame:
        """Rows that were read in several pieces (at least one), as :func:`survey_scan.catalogue.read_slice` has them.

        Raises
        ------
        CatalogueError
            If a row has no identifier.
        """
        read = {name: together([part[name] for part in picked]) for name in picked[0]}
        return pd.DataFrame(self.make(read, names_of(self.config)))

    def make(self, read: dict[str, Read], names: Collection[str], *, quick: bool = False) -> dict[str, Array]:
        """Some of our columns, in the order of the table.

        Parameters
        ----------
        read : dict
            The file's columns of which they are made.
        names : collection of str
            Which.
        quick : bool
            Whether short texts may be categories.

        Raises
        ------
        CatalogueError
            If a row has no identifier.
        """
        config, all_names = self.config, names_of(self.config)
        wanted = {own: theirs for own, theirs in all_names.items() if own in names}
        sources = {name: self.sources[name] for theirs in wanted.values() for name in theirs}
        found = {name: _element(read[source.name], source.element) for name, source in sources.items()}
        table: dict[str, Array] = {}
        for own, theirs in wanted.items():
            values, missing = found[theirs[0]]
            if own == "object_id":
                table[own] = self._identifier(theirs, found)
            elif own in ("ra", "dec"):
                degrees = np.rad2deg(values) if theirs[0] in self.radians else values  # as in the tables of Rubin's afw
                table[own] = canonical(Read(degrees, missing), "float64", ())  # 99 is a right ascension
            elif own == "tile":
                tiles = text(values)
                table[own] = tiles if missing is None else pd.Series(tiles).mask(missing, "").array
            elif own in config.columns and quick and _short(values):
                table[own] = short_texts(values)
            elif own in config.columns:
                table[own] = self._column(theirs[0], found)
            else:
                table[own] = self._magnitude(config.magnitudes[own], found)
        return table

    def _column(self, name: str, found: dict[str, Read]) -> Array:
        return canonical(found[name], self.types[name], self.config.missing)

    def _magnitude(self, spec: Magnitude, found: dict[str, Read]) -> Array:
        flux, *more = (np.asarray(self._column(name, found), np.float64) for _, name in parts(spec))
        if spec.transmission is not None:
            return magnitude(flux, spec, transmission=more[0])
        return magnitude(flux, spec, ebv=more[0] if more else None)

    def _identifier(self, names: list[str], found: dict[str, Read]) -> Array:
        """The identifier of each row; of several columns, their values joined by ``-``."""
        columns = []
        for name in names:
            values, missing = found[name]
            column = canonical(Read(values), self.types[name], ())
            absent = np.asarray(column == "") if self.types[name] == "str" else missing
            if absent is not None and absent.any():
                raise CatalogueError(
                    f"catalogue.id_column: {int(absent.sum()):,} rows of {self.path} have no '{name}'. Every object needs "
                    "an identifier: name another column, or remove those rows."
                )
            columns.append(column)
        if len(columns) == 1:
            return columns[0]
        texts = [pa.array(column).cast(pa.large_string()) for column in columns]
        joined: Array = pd.array(pc.binary_join_element_wise(*texts, pa.scalar("-", pa.large_string())), dtype="str")
        return joined


def magnitude(
    flux: NDArray[np.float64],
    spec: Magnitude,
    transmission: NDArray[np.float64] | None = None,
    ebv: NDArray[np.float64] | None = None,
) -> NDArray[np.float64]:
    """Magnitudes of fluxes, corrected for extinction.

    Returns
    -------
    ndarray of float64
        ``zero_point - 2.5 log10(flux / transmission) - extinction * ebv``; NaN where flux or transmission are not
        positive or anything is missing.
    """
    value = flux
    if transmission is not None:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            value = np.where(transmission > 0, flux / transmission, np.nan)
    good = np.isfinite(value) & (value > 0)
    result = spec.zero_point - 2.5 * np.log10(np.where(good, value, 1.0))
    if ebv is not None and spec.extinction is not None:
        result = result - spec.extinction * ebv
    return np.where(good & np.isfinite(result), result, np.nan)


def names_of(config: Catalogue) -> dict[str, list[str]]:
    """Our columns, in order, and the columns of the files that each is made of."""
    ids = [config.id_column] if isinstance(config.id_column, str) else list(config.id_column)
    tile = {} if config.tile_column is None else {"tile": [config.tile_column]}
    return {
        "object_id": ids,
        "ra": [config.ra_column],
        "dec": [config.dec_column],
        **tile,
        **{own: [name] for own, name in config.columns.items()},
        **{own: [name for _, name in parts(spec)] for own, spec in config.magnitudes.items()},
    }


def parts(spec: Magnitude) -> Iterator[tuple[str, str]]:
    """What a magnitude is made of: flux, transmission or ebv, and the column of the files for each."""
    for part in ("flux", "transmission", "ebv"):
        if (column := getattr(spec, part)) is not None:
            yield part, column


def _short(values: Any) -> bool:
    return isinstance(values, np.ndarray) and values.dtype.kind == "S" and 0 < values.dtype.itemsize <= 8


def _element(column: Read, element: int | None) -> Read:
    values, missing = column
    if element is None or np.ndim(values) < 2:
        return column
    flat = np.reshape(values, (len(values), -1))[:, element]
    return Read(flat, None if missing is None else np.reshape(missing, (len(values), -1))[:, element])
