"""``survey_scan train`` from the command line: trains, resumes exactly, packs, and refuses what it cannot use."""

import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from click.testing import CliRunner, Result
from labelled_store import make
from networks import quiet

from survey_scan.cli import main
from survey_scan.config import Model
from survey_scan.models import parity
from survey_scan.models.contract import read_contract
from survey_scan.models.package import open_package
from survey_scan.store import Reader

CONFIG = """\
output: {directory: out, seed: 3}
data: [{store: one, labels: one/labels.csv}]
validation: {fraction: 0.2}
network:
  architecture: demo
  normalisation: [{step: scale, offset: measured, scale: measured}]
schedule: {epochs: 4, batch: 64, rate: 1e-2}
"""


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stores")
    make(folder / "one", 700)
    return folder


@pytest.fixture
def place(stores, tmp_path) -> Path:
    (tmp_path / "one").symlink_to(stores / "one")
    (tmp_path / "t.yaml").write_text(CONFIG)
    return tmp_path


def train(place: Path, *settings: str) -> Result:
    options = [part for setting in settings for part in ("--set", setting)]
    return CliRunner().invoke(main, ["train", str(place / "t.yaml"), *options])


def refused(place: Path, *settings: str) -> str:
    result = train(place, *settings)
    assert result.exit_code == 2, result.output
    return result.output.splitlines()[-1]


def history(folder: Path) -> pd.DataFrame:
    return pd.read_csv(folder / "history.csv").drop(columns="seconds")


def weights(package: Path) -> list[np.ndarray]:
    import keras

    return keras.models.load_model(package / "network.keras", compile=False).get_weights()


