"""Columns of small tables, by name, from Parquet, CSV or FITS files."""

import csv
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from survey_scan.errors import UserError

#: Kinds of files that are read, by the end of their names.
SUFFIXES = (".parquet", ".pq", ".csv", ".fits", ".fits.gz", ".fit")


def names(path: Path, what: str) -> list[str]:
    """The columns of a table.

    Parameters
    ----------
    path : Path
        The file, or a folder of Parquet files that are its parts, in the order of their names.
    what : str
        What it is for, for messages.

    Raises
    ------
    UserError
        If it is not there, of no kind that is read, or damaged.
    """
    return list(_load(path, None, what)[0])


def read(path: Path, wanted: Mapping[str, str], what: str) -> pd.DataFrame:
    """Some columns of a table, under other names.

    Parameters
    ----------
    path : Path
        The file, or the folder of its parts.
    wanted : mapping
        Name in the result → name in the file, as :func:`find` gives it.
    what : str
        What it is for, for messages.

    Returns
    -------
    DataFrame
        Integers stay exact where some are missing. The column ``object_id`` of a CSV
        file holds integers only if every one is written as an integer is (not 007).

    Raises
    ------
    UserError
        As :func:`names`.
    """
    given = list(dict.fromkeys(wanted.values()))
    table = _load(path, given, what)[1]
    made = pd.DataFrame({own: table[name] for own, name in wanted.items()})
    if "object_id" in wanted and _suffix(path) == ".csv":
        texts = made["object_id"].str.strip()
        whole = texts.notna().any() and texts.dropna().str.fullmatch(r"0|-?[1-9][0-9]{0,17}").all()
        made["object_id"] = texts.astype("Int64") if whole else texts
    return made


def find(name: str, columns: Sequence[str], path: Path, what: str) -> str:
    """The column of a name, or the only one that differs from it by case.

    Raises
    ------
    UserError
        If there is none.
    """
    if found := has(name, columns):
        return found
    near = difflib.get_close_matches(name, columns, n=1, cutoff=0.6)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise UserError(f"{what}: {path} has no column '{name}'.{hint} It has: {listed(columns)}.")


def has(name: str, columns: Sequence[str]) -> str | None:
    """As :func:`find`, but None if there is none."""
    alike = [column for column in columns if column.casefold() == name.casefold()]
    return name if name in columns else alike[0] if len(alike) == 1 else None


def listed(names: Sequence[str], most: int = 20) -> str:
    """Names for a message: the first ones, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _suffix(path: Path) -> str | None:
    return next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)


def _load(path: Path, wanted: list[str] | None, what: str) -> tuple[list[str], Any]:
    """Names of all columns, and the wanted ones; None: no matter which."""
    if path.is_dir():
        parts = sorted(path.glob("*.parquet"))
        if not parts:
            raise UserError(f"{what}: folder {path} holds no .parquet files. Name a table, or a folder of its parts.")
        tables = [_load(part, wanted, what) for part in (parts[:1] if wanted is None else parts)]
        return tables[0][0], None if wanted is None else pd.concat([table for _, table in tables], ignore_index=True)
    if not path.is_file():
        raise UserError(f"{what}: {path}: no such file")
    suffix = _suffix(path)
    if suffix is None:
        raise UserError(f"{what}: {path} is of no kind that is read. Kinds are: {', '.join(SUFFIXES)}.")
    try:
        if suffix in (".parquet", ".pq"):
            return _parquet(path, wanted)
        return _csv(path, wanted) if suffix == ".csv" else _fits(path, wanted)
    except (OSError, ValueError, TypeError, IndexError) as error:  # Arrow's and pandas' are ValueErrors
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise UserError(f"{what}: {path} cannot be read ({reason[0]}). Write it again.") from None


def _parquet(path: Path, wanted: list[str] | None) -> tuple[list[str], Any]:
    import pyarrow.parquet as pq

    names = list(pq.read_schema(path).names)
    return names, None if wanted is None else pd.read_parquet(path, columns=wanted, dtype_backend="numpy_nullable")


def _csv(path: Path, wanted: list[str] | None) -> tuple[list[str], Any]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        line = stream.readline()
    separator = ";" if line.count(";") > line.count(",") else ","
    names = [name.strip() for name in next(csv.reader([line], delimiter=separator), [])]
    if wanted is None:
        return names, None
    import pyarrow as pa
    import pyarrow.csv as pc

    texts = {name: pa.string() for name in wanted if name.casefold() == "object_id"}
    table = pc.read_csv(
        path,
        pc.ReadOptions(column_names=names, skip_rows=1, block_size=min(path.stat().st_size + 1, (1 << 31) - 1)),
        pc.ParseOptions(delimiter=separator),
        pc.ConvertOptions(column_types=texts, include_columns=wanted, strings_can_be_null=True),
    )  # in one block: the type of a column is that of all its values
    kinds = {pa.int64(): pd.Int64Dtype(), pa.float64(): pd.Float64Dtype(), pa.string(): pd.StringDtype()}
    return names, table.to_pandas(types_mapper=kinds.get)


def _fits(path: Path, wanted: list[str] | None) -> tuple[list[str], Any]:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(path, memmap=False) as file:
        tables = [hdu for hdu in file if isinstance(hdu, fits.BinTableHDU) and not isinstance(hdu, fits.CompImageHDU)]
        if not tables:
            raise ValueError("it has no binary table")
        if wanted is None:
            return list(tables[0].columns.names), None
        table = Table.read(tables[0], unit_parse_strict="silent")[wanted]  # the units do not matter here
        return table.colnames, table.to_pandas(use_nullable_int=True)
