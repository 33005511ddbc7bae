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


def test_a_target_stands_in_the_middle_of_its_cutout(sample):
    """As with astropy's Cutout2D, whose origin is ceil(x - 45 / 2): the target's own pixel is (22, 22)."""
    assert sample.cutouts.shape[1:] == (45, 45, 3)
    assert len(sample.cutouts) == len(sample.truth)
    bright = ((sample.truth["kind"] == "elliptical") & (sample.truth["mag_i"] < 20.0)).to_numpy()
    middle = sample.cutouts[bright, 18:27, 18:27, 2].reshape(bright.sum(), 81)
    peaks = np.stack(np.unravel_index(np.argmax(middle, axis=1), (9, 9)), axis=1) - 4
    assert len(peaks) > 10
    assert np.mean(np.max(np.abs(peaks), axis=1) <= 1) > 0.85
    assert np.all(np.abs(np.median(peaks, axis=0)) == 0)


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
