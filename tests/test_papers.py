"""The cuts of papers on rows made by hand from their texts, one inequality at a time, and on real tables."""

import numpy as np
import pandas as pd
import pytest
from astropy.table import Table

from survey_scan import catalogue, presets, selection
from survey_scan.config import Selection
from survey_scan.config_file import load
from survey_scan.errors import ConfigError

LEGACY = {"type": "DEV", "mag_z": 19.0, "nobs_g": 3, "nobs_r": 3, "nobs_z": 3}
#: A row that passes, and changes of it with whether it still does.
ROWS = {
    "jacobs2019a": (
        {"mag_g": 22.0, "mag_r": 20.5, "mag_i": 19.5},
        [
            ({"mag_g": 21.25, "mag_r": 20.0, "mag_i": 19.4375}, True),  # g - i = 1.8125
            ({"mag_g": 21.25, "mag_r": 20.0, "mag_i": 19.5}, False),  # 1.75
            ({"mag_g": 24.5, "mag_r": 22.5, "mag_i": 19.5625}, True),  # 4.9375
            ({"mag_g": 24.5, "mag_r": 22.5, "mag_i": 19.5}, False),  # 5 exactly
            ({"mag_r": 21.375}, True),  # g - r = 0.625
            ({"mag_r": 21.4375}, False),  # 0.5625
            ({"mag_g": 22.5, "mag_r": 19.5625}, True),  # 2.9375
            ({"mag_g": 22.5, "mag_r": 19.5}, False),  # 3 exactly
            ({"mag_g": 21.0, "mag_r": 19.0625, "mag_i": 18.5}, True),
            ({"mag_g": 21.0, "mag_r": 19.0, "mag_i": 18.5}, False),  # r > 19
            ({"mag_g": 20.0625, "mag_r": 19.25, "mag_i": 18.2500}, True),
            ({"mag_g": 20.0, "mag_r": 19.25, "mag_i": 18.195}, False),  # g > 20 (and i)
            ({"mag_g": 20.5, "mag_r": 19.25, "mag_i": 18.25}, True),
            ({"mag_g": 20.5, "mag_r": 19.25, "mag_i": 18.2}, False),  # i > 18.2
            ({"mag_i": np.nan}, False),
        ],
    ),
    "huang2020": (
        LEGACY,
        [
            ({"type": "COMP"}, True),
            *[({"type": name}, False) for name in ("PSF", "REX", "EXP", "SER", "SIMP", "")],
            ({"mag_z": 20.0}, True),
            ({"mag_z": np.nextafter(20.0, 21)}, False),
            *[({f"nobs_{band}": 2}, False) for band in "grz"],
            *[({f"nobs_{band}": 4}, True) for band in "grz"],
            ({"mag_z": np.nan}, False),
        ],
    ),
    "huang2021": (
        {"type": "DEV", "mag_z": 19.0},
        [
            ({"type": "COMP"}, True),
            *[({"type": name}, False) for name in ("PSF", "REX", "EXP", "SER", "SIMP", "")],
            ({"mag_z": np.nextafter(20.0, 19)}, True),
            ({"mag_z": 20.0}, False),
            ({"mag_z": np.nan}, False),
        ],
    ),
    "storfer2024": (
        LEGACY,
        [
            *[({"type": name}, True) for name in ("SER", "DEV", "REX", "EXP")],
            *[({"type": name}, False) for name in ("PSF", "DUP", "COMP", "")],
            ({"mag_z": np.nextafter(20.0, 19)}, True),
            ({"mag_z": 20.0}, False),
            *[({f"nobs_{band}": 2}, False) for band in "grz"],
            *[({f"nobs_{band}": 4}, True) for band in "grz"],
            ({"mag_z": np.nan}, False),
        ],
    ),
    "inchausti2025": (
        {"mag_z": 19.0},
        [({"mag_z": np.nextafter(20.0, 19)}, True), ({"mag_z": 20.0}, False), ({"mag_z": np.nan}, False)],
    ),
    "holismokes16": (
        {"kron_radius_i": 1.0},
        [
            ({"kron_radius_i": np.nextafter(0.8, 1)}, True),
            ({"kron_radius_i": 0.8}, False),
            ({"kron_radius_i": np.nan}, False),
        ],
    ),
    "gonzalez2025": ({}, [({}, True)]),
}
CASES = [(name, changed, passes) for name, (_, cases) in ROWS.items() for changed, passes in cases]


