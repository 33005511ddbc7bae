import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from astropy.io import fits, votable
from astropy.io.votable.ucd import check_ucd
from astropy.table import Table
from pyarrow import parquet

from survey_scan.ranking.candidates import write_candidates, write_failures
from survey_scan.schema import CANDIDATE_COLUMNS, SCORE_COLUMNS, TARGET_COLUMNS, Column


def best(n: int = 3, **more: object) -> pd.DataFrame:
    rows = np.arange(n)
    return pd.DataFrame({
        "object_id": rows * 10**15 + 7, "ra": rows * 100.25, "dec": rows - 0.5, "tile": [f"T{i}" for i in rows],
        "x": rows + 0.5, "y": rows * 2.0, "mag_r": 20.0 + rows, **more,
        "score": 1.0 - rows / 10, "logit": np.float32(9.0) - rows.astype(np.float32), "status": np.zeros(n, np.uint8),
    })  # fmt: skip


def written(folder: Path, frame: pd.DataFrame) -> tuple[Path, Path]:
    paths = folder / "candidates.parquet", folder / "candidates.fits"
    write_candidates(frame, *paths)
    return paths


NAMES = ["rank", "object_id", "ra", "dec", "tile", "x", "y", "score", "logit", "mag_r", "status"]
UNITS = {"ra": "deg", "dec": "deg", "x": "pix", "y": "pix"}
UCDS = {c.name: c.ucd for c in (*TARGET_COLUMNS, *CANDIDATE_COLUMNS)}


@pytest.mark.parametrize("n", [0, 3])
def test_parquet_is_read_by_pandas(tmp_path, n):
    table = pd.read_parquet(written(tmp_path, best(n))[0])
    assert list(table.columns) == NAMES
    assert table["rank"].tolist() == list(range(1, n + 1))
    pd.testing.assert_frame_equal(table[best().columns], best(n), check_dtype=n > 0)
    assert table["logit"].dtype == np.float32 and table["object_id"].dtype == np.int64


@pytest.mark.parametrize("n", [0, 3])
def test_parquet_is_a_voparquet(tmp_path, n):
    path, _ = written(tmp_path, best(n))
    metadata = parquet.read_metadata(path).metadata
    assert metadata[b"IVOA.VOTable-Parquet.version"] == b"1.0"
    header = votable.parse(io.BytesIO(metadata[b"IVOA.VOTable-Parquet.content"]), verify="exception")
    fields = header.get_first_table().fields
    assert [field.name for field in fields] == NAMES
    assert {f.name: str(f.unit) for f in fields if f.unit is not None} == UNITS
    assert {f.name: f.ucd for f in fields if f.ucd} == UCDS
    table = Table.read(path, format="parquet.votable")
    assert len(table) == n and table.colnames == NAMES
    assert {name: str(table[name].unit) for name in NAMES if table[name].unit is not None} == UNITS
    assert table["object_id"].description == "identifier in the parent catalogue"
    if n:
        assert table["object_id"].dtype == np.int64 and table["object_id"].tolist() == best()["object_id"].tolist()
        assert table["tile"].tolist() == ["T0", "T1", "T2"]


@pytest.mark.parametrize("n", [0, 3])
def test_fits_is_read_by_astropy(tmp_path, n):
    _, path = written(tmp_path, best(n))
    with fits.open(path) as hdus:
        hdus.verify("exception")
        header = hdus[1].header
        columns = {header[f"TTYPE{i}"]: i for i in range(1, header["TFIELDS"] + 1)}
        assert list(columns) == NAMES and header["EXTNAME"] == "CANDIDATES"
        assert {name: header[f"TUNIT{i}"] for name, i in columns.items() if f"TUNIT{i}" in header} == UNITS
        assert {name: header[f"TUCD{i}"] for name, i in columns.items() if f"TUCD{i}" in header} == UCDS
        assert header[f"TCOMM{columns['rank']}"] == "1 is the highest logit; ties in the order of object_id"
        assert not any(card.startswith("DATE") for hdu in hdus for card in hdu.header)
    table = Table.read(path)
    assert table.colnames == NAMES and len(table) == n
    for name in best().columns if n else []:
        assert table[name].tolist() == best()[name].tolist()


def test_both_files_are_the_same_bytes_each_time(tmp_path):
    for i in (1, 2):
        (tmp_path / str(i)).mkdir()
    one, two = written(tmp_path / "1", best()), written(tmp_path / "2", best())
    assert [p.read_bytes() for p in one] == [p.read_bytes() for p in two]


