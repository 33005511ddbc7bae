"""The tables a scan ends in: candidates as VOParquet and FITS, failures as CSV."""

import io
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import records
from survey_scan.errors import RunError
from survey_scan.schema import CANDIDATE_COLUMNS, TARGET_COLUMNS, Column

#: Columns before those the selection kept, and after them.
FIRST, LAST = ("rank", "object_id", "ra", "dec", "tile", "x", "y", "score", "logit"), ("status",)

#: numpy kind and size → VOTable datatype; the types :func:`_plain` leaves.
_VOTABLE = dict(b1="boolean", u1="unsignedByte", i2="short", i4="int", i8="long", f4="float", f8="double")

#: The same → FITS TFORM.
_FITS = dict(b1="L", u1="B", i2="I", i4="J", i8="K", f4="E", f8="D")

_SPACE = "http://www.ivoa.net/xml/VOTable/v1.3"

_DESCRIBED: dict[str, Column] = {column.name: column for column in (*TARGET_COLUMNS, *CANDIDATE_COLUMNS)}


def write_candidates(
    best: pd.DataFrame, parquet: Path, fits: Path, described: Mapping[str, Column] | None = None
) -> None:
    """Write the candidate table twice: VOParquet and FITS.

    Parquet with a VOTable header in its metadata follows the IVOA Note "Parquet in the VO" 1.0 (2025). Both files are
    written whole or not at all, and the same table gives the same bytes.

    Parameters
    ----------
    best : DataFrame
        From :func:`survey_scan.ranking.merge`, ranked; may be empty.
    parquet, fits : Path
        Where to.
    described : mapping, optional
        What columns are that are none of the program's own, by name.

    Notes
    -----
    Both formats get the same numbers and texts. What one of them lacks is changed in both: unsigned integers are
    widened, those above 2⁶³ become text, nullable integers with a gap float64, a missing text is empty. Only FITS texts
    are ASCII: Python's escapes stand there for other characters.
    """
    kept = [name for name in best.columns if name not in {*FIRST, *LAST}]
    table = best.assign(rank=np.arange(1, len(best) + 1))[[*FIRST, *kept, *LAST]]
    columns = {str(name): _plain(table[name]) for name in table}
    facts = {**(described or {}), **_DESCRIBED}
    records.write_atomically(parquet, _parquet(columns, facts))
    records.write_atomically(fits, _fits(columns, facts))


def described(parquet: Path) -> dict[str, Column]:
    """Units, UCDs and descriptions in the VOTable header of a VOParquet file.

    Raises
    ------
    RunError
        If it has none.
    """
    import pyarrow.parquet as pq

    content = (pq.read_schema(parquet).metadata or {}).get(b"IVOA.VOTable-Parquet.content")
    if content is None:
        raise RunError(f"{parquet} has no VOTable header: another program wrote it. Rank again: survey_scan rank")
    found = [field for field in ElementTree.fromstring(content).iter(f"{{{_SPACE}}}FIELD") if "name" in field.attrib]
    return {
        field.attrib["name"]: Column(
            field.attrib["name"],
            field.get("unit"),
            field.get("ucd"),
            field.findtext(f"{{{_SPACE}}}DESCRIPTION") or "",
        )
        for field in found
    }


