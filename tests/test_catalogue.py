"""Catalogue files of all kinds → one table."""

import gzip
import shutil

import fitsio
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from astropy.io import fits
from astropy.table import MaskedColumn, Table

from survey_scan import catalogue, presets
from survey_scan.catalogue import read_slice, survey
from survey_scan.catalogue.columns import Read, canonical
from survey_scan.config import Catalogue, Magnitude, Selection
from survey_scan.errors import CatalogueError
from survey_scan.selection import needed, select, select_rows


def read(config: Catalogue) -> pd.DataFrame:
    found = catalogue.open_catalogue(config).compute(scheduler="synchronous").reset_index(drop=True)
    return found.astype({name: "str" for name, dtype in found.dtypes.items() if dtype == "string"})  # as Dask has it


def config(path, **keys) -> Catalogue:
    return Catalogue(files=[str(path)], **keys)


@pytest.fixture
def table():
    rng = np.random.default_rng(3)
    n = 50
    return pd.DataFrame(
        {
            "object_id": np.arange(n, dtype=np.int64) * 3 + 2**53 + 1,
            "ra": rng.uniform(0, 360, n),
            "dec": rng.uniform(-90, 90, n),
            "flux": np.where(np.arange(n) % 7 == 0, -1.0, rng.uniform(1, 100, n)),
            "mag": np.where(np.arange(n) % 5 == 0, 99.0, rng.uniform(15, 25, n)),
            "kind": pd.Series(np.where(np.arange(n) % 2, "DEV", "PSF"), dtype="str"),
            "good": np.arange(n) % 3 == 0,
        }
    )


COLUMNS = {"flux": "flux", "mag": "mag", "kind": "kind", "good": "good"}


@pytest.mark.parametrize("rows_per_task", [3, 50, 1000])
def test_fits_parquet_and_csv_give_the_same(tmp_path, table, rows_per_task):
    Table.from_pandas(table).write(tmp_path / "a.fits")
    table.to_parquet(tmp_path / "a.parquet", row_group_size=4)
    table.to_csv(tmp_path / "a.csv", index=False)
    table.to_csv(tmp_path / "semicolon.csv", index=False, sep=";", lineterminator="\r\n")
    with (tmp_path / "a.fits").open("rb") as plain, gzip.open(tmp_path / "zipped.fits.gz", "wb") as zipped:
        shutil.copyfileobj(plain, zipped)
    expected = table.assign(mag=table["mag"].replace(99.0, np.nan))
    for name in ("a.fits", "a.parquet", "a.csv", "semicolon.csv", "zipped.fits.gz"):
        found = read(config(tmp_path / name, columns=COLUMNS, missing=[99.0], rows_per_task=rows_per_task))
        pd.testing.assert_frame_equal(found, expected, obj=name)


def test_slices_have_the_rows_asked_for_and_counts_come_from_headers(tmp_path, table):
    Table.from_pandas(table).write(tmp_path / "a.fits")
    table.to_parquet(tmp_path / "b.parquet", row_group_size=8)
    table.to_csv(tmp_path / "c.csv")
    rows = [survey(config(tmp_path / name)).rows for name in ("a.fits", "b.parquet", "*.*", "c.csv")]
    assert rows == [50, 50, None, None]
    spans = [(s.start, s.stop) for s in survey(config(tmp_path / "a.fits", rows_per_task=20)).slices]
    assert spans == [(0, 20), (20, 40), (40, 50)]
    spans = [(s.start, s.stop) for s in survey(config(tmp_path / "b.parquet", rows_per_task=20)).slices]
    assert spans == [(0, 16), (16, 32), (32, 50)]  # whole row groups


def test_csv_slices_hold_every_line_once(tmp_path):
    lines = [f"{i},{i % 360},{'7' * (i % 40 + 1)}" for i in range(200)]
    (tmp_path / "a.csv").write_text("object_id,ra,long\n" + "\n".join(lines))  # no line end at the end
    for rows in (1, 3, 10, 137, 2000):
        cfg = config(tmp_path / "a.csv", dec_column="ra", columns={"long": "long"}, rows_per_task=rows)
        assert read(cfg)["object_id"].tolist() == list(range(200))


def fits_table(path, *columns):
    fits.BinTableHDU.from_columns(list(columns)).writeto(path)


