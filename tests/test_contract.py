"""Contracts: read, held against the cutouts, followed on the device, compared with parity cutouts, packed."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import small_survey
import yaml
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import BANDS, SHAPE, SIZE, Networks, linear

from survey_scan import config_file, models, store
from survey_scan.cli import main
from survey_scan.config import Config, Model
from survey_scan.config import Cutouts as Spec
from survey_scan.engine import model_check
from survey_scan.engine.state import model_key
from survey_scan.errors import ConfigError, ModelError
from survey_scan.imaging.base import Cutouts
from survey_scan.models import parity
from survey_scan.models.contract import Contract, find, read_contract
from survey_scan.models.package import cutouts_of, open_package
from survey_scan.store.quantisation import quantise, restore

SAID: dict[str, Any] = {"network": "net.keras", "bands": BANDS, "size": SIZE, "pixel_scale": 0.263, "zero_point": 30.0}


@pytest.fixture
def networks(networks_folder: Networks) -> Networks:
    return networks_folder


def package(folder: Path, networks: Networks, name: str = "linear.keras", **more: Any) -> Path:
    """A folder with a network and its contract."""
    folder.mkdir()
    file = networks[name]
    target = folder / f"net{file.suffix}"
    target.symlink_to(file)
    said = {k: v for k, v in {**SAID, "network": target.name, **more}.items() if v is not None}
    (folder / "model.yaml").write_text(yaml.safe_dump(said, sort_keys=False))
    return folder


def noise(n: int, size: int = SIZE, bands: int = 2, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 3, (n, size, size, bands)).astype(np.float32)


def load(path: Path, bands: list[str] = BANDS, size: int = SIZE, dtype: str = "float32", **more: Any) -> Any:
    return models.load(Model(path=str(path), batch_size=16, **more), bands, size, dtype)


def refusal(path: Path, *pixels: Any, **more: Any) -> str:
    with pytest.raises(ModelError) as caught:
        load(path, *pixels, **more)
    return str(caught.value)


def config(path: Path, **sections: Any) -> Config:
    return Config.model_validate({
        "run": {"name": "lrg", "directory": str(path.parent)}, "catalogue": {"files": "cat.fits"},
        "images": {"files": "{tile}_{band}.fits", "bands": ["g", "r", "i"], "pixel_scale": 0.263, "zero_point": 30.0,
                   **sections.get("images", {})},
        "cutouts": {"bands": BANDS, "size": SIZE, **sections.get("cutouts", {})}, "model": {"path": str(path)},
    })  # fmt: skip


# --- the file ---


def test_a_contract_says_what_is_wrong_with_it_and_where(tmp_path):
    path = tmp_path / "model.yaml"
    path.write_text("""\
network: net.keras
bands: [g, r, g]
sise: 8
pixel_scale: 0
normalisation:
  - {step: clip, low: a}
  - {step: asinh, softening: 2}
  - {step: sqr}
classes: [lens, spiral]
""")
    with pytest.raises(ConfigError) as caught:
        read_contract(path)
    assert str(caught.value).replace(f"{path}:", "").splitlines() == [
        "1:1: 'size' is required",
        "2:1: bands: a band is listed twice: g, r, g",
        "3:1: unknown key 'sise'. Did you mean 'size'?",
        "4:1: 'pixel_scale' is 0: input should be greater than 0",
        "6:18: 'normalisation.0.low' is 'a': input should be a valid number, or input should be a valid list",
        "7:19: unknown key 'normalisation.1.softening'. Allowed: step, scale.",
        "8:5: normalisation.2: there is no step 'sqr'. Did you mean 'sqrt'? There are clip, scale, asinh, sqrt, log, z-score, "
        "min-max, quantise, lupton, resize, order, and recipes, as {recipe: NAME}.",
    ]


def test_the_example_shows_every_key_and_the_defaults():
    path = Path(__file__).parent.parent / "configs" / "model.yaml"
    contract, data = read_contract(path), yaml.safe_load(path.read_text())
    assert set(data) == set(Contract.model_fields)
    for name in ("nan_fill", "output", "temperature", "layout", "parity"):
        assert getattr(contract, name) == Contract.model_fields[name].default
    assert contract.class_number == 1 and set(contract.zero_points.values()) == {22.5}


def test_a_step_in_a_configuration_is_told_with_its_place(tmp_path):
    path = tmp_path / "lrg.yaml"
    path.write_text("""\