def chosen(name: str, rows: list[dict]) -> tuple[list[int], selection.CutFlow]:
    """Which rows a paper's cuts select, and how."""
    paper = presets.paper(name)
    section = Selection(cuts=paper.cuts, keep=[])
    frame = pd.DataFrame(rows, index=range(len(rows)))
    frame = frame.assign(object_id=np.arange(len(rows)), ra=10.0, dec=0.0)
    selection.check(section, frame, "rows")
    selected, flow = selection.select(frame, section)
    return selected["object_id"].tolist(), flow


def test_all_papers_have_rows_of_the_columns_they_need():
    assert sorted(ROWS) == presets.names("paper")
    for name, (row, _) in ROWS.items():
        assert list(row) == list(presets.paper(name).about.needs)


@pytest.mark.parametrize("name", ROWS)
def test_the_row_passes(name):
    assert chosen(name, [ROWS[name][0]])[0] == [0]


@pytest.mark.parametrize(("name", "changed", "passes"), CASES)
def test_edges(name, changed, passes):
    assert chosen(name, [ROWS[name][0] | changed])[0] == ([0] if passes else [])


@pytest.mark.parametrize("name", ROWS)
def test_every_cut_removes_some_row_that_all_others_keep(name):
    row, cases = ROWS[name]
    paper = presets.paper(name)
    removing = set()
    for changed, _ in cases:
        failed = [cut for cut in paper.cuts if not alone(paper.cuts[cut], row | changed)]
        removing.update(failed if len(failed) == 1 else [])
    assert removing >= set(paper.cuts) - {"g > 20"}  # with i > 18.2 and 1.8 < g - i, g is greater than 20 anyhow


def alone(cut: str, row: dict) -> bool:
    frame = pd.DataFrame([row]).assign(object_id=0, ra=10.0, dec=0.0)
    return selection.select(frame, Selection(cuts={"one": cut}, keep=[]))[1].selected == 1


def test_g_of_jacobs_alone():
    cut = presets.paper("jacobs2019a").cuts["g > 20"]
    assert alone(cut, {"mag_g": 20.0625}) and not alone(cut, {"mag_g": 20.0})


