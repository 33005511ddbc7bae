"""The command, and partitions of all kinds."""

import importlib.util
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

from survey_scan import box, records, store
from survey_scan.cli import main
from survey_scan.config import Box, Cutouts
from survey_scan.engine import simulate as simulating
from survey_scan.errors import RunError
from survey_scan.imaging.base import Cutouts as Pixels
from survey_scan.schema import Status
from survey_scan.simulation import order, partition
from survey_scan.simulation.config import KINDS, load
from survey_scan.simulation.folder import TrainingSet
from survey_scan.store import Reader

TEXT = """\
output: {directory: set, seed: 7, size: 33, partition: 256}
survey:
  pixel_scale: 0.263
  zero_point: 30.0
  supersampling: 1
  bands:
    g: {fwhm: [0.95, 1.1], noise: 2.0, gain: 10}
    r: {fwhm: [0.85, 1.0], noise: 2.6, gain: 10}
    i: {fwhm: 0.9, noise: [4.0, 5.0], gain: 10}
counts: {lens: 60, deflector: 20, elliptical: 60, spiral: 60, ring: 20, irregular: 10, merger: 20, companions: 20}
prior: {kind: flat, theta_E: [1.0, 2.5], arc_snr: [50, 160]}
neighbours: {galaxies: 17, stars: 2}
"""


@pytest.fixture
def file(tmp_path) -> Path:
    (tmp_path / "s.yaml").write_text(TEXT)
    return tmp_path / "s.yaml"


def contents(folder: Path) -> dict[str, bytes]:
    """All that a training set is, and nothing of how it came to be."""
    found = {}
    for path in sorted([*folder.glob("cutouts.zarr/**/*"), *folder.glob("truth/*"), folder / "lenses.parquet"]):
        if path.is_file():
            found[str(path.relative_to(folder))] = path.read_bytes()
    return found


def truth(folder: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(p) for p in sorted(folder.glob("truth/*.parquet"))], ignore_index=True)


def test_the_same_seed_gives_the_same_set_whatever_makes_it(file, tmp_path, scheduler):
    """Two workers, and a second start after half of it was lost, give byte for byte what one process gives."""
    run = CliRunner().invoke(main, ["simulate", str(file), "--scheduler", scheduler])
    assert run.exit_code == 0, run.output
    lines = [line.split(maxsplit=1)[0] for line in run.output.splitlines() if not line[0].isdigit()]
    assert lines == ["set", "workers", "rate", "lenses", "rejected", "colours", "done"]
    folder = tmp_path / "set"
    first = contents(folder)

    config = load(file, (f"output.directory={tmp_path / 'alone'}",))
    made = TrainingSet(tmp_path / "alone")
    made.path.mkdir()
    key = simulating._open(config, file, made, print)
    for number in (1, 0, 1):  # in another order, one of them twice
        made.record(number).unlink(missing_ok=True)
        simulating.task(str(made), number, key)
    simulating._close(config, made, key, print)
    assert contents(tmp_path / "alone") == first

    TrainingSet(folder).record(1).unlink()
    TrainingSet(folder).truth(1).write_bytes(b"half")
    store.forget(TrainingSet(folder).store, 1)
    run = CliRunner().invoke(main, ["simulate", str(file), "--scheduler", scheduler])
    assert run.exit_code == 0 and "finished    256 objects already" in run.output
    assert contents(folder) == first
    other = partition.simulate(load(file, ("output.seed=8",)), 0, {})
    assert not np.array_equal(other.cutouts.image, Reader(folder / "cutouts.zarr").pixels(0, 256))

    with pytest.raises(RunError) as caught:
        simulating.run(load(file, ("counts.lens=70",)), file, None, None, print)
    assert str(caught.value) == (
        f"{folder} is a training set made otherwise (another configuration). Choose another output.directory, or delete it."
    )


