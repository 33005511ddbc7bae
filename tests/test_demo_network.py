"""The network the package ships: small, loads on its own, tells a lens from a plain elliptical."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from demo_sample import Sample, draw_sample

from survey_scan.config import Model
from survey_scan.demo import Recovery, recovery
from survey_scan.demo.network import NETWORK
from survey_scan.models import load, parity
from survey_scan.models.package import open_package

LOAD_ALONE = """
import sys
import keras
network = keras.models.load_model(sys.argv[1], compile=False, safe_mode=True)
assert not any(name.startswith("survey_scan") for name in sys.modules)
print(network.input_shape, network.output_shape, network.layers[-1].name)
"""


@pytest.fixture(scope="module")
def sample() -> Sample:
    return draw_sample(4_001, 1_000, 60, 0, tile_size=700, overlap=100)


def test_the_package_is_small():
    assert sum(path.stat().st_size for path in NETWORK.iterdir()) <= 600_000


@pytest.mark.slow
def test_it_loads_without_this_package(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", LOAD_ALONE, str(NETWORK / "network.keras")],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "(None, 45, 45, 3) (None, 1) logit"


def test_it_ranks_lenses_above_what_looks_like_them(sample):
    scores = load(Model(path=str(NETWORK)), ["g", "r", "i"], 45, "float32").logits(sample.cutouts)
    kind = sample.truth["kind"]
    lens = np.median(scores[kind == "lens"])
    for other in ("elliptical", "spiral", "companions", "merger"):
        assert np.quantile(scores[kind == other], 0.9) < lens, other
    best = np.argsort(-scores)[: sample.is_lens.sum()]
    assert sample.is_lens[best].mean() > 0.8


def test_its_contract_is_that_of_the_demos_cutouts_and_its_parity_holds():
    package = open_package(Model(path=str(NETWORK)))
    contract = package.contract
    assert contract is not None and contract.training["evaluation"]["auc"] > 0.99
    assert (contract.bands, contract.size, contract.pixel_scale) == (["g", "r", "i"], 45, 0.263)
    assert set(contract.zero_points.values()) == {30.0}
    for views in (1, 8):  # its parity is that of one
        found = parity.compare(parity.load_plain(package, Model(path=str(NETWORK), views=views)), package)
        assert found is not None and found["n"] == 16


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


def test_recovery_counts_lenses_by_rank():
    truth = pd.DataFrame({"object_id": range(1, 301), "kind": ["lens"] * 5 + ["spiral"] * 295})
    candidates = pd.DataFrame({"object_id": [1, 2, 3, 4, 200], "rank": [1, 30, 31, 101, 2]})
    assert recovery(candidates, truth) == Recovery(lenses=5, ranked=4, top30=2, top100=3)