def test_columns_of_any_type_stand_in_both_files(tmp_path):
    more = {
        "flag": [True, False, True],
        "band_mask": np.array([1, 2, 255], np.uint8),
        "small": np.array([-1, 0, 1], np.int8),
        "count": np.array([1, 2, 65535], np.uint16),
        "brick": np.array([1, 2, 2**32 - 1], np.uint32),
        "half": np.array([0.5, 1.5, np.nan], np.float16),
        "depth": pd.array([1, None, 3], "Int32"),
        "seen": pd.array([True, None, False], "boolean"),
        "type": ["REX", None, "naïve Ω"],
        "class": pd.Categorical(["a", "b", "a"]),
    }
    path, other = written(tmp_path, best(**more))
    table = pd.read_parquet(path)
    assert list(table.columns[9:-1]) == ["mag_r", *more]
    assert table["flag"].tolist() == [True, False, True] and table["flag"].dtype == bool
    assert table["brick"].tolist() == [1, 2, 2**32 - 1] and table["count"].tolist() == [1, 2, 65535]
    assert table["small"].tolist() == [-1, 0, 1] and table["band_mask"].tolist() == [1, 2, 255]
    np.testing.assert_array_equal(table["half"], np.float32([0.5, 1.5, np.nan]))
    np.testing.assert_array_equal(table["depth"], [1, np.nan, 3])
    np.testing.assert_array_equal(table["seen"], [1, np.nan, 0])
    assert table["type"].tolist() == ["REX", "", "naïve Ω"] and table["class"].tolist() == ["a", "b", "a"]
    same = Table.read(other)
    assert same["type"].tolist() == ["REX", "", r"na\xefve \u03a9"]
    for name in ("flag", "band_mask", "small", "count", "brick", "class"):
        assert same[name].tolist() == table[name].tolist()
    read = Table.read(path, format="parquet.votable")
    for name in ("flag", "band_mask", "small", "count", "brick", "class", "type"):
        assert read[name].tolist() == table[name].tolist(), name


@pytest.mark.parametrize(
    ("ids", "expected"),
    [
        (np.array([1, 2, 2**63 - 1], np.uint64), [1, 2, 2**63 - 1]),
        (np.array([1, 2, 2**64 - 1], np.uint64), ["1", "2", str(2**64 - 1)]),
        (["J1", "J22", ""], ["J1", "J22", ""]),
    ],
)
def test_ids_keep_every_digit(tmp_path, ids, expected):
    path, other = written(tmp_path, best().assign(object_id=ids))
    assert pd.read_parquet(path)["object_id"].tolist() == expected
    assert Table.read(other)["object_id"].tolist() == expected
    assert Table.read(path, format="parquet.votable")["object_id"].tolist() == expected


def test_all_ucds_are_of_the_controlled_vocabulary():
    for column in (*TARGET_COLUMNS, *SCORE_COLUMNS, *CANDIDATE_COLUMNS):
        assert column.ucd is None or check_ucd(column.ucd, check_controlled_vocabulary=True), column


def failed(*ids: int) -> pd.DataFrame:
    return pd.DataFrame({
        "object_id": ids, "ra": 0.1 + 0.2, "dec": -1.5, "tile": 'T,"1"', "status": 3, "reason": "tile or band missing",
    })  # fmt: skip


def test_failures_are_one_csv(tmp_path):
    path = tmp_path / "failures.csv"
    assert write_failures(iter([failed(5, 6), failed(), failed(9)]), path) == 3
    lines = path.read_text().splitlines()
    assert lines[:2] == [
        "object_id,ra,dec,tile,status,reason",
        '5,0.30000000000000004,-1.5,"T,""1""",3,tile or band missing',
    ]
    table = pd.read_csv(path)
    assert table["object_id"].tolist() == [5, 6, 9] and (table["ra"] == 0.1 + 0.2).all()
    assert write_failures([], path) == 0
    assert path.read_text() == "object_id,ra,dec,tile,status,reason\n"


def test_a_list_of_failures_that_breaks_off_leaves_the_old_one(tmp_path):
    path = tmp_path / "failures.csv"
    write_failures([failed(1)], path)
    before = path.read_bytes()

    def breaking():
        yield failed(2)
        raise OSError("disk gone")

    with pytest.raises(OSError, match="disk gone"):
        write_failures(breaking(), path)
    assert path.read_bytes() == before and len(list(tmp_path.iterdir())) == 1


def test_units_of_kept_columns(tmp_path):
    paths = tmp_path / "candidates.parquet", tmp_path / "candidates.fits"
    described = {
        "mag_r": Column("mag_r", "mag", "phot.mag", ""),
        "flux": Column("flux", "nJy", None, "light"),
        "gone": Column("gone", "s", None, ""),
    }
    write_candidates(best(flux=1.0, plain=2.0), *paths, described)
    for path, form in zip(paths, ("parquet.votable", "fits"), strict=True):
        table = Table.read(path, format=form)
        assert str(table["mag_r"].unit) == "mag" and str(table["flux"].unit) == "nJy", form
        assert table["plain"].unit is None and str(table["ra"].unit) == "deg", form
    header = fits.getheader(paths[1], 1)
    number = NAMES.index("mag_r") + 1
    assert (header[f"TTYPE{number}"], header[f"TUCD{number}"]) == ("mag_r", "phot.mag")
    assert f"TCOMM{number}" not in header, "what a column of theirs means is not ours to say"
