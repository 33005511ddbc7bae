"""Columns of catalogue files: their types, finding them by name, and one common type over all files."""

import difflib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pandas.api.extensions import ExtensionArray

from survey_scan.errors import CatalogueError

#: Types a column has in a catalogue table; narrower integers are widened.
Type = Literal["int64", "uint64", "float32", "float64", "bool", "str"]

#: Values of a column in a table: numbers, or pandas' texts.
Array = NDArray[Any] | ExtensionArray

#: Which of some rows are wanted; None: all.
Keep = NDArray[np.bool_] | None

#: How near (relatively) a number must be to a sentinel: in DES Y6 magnitudes -9.999e9 comes with the extinction
#: subtracted, as -9999000000.07.
_NEAR = 1e-9


@dataclass(frozen=True)
class Column:
    """A column of a file.

    Parameters
    ----------
    type : Type or None
        None if it is of a type this program does not read; ``note`` then says which.
    nullable : bool
        Whether an integer or a boolean of it can be missing.
    length : int
        Elements of a vector column, 1 of others.
    note : str
        The type's name in the file.
    unit, ucd : str
        As the file has them; empty where it says nothing.
    """

    type: Type | None
    nullable: bool = False
    length: int = 1
    note: str = ""
    unit: str = ""
    ucd: str = ""

    @property
    def radians(self) -> bool:
        """Whether the file says that the values are angles in radians."""
        return self.unit.lower() in ("rad", "radian", "radians")


@dataclass(frozen=True)
class Table:
    """What a file holds.

    Parameters
    ----------
    columns : dict
        Name → column, in the order of the file.
    slices : list of (int, int)
        Pieces to read: rows (bytes of a CSV file).
    rows : int or None
        Number of rows, if known without reading them.
    """

    columns: dict[str, Column]
    slices: list[tuple[int, int]]
    rows: int | None


class Read(NamedTuple):
    """Values read from a column: ``values`` (n,) or (n, length), and where they are missing, if that is known.

    Texts are bytes of a fixed length, or an Arrow array that knows itself which are missing.
    """

    values: Any
    missing: NDArray[np.bool_] | None = None


class Block(Protocol):
    """Some consecutive rows of a file, of which columns are read as they are asked for."""

    def __len__(self) -> int:
        """Number of rows."""
        ...

    def read(self, names: list[str], keep: Keep = None) -> dict[str, Read]:
        """Some columns, of rows ``keep`` only."""
        ...


class Source(NamedTuple):
    """Where in a file a column's values stand: its name there, and the element of a vector."""

    name: str
    element: int | None = None


def dtype_of(kind: str, size: int) -> Type | None:
    """Column type of a numpy kind and item size; None if not one this program reads."""
    match kind:
        case "i":
            return "int64"
        case "u":
            return "uint64" if size == 8 else "int64"
        case "f":
            return "float64" if size == 8 else "float32"
        case "b":
            return "bool"
        case "U" | "S":
            return "str"
    return None


def find(name: str, columns: Mapping[str, Column], path: str, key: str) -> Source:
    """Find a column.

    Names match exactly, else without regard to case, spaces around and a leading ``#``, if only one does.

    Parameters
    ----------
    name : str
        As in the configuration; ``NAME[2]`` is the third element of a vector column.
    columns : mapping
        What the file holds.
    path, key : str
        The file and the configuration's key, for messages.

    Raises
    ------
    CatalogueError
        If there is none, several, or it cannot be used.
    """
    place, element = f"{key}: {path}", None
    found = _match(name, columns, place)
    if found is None and (parts := re.fullmatch(r"(.+)\[(\d+)\]", name)):
        found, element = _match(parts[1], columns, place), int(parts[2])
    if found is None:
        near = difflib.get_close_matches(_plain(name), list(map(_plain, columns)), n=1, cutoff=0.6)
        like = [c for c in columns if near and _plain(c) == near[0]]
        hint = f" Did you mean '{like[0]}'?" if like else ""
        raise CatalogueError(f"{place} has no column '{name}'.{hint} It has: {listed(columns)}.")
    column = columns[found]
    if column.type is None:
        raise CatalogueError(f"{place}: column '{found}' is {column.note}, which is not read. Use another column.")
    if element is None and column.length != 1:
        span = f"{found}[0] to {found}[{column.length - 1}]"
        raise CatalogueError(f"{place}: column '{found}' has {column.length} elements a row. Write one of {span}.")
    if element is not None and element >= column.length:
        raise CatalogueError(f"{place}: column '{found}' has {column.length} elements; '{name}' is not one of them.")
    return Source(found, element)


