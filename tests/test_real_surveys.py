"""Real survey files, scanned end to end by the command line; each stored cutout against ``Cutout2D``."""

from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
import zarr
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from click.testing import CliRunner
from small_tiles import reference

from survey_scan import catalogue, presets
from survey_scan.cli import main
from survey_scan.config_file import load
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
    from survey_scan.config import Catalogue

    section = BRICKS["catalogue"] | {
        "files": [str(survey_data / "legacysurvey/pipeline_bricks" / BRICKS["catalogue"]["files"])]
    }
    config = Catalogue.model_validate(section)
    ids = catalogue.open_catalogue(config)["object_id"].compute(scheduler="synchronous")
    assert ids.iloc[0] == "9999-350562-0"
    assert ids.is_unique


@dataclass(frozen=True)
class Scan:
    """A scan by a preset: the survey's tree as links, what the configuration says beside the preset, what comes out."""

    survey: str
    links: dict[str, str]  # path below the root: path below the folder of data, * for all that match
    sections: dict
    catalogue: int
    selected: int
    status: dict[int, int]
    tiles: int
    store: dict = field(default_factory=dict)
    catalogue_of: str = ""


LS = "legacysurvey/pipeline_bricks"
TREE = {"coadd": f"{LS}/coadd"}
DR6 = "legacysurvey/dr6_original_brick/coadd/095/0959p805"
NO_I = {  # the bricks have no i
    "catalogue": {"columns": {"nobs_i": None}, "magnitudes": {"mag_i": None}}, "images": {"bands": ["g", "r", "z"]},
}  # fmt: skip
GRZ = {"bands": ["g", "r", "z"], "size": 101}
KIDS = "kids/grafted_tile/KiDS_GRAFT_135.0_-0.5"
NINE = ["u", "g", "r", "i", "Z", "Y", "J", "H", "Ks"]
HSC = "hsc/das_cutout_gri"
SCANS = {
    "legacy-dr10": Scan(
        "legacy-dr10-south",
        TREE | {"sweep/10.1/sweep-000m020-180p060.fits": f"{LS}/sweep-like_all_bricks.fits"},
        NO_I | {"cutouts": GRZ | {"max_bad_fraction": 0.5}},
        catalogue=38, selected=38, status={4: 3}, tiles=4,
        store={"zero_point": 22.5, "unit": "nanomaggy", "survey": "legacy-dr10-south", "release": "DR10-south"},
    ),
    "legacy-dr9-north": Scan(
        "legacy-dr9-north",
        {
            "coadd/177/1773p595": f"{LS}/coadd/177/1773p595",
            "sweep/9.0/sweep-000m020-180p060.fits": f"{LS}/sweep-like_all_bricks.fits",
        },
        {"cutouts": GRZ, "selection": {"cuts": {"north": "dec > 32.375"}}},
        catalogue=38, selected=12, status={4: 5}, tiles=1,
    ),
    "dr6, no r": Scan(
        "legacy-dr9-north", {"coadd/095/0959p805": DR6},
        {"images": {"mask": None}, "cutouts": GRZ}, catalogue=300, selected=300, status={3: 300}, tiles=1,
        catalogue_of="0959p805",
    ),
    "dr6, mostly empty": Scan(
        "legacy-dr9-north", {"coadd/095/0959p805": DR6},
        {"images": {"mask": None}, "cutouts": {"bands": ["g"], "size": 32}}, catalogue=300, selected=300, status={4: 265}, tiles=1,
        catalogue_of="0959p805",
    ),
    "des": Scan(
        "des-dr2",
        {f"DES0900-0030/DES0900-0030_r0000p01_{b}.fits.fz": f"des/des_like_tile/DES0900-0030_r0000p01_{b}.fits.fz" for b in "griz"}
        | {"cat.fits": "des/des_like_tile/DES0900-0030_dr2_main_like.fits"},
        {
            "catalogue": {"files": "cat.fits"}, "images": {"index": None},
            "selection": {"paper": "jacobs2019a"}, "cutouts": {"bands": ["i", "r", "g"], "size": 45},
        },
        catalogue=1253, selected=221, status={1: 6, 4: 5}, tiles=1, store={"zero_point": 30.0, "unit": "electrons"},
    ),
    "kids, nine bands": Scan(
        "kids-dr4",
        {f"KiDS_DR4.0_135.0_-0.5_{b}_sci.fits": f"{KIDS}_{b}_sci.fits" for b in NINE} | {"cat.fits": f"{KIDS}_ugriZYJHKs_cat.fits"},
        {
            "catalogue": {"files": "cat.fits"}, "selection": {"cuts": {"bright": "mag_r < 22"}},
            "images": {"bands": NINE, "hdu": 1, "pixel_scale": 0.3, "zero_point": {b: 0 if b in "ugri" else 30 for b in NINE}},
            "cutouts": {"bands": NINE, "size": 64},
        },
        catalogue=2737, selected=398, status={1: 14}, tiles=1,
        store={"zero_point": {b: 0.0 if b in "ugri" else 30.0 for b in NINE}, "unit": None, "pixel_scale": 0.3},
    ),
    "hsc": Scan(
        "hsc-pdr3",
        {f"calexp-HSC-{b.upper()}-9559-4,4.fits": f"{HSC}/222.51551376,0.09749601_300x300_{b}.fits" for b in "gri"}
        | {"cat.csv": f"{HSC}/fithsc_src.csv"},
        {"catalogue": {"files": "cat.csv"}, "cutouts": {"bands": ["I", "R", "G"], "size": 64}},
        catalogue=92, selected=92, status={1: 16, 2: 30}, tiles=1, store={"zero_point": 27.0, "unit": None, "pixel_scale": 0.168},
    ),
}  # fmt: skip


