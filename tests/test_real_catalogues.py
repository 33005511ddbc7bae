"""Every real catalogue file at hand: how many rows, how much is missing, and what all of it comes to."""

from pathlib import Path
from typing import Any

import fitsio
import pandas as pd
import pytest

from survey_scan import catalogue
from survey_scan.config import Catalogue
from survey_scan.errors import CatalogueError
from survey_scan.plan import targets_digest


def magnitudes(flux: str, transmission: str, names: dict[str, str]) -> dict[str, dict[str, str]]:
    return {f"mag_{b}": {"flux": flux.format(n), "transmission": transmission.format(n)} for b, n in names.items()}


VECTOR = magnitudes("DECAM_FLUX[{}]", "DECAM_MW_TRANSMISSION[{}]", {"g": "1", "r": "2", "z": "4"})
SCALAR = magnitudes("FLUX_{}", "MW_TRANSMISSION_{}", {"g": "G", "r": "R", "z": "Z"})
#: Before DR3's scalar sweeps an identifier has no release.
OLD = {"id_column": ["BRICKID", "OBJID"], "columns": {"type": "TYPE", "brick": "BRICKNAME"}, "magnitudes": VECTOR}
NEW = {
    "id_column": ["RELEASE", "BRICKID", "OBJID"], "columns": {"type": "TYPE"}, "tile_column": "BRICKNAME",
    "magnitudes": SCALAR,
}  # fmt: skip
DES = {
    "id_column": "COADD_OBJECT_ID", "tile_column": "TILENAME", "columns": {"mag_g": "MAG_AUTO_G", "mag_i": "MAG_AUTO_I"},
    "missing": [99.0],
}  # fmt: skip
KIDS = {
    "id_column": "ID", "ra_column": "RAJ2000", "dec_column": "DECJ2000",
    "columns": {f"mag_{b}": f"MAG_GAAP_{b}" for b in ("u", "g", "r", "i", "Ks")}, "missing": [99.0],
}  # fmt: skip
STARS = {"ra_column": "ira", "dec_column": "idec", "columns": {"mag": "imag_psf", "flag": "iflux_psf_flags"}}
Y6 = {
    "id_column": "COADD_OBJECT_ID", "columns": {f"mag_{b}": f"MAG_{b.upper()}" for b in "griz"} | {"s": "SPREAD_MODEL_I"},
    "missing": [-9999.0, -9.999e9],
}  # fmt: skip
FINALCUT = {
    "hdu": "LDAC_OBJECTS", "id_column": "NUMBER", "ra_column": "ALPHAWIN_J2000", "dec_column": "DELTAWIN_J2000",
    "columns": {"mag": "MAG_AUTO", "aper": "MAG_APER[3]"}, "missing": [99.0],
}  # fmt: skip
SDSS = {
    "id_column": "specobjid", "columns": {"g": "g", "ps1": "ps1_g_mag", "colour": "color_name", "value": "color_value"},
}  # fmt: skip
DP0 = {
    "id_column": "mt_match_objectId", "ra_column": "obj_coord_ra", "dec_column": "obj_coord_dec",
    "columns": {"ext": "obj_refExtendedness", "band": "obj_refband", "flag": "obj_r_cModel_flag"},
    "magnitudes": {"mag_r": {"flux": "obj_r_cModelFlux", "zero_point": 31.4}},
}  # fmt: skip
LENSCAT = {"id_column": "name", "ra_column": "RA [deg]", "dec_column": "DEC [deg]", "columns": {"z": "zlens"}}
ERAS = "legacysurvey/sweeps_schema_history/"
CANDELS = "cosmos_galaxies/real_galaxy_catalog_26_extension_example.fits"