def test_what_is_in_a_set(file, tmp_path):
    config = load(file)
    made = TrainingSet(tmp_path / "set")
    made.path.mkdir()
    key = simulating._open(config, file, made, print)
    for number in range(2):
        simulating.task(str(made), number, key)
    simulating._close(config, made, key, print)
    found = truth(made.path)
    counts = found["kind"].value_counts()
    assert {kind: counts.get(kind, 0) for kind in KINDS} == config.counts.model_dump()
    assert found["kind"].iloc[:100].nunique() > 4  # well mixed
    assert (found["label"] == (found["kind"] == "lens")).all()
    assert found["object_id"].tolist() == list(range(270)) and found["seed"].iloc[257] == "7:1:1"
    lens = found[found["kind"] == "lens"]
    assert lens["theta_E"].between(1.0, 2.5).all() and found.loc[found["label"] == 0, "theta_E"].isna().all()
    total = 10 ** (0.4 * (30 - lens["mag_g"]))
    assert (total > lens["arc_flux_g"]).all() and (lens["arc_flux_g"] > 2.9 * lens["source_flux_g"]).all()
    reader = Reader(made.store)
    assert reader.attributes["zero_point"] == 30.0 and reader.attributes["pixel_scale"] == 0.263
    assert reader.n_targets == 270 and (reader.column("status", 0, 270) == Status.OK).all()
    assert reader.column("object_id", 0, 270).tolist() == list(range(270))
    bright = found.index[(found["mag_i"] < 20) & (found["kind"] == "elliptical")]
    image = reader.pixels(0, 270)[bright]
    assert np.isfinite(image).all()
    flux = image[..., 2].sum(axis=(1, 2))
    assert np.median(flux / 10 ** (0.4 * (30 - found.loc[bright, "mag_i"]))) == pytest.approx(0.95, abs=0.15)
    record = records.read(made.record(0))
    assert (
        record is not None
        and record["objects"] == 256
        and record["draws"] == record["accepted"] + sum(record["rejected"].values())
    )
    drawn = box.draw(Box(lenses=str(made.lenses), colours=["mag_g - mag_r", "mag_r - mag_i"]), [])
    assert (drawn.lenses, drawn.used) == (60, 60) and drawn.inside > 50


def test_noise_is_that_of_the_survey(file):
    empty = load(file, ("counts={elliptical: 40}", "galaxies.magnitude=[30, 30.1]", "neighbours={}"))
    image = partition.simulate(empty, 0, {}).cutouts.image
    assert image[..., 0].std() == pytest.approx(2.0, rel=0.02) and abs(image[..., 0].mean()) < 0.05
    assert 4.0 < image[..., 2].std() < 5.0


def test_a_deflector_is_a_lens_galaxy_without_its_source(file):
    settings = ("neighbours={}", "output.size=45")
    lens = partition.simulate(load(file, ("counts={lens: 20}", *settings)), 0, {})
    alone = partition.simulate(load(file, ("counts={deflector: 20}", *settings)), 0, {})
    assert lens.truth["z_lens"].tolist() == alone.truth["z_lens"].tolist()
    assert (lens.truth["mag_g"] < alone.truth["mag_g"]).all()
    missing = (lens.cutouts.image - alone.cutouts.image)[..., 0].sum(axis=(1, 2))
    assert np.median(missing / lens.truth["arc_flux_g"]) == pytest.approx(0.95, abs=0.1)


