import math
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.io import fits
from click.testing import CliRunner

from survey_scan import catalogue, presets, selection
from survey_scan.cli import main
from survey_scan.config import Config
from survey_scan.config_file import dump, load
from survey_scan.engine import state
from survey_scan.errors import ConfigError

REST = """\
run: {name: lrg}
cutouts: {bands: [g], size: 32}
model: {path: loopback}
"""
SOUTH = "survey: {name: legacy-dr10-south, root: /data/ls}\n"


@pytest.fixture
def read(tmp_path):
    def read(text: str, *settings: str, name: str = "lrg.yaml") -> Config:
        (tmp_path / name).write_text(text)
        return load(tmp_path / name, settings)

    return read


@pytest.fixture
def problems(read, tmp_path):
    def problems(text: str, *settings: str) -> list[str]:
        with pytest.raises(ConfigError) as error:
            read(text, *settings)
        return str(error.value).replace(f"{tmp_path}/", "").splitlines()

    return problems


@pytest.mark.parametrize("name", presets.names("survey"))
def test_every_survey_is_a_configuration_but_for_what_it_leaves_out(read, name):
    survey = presets.survey(name)
    assert survey.about.unverified
    band = survey.images["bands"][0]
    text = f"survey: {name}\n{REST.replace('[g]', f'[{band}]')}"
    text += "" if "files" in survey.images or "service" in survey.images else 'images: {files: "{tile}.fits"}\n'
    text += "" if "files" in survey.catalogue else "catalogue: {files: cat.fits}\n"
    config = read(text)
    for section in ("catalogue", "images"):
        dumped = getattr(config, section).model_dump(mode="json")
        for key, value in getattr(survey, section).items():
            if key not in ("files", "service", "index", "mask", "weight", "magnitudes"):
                assert dumped[key] == value


@pytest.mark.parametrize("kind", ["survey", "paper"])
def test_files_say_how_they_are_used(kind):
    for name in presets.names(kind):
        first = presets.file(kind, name).path.read_text().splitlines()[0]
        assert f"'survey: {{name: {name}, root: FOLDER}}'" in first or f"'selection: {{paper: {name}}}'" in first


def test_paths_are_relative_to_the_root(read, tmp_path):
    config = read(SOUTH + REST)
    assert config.catalogue.files == ["/data/ls/sweep/10.1/sweep-*[0-9].fits"]
    assert config.images.files == "/data/ls/coadd/{tile:.3}/{tile}/legacysurvey-{tile}-image-{band}.fits.fz"
    assert config.images.weight.files.startswith("/data/ls/coadd/")
    assert config.run.directory == tmp_path / "runs"
    for text, settings, folder in (
        (SOUTH.replace("/data/ls", "ls"), (), tmp_path / "ls"),
        ("survey: legacy-dr10-south\n", (), tmp_path),
        ("survey: legacy-dr10-south\n", ("survey.root=/else",), Path("/else")),
        ("", ("survey=legacy-dr10-south",), tmp_path),
        (SOUTH, ("survey.name=legacy-dr9-south",), Path("/data/ls")),
    ):
        config = read(text + REST, *settings)
        assert config.survey.root == folder
        assert config.images.files.startswith(f"{folder}/coadd/")


def test_the_configuration_wins_key_by_key(read):
    config = read(
        SOUTH
        + REST
        + """\
catalogue:
  columns: {nobs_i: null, mag_z: MAG_Z, size: SHAPE_R}
  magnitudes: {mag_i: null, mag_g: {flux: FIBERFLUX_G}, ebv: {flux: EBV}}
images: {bands: [g, r], hdu: {g: 1, r: 2}, mask: {bits: [1]}, weight: null, pixel_scale: 0.27}
"""
    )
    names = ["release", "type", "nobs_g", "nobs_r", "nobs_z", "maskbits", "mag_z", "size"]
    assert list(config.catalogue.columns) == names
    assert list(config.catalogue.magnitudes) == ["mag_g", "mag_r", "ebv"]
    mag_g = config.catalogue.magnitudes["mag_g"]
    assert (mag_g.flux, mag_g.transmission) == ("FIBERFLUX_G", "MW_TRANSMISSION_G")
    images = config.images
    assert (images.bands, images.hdu, images.weight, images.pixel_scale) == (["g", "r"], {"g": 1, "r": 2}, None, 0.27)
    assert (images.mask.bits, images.mask.hdu) == ([1], 1)
    assert (images.zero_point, images.release) == (22.5, "DR10-south")


