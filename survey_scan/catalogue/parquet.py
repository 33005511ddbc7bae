"""Parquet files: only the columns asked for are read, in runs of whole row groups."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from survey_scan.catalogue.columns import Column, Read, Table, dtype_of
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
        holes = _holes(meta)
        columns = {field.name: _column(field, holes.get(field.name, True)) for field in schema}
        ends = np.cumsum([meta.row_group(i).num_rows for i in range(meta.num_row_groups)], dtype=np.int64)
    slices: list[tuple[int, int]] = []
    start = 0
    for i, end in enumerate(ends):  # a slice is a run of row groups: part of one costs as much as the whole
        if i + 1 == len(ends) or ends[i + 1] - start > rows_per_slice:
            if end > start:
                slices.append((start, int(end)))
            start = int(end)
    return Table(columns, slices, int(meta.num_rows))


def read(path: str, names: list[str], start: int, stop: int) -> dict[str, Read]:
    """Some columns of the row groups that make up rows ``start`` to ``stop``.

    Raises
    ------
    CatalogueError
        If the file cannot be read.
    """
    with _open(path) as file:
        counts = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
        ends = np.cumsum(counts)
        groups = [i for i, (n, end) in enumerate(zip(counts, ends, strict=True)) if start < end and end - n < stop]
        try:
            table = file.read_row_groups(groups, columns=names, use_threads=False)
        except (OSError, pa.ArrowException) as error:
            raise CatalogueError(f"catalogue.files: {path} cannot be read ({error}). Fetch it again.") from None
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
        return Read(array.cast(pa.string()).to_pandas())
    gaps = array.is_null().to_numpy(zero_copy_only=False) if array.null_count else None
    if gaps is not None:
        array = array.fill_null(False if pa.types.is_boolean(array.type) else 0)
    return Read(array.to_numpy(zero_copy_only=False), gaps)


def _column(field: pa.Field, nullable: bool) -> Column:
    kind, length = field.type, 1
    if pa.types.is_fixed_size_list(kind):
        kind, length = kind.value_type, kind.list_size
    found = dtype_of(*_kind(kind))
    return Column(found, nullable and found in ("int64", "uint64", "bool"), length, f"of Parquet type {field.type}")


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