def test_fits_types(tmp_path):
    n = 3
    fits_table(
        tmp_path / "a.fits",
        fits.Column("ID", "K", array=np.array([0, 2**64 - 1, 7], np.uint64), bzero=2**63),
        fits.Column("RA", "E", array=np.array([1.5, 2.5, np.nan])),
        fits.Column("DEC", "D", array=np.array([99.0, -99.0, 0.1])),
        fits.Column("U2", "I", array=np.array([0, 65535, 7], np.uint16), bzero=2**15),
        fits.Column("U4", "J", array=np.array([0, 2**32 - 1, 7], np.uint32), bzero=2**31),
        fits.Column("I1", "B", array=np.array([-1, -128, 127], np.int8), bzero=-128),
        fits.Column("B", "B", array=np.array([0, 255, 3], np.uint8)),
        fits.Column("NULLS", "J", array=np.array([1, -99, 99]), null=-99),
        fits.Column("UNULLS", "I", array=np.array([1, 65535, 3], np.uint16), bzero=2**15, null=2**15 - 1),
        fits.Column("SCALED", "I", array=np.array([1, 2, 4]), null=2),
        fits.Column("FLAG", "L", array=np.array([True, False, True])),
        fits.Column("TEXT", "6A", array=np.array(["PSF  ", " DEV", ""])),
        fits.Column("VEC", "3E", array=np.arange(9, dtype=np.float32).reshape(n, 3)),
        fits.Column("IVEC", "2J", array=np.arange(6).reshape(n, 2), null=3),
        fits.Column("MAT", "4E", dim="(2,2)", array=np.arange(12, dtype=np.float32).reshape(n, 2, 2)),
    )
    with fitsio.FITS(tmp_path / "a.fits", "rw") as file:  # which astropy cannot write
        file[1].write_key("TSCAL10", 0.5)
        file[1].write_key("TZERO10", 1.0)
    names = ["U2", "U4", "I1", "B", "NULLS", "UNULLS", "SCALED", "FLAG", "TEXT"]
    columns = {name.lower(): name for name in names} | {"v": "VEC[2]", "i": "ivec[1]", "m": "MAT[2]"}
    found = read(config(tmp_path / "a.fits", id_column="ID", columns=columns, missing=[99.0]))
    assert found["object_id"].tolist() == [0, 2**64 - 1, 7]
    assert found.dtypes.astype(str).to_dict() == {
        "object_id": "uint64", "ra": "float64", "dec": "float64", "u2": "int64", "u4": "int64", "i1": "int64",
        "b": "int64", "nulls": "float64", "unulls": "float64", "scaled": "float64", "flag": "bool", "text": "str",
        "v": "float32", "i": "float64", "m": "float32",
    }  # fmt: skip
    assert found["u2"].tolist() == [0, 65535, 7]
    assert found["u4"].tolist() == [0, 2**32 - 1, 7]
    assert found["i1"].tolist() == [-1, -128, 127]
    assert found["b"].tolist() == [0, 255, 3]
    np.testing.assert_array_equal(found["nulls"], [1.0, np.nan, np.nan])
    np.testing.assert_array_equal(found["unulls"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(found["scaled"], [1.5, np.nan, 3.0])
    assert found["text"].tolist() == ["PSF", "DEV", ""]
    assert found["v"].tolist() == [2.0, 5.0, 8.0]
    np.testing.assert_array_equal(found["i"], [1.0, np.nan, 5.0])
    assert found["m"].tolist() == [2.0, 6.0, 10.0]
    np.testing.assert_array_equal(found["dec"], [99.0, -99.0, 0.1])  # sentinels do not count in positions
    assert all(found[name].dtype.byteorder != ">" for name in found if found[name].dtype.kind in "iuf")


def test_masked_integers_of_astropy_tables(tmp_path):
    masked = MaskedColumn([5, 6, 7], mask=[False, True, False])
    written = Table({"object_id": [1, 2, 3], "ra": [1.0, 2, 3], "dec": [1.0, 2, 3], "n": masked})
    written.write(tmp_path / "a.fits")
    found = read(config(tmp_path / "a.fits", columns={"n": "n"}))
    np.testing.assert_array_equal(found["n"], [5.0, np.nan, 7.0])


def test_sentinels(tmp_path):
    """As they are in the file, as float32, and with an extinction subtracted, as in DES Y6; near them is a number."""
    sentinels = [-9.999e9, -9999.0, 99.0]
    values = np.array([-9.999e9, -9999000000.07, -9999.0, 99.0, 99.0001, -9998.9, 20.0])
    expected = [np.nan, np.nan, np.nan, np.nan, 99.0001, -9998.9, 20.0]
    np.testing.assert_array_equal(canonical(Read(values), "float64", sentinels), expected)
    single = canonical(Read(values.astype(np.float32)), "float32", sentinels)
    np.testing.assert_array_equal(single, np.array(expected, np.float32))
    mixed = canonical(Read(values.astype(np.float32)), "float64", sentinels)
    np.testing.assert_array_equal(mixed, np.array(expected, np.float32).astype(float))
    assert canonical(Read(np.array([99, 1])), "int64", sentinels).tolist() == [99, 1]


def test_parquet_types(tmp_path):
    pq.write_table(
        pa.table(
            {
                "object_id": pa.array(["b", "a", " c "], pa.large_string()),
                "ra": pa.array([1.0, None, 3.0]),
                "dec": pa.array([1, 2, 3], pa.int16()),
                "n": pa.array([1, None, 3], pa.uint8()),
                "full": pa.array([1, 2, 2**63], pa.uint64()),
                "flag": pa.array([True, False, None]),
                "kind": pa.array(["PSF", None, "DEV"]).dictionary_encode(),
                "vec": pa.array([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], pa.list_(pa.float32(), 2)),
                "half": pa.array(np.array([1, 2, 3], np.float16)),
            }
        ),
        tmp_path / "a.parquet",
    )
    columns = {name: name for name in ("n", "full", "flag", "kind", "half")} | {"v": "vec[1]"}
    found = read(config(tmp_path / "a.parquet", columns=columns))
    assert found["object_id"].tolist() == ["b", "a", "c"]
    np.testing.assert_array_equal(found["ra"], [1.0, np.nan, 3.0])
    np.testing.assert_array_equal(found["n"], [1.0, np.nan, 3.0])
    assert found["full"].tolist() == [1, 2, 2**63]
    np.testing.assert_array_equal(found["flag"], [1.0, 0.0, np.nan])
    assert found["kind"].tolist() == ["PSF", "", "DEV"]
    assert found["v"].tolist() == [2.0, 4.0, 6.0]
    assert found["half"].dtype == np.float32


def test_types_are_common_to_all_files(tmp_path):
    for name, numbers in (("a", [1, 2]), ("b", [3, None]), ("c", [5.5, 6.5])):
        pq.write_table(
            pa.table({"object_id": [f"{name}{i}" for i in range(2)], "ra": [1, 2], "dec": [1, 2], "n": numbers}),
            tmp_path / f"{name}.parquet",
        )
    ddf = catalogue.open_catalogue(config(tmp_path / "*.parquet", columns={"n": "n"}))
    parts = [part.compute(scheduler="synchronous") for part in ddf.to_delayed()]
    assert [str(part["n"].dtype) for part in parts] == ["float64"] * 3 == [str(ddf["n"].dtype)] * 3


def test_several_identifier_columns_are_joined(tmp_path):
    fits_table(
        tmp_path / "a.fits",
        fits.Column("RELEASE", "I", array=np.array([9010, 9011])),
        fits.Column("BRICKID", "J", array=np.array([330368, 330368])),
        fits.Column("OBJID", "J", array=np.array([12, 12])),
        fits.Column("RA", "D", array=np.zeros(2)),
        fits.Column("DEC", "D", array=np.zeros(2)),
    )
    found = read(config(tmp_path / "a.fits", id_column=["RELEASE", "BRICKID", "OBJID"]))
    assert found["object_id"].tolist() == ["9010-330368-12", "9011-330368-12"]
    assert str(found["object_id"].dtype) == "str"


def test_magnitudes(tmp_path):
    fits_table(
        tmp_path / "a.fits",
        fits.Column("ID", "J", array=np.arange(6)),
        fits.Column("RA", "D", array=np.zeros(6)),
        fits.Column("DEC", "D", array=np.zeros(6)),
        fits.Column("FLUX", "3E", array=np.outer([100, 0, -5, 1e-30, np.nan, 10], [0, 1, 0]).astype("f4")),
        fits.Column("MW", "E", array=np.array([0.5, 1, 1, 1, 1, 0])),
        fits.Column("EBV", "E", array=np.array([0.1, 1, 1, np.nan, 1, 1])),
    )
    spec = {
        "plain": Magnitude(flux="FLUX[1]"),
        "through": Magnitude(flux="FLUX[1]", transmission="MW", zero_point=30),
        "extinct": Magnitude(flux="FLUX[1]", ebv="EBV", extinction=3.2),
    }
    found = read(config(tmp_path / "a.fits", id_column="ID", magnitudes=spec))
    np.testing.assert_allclose(found["plain"], [17.5, np.nan, np.nan, 97.5, np.nan, 20.0], rtol=1e-7)
    np.testing.assert_allclose(found["through"], [25 - 2.5 * np.log10(2), np.nan, np.nan, 105, np.nan, np.nan])
    np.testing.assert_allclose(found["extinct"], [17.18, np.nan, np.nan, np.nan, np.nan, 16.8], rtol=1e-7)


def test_names_match_exactly_then_without_case(tmp_path, table):
    table.rename(columns={"object_id": "# object_id", "ra": "RA", "mag": " MAG "}).to_csv(
        tmp_path / "a.csv", index=False
    )
    assert read(config(tmp_path / "a.csv", columns={"m": "mag"}))["m"].tolist() == table["mag"].tolist()


def test_a_csv_header_may_be_quoted(tmp_path):
    (tmp_path / "a.csv").write_text('\ufeff"object_id","ra, deg","dec","say ""g"""\n"7",1.5,-2.5,"a,b"\n')
    found = read(config(tmp_path / "a.csv", ra_column="ra, deg", columns={"g": 'say "g"'}))
    assert found.to_numpy().tolist() == [[7, 1.5, -2.5, "a,b"]]


def test_globs_folders_and_hats(tmp_path, table):
    for folder in ("hats/dataset/Norder=0/Dir=0", "hats/other"):
        (tmp_path / folder).mkdir(parents=True)
    table.iloc[:20].to_parquet(tmp_path / "hats/dataset/Norder=0/Dir=0/Npix=4.parquet")
    table.iloc[20:].to_parquet(tmp_path / "hats/dataset/Norder=0/Dir=0/Npix=11.parquet")
    table.to_parquet(tmp_path / "hats/dataset/data_thumbnail.parquet")
    table.to_parquet(tmp_path / "hats/dataset/_metadata")
    (tmp_path / "hats/hats.properties").write_text("")
    assert sorted(read(config(tmp_path / "hats"))["object_id"]) == table["object_id"].tolist()
    assert len(read(config(tmp_path / "hats/dataset/**/Npix=*.parquet"))) == 50
    table.to_csv(tmp_path / "odd[1].csv", index=False)
    both = Catalogue(files=[str(tmp_path / "odd[1].csv"), str(tmp_path / "*.csv")])
    assert len(read(both)) == 50, "a file is read once"


def test_only_the_columns_used_are_read(tmp_path, table):
    """A sweep has 130 columns. Here all that are not used cannot be read: text that is not ASCII, pages of noise."""
    used = {"object_id", "ra", "dec", "mag"}
    noise = np.random.default_rng(0).normal(size=(len(table), 130))
    wide = pd.concat([table, pd.DataFrame(noise).add_prefix("c")], axis=1)
    path = tmp_path / "wide.parquet"
    wide.to_parquet(path, row_group_size=16)
    meta = pq.read_metadata(path)
    spoilt = bytearray(path.read_bytes())
    for group in range(meta.num_row_groups):
        for j in range(meta.num_columns):
            chunk = meta.row_group(group).column(j)
            if chunk.path_in_schema not in used:
                start = chunk.dictionary_page_offset or chunk.data_page_offset
                spoilt[start : start + chunk.total_compressed_size] = bytes([255]) * chunk.total_compressed_size
    path.write_bytes(spoilt)
    columns = [fits.Column(n, "K" if n == "object_id" else "D", array=table[n].to_numpy()) for n in sorted(used)]
    columns += [fits.Column(f"C{i}", "4A", array=np.full(len(table), b"abcd")) for i in range(130)]
    columns.append(fits.Column("LAST", "PE()", array=np.array([np.ones(3)] * len(table), dtype=object)))
    fits_table(tmp_path / "wide.fits", *columns)
    spoilt = (tmp_path / "wide.fits").read_bytes()
    (tmp_path / "wide.fits").write_bytes(spoilt.replace(b"abcd", b"\xff\xfe\xfd\xfc"))
    for name, unused in (("wide.parquet", "c7"), ("wide.fits", "C7")):
        found = read(config(tmp_path / name, columns={"mag": "mag"}))
        pd.testing.assert_frame_equal(found, table[["object_id", "ra", "dec", "mag"]], obj=name)
        with pytest.raises(CatalogueError):
            read(config(tmp_path / name, columns={"mag": unused}))


def test_positions_in_radians(tmp_path):
    """As in the tables of Rubin's afw: coord_ra and coord_dec with TUNIT 'rad', and flags as bits."""
    fits_table(
        tmp_path / "src.fits",
        fits.Column("flags", "12X", array=np.zeros((3, 12), bool)),
        fits.Column("id", "K", array=np.arange(3)),
        fits.Column("coord_ra", "D", unit="rad", array=np.deg2rad([0.0, 150.1, np.nan])),
        fits.Column("coord_dec", "D", unit="rad", array=np.deg2rad([-89.0, 2.2, 0.0])),
        fits.Column("theta", "D", unit="rad", array=np.array([1.0, 2.0, 3.0])),
    )
    cfg = config(
        tmp_path / "src.fits", id_column="id", ra_column="coord_ra", dec_column="coord_dec", columns={"t": "theta"}
    )
    found = read(cfg)
    np.testing.assert_allclose(found["ra"], [0.0, 150.1, np.nan], rtol=1e-15)
    np.testing.assert_allclose(found["dec"], [-89.0, 2.2, 0.0], rtol=1e-15)
    assert found["t"].tolist() == [1.0, 2.0, 3.0], "only positions have a unit of their own here"


def test_hdu_by_name_or_number(tmp_path):
    columns = [fits.Column(n, "D", array=np.arange(2.0)) for n in ("RA", "DEC")] + [
        fits.Column("ID", "J", array=[1, 2])
    ]
    fits.HDUList(
        [fits.PrimaryHDU(), fits.ImageHDU(np.zeros((2, 2))), fits.BinTableHDU.from_columns(columns, name="SWEEP")]
    ).writeto(tmp_path / "a.fits")
    for hdu in (2, "SWEEP", "sweep"):
        assert len(read(config(tmp_path / "a.fits", hdu=hdu, id_column="id"))) == 2
    with pytest.raises(CatalogueError) as caught:
        survey(config(tmp_path / "a.fits", id_column="id"))
    assert str(caught.value) == f"catalogue.hdu: HDU 1 of {tmp_path}/a.fits is no binary table. Binary tables: 2."
    with pytest.raises(CatalogueError) as caught:
        survey(config(tmp_path / "a.fits", hdu="OBJECTS", id_column="id"))
    assert str(caught.value) == f"catalogue.hdu: {tmp_path}/a.fits has no HDU 'OBJECTS'. It has: 0, 1, 2 SWEEP."


def test_the_table_without_rows_has_the_types_of_the_table(tmp_path, table):
    Table.from_pandas(table).write(tmp_path / "a.fits")
    cfg = config(tmp_path / "a.fits", tile_column="kind", columns=COLUMNS, magnitudes={"m": Magnitude(flux="flux")})
    contents = survey(cfg)
    pd.testing.assert_series_equal(catalogue.empty(cfg, contents).dtypes, read(cfg).dtypes)
    assert list(read(cfg).columns) == ["object_id", "ra", "dec", "tile", "flux", "mag", "kind", "good", "m"]


@pytest.mark.parametrize("kind", ["fits", "fits.gz", "parquet", "csv"])
def test_selecting_rows_as_they_are_read_is_selecting_from_the_table(tmp_path, table, kind, monkeypatch):
    monkeypatch.setattr(catalogue.fits, "_BLOCK", 500)  # a few rows at a time
    path = tmp_path / f"a.{kind}"
    if kind == "parquet":
        table.to_parquet(path, row_group_size=7)
    elif kind == "csv":
        table.to_csv(path, index=False)
    else:
        Table.from_pandas(table).write(path)
    cfg = config(path, columns=COLUMNS, magnitudes={"m": Magnitude(flux="flux")}, missing=[99.0], rows_per_task=20)
    contents = survey(cfg)
    chosen = Selection(
        define={"twice": "2 * mag", "bright": "twice < 44", "colour": "m - mag"},
        cuts={"bright": "bright", "kind": "kind in ['DEV', 'SER']", "sky": "dec < 60"},
    )
    assert needed(chosen) == {"ra", "dec", "mag", "kind"}
    for piece in contents.slices:
        whole, flow = select(read_slice(piece, cfg, contents.types), chosen)
        found, same = select_rows(catalogue.read_rows(piece, cfg, contents.types), chosen)
        pd.testing.assert_frame_equal(found, whole)
        assert same == flow
    nothing = Selection(cuts={"none": "mag > 1000"}, keep=["colour"], define={"colour": "m - mag"})
    found, flow = select_rows(catalogue.read_rows(contents.slices[0], cfg, contents.types), nothing)
    assert flow.kept["none"] == 0 and list(found.columns) == ["object_id", "ra", "dec", "colour"] and found.empty
    every, flow = select_rows(catalogue.read_rows(contents.slices[0], cfg, contents.types), Selection())
    assert len(every) == flow.total == flow.selected


def test_columns_that_no_cut_needs_are_made_of_the_rows_that_pass_only(tmp_path, table, monkeypatch):
    Table.from_pandas(table).write(tmp_path / "a.fits")
    cfg = config(tmp_path / "a.fits", columns=COLUMNS)
    contents = survey(cfg)
    asked = {}
    plain = catalogue.fits.Block.read

    def noted(self, names, keep=None):
        found = plain(self, names, keep)
        asked.update({name: max(len(column.values), asked.get(name, 0)) for name, column in found.items()})
        return found

    monkeypatch.setattr(catalogue.fits.Block, "read", noted)
    rows = catalogue.read_rows(contents.slices[0], cfg, contents.types)
    flow = select_rows(rows, Selection(cuts={"faint": "mag > 24"}))[1]
    assert 0 < flow.selected < 50
    few = flow.selected
    assert asked == {"object_id": few, "ra": 50, "dec": 50, "flux": few, "mag": 50, "kind": few, "good": few}


def test_units_and_ucds_are_those_of_the_file(tmp_path):
    columns = [
        fits.Column("ID", "K", array=np.arange(3)),
        fits.Column("RA", "D", unit="deg", array=np.ones(3)),
        fits.Column("DEC", "D", unit="deg", array=np.ones(3)),
        fits.Column("FLUX", "E", unit="nanomaggy", array=np.ones(3)),
        fits.Column("R", "E", unit="arcsec", array=np.ones(3)),
        fits.Column("TYPE", "3A", array=["DEV"] * 3),
    ]
    table = fits.BinTableHDU.from_columns(columns)
    table.header["TUCD5"] = "phys.angSize"
    table.writeto(tmp_path / "a.fits")
    keys = {"columns": {"flux": "FLUX", "r": "R", "type": "TYPE"}, "magnitudes": {"m": Magnitude(flux="FLUX")}}
    expected = {"flux": ("nanomaggy", ""), "r": ("arcsec", "phys.angSize"), "m": ("mag", "phot.mag")}
    assert survey(config(tmp_path / "a.fits", id_column="ID", **keys)).described == expected

    values = {
        "ID": np.arange(3),
        "RA": np.ones(3),
        "DEC": np.ones(3),
        "FLUX": np.ones(3),
        "R": np.ones(3),
        "TYPE": ["a"] * 3,
    }
    arrow = pa.table(values)
    facts = {"FLUX": {"unit": "nanomaggy"}, "R": {"unit": "arcsec", "ucd": "phys.angSize"}}
    fields = [field.with_metadata(facts.get(field.name)) for field in arrow.schema]
    pq.write_table(arrow.cast(pa.schema(fields)), tmp_path / "a.parquet")
    assert survey(config(tmp_path / "a.parquet", id_column="ID", **keys)).described == expected
    as_astropy = Table(values)
    as_astropy["FLUX"].unit, as_astropy["R"].unit = "mJy", "arcsec"
    as_astropy.write(tmp_path / "b.parquet")
    plain = {"flux": ("mJy", ""), "r": ("arcsec", ""), "m": ("mag", "phot.mag")}
    assert survey(config(tmp_path / "b.parquet", id_column="ID", **keys)).described == plain
    both = Catalogue(files=[f"{tmp_path}/a.parquet", f"{tmp_path}/b.parquet"], id_column="ID", **keys)
    assert survey(both).described == {"m": ("mag", "phot.mag")}, "files that say different things say nothing"
    assert survey(config(tmp_path / "a.parquet", id_column="ID", columns={"type": "TYPE"})).described == {}


# ---- messages


def message(call, *arguments) -> str:
    with pytest.raises(CatalogueError) as caught:
        call(*arguments)
    return str(caught.value)


def test_messages_about_files(tmp_path, table):
    for name in ("b.csv", "a.csv"):
        table.to_csv(tmp_path / name, index=False)
    assert message(survey, config(tmp_path / "none" / "sweep-*.fits")) == (
        f"catalogue.files: no file matches '{tmp_path}/none/sweep-*.fits'. Looked in {tmp_path}, which holds a.csv, "
        "b.csv."
    )
    (tmp_path / "empty").mkdir()
    assert message(survey, config(tmp_path / "empty" / "*.fits")) == (
        f"catalogue.files: no file matches '{tmp_path}/empty/*.fits'. Looked in {tmp_path}/empty, which holds nothing."
    )
    assert message(survey, config(tmp_path / "empty")) == (
        f"catalogue.files: folder {tmp_path}/empty holds no Parquet files. Name the files in it."
    )
    (tmp_path / "a.txt").write_text("")
    assert message(survey, config(tmp_path / "a.txt")) == (
        f"catalogue.files: {tmp_path}/a.txt is of no kind that is read. "
        "Kinds are: .fits, .fits.gz, .fit, .parquet, .pq, .csv."
    )
    (tmp_path / "bad.fits").write_text("no FITS" * 1000)
    assert message(survey, config(tmp_path / "bad.fits")).startswith(
        f"catalogue.files: {tmp_path}/bad.fits cannot be read as FITS ("
    )
    (tmp_path / "bad.parquet").write_text("no Parquet")
    assert message(survey, config(tmp_path / "bad.parquet")).startswith(
        f"catalogue.files: {tmp_path}/bad.parquet cannot be read as Parquet ("
    )
    (tmp_path / "twice.csv").write_text("a,b,a\n1,2,3\n")
    assert message(survey, config(tmp_path / "twice.csv")) == (
        f"catalogue.files: the header line of {tmp_path}/twice.csv is empty or names 'a' twice. Name each column once."
    )
    (tmp_path / "norows.csv").write_text("object_id,ra,dec\n")
    assert message(survey, config(tmp_path / "norows.csv")) == (
        f"catalogue.files: there are no rows in {tmp_path}/norows.csv. Name files that have some."
    )


def test_messages_about_columns(tmp_path, table):
    path = tmp_path / "a.csv"
    table.assign(RA=1.0, FLUX=1.0).drop(columns="ra").to_csv(path, index=False)
    has = "It has: object_id, dec, flux, mag, kind, good, RA, FLUX."
    assert message(survey, config(path, columns={"g": "magn"})) == (
        f"catalogue.columns.g: {path} has no column 'magn'. Did you mean 'mag'? {has}"
    )
    assert message(survey, config(path, magnitudes={"g": Magnitude(flux="zzz")})) == (
        f"catalogue.magnitudes.g.flux: {path} has no column 'zzz'. {has}"
    )
    assert message(survey, config(path, columns={"f": "Flux"})) == (
        f"catalogue.columns.f: {path}: 'Flux' may be 'flux' or 'FLUX'. Write it as in the file."
    )
    assert message(survey, config(path, magnitudes={"g": Magnitude(flux="kind")})) == (
        f"catalogue.magnitudes.g.flux: column 'kind' of {path} holds texts where numbers are needed."
    )
    assert message(survey, config(path, id_column="mag")) == (
        f"catalogue.id_column: column 'mag' of {path} is float64. An identifier is a whole number or a text."
    )


def test_messages_about_vectors(tmp_path):
    path = tmp_path / "a.fits"
    fits_table(
        path,
        fits.Column("ID", "J", array=[1]),
        fits.Column("RA", "D", array=[1.0]),
        fits.Column("DEC", "D", array=[1.0]),
        fits.Column("FLUX", "6E", array=np.zeros((1, 6))),
        fits.Column("BITS", "8X", array=np.ones((1, 8), bool)),
        fits.Column("LIST", "PE()", array=np.array([np.array([1.0, 2.0])], dtype=object)),
    )
    for name, problem in {
        "FLUX": "column 'FLUX' has 6 elements a row. Write one of FLUX[0] to FLUX[5].",
        "FLUX[6]": "column 'FLUX' has 6 elements; 'FLUX[6]' is not one of them.",
        "BITS": "column 'BITS' is of FITS format 8X, which is not read. Use another column.",
        "LIST": "column 'LIST' is of FITS format PE(2), which is not read. Use another column.",
    }.items():
        text = message(survey, config(path, id_column="ID", columns={"f": name}))
        assert text == f"catalogue.columns.f: {path}: {problem}"


def test_all_files_need_the_columns(tmp_path, table):
    table.to_parquet(tmp_path / "a.parquet")
    table.drop(columns="mag").to_parquet(tmp_path / "b.parquet")
    assert message(survey, config(tmp_path / "*.parquet", columns={"m": "mag"})) == (
        f"catalogue.columns.m: {tmp_path}/b.parquet has no column 'mag'. It has: object_id, ra, dec, flux, kind, good."
    )
    table.assign(mag="x").to_parquet(tmp_path / "b.parquet")
    assert message(survey, config(tmp_path / "*.parquet", columns={"m": "mag"})) == (
        f"catalogue.columns.m: the column is float64 in {tmp_path}/a.parquet but str in {tmp_path}/b.parquet. "
        "Make the files agree."
    )


def test_rows_without_identifier_are_refused(tmp_path):
    fits_table(
        tmp_path / "a.fits",
        fits.Column("ID", "J", array=[1, -1, 3, -1], null=-1),
        fits.Column("RA", "D", array=np.zeros(4)),
        fits.Column("DEC", "D", array=np.zeros(4)),
    )
    cfg = config(tmp_path / "a.fits", id_column="ID")
    contents = survey(cfg)
    assert contents.types["ID"] == "int64", "TNULL alone is no reason for decimal identifiers"
    assert message(read_slice, contents.slices[0], cfg, contents.types) == (
        f"catalogue.id_column: 2 rows of {tmp_path}/a.fits have no 'ID'. Every object needs an identifier: name "
        "another column, or remove those rows."
    )


def test_numbers_may_name_tiles(tmp_path):
    (tmp_path / "a.csv").write_text("object_id,ra,dec,tract\n1,1,1,8279\n2,1,1,\n3,1,1,9813\n")
    fits_table(
        tmp_path / "a.fits",
        fits.Column("object_id", "J", array=[1, 2, 3]),
        fits.Column("RA", "D", array=np.ones(3)),
        fits.Column("DEC", "D", array=np.ones(3)),
        fits.Column("TRACT", "J", array=[8279, -1, 9813], null=-1),
    )
    for name in ("a.csv", "a.fits"):
        assert read(config(tmp_path / name, tile_column="tract"))["tile"].tolist() == ["8279", "", "9813"]
    assert message(survey, config(tmp_path / "a.fits", tile_column="RA")) == (
        f"catalogue.tile_column: column 'RA' of {tmp_path}/a.fits is float64. "
        "A tile's name is a whole number or a text."
    )


@pytest.mark.parametrize(
    ("last", "kind"), [("7", "int64"), ("-7", "int64"), (f"{2**64 - 1}", "uint64"), ("12a", "str"), ("", "str")]
)
def test_csv_identifiers_are_looked_at_to_the_end(tmp_path, last, kind):
    (tmp_path / "a.csv").write_text("object_id,ra,dec\n" + "1,2.5,3.5\n" * 200_000 + f"{last},2.5,3.5\n")
    cfg = config(tmp_path / "a.csv")
    contents = survey(cfg)
    assert contents.types["object_id"] == (kind if last else "int64")
    if last:
        assert read(cfg)["object_id"].astype(str).iloc[-1] == last
    else:
        assert "1 rows of" in message(read, cfg)


def test_a_csv_value_of_another_type_is_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("object_id,ra,dec\n" + "1,2.5,3.5\n" * 200_000 + "1,x1,3.5\n")
    cfg = config(path)
    contents = survey(cfg)
    text = message(read_slice, contents.slices[-1], cfg, contents.types)
    assert text.startswith(f"catalogue.files: {path} cannot be read (")
    assert "'x1'" in text
    assert text.endswith("A column's type is told from the first rows: mend the file, or write it as Parquet.")


def test_a_truncated_fits_file_is_refused(tmp_path, table):
    Table.from_pandas(table).write(tmp_path / "a.fits")
    whole = (tmp_path / "a.fits").read_bytes()
    cfg = config(tmp_path / "a.fits")
    contents = survey(cfg)
    (tmp_path / "a.fits").write_bytes(whole[:5760])
    text = message(read_slice, contents.slices[0], cfg, contents.types)
    assert text.startswith(f"catalogue.files: {tmp_path}/a.fits cannot be read")
    assert text.endswith("Fetch it again.")


# ---- real catalogues


def test_des_y6_like(survey_data):
    cfg = config(
        survey_data / "des/catalogue_y6like/valid.fits",
        id_column="COADD_OBJECT_ID",
        columns={"mag_g": "MAG_G", "mag_r": "MAG_R", "mag_i": "MAG_I", "spread": "SPREAD_MODEL_I"},
        missing=[-9999.0, -9.999e9],
        rows_per_task=7000,
    )
    found = read(cfg)
    assert len(found) == 30_000
    assert found["mag_g"].isna().sum() == found["mag_i"].isna().sum() == 46
    chosen = Selection(
        define={"g_r": "mag_g - mag_r"},
        cuts={"red": "1.0 < g_r < 2.2", "bright": "18 < mag_i < 21", "galaxy": "spread > 0.005"},
    )
    assert len(select(found, chosen)[0]) == 7251


@pytest.mark.parametrize(
    ("path", "ids", "rows", "magnitudes"),
    [
        ("dr2_2015/sweep-320m005-330p000.fits", ["BRICKID", "OBJID"], 6, ("DECAM_FLUX[2]", "DECAM_MW_TRANSMISSION[2]")),
        ("dr2_2015/tractor-3303p000.fits", ["brickid", "objid"], None, ("decam_flux[2]", "decam_mw_transmission[2]")),
        ("dr3_2017_vector/*.fits", ["BRICKID", "OBJID"], 169, ("DECAM_FLUX[2]", "DECAM_MW_TRANSMISSION[2]")),
        ("dr3_2017_scalar/*.fits", ["BRICKID", "OBJID"], None, ("FLUX_R", "MW_TRANSMISSION_R")),
        ("dr8_2020/sweep-*.fits", ["RELEASE", "BRICKID", "OBJID"], None, ("FLUX_R", "MW_TRANSMISSION_R")),
        ("dr8_2020/tractor-*.fits", ["release", "brickid", "objid"], None, ("flux_r", "mw_transmission_r")),
        (
            "../pipeline_bricks/sweep-like_all_bricks.fits",
            ["RELEASE", "BRICKID", "OBJID"],
            38,
            ("FLUX_R", "MW_TRANSMISSION_R"),
        ),
    ],
)
def test_legacy_surveys_of_all_eras(survey_data, path, ids, rows, magnitudes):
    flux, transmission = magnitudes
    cfg = config(
        survey_data / "legacysurvey/sweeps_schema_history" / path,
        id_column=ids,
        columns={"kind": "TYPE", "brick": "BRICKNAME"},
        magnitudes={"mag_r": Magnitude(flux=flux, transmission=transmission)},
        rows_per_task=5,
    )
    found = read(cfg)
    assert rows is None or len(found) == rows
    assert found["object_id"].is_unique
    assert set(found["kind"]) <= {"PSF", "REX", "EXP", "DEV", "COMP", "SER", "SIMP", "DUP", "S", "P", "E", "D", "C"}
    assert found["brick"].str.fullmatch(r"\d{4}[pm]\d{3}").all()
    name, _, element = flux.rstrip("]").partition("[")
    values, through = [], []
    for file in catalogue.find_files(cfg.files):
        data = fits.getdata(file, 1)
        for out, key in ((values, name), (through, transmission.split("[")[0])):
            out.append(data[key][:, int(element)] if element else data[key])
    ratio = np.concatenate(values).astype(float) / np.concatenate(through)
    expected = np.full(len(ratio), np.nan)
    expected[ratio > 0] = 22.5 - 2.5 * np.log10(ratio[ratio > 0])
    np.testing.assert_allclose(found["mag_r"], expected, rtol=1e-6)


def test_an_unsigned_shifted_byte_column_of_a_real_sweep(survey_data):
    path = survey_data / "legacysurvey/sweeps_schema_history/dr8_2020/sweep-310m005-320p000.fits"
    name = fits.getheader(path, 1)["TTYPE89"]
    found = read(config(path, id_column=["RELEASE", "BRICKID", "OBJID"], columns={"c": name}))
    assert found["c"].tolist() == fits.getdata(path, 1)[name].astype(int).tolist()


def test_hsc(survey_data):
    path = survey_data / "hsc/das_cutout_gri/fithsc_src.csv"
    found = read(config(path, columns={"mag_i": "i_cmodel_mag"}, rows_per_task=10))
    assert len(found) == 92
    assert found["mag_i"].isna().sum() == 42
    assert found["object_id"].iloc[0] == 42305088563206490
    stars = survey_data / "hsc/hyrax_stars"
    same = []
    for name in ("star_cat_correct.fits", "star_cat_correct.csv", "star_cat_correct.astropy.csv"):
        columns = {"psf": "imag_psf", "flag": "iflux_psf_flags", "file": "star_filename"}
        same.append(read(config(stars / name, ra_column="ira", dec_column="idec", columns=columns)))
    for other in same[1:]:
        pd.testing.assert_frame_equal(other, same[0])


def test_kids(survey_data):
    folder = survey_data / "kids/grafted_tile"
    found = []
    for name in ("KiDS_GRAFT_135.0_-0.5_ugriZYJHKs_cat.fits", "KiDS_GRAFT_135.0_-0.5_ugriZYJHKs_cat.parquet"):
        cfg = config(
            folder / name,
            id_column="ID",
            ra_column="RAJ2000",
            dec_column="DECJ2000",
            columns={"u": "MAG_GAAP_u", "r": "MAG_GAAP_r"},
            missing=[99.0],
        )
        found.append(read(cfg))
    pd.testing.assert_frame_equal(found[0], found[1])
    assert len(found[0]) == 2737
    raw = fitsio.read(folder / "KiDS_GRAFT_135.0_-0.5_ugriZYJHKs_cat.fits", columns=["MAG_GAAP_u"], ext=1)["MAG_GAAP_u"]
    assert found[0]["u"].isna().sum() == (raw == 99).sum() > 0


def test_tables_of_lens_searches(survey_data):
    found = read(
        config(survey_data / "lenses/sdss_lrg_ps1_batch_5.csv", id_column="specobjid", columns={"g": "ps1_g_mag"})
    )
    assert len(found) == 10_000
    assert found["object_id"].iloc[0] == 4515098409733216256
    assert found["g"].isna().any()
    cfg = config(
        survey_data / "lenses/lenscat_catalog.csv", id_column="name", ra_column="RA [deg]", dec_column="dec [DEG]"
    )
    assert len(read(cfg)) == 32_838
    cfg = config(
        survey_data / "rubin/dp0_object_catalog.csv",
        id_column="mt_match_objectId",
        ra_column="obj_coord_ra",
        dec_column="obj_coord_dec",
        magnitudes={"mag_r": Magnitude(flux="obj_r_cModelFlux", zero_point=31.4)},
        columns={"bad": "obj_r_cModel_flag"},
    )
    found = read(cfg)
    assert found["object_id"].iloc[0] == 1250558137153384253
    assert found["bad"].dtype == bool
    assert found["mag_r"].between(14, 35).mean() > 0.9


LACKS = """\
catalogue: DATA/dr2_2015/sweep-320m005-330p000.fits lacks 11 of the 18 columns that the configuration names:
  RELEASE (catalogue.id_column): it has nothing like it
  NOBS_G (catalogue.columns.nobs_g): it has DECAM_NOBS[1]
  NOBS_R (catalogue.columns.nobs_r): it has DECAM_NOBS[2]
  NOBS_Z (catalogue.columns.nobs_z): it has DECAM_NOBS[4]
  MASKBITS (catalogue.columns.maskbits): it has nothing like it
  FLUX_G (catalogue.magnitudes.mag_g.flux): it has DECAM_FLUX[1]
  MW_TRANSMISSION_G (catalogue.magnitudes.mag_g.transmission): it has DECAM_MW_TRANSMISSION[1]
  FLUX_R (catalogue.magnitudes.mag_r.flux): it has DECAM_FLUX[2]
  MW_TRANSMISSION_R (catalogue.magnitudes.mag_r.transmission): it has DECAM_MW_TRANSMISSION[2]
  FLUX_Z (catalogue.magnitudes.mag_z.flux): it has DECAM_FLUX[4]
  MW_TRANSMISSION_Z (catalogue.magnitudes.mag_z.transmission): it has DECAM_MW_TRANSMISSION[4]
It has: BRICK_PRIMARY, BRICKID, BRICKNAME, OBJID, TYPE, RA, RA_IVAR, DEC, DEC_IVAR, DECAM_FLUX, DECAM_FLUX_IVAR, \
DECAM_MW_TRANSMISSION, DECAM_NOBS, DECAM_RCHI2, DECAM_PSFSIZE, DECAM_FRACFLUX, DECAM_FRACMASKED, DECAM_FRACIN, OUT_OF_BOUNDS, \
DECAM_ANYMASK and 13 more.
There is no preset whose columns it all has.
Name what it has under catalogue; a column that it lacks is left out by null, and a cut on it too."""


def test_columns_of_another_release(survey_data):
    eras = survey_data / "legacysurvey/sweeps_schema_history"

    def of_preset(name: str, files: str) -> Catalogue:
        preset = presets.survey(name).catalogue
        magnitudes = {own: Magnitude(**parts) for own, parts in preset["magnitudes"].items()}
        return Catalogue(**preset | {"files": [str(eras / files)], "magnitudes": magnitudes})

    text = message(survey, of_preset("legacy-dr9-south", "dr2_2015/sweep-*.fits"))
    assert text.replace(str(eras), "DATA") == LACKS
    text = message(survey, of_preset("legacy-dr10-south", "dr8_2020/sweep-310m005-320p000.fits")).splitlines()
    assert text[1:4] == [
        "  NOBS_I (catalogue.columns.nobs_i): it has nothing like it",
        "  FLUX_I (catalogue.magnitudes.mag_i.flux): it has nothing like it",
        "  MW_TRANSMISSION_I (catalogue.magnitudes.mag_i.transmission): it has nothing like it",
    ]
    assert text[5] == "Presets whose columns it all has: legacy-dr9-north, legacy-dr9-south, legacy-dr9-viewer."
    assert survey(of_preset("legacy-dr9-south", "dr8_2020/sweep-310m005-320p000.fits")).rows == 6


def test_rubin_objects_and_euclid_mer(tmp_path):
    """Columns as the surveys name them; their numbers are made up, and only what is used is read."""
    n = 200
    rubin = {
        "objectId": np.arange(n) + 2**60,
        "coord_ra": np.linspace(50, 54, n),
        "coord_dec": np.linspace(-29, -27, n),
    }
    rubin |= {f"{b}_cModelFlux": np.full(n, 3631.0) for b in "ugrizy"} | {"refExtendedness": np.ones(n)}
    rubin |= {
        f"{b}_{what}_flag": np.zeros(n, bool) for b in "ugrizy" for what in ("cModel", "psfFlux", "blendedness", "kron")
    }
    Table(rubin).write(tmp_path / "objectTable_tract_5063.parquet")
    keys = {
        "id_column": "objectId",
        "ra_column": "coord_ra",
        "dec_column": "coord_dec",
        "columns": {"ext": "refExtendedness"},
    }
    njy = Magnitude(flux="i_cModelFlux", zero_point=31.4)  # nanojansky
    found = read(config(tmp_path / "objectTable_tract_5063.parquet", **keys, magnitudes={"mag_i": njy}))
    assert found["object_id"].tolist() == rubin["objectId"].tolist()
    np.testing.assert_allclose(found["mag_i"], 31.4 - 2.5 * np.log10(3631.0))

    fits_table(
        tmp_path / "EUC_MER_FINAL-CAT.fits",
        fits.Column("OBJECT_ID", "K", array=np.array([-598675480504562, 2744101126664938])),
        fits.Column("RIGHT_ASCENSION", "D", unit="deg", array=np.array([59.8675, 274.4101])),
        fits.Column("DECLINATION", "D", unit="deg", array=np.array([-50.4562, 66.4938])),
        fits.Column("FLUX_VIS_2FWHM_APER", "E", unit="uJy", array=np.array([3.631, np.nan])),
        fits.Column("SPURIOUS_FLAG", "I", array=np.array([0, 1])),
        fits.Column("DET_QUALITY_FLAG", "J", array=np.array([0, 512])),
    )
    keys = {"id_column": "OBJECT_ID", "ra_column": "RIGHT_ASCENSION", "dec_column": "DECLINATION"}
    keys |= {"columns": {"spurious": "SPURIOUS_FLAG"}}
    ujy = Magnitude(flux="FLUX_VIS_2FWHM_APER", zero_point=23.9)  # microjansky
    found = read(config(tmp_path / "EUC_MER_FINAL-CAT.fits", **keys, magnitudes={"mag_vis": ujy}))
    assert found["object_id"].tolist() == [-598675480504562, 2744101126664938]
    np.testing.assert_allclose(found["mag_vis"], [22.5, np.nan], rtol=1e-5)