def test_resolved_file_has_all_and_reads_back_equal(read, monkeypatch):
    text = (
        SOUTH + REST + "catalogue: {columns: {nobs_i: null}}\nselection: {paper: storfer2024, cuts: {red: mag_g > 2}}\n"
    )
    config = read(text)
    assert config.spelled_out
    resolved = dump(config, "resolved")
    assert yaml.safe_load(resolved)["survey"] == {"name": "legacy-dr10-south", "root": "/data/ls"}
    monkeypatch.setattr(
        presets, "file", lambda kind, name: pytest.fail("a preset was read")
    )  # it may be another by now
    assert read(resolved) == config


def test_only_what_is_in_the_sections_counts(read):
    by_name = read(SOUTH + REST + "selection: {paper: huang2021}\n")
    data = yaml.safe_load(dump(by_name, ""))
    del data["survey"], data["spelled_out"], data["selection"]["paper"]
    spelled = read(yaml.safe_dump(data, sort_keys=False), name="spelled.yaml")
    assert spelled.survey is None and spelled != by_name
    assert state.differences(spelled, by_name) == {"plan": [], "cutouts": []}
    (difference,) = state.differences(by_name, read(SOUTH + REST))["plan"]
    assert difference.startswith("selection.cuts ") and "'huang2021: type DEV or COMP'" in difference


def test_cuts_of_the_paper_come_first(read):
    config = read(
        SOUTH + REST + "selection: {paper: huang2021, define: {g_r: mag_g - mag_r}, cuts: {red: g_r > 0.6}}\n"
    )
    assert list(config.selection.cuts) == ["release", "huang2021: type DEV or COMP", "huang2021: z < 20", "red"]
    assert config.selection.define == {"g_r": "mag_g - mag_r"}


def test_unknown_names(problems):
    text = "survey: legacy-dr10\nselection:\n  paper: storfer24\n" + REST
    surveys, papers = (", ".join(presets.names(kind)) for kind in ("survey", "paper"))
    assert problems(text) == [
        f"lrg.yaml:1:1: there is no survey 'legacy-dr10'. Did you mean 'legacy-dr10-south'? There are {surveys}.",
        f"lrg.yaml:3:3: there is no paper 'storfer24'. Did you mean 'storfer2024'? There are {papers}.",
    ]
    assert problems(SOUTH + REST + "selection: {paper: huang2021}\n", "survey.name=sdss") == [
        f"--set survey.name=sdss: there is no survey 'sdss'. There are {surveys}."
    ]


def test_wrong_kinds_are_told_by_the_models(problems):
    assert {
        "lrg.yaml:1:1: 'survey.name' is required",
        "lrg.yaml:1:10: unknown key 'survey.nam'. Did you mean 'name'?",
    } < set(problems("survey: {nam: des-dr2}\n" + REST))
    for text in ("survey: [des-dr2]\n", "survey: {name: 3}\n", "survey: {name: des-dr2, root: 3}\n"):
        assert problems(text + REST)[0].startswith("lrg.yaml:1:")
    for text in (
        "catalogue: 3\nimages: {mask: 3}\nselection: {paper: huang2021, define: 3, cuts: 4}\n",
        "catalogue: {columns: 3}\nimages: [1]\nselection: {paper: huang2021, cuts: [a]}\n",
    ):
        found = problems(SOUTH + REST + text)
        assert all(": input should be " in line for line in found)
        assert {line.split(":")[1] for line in found} == {"5", "6", "7"}


def test_what_a_survey_leaves_out_is_asked_for_in_the_configuration(problems):
    text = REST + "survey: cfhtls\ncatalogue:\n  rows_per_task: 5\n"
    assert problems(text) == [
        "lrg.yaml:4:1: images: give one of 'files' (tiles on disk) and 'service' (a cutout service); here is neither",
        "lrg.yaml:5:1: 'catalogue.files' is required",
    ]