@pytest.fixture(scope="module")
def trained(stores, tmp_path_factory) -> tuple[Path, str]:
    """An undisturbed training, and what it printed."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "one").symlink_to(stores / "one")
    (folder / "t.yaml").write_text(CONFIG)
    result = train(folder)
    assert result.exit_code == 0, result.output
    return folder / "out", result.output


def test_a_training_says_what_it_does_and_packs_the_best_epoch(trained):
    out, said = trained
    known = re.sub(r"[\d,]+/s( · \d+:\d+ left)?", "RATE", said.replace(str(out.parent), ""))
    lines = known.splitlines()
    assert lines[:9] == [
        "store       /one: 165 lenses and 521 non-lenses of its 700 cutouts by /one/labels.csv; without 14 whose cutout is not "
        "whole",
        "training    132 lenses, 417 non-lenses",
        "validation  33 lenses, 104 non-lenses: the same rows each time, by a hash of store and object_id",
        "network     demo; g, r, 12 pixels on a side of 0.263 arcsec",
        lines[4],
        "schedule    default: 4 epochs in batches of 64, adamw at 0.01, after 1 epochs of warm-up, then along a cosine to "
        "0.0001; seed 3",
        "batches     16 lenses and 48 non-lenses in each; augmented by flips, right-angle turns",
        "learnt      19,321 parameters, on one processor",
        "reading     training (0.00063 GB) in memory, validation (0.00016 GB) in memory",
    ]
    assert re.fullmatch(r"normalise   subtract \[[\d., ]+\], divide by \[[\d., ]+\]", lines[4])
    for number, line in enumerate(lines[9:13], 1):
        numbers = r"loss 0\.\d{4} · validation \d\.\d{4} · AUC [01]\.\d{4} · TPR at 1 % FPR [01]\.\d{3} · RATE"
        assert re.fullmatch(rf"epoch {number}/4     {numbers}", line)
    assert [line.split()[0] for line in lines[13:]] == ["trained", "kept", "done"]

    found = history(out)
    assert found["epoch"].tolist() == [1, 2, 3, 4] and found["auc"].iloc[-1] > 0.95
    assert (out / "history.png").read_bytes()[:4] == b"\x89PNG"
    best = found.loc[found["validation_loss"].idxmin()]
    contract = read_contract(out / "package" / "model.yaml")
    assert (contract.bands, contract.size, contract.pixel_scale, contract.zero_point) == (["g", "r"], 12, 0.263, 30.0)
    assert contract.output == "logit" and contract.parity == "parity.npz" and contract.allow == []
    said_of = contract.training
    assert (said_of["lenses"], said_of["others"], said_of["epoch"], said_of["seed"]) == (132, 417, best["epoch"], 3)
    assert [(one["store"], one["labels"]) for one in said_of["data"]] == [(f"{out.parent.name}/one", "one/labels.csv")]
    assert said_of["evaluation"] == {
        "auc": pytest.approx(best["auc"], abs=1e-5),
        "tpr_1pct": pytest.approx(best["tpr_1pct"], abs=1e-5),
        "tpr0": pytest.approx(best["tpr0"], abs=1e-5),
        "lenses": 33,
        "others": 104,
    }
    (step,) = contract.normalisation
    image = Reader(out.parent / "one" / "cutouts.zarr").pixels(0, 700)
    assert step.offset == pytest.approx(np.nanmean(image, axis=(0, 1, 2)), abs=0.05)
    assert step.scale == pytest.approx(np.nanstd(image, axis=(0, 1, 2)), rel=0.05)


def test_the_package_scores_as_it_was_judged(trained):
    """The logits of the package, in the way a scan gets them, have the AUC that stands in its contract."""
    from survey_scan.evaluation import metrics
    from survey_scan.evaluation.sample import Sample

    out, _ = trained
    model = Model(path=str(out / "package"))
    package = open_package(model)
    network = parity.load_plain(package, model)
    assert parity.compare(network, package)["difference"] < 1e-5
    with np.load(out / "package" / "parity.npz") as some:
        assert len(some["logits"]) == 16 and (some["logits"] > 0).sum() >= 6 and (some["logits"] < 0).sum() >= 6
    reader = Reader(out.parent / "one" / "cutouts.zarr")
    labels = pd.read_csv(out.parent / "one" / "labels.csv")["label"].to_numpy(bool)
    logits = network.logits(reader.pixels(0, 700)).astype(float)
    assert metrics.area(Sample(np.arange(700), labels, logits)).value > 0.95


def test_a_complete_training_is_left_alone(trained):
    out, _ = trained
    before = (out / "package" / "network.keras").read_bytes()
    result = train(out.parent)
    assert result.exit_code == 0 and result.output.splitlines()[-1] == f"done        {out / 'package'} already"
    assert (out / "package" / "network.keras").read_bytes() == before
    assert refused(out.parent, "schedule.epochs=5", "balance=none") == (
        f"{out} is a training made otherwise (another schedule, balance). Choose another output.directory, or delete it."
    )


@pytest.mark.parametrize("moment", ["epoch 2/4", "reading"])
def test_a_training_that_is_stopped_goes_on_as_if_it_had_not_been(place, trained, moment, monkeypatch):
    from survey_scan import cli
    from survey_scan.training import network

    if moment == "reading":  # between two steps of the first epoch
        step, count = network.Trainee.step, []

        def interrupted(self, *arguments):
            count.append(0)
            if len(count) == 5:
                os.kill(os.getpid(), signal.SIGINT)
            return step(self, *arguments)

        monkeypatch.setattr(network.Trainee, "step", interrupted)
    else:
        say = cli._say
        monkeypatch.setattr(
            cli, "_say", lambda line: (say(line), line.startswith(moment) and os.kill(os.getpid(), signal.SIGTERM))
        )
    first = train(place)
    name = "SIGINT" if moment == "reading" else "SIGTERM"
    assert first.exit_code == 3
    assert first.output.splitlines()[-2:] == [
        f"{name}: finishing this step; once more stops at once.",
        f"stopped by {name}; run the same command again to resume.",
    ]
    monkeypatch.undo()
    second = train(place)
    assert second.exit_code == 0
    after = "0 epochs and 5 of 8 steps" if moment == "reading" else "2 epochs"
    assert f"resumed     after {after}\n" in second.output
    pd.testing.assert_frame_equal(history(place / "out"), history(trained[0]), rtol=1e-6)
    for a, b in zip(weights(place / "out" / "package"), weights(trained[0] / "package"), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6, atol=1e-7)


@pytest.mark.slow
def test_a_killed_training_goes_on_from_its_last_epoch(place, trained):
    command = [sys.executable, "-W", "error", "-m", "survey_scan", "train", str(place / "t.yaml")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
    ) as child:
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith("epoch 3/4"):
                time.sleep(0.02)
                child.kill()
    result = train(place)
    assert result.exit_code == 0, result.output
    assert re.search(r"resumed     after [234] epochs", result.output)
    pd.testing.assert_frame_equal(history(place / "out"), history(trained[0]), rtol=1e-4)


TWO_DEVICES = """
import sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from survey_scan.cli import main
main(["train", sys.argv[1]])
"""


@pytest.mark.slow
def test_two_devices_share_each_batch(place, trained):
    """Gradients are those of the whole batch; batch normalisation is by each device's own part, so numbers differ a little."""
    done = subprocess.run(
        [sys.executable, "-c", TWO_DEVICES, str(place / "t.yaml")], capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "on 2 processor devices, 32 of a batch on each" in done.stdout
    one, two = history(trained[0]), history(place / "out")
    assert two["loss"].iloc[0] == pytest.approx(one["loss"].iloc[0], rel=0.15) and two["auc"].iloc[-1] > 0.95
    model = Model(path=str(place / "out" / "package"))
    assert parity.compare(parity.load_plain(open_package(model), model), open_package(model)) is not None


def test_a_package_is_trained_further(place, trained):
    result = train(
        place,
        "network={start: %s}" % (trained[0] / "package"),
        "schedule={epochs: 1, rate: 1e-5, warm_up: 0}",
    )
    assert result.exit_code == 0, result.output
    assert f"network     {trained[0] / 'package'}, trained further; g, r, 12 pixels on a side" in result.output
    before, after = (
        read_contract(trained[0] / "package" / "model.yaml"),
        read_contract(place / "out/package/model.yaml"),
    )
    assert after.normalisation == before.normalisation and after.training["start"] == "out/package"
    assert history(place / "out")["auc"].iloc[0] == pytest.approx(before.training["evaluation"]["auc"], abs=0.01)


def test_stores_are_read_by_chunks_where_memory_is_short(place, trained):
    result = train(place, "reading.memory=0", "schedule.epochs=4")
    assert result.exit_code == 0, result.output
    assert "training (0.00063 GB) in lots of 32 chunks, validation (0.00016 GB) in lots of 32 chunks" in result.output
    pd.testing.assert_frame_equal(history(place / "out"), history(trained[0]), rtol=1e-6)


def test_a_simulated_set_has_its_own_truth_and_hard_negatives_count(place):
    folder = make(place / "set", 300, first=0)
    truth = pd.read_csv(folder / "labels.csv")
    (folder / "truth").mkdir()
    truth.iloc[:200].to_parquet(folder / "truth" / "part-00000.parquet")
    truth.iloc[200:].to_parquet(folder / "truth" / "part-00001.parquet")
    (folder / "simulation.json").write_text('{"key": {}, "state": "incomplete"}')
    (place / "hard.csv").write_text(
        "object_id\n" + "\n".join(map(str, truth.loc[truth["label"] == 0, "object_id"][:9]))
    )
    data = f"data=[{{store: {folder}, hard_negatives: {{table: {place / 'hard.csv'}, repeat: 4}}}}]"
    assert refused(place, data) == f"{folder} is not complete. Run 'survey_scan simulate' on it again."
    (folder / "simulation.json").write_text('{"key": {}, "state": "complete"}')
    result = train(
        place, data, "schedule.epochs=1", "schedule.warm_up=0", "balance=weights", "augmentation.rotation=true"
    )
    assert result.exit_code == 0, result.output
    assert "by its own truth; without 6 whose cutout is not whole; 9 hard negatives, 4 times each\n" in result.output
    assert (
        "both classes weigh the same in the loss; augmented by flips, right-angle turns, any rotation\n"
        in result.output
    )


def test_bands_and_size_may_be_fewer_than_the_stores(place):
    result = train(place, "network.bands=[r]", "network.size=10", "schedule.epochs=1", "schedule.warm_up=0")
    assert result.exit_code == 0, result.output
    contract = read_contract(place / "out" / "package" / "model.yaml")
    assert (contract.bands, contract.size, contract.allow) == (["r"], 10, [])
    assert len(contract.normalisation[0].scale) == 1


# --- what is refused ---


def test_a_loss_that_is_no_number_stops(place):
    result = train(place, "network.normalisation=[{step: log, floor: 1e-30},{step: scale, scale: 1e-38}]")
    assert result.exit_code == 2
    assert re.fullmatch(
        r"the loss became (nan|inf) in epoch 1, in one of its first 8 steps: the training diverged, or pixels are not what the "
        r"normalisation expects\. Lower schedule\.rate \(0\.01\), lengthen schedule\.warm_up, or mend network\.normalisation, and "
        r"choose another output\.directory\.",
        result.output.splitlines()[-1],
    )


def test_labels_that_cannot_be_learnt_from(place):
    labels = pd.read_csv(place / "one" / "labels.csv")
    (place / "none.csv").write_text("object_id,label\n5,1\n6,0\n")
    labels[labels["label"] == 0].to_csv(place / "others.csv", index=False)
    lens = labels[labels["label"] == 1].iloc[[0]]
    pd.concat([lens, labels[labels["label"] == 0]]).to_csv(place / "one-lens.csv", index=False)

    def data(table: str) -> str:
        return f"data=[{{store: {place / 'one'}, labels: {place / table}}}]"

    assert refused(place, data("none.csv")) == (
        f"none of the 2 object_ids of {place / 'none.csv'} is in {place / 'one'}: 5 in the table, 1000 in the store. Name labels "
        "of the objects of this store."
    )
    assert refused(place, data("others.csv")) == (
        "data: there is no lens to learn from, but 417 non-lenses. Label some of both classes."
    )
    assert refused(place, data("one-lens.csv")) == (
        "validation: there is no lens to judge by, but 104 non-lenses. Label some of both classes."
    )
    assert refused(place, f"data=[{{store: {place / 'one'}}}]") == (
        f"{place / 'one'} is not simulated, so that it has no truth of its own. Give its 'labels', a table."
    )
    assert refused(place, f"data=[{{store: {place / 'two'}}}]") == (
        f"{place / 'two'} holds no cutouts. Name a run directory, a folder of 'survey_scan simulate', or a cutouts.zarr."
    )


def test_stores_must_hold_the_same_pixels(place):
    other = make(place / "other", 100, bands=("g", "i"), size=14, pixel_scale=0.2, zero_point=27.0)
    data = ", ".join(f"{{store: {folder}, labels: {folder / 'labels.csv'}}}" for folder in (place / "one", other))
    assert refused(place, f"data=[{data}]") == (
        f"{place / 'one'} and {other} hold different pixels: bands g, r against g, i; pixels on a side 12 against 14; arcsec a "
        "pixel 0.263 against 0.2; zero point in g 30 against 27. One network learns from pixels of one kind: cut one of them "
        "again as the other is, or train two."
    )


def test_a_start_must_fit(place, trained, tmp_path):
    import keras

    other = make(place / "other", 200, bands=("g", "i"))
    start = f"network={{start: {trained[0] / 'package'}}}"
    assert refused(place, start, f"data=[{{store: {other}, labels: {other / 'labels.csv'}}}]").startswith(
        f"{other}: the network expects bands g, r at 0.263 arcsec; the cutouts are g, i at 0.263. Set cutouts.bands to [g, r]"
    )
    broken = shutil.copytree(trained[0] / "package", tmp_path / "broken")
    network = keras.models.load_model(broken / "network.keras", compile=False)
    network.get_layer("logit").kernel.assign(np.full((48, 1), np.nan))
    with quiet():
        network.save(broken / "network.keras")
    assert f"{broken / 'network.keras'} has weights that are not finite numbers" in refused(
        place, f"network={{start: {broken}}}"
    )
    pixels = keras.Input((12, 12, 2))
    columns = keras.layers.Dense(3, name="classes")(keras.layers.Flatten()(pixels))
    with quiet():
        keras.Model(pixels, columns).save(broken / "network.keras")
    assert refused(place, f"network={{start: {broken}}}") == (
        f"{broken / 'network.keras'} ends in 'classes' (Dense), of shape (None, 3). What can be trained further ends in one "
        "column: Dense(1), with a sigmoid or without. Start from an architecture instead."
    )


def test_of_a_training_that_never_began_nothing_is_kept(place):
    bad = "network.normalisation=[{step: log, floor: 1e-30},{step: scale, scale: 1e-38}]"
    assert train(place, bad).exit_code == 2
    assert train(place, "schedule.epochs=1", "schedule.warm_up=0").exit_code == 0


def test_a_batch_that_devices_cannot_share_is_refused():
    from types import SimpleNamespace

    from survey_scan.errors import UserError
    from survey_scan.training.network import Trainee

    with pytest.raises(UserError) as caught:
        Trainee(None, None, SimpleNamespace(batch=65), SimpleNamespace(num_replicas_in_sync=2))
    assert str(caught.value) == (
        "schedule.batch is 65, which 2 devices cannot share evenly. Set it to a multiple of 2, or let fewer be seen "
        "(CUDA_VISIBLE_DEVICES)."
    )


def test_a_folder_of_something_else_is_left_alone(place):
    (place / "out").mkdir()
    (place / "out" / "thesis.tex").write_text("")
    assert refused(place) == (
        f"{place / 'out'} exists and is no training: it holds thesis.tex. Choose another output.directory."
    )


def test_a_network_with_a_sigmoid_is_trained_further_as_its_logit():
    import keras

    from survey_scan.training.network import trainable

    pixels = keras.Input((4, 4, 1))
    flat = keras.layers.Flatten()(pixels)
    inside = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(flat))
    apart = keras.Model(pixels, keras.layers.Activation("sigmoid")(keras.layers.Dense(1)(flat)))
    x = np.random.default_rng(0).normal(size=(5, 4, 4, 1)).astype(np.float32)
    for model in (inside, apart):
        p = np.asarray(model(x))
        z = np.asarray(trainable(model, "x")(x))
        np.testing.assert_allclose(1 / (1 + np.exp(-z)), p, rtol=1e-5)