def catalogue_of_brick(path: Path, brick: str, n: int = 300) -> None:
    """A sweep of positions drawn at random in a brick, with the columns that the preset reads."""
    rng = np.random.default_rng(4)
    ra, dec = rng.uniform(95.25, 96.65, n), rng.uniform(80.38, 80.62, n)
    same = {
        "RELEASE": np.int16(9011),
        "BRICKID": np.int32(657438),
        "BRICKNAME": brick,
        "TYPE": "DEV",
        "EBV": np.float32(0.05),
    }
    same |= {"MASKBITS": np.int16(0)} | {f"NOBS_{b}": np.int16(3) for b in "GRZ"}
    same |= {f"FLUX_{b}": np.float32(10) for b in "GRZ"} | {f"MW_TRANSMISSION_{b}": np.float32(0.9) for b in "GRZ"}
    path.parent.mkdir(parents=True)
    table = {"OBJID": np.arange(n, dtype=np.int32), "RA": ra, "DEC": dec, **{k: np.full(n, v) for k, v in same.items()}}
    Table(table).write(path)


def lay_out(scan: Scan, data: Path, folder: Path) -> Path:
    """The survey's tree and the configuration; the path of the latter."""
    for name, source in scan.links.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(data / source)
    if scan.catalogue_of:
        catalogue_of_brick(folder / "sweep" / "9.0" / "sweep-090p080-100p085.fits", scan.catalogue_of)
    config = {"survey": scan.survey, "run": {"name": "real"}, "model": {"path": "loopback"}, **scan.sections}
    (folder / "real.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return folder / "real.yaml"


@pytest.mark.parametrize("name", SCANS)
def test_scan_by_a_preset(survey_data, scheduler, tmp_path, name):
    """Every object is counted at every step, and is at the end scored or flagged with a reason."""
    scan = SCANS[name]
    config = lay_out(scan, survey_data, tmp_path)
    checked = CliRunner().invoke(main, ["check", str(config)], catch_exceptions=False)
    assert checked.exit_code == 0, checked.output
    result = CliRunner().invoke(main, ["run", str(config), "--scheduler", scheduler], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    print(f"\n===== {name}\n{checked.output}-----\n{result.output}")
    run = tmp_path / "runs" / "real"
    targets, scores = (
        pd.concat([pd.read_parquet(p) for p in sorted((run / part).iterdir())], ignore_index=True)
        for part in ("targets", "scores")
    )
    flow, failures = pd.read_csv(run / "plan" / "cut_flow.csv"), pd.read_csv(run / "failures.csv")
    status = Counter(scores["status"].tolist())
    flagged = len(scores) - status[Status.OK]
    assert scan.catalogue == flow["removed"].sum() + len(targets)
    assert len(targets) == len(scores) == scan.selected == status[Status.OK] + len(failures)
    assert failures["reason"].notna().all()
    assert {code: n for code, n in sorted(status.items()) if code != Status.OK} == scan.status
    said = result.output.splitlines()
    assert f"catalogue   {scan.catalogue:,} objects" in said
    assert f"plan        {scan.selected:,} targets in 1 partitions on {scan.tiles} tile(s)" in said
    assert (
        f"account     catalogue {scan.catalogue:,} = selected {scan.selected:,} + cut {scan.catalogue - scan.selected:,}"
        in said
    )
    assert f"            selected {scan.selected:,} = scored {status[Status.OK]:,} + flagged {flagged:,}" in said
    attributes = zarr.open_group(run / "cutouts.zarr", mode="r").attrs
    assert {key: attributes[key] for key in scan.store} == scan.store


def refused(config: Path, scheduler: str) -> str:
    """What check says, on its error stream; run must say the same, and plan nothing."""
    words = (["check", str(config)], ["run", str(config), "--scheduler", scheduler])
    found = [CliRunner().invoke(main, command, catch_exceptions=False) for command in words]
    assert [result.exit_code for result in found] == [2, 2], found[1].output
    said = found[0].stderr.replace(f"{config.parent}/", "")
    assert said == found[1].stderr.replace(f"{config.parent}/", "")
    assert not list(config.parent.glob("runs/real/targets/*"))
    assert not (config.parent / "runs/real/plan/partitions.csv").exists()
    return said


def changed(name: str, survey: str | None = None, **sections: dict) -> Scan:
    """A scan with another survey, or other keys."""
    scan = SCANS[name]
    both = {**scan.sections, **{key: {**scan.sections.get(key, {}), **value} for key, value in sections.items()}}
    return replace(scan, survey=survey or scan.survey, sections=both)


def test_a_preset_of_another_pixel_scale_and_zero_point(survey_data, scheduler, tmp_path):
    scan = changed("kids, nine bands", images={"pixel_scale": 0.2, "zero_point": 0})
    assert refused(lay_out(scan, survey_data, tmp_path), scheduler) == (
        "images.pixel_scale: pixels have 0.3000 arcsec in u, g, r, i, Z, Y, J, H, Ks (KiDS_DR4.0_135.0_-0.5_u_sci.fits[1]), but "
        "0.2000 is expected (within 0.5 %). Name another survey, or set images.pixel_scale: 0.3.\n"
        "images.zero_point: the zero point is 30 in Z, Y, J, H, Ks (ZEROPNT of KiDS_DR4.0_135.0_-0.5_Z_sci.fits[1]), but 0 is "
        "expected (within 0.01 mag). Name another survey, or set images.zero_point, to one number or to one a band.\n"
    )


def test_a_preset_of_another_zero_point(survey_data, scheduler, tmp_path):
    """Pixels of DES and of Legacy Surveys are of the same size, to 0.4 %."""
    tile = "DES0900-0030/DES0900-0030_r0000p01"
    images = {"files": "{tile}/{tile}_r*_{band}.fits.fz", "hdu": "SCI", "bands": ["i", "r", "g"], "mask": None}
    images["weight"] = None
    scan = changed("des", "legacy-dr9-south", images=images)
    preset = presets.survey("legacy-dr9-south").catalogue
    columns = {kind: dict.fromkeys(preset[kind]) for kind in ("columns", "magnitudes")}  # those of sweeps are left out
    sections = scan.sections | {"selection": {"cuts": {"release": None}}}
    sections["catalogue"] = {"files": "cat.fits", "id_column": "COADD_OBJECT_ID", "tile_column": None, **columns}
    config = lay_out(replace(scan, sections=sections), survey_data, tmp_path)
    assert refused(config, scheduler) == (
        f"images.zero_point: the zero point is 30 in i, r, g (MAGZERO of {tile}_i.fits.fz[1]), but 22.5 is expected (within 0.01 "
        "mag). Name another survey, or set images.zero_point, to one number or to one a band.\n"
    )


def test_files_of_another_band(survey_data, scheduler, tmp_path):
    scan = SCANS["des"]
    links = {
        name.replace("_i.", "_x.").replace("_g.", "_i.").replace("_x.", "_g."): source
        for name, source in scan.links.items()
    }
    tile = "DES0900-0030/DES0900-0030_r0000p01"
    assert refused(lay_out(replace(scan, links=links), survey_data, tmp_path), scheduler) == (
        f"images.bands: what was opened for g is of band i (BAND = 'i' of {tile}_g.fits.fz[1]), but band g is expected. Name "
        "another survey, or mend images.files, images.hdu or images.bands.\n"
        f"images.bands: what was opened for i is of band g (BAND = 'g' of {tile}_i.fits.fz[1]), but band i is expected. Name "
        "another survey, or mend images.files, images.hdu or images.bands.\n"
    )


def run_of(scan: Scan, data: Path, folder: Path, scheduler: str) -> tuple[pd.DataFrame, str]:
    """Targets with their status, and what was said."""
    config = lay_out(scan, data, folder)
    result = CliRunner().invoke(main, ["run", str(config), "--scheduler", scheduler], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    run = folder / "runs" / "real"
    targets = pd.read_parquet(run / "targets")
    return targets.assign(status=pd.read_parquet(run / "scores")["status"].to_numpy()), result.output


def test_a_brick_that_is_not_on_disk_and_a_mask_over_a_target(survey_data, scheduler, tmp_path):
    """1102p240 has a star of magnitude 10.6, which is masked, and an object near it; 1773p595 is taken away."""
    images = {"weight": None, "blank": None}  # pixels of the star have no weight either
    scan = changed("legacy-dr10", images=images, cutouts={"size": 24, "max_bad_fraction": 0.1})
    links = {f"coadd/{brick[:3]}": f"{LS}/coadd/{brick[:3]}" for brick in ("0091p035", "0285m165", "1102p240")}
    links |= {name: source for name, source in scan.links.items() if name != "coadd"}
    scan = replace(scan, links=links)
    masked, said = run_of(scan, survey_data, tmp_path / "masked", scheduler)
    gone = masked["tile"] == "1773p595"
    assert gone.sum() == 12 and (masked["status"][gone] == Status.MISSING).all()
    assert (masked["status"][~gone] != Status.MISSING).all()
    assert "coadd/177/1773p595/legacysurvey-1773p595-image-g.fits.fz does not exist" in said
    bare = replace(scan, sections=scan.sections | {"images": scan.sections["images"] | {"mask": None}})
    unmasked, _ = run_of(bare, survey_data, tmp_path / "bare", scheduler)
    star = (masked["tile"] == "1102p240").to_numpy()
    status = dict(zip(masked["maskbits"][star], masked["status"][star], strict=True))
    assert status == {2302: Status.BAD_PIXELS, 2050: Status.OK}
    assert unmasked["status"][star].tolist() == [Status.OK, Status.OK]


def test_one_band_on_disk(survey_data, scheduler, tmp_path):
    scan = changed("dr6, no r", cutouts={"bands": ["g", "r"], "size": 32})
    found, said = run_of(scan, survey_data, tmp_path, scheduler)
    assert (found["status"] == Status.MISSING).all() and len(found) == 300
    checked = CliRunner().invoke(main, ["check", str(tmp_path / "real.yaml")], catch_exceptions=False)
    assert checked.exit_code == 0
    assert (
        "            warning: no tile looked at has band r: a target without it gets no score"
        in checked.output.splitlines()
    )
    assert "images      on disk: g 1, r 0, z 1" in checked.output.splitlines()


def test_psf_of_the_survey_s_table_and_a_common_zero_point(survey_data, scheduler, tmp_path):
    """DR6's table of bricks knows the width of the PSF; pixels in nanomaggies become nJy."""
    table = "legacysurvey/dr6_original_brick/survey-bricks-dr6.fits.gz"
    scan = changed("dr6, mostly empty", images={"mask": None, "index": "survey-bricks-dr6.fits.gz"})
    links = scan.links | {"survey-bricks-dr6.fits.gz": table}
    as_is, _ = run_of(replace(scan, links=links), survey_data, tmp_path / "as is", scheduler)
    tiles = pd.read_parquet(tmp_path / "as is" / "runs" / "real" / "plan" / "tiles.parquet")
    np.testing.assert_allclose(
        tiles[["psf_g", "psf_r", "psf_z"]].to_numpy()[0], [2.2302456, 3.0573094, np.nan], rtol=1e-6
    )
    inspected = CliRunner().invoke(
        main, ["inspect", str(tmp_path / "as is" / "runs" / "real"), as_is["object_id"].iloc[0]]
    )
    assert "PSF FWHM     g 2.23, r 3.06 arcsec" in inspected.output.splitlines()
    brought = replace(
        scan, links=links, sections=scan.sections | {"cutouts": {"bands": ["g"], "size": 32, "zero_point": 31.4}}
    )
    common, _ = run_of(brought, survey_data, tmp_path / "common", scheduler)
    pd.testing.assert_frame_equal(as_is, common)
    before, after = (
        zarr.open_group(tmp_path / name / "runs" / "real" / "cutouts.zarr", mode="r") for name in ("as is", "common")
    )
    np.testing.assert_allclose(after["image"][:300], before["image"][:300] * 10 ** (0.4 * (31.4 - 22.5)), rtol=1e-6)
    assert {key: after.attrs[key] for key in ("zero_point", "unit", "zero_point_of_images")} == {
        "zero_point": 31.4, "unit": "nJy", "zero_point_of_images": {"g": 22.5},
    }  # fmt: skip
    assert after.attrs["pixels"] == "flux of the tile brought to zero_point; NaN is no data"


def test_what_des_y6_did_not_measure(survey_data, tmp_path):
    """-9999.0 in 45 rows, and in one -9.999e9 less the extinction."""
    path = survey_data / "des/catalogue_y6like/valid.fits"
    columns = {f"mag_{band.lower()}": f"MAG_{band}" for band in "GRIZY"}
    text = {"survey": "des-y6", "catalogue": {"files": str(path), "columns": columns}, "run": {"name": "y6"}}
    text |= {"cutouts": {"bands": ["g"], "size": 32}, "model": {"path": "loopback"}}
    (tmp_path / "y6.yaml").write_text(yaml.safe_dump(text))
    table = catalogue.open_catalogue(load(tmp_path / "y6.yaml").catalogue).compute(scheduler="synchronous")
    magnitudes = table[list(columns)]
    assert magnitudes.isna().sum().tolist() == [46] * 5
    assert magnitudes.min().min() > 0 and len(table) == 30_000
