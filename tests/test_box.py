"""A colour box drawn from simulated lenses."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from astropy.table import Table
from click.testing import CliRunner

from survey_scan.box import draw
from survey_scan.cli import main
from survey_scan.config import Box
from survey_scan.config_file import dump, load
from survey_scan.engine import state
from survey_scan.errors import ConfigError

REST = "run: {name: a}\nimages: {files: '{tile}.fits', bands: [g]}\ncutouts: {bands: [g], size: 32}\nmodel: {path: loopback}\n"
CATALOGUE = "catalogue: {files: c.parquet, columns: {mag_g: g, mag_r: r, mag_i: i}, missing: [99]}\n"


def lenses(n: int = 201) -> pd.DataFrame:
    """g - r from 0 to 2 in equal steps; g - i the same backwards, from 3 to 1."""
    step = np.arange(n) / (n - 1)
    return pd.DataFrame({"mag_g": 22.0, "mag_r": 22 - 2 * step, "mag_i": 22 - (3 - 2 * step)})


def drawn(path: Path, *colours: str, fraction: float = 0.98, missing: tuple[float, ...] = ()):
    return draw(Box(lenses=str(path), colours=list(colours), fraction=fraction), list(missing))


def message(path: Path, *colours: str) -> str:
    with pytest.raises(ConfigError) as error:
        drawn(path, *colours)
    return str(error.value)


def test_percentiles_of_rows_made_by_hand(tmp_path):
    lenses().to_parquet(tmp_path / "l.parquet")
    found = drawn(tmp_path / "l.parquet", "mag_g - mag_r", "mag_g-mag_i", fraction=0.9)
    assert found.cuts == {
        "box: mag_g - mag_r": "0.1 < mag_g - mag_r < 1.9",
        "box: mag_g - mag_i": "1.1 < mag_g - mag_i < 2.9",
    }
    assert (found.lenses, found.used) == (201, 201)
    assert found.inside == pytest.approx(179, abs=2)  # both colours cut off the same lenses
    assert found.text == f"holds {found.inside} of 201 lenses ({found.inside / 201:.1%})"


def test_fits_and_csv_give_the_same(tmp_path):
    table = lenses()
    table.to_parquet(tmp_path / "l.parquet")
    table.to_csv(tmp_path / "l.csv", index=False)
    Table.from_pandas(table).write(tmp_path / "l.fits")
    expected = drawn(tmp_path / "l.parquet", "mag_g - mag_r")
    for name in ("l.csv", "l.fits"):
        assert drawn(tmp_path / name, "mag_g - mag_r") == expected


def test_lenses_without_a_magnitude_are_left_out(tmp_path):
    table = lenses()
    table.loc[:4, "mag_r"] = [np.nan, np.inf, 99.0, 99.0, -np.inf]
    table.to_csv(tmp_path / "l.csv", index=False)
    found = drawn(tmp_path / "l.csv", "mag_g - mag_r", missing=(99.0,))
    assert (found.lenses, found.used) == (201, 196)
    assert found.text.endswith(", 5 more lack a magnitude")
    assert found.cuts == drawn_of(table.iloc[5:], tmp_path).cuts


def drawn_of(table: pd.DataFrame, folder: Path):
    table.to_parquet(folder / "rest.parquet")
    return drawn(folder / "rest.parquet", "mag_g - mag_r")


def test_messages(tmp_path):
    path = tmp_path / "l.csv"
    assert message(path, "mag_g - mag_r") == (
        f"{path} cannot be read (there is no such file). Name the table of your simulated lenses."
    )
    lenses(19).to_csv(path, index=False)
    assert message(path, "mag_g - mag_r") == (
        f"{path} has 19 lenses, 19 of them with mag_g, mag_r; a box is drawn from at least 20. Simulate more, or write the cuts "
        "yourself."
    )
    assert message(path, "mag_g - mag_z") == (
        f"{path} has no column 'mag_z'. It has: mag_g, mag_r, mag_i. Name its magnitudes as catalogue.columns or "
        "catalogue.magnitudes do."
    )
    lenses().assign(mag_r=21.5).to_csv(path, index=False)
    assert message(path, "mag_g - mag_r") == (
        f"{path}: mag_g - mag_r is 0.5 in all lenses, of which no box can be drawn. Name other columns."
    )
    lenses().assign(mag_r="bright").to_csv(path, index=False)
    assert message(path, "mag_g - mag_r").startswith(f"{path} holds something else than numbers among mag_g, mag_r (")
    (tmp_path / "l.txt").write_text("")
    assert message(tmp_path / "l.txt", "mag_g - mag_r") == (
        f"{tmp_path}/l.txt is of no kind that is read. Kinds are: .fits, .fits.gz, .fit, .parquet, .pq, .csv."
    )


def test_the_configuration_says_the_numbers(tmp_path, monkeypatch):
    lenses().to_parquet(tmp_path / "lenses.parquet")
    path = tmp_path / "a.yaml"
    box = "box: {lenses: lenses.parquet, colours: [mag_g - mag_r], fraction: 0.9}"
    path.write_text(f"{REST}{CATALOGUE}selection: {{{box}, paper: jacobs2019a, cuts: {{bright: mag_r < 22}}}}\n")
    config = load(path)
    assert next(iter(config.selection.cuts)).startswith("jacobs2019a: ")
    assert list(config.selection.cuts.items())[-2:] == [
        ("box: mag_g - mag_r", "0.1 < mag_g - mag_r < 1.9"), ("bright", "mag_r < 22"),
    ]  # fmt: skip
    resolved = tmp_path / "config.resolved.yaml"
    resolved.write_text(dump(config, "all"))
    (tmp_path / "lenses.parquet").unlink()  # the numbers stand in it
    assert load(resolved) == config
    plain = yaml.safe_load(dump(config, ""))
    plain["selection"]["box"] = plain["selection"]["paper"] = None
    (tmp_path / "plain.yaml").write_text(yaml.safe_dump(plain, sort_keys=False))
    assert state.differences(load(tmp_path / "plain.yaml"), config) == {"plan": [], "cutouts": []}


def problems(path: Path, text: str) -> list[str]:
    path.write_text(REST + CATALOGUE + text)
    with pytest.raises(ConfigError) as error:
        load(path)
    return str(error.value).replace(f"{path.parent}/", "").splitlines()


def test_what_is_wrong_is_told_with_its_place(tmp_path):
    path = tmp_path / "a.yaml"
    assert problems(path, "selection:\n  box: {colours: [mag_g - mag_r], lenses: none.csv}\n") == [
        "a.yaml:7:35: none.csv cannot be read (there is no such file). Name the table of your simulated lenses."
    ]
    assert problems(path, "selection:\n  box: {colours: [mag_g / mag_r], lenses: none.csv}\n") == [
        "a.yaml:7:9: selection.box.colours: a colour is one column less another, such as 'mag_g - mag_r', not 'mag_g / mag_r'"
    ]
    assert problems(path, "selection:\n  box: {colours: [mag_g - mag_r], lenses: none.csv, fraction: 1.0}\n") == [
        "a.yaml:7:53: 'selection.box.fraction' is 1.0: input should be less than 1"
    ]


def test_check_says_how_many_lenses_are_inside(tmp_path):
    lenses().to_parquet(tmp_path / "lenses.parquet")
    rows = pd.DataFrame(
        {"object_id": range(3), "ra": 1.0, "dec": 2.0, "g": [22, 22, 99], "r": [21.0, 19.0, 20], "i": 20.0}
    )
    rows.astype({"g": float}).to_parquet(tmp_path / "c.parquet")
    path = tmp_path / "a.yaml"
    path.write_text(f"{REST}{CATALOGUE}selection: {{box: {{lenses: lenses.parquet, colours: [mag_g - mag_r]}}}}\n")
    said = CliRunner().invoke(main, ["check", str(path)]).output
    found = drawn(tmp_path / "lenses.parquet", "mag_g - mag_r")
    assert f"            the box holds {found.inside} of 201 lenses" in said and found.inside / 201 == pytest.approx(
        0.98, abs=0.01
    )
    assert "            of the first 3 objects 1 are selected\n" in said


def test_real_lenses(survey_data, tmp_path):
    """10,000 luminous red galaxies of SDSS, in place of lenses: a box of their colours holds what it says."""
    path = survey_data / "lenses/sdss_lrg_ps1_batch_5.csv"
    found = drawn(path, "ps1_g_mag - ps1_r_mag", "ps1_r_mag - ps1_i_mag", fraction=0.9)
    table = pd.read_csv(path)[["ps1_g_mag", "ps1_r_mag", "ps1_i_mag"]].dropna()
    assert found.used == len(table)
    inside = np.ones(len(table), bool)
    for text in found.cuts.values():
        low, colour, high = (part.strip() for part in text.split("<"))
        share = table.eval(f"{low} < {colour} < {high}")
        assert share.mean() == pytest.approx(0.9, abs=0.002)
        inside &= share.to_numpy()
    assert found.inside == inside.sum()
    assert 0.8 < inside.mean() < 0.9
