from pathlib import Path

import pytest

from survey_scan.errors import ConfigError
from survey_scan.simulation.config import KINDS, Counts, load

GIVEN = Path(__file__).parent.parent / "configs" / "simulate.yaml"

PLAIN = """\
output: {directory: set, seed: 1, size: 45}
survey:
  pixel_scale: 0.263
  zero_point: 30.0
  bands:
    g: {fwhm: 1.0, noise: 2.0, gain: 10}
    i: {fwhm: [0.8, 1.0], noise: [4.0, 5.0]}
counts: {lens: 10}
"""


@pytest.fixture
def file(tmp_path):
    def written(text: str) -> Path:
        (tmp_path / "s.yaml").write_text(text)
        return tmp_path / "s.yaml"

    return written


def problems(path: Path, *settings: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(path, settings)
    return str(caught.value).replace(f"{path}:", "").splitlines()


def test_the_example_can_be_read():
    config = load(GIVEN)
    assert config.bands == ["g", "r", "i"] and config.counts.total == 30500 and config.partitions == 30
    assert (config.arc_band, config.lens_band) == (0, 2)
    assert config.output.directory == GIVEN.parent / "simulated"


def test_defaults(file):
    config = load(file(PLAIN))
    assert config.wavelengths == [4800.0, 7800.0] and (config.arc_band, config.lens_band) == (0, 1)
    assert config.cutouts.bands == ["g", "i"] and config.cutouts.partition == 1024


def test_every_kind_has_a_count():
    assert set(Counts.model_fields) == set(KINDS)


def test_paths_are_relative_to_the_file_and_settings_to_the_working_directory(file, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    text = PLAIN.replace("fwhm: 1.0", "psf: psf.npy") + "sources: {stamps: $STAMPS/cosmos.npz}\n"
    monkeypatch.setenv("STAMPS", "/data")
    config = load(file(text), ("output.directory=here", "counts.lens=3"))
    assert config.output.directory == Path("/here") and config.counts.lens == 3
    assert config.sources.stamps == Path("/data/cosmos.npz")
    assert config.survey.bands["g"].psf == tmp_path / "psf.npy"
    monkeypatch.delenv("STAMPS")
    assert problems(file(text)) == ["9:11: environment variable $STAMPS in '$STAMPS/cosmos.npz' is not set"]


def test_every_problem_is_said_at_its_place(file):
    text = PLAIN.replace("seed: 1,", "").replace("gain: 10", "gian: 10").replace("lens: 10", "lens: -1")
    assert problems(file(text)) == [
        "1:1: 'output.seed' is required",
        "6:32: unknown key 'survey.bands.g.gian'. Did you mean 'gain'?",
        "8:10: 'counts.lens' is -1: input should be greater than or equal to 0",
    ]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("lens: 10", "lens: 0", f"8:1: counts: nothing is asked for; give some of {', '.join(KINDS)}"),
        ("lens: 10", "painted: 5", "1:1: counts.painted needs a section 'painted' with 'store' and 'table'"),
        ("fwhm: 1.0, ", "", "6:5: survey.bands.g: give 'fwhm' (arcsec) or 'psf' (a file), one of them"),
        (
            "    i:",
            "    F814W:",
            "2:1: survey: band 'F814W' needs its 'wavelength' in Å; known by name are "
            "u, g, r, i, z, y, Y, VIS, J, H, Ks",
        ),
        ("counts:", "constraints: {arc_band: r}\ncounts:", "1:1: constraints.arc_band is 'r', not one of g, i"),
        (
            "counts:",
            "prior: {kind: flat}\ncounts:",
            "8:1: prior: 'arc_snr' is the range of kind 'flat', which needs it; 'population' has none",
        ),
        (
            "counts:",
            "sources: {radius: [0.3, 0.1]}\ncounts:",
            "8:11: sources.radius: a range is [lowest, highest], not [0.3, 0.1]",
        ),
        (
            "size: 45",
            "size: 45, partition: 1000",
            "1:1: output: 'partition' must be a multiple of 256 (a chunk), not 1000",
        ),
    ],
)
def test_what_contradicts_itself(file, old, new, problem):
    assert problems(file(PLAIN.replace(old, new))) == [problem]
