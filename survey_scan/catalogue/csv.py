"""CSV files with a header line, comma or semicolon, read in slices of bytes.

Types come from the first block of the file, in which whole numbers are taken for float64, so that a blank cell further
down can be NaN; only the column of identifiers is read to its end (:func:`identifiers`), and exact. A line break inside
quotes is not understood.
"""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv as pc

from survey_scan.catalogue.columns import Column, Keep, Read, Table, Type
from survey_scan.errors import CatalogueError

#: Bytes from which types and the length of a line are told.
_FIRST = 1 << 20

_ARROW: dict[Type, pa.DataType] = {
    "bool": pa.bool_(),
    "int64": pa.int64(),
    "uint64": pa.uint64(),
    "float32": pa.float64(),
    "float64": pa.float64(),
    "str": pa.string(),
}


def describe(path: str, rows_per_slice: int) -> Table:
    """Columns, and slices of about so many rows.

    Raises
    ------
    CatalogueError
        If the file cannot be read.
    """
    names, separator, start, size = _header(path)
    with Path(path).open("rb") as file:
        file.seek(start)
        block = file.read(_FIRST)
    if len(block) == _FIRST and b"\n" in block:
        block = block[: block.rindex(b"\n") + 1]
    table = _parse(path, block, names, separator, {})
    columns = {name: _column(table[name].type) for name in names}
    step = max(1, round(rows_per_slice * max(len(block), 1) / max(len(table), 1)))
    return Table(columns, [(a, min(a + step, size)) for a in range(start, size, step)], None)


@dataclass(frozen=True)
class Block:
    """Some lines of a file, all columns that will be asked for."""

    table: pa.Table

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.table)

    def read(self, names: list[str], keep: Keep = None) -> dict[str, Read]:
        """Some columns, of rows ``keep`` only."""
        table = self.table.select(names) if keep is None else self.table.select(names).filter(pa.array(keep))
        return {name: _values(table[name].combine_chunks()) for name in names}


def _values(column: Any) -> Read:
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if pa.types.is_string(column.type):
        return Read(column)
    gaps = column.is_null().to_numpy(zero_copy_only=False) if column.null_count else None
    filled = column.fill_null(False if pa.types.is_boolean(column.type) else 0)
    return Read(filled.to_numpy(zero_copy_only=False), gaps)


def block(path: str, names: list[str], start: int, stop: int, types: dict[str, Type]) -> Block:
    """Some columns of the lines that begin at bytes ``start`` to ``stop``.

    Parameters
    ----------
    types : dict
        Column → the type its values must have.

    Raises
    ------
    CatalogueError
        If a value is not of its column's type.
    """
    header, separator, first, _ = _header(path)
    with Path(path).open("rb") as file:
        file.seek(start - 1 if start > first else start)
        if start > first:
            file.readline()  # the line that began before this slice; nothing if one ends just there
        begin = file.tell()
        block = file.read(max(stop - begin, 0))
        if block and not block.endswith(b"\n"):
            block += file.readline()
    kinds = {name: _ARROW[types[name]] for name in names}
    return Block(_parse(path, block, header, separator, kinds, names))


def identifiers(path: str, name: str) -> Column:
    """The type of a column that holds identifiers: the first of int64, uint64, float64, str that holds them all.

    Reads the whole file.

    Raises
    ------
    CatalogueError
        If the file cannot be read.
    """
    header, separator, start, _ = _header(path)
    kinds: list[Type] = ["int64", "uint64", "float64", "str"]
    with Path(path).open("rb") as file:
        file.seek(start)
        if not file.read(1):
            return Column("str")
        file.seek(start)
        options = pc.ConvertOptions(column_types={name: pa.string()}, include_columns=[name], strings_can_be_null=True)
        try:
            for batch in pc.open_csv(file, pc.ReadOptions(column_names=header), _parsing(separator), options):
                kinds = [kind for kind in kinds if _holds(kind, batch.column(0))]
        except pa.ArrowInvalid as error:
            raise _unreadable(path, error) from None
    return Column(kinds[0], nullable=True)


def _holds(kind: Type, texts: pa.Array) -> bool:
    if kind == "str":
        return True
    try:
        texts.cast(_ARROW[kind])
    except pa.ArrowInvalid:
        return False
    return True


def _header(path: str) -> tuple[list[str], str, int, int]:
    """Column names, separator, first byte of the rows, size of the file."""
    try:
        size = Path(path).stat().st_size
        with Path(path).open("rb") as file:
            line, start = file.readline(), file.tell()
    except OSError as error:
        raise CatalogueError(f"catalogue.files: {path} cannot be read ({error.strerror}).") from None
    try:
        text = line.decode("utf-8-sig").rstrip("\r\n")
    except UnicodeDecodeError:
        raise CatalogueError(f"catalogue.files: the first line of {path} is not text. Is it a CSV file?") from None
    separator = ";" if text.count(";") > text.count(",") else ","
    names = [name.strip() for name in next(csv.reader([text], delimiter=separator), [])]
    if len(set(names)) != len(names) or not text.strip():
        twice = next((name for name in names if names.count(name) > 1), "")
        raise CatalogueError(
            f"catalogue.files: the header line of {path} is empty or names '{twice}' twice. Name each column once."
        )
    return names, separator, start, size


def _parse(
    path: str, block: bytes, header: list[str], separator: str, types: dict[str, Any], names: list[str] | None = None
) -> pa.Table:
    options = pc.ConvertOptions(column_types=types, include_columns=names or [], strings_can_be_null=False)
    if not block.strip():
        return pa.table({n: pa.array([], types.get(n, pa.float64())) for n in names or header})
    try:
        return pc.read_csv(
            io.BytesIO(block),
            read_options=pc.ReadOptions(column_names=header, use_threads=False, block_size=max(len(block), 1)),
            parse_options=_parsing(separator),
            convert_options=options,
        )
    except pa.ArrowInvalid as error:
        raise _unreadable(path, error) from None


def _parsing(separator: str) -> pc.ParseOptions:
    return pc.ParseOptions(delimiter=separator)


def _unreadable(path: str, error: Exception) -> CatalogueError:
    return CatalogueError(
        f"catalogue.files: {path} cannot be read ({error}). A column's type is told from the first rows: mend the "
        "file, or write it as Parquet."
    )


def _column(kind: pa.DataType) -> Column:
    if pa.types.is_boolean(kind):
        return Column("bool")
    if pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        return Column("float64")
    return Column("str")