def test_a_column_that_is_not_defined(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(
        "run: {name: a}\ncatalogue: {files: c.fits, columns: {type: TYPE, nobs_g: N}}\n"
        "selection:\n  paper: storfer2024\n  define: {nobs_r: nobs_g + 1}\n"
        'images: {files: "{tile}.fits", bands: [g]}\ncutouts: {bands: [g], size: 32}\nmodel: {path: loopback}\n'
    )
    with pytest.raises(ConfigError) as error:
        load(path)
    assert str(error.value).splitlines() == [
        f"{path}:4:3: the cuts of storfer2024 need a column 'mag_z' (z magnitude, corrected for extinction), which is not "
        "defined. Add it to catalogue.columns, as 'mag_z: NAME_IN_YOUR_FILES', or to catalogue.magnitudes, from a flux.",
        f"{path}:4:3: the cuts of storfer2024 need a column 'nobs_z' (passes in z), which is not defined. Add it to "
        "catalogue.columns, as 'nobs_z: NAME_IN_YOUR_FILES'.",
    ]


def flow_of(tmp_path, text: str) -> tuple[list[str], selection.CutFlow]:
    """Ids that a configuration selects of a real catalogue, and the cut flow."""
    path = tmp_path / "real.yaml"
    path.write_text(f"{text}run: {{name: a}}\ncutouts: {{bands: [g], size: 32}}\nmodel: {{path: loopback}}\n")
    config = load(path)
    frame = catalogue.open_catalogue(config.catalogue).compute(scheduler="synchronous")
    selected, flow = selection.select(frame, config.selection)
    return selected["object_id"].tolist(), flow


def z_of(table: Table) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return 22.5 - 2.5 * np.log10(np.asarray(table["FLUX_Z"], float) / np.asarray(table["MW_TRANSMISSION_Z"], float))


@pytest.mark.parametrize(
    ("name", "types", "passes"),
    [
        ("huang2020", ["DEV", "COMP"], 3),
        ("huang2021", ["DEV", "COMP"], 0),
        ("storfer2024", ["SER", "DEV", "REX", "EXP"], 3),
        ("inchausti2025", None, 0),
    ],
)
@pytest.mark.parametrize(
    "table", ["pipeline_bricks/sweep-like_all_bricks.fits", "sweeps_schema_history/dr8_2020/sweep-*.fits"]
)
def test_real_sweeps(survey_data, tmp_path, name, types, passes, table):
    files = sorted((survey_data / "legacysurvey").glob(table))
    text = f"survey: legacy-dr9-south\ncatalogue: {{files: {survey_data}/legacysurvey/{table}}}\n"
    selected, flow = flow_of(tmp_path, f"{text}selection: {{paper: {name}, keep: [], cuts: {{release: null}}}}\n")
    expected, total = [], 0
    for file in files:
        rows = Table.read(file, hdu=1)
        keep = z_of(rows) < 20
        if types is not None:
            keep &= np.isin(np.char.strip(np.asarray(rows["TYPE"], str)), types)
        for band in "GRZ":
            keep &= np.asarray(rows[f"NOBS_{band}"]) >= passes
        expected += [f"{r['RELEASE']}-{r['BRICKID']}-{r['OBJID']}" for r in rows[keep]]
        total += len(rows)
    assert selected == expected
    assert flow.total == total


@pytest.mark.parametrize(
    ("text", "file", "magnitude"),
    [
        ("survey: des-dr2\n", "des_like_tile/DES0900-0030_dr2_main_like.fits", "MAG_AUTO_{}"),
        ("survey: des-y6\n", "catalogue_y6like/valid.fits", "MAG_{}"),
    ],
)
def test_real_tables_of_des(survey_data, tmp_path, text, file, magnitude):
    path = survey_data / "des" / file
    columns = ", ".join(f"mag_{band}: {magnitude.format(band.upper())}" for band in "gri")
    text += f"catalogue: {{files: {path}, columns: {{{columns}}}}}\nselection: {{paper: jacobs2019a, keep: []}}\n"
    selected, flow = flow_of(tmp_path, text)
    rows = Table.read(path, hdu=1)
    g, r, i = (np.asarray(rows[magnitude.format(band)], float) for band in "GRI")
    g, r, i = (np.where((m == 99) | (m < -9e9), np.nan, m) for m in (g, r, i))
    keep = (g - i > 1.8) & (g - i < 5) & (g - r > 0.6) & (g - r < 3) & (r > 19) & (g > 20) & (i > 18.2)
    assert selected == np.asarray(rows["COADD_OBJECT_ID"])[keep].tolist()
    assert 0 < len(selected) < flow.total == len(rows)


def test_a_paper_without_cuts_on_a_real_table(survey_data, tmp_path):
    path = survey_data / "des/catalogue_y6like/valid.fits"
    text = f"survey: des-y6\ncatalogue: {{files: {path}}}\nselection: {{paper: gonzalez2025, keep: []}}\n"
    selected, flow = flow_of(tmp_path, text)
    assert len(selected) == flow.total == 30_000
    assert list(flow.kept) == ["valid position"]