def write_failures(tables: Iterable[pd.DataFrame], path: Path) -> int:
    """Write the failures of all partitions, one table after the other, as one CSV.

    Parameters
    ----------
    tables : iterable of DataFrame
        From :func:`survey_scan.ranking.failures`; only one is held at a time.
    path : Path
        Where to; the file is there whole or not at all.

    Returns
    -------
    int
        How many rows.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    rows = 0
    try:
        with partial.open("w", newline="") as stream:
            stream.write("object_id,ra,dec,tile,status,reason\n")
            for table in tables:
                table.to_csv(stream, index=False, header=False, lineterminator="\n")
                rows += len(table)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    return rows


def _plain(series: "pd.Series[Any]") -> NDArray[Any]:
    """A column as numpy bool, uint8, int16, int32, int64, float32, float64, or an object array of str."""
    kind = series.dtype
    if pd.api.types.is_bool_dtype(kind) and not series.isna().any():
        return series.to_numpy(bool)
    if pd.api.types.is_integer_dtype(kind) and not series.isna().any():
        if len(series) and series.max() > np.iinfo(np.int64).max:
            return series.astype(str).to_numpy(object)
        name = getattr(kind, "name", str(kind)).lower()
        return series.to_numpy({"int8": "i2", "uint16": "i4", "uint32": "i8", "uint64": "i8"}.get(name, name))
    if pd.api.types.is_numeric_dtype(kind):
        half = getattr(kind, "itemsize", 8) <= 4 and pd.api.types.is_float_dtype(kind)
        return series.to_numpy(np.float32 if half else np.float64, na_value=np.nan)
    return series.astype(object).where(series.notna(), "").astype(str).to_numpy(object)


def _parquet(columns: dict[str, NDArray[Any]], described: Mapping[str, Column]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays = {name: pa.array(a, pa.string() if a.dtype == object else None) for name, a in columns.items()}
    lengths = {f"table::len::{name}": str(_longest(a)) for name, a in columns.items() if a.dtype == object}
    metadata = {
        "IVOA.VOTable-Parquet.version": "1.0",
        "IVOA.VOTable-Parquet.content": _votable(columns, described),
        **lengths,  # without these astropy warns when it reads texts
    }
    stream = io.BytesIO()
    pq.write_table(pa.table(arrays).replace_schema_metadata(metadata), stream, compression="zstd")
    return stream.getvalue()


def _votable(columns: dict[str, NDArray[Any]], described: Mapping[str, Column]) -> bytes:
    """A VOTable without data that names type, unit, UCD and meaning of every column."""
    space = {"version": "1.4", "xmlns": _SPACE}
    root = ElementTree.Element("VOTABLE", space)
    table = ElementTree.SubElement(ElementTree.SubElement(root, "RESOURCE", type="results"), "TABLE", name="candidates")
    for name, array in columns.items():
        text, known = array.dtype == object, described.get(name)
        facts = {
            "name": name,
            "datatype": "unicodeChar" if text else _VOTABLE[array.dtype.str[1:]],
            "arraysize": f"{_longest(array)}*" if text else None,  # bounded, or astropy makes objects of texts
            "unit": known.unit if known else None,
            "ucd": known.ucd if known else None,
        }
        field = ElementTree.SubElement(table, "FIELD", {k: v for k, v in facts.items() if v is not None})
        if known and known.description:
            ElementTree.SubElement(field, "DESCRIPTION").text = known.description
    return bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))


def _longest(texts: Iterable[str] | Iterable[bytes]) -> int:
    """Length of the longest text, at least 1."""
    return max([1, *map(len, texts)])


def _fits(columns: dict[str, NDArray[Any]], described: Mapping[str, Column]) -> bytes:
    from astropy.io import fits

    made = []
    for name, array in columns.items():
        if array.dtype == object:
            texts = [text.encode("ascii", "backslashreplace") for text in array]
            width = _longest(texts)
            form, array = f"{width}A", np.array(texts, f"S{width}")
        else:
            form = _FITS[array.dtype.str[1:]]
        known = described.get(name)
        made.append(fits.Column(name, form, unit=known.unit if known else None, array=array))
    table = fits.BinTableHDU.from_columns(made, name="CANDIDATES")
    for i, name in enumerate(columns, 1):
        known = described.get(name)
        if known:
            if known.description:
                table.header.set(f"TCOMM{i}", known.description, after=f"TFORM{i}")
            if known.ucd:
                table.header.set(f"TUCD{i}", known.ucd, after=f"TFORM{i}")
    stream = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), table]).writeto(stream)
    return stream.getvalue()