def common(types: Iterable[tuple[str, Column]], key: str, *, exact: bool = False) -> Type:
    """The type that holds a column of all files.

    Parameters
    ----------
    types : iterable of (path, Column)
        The column in each file.
    key : str
        The configuration's key, for messages.
    exact : bool
        For identifiers: missing values are no reason for float64 (there must be none).

    Raises
    ------
    CatalogueError
        If there is none.
    """
    kinds: dict[Type, str] = {}
    for path, column in types:
        assert column.type is not None
        numeric = column.nullable and column.type in ("int64", "uint64", "bool") and not exact
        kinds.setdefault("float64" if numeric else column.type, path)
    if len(kinds) == 1:
        return next(iter(kinds))
    if not exact and kinds.keys() <= {"int64", "uint64", "float32", "float64", "bool"}:
        return "float64"
    (one, first), (two, second) = list(kinds.items())[:2]
    raise CatalogueError(f"{key}: the column is {one} in {first} but {two} in {second}. Make the files agree.")


def canonical(read: Read, kind: Type, missing: Iterable[float]) -> Array:
    """Values of a column in its common type.

    Parameters
    ----------
    read : Read
        As read from a file.
    kind : Type
        The type it is to have.
    missing : iterable of float
        Values that mean NaN, in columns of decimal numbers.
    """
    values, gaps = read
    if kind == "str":
        return text(values)
    array = np.asarray(values)
    if kind in ("float32", "float64"):
        for sentinel in missing:
            near = np.finfo(array.dtype).eps if array.dtype == np.float32 else _NEAR
            here = np.abs(array - sentinel) <= near * abs(sentinel)
            gaps = here if gaps is None else gaps | here
        if gaps is not None:
            array = array.astype(kind)
            array[gaps] = np.nan
    return array.astype(kind, copy=False)


def text(values: Any) -> ExtensionArray:
    """Texts without spaces at their ends; missing ones are empty. Whole numbers are written in decimal."""
    if not isinstance(values, pa.Array):
        values = pa.array(values)
    texts = pc.utf8_trim_whitespace(values.cast(pa.string()))
    found: ExtensionArray = pd.array(pc.fill_null(texts, ""), dtype="str")
    return found


def short_texts(values: NDArray[np.bytes_]) -> ExtensionArray:
    """The same of texts of up to 8 bytes, as numbers of the few different ones: several times quicker to have and to compare."""
    padded = np.zeros((len(values), 8), np.uint8)
    padded[:, : values.dtype.itemsize] = values.view(np.uint8).reshape(len(values), -1)
    codes, numbers = pd.factorize(padded.view(np.uint64)[:, 0])
    same, names = text(pa.array(np.asarray(numbers).view("S8"))).factorize()  # with and without spaces at their ends
    return pd.Categorical.from_codes(same[codes], pd.Index(names))


def together(parts: list[Read]) -> Read:
    """Values of several pieces (at least one), one after the other."""
    if len(parts) == 1:
        return parts[0]
    values = [part.values for part in parts]
    if isinstance(values[0], pa.Array):
        return Read(pa.concat_arrays(values))
    gaps = [
        np.zeros(np.shape(v), bool) if part.missing is None else part.missing
        for v, part in zip(values, parts, strict=True)
    ]
    known = any(part.missing is not None for part in parts)
    return Read(np.concatenate(values), np.concatenate(gaps) if known else None)


def listed(names: Iterable[str], most: int = 20) -> str:
    """Names for a message: the first ones, and how many more there are."""
    names = list(names)
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _match(name: str, columns: Mapping[str, Column], place: str) -> str | None:
    if name in columns:
        return name
    alike = [column for column in columns if _plain(column) == _plain(name)]
    if len(alike) > 1:
        raise CatalogueError(f"{place}: '{name}' may be {' or '.join(map(repr, alike))}. Write it as in the file.")
    return alike[0] if alike else None


def _plain(name: str) -> str:
    return name.strip().lstrip("#").strip().casefold()
