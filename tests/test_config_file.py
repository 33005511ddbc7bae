import re
from pathlib import Path

import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from pydantic import BaseModel

from survey_scan.cli import main
from survey_scan.config import Config
from survey_scan.config_file import dump, load
from survey_scan.errors import ConfigError

EXAMPLE = Path(__file__).parent.parent / "configs" / "example.yaml"

MINIMAL = """\
run: {name: lrg}
catalogue: {files: cat.fits}
images: {files: "{tile}_{band}.fits", bands: [g, r]}
cutouts: {bands: [g, r], size: 32}
model: {path: loopback}
"""


def problems(tmp_path: Path, text: str, *settings: str) -> list[str]:
    path = tmp_path / "lrg.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError) as error:
        load(path, settings)
    return str(error.value).replace(str(path), "lrg.yaml").splitlines()


def keys(model: type[BaseModel], data: dict, at: str = "") -> list[str]:
    """Fields of the models that the data leave out."""
    missing = []
    for name, field in model.model_fields.items():
        if name not in data:
            missing.append(f"{at}{name}")
            continue
        inner = [t for t in [field.annotation, *getattr(field.annotation, "__args__", ())] if isinstance(t, type)]
        for t in inner:
            if issubclass(t, BaseModel) and isinstance(data[name], dict):
                values = (
                    [data[name]]
                    if field.annotation is t or "dict" not in str(field.annotation)
                    else data[name].values()
                )
                for value in values:
                    missing += keys(t, value, f"{at}{name}.")
    return missing


def test_example_shows_every_key_and_comments_it():
    data = yaml.safe_load(EXAMPLE.read_text())
    assert keys(Config, data) == []
    for line in EXAMPLE.read_text().splitlines():
        if re.match(r"^  [a-z_]+:", line) and "run:" not in line:
            text = line if "#" in line else EXAMPLE.read_text().split(line + "\n")[1].splitlines()[0]
            assert "#" in text or line.strip().startswith("directory"), f"no comment: {line}"


def test_demo_is_valid():
    config = load(EXAMPLE.parent / "demo.yaml")
    assert config.model.path == str(EXAMPLE.parent / "model")


def test_example_is_valid(monkeypatch):
    config = load(EXAMPLE)
    assert config.catalogue.missing == [99, -9.999e9]
    assert config.catalogue.files == [str(EXAMPLE.parent / "catalogue/*.fits")]
    assert config.run.path == EXAMPLE.parent / "runs" / "lrg"


def test_defaults_shown_in_the_example_are_the_defaults(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text(MINIMAL)
    minimal, shown = load(path), load(EXAMPLE)
    assert minimal.resources == shown.resources
    assert minimal.ranking == shown.ranking
    for name in ("dtype", "max_bad_fraction", "partition"):
        assert getattr(minimal.cutouts, name) == getattr(shown.cutouts, name)
    for name in ("output", "column", "nan_fill", "batch_size", "jit"):
        assert getattr(minimal.model, name) == getattr(shown.model, name)


def test_resolved_file_reads_back_equal(tmp_path):
    for source in (EXAMPLE,):
        config = load(source)
        path = tmp_path / "resolved.yaml"
        path.write_text(dump(config, "all settings\nof this run"))
        assert load(path) == config
        assert path.read_text().startswith("# all settings\n# of this run\n")


def test_all_problems_at_once_with_their_places(tmp_path):
    text = """\
run: {name: lrg}
catalogue:
  files: cat.fits
  id_colum: ID
  magnitudes:
    mag_g: {flux: F, zero_pont: 22.5}
images: {files: "{band}.fits", bands: [g, r]}
cutouts:
  bands: [g, r]
  size: "32"
  partition: 1000
model: {path: loopback}
rankin: {top: 3}
"""
    assert problems(tmp_path, text) == [
        "lrg.yaml:4:3: unknown key 'catalogue.id_colum'. Did you mean 'id_column'?",
        "lrg.yaml:6:22: unknown key 'catalogue.magnitudes.mag_g.zero_pont'. Did you mean 'zero_point'?",
        "lrg.yaml:7:10: images.files: 'files' needs '{tile}' where the tile's name stands, "
        "e.g. '{tile}/{tile}_{band}.fits.fz'",
        "lrg.yaml:10:3: 'cutouts.size' is '32': input should be a valid integer",
        "lrg.yaml:11:3: cutouts.partition: 'partition' must be a multiple of 256 (a chunk), not 1000",
        "lrg.yaml:13:1: unknown key 'rankin'. Did you mean 'ranking'?",
    ]


def test_missing_sections_and_contradictions(tmp_path):
    assert problems(tmp_path, "run: {name: lrg}\n") == [
        f"lrg.yaml:1:1: '{name}' is required" for name in ("catalogue", "images", "cutouts")
    ]
    assert problems(tmp_path, MINIMAL.replace("model: {path: loopback}", "")) == [
        "lrg.yaml:1:1: give 'model' (one) or 'models' (several, by name), one of them"
    ]
    assert problems(tmp_path, MINIMAL.replace("cutouts: {bands: [g, r]", "cutouts: {bands: [g, i]")) == [
        "lrg.yaml:1:1: cutouts.bands has 'i', which is not in images.bands (g, r)"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "",
            "lrg.yaml:1:1: expected sections (run, survey, catalogue, selection, images, cutouts, model, models, "
            "cascade, ranking, resources), found none",
        ),
        ("run: {name: a\n", "lrg.yaml:2:1: not valid YAML: expected ',' or '}', but got '<stream end>'"),
        ("run: {name: a}\nrun: {name: b}\n", "lrg.yaml:2:1: key 'run' stands twice, first at lrg.yaml:1:1"),
    ],
)
def test_not_a_configuration(tmp_path, text, expected):
    assert problems(tmp_path, text)[0] == expected


