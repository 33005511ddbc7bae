"""From a store through a network to a table of scores: a real network, and the same scores however they are divided."""

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner
from networks import bare_demo

from survey_scan import models, scores, store
from survey_scan.cli import main
from survey_scan.config import Cutouts as Spec
from survey_scan.config import Model
from survey_scan.errors import ModelError
from survey_scan.imaging.base import Cutouts
from survey_scan.schema import Status

NETWORK = bare_demo()


def stored(path: Path, flux: np.ndarray, bands: list[str], status: np.ndarray, partition: int = 256) -> store.Reader:
    n, size = flux.shape[:2]
    spec = Spec(bands=bands, size=size, partition=partition)
    store.create(path, n, spec, np.int64, {"pixel_scale": 1.012})
    for p in range(math.ceil(n / partition)):
        rows = slice(p * partition, min((p + 1) * partition, n))
        count = rows.stop - rows.start
        cut = Cutouts(flux[rows], status[rows], np.zeros((count, len(bands)), np.float32))
        store.write(path, p, np.arange(n)[rows], np.zeros(count), np.zeros(count), cut)
    return store.Reader(path)


def score(reader: store.Reader, model: Model) -> pd.DataFrame:
    """As the tasks of a scan do, partition by partition."""
    said = reader.attributes
    network = models.load(model, list(said["bands"]), said["size"], said["dtype"])
    edges = [*range(0, reader.n_targets, said["partition"]), reader.n_targets]
    parts = [scores.score_partition(reader, a, b, {"": network}).table for a, b in itertools.pairwise(edges)]
    return pd.concat(parts, ignore_index=True)


# --- a real trained network ---

TRIPLET = ["sci", "ref", "diff"]
EXPORT = (
    "Export it where it was trained, with model.export('folder'), or tf.saved_model.save(model, 'folder') in Keras 2; "
    "then set model.path to the folder and model.output to what it gives."
)


@pytest.mark.parametrize("name", ["braai_d6_m9.keras", "braai_d6_m9_keras3.h5"])
def test_a_real_network_gives_its_reference_output_through_the_scans_own_path(survey_data, tmp_path, name):
    given = np.load(survey_data / "models_keras" / "braai_reference_io.npz")
    offset, gain = np.array([4.0, -2.0, 0.5]), np.array([200.0, 150.0, 80.0])
    flux = (given["x"] * gain + offset).astype(np.float32)  # as counts on a sky, which the contract takes off again
    (tmp_path / name).symlink_to(survey_data / "models_keras" / name)
    contract = {
        "network": name, "bands": TRIPLET, "size": 63, "pixel_scale": 1.012,
        "normalisation": [{"step": "scale", "offset": offset.tolist(), "scale": gain.tolist()}],
    }  # fmt: skip
    (tmp_path / "model.yaml").write_text(yaml.safe_dump(contract))
    reader = stored(tmp_path / "cutouts.zarr", flux, TRIPLET, np.zeros(len(flux), np.uint8))
    table = score(reader, Model(path=str(tmp_path / name), batch_size=5))
    assert table["status"].tolist() == [0] * 8
    probability = 1 / (1 + np.exp(-table["logit"].to_numpy(float)))
    np.testing.assert_allclose(probability, given["y"].ravel(), atol=1e-5)
    logits = np.log(given["y"].ravel().astype(float)) - np.log1p(-given["y"].ravel().astype(float))
    np.testing.assert_allclose(table["logit"], logits, atol=1e-5)


def test_its_keras_2_file_and_its_weights_alone_are_refused_with_the_way_out(survey_data):
    folder = survey_data / "models_keras"
    with pytest.raises(ModelError) as caught:
        models.load(Model(path=str(folder / "braai_d6_m9.h5")), TRIPLET, 63, "float32")
    text = str(caught.value)
    assert text.startswith(f"{folder}/braai_d6_m9.h5, written by Keras 2.2.4-tf, cannot be read by Keras 3.")
    assert text.endswith(EXPORT)
    with pytest.raises(ModelError) as caught:
        models.load(Model(path=str(folder / "braai_d6_m9.weights.h5")), TRIPLET, 63, "float32")
    assert str(caught.value) == (
        f"{folder}/braai_d6_m9.weights.h5 holds weights without a network. "
        "Save the whole network with model.save('name.keras'), not with model.save_weights."
    )


