"""FITS binary tables, read a few megabytes of rows at a time; only columns asked for are taken out of them.

fitsio reads the header. The rows have a fixed length, so that numpy finds every column in them; read in blocks that stay
in the processor's cache, taking a few columns out of hundreds costs little more than reading the bytes.
"""

import gzip
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO, cast

import fitsio
import numpy as np
from numpy.typing import NDArray

from survey_scan.catalogue.columns import Column, Keep, Read, Table, Type, listed
from survey_scan.config import Hdu
from survey_scan.errors import CatalogueError

#: Bytes read at once.
_BLOCK = 16 << 20
#: TFORM's letter → numpy type of an element, big-endian as in the file; texts are one element of their length.
_DTYPES = {"L": "u1", "B": "u1", "I": ">i2", "J": ">i4", "K": ">i8", "E": ">f4", "D": ">f8"}
#: Bytes of an element of other formats (X counts bits; P and Q are descriptors of arrays of variable length).
_SIZES = {"C": 8, "M": 16, "P": 8, "Q": 16}
#: By what FITS shifts whole numbers to store them (un)signed.
_SHIFT = {"B": -128.0, "I": 2.0**15, "J": 2.0**31, "K": 2.0**63}


@dataclass(frozen=True)
class _Field:
    """A column's place in a row, and how its numbers are stored."""

    letter: str
    repeat: int
    offset: int
    size: int
    scale: float
    zero: float
    null: int | None

    @property
    def scaled(self) -> bool:
        """Whether numbers are stored scaled; a TZERO that makes whole numbers (un)signed does not count."""
        return self.scale != 1.0 or self.zero not in (0.0, _SHIFT.get(self.letter, 0.0))

    @property
    def dtype(self) -> Any:
        """Numpy type of the column."""
        if self.letter == "A":
            return f"S{self.repeat}"
        return _DTYPES[self.letter] if self.repeat == 1 else (_DTYPES[self.letter], (self.repeat,))


@dataclass(frozen=True)
class Block:
    """Some rows of a table, as in the file. Good until the next block is read.

    Parameters
    ----------
    path : str
        The file.
    rows : ndarray
        A structured array.
    fields : dict
        Name → field.
    """

    path: str
    rows: NDArray[Any]
    fields: dict[str, _Field]

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.rows)

    def read(self, names: list[str], keep: Keep = None) -> dict[str, Read]:
        """Some columns, of rows ``keep`` only, in the machine's byte order.

        Raises
        ------
        CatalogueError
            If a text is not ASCII.
        """
        rows = self.rows
        if keep is not None:  # whole rows, as bytes: quicker than one column after the other
            rows = rows.view(f"V{rows.dtype.itemsize}")[keep].view(rows.dtype)
        return {name: self._values(name, rows[name]) for name in names}

    def _values(self, name: str, raw: NDArray[Any]) -> Read:
        field = self.fields[name]
        if field.letter == "A":
            texts = np.ascontiguousarray(raw)
            if texts.size and texts.dtype.itemsize and texts.view(np.uint8).max() > 127:
                raise CatalogueError(
                    f"catalogue.files: a text in column '{name}' of {self.path} is not ASCII. Leave this column out."
                )
            return Read(texts)
        if field.letter == "L":
            return Read(raw == ord("T"))
        values = np.array(raw, raw.dtype.newbyteorder("="))
        gaps = None if field.null is None else values == field.null
        if field.scaled:
            return Read(values.astype(np.float64) * field.scale + field.zero, gaps)
        if field.zero and field.letter == "K":
            return Read(values.view(np.uint64) ^ np.uint64(1 << 63), gaps)
        return Read(values.astype(np.int64) + int(field.zero) if field.zero else values, gaps)


def describe(path: str, hdu: Hdu, rows_per_slice: int) -> Table:
    """Columns and number of rows, from the header.

    Raises
    ------
    CatalogueError
        If the file cannot be read or the HDU is no binary table.
    """
    header, _ = _header(path, hdu)
    rows, fields = int(header["NAXIS2"]), _fields(header)
    columns = {name: _column(field, header, i) for i, (name, field) in enumerate(fields.items(), 1)}
    # A gzipped file is decompressed from its beginning each time it is opened: one slice.
    step = max(rows, 1) if _gzipped(path) else rows_per_slice
    return Table(columns, [(start, min(start + step, rows)) for start in range(0, rows, step)], rows)