run: {name: lrg}
catalogue: {files: cat.fits}
images: {files: "{tile}_{band}.fits", bands: [g, r]}
cutouts: {bands: [g, r], size: 8}
model:
  path: net.keras
  normalisation:
    - recipe: storfer2024
      mean: [0, a]
    - step: clip
      lo: 3
    - {step: min-max, per: pixel, to: [0]}
""")
    with pytest.raises(ConfigError) as caught:
        config_file.load(path)
    assert str(caught.value).replace(f"{path}:", "").splitlines() == [
        "9:7: 'model.normalisation.0.mean' is [0, 'a']: input should be a valid number",
        "9:17: 'model.normalisation.0.mean.1' is 'a': input should be a valid number",
        "11:7: unknown key 'model.normalisation.1.lo'. Did you mean 'low'?",
        "12:23: 'model.normalisation.2.per' is 'pixel': input should be 'band' or 'image'",
        "12:35: 'model.normalisation.2.to' is [0]: list should have at least 2 items after validation, not 1",
    ]
    wrong = "normalisation: {recipe: storfer2024, mean: 1.0}"
    path.write_text(path.read_text().split("  normalisation")[0] + f"  {wrong}\n")
    with pytest.raises(ConfigError) as caught:
        config_file.load(path)
    assert str(caught.value) == (
        f"{path}:7:3: model.normalisation.0: the recipe 'storfer2024' needs 'std': the standard deviation of each band over them"
    )
    path.write_text(path.read_text().replace("mean: 1.0", "mean: 1.0, std: [2, 4]"))
    loaded = config_file.load(path)
    assert [step.step for step in loaded.model.normalisation or []] == ["scale", "clip"]
    path.write_text(config_file.dump(loaded, "spelled out"))
    assert config_file.load(path) == loaded


@pytest.mark.parametrize(
    ("more", "text"),
    [
        (
            {"column": "ring", "classes": ["lens", "spiral"]},
            "'column' is 'ring', which is not in 'classes' (they are lens, spiral)",
        ),
        ({"column": "lens"}, "'column' is 'lens', which is not in 'classes' (there are none)"),
        ({"column": 2, "classes": ["lens", "spiral"]}, "'column' is 2, but 'classes' has 2, numbered from 0"),
        (
            {"classes": ["lens", "spiral"]},
            "'classes' has several, and which one is the lens is not known: give 'column', one of them",
        ),
        ({"zero_point": {"g": 30.0}}, "'zero_point' has g; give one number for all, or one for each of g, r"),
        (
            {"zero_point": 30.0, "unit": "nanomaggy"},
            "'unit' is nanomaggy, whose zero point is 22.5, but 'zero_point' is another",
        ),
        (
            {"normalisation": [{"step": "order", "bands": ["z"]}]},
            "step 1 (order): 'bands' has 'z', which is not there (g, r)",
        ),
    ],
)  # fmt: skip
def test_a_contract_does_not_contradict_itself(tmp_path, more, text):
    path = tmp_path / "model.yaml"
    path.write_text(yaml.safe_dump({**SAID, **more}))
    with pytest.raises(ConfigError) as caught:
        read_contract(path)
    assert str(caught.value) == f"{path}:1:1: {text}"


def test_it_is_found_in_the_folder_and_beside_the_file_it_names(tmp_path, networks):
    folder = package(tmp_path / "lens", networks)
    (folder / "other.keras").symlink_to(networks["sigmoid.keras"])
    place = folder / "model.yaml"
    assert find(folder) == find(folder / "net.keras") == place
    assert find(folder / "other.keras") is None and find(networks["linear.keras"]) is None
    for path in (folder, folder / "net.keras", place):
        found = open_package(Model(path=str(path)))
        assert (found.network, found.place) == (folder / "net.keras", place)
    assert open_package(Model(path=str(folder / "other.keras"))).contract is None


def test_a_contract_without_its_network_says_so(tmp_path, networks):
    folder = package(tmp_path / "lens", networks)
    (folder / "net.keras").unlink()
    assert refusal(folder) == (
        f"{folder}/model.yaml: its network, {folder}/net.keras, does not exist. Put it there, or mend 'network'."
    )


@pytest.mark.parametrize(
    "given", [{"normalisation": []}, {"nan_fill": 0.0}, {"output": "logit"}, {"column": 0}]
)  # fmt: skip
def test_only_one_of_contract_and_configuration_says_how_the_network_is_used(tmp_path, networks, given):
    folder = package(tmp_path / "lens", networks)
    (name,) = given
    assert refusal(folder, **given) == (
        f"model.{name} is given, but {folder} has a contract, {folder}/model.yaml, which says how its network is used. "
        f"Remove model.{name}, or change the contract."
    )


# --- held against the cutouts ---

GRI, SKY = ["g", "r", "i"], {"bands": ["g", "r", "z"], "pixel_scale": 0.262, "zero_point": 22.5}
MISMATCHES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "bands": (
        {**SKY, "zero_point": 30.0}, {"cutouts": {"bands": GRI}},
        "expects bands g, r, z at 0.262 arcsec; the cutouts are g, r, i at 0.263. "
        "Set cutouts.bands to [g, r, z], or use another model.",
    ),
    "order": (
        {"bands": ["r", "g"]}, {},
        "expects bands r, g at 0.263 arcsec; the cutouts are g, r at 0.263. "
        "Set cutouts.bands to [r, g], or use another model.",
    ),
    "scale": (
        {"pixel_scale": 0.2}, {},
        "expects bands g, r at 0.2 arcsec; the cutouts are g, r at 0.263. Use another model.",
    ),
    "size": (
        {}, {"cutouts": {"size": 12}},
        "expects bands g, r at 0.263 arcsec, 8 pixels on a side; the cutouts are g, r at 0.263, 12 on a side. "
        "Set cutouts.size to 8, or use another model.",
    ),
    "an odd crop": (
        {"allow": ["centre-crop"]}, {"cutouts": {"size": 11}},
        "expects bands g, r at 0.263 arcsec, 8 pixels on a side; the cutouts are g, r at 0.263, 11 on a side. "
        "Set cutouts.size to 8, or more by an even number, or use another model.",
    ),
    "too small": (
        {"allow": ["centre-crop"]}, {"cutouts": {"size": 6}},
        "expects bands g, r at 0.263 arcsec, 8 pixels on a side; the cutouts are g, r at 0.263, 6 on a side. "
        "Set cutouts.size to 8, or more by an even number, or use another model.",
    ),
    "zero point": (
        {"zero_point": 22.5}, {},
        "expects bands g, r at 0.263 arcsec, zero point 22.5 in g; the cutouts are g, r at 0.263, zero point 30. "
        "Set cutouts.zero_point to 22.5, or use another model.",
    ),
    "unit": (
        {"zero_point": None, "unit": "nanomaggy"}, {"images": {"zero_point": {"g": 22.5, "r": 22.52}}},
        "expects bands g, r at 0.263 arcsec, zero point 22.5 in r; the cutouts are g, r at 0.263, zero point 22.52. "
        "Set cutouts.zero_point to 22.5, or use another model.",
    ),
    "zero points": (
        {"zero_point": {"g": 30.0, "r": 29.0}}, {},
        "expects bands g, r at 0.263 arcsec, zero point 29 in r; the cutouts are g, r at 0.263, zero point 30. "
        "Use another model.",
    ),
    "much": (
        {**SKY, "size": 10}, {"cutouts": {"bands": GRI}},
        "expects bands g, r, z at 0.262 arcsec, 10 pixels on a side, zero point 22.5 in g; the cutouts are g, r, i at 0.263, "
        "8 on a side, zero point 30. Set cutouts.bands to [g, r, z] and cutouts.size to 10 and cutouts.zero_point to 22.5, "
        "or use another model.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", MISMATCHES)
def test_cutouts_of_others_are_refused_before_anything_runs(tmp_path, networks, case, monkeypatch):
    said, sections, text = MISMATCHES[case]
    folder = package(tmp_path / "lens", networks, **said)
    monkeypatch.setattr(model_check, "ProcessPoolExecutor", None)  # not even a process is started
    with pytest.raises(ModelError) as caught:
        model_check.describe(config(folder, **sections))
    assert str(caught.value) == f"{folder}/net.keras {text}"


def test_tolerances_and_pixels_brought_to_a_zero_point(tmp_path, networks):
    folder = package(tmp_path / "lens", networks, pixel_scale=0.262, zero_point=22.5)
    near = config(folder, images={"zero_point": 22.505})
    assert model_check.agree(near, None) == []
    brought = config(folder, cutouts={"zero_point": 22.5})
    assert model_check.agree(brought, None) == []
    assert set(cutouts_of(brought).zero_points.values()) == {22.5}


def test_what_nobody_says_is_found_by_the_plan_or_warned_of(tmp_path, networks):
    folder = package(tmp_path / "lens", networks)
    silent = config(folder, images={"zero_point": None, "pixel_scale": None})
    assert model_check.agree(silent, None) == [
        f"nobody says the pixel scale (0.263 arcsec) or the zero point (30) in g, r that {folder}/net.keras expects of its "
        "pixels"
    ]
    facts = {"pixel_scale": 0.2627, "flux": {"zero_point": {"g": 30.0, "r": None}, "unit": None}}
    assert model_check.agree(silent, facts) == [
        f"nobody says the zero point (30) in r that {folder}/net.keras expects of its pixels"
    ]
    facts["flux"]["zero_point"]["r"] = 22.5
    with pytest.raises(
        ModelError, match=r"zero point 30 in r; the cutouts are g, r at 0\.2627, zero point 22\.5\. Set"
    ):
        model_check.agree(silent, facts)
    counts = package(tmp_path / "counts", networks, zero_point=None, unit="adu")
    facts["flux"]["unit"] = "electron/s"
    with pytest.raises(ModelError, match=r"0\.2627, in electron/s\. Use another model\."):
        model_check.agree(config(counts, images={"zero_point": None, "pixel_scale": None}), facts)


# --- followed on the device ---


@pytest.mark.parametrize(("dtype", "jit"), [("float32", False), ("float16", False), ("int16", False), ("int16", True)])
def test_bands_are_picked_by_name_and_larger_cutouts_cropped_at_their_centre(tmp_path, networks, dtype, jit):
    rule = [{"step": "scale", "offset": [0.5, -1.0], "scale": [2.0, 4.0]}, {"step": "asinh"}]
    folder = package(tmp_path / "lens", networks, allow=["centre-crop", "re-order"], nan_fill=1.25, normalisation=rule)
    flux = noise(20, SIZE + 6, 4)
    flux[2, 7, 5, 1] = np.nan
    image, step = (flux.astype(dtype), None) if dtype != "int16" else quantise(flux)
    pixels = restore(image, step) if step is not None else image.astype(np.float32)
    network = load(folder, ["z", "r", "i", "g"], SIZE + 6, dtype, jit=jit)
    seen = np.nan_to_num(pixels[:, 3:-3, 3:-3][..., [3, 1]].astype(float), nan=1.25)
    expected = linear(np.arcsinh((seen - [0.5, -1.0]) / [2.0, 4.0]))[:, 0]
    np.testing.assert_allclose(network.logits(image, step), expected, rtol=1e-5, atol=1e-5)
    assert network.describe()["view"] == "the central 8 of 14 pixels, bands g, r of z, r, i, g"
    assert network.describe()["contract"] == f"{folder}/model.yaml"


@settings(max_examples=30, deadline=None)
@given(x=st.floats(20, 40), y=st.floats(20, 40), size=st.integers(4, 12), more=st.integers(0, 4))
def test_the_centre_of_a_larger_cutout_is_the_smaller_cutout(x, y, size, more):
    from astropy.nddata import Cutout2D

    tile = np.arange(3600.0).reshape(60, 60)
    small, large = (Cutout2D(tile, (x, y), side).data for side in (size, size + 2 * more))
    np.testing.assert_array_equal(large[more : more + size, more : more + size], small)


def test_the_class_of_interest_has_a_name_and_logits_a_temperature(tmp_path, networks):
    images = noise(20)
    z = linear(images, 3) / 2.5
    folder = package(
        tmp_path / "lens", networks, "softmax.keras", column="ring", classes=["spiral", "lens", "ring"], temperature=2.5
    )
    network = load(folder)
    expected = z[:, 2] - np.log(np.exp(z[:, :2]).sum(axis=1))
    np.testing.assert_allclose(network.logits(images), expected, rtol=1e-5, atol=1e-5)
    assert network.describe()["output"] == (
        "logit, from before the softmax of 'last' (Dense); column 2 of 3, 'ring'; over a temperature of 2.5"
    )
    cool = load(package(tmp_path / "cool", networks, "hard_sigmoid.keras", output="probability", temperature=0.5))
    warm = load(package(tmp_path / "warm", networks, "hard_sigmoid.keras", output="probability"))
    inside = np.abs(warm.logits(images)) < 3
    assert inside.sum() > 5
    np.testing.assert_allclose(cool.logits(images)[inside], 2 * warm.logits(images)[inside], rtol=1e-5)


CONTRADICTIONS: dict[str, tuple[str, dict[str, Any], str]] = {
    "bands": (
        "three_bands.keras", {},
        "{folder}/net.keras expects 3 bands; {folder}/model.yaml gives it 2 (g, r). Mend {folder}/model.yaml, or use another "
        "model.",
    ),
    "size": (
        "larger.keras", {},
        "{folder}/net.keras expects cutouts of 16 × 16 pixels; {folder}/model.yaml gives it 8. Mend {folder}/model.yaml, or "
        "use another model.",
    ),
    "output": (
        "sigmoid.keras", {"output": "logit"},
        "output of {folder}/model.yaml is 'logit', but {folder}/net.keras ends in a sigmoid, 'last' (Dense), and gives a "
        "probability. Remove output of {folder}/model.yaml: the logit from before it is used.",
    ),
    "column": (
        "softmax.keras", {"column": 3},
        "column of {folder}/model.yaml is 3, but {folder}/net.keras gives 3 classes. Set column of {folder}/model.yaml to one "
        "of 0 to 2.",
    ),
    "classes": (
        "softmax.keras", {"column": "lens", "classes": ["lens", "no"]},
        "{folder}/net.keras gives 3 classes, but classes of {folder}/model.yaml has 2 (lens, no). Name all its classes, in "
        "their order.",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", CONTRADICTIONS)
def test_a_contract_that_contradicts_its_network_is_refused(tmp_path, networks, case):
    name, more, text = CONTRADICTIONS[case]
    folder = package(tmp_path / "lens", networks, name, **more)
    assert refusal(folder) == text.format(folder=folder)


def test_the_normalisation_may_make_what_the_network_takes(tmp_path, networks):
    to_16 = [{"step": "resize", "size": 16}, {"step": "z-score", "per": "image"}]
    found = load(package(tmp_path / "lens", networks, "larger.keras", normalisation=to_16)).describe()
    assert found["input"] == [16, 8, 8, 2]
    assert found["normalisation"] == [
        "resize to 16 x 16, bilinear",
        "subtract the mean, divide by the standard deviation, of each cutout, all bands together",
    ]
    assert load(networks["larger.keras"], normalisation=to_16).describe()["normalisation"] == found["normalisation"]
    assert refusal(networks["larger.keras"], normalisation=[{"step": "resize", "size": 12}]) == (
        f"{networks['larger.keras']} expects cutouts of 16 × 16 pixels; model.normalisation gives it 12. Mend "
        "model.normalisation, or use another model."
    )


# --- what a score depends on ---


def test_the_key_of_scores_knows_what_changes_them_and_nothing_else(tmp_path, networks):
    def key(folder: Path, bands: list[str] = BANDS, size: int = SIZE, **more: Any) -> dict[str, str]:
        return model_key(Model(path=str(folder), **more), bands, size)

    folder = package(tmp_path / "lens", networks)
    plain = key(networks["linear.keras"])
    words = {"training": {"trained_on": "DES", "auc": 0.99}, "allow": ["re-order"], "pixel_scale": 0.2, "unit": "adu"}
    assert key(folder) == key(folder / "net.keras") == plain == key(package(tmp_path / "words", networks, **words))
    changes: list[dict[str, Any]] = [
        {"nan_fill": 1.0}, {"temperature": 2.0}, {"output": "logit"}, {"normalisation": [{"step": "sqrt"}]},
        {"normalisation": [{"step": "scale", "scale": 2.0}]},
    ]  # fmt: skip
    contracts = [key(package(tmp_path / f"change{i}", networks, **change)) for i, change in enumerate(changes)]
    assert {c["model"] for c in contracts} == {plain["model"]}
    contracts += [
        key(folder, precision="mixed_float16"),
        key(networks["linear.keras"], normalisation="deeplens-ground"),
    ]
    assert len({c["contract"] for c in [plain, *contracts]}) == len(contracts) + 1
    allowed = package(tmp_path / "allowed", networks, allow=["re-order", "centre-crop"])
    turned = [key(allowed, ["r", "g"]), key(allowed, size=SIZE + 2), plain]
    assert len({c["contract"] for c in turned}) == 3
    assert key(package(tmp_path / "sigmoid", networks, "sigmoid.keras"))["model"] != plain["model"]


# --- parity ---


def with_parity(folder: Path, pixels: np.ndarray, logits: np.ndarray) -> Path:
    parity.write(folder / "parity.npz", pixels, logits)
    with (folder / "model.yaml").open("a") as file:
        file.write("parity: parity.npz\n")
    return folder


@pytest.mark.slow
def test_parity_cutouts_tell_a_network_that_is_not_what_it_was(tmp_path, networks):
    images = noise(5)
    images[1, 2, 3] = np.nan
    expected = linear(np.nan_to_num(images, nan=0.0))[:, 0].astype(np.float32)
    folder = with_parity(package(tmp_path / "lens", networks), images, expected)
    found = model_check.describe(config(folder))[""]
    assert found["parity"]["n"] == 5 and found["parity"]["difference"] < 1e-5
    assert " by " + str(folder / "model.yaml") + ", input 8 x 8 x 2, logit, " in model_check.line(found)
    assert model_check.line(found).endswith("; 5 parity cutouts agree to " + f"{found['parity']['difference']:.1g}")
    expected[3] += 0.25
    parity.write(folder / "parity.npz", images, expected)
    wrong = CliRunner().invoke(main, ["model", "check", str(folder)])
    assert wrong.exit_code == 2
    assert wrong.output.splitlines()[-1] == (
        f"{folder}/net.keras does not give the logits of {folder}/parity.npz: 1 of 5 cutouts differ, most of all number 3, "
        f"which gets {expected[3] - 0.25:.6g} instead of {expected[3]:.6g} (allowed: 0.0001, or that part of the logit). "
        "Network, contract and parity cutouts are not of one package; take it from its source again, or pack it anew."
    )


def test_parity_cutouts_that_cannot_be_used(tmp_path, networks):
    folder = with_parity(package(tmp_path / "lens", networks), noise(5, 9), np.zeros(5, np.float32))
    run = CliRunner().invoke(main, ["model", "check", str(folder)])
    assert run.exit_code == 2
    assert run.output.splitlines()[-1] == (
        f"the parity cutouts, {folder}/parity.npz, are (5, 9, 9, 2) with logits (5,); the contract's are (n, 8, 8, 2) with "
        "logits (n,). Pack the model anew."
    )
    (folder / "parity.npz").write_bytes(b"\1\2\3")
    run = CliRunner().invoke(main, ["model", "check", str(folder)])
    assert run.exit_code == 2 and f"\nthe parity cutouts, {folder}/parity.npz, cannot be read: " in run.output
    (folder / "parity.npz").unlink()
    run = CliRunner().invoke(main, ["model", "check", str(folder)])
    assert run.exit_code == 2 and "parity.npz, cannot be read: [Errno 2] No such file" in run.output


# --- show, check, pack ---


def stored(folder: Path, flux: np.ndarray, status: np.ndarray, bands: list[str], **attributes: Any) -> Path:
    """A run directory with a store."""
    folder.mkdir()
    path, (n, size, _, _) = folder / "cutouts.zarr", flux.shape
    spec = Spec(bands=bands, size=size, partition=256)
    store.create(path, n, spec, np.int64, {"pixel_scale": 0.263, "zero_point": 30.0, "unit": None, **attributes})
    for p in range(-(-n // 256)):
        rows = slice(256 * p, min(256 * p + 256, n))
        cut = Cutouts(flux[rows], status[rows], np.zeros((rows.stop - rows.start, len(bands)), np.float32))
        store.write(path, p, np.arange(n)[rows], np.zeros(n)[rows], np.zeros(n)[rows], cut)
    return folder


def test_a_model_is_packed_shown_and_checked(tmp_path, networks):
    flux, status = noise(300, SIZE + 2, 3), np.zeros(300, np.uint8)
    status[[0, 5, 255]] = 4
    flux[0] = np.nan
    run = stored(tmp_path / "run", flux, status, ["i", "g", "r"])
    contract = tmp_path / "mine.yaml"
    said = {
        **SAID, "network": "whatever.keras", "allow": ["centre-crop", "re-order"], "normalisation": [{"recipe": "gravit"}],
        "training": {"trained_on": "simulations", "evaluation": {"auc": 0.995, "tpr0": 0.4}},
    }  # fmt: skip
    contract.write_text(yaml.safe_dump(said, sort_keys=False))
    out = tmp_path / "packages" / "lens"
    words = [
        "model",
        "pack",
        str(networks["sigmoid.keras"]),
        "--contract",
        str(contract),
        "--cutouts",
        str(run),
        "--out",
        str(out),
    ]
    packed = CliRunner().invoke(main, words)
    assert packed.exit_code == 0, packed.output
    with np.load(out / "parity.npz") as arrays:
        pixels, logits = arrays["pixels"], arrays["logits"]
    assert packed.output.splitlines() == [
        f"parity         16 cutouts of {run}, with logits from {logits.min():.2f} to {logits.max():.2f}",
        f"packed         {out}; in a configuration: model: {{path: {out}}}",
    ]
    assert sorted(p.name for p in out.iterdir()) == ["model.yaml", "parity.npz", "sigmoid.keras"]
    assert [p.name for p in out.parent.iterdir()] == ["lens"]
    whole = np.flatnonzero(status[:256] == 0)
    rows = whole[np.linspace(0, len(whole) - 1, 16).astype(int)]
    np.testing.assert_array_equal(pixels, flux[rows][:, 1:-1, 1:-1][..., [1, 2]])
    np.testing.assert_allclose(load(out, ["i", "g", "r"], SIZE + 2).logits(flux[rows]), logits, rtol=1e-5, atol=1e-5)
    again = read_contract(out / "model.yaml")
    assert again == Contract.model_validate({**said, "network": "sigmoid.keras", "parity": "parity.npz"})

    shown = CliRunner().invoke(main, ["model", "show", str(out)])
    assert shown.output.splitlines() == [
        f"network        {out}/sigmoid.keras (keras, 129 parameters, input 8 x 8 x 2, ends in 'last' (Dense))",
        f"contract       {out}/model.yaml",
        "pixels         bands g, r; 8 x 8 of 0.263 arcsec",
        "flux           zero point 30",
        "allows         centre-crop, re-order",
        "missing pixels become 0",
        "step 1         from lowest pixel to highest pixel of each band of each cutout, onto 0 to 1",
        "step 2         0 to 1 as whole numbers 0 to 255, rounded down",
        "parity         parity.npz",
        "training       trained_on: simulations",
        "               evaluation: auc 0.995, tpr0 0.4",
    ]
    checked = CliRunner().invoke(main, ["model", "check", str(out)])
    assert checked.exit_code == 0
    said_lines = checked.output.splitlines()
    assert said_lines[:3] == [
        f"network        {out}/sigmoid.keras (keras), by {out}/model.yaml",
        "takes          8 x 8 x 2, and gives noise finite logits",
        "gives          logit, from before the sigmoid of 'last' (Dense)",
    ]
    assert said_lines[3] == "parity         16 parity cutouts agree to 0 (allowed: 0.01, or that part of the logit)"
    assert said_lines[4] == "all is well."

    twice = CliRunner().invoke(main, words)
    assert (twice.exit_code, twice.output) == (2, f"{out} exists already. Choose another folder, or move it away.\n")


def test_what_cannot_be_packed_leaves_nothing_behind(tmp_path, networks):
    contract = tmp_path / "mine.yaml"
    contract.write_text(yaml.safe_dump(SAID))

    def pack(network: str, run: Path) -> str:
        words = [
            "model",
            "pack",
            network,
            "--contract",
            str(contract),
            "--cutouts",
            str(run),
            "--out",
            str(tmp_path / "out"),
        ]
        result = CliRunner().invoke(main, words)
        assert result.exit_code == 2 and not list(tmp_path.glob("*out*"))
        return result.output

    flux = noise(20)
    run = stored(tmp_path / "run", flux, np.zeros(20, np.uint8), BANDS)
    nanomaggies = stored(tmp_path / "other", flux, np.zeros(20, np.uint8), BANDS, zero_point={"g": 30.0, "r": 22.5})
    broken = stored(tmp_path / "broken", flux, np.full(20, 4, np.uint8), BANDS)
    infinite = stored(tmp_path / "infinite", np.full_like(flux, np.inf), np.zeros(20, np.uint8), BANDS)
    file = str(networks["linear.keras"])
    assert pack("nowhere.keras", run) == (
        "nowhere.keras does not exist. Name a .keras, .h5 or .onnx file, or a SavedModel folder.\n"
    )
    assert pack(file, nanomaggies) == (
        f"{file} expects bands g, r at 0.263 arcsec, zero point 30 in r; the cutouts are g, r at 0.263, zero point 22.5. "
        "Set cutouts.zero_point to 30, or use another model.\n"
    )
    assert pack(file, broken) == f"{broken}/cutouts.zarr: none of the first 20 cutouts is whole. Use another store.\n"
    assert pack(file, infinite) == (
        f"{file} gives 16 of 16 cutouts no finite logit. Use other cutouts, or mend the network or its contract.\n"
    )
    damaged = str(networks["damaged.keras"])
    assert pack(damaged, run).startswith(f"{damaged} has weights that are not finite numbers, in 1 of 2 arrays")
    assert pack(str(networks["three_bands.keras"]), run) == (
        f"{networks['three_bands.keras']} expects 3 bands; {tmp_path}/out/model.yaml gives it 2 (g, r). Mend "
        f"{tmp_path}/out/model.yaml, or use another model.\n"
    )


def test_a_network_without_a_contract_can_be_shown_but_not_checked(networks):
    path = networks["sigmoid.keras"]
    shown = CliRunner().invoke(main, ["model", "show", str(path)])
    assert shown.output.splitlines() == [
        f"network        {path} (keras, 129 parameters, input 8 x 8 x 2, ends in 'last' (Dense))",
        "contract       none: no model.yaml in it or beside it that names it",
    ]
    checked = CliRunner().invoke(main, ["model", "check", str(path)])
    assert (checked.exit_code, checked.output) == (
        2, f"{path} has no contract: there is no model.yaml in it or beside it that names it.\n"
    )  # fmt: skip


def test_words_for_all_of_a_contract(tmp_path, networks):
    more = {
        "zero_point": {"g": 30.0, "r": 29.5}, "classes": ["lens", "spiral", "ring"], "column": "ring", "output": "probability",
        "temperature": 1.5,
    }  # fmt: skip
    folder = package(tmp_path / "lens", networks, "softmax.keras", **more)
    lines = CliRunner().invoke(main, ["model", "show", str(folder)]).output.splitlines()
    assert lines[3:] == [
        "flux           zero point g 30, r 29.5",
        "missing pixels become 0",
        "steps          none: the network takes pixels as they are",
        "classes        lens, spiral, ring; 'ring' is scored",
        "gives          probability",
        "temperature    1.5",
        "parity         no cutouts to compare with",
    ]
    unit = package(tmp_path / "unit", networks, zero_point=None, unit="nJy")
    assert "flux           zero point 31.4 (nJy)" in CliRunner().invoke(main, ["model", "show", str(unit)]).output
    assert SHAPE == (SIZE, SIZE, 2)


# --- in a scan ---


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_scan_follows_its_contract(tmp_path, networks, scheduler):
    survey = small_survey.make(tmp_path / "survey", n_objects=600)
    folder = package(tmp_path / "lens", networks, "convolutional.keras", size=16, zero_point=None, pixel_scale=0.2)
    survey.edit(model={"path": str(folder), "batch_size": 64})

    def run(code: int, **contract: Any) -> str:
        said = yaml.safe_load((folder / "model.yaml").read_text())
        (folder / "model.yaml").write_text(yaml.safe_dump({**said, **contract}))
        result = CliRunner().invoke(main, ["run", str(survey.config), "--scheduler", scheduler], catch_exceptions=False)
        assert result.exit_code == code, result.output
        return result.output

    assert run(2) == (
        f"{folder}/net.keras expects bands g, r, 16 pixels on a side; the cutouts are g, r, 20 on a side. Set cutouts.size to "
        "16, or use another model.\n"
    )
    said = run(2, allow=["centre-crop"])  # the pixel scale is found by the plan
    assert said.splitlines()[-1] == (
        f"{folder}/net.keras expects bands g, r at 0.2 arcsec; the cutouts are g, r at 0.263. Use another model."
    )
    said = run(0, pixel_scale=0.263)
    assert "input 20 x 20 x 2; it sees the central 16 of 20 pixels, logit, " in said
    run_directory = survey.folder / "runs" / "lrg"
    before = pd.read_parquet(run_directory / "scores").set_index("object_id")["logit"]
    said = run(0, temperature=2.0)
    assert re.search(r"scores +\d+ to do \(\d+ changed: contract\)", said)
    after = pd.read_parquet(run_directory / "scores").set_index("object_id")["logit"]
    np.testing.assert_allclose(after, before / 2, rtol=1e-5)
    assert "nothing to do" in run(0, training={"reference": "of this test"})
