"""HATS catalogues, laid out as hats-import lays them out: only their leaves are read."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from survey_scan import catalogue
from survey_scan.catalogue import survey
from survey_scan.catalogue.hats import files_of
from survey_scan.config import Catalogue
from survey_scan.errors import CatalogueError

#: Order, pixel and rows of each leaf; order 1 in one quarter of the sky, as where objects are many.
LEAVES = [(0, 4, 30), (0, 11, 20), (1, 44, 25), (1, 47, 5), (2, 10_234, 7)]


def rows(n: int, first: int) -> pa.Table:
    numbers = np.arange(first, first + n)
    return pa.table(
        {
            "_healpix_29": pa.array(numbers * 1000, pa.int64()),
            "id": pa.array(numbers, pa.int64()),
            "ra": numbers * 0.1,
            "dec": numbers * -0.1,
            "mag": pa.array([None if i % 5 == 0 else float(i) for i in numbers], pa.float32()),
            "lightcurve": pa.array([[{"mjd": 1.0}]] * n, pa.list_(pa.struct([("mjd", pa.float64())]))),
        }
    )


def make(folder: Path, product: str = "object", properties: str = "hats.properties", first: int = 0) -> Path:
    """One table of HATS."""
    (folder / "dataset").mkdir(parents=True)
    (folder / properties).write_text(
        f"#HATS catalog\nobs_collection={folder.name}\ndataproduct_type={product}\nhats_nrows=87\nhats_order=2\n"
    )
    parts = []
    for order, pixel, n in LEAVES:
        leaf = folder / f"dataset/Norder={order}/Dir={pixel // 10_000 * 10_000}/Npix={pixel}.parquet"
        leaf.parent.mkdir(parents=True, exist_ok=True)
        parts.append(rows(n, first))
        first += n
        if pixel == 47:  # a leaf may be a folder of files
            leaf = leaf.with_suffix("") / "part0.parquet"
            leaf.parent.mkdir()
        pq.write_table(parts[-1], leaf)
    pq.write_metadata(parts[0].schema, folder / "dataset/_common_metadata")
    pq.write_metadata(parts[0].schema, folder / "dataset/_metadata")
    pq.write_table(pa.concat_tables([part.slice(0, 1) for part in parts]), folder / "dataset/data_thumbnail.parquet")
    (folder / "partition_info.csv").write_text("Norder,Npix\n" + "".join(f"{o},{p}\n" for o, p, _ in LEAVES))
    (folder / "skymap.fits").write_bytes(b"")
    return folder


def collection(folder: Path) -> Path:
    """A catalogue with a margin and an index beside."""
    make(folder / "objects")
    make(folder / "objects_10arcs", "margin", first=1000)
    (folder / "objects_id_index/dataset/index").mkdir(parents=True)
    (folder / "objects_id_index/hats.properties").write_text("dataproduct_type=index\n")
    pq.write_table(rows(87, 0).select(["id"]), folder / "objects_id_index/dataset/index/part.0.parquet")
    (folder / "collection.properties").write_text(
        "#HATS Collection\nobs_collection=test\nhats_primary_table_url=objects\nall_margins=objects_10arcs\n"
        "default_margin=objects_10arcs\nall_indexes=id objects_id_index\ndefault_index=id\n"
    )
    return folder


def config(path: Path) -> Catalogue:
    return Catalogue(files=[str(path)], id_column="id", columns={"mag": "mag"})


@pytest.mark.parametrize("kind", ["catalogue", "collection", "early"])
def test_leaves_are_read_and_nothing_else(tmp_path, kind):
    if kind == "collection":
        folder = collection(tmp_path / "test")
    else:
        folder = make(tmp_path / "objects", properties="properties" if kind == "early" else "hats.properties")
    contents = survey(config(folder))
    assert [path.split("dataset/")[1] for path in contents.files] == [
        "Norder=0/Dir=0/Npix=11.parquet",
        "Norder=0/Dir=0/Npix=4.parquet",
        "Norder=1/Dir=0/Npix=44.parquet",
        "Norder=1/Dir=0/Npix=47/part0.parquet",
        "Norder=2/Dir=10000/Npix=10234.parquet",
    ]
    assert contents.rows == 87
    found = catalogue.open_catalogue(config(folder), contents).compute(scheduler="synchronous")
    assert sorted(found["object_id"]) == list(range(87))
    assert np.isnan(found["mag"]).sum() == 18


def test_margins_and_indexes_are_refused(tmp_path):
    folder = collection(tmp_path / "test")
    for name, product in (("objects_10arcs", "margin"), ("objects_id_index", "index")):
        with pytest.raises(CatalogueError) as caught:
            survey(config(folder / name))
        assert str(caught.value) == (
            f"catalogue.files: {folder}/{name} is a HATS {product}, not a catalogue of objects. Name the catalogue it "
            "belongs to."
        )


def test_a_collection_without_its_catalogue(tmp_path):
    (tmp_path / "collection.properties").write_text("hats_primary_table_url=gone\n")
    with pytest.raises(CatalogueError) as caught:
        files_of(tmp_path)
    assert str(caught.value) == (
        f"catalogue.files: {tmp_path} is a HATS collection, but hats_primary_table_url in its collection.properties is "
        "'gone', which is no folder in it. Name the folder of the catalogue itself."
    )
