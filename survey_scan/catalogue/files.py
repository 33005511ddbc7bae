"""Which files a catalogue consists of."""

import glob
from pathlib import Path
from typing import Literal

from survey_scan.catalogue.columns import listed
from survey_scan.catalogue.hats import files_of
from survey_scan.errors import CatalogueError

Format = Literal["fits", "parquet", "csv"]
_SUFFIXES = (".fits", ".fits.gz", ".fit", ".parquet", ".pq", ".csv")


def find_files(patterns: list[str]) -> list[str]:
    """Files that patterns and folders stand for, in their order, each pattern's sorted, none twice.

    Raises
    ------
    CatalogueError
        If a pattern matches nothing, or a file is of a kind that is not read.
    """
    found: dict[str, None] = {}
    for pattern in patterns:
        # a name that holds '[' is a pattern, but also a name
        matches = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern, recursive=True))  # noqa: PTH207
        if not matches:
            raise CatalogueError(f"catalogue.files: no file matches '{pattern}'. {_neighbours(pattern)}")
        for match in matches:
            path = Path(match)
            inside = files_of(path) if path.is_dir() else [path]
            if not inside:
                raise CatalogueError(f"catalogue.files: folder {path} holds no Parquet files. Name the files in it.")
            found.update({str(file): None for file in inside})
    for file in found:
        file_format(file)
    return list(found)


def file_format(path: str) -> Format:
    """The kind of a file, by its name.

    Raises
    ------
    CatalogueError
        If it is none that is read.
    """
    name = path.lower()
    if name.endswith((".fits", ".fits.gz", ".fit")):
        return "fits"
    if name.endswith((".parquet", ".pq")):
        return "parquet"
    if name.endswith(".csv"):
        return "csv"
    raise CatalogueError(f"catalogue.files: {path} is of no kind that is read. Kinds are: {', '.join(_SUFFIXES)}.")


def _neighbours(pattern: str) -> str:
    """What is in the folder where a pattern was looked for."""
    folder = Path(pattern).parent
    while not folder.is_dir() or glob.has_magic(str(folder)):
        folder = folder.parent
    try:
        names = sorted(p.name for p in folder.iterdir())
    except PermissionError:
        return f"Looked in {folder}, which you may not read."
    return f"Looked in {folder}, which holds {listed(names, 5) if names else 'nothing'}."