#: Files and section of the configuration.
SECTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "DR2 sweep": (ERAS + "dr2_2015/sweep-*.fits", OLD),
    "DR2 tractor": (ERAS + "dr2_2015/tractor-*.fits", OLD),
    "DR3 vectors": (ERAS + "dr3_2017_vector/*.fits", OLD),
    "DR3 scalars": (ERAS + "dr3_2017_scalar/*.fits", NEW),
    "DR8 sweeps": (ERAS + "dr8_2020/sweep-*.fits", NEW),
    "DR8 tractor": (ERAS + "dr8_2020/tractor-*.fits", NEW),
    "DR9-like sweep": ("legacysurvey/pipeline_bricks/sweep-like_all_bricks.fits", NEW),
    "tractor": ("legacysurvey/pipeline_bricks/tractor/*/*.fits", NEW),
    "tractor-i": ("legacysurvey/pipeline_bricks/tractor-i/*/*.fits", {"id_column": ["brickid", "objid"]}),
    "DES Y6-like": ("des/catalogue_y6like/valid.fits", Y6),
    "DES DR2-like": ("des/des_like_tile/*_main_like.fits", DES),
    "DES DR2-like CSV": ("des/des_like_tile/*_main_like.csv", DES),
    "DES finalcut": ("des/finalcut_TPV/*-fullcat.fits", FINALCUT),
    "KiDS": ("kids/grafted_tile/*_cat.fits", KIDS),
    "KiDS Parquet": ("kids/grafted_tile/*_cat.parquet", KIDS),
    "HSC": ("hsc/das_cutout_gri/fithsc_src.csv", {"columns": {"i": "i_cmodel_mag", "g": "g_psfflux_mag"}}),
    "HSC stars": ("hsc/hyrax_stars/star_cat_correct.fits", STARS),
    "HSC stars Parquet": ("hsc/hyrax_stars/star_cat_correct.pq", STARS),
    "HSC stars CSV": ("hsc/hyrax_stars/star_cat_correct.csv", STARS),
    "HSC stars astropy CSV": ("hsc/hyrax_stars/star_cat_correct.astropy.csv", STARS),
    "SDSS LRGs": ("lenses/sdss_lrg_ps1_batch_5.csv", SDSS),
    "Rubin DP0": ("rubin/dp0_object_catalog.csv", DP0),
    "lenscat": ("lenses/lenscat_catalog.csv", LENSCAT),
    "DESI lenses": ("lenses/desi_huang_storfer_candidates.csv", {"id_column": "name", "columns": {"z": "zlens"}}),
    "COSMOS": (CANDELS, {"id_column": "IDENT", "columns": {"mag": "MAG", "file": "GAL_FILENAME"}}),
    "Rubin galaxies": (
        "cosmos_galaxies/sample_input_catalog.fits",
        {"id_column": "galtileid", "columns": {"r": "r_ab"}},
    ),
}

#: Rows, missing values by column, digest: as astropy, pandas and the surveys' own descriptions have them.
EXPECTED: dict[str, tuple[int, dict[str, int], str]] = {
    "DR2 sweep": (6, {}, "274d556cc4f829dd"),
    "DR2 tractor": (6, {}, "43e0efe9db9e34b6"),
    "DR3 vectors": (169, {"mag_g": 100, "mag_r": 46}, "43249b6c757f233d"),
    "DR3 scalars": (169, {"mag_g": 100, "mag_r": 46}, "8a72201122e3a400"),
    "DR8 sweeps": (18, {}, "0f16674f416b3c57"),
    "DR8 tractor": (18, {}, "15729c459cadebbd"),
    "DR9-like sweep": (38, {"mag_g": 2, "mag_r": 2}, "f41ae98fc05c6655"),
    "tractor": (38, {"mag_g": 2, "mag_r": 2}, "f41ae98fc05c6655"),
    "tractor-i": (38, {}, "f6092bb78564caaf"),
    "DES Y6-like": (30000, {"mag_g": 46, "mag_r": 46, "mag_i": 46, "mag_z": 46}, "37c71d9d1d357928"),
    "DES DR2-like": (1253, {"mag_g": 7, "mag_i": 25}, "3e3eeeeb73fe4de3"),
    "DES DR2-like CSV": (1253, {"mag_g": 7, "mag_i": 25}, "caa3a980d8d147cc"),
    "DES finalcut": (2469, {"mag": 3}, "1221fdba34c0c3b7"),
    "KiDS": (2737, {"mag_u": 351, "mag_g": 16, "mag_i": 52, "mag_Ks": 252}, "8fca165358bcf5c8"),
    "KiDS Parquet": (2737, {"mag_u": 351, "mag_g": 16, "mag_i": 52, "mag_Ks": 252}, "8fca165358bcf5c8"),
    "HSC": (92, {"i": 42, "g": 1}, "6f2ed34d04e57d9d"),
    "HSC stars": (10, {}, "9b403d9600460792"),
    "HSC stars Parquet": (10, {}, "9b403d9600460792"),
    "HSC stars CSV": (10, {}, "9b403d9600460792"),
    "HSC stars astropy CSV": (10, {}, "9b403d9600460792"),
    "SDSS LRGs": (10000, {"ps1": 4696, "colour": 2107, "value": 2107}, "4bbb4bbe4ee6a9f1"),
    "Rubin DP0": (50, {}, "38f3e44771f2935b"),
    "lenscat": (32838, {}, "1291def5c8f36658"),
    "DESI lenses": (5104, {"z": 299}, "412f68d17fefbbe0"),
    "COSMOS": (100, {}, "666c0909986f5787"),
    "Rubin galaxies": (100, {}, "821dffe518214055"),
}

