"""The candidate table as FITS, VOTable, CSV and ECSV: the same rows, units and UCDs, from candidates.parquet."""

import io
from typing import Any

import numpy as np

from survey_scan.export.chosen import Chosen

#: Format → the end of its files' names.
SUFFIXES = {"fits": ".fits", "votable": ".vot", "csv": ".csv", "ecsv": ".ecsv"}


def write(chosen: Chosen, form: str) -> bytes:
    """The bytes of a table.

    Parameters
    ----------
    chosen : Chosen
        What to write.
    form : str
        One of :data:`SUFFIXES`. CSV has no units; ECSV has all (astropy). FITS has units, UCDs (``TUCDn``) and descriptions
        (``TCOMMn``), and Python's escapes for characters that are not ASCII. VOTable is version 1.4, its data BINARY2.
    """
    if form == "csv":
        return chosen.table.to_csv(index=False, lineterminator="\n").encode()
    if form == "fits":
        return _fits(chosen)
    table = _table(chosen)
    if form == "votable":
        from astropy.io.votable import from_table

        votable, buffer = from_table(table, "candidates"), io.BytesIO()
        votable.version = "1.4"
        votable.to_xml(buffer, tabledata_format="binary2")
        return buffer.getvalue()
    text = io.StringIO()
    table.write(text, format="ascii.ecsv")
    return text.getvalue().encode()


def _table(chosen: Chosen) -> Any:
    """As an astropy table, texts as numpy's, UCDs as metadata of columns."""
    from astropy.table import Table

    table = Table()
    for name in chosen.table:
        values = chosen.table[name]
        if values.dtype.kind not in "biuf":
            table[name] = (
                np.array(values.fillna("").astype(str).tolist(), np.str_) if len(values) else np.empty(0, "U1")
            )
        else:
            table[name] = values.to_numpy()
        column = chosen.columns.get(str(name))
        if column is not None:
            table[name].unit = column.unit
            table[name].description = column.description or None
            if column.ucd:
                table[name].meta["ucd"] = column.ucd
    return table


def _fits(chosen: Chosen) -> bytes:
    from astropy.io import fits

    table = _table(chosen)
    for name in table.colnames:
        if table[name].dtype.kind == "U":
            meta, unit = table[name].meta, table[name].unit
            table[name] = np.array([text.encode("ascii", "backslashreplace") for text in table[name]], np.bytes_)
            table[name].meta, table[name].unit = meta, unit
    hdu = fits.table_to_hdu(table)
    hdu.name = "CANDIDATES"
    for i, name in enumerate(table.colnames, 1):
        column = chosen.columns.get(name)
        if column is not None and column.description:
            hdu.header.set(f"TCOMM{i}", column.description, after=f"TFORM{i}")
        if column is not None and column.ucd:
            hdu.header.set(f"TUCD{i}", column.ucd, after=f"TFORM{i}")
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()