def test_problems_of_a_preset_have_its_places(problems, tmp_path, monkeypatch):
    folder = tmp_path / "package" / "surveys"
    folder.mkdir(parents=True)
    about = "{title: t, reference: r, unit: u, tiles: t, primary: p, unverified: []}"
    (folder / "mine.yaml").write_text(
        f"about: {about}\ncatalogue:\n  files: $NO_SUCH/c.fits\nimages:\n  files: '{{tile}}'\n  bandz: [g]\n  bands: [g]\n"
    )
    monkeypatch.setattr(presets, "_PACKAGE", tmp_path / "package")
    assert problems("survey: mine\n" + REST) == [
        "surveys/mine.yaml:3:3: environment variable $NO_SUCH in '$NO_SUCH/c.fits' is not set"
    ]
    monkeypatch.setenv("NO_SUCH", "/here")
    assert problems("survey: mine\n" + REST) == [
        "surveys/mine.yaml:6:3: unknown key 'images.bandz'. Did you mean 'bands'?"
    ]


def test_commands():
    runner = CliRunner()
    listed = runner.invoke(main, ["surveys"]).output.splitlines()
    assert [line.split()[0] for line in listed] == ["name", *presets.names("survey")]
    assert "des-dr2             g r i z Y    0.263   30.0        Dark Energy Survey DR2, coadd" in listed
    listed = runner.invoke(main, ["papers"]).output.splitlines()
    assert [line.split()[0] for line in listed] == ["name", *presets.names("paper")]
    whole = runner.invoke(main, ["surveys", "des-dr2"]).output
    assert "reference:" in whole and "unverified:" in whole and "MAG_AUTO_G" in whole
    assert "45262252" in runner.invoke(main, ["papers", "storfer2024"]).output
    wrong = runner.invoke(main, ["surveys", "des-dr3"])
    assert wrong.exit_code == 2
    assert wrong.output.startswith("there is no survey 'des-dr3'. Did you mean 'des-dr2'? There are cfhtls, ")


def test_the_example_of_both(monkeypatch):
    monkeypatch.setenv("LEGACYSURVEY", "/data")
    config = load(Path(__file__).parent.parent / "configs" / "legacy.yaml")
    assert config.catalogue.files == ["/data/dr9/south/sweep/*/sweep-*[0-9].fits"]
    assert list(config.selection.cuts)[-1] == "red"


