"""FITS binary tables, read in slices of rows with fitsio (which reads only as many bytes as the rows have)."""

from pathlib import Path
from typing import Any

import fitsio
import numpy as np
from numpy.typing import NDArray

from survey_scan.catalogue.columns import Column, Read, Table, Type, listed
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
    step = max(rows, 1) if path.lower().endswith(".gz") else rows_per_slice
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
        header, infos = table.read_header(), {info["name"]: info for info in table.get_info()["colinfo"]}
        number, colnames = table.get_extnum(), table.get_colnames()
        scaled = [name for name in names if _is_scaled(infos[name])]
        plain = [name for name in names if name not in scaled]
        try:
            rows = table[plain][start:stop] if plain else {}
        except UnicodeDecodeError as error:
            raise CatalogueError(
                f"catalogue.files: a text in {path} is not ASCII ({error}). Leave its column out."
            ) from None
        except (OSError, ValueError) as error:
            raise CatalogueError(
                f"catalogue.files: {path} cannot be read to its end ({_brief(error)}). Fetch it again."
            ) from None
    data = {name: np.ascontiguousarray(rows[name], rows[name].dtype.newbyteorder("=")) for name in plain}
    if scaled:
        data |= _scaled(path, number, scaled, start, stop)
    found = {}
    for name in names:
        i, values, gaps = colnames.index(name) + 1, data[name], None
        null = header.get(f"TNULL{i}")
        if null is not None and _letter(infos[name]) in "BIJK":
            # the same arithmetic as that of the values, so that equal means equal
            scale, zero = header.get(f"TSCAL{i}", 1), header.get(f"TZERO{i}", 0)
            gaps = values == (int(null) * float(scale) + float(zero) if name in scaled else int(null) + int(zero))
        found[name] = Read(values, gaps)
    return found


def _scaled(path: str, number: int, names: list[str], start: int, stop: int) -> dict[str, NDArray[np.float64]]:
    """Columns with TSCAL or an odd TZERO: fitsio gives wrong numbers for them (and shifts their neighbours)."""
    from astropy.io import fits

    with fits.open(path, memmap=not path.lower().endswith(".gz")) as file:
        rows = file[number].data[start:stop]
        return {name: np.array(rows[name], np.float64) for name in names}


def _column(info: dict[str, Any], header: Any, number: int) -> Column:
    letter = _letter(info)
    if info["type"] < 0 or letter not in "ALBIJKED":
        return Column(None, note=f"of FITS format {str(info['tform']).strip()}")
    if letter == "A":
        return Column("str")
    kinds: dict[str, Type] = {"L": "bool", "E": "float32", "D": "float64"}
    kind = kinds.get(letter, "int64")
    if _is_scaled(info):
        kind = "float64"
    elif letter == "K" and info["tzero"] != 0:
        kind = "uint64"
    nullable = header.get(f"TNULL{number}") is not None and kind in ("int64", "uint64")
    radians = str(header.get(f"TUNIT{number}", "")).strip().lower() in ("rad", "radian", "radians")
    return Column(kind, nullable, int(info["repeat"]), radians=radians)


def _letter(info: dict[str, Any]) -> str:
    """The type of a column, from a format such as 5E or 1PB(10)."""
    return str(info["tform"]).strip().lstrip("0123456789")[:1]


def _is_scaled(info: dict[str, Any]) -> bool:
    """Whether a column's numbers are stored scaled; a TZERO by which FITS makes integers (un)signed does not count."""
    shift = {"B": -128.0, "I": 2.0**15, "J": 2.0**31, "K": 2.0**63}.get(_letter(info), 0.0)
    return bool(info["tscale"] != 1.0 or info["tzero"] not in (0.0, shift))


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