# --- configuration ---


def problems(place: Path, text: str) -> str:
    (place / "t.yaml").write_text(textwrap.dedent(text))
    result = train(place)
    assert result.exit_code == 2
    return result.output.strip().replace(str(place) + "/", "")


def test_wrong_configurations_are_refused_with_their_place(place):
    assert problems(place, "output: {directory: out}\npreset: lanuse2018\ndata: []\nnetwork: {}\n") == (
        "t.yaml:2:1: there is no preset 'lanuse2018'. Did you mean 'lanusse2018'? There are default, lanusse2018, storfer2024."
    )
    found = problems(
        place,
        """\
        output: {directory: out}
        data:
          - {store: one, lables: x.csv}
        network: {architecture: demo, start: one}
        validation: {fraction: 0.1, data: [{store: one}]}
        schedule: {epochs: 2, warm_up: 2}
        augmentation: {zoom: [0.9, 1.1]}
        balance: half
        """,
    ).splitlines()
    assert found == [
        "t.yaml:3:18: unknown key 'data.0.lables'. Did you mean 'labels'?",
        "t.yaml:4:1: network: give 'architecture' (a new network) or 'start' (a package to train further), one of them",
        "t.yaml:5:1: validation: give 'fraction' (of the rows of 'data') or 'data' (stores of its own), one of them",
        "t.yaml:6:1: schedule: 'warm_up' is 2 epochs of 2; it must be shorter",
        "t.yaml:7:16: augmentation.zoom: 'zoom' is [lowest, highest] of the part of the side that is kept, at most 1, not "
        "[0.9, 1.1]",
        found[5],
    ]
    assert found[5].startswith("t.yaml:8:1: 'balance' is 'half': ")
    assert problems(
        place,
        """\
        output: {directory: out}
        data: [{store: one}]
        network:
          architecture: demo
          normalisation: [{step: clip, low: measured, high: 3}]
        """,
    ) == ("t.yaml:5:3: network.normalisation: item 1: 'low' cannot be measured; what can is offset, mean, scale, std")