def real_store(folder: Path, n: int = 300, size: int = 37) -> Path:
    """A scan's store of red galaxies in r, g, i, with one target without a cutout."""
    rng = np.random.default_rng(3)
    y, x = np.indices((size, size)) - size // 2
    light = np.exp(-np.hypot(x, y) / 3)[None, :, :, None] * np.array([60.0, 20.0, 90.0])
    image = (light + rng.normal(0, 2.0, (n, size, size, 3))).astype(np.float32)
    status = np.zeros(n, np.uint8)
    status[5] = Status.MISSING
    spec = Cutouts(bands=["r", "g", "i"], size=size, partition=256)
    facts = {"pixel_scale": 0.263, "zero_point": 30.0}
    store.create(folder, n, spec, np.int64, facts)
    for part in range(-(-n // 256)):
        rows = slice(part * 256, min(n, (part + 1) * 256))
        ids = np.arange(n)[rows] + 1000
        zero = np.zeros(len(ids))
        store.write(
            folder, part, ids, zero, zero, Pixels(image[rows], status[rows], np.zeros((len(ids), 3), np.float32))
        )
    return folder


REAL = """
painted: {store: scan.zarr, table: red.csv}
field: {store: scan.zarr, table: field.parquet}
"""


@pytest.fixture
def with_real(tmp_path) -> Path:
    real_store(tmp_path / "scan.zarr")
    red = pd.DataFrame({"object_id": [1000, 1005, 1299, 7], "mag_g": 20.0, "mag_r": 19.0, "mag_i": 18.5})
    red.to_csv(tmp_path / "red.csv", index=False)
    pd.DataFrame({"object_id": np.arange(1100, 1130)}).to_parquet(tmp_path / "field.parquet")
    text = TEXT[: TEXT.index("counts")] + "counts: {painted: 12, field: 25}\n" + TEXT[TEXT.index("prior") :] + REAL
    (tmp_path / "real.yaml").write_text(text)
    return tmp_path / "real.yaml"


def test_arcs_are_painted_onto_real_cutouts_and_the_field_is_copied(with_real, tmp_path):
    config, made = load(with_real), TrainingSet(tmp_path / "set")
    made.path.mkdir()
    said: list[str] = []
    key = simulating._open(config, with_real, made, said.append)
    assert said == [
        f"painted     2 real cutouts of {tmp_path}/scan.zarr",
        f"field       30 real cutouts of {tmp_path}/scan.zarr",
    ]
    simulating.task(str(made), 0, key)
    found, image = truth(made.path), Reader(made.store).pixels(0, 37)
    given = Reader(tmp_path / "scan.zarr").pixels(0, 300)[:, 2:35, 2:35][..., [1, 0, 2]]
    field, painted = found[found["kind"] == "field"], found[found["kind"] == "painted"]
    assert field["origin"].is_unique and (field["label"] == 0).all()
    assert np.array_equal(image[field.index], given[field["origin"].astype(int) - 1000])
    assert set(painted["origin"]) == {"1000", "1299"} and (painted["label"] == 1).all()
    added = image[painted.index] - given[painted["origin"].astype(int) - 1000]
    share = added.sum(axis=(1, 2)) / painted[["arc_flux_g", "arc_flux_r", "arc_flux_i"]].to_numpy()
    assert np.median(share) == pytest.approx(0.97, abs=0.06)
    flux = 10 ** (0.4 * (30 - 20.0)) + painted["arc_flux_g"]
    assert painted["mag_g"].to_numpy() == pytest.approx((30 - 2.5 * np.log10(flux)).to_numpy())
    # the noise of the real cutout stays: only the photons of the arcs are added to it
    assert added[..., 0].std() < 10 and np.median(np.abs(added[:, 0, 0])) < 1.0
    assert found["z_lens"].isna().all()


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        (
            ("counts.field=40",),
            "field.table {0}/field.parquet names 30 objects, 30 of them with a good cutout in {0}/scan.zarr; 40 are "
            "needed. Name more, or ask for fewer with counts.field.",
        ),
        (
            ("output.size=34",),
            "painted.store {0}/scan.zarr has cutouts of 37 pixels; output.size is 34. It must be no larger, and both odd "
            "or both even.",
        ),
        (
            ("survey.zero_point=22.5",),
            "painted.store {0}/scan.zarr has a zero point of 30 in g; survey.zero_point is 22.5. Cut it with "
            "cutouts.zero_point: 22.5, or change the survey's.",
        ),
        (
            ("survey.pixel_scale=0.2",),
            "painted.store {0}/scan.zarr has a pixel scale of 0.263 arcsec; survey.pixel_scale is 0.2.",
        ),
        (
            ("survey.bands.z={fwhm: 1.0, noise: 3.0}",),
            "painted.store {0}/scan.zarr has no band 'z'; it has r, g, i. Simulate its bands, or cut these out as well.",
        ),
        (("painted.table=none.csv",), "painted.table {1}/none.csv cannot be read: [Errno 2]"),
        (("painted.store=none",), "{1}/none is not a store of cutouts. Run the scan first."),
    ],
)
def test_real_cutouts_that_do_not_fit(with_real, tmp_path, settings, problem):
    said = CliRunner().invoke(main, ["simulate", str(with_real), *(w for s in settings for w in ("--set", s))])
    assert said.exit_code == 2
    *before, last = said.output.splitlines()
    assert last.startswith(problem.format(tmp_path, Path.cwd()))
    assert all(line.startswith("painted     2 real cutouts") for line in before)


def test_without_lenstronomy(file, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    said = CliRunner().invoke(main, ["simulate", str(file)])
    assert (said.exit_code, said.output) == (
        2,
        "simulating needs lenstronomy, which is not installed. pip install 'survey_scan[simulate]'\n",
    )


def test_stamps_that_are_not_there_stop_before_the_cluster(file, tmp_path):
    said = CliRunner().invoke(main, ["simulate", str(file), "--set", f"sources.stamps={tmp_path}/none.npy"])
    assert said.exit_code == 2 and said.output.startswith(f"{tmp_path}/none.npy: cannot be read as stamps: ")
    assert not (tmp_path / "set").exists()


def test_a_folder_of_something_else_is_left_alone(file, tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "thesis.tex").touch()
    said = CliRunner().invoke(main, ["simulate", str(file)])
    assert (said.exit_code, said.output) == (
        2,
        f"{tmp_path}/set exists and is no training set: it holds thesis.tex. Choose another output.directory.\n",
    )


def test_impossible_constraints_end_the_command(file, scheduler):
    words = ["simulate", str(file), "--scheduler", scheduler, "--set", "constraints.seeing=50"]
    said = CliRunner().invoke(main, words)
    assert said.exit_code == 2 and "Loosen constraints.seeing" in said.output and "Traceback" not in said.output


def test_the_order_is_of_the_seed_alone(file):
    config = load(file)
    kinds = [kind for p in range(2) for kind in order.of_partition(config, p)[0]]
    assert {kind: kinds.count(kind) for kind in KINDS} == config.counts.model_dump()
    numbers = np.concatenate([order.of_partition(config, p)[1] for p in range(2)])
    assert sorted(n for n, kind in zip(numbers, kinds, strict=True) if kind == "lens") == list(range(60))