def blocks(path: str, hdu: Hdu, start: int, stop: int) -> Iterator[Block]:
    """Rows ``start`` to ``stop``, some at a time.

    Raises
    ------
    CatalogueError
        If the file cannot be read, or is shorter than its header says.
    """
    header, begin = _header(path, hdu)
    fields, length = _fields(header), int(header["NAXIS1"])
    known = {name: field for name, field in fields.items() if field.letter == "A" or field.letter in _DTYPES}
    formats = [field.dtype for field in known.values()]
    offsets = [field.offset for field in known.values()]
    dtype = np.dtype({"names": list(known), "formats": formats, "offsets": offsets, "itemsize": length})
    step = max(1, _BLOCK // length)
    buffer = np.empty(min(step, stop - start) * length, np.uint8)
    try:
        with cast(BinaryIO, gzip.open(path)) if _gzipped(path) else Path(path).open("rb", buffering=0) as stream:
            stream.seek(begin + start * length)
            for first in range(start, stop, step):
                part = buffer[: (min(first + step, stop) - first) * length]
                _fill(stream, part)
                yield Block(path, part.view(dtype), known)
    except (OSError, EOFError, zlib.error) as error:
        raise CatalogueError(f"catalogue.files: {path} cannot be read to its end ({error}). Fetch it again.") from None


def _header(path: str, hdu: Hdu) -> tuple[Any, int]:
    """The header of a table, and the byte at which its rows begin."""
    try:
        facts = Path(path).stat()
    except OSError:
        facts = None
    return _read_header(path, hdu, (facts.st_size, facts.st_mtime_ns) if facts else None)


@lru_cache(maxsize=4)  # a slice's header is looked at twice, and that of the next slice is often the same
def _read_header(path: str, hdu: Hdu, state: tuple[int, int] | None) -> tuple[Any, int]:
    with _open(path) as file:
        table = _table(file, path, hdu)
        return table.read_header(), int(table.get_offsets()["data_start"])


def _fill(stream: BinaryIO, part: NDArray[np.uint8]) -> None:
    done, space = 0, part.data
    while done < len(part):
        count = stream.readinto(space[done:])  # type: ignore[attr-defined]  # a raw or gzip stream has it
        if not count:
            raise EOFError("it ends before its last row")
        done += count


def _fields(header: Any) -> dict[str, _Field]:
    """All columns in order."""
    found, offset = {}, 0
    for i in range(1, int(header["TFIELDS"]) + 1):
        count, letter = re.fullmatch(r"(\d*)([A-Z]).*", str(header[f"TFORM{i}"]).strip().upper()).groups()  # type: ignore[union-attr]  # fitsio has read it
        repeat = int(count or 1)
        if letter == "X":
            size = (repeat + 7) // 8
        else:
            size = repeat * (1 if letter == "A" else _SIZES.get(letter) or np.dtype(_DTYPES[letter]).itemsize)
        scale, zero, null = float(header.get(f"TSCAL{i}", 1)), float(header.get(f"TZERO{i}", 0)), None
        if letter in "BIJK" and header.get(f"TNULL{i}") is not None:
            null = int(header[f"TNULL{i}"])
        found[str(header.get(f"TTYPE{i}", f"col{i}")).strip()] = _Field(letter, repeat, offset, size, scale, zero, null)
        offset += size
    return found


def _column(field: _Field, header: Any, number: int) -> Column:
    if field.letter != "A" and field.letter not in _DTYPES:
        return Column(None, note=f"of FITS format {str(header[f'TFORM{number}']).strip()}")
    unit, ucd = (str(header.get(f"{key}{number}") or "").strip() for key in ("TUNIT", "TUCD"))
    if field.letter == "A":
        return Column("str", unit=unit, ucd=ucd)
    kinds: dict[str, Type] = {"L": "bool", "E": "float32", "D": "float64"}
    kind = kinds.get(field.letter, "int64")
    if field.scaled:
        kind = "float64"
    elif field.letter == "K" and field.zero:
        kind = "uint64"
    nullable = field.null is not None and kind in ("int64", "uint64")
    return Column(kind, nullable, field.repeat, unit=unit, ucd=ucd)


def _gzipped(path: str) -> bool:
    return path.lower().endswith(".gz")


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