# --- however they are divided ---


def galaxies(n: int, seed: int = 5) -> np.ndarray:
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:45, :45] - 22
    profile = np.exp(-np.hypot(y, x)[None, :, :, None] / rng.uniform(1, 6, (n, 1, 1, 1)))
    return (profile * rng.uniform(10, 2000, (n, 1, 1, 3)) + rng.normal(0, 3, (n, 45, 45, 3))).astype(np.float32)


@pytest.mark.parametrize("jit", [False, True])
def test_scores_are_the_same_whatever_the_batch_the_padding_and_the_partition(tmp_path, jit):
    flux, bands = galaxies(600), ["g", "r", "i"]
    status = np.where(np.random.default_rng(1).random(600) < 0.2, Status.BAD_PIXELS, Status.OK).astype(np.uint8)
    rule: list[Any] = [{"step": "z-score"}, {"step": "asinh", "scale": 0.1}, {"step": "scale", "scale": 0.3}]
    found = []
    for partition in (256, 512):
        reader = stored(tmp_path / f"{partition}.zarr", flux, bands, status, partition)
        for batch in (7, 64, 256) if partition == 256 else (100,):
            model = Model(path=str(NETWORK), batch_size=batch, normalisation=rule, jit=jit)
            found.append(score(reader, model))
    for table in found:
        assert table["object_id"].tolist() == list(range(600)) and table["status"].tolist() == status.tolist()
        assert np.isfinite(table["logit"]).tolist() == (status == 0).tolist()
        np.testing.assert_allclose(table["logit"], found[0]["logit"], rtol=1e-5, atol=1e-5)
    assert found[0]["logit"].std() > 0.5


def test_model_score_scores_a_store_without_a_scan(tmp_path):
    flux, status = galaxies(300), np.zeros(300, np.uint8)
    status[7] = Status.MISSING
    reader = stored(tmp_path / "set" / "cutouts.zarr", flux, ["g", "r", "i"], status)
    out = tmp_path / "scores.parquet"
    words = ["model", "score", str(NETWORK), str(tmp_path / "set"), "--out", str(out)]
    result = CliRunner().invoke(main, words, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    assert result.output.startswith(f"scored         299 of 300 cutouts of {tmp_path}/set, ")
    assert result.output.endswith(f"wrote          {out}; against labels: survey_scan evaluate {out} --labels FILE\n")
    pd.testing.assert_frame_equal(pd.read_parquet(out), score(reader, Model(path=str(NETWORK))))
    eight = CliRunner().invoke(main, [*words, "--views", "8"], catch_exceptions=False)
    assert eight.exit_code == 0, eight.output
    network = models.load(Model(path=str(NETWORK), views=8), ["g", "r", "i"], 45, "float32")
    np.testing.assert_array_equal(pd.read_parquet(out)["logit"][8:20], network.logits(flux[8:20]))


def test_model_score_says_what_is_wrong(tmp_path):
    stored(tmp_path / "c.zarr", galaxies(3)[:, :20, :20], ["g", "r", "i"], np.zeros(3, np.uint8))
    for store_path, message in (
        (tmp_path / "c.zarr", f"{NETWORK} expects cutouts of 45 × 45 pixels; cutouts.size is 20. "),
        (tmp_path / "none", f"{tmp_path}/none/cutouts.zarr "),
    ):
        result = CliRunner().invoke(
            main, ["model", "score", str(NETWORK), str(store_path), "--out", str(tmp_path / "o")]
        )
        assert result.exit_code == 2 and result.output.startswith(message), result.output
