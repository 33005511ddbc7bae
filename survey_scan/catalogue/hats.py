"""Folders of Parquet files: plain ones, and HATS catalogues (which LSDB reads), without their margins and indexes."""

from pathlib import Path

from survey_scan.errors import CatalogueError

#: In this order: a collection names the catalogue it is about; ``properties`` is what early versions of HATS write.
_PROPERTIES = ("collection.properties", "hats.properties", "properties")
#: Values of ``dataproduct_type`` whose rows are a catalogue's own.
_OBJECTS = ("object", "source")
_SUFFIXES = (".parquet", ".pq")


def files_of(folder: Path) -> list[Path]:
    """The Parquet files of a folder, in order.

    Of a HATS catalogue these are its leaves ``dataset/Norder=*/Dir=*/Npix=*``, each a file or a folder of files; of a
    collection, those of the catalogue it is about, not of the margins and indexes beside. Of any other folder they
    are all that it and the folders in it hold, but those whose names begin with ``_`` or ``.``.

    Raises
    ------
    CatalogueError
        If the folder is a margin, an index, or another product of HATS, or a collection that lacks its catalogue.
    """
    kind = next((name for name in _PROPERTIES if (folder / name).is_file()), None)
    if kind is None:
        return _inside(folder)
    facts = _read(folder / kind)
    if kind == "collection.properties":
        primary = facts.get("hats_primary_table_url", "")
        if not primary or not (folder / primary).is_dir():
            raise CatalogueError(
                f"catalogue.files: {folder} is a HATS collection, but hats_primary_table_url in its collection.properties "
                f"is {primary!r}, which is no folder in it. Name the folder of the catalogue itself."
            )
        return files_of(folder / primary)
    product = facts.get("dataproduct_type", "object")
    if product not in _OBJECTS:
        raise CatalogueError(
            f"catalogue.files: {folder} is a HATS {product}, not a catalogue of objects. Name the catalogue it belongs to."
        )
    found: list[Path] = []
    for leaf in (folder / "dataset").glob("Norder=*/Dir=*/Npix=*"):
        found += _inside(leaf) if leaf.is_dir() else [leaf] if leaf.suffix in _SUFFIXES else []
    return sorted(found)


def _inside(folder: Path) -> list[Path]:
    """All Parquet files at any depth; ``data_thumbnail.parquet`` holds rows that stand in HATS' other files too."""
    found = (path for suffix in _SUFFIXES for path in folder.rglob(f"*{suffix}"))
    return sorted(p for p in found if p.is_file() and p.name[0] not in "_." and p.name != "data_thumbnail.parquet")


def _read(path: Path) -> dict[str, str]:
    """A Java properties file: ``key=value`` lines, ``#`` before comments."""
    lines = (line.strip() for line in path.read_text().splitlines())
    pairs = (line.partition("=") for line in lines if line and line[0] not in "#!")
    return {key.strip(): value.strip() for key, _, value in pairs}