#: Tables that are no catalogues of objects (with identifiers and positions): exposures, bricks, stamps.
NO_CATALOGUES = [
    "legacysurvey/pipeline_bricks/coadd/*/*/*-ccds.fits",
    "legacysurvey/*/survey-bricks*.fits.gz",
    "cosmos_galaxies/real_galaxy_catalog_26_extension_example_fits.fits",
    "des/finalcut_TPV/*_piff.fits",
    "rubin/dp0_image_stack.fits",
]
#: Catalogues in formats that are not read.
OTHER_FORMATS = [
    "hsc/hyrax_stars/star_cat_correct.votable",
    "lenses/spacewarps_candidates_catalog.txt",
    "lenses/ssl_training_lenses.tsv",
    "rubin/dc2_training_9816.hdf5",
]


def read(folder: Path, name: str) -> tuple[pd.DataFrame, catalogue.Contents]:
    files, section = SECTIONS[name]
    config = Catalogue.model_validate(section | {"files": [str(folder / files)], "rows_per_task": 700})
    contents = catalogue.survey(config)
    pieces = [catalogue.read_slice(piece, config, contents.types) for piece in contents.slices]
    return pd.concat(pieces, ignore_index=True), contents


def missing(table: pd.DataFrame) -> dict[str, int]:
    """How many values are missing, of columns that lack any."""
    counts = {n: int(c.isna().sum() if c.dtype.kind == "f" else (c == "").sum()) for n, c in table.items()}
    return {name: count for name, count in counts.items() if count}


def digest(table: pd.DataFrame) -> str:
    """Of all values, but for the last digits of magnitudes, in which mathematical libraries differ."""
    near = [n for n, c in table.items() if c.dtype.kind == "f" and n not in ("ra", "dec")]
    return targets_digest(table.round(dict.fromkeys(near, 6)))


@pytest.mark.parametrize("name", SECTIONS)
def test_golden(survey_data, name):
    table, contents = read(survey_data, name)
    assert contents.rows in (None, len(table))
    assert table["object_id"].is_unique == (name != "lenscat")  # which names some lenses twice
    assert table["ra"].between(0, 360).all() and table["dec"].between(-90, 90).all()
    assert (len(table), missing(table), digest(table)) == EXPECTED[name]


def test_one_catalogue_in_several_forms(survey_data):
    """The same objects as DR3 vectors and scalars, sweep and tractor files, FITS, Parquet and CSV."""
    for one, other, columns in (
        ("DR3 vectors", "DR3 scalars", ["ra", "dec", "type", "mag_g", "mag_r", "mag_z"]),
        ("DR9-like sweep", "tractor", None),
        ("KiDS", "KiDS Parquet", None),
        ("HSC stars", "HSC stars Parquet", None),
        ("HSC stars", "HSC stars CSV", None),
        ("HSC stars", "HSC stars astropy CSV", None),
    ):
        left, right = read(survey_data, one)[0], read(survey_data, other)[0]
        pd.testing.assert_frame_equal(
            left if columns is None else left[columns], right if columns is None else right[columns]
        )
    left, right = read(survey_data, "DES DR2-like")[0], read(survey_data, "DES DR2-like CSV")[0]
    pd.testing.assert_frame_equal(left, right.astype(left.dtypes))  # a CSV file does not say that its numbers are short


def test_identifiers_are_exact(survey_data):
    assert read(survey_data, "SDSS LRGs")[0]["object_id"].dtype == "uint64"
    assert read(survey_data, "SDSS LRGs")[0]["object_id"].iloc[0] == 4515098409733216256
    assert read(survey_data, "HSC")[0]["object_id"].iloc[0] == 42305088563206490
    assert read(survey_data, "DR9-like sweep")[0]["object_id"].iloc[0] == "9999-350562-0"


@pytest.mark.parametrize("path", OTHER_FORMATS)
def test_other_formats_are_refused(survey_data, path):
    with pytest.raises(CatalogueError, match="is of no kind that is read"):
        catalogue.survey(Catalogue(files=[str(survey_data / path)]))


def test_no_catalogue_is_left_out(survey_data):
    patterns = [files for files, _ in SECTIONS.values()] + NO_CATALOGUES + OTHER_FORMATS
    looked_at = {path for pattern in patterns for path in survey_data.glob(pattern)}
    assert not tables(survey_data) - looked_at


def tables(folder: Path) -> set[Path]:
    """All files of the folder that hold tables."""
    found = {
        path for suffix in ("csv", "parquet", "pq", "tsv", "votable", "hdf5") for path in folder.rglob(f"*/*.{suffix}")
    }
    for path in [*folder.rglob("*.fits"), *folder.rglob("*.fits.gz")]:
        with fitsio.FITS(path) as file:
            if any(hdu.get_exttype() == "BINARY_TBL" for hdu in file):
                found.add(path)
    return found
