"""Parquet files: only the columns asked for are read, in runs of whole row groups."""

import contextlib
from dataclasses import dataclass
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from survey_scan.catalogue.columns import Column, Keep, Read, Table, dtype_of
from survey_scan.errors import CatalogueError

_TEXTS = (pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view, pa.types.is_binary)


def describe(path: str, rows_per_slice: int) -> Table:
    """Columns and number of rows, from the footer.

    Raises
    ------
    CatalogueError
        If the file cannot be read.
    """
    with _open(path) as file:
        meta, schema = file.metadata, file.schema_arrow
        holes, facts = _holes(meta), _facts(schema)
        columns = {f.name: _column(f, holes.get(f.name, True), *facts.get(f.name, ("", ""))) for f in schema}
        ends = np.cumsum([meta.row_group(i).num_rows for i in range(meta.num_row_groups)], dtype=np.int64)
    slices: list[tuple[int, int]] = []
    start = 0
    for i, end in enumerate(ends):  # a slice is a run of row groups: part of one costs as much as the whole
        if i + 1 == len(ends) or ends[i + 1] - start > rows_per_slice:
            if end > start:
                slices.append((start, int(end)))
            start = int(end)
    return Table(columns, slices, int(meta.num_rows))


@dataclass(frozen=True)
class Block:
    """The row groups that make up rows ``start`` to ``stop`` of a file.

    Parameters
    ----------
    path : str
        The file.
    start, stop : int
        Rows.
    """

    path: str
    start: int
    stop: int

    def __len__(self) -> int:
        """Number of rows."""
        return self.stop - self.start

    def read(self, names: list[str], keep: Keep = None) -> dict[str, Read]:
        """Some columns, of rows ``keep`` only.

        Raises
        ------
        CatalogueError
            If the file cannot be read.
        """
        with _open(self.path) as file:
            counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
            ends = np.cumsum(counts)
            rows = zip(counts, ends, strict=True)
            groups = [i for i, (n, end) in enumerate(rows) if self.start < end and end - n < self.stop]
            try:
                table = file.read_row_groups(groups, columns=names, use_threads=False)
            except (OSError, pa.ArrowException) as error:
                text = f"catalogue.files: {self.path} cannot be read ({error}). Fetch it again."
                raise CatalogueError(text) from None
        if keep is not None:
            table = table.filter(pa.array(keep))
        return {name: _values(table[name].combine_chunks()) for name in names}


def _values(array: pa.Array) -> Read:
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if pa.types.is_fixed_size_list(array.type):
        flat = _values(array.flatten())
        shape = (-1, array.type.list_size)
        return Read(flat.values.reshape(shape), None if flat.missing is None else flat.missing.reshape(shape))
    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if dtype_of(*_kind(array.type)) == "str":
        return Read(array.cast(pa.string()))
    gaps = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if gaps is not None:
        array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    return Read(array.to_numpy(zero_copy_only=False), gaps)


def _column(field: pa.Field, nullable: bool, unit: str, ucd: str) -> Column:
    kind, length = field.type, 1
    if pa.types.is_fixed_size_list(kind):
        kind, length = kind.value_type, kind.list_size
    found = dtype_of(*_kind(kind))
    nullable = nullable and found in ("int64", "uint64", "bool")
    return Column(found, nullable, length, f"of Parquet type {field.type}", unit, ucd)


def _facts(schema: pa.Schema) -> dict[str, tuple[str, str]]:
    """Units and UCDs of columns: as VOParquet says them, as astropy and Rubin's software do, or in the fields' own metadata."""
    found: dict[str, tuple[str, str]] = {}
    whole: dict[bytes, bytes] = schema.metadata or {}
    if header := whole.get(b"IVOA.VOTable-Parquet.content"):
        with contextlib.suppress(ElementTree.ParseError):
            for field in ElementTree.fromstring(header).iter():
                if field.tag.rpartition("}")[2] == "FIELD":
                    found[field.get("name", "")] = field.get("unit", ""), field.get("ucd", "")
    if header := whole.get(b"table_meta_yaml"):
        with contextlib.suppress(yaml.YAMLError, UnicodeDecodeError):
            for column in _columns_of(yaml.safe_load(header.decode())):
                found.setdefault(str(column.get("name")), (str(column.get("unit") or ""), ""))
    for field in schema:
        own: dict[bytes, bytes] = field.metadata or {}
        unit, ucd = (own.get(key, b"").decode("utf-8", "replace").strip() for key in (b"unit", b"ucd"))
        if unit or ucd:
            found[field.name] = unit, ucd
    return found


def _columns_of(header: Any) -> list[dict[str, Any]]:
    """The columns that astropy's YAML header describes; none in a header of another kind."""
    columns = header.get("datatype") if isinstance(header, dict) else None
    return [column for column in columns if isinstance(column, dict)] if isinstance(columns, list) else []


def _kind(kind: pa.DataType) -> tuple[str, int]:
    """Numpy kind and item size of an Arrow type; kind 'O' for those not read."""
    if pa.types.is_dictionary(kind):
        return _kind(kind.value_type)
    if any(is_text(kind) for is_text in _TEXTS):
        return "U", 1
    if pa.types.is_boolean(kind):
        return "b", 1
    if pa.types.is_integer(kind):
        return ("i" if pa.types.is_signed_integer(kind) else "u"), kind.bit_width // 8
    if pa.types.is_floating(kind):
        return "f", kind.bit_width // 8
    return "O", 0


def _holes(meta: pq.FileMetaData) -> dict[str, bool]:
    """Column → whether a value of it is missing (or nobody wrote down that none is)."""
    found: dict[str, bool] = {}
    for i in range(meta.num_row_groups):
        group = meta.row_group(i)
        for j in range(group.num_columns):
            chunk = group.column(j)
            name = chunk.path_in_schema.split(".")[0]
            stats = chunk.statistics
            full = stats is not None and stats.has_null_count and stats.null_count == 0
            found[name] = found.get(name, False) or not full
    return found


def _open(path: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(path)
    except (OSError, pa.ArrowException) as error:
        raise CatalogueError(f"catalogue.files: {path} cannot be read as Parquet ({error}). Fetch it again.") from None
