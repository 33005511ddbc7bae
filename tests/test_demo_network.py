"""The network the package ships: small, loads on its own, tells a lens from a plain elliptical."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from survey_scan.demo import Recovery, recovery
from survey_scan.demo.samples import Sample, draw_sample
from survey_scan.demo.survey import DEMO_SEED
from survey_scan.demo.train import NETWORK, TRAIN_SEEDS, batches

LOAD_ALONE = """
import sys
import keras
network = keras.models.load_model(sys.argv[1], compile=False, safe_mode=True)
assert not any(name.startswith("survey_scan") for name in sys.modules)
print(network.input_shape, network.output_shape, network.layers[-1].name, network.layers[-2].name)
"""


@pytest.fixture(scope="module")
def sample() -> Sample:
    return draw_sample(4_001, 1_000, 60, 0, tile_size=700, overlap=100)


def test_the_file_is_small():
    assert NETWORK.stat().st_size <= 400_000


def test_it_loads_without_this_package(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALONE, str(NETWORK)], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "(None, 45, 45, 3) (None, 1) probability logit"


def test_it_ranks_lenses_above_what_looks_like_them(sample):
    import keras

    network = keras.models.load_model(NETWORK, compile=False)
    scores = np.asarray(network(sample.cutouts, training=False))[:, 0]
    assert np.all((scores >= 0.0) & (scores <= 1.0))
    kind = sample.truth["kind"]
    lens = np.median(scores[kind == "lens"])
    for other in ("elliptical", "spiral", "companions", "merger"):
        assert np.quantile(scores[kind == other], 0.9) < lens, other
    best = np.argsort(-scores)[: sample.is_lens.sum()]
    assert sample.is_lens[best].mean() > 0.8


def test_the_demo_sky_was_not_trained_on():
    assert DEMO_SEED not in TRAIN_SEEDS


def test_a_sample_is_cut_as_cutout2d_cuts(sample):
    """Every target is the middle pixel's: lenses are brightest within a pixel or two of it, in i."""
    assert sample.cutouts.shape[1:] == (45, 45, 3)
    assert len(sample.cutouts) == len(sample.truth)
    bright = (sample.truth["kind"] == "elliptical") & (sample.truth["mag_i"] < 20.0)
    assert bright.sum() > 5
    for cutout in sample.cutouts[bright.to_numpy()]:
        middle = cutout[12:33, 12:33, 2]
        row, column = np.unravel_index(np.argmax(middle), middle.shape)
        assert max(abs(row - 10), abs(column - 10)) <= 2


def test_batches_show_every_sample_once_and_keep_labels():
    pixels = np.arange(128, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 3, 1), np.float32)
    truth = pd.DataFrame({"kind": np.where(np.arange(128) % 3 == 0, "lens", "spiral")})
    seen = []
    for x, y in batches(Sample(pixels, truth), np.random.default_rng(0)):
        values = x[:, 0, 0, 0].astype(int)
        np.testing.assert_array_equal(y[:, 0], values % 3 == 0)
        seen += values.tolist()
    assert sorted(seen) == list(range(128))


def test_recovery_counts_lenses_by_rank():
    truth = pd.DataFrame({"object_id": range(1, 301), "kind": ["lens"] * 5 + ["spiral"] * 295})
    candidates = pd.DataFrame({"object_id": [1, 2, 3, 4, 200], "rank": [1, 30, 31, 101, 2]})
    assert recovery(candidates, truth) == Recovery(lenses=5, ranked=4, top30=2, top100=3)


@pytest.mark.slow
def test_training_runs_and_repeats(sample):
    from survey_scan.demo.train import fit

    first, second = (fit(sample, 5, epochs=1) for _ in range(2))
    for a, b in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4)
