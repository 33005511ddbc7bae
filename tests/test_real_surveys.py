"""Real survey files, scanned end to end by the command line; each stored cutout against ``Cutout2D``."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from astropy.io import fits
from astropy.wcs import WCS
from click.testing import CliRunner
from small_tiles import reference

from survey_scan.cli import main
from survey_scan.schema import Status

DES = {
    "catalogue": {
        "files": "DES0900-0030_dr2_main_like.fits", "id_column": "COADD_OBJECT_ID", "ra_column": "RA", "dec_column": "DEC",
        "columns": {"mag_g": "MAG_AUTO_G", "mag_i": "MAG_AUTO_I"}, "missing": [99],
    },
    "selection": {"define": {"g_i": "mag_g - mag_i"}, "cuts": {"bright": "mag_i < 23"}},
    "images": {
        "files": "{tile}_r*p01_{band}.fits.fz", "bands": ["g", "r", "i", "z"], "hdu": "SCI", "mask": {"hdu": "MSK"},
        "weight": {"hdu": "WGT"},
    },
    "cutouts": {"bands": ["i", "r", "g"], "size": 64},
}  # fmt: skip
BRICKS = {
    "catalogue": {
        "files": "sweep-like_all_bricks.fits", "id_column": ["RELEASE", "BRICKID", "OBJID"], "ra_column": "RA",
        "dec_column": "DEC", "columns": {"brick": "BRICKNAME", "type": "TYPE"},
        "magnitudes": {
            f"mag_{b}": {"flux": f"FLUX_{b.upper()}", "transmission": f"MW_TRANSMISSION_{b.upper()}"} for b in "grz"
        },
    },
    "selection": {},
    "images": {
        "files": "coadd/{tile:.3}/{tile}/legacysurvey-{tile}-image-{band}.fits.fz", "bands": ["g", "r", "z"], "hdu": 1,
        "pixel_scale": 0.262, "zero_point": 22.5,
        "mask": {"files": "coadd/{tile:.3}/{tile}/legacysurvey-{tile}-maskbits.fits.fz", "bits": [1]},
        "weight": {"files": "coadd/{tile:.3}/{tile}/legacysurvey-{tile}-invvar-{band}.fits.fz"},
    },
    "cutouts": {"bands": ["g", "r", "z"], "size": 101, "max_bad_fraction": 0.5},
}  # fmt: skip


@pytest.mark.parametrize(
    ("folder", "sections", "n_objects", "least_scored"),
    [("des/des_like_tile", DES, 1253, 300), ("legacysurvey/pipeline_bricks", BRICKS, 38, 5)],
    ids=["des", "bricks"],
)
def test_scan(survey_data, scheduler, tmp_path, folder, sections, n_objects, least_scored):
    data = survey_data / folder
    config = yaml.safe_load(yaml.safe_dump(sections))
    for section, key in (("catalogue", "files"), ("images", "files")):
        config[section][key] = str(data / config[section][key])
    for beside in ("mask", "weight"):
        if "files" in config["images"][beside]:
            config["images"][beside]["files"] = str(data / config["images"][beside]["files"])
    config |= {"run": {"name": "real"}, "model": {"path": "loopback"}}
    (tmp_path / "real.yaml").write_text(yaml.safe_dump(config))
    words = [str(tmp_path / "real.yaml"), "--scheduler", scheduler]
    result = CliRunner().invoke(main, ["run", *words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    run = tmp_path / "runs" / "real"
    targets = pd.concat([pd.read_parquet(p) for p in sorted((run / "targets").iterdir())], ignore_index=True)
    flow = pd.read_csv(run / "plan" / "cut_flow.csv")
    candidates = pd.read_parquet(run / "candidates.parquet")
    assert len(targets) + flow["removed"].sum() == n_objects
    assert len(candidates) >= least_scored
    store = zarr.open_group(run / "cutouts.zarr", mode="r")
    for b, band in enumerate(config["cutouts"]["bands"]):
        for tile, rows in targets[targets["tile"] != ""].groupby("tile"):
            (path,) = data.glob(config["images"]["files"].replace(str(data) + "/", "").format(tile=tile, band=band))
            with fits.open(path) as file:
                hdu = file[config["images"]["hdu"]]
                for i, row in rows.iterrows():
                    expected = reference(hdu.data, WCS(hdu.header), row.ra, row.dec, config["cutouts"]["size"])
                    np.testing.assert_array_equal(store["image"][i, :, :, b], expected)
    outside = (targets["tile"] == "").to_numpy()
    assert np.isnan(store["image"][: len(targets)][outside]).all()
    assert Path(run / "failures.csv").exists()


def test_bricks_by_the_table_of_the_survey(survey_data, scheduler, tmp_path):
    """The survey's table lists bricks of which there is no file: their targets are missing, those of others scored."""
    data = survey_data / "legacysurvey" / "pipeline_bricks"
    here = tmp_path / "coadd"
    for brick in ("0285m165", "0091p035", "1773p595"):  # not 1102p240
        (here / brick[:3]).mkdir(parents=True)
        (here / brick[:3] / brick).symlink_to(data / "coadd" / brick[:3] / brick)
    config = yaml.safe_load(yaml.safe_dump(BRICKS))
    config["catalogue"]["files"] = str(data / config["catalogue"]["files"])
    config["images"] |= {"index": str(data / "survey-bricks.fits.gz")}
    config |= {"model": {"path": "loopback"}}
    plans = {}
    for name in ("index", "named"):
        config["run"] = {"name": name}
        if name == "named":  # each object's brick as the catalogue has it: then no table is needed
            del config["images"]["index"]
            config["catalogue"]["tile_column"] = "BRICKNAME"
        (tmp_path / "real.yaml").write_text(yaml.safe_dump(config))
        words = ["run", str(tmp_path / "real.yaml"), "--scheduler", scheduler]
        result = CliRunner().invoke(main, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        run = tmp_path / "runs" / name
        plans[name] = pd.concat([pd.read_parquet(p) for p in sorted((run / "targets").iterdir())], ignore_index=True)
        store = zarr.open_group(run / "cutouts.zarr", mode="r")
        missing = (plans[name]["tile"] == "1102p240").to_numpy()
        assert missing.sum() == 2
        np.testing.assert_array_equal(store["status"][: len(missing)] == Status.MISSING, missing)
    pd.testing.assert_frame_equal(plans["index"], plans["named"])
    assert (plans["index"]["tile"] == plans["index"]["brick"]).all()


def test_ids_of_sweeps_are_qualified_by_release(survey_data):
    """What a list of id columns makes of a real sweep."""
    from survey_scan import catalogue
    from survey_scan.config import Catalogue

    section = BRICKS["catalogue"] | {
        "files": [str(survey_data / "legacysurvey/pipeline_bricks" / BRICKS["catalogue"]["files"])]
    }
    config = Catalogue.model_validate(section)
    ids = catalogue.open_catalogue(config)["object_id"].compute(scheduler="synchronous")
    assert ids.iloc[0] == "9999-350562-0"
    assert ids.is_unique
