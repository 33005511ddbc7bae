"""FITS binary tables, read in slices of rows with fitsio (which reads only as many bytes as the rows have)."""

import re
from pathlib import Path
from typing import Any

import fitsio

from survey_scan.catalogue.columns import Column, Read, Table, dtype_of, listed
from survey_scan.config import Hdu
from survey_scan.errors import CatalogueError


def describe(path: str, hdu: Hdu, rows_per_slice: int) -> Table:
    """Columns and number of rows, from the header.

    Raises
    ------
    CatalogueError
        If the file cannot be read or the HDU is no binary table.
    """
    with _open(path) as file:
        table = _table(file, path, hdu)
        header, rows = table.read_header(), int(table.get_nrows())
        columns = {info["name"]: _column(info, header, i + 1) for i, info in enumerate(table.get_info()["colinfo"])}
    # A gzipped file is decompressed whole each time it is opened: one slice.
    step = max(rows, 1) if path.endswith(".gz") else rows_per_slice
    return Table(columns, [(start, min(start + step, rows)) for start in range(0, rows, step)], rows)


def read(path: str, hdu: Hdu, names: list[str], start: int, stop: int) -> dict[str, Read]:
    """Some columns of rows ``start`` to ``stop``, in the machine's byte order.

    Raises
    ------
    CatalogueError
        If the file cannot be read, or is shorter than its header says.
    """
    with _open(path) as file:
        table = _table(file, path, hdu)
        header, colnames = table.read_header(), table.get_colnames()
        try:
            data = table[names][start:stop]
        except (OSError, ValueError) as error:
            raise CatalogueError(
                f"catalogue.files: {path} cannot be read to its end ({_brief(error)}). Fetch it again."
            ) from None
    found = {}
    for name in names:
        i = colnames.index(name) + 1
        values = data[name]
        gaps = None
        if (null := header.get(f"TNULL{i}")) is not None and values.dtype.kind in "iu":
            gaps = values == int(null) + int(header.get(f"TZERO{i}", 0))
        found[name] = Read(values, gaps)
    return found


def _column(info: dict[str, Any], header: Any, number: int) -> Column:
    form = str(info["tform"]).strip()
    letter = re.sub(r"^\d*", "", form)[:1]
    if info["type"] < 0 or letter in "XCMPQ":
        return Column(None, note=f"of FITS format {form}")
    if letter == "A":
        return Column("str")
    if letter == "L":
        return Column("bool", length=int(info["repeat"]))
    scaled = info["tscale"] != 1.0 or not _is_shift(letter, info["tzero"])
    kind = dtype_of("f", 8) if scaled or letter == "D" else "float32" if letter == "E" else "int64"
    if letter == "K" and info["tzero"] != 0.0 and not scaled:
        kind = "uint64"
    nullable = header.get(f"TNULL{number}") is not None
    return Column(kind, nullable and kind in ("int64", "uint64"), int(info["repeat"]))


def _is_shift(letter: str, zero: float) -> bool:
    """Whether TZERO is absent or the shift by which FITS stores (un)signed integers."""
    return zero in (0.0, {"B": -128.0, "I": 2.0**15, "J": 2.0**31, "K": 2.0**63}.get(letter))


def _open(path: str) -> Any:
    try:
        return fitsio.FITS(path)
    except OSError as error:
        reason = "there is no such file" if not Path(path).exists() else _brief(error)
        raise CatalogueError(f"catalogue.files: {path} cannot be read as FITS ({reason}). Fetch it again.") from None


def _table(file: Any, path: str, hdu: Hdu) -> Any:
    try:
        table = file[hdu]
    except (OSError, IndexError):
        present = [f"{h.get_extnum()} {h.get_extname()}".strip() for h in file]
        raise CatalogueError(f"catalogue.hdu: {path} has no HDU {hdu!r}. It has: {listed(present)}.") from None
    if table.get_exttype() != "BINARY_TBL":
        tables = [str(h.get_extnum()) for h in file if h.get_exttype() == "BINARY_TBL"]
        raise CatalogueError(
            f"catalogue.hdu: HDU {hdu!r} of {path} is no binary table. Binary tables: {', '.join(tables) or 'none'}."
        )
    return table


def _brief(error: Exception) -> str:
    """The last line cfitsio gives, without its stack of causes."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
