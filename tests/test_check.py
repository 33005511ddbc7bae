"""What ``survey_scan check`` looks at."""

import pandas as pd
import pytest
from small_survey import TILES, make

from survey_scan.config_file import load
from survey_scan.errors import UserError
from survey_scan.imaging import tiles
from survey_scan.views.check import check


def test_an_index_may_list_a_survey_of_which_few_tiles_are_here(tmp_path):
    survey = make(tmp_path, n_objects=200)
    survey.edit(run={"directory": "runs"})
    here = tiles.tile_table(load(survey.config).images).drop(columns="problem")
    far = pd.concat([here.assign(tile=[f"{name}-{i}" for name in TILES]) for i in range(300)])
    pd.concat([far, here]).to_csv(tmp_path / "index.csv", index=False)
    survey.edit(images={"index": "index.csv"})
    said: list[str] = []
    check(load(survey.config), said.append)
    assert "images      1,204 tiles in images.index; on disk: g 4, r 3" in said
    looked_at = [line.split() for line in said if line.endswith("configuration")]
    assert looked_at and {words[words.index("of") + 1] for words in looked_at} <= set(TILES)
    assert said[-1] == "all is well. Next: survey_scan run"


def test_an_index_that_names_other_tiles_than_the_files(tmp_path):
    survey = make(tmp_path, n_objects=200)
    here = tiles.tile_table(load(survey.config).images).drop(columns="problem")
    here.assign(tile="X" + here["tile"]).to_csv(tmp_path / "index.csv", index=False)
    survey.edit(images={"index": "index.csv"})
    with pytest.raises(UserError) as caught:
        check(load(survey.config), lambda line: None)

    assert str(caught.value).startswith("images: none of the tiles looked at can be used.")


def test_what_the_tiles_say_stands_beside_the_configuration(tmp_path):
    survey = make(tmp_path, n_objects=200)
    survey.edit(run={"directory": "runs"}, images={"pixel_scale": 0.263, "zero_point": {"g": 30.0}})
    said: list[str] = []
    check(load(survey.config), said.append)
    first = said.index("images      on disk: g 4, r 3")
    assert said[first + 1 : first + 17] == [
        "            g of A00 and 3 more                                 configuration",
        "              pixel scale  0.2630 arcsec                        0.263",
        "              zero point   not said                             30",
        "              unit         not said                             -",
        "              band         not said                             -",
        "              size         400 x 400 pixels                     -",
        "              compression  RICE_1, tiles 400 x 1                -",
        "              orientation  north up, east left                  -",
        "            r of A00 and 2 more                                 configuration",
        "              pixel scale  0.2630 arcsec                        0.263",
        "              zero point   not said                             -",
        "              unit         not said                             -",
        "              band         not said                             -",
        "              size         400 x 400 pixels                     -",
        "              compression  RICE_1, tiles 400 x 1                -",
        "              orientation  north up, east left                  -",
    ]
    assert said[first + 17] == f"            warning: {tmp_path}/tiles/A10_r.fits.fz does not exist"


def test_all_problems_at_once(tmp_path):
    survey = make(tmp_path, n_objects=200)
    survey.edit(run={"directory": "runs"}, images={"pixel_scale": 0.262 * 1.1}, selection={"cuts": {"red": "g_rr > 0"}})
    said: list[str] = []
    with pytest.raises(UserError) as caught:
        check(load(survey.config), said.append)
    cut, scale = str(caught.value).splitlines()
    assert "g_rr" in cut
    assert scale == (
        f"images.pixel_scale: pixels have 0.2630 arcsec in g, r ({tmp_path}/tiles/A00_g.fits.fz[1]), but 0.2882 is expected "
        "(within 0.5 %). Name another survey, or set images.pixel_scale: 0.263."
    )
    assert "              pixel scale  0.2630 arcsec                        0.2882   refused" in said


def test_bands_that_are_not_cut_are_shown_but_not_missed(tmp_path):
    survey = make(tmp_path, n_objects=200)
    survey.edit(run={"directory": "runs"}, images={"bands": ["g", "r", "Y"]}, cutouts={"bands": ["g"]})
    said: list[str] = []
    check(load(survey.config), said.append)
    assert "images      on disk: g 4, r 3, Y 0" in said
    assert not [line for line in said if "warning" in line]
    assert "            g, r of A00 and 3 more                              configuration" in said
