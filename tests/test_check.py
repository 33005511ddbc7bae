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
    assert "images      1,204 tiles, bands g, r" in said
    looked_at = {line.split(":")[0].strip() for line in said if "pixels of 0.2630 arcsec" in line}
    assert looked_at and looked_at <= set(TILES)
    assert said[-1] == "all is well. Next: survey_scan run"


def test_an_index_that_names_other_tiles_than_the_files(tmp_path):
    survey = make(tmp_path, n_objects=200)
    here = tiles.tile_table(load(survey.config).images).drop(columns="problem")
    here.assign(tile="X" + here["tile"]).to_csv(tmp_path / "index.csv", index=False)
    survey.edit(images={"index": "index.csv"})
    with pytest.raises(UserError) as caught:
        check(load(survey.config), lambda line: None)

    assert str(caught.value).startswith("images: none of the tiles looked at can be used.")