def test_what_only_the_stores_tell_is_checked_before_anything_is_made(place):
    assert refused(place, "augmentation.noise=[1, 2, 3]") == (
        "augmentation.noise has 3 values, but there are 2 bands (g, r). Give one number for all, or one a band in this order."
    )
    assert (
        refused(place, "network.bands=[g, z]")
        == f"network.bands has 'z', which {place / 'one'} does not hold. It has g, r."
    )
    assert refused(place, "network.normalisation=gonzalez2025", "network.architecture=demos").endswith(
        "network.architecture: there is no architecture 'demos'. Did you mean 'demo'? There are cmu_deeplens, "
        "shielded_resnet, jacobs_cnn, vit_b16, demo"
    )
    assert refused(place, "network.normalisation=[{step: clip, low: [1, 2, 3]}]") == (
        "network.normalisation: step 1 (clip): 'low' has 3 values, but there are 2 bands (g, r). Give one number for all, or "
        "one a band in this order."
    )
    assert not (place / "out" / "training.json").exists()


def test_measured_constants_are_those_before_their_step(place):
    from survey_scan.training import normalising
    from survey_scan.training.network import applied

    pixels = np.random.default_rng(0).normal(3, 2, (50, 4, 4, 2)).astype(np.float32)
    value = [{"step": "clip", "low": 3}, {"recipe": "storfer2024", "mean": "measured", "std": "measured"}]
    normalising.check(value)
    clip, scale, _ = normalising.settle(value, pixels, ["g", "r"], applied)
    high = np.maximum(pixels.astype(float), 3)
    assert clip.low == 3 and scale.offset == pytest.approx(high.mean(axis=(0, 1, 2)), rel=1e-5)
    assert scale.scale == pytest.approx(high.std(axis=(0, 1, 2)), rel=1e-5)
    with pytest.raises(
        ValueError, match="item 1: all pixels of a band are equal, so that there is nothing to divide by"
    ):
        normalising.settle([{"step": "scale", "scale": "measured"}], np.ones_like(pixels), ["g", "r"], applied)
    with pytest.raises(ValueError, match=r"item 1 .*: there is no recipe 'storfer'"):
        normalising.check("storfer")


@pytest.mark.parametrize("name", ["train.yaml", "demo-train.yaml"])
def test_the_configurations_that_come_with_it_can_be_read(name):
    from survey_scan.training.config import load

    path = Path(__file__).parent.parent / "configs" / name
    config = load(path)
    assert config.data[0].store.parent == path.parent
    if name == "train.yaml":  # it says every key, and the defaults where it gives no example
        said = yaml.safe_load(path.read_text())
        for section in ("schedule", "augmentation", "reading"):
            assert set(said[section]) == set(type(getattr(config, section)).model_fields)