def test_no_such_file(tmp_path):
    with pytest.raises(ConfigError, match=re.escape(f"{tmp_path / 'no.yaml'}: no such file")):
        load(tmp_path / "no.yaml")


def test_settings_replace_and_are_named_in_problems(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "sub" / "lrg.yaml"
    path.parent.mkdir()
    path.write_text(MINIMAL)
    assert load(path).run.path == path.parent / "runs" / "lrg"
    config = load(path, ("ranking.top=7", "cutouts.dtype=int16", "catalogue.missing=[1e3]", "model.path=m.keras"))
    assert (config.ranking.top, config.cutouts.dtype, config.catalogue.missing) == (7, "int16", [1000.0])
    assert config.model.path == str(tmp_path / "m.keras")  # typed in this folder, so meant in this folder
    assert problems(tmp_path, MINIMAL, "ranking.tpo=7") == [
        "--set ranking.tpo=7: unknown key 'ranking.tpo'. Did you mean 'top'?"
    ]
    assert problems(tmp_path, MINIMAL, "x") == [
        "--set x: expected section.key=value, for example --set ranking.top=500"
    ]
    assert problems(tmp_path, MINIMAL, "run.name.a=3") == ["--set run.name.a=3: 'name' is not a section"]


def test_yaml_1_2_scalars(tmp_path):
    path = tmp_path / "lrg.yaml"
    path.write_text(MINIMAL.replace("bands: [g, r]", "bands: [g, r, y, on, no]", 1) + "ranking: {threshold: 1e-3}\n")
    config = load(path)
    assert config.images.bands == ["g", "r", "y", "on", "no"]
    assert config.ranking.threshold == 1e-3


def test_environment_in_paths(tmp_path, monkeypatch):
    monkeypatch.setenv("SCRATCH", "/scratch/me")
    path = tmp_path / "lrg.yaml"
    path.write_text(MINIMAL.replace("cat.fits", "$SCRATCH/cat.fits"))
    assert load(path).catalogue.files == ["/scratch/me/cat.fits"]
    assert problems(tmp_path, MINIMAL.replace("cat.fits", "$NO_SUCH/cat.fits")) == [
        "lrg.yaml:2:13: environment variable $NO_SUCH in '$NO_SUCH/cat.fits' is not set"
    ]


def test_nothing_can_be_changed(tmp_path):
    config = load(EXAMPLE)
    with pytest.raises(ValueError, match="frozen"):
        config.ranking.top = 3


def test_what_is_wrong_with_a_selection_is_told_with_its_place(tmp_path):
    """Which columns there are is known only when the catalogue is opened."""
    rows = pd.DataFrame({"object_id": [1], "ra": [1.0], "dec": [2.0], "G": [20.0], "R": [19.0]})
    rows.to_parquet(tmp_path / "c.parquet")
    path = tmp_path / "a.yaml"
    path.write_text(
        "run: {name: a}\ncatalogue: {files: c.parquet, columns: {mag_g: G}}\nselection:\n  define:\n    g_r: mag_g - R\n"
        "  cuts:\n    red: g_r > 0.6\n    bright: mag_g <\n    text: mag_g + 1\n  keep: [mag_z]\n"
        "images: {files: '{tile}.fits', bands: [g], index: none.csv}\ncutouts: {bands: [g], size: 32}\nmodel: {path: loopback}\n"
    )
    results = [
        CliRunner().invoke(main, [command, str(path), "--set", "selection.cuts.new=zz > 1"])
        for command in ("check", "plan")
    ]
    for result in results:
        assert result.exit_code == 2
        lines = [line.replace(f"{tmp_path}/", "") for line in result.stderr.splitlines()]
        known = "Defined: mag_g."
        assert lines[0] == (
            "a.yaml:5:5: definition 'g_r' uses 'R', a column of c.parquet that is not read. Add it to catalogue.columns: R: R"
        )
        assert lines[1].startswith(
            "a.yaml:8:5: cut 'bright': 'mag_g <' cannot be read at its end. An expression may hold"
        )
        assert lines[2] == "a.yaml:9:5: cut 'text': 'mag_g + 1' is a number, not a condition. Compare it."
        assert lines[3] == (
            f"--set selection.cuts.new=zz > 1: cut 'new' uses 'zz', which is neither a column of c.parquet nor defined. {known}"
        )
        assert lines[4].startswith(
            "a.yaml:10:3: selection.keep uses 'mag_z', which is neither a column of c.parquet nor defined."
        )