BRICKS = "legacysurvey/pipeline_bricks"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            f"survey: {{name: legacy-dr9-south, root: DATA/{BRICKS}}}\n"
            f"catalogue: {{files: DATA/{BRICKS}/sweep-like_all_bricks.fits}}\nselection: {{paper: inchausti2025}}\n",
            "of the first 38 objects 9 are selected",
        ),
        (
            f"survey: {{name: legacy-dr9-north, root: DATA/{BRICKS}}}\n"
            f"catalogue: {{files: DATA/{BRICKS}/tractor/*/*.fits, columns: {{primary: brick_primary}}}}\n"
            "selection: {cuts: {primary: primary}}\n",
            "columns object_id, ra, dec, tile, release, type, nobs_g, nobs_r, nobs_z, maskbits, ebv, primary, mag_g, mag_r, mag_z",
        ),
        (
            "survey: des-dr2\ncatalogue: {files: DATA/des/des_like_tile/DES0900-0030_dr2_main_like.fits}\n"
            'images: {files: "DATA/des/des_like_tile/{tile}_r*_{band}.fits.fz", index: null, bands: [g, r, i, z]}\n'
            "selection: {paper: jacobs2019a}\n",
            "of the first 1,253 objects 221 are selected",
        ),
        (
            "survey: kids-dr4\ncatalogue: {files: DATA/kids/grafted_tile/KiDS_GRAFT_135.0_-0.5_ugriZYJHKs_cat.fits}\n"
            'images: {files: "DATA/kids/grafted_tile/KiDS_GRAFT_{tile}_{band}_sci.fits", hdu: 1, pixel_scale: 0.3}\n',
            "of the first 2,737 objects 2,737 are selected",
        ),
    ],
    ids=["bricks", "tractor", "des", "kids"],
)
def test_real_files_are_well(survey_data, tmp_path, text, says):
    path = tmp_path / "real.yaml"
    path.write_text(text.replace("DATA", str(survey_data)) + REST)
    result = CliRunner().invoke(main, ["check", str(path)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert says in result.output
    assert "points of it nobody has checked, see 'survey_scan surveys " in result.output
    assert "warning" not in result.output


def test_real_headers_of_bricks(survey_data):
    stem = survey_data / BRICKS / "coadd/009/0091p035/legacysurvey-0091p035"
    image, bits = (fits.getheader(f"{stem}-{kind}.fits.fz", 1) for kind in ("image-g", "maskbits"))
    for name in ("legacy-dr9-north", "legacy-dr9-south", "legacy-dr10-south"):
        images = presets.survey(name).images
        assert images["zero_point"] == image["MAGZERO"]
        assert images["pixel_scale"] == pytest.approx(image["CD2_2"] * 3600)
        known = {f"{what}_{band}" for what in ("SATUR", "ALLMASK") for band in "GRZ"}
        of_i = [14, 15] if "i" in images["bands"] else []  # bricks of g, r, z have no SATUR_I and ALLMASK_I
        assert {bits[f"MBIT_{n}"].strip() for n in images["mask"]["bits"] if n not in of_i} == known
        assert set(of_i) <= set(images["mask"]["bits"])


@pytest.mark.parametrize(
    ("survey", "path", "hdu", "zero_point"),
    [
        ("des-dr2", "des/des_like_tile/DES0900-0030_r0000p01_i.fits.fz", "SCI", lambda h: h[1].header["MAGZERO"]),
        ("des-y6", "des/des_like_tile/DES0900-0030_r0000p01_i.fits.fz", "SCI", lambda h: h[1].header["MAGZERO"]),
        (
            "hsc-pdr3",
            "hsc/das_cutout_gri/222.51551376,0.09749601_300x300_i.fits",
            1,
            lambda h: 2.5 * math.log10(h[0].header["FLUXMAG0"]),
        ),
        ("kids-dr4", "kids/humvi_gri_101px/KiDS-test_r.fits", 0, lambda h: h[0].header["ZEROPNT"]),
        ("euclid-q1-mer", "euclid/q1_lens_102018665.fits", "VIS_BGSUB", lambda h: h["VIS_BGSUB"].header["MAGZERO"]),
    ],
)
def test_real_headers(survey_data, survey, path, hdu, zero_point):
    images = presets.survey(survey).images
    with fits.open(survey_data / path) as file:
        assert images["zero_point"] == pytest.approx(zero_point(file))
        assert images["pixel_scale"] == pytest.approx(abs(file[hdu].header["CD2_2"]) * 3600, rel=1e-4)
        if survey == "hsc-pdr3":
            assert {f"MP_{name}" for name in images["mask"]["bits"]} <= set(file[2].header)


def test_real_table_of_hsc(survey_data, read):
    path = survey_data / "hsc/das_cutout_gri/fithsc_src.csv"
    config = read(f"survey: hsc-pdr3\ncatalogue: {{files: {path}}}\n{REST.replace('[g]', '[G]')}")
    table = catalogue.open_catalogue(config.catalogue).compute(scheduler="synchronous")
    assert list(table.columns) == ["object_id", "ra", "dec", "mag_g", "mag_r", "mag_i"]
    assert (len(table), table["mag_i"].isna().sum()) == (92, 42)


def test_rows_of_the_other_region_are_cut_by_name(read):
    """A brick of one name is in both; the release of each row says whose it is."""
    frame = pd.DataFrame({"release": [9010, 9011, 9012, 9999, 8000, 10_000, 10_005, 11_000]})
    frame = frame.assign(object_id=np.arange(8), ra=200.0, dec=33.0, tile="2000p330")
    expected = {"legacy-dr9-north": [1, 3], "legacy-dr9-south": [0, 2, 3], "legacy-dr10-south": [3, 5, 6]}
    for name, chosen in expected.items():
        config = read(f"survey: {name}\n{REST}")
        assert next(iter(config.selection.cuts)) == "release"
        selected, flow = selection.select(frame, config.selection.model_copy(update={"keep": []}))
        assert selected["object_id"].tolist() == chosen
        assert flow.kept == {"valid position": 8, "release": len(chosen)}


def test_the_cut_on_the_release_can_be_changed_or_left_out(read, problems):
    cuts = read(SOUTH + REST + "selection: {cuts: {red: mag_g - mag_r > 1, release: release == 8000}}\n").selection.cuts
    assert list(cuts.items()) == [("release", "release == 8000"), ("red", "mag_g - mag_r > 1")]
    cuts = read(SOUTH + REST + "selection: {cuts: {release: null}}\n").selection.cuts
    assert cuts == {}
    assert problems(SOUTH + REST + "catalogue: {columns: {release: null}}\n") == [
        "lrg.yaml:1:10: cut 'release' of legacy-dr10-south (10000 <= release < 11000 or release == 9999) needs column "
        "'release', which the configuration leaves out. Leave the cut out too: selection.cuts: {release: null}."
    ]
