"""Several networks: the logit that comes of theirs, the cascade, views of a cutout, and whole scans with them."""

import itertools
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_survey
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from networks import BANDS, SHAPE, SIZE, linear
from test_scores import Rows, Watched

from survey_scan import models, scores
from survey_scan.cli import main
from survey_scan.combination import Combination, Ranks
from survey_scan.config import CHUNK_ROWS, Cascade, Config, Model
from survey_scan.config_file import load
from survey_scan.errors import ConfigError
from survey_scan.models.package import Cutouts, open_package
from survey_scan.schema import Status


def config(models: tuple[str, ...] = ("one", "two"), **sections) -> Config:
    base = {
        "run": {"name": "x"}, "catalogue": {"files": "c.fits"}, "images": {"files": "{tile}_{band}", "bands": ["g"]},
        "cutouts": {"bands": ["g"], "size": 20}, "models": {name: {"path": "loopback"} for name in models},
    }  # fmt: skip
    return Config.model_validate(base | sections)


def table(one: object, two: object, status: object = 0) -> pd.DataFrame:
    one, two = np.asarray(one, np.float32), np.asarray(two, np.float32)
    codes = np.broadcast_to(np.asarray(status, np.uint8), one.shape)
    return pd.DataFrame({"object_id": np.arange(len(one)), "logit_one": one, "logit_two": two, "status": codes})


# --- the logit that comes of several ---


@pytest.mark.parametrize(("by", "expected"), [(None, [2.0, 0.0]), ("mean_logit", [2.0, 0.0]), ("max", [3.0, 5.0])])
def test_the_mean_and_the_largest_of_logits(by, expected):
    found = Combination(config(ranking={"combine": by})).logit(table([1, 5, 9], [3, -5, 9], [0, 0, 4]))
    assert found.dtype == np.float32 and found[:2].tolist() == expected and np.isnan(found[2])


def test_a_cascade_is_ranked_by_its_second_network():
    found = Combination(config(cascade={"fraction": 0.5})).logit(table([1, 5], [3, np.nan], [0, Status.SET_ASIDE]))
    assert found[0] == 3 and np.isnan(found[1])


logits = arrays(np.float32, st.integers(1, 60), elements=st.floats(-30, 30, width=32))


@given(logits, st.integers(0, 2**32 - 1), st.integers(0, 60))
def test_ranks_keep_the_order_of_each_network_and_add_up_over_partitions(one, seed, at):
    two = np.random.default_rng(seed).normal(0, 5, len(one)).astype(np.float32)
    whole = table(one, two)
    names = ["one", "two"]
    ranks = Ranks.of(whole[:at], names) + Ranks.of(whole[at:], names)
    again = Ranks.of(whole, names)
    assert all(np.array_equal(ranks.counts[name], again.counts[name]) for name in names)
    for name, values in (("one", one), ("two", two)):
        alone = Ranks({name: ranks.counts[name]}).mean(whole)
        assert (np.diff(alone[np.argsort(values, kind="stable")]) >= 0).all()
        assert ((alone > 0) & (alone < 1)).all()
        brute = (values[:, None] > values).mean(axis=1)
        # Within a bin they are taken to be spread evenly: off by no more than what shares the bin.
        share = np.array([(np.abs(values - v) <= np.abs(v) / 64 + 1e-37).mean() for v in values])
        assert (np.abs(alone - brute) <= share + 1 / len(one)).all()


def test_the_mean_of_ranks_forgets_the_scale_of_a_network(tmp_path):
    rng = np.random.default_rng(3)
    good = rng.normal(0, 1, 5000)
    loud = np.where(np.arange(5000) == 7, 30, rng.normal(0, 100, 5000))  # of no use, and 100 times as loud
    good[42] = 6
    both = table(good, loud)
    by_rank = config(ranking={"combine": "mean_rank"})
    ranks = Ranks.of(both, ["one", "two"])
    ranks.write(tmp_path / "ranks.json")
    ranks = Ranks.read(tmp_path / "ranks.json")
    logit = Combination(by_rank, ranks).logit(both)
    expected = (both[["logit_one", "logit_two"]].rank() / 5000).mean(axis=1)
    assert np.corrcoef(1 / (1 + np.exp(-logit.astype(float))), expected)[0, 1] > 0.99999
    mean = Combination(config()).logit(both)
    assert (logit > logit[42]).sum() < 500 < 1500 < (mean > mean[42]).sum()
    with pytest.raises(ValueError, match="needs the ranks of the whole run"):
        Combination(by_rank).logit(both)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"model": {"path": "x"}}, "give 'model' (one) or 'models' (several, by name), one of them"),
        ({"models": {"one": {"path": "x"}}}, "'models' has 1; it takes two or more, and 'model' takes one"),
        ({"cascade": {}}, "give 'fraction' (of each partition) or 'above' (a logit of the first model), one of them"),
        (
            {"cascade": {"fraction": 0.1}, "models": {n: {"path": "x"} for n in "abc"}},
            "a 'cascade' is of two 'models', the first of which sees everything; here is 3",
        ),
        (
            {"cascade": {"fraction": 0.1}, "ranking": {"combine": "max"}},
            "ranking.combine is for several 'models' that all see everything, but a cascade is ranked by its second model: "
            "remove it",
        ),
        (
            {"models": {"a": {"path": "x"}, "b": {"path": "y", "precision": "tf32"}}},
            "all 'models' run in one process: give them one 'backend', and float32 to all or to none",
        ),
        (
            {"catalogue": {"files": "c.fits", "columns": {"logit_one": "L"}}},
            "'logit_one' is a column of yours and would be that of a model: rename one of them",
        ),
    ],
)
def test_what_cannot_be_is_said(tmp_path, sections, message):
    data = config().model_dump(mode="json", exclude_unset=True) | sections
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    with pytest.raises(ConfigError) as caught:
        load(tmp_path / "c.yaml")
    assert message in str(caught.value)


def test_paths_of_models_are_relative_to_the_file(tmp_path, monkeypatch):
    data = config().model_dump(mode="json", exclude_unset=True)
    data["models"] = {"a": {"path": "small/"}, "b": {"path": "loopback"}}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(data))
    monkeypatch.chdir("/")
    found = load(tmp_path / "c.yaml", ("models.b.path=big.keras",)).networks
    assert {name: model.path for name, model in found.items()} == {"a": f"{tmp_path}/small", "b": "/big.keras"}


# --- one partition ---


class Times(Watched):
    """Gives the row's number times something."""

    def __init__(self, batch_size: int, factor: float):
        super().__init__(batch_size)
        self.factor = factor

    def score(self, staged):
        return (super().score(staged) * np.float32(self.factor)).astype(np.float32)


def test_several_networks_see_pixels_that_are_read_once():
    status = np.zeros(2 * CHUNK_ROWS, np.uint8)
    status[5] = Status.MISSING
    reader, alone = Rows(status), Rows(status)
    found = scores.score_partition(reader, 0, len(status), {"one": Times(100, 1), "two": Times(37, -2)}).table
    single = scores.score_partition(alone, 0, len(status), {"": Times(100, 1)}).table
    assert list(found) == ["object_id", "logit_one", "logit_two", "status"]
    assert reader.reads == alone.reads
    np.testing.assert_array_equal(found["logit_one"], single["logit"])
    np.testing.assert_array_equal(found["logit_two"], -2 * single["logit"])
    assert np.isnan(found["logit_two"][5]) and found["status"].tolist() == status.tolist()


@pytest.mark.parametrize("size", [1, 10, 255, 700])
def test_the_second_of_a_cascade_sees_the_best_fraction(size):
    status = np.zeros(size, np.uint8)
    status[0] = Status.MISSING
    small, large = Times(64, 1), Times(50, -1)
    found = scores.score_partition(Rows(status), 0, size, {"a": small, "b": large}, Cascade(fraction=0.1)).table
    seen = int(np.ceil((size - 1) / 10))
    assert found["status"].value_counts().to_dict() == {
        code: n for code, n in ((0, seen), (int(Status.SET_ASIDE), size - 1 - seen), (int(Status.MISSING), 1)) if n
    }
    ok = found["status"] == 0
    assert np.isfinite(found["logit_a"][1:]).all() and np.isfinite(found["logit_b"]).tolist() == ok.tolist()
    assert not ok.any() or found["logit_a"][ok].min() > found["logit_a"][~ok].max() or size == seen + 1


def test_a_cascade_by_a_logit_is_the_same_however_the_targets_are_divided():
    status = np.zeros(4 * CHUNK_ROWS, np.uint8)
    networks = {"a": Times(64, 1), "b": Times(64, 3)}
    limit = float(Times(64, 1).score(Times(64, 1).stage(Rows(status).read(500, 501).image))[0])
    whole = scores.score_partition(Rows(status), 0, len(status), networks, Cascade(above=limit)).table
    edges = (0, CHUNK_ROWS, 3 * CHUNK_ROWS, 4 * CHUNK_ROWS)
    parts = [
        scores.score_partition(Rows(status), a, b, networks, Cascade(above=limit)).table
        for a, b in itertools.pairwise(edges)
    ]
    pd.testing.assert_frame_equal(pd.concat(parts, ignore_index=True), whole, check_exact=True)
    assert (whole["status"] == 0).sum() == 4 * CHUNK_ROWS - 501


def test_no_finite_logit_of_one_network_is_no_score():
    class Never(Watched):
        def score(self, staged):
            return np.full_like(super().score(staged), np.inf)

    status = np.zeros(10, np.uint8)
    both = scores.score_partition(Rows(status), 0, 10, {"a": Times(64, 1), "b": Never(64)}).table
    assert (
        (both["status"] == Status.NOT_FINITE).all() and both["logit_b"].isna().all() and both["logit_a"].notna().all()
    )
    first = scores.score_partition(
        Rows(status), 0, 10, {"a": Never(64), "b": Times(64, 1)}, Cascade(fraction=0.5)
    ).table
    assert (first["status"] == Status.NOT_FINITE).all() and first["logit_b"].isna().all()


# --- views ---


@pytest.mark.parametrize("backend", ["tensorflow"])
@pytest.mark.parametrize("n", [4, 8])
def test_views_give_the_mean_of_the_logits_of_mirrored_cutouts(networks_folder, n, backend):
    path = str(networks_folder["linear.keras"])
    image = np.random.default_rng(4).normal(0, 2, (5, *SHAPE)).astype(np.float32)
    turned = [image] if n == 4 else [image, image.transpose(0, 2, 1, 3)]
    ways = [np.flip(t, axes) for t in turned for axes in ((), (1,), (2,), (1, 2))]
    expected = np.mean([linear(way)[:, 0] for way in ways], axis=0)
    network = models.load(Model(path=path, views=n, output="logit", batch_size=4), BANDS, SIZE, "float32")
    np.testing.assert_allclose(network.logits(image), expected, atol=1e-5)
    for way in ways:  # each has the logit of all
        np.testing.assert_allclose(network.logits(np.ascontiguousarray(way)), expected, atol=1e-5)
    package = open_package(Model(path=path))
    cutouts = Cutouts(tuple(BANDS), SIZE)
    assert package.digest(cutouts, "float32", 1) == package.digest(cutouts, "float32")
    assert len({package.digest(cutouts, "float32", views) for views in (1, 4, 8)}) == 3


# --- whole scans ---


@pytest.fixture(scope="module")
def survey(tmp_path_factory):
    """A small survey, a network that likes what is bright in r, and labels: lenses are what both networks like."""
    import keras
    from networks import quiet

    made = small_survey.make(tmp_path_factory.mktemp("several") / "survey", n_objects=1500)
    pixels = keras.Input((20, 20, 2))
    layer = keras.layers.Dense(1, name="logit")
    network = keras.Model(pixels, layer(keras.layers.GlobalAveragePooling2D()(pixels)))
    layer.kernel.assign(np.array([[0.0], [5.0]], np.float32))
    with quiet():
        network.save(made.folder / "red.keras")
    data = yaml.safe_load(made.config.read_text())
    del data["model"]
    data["models"] = {"both": {"path": "loopback"}, "red": {"path": "red.keras", "views": 4}}
    made.config.write_text(yaml.safe_dump(data, sort_keys=False))
    return made


def call(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(main, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


def tables(run: Path) -> pd.DataFrame:
    return pd.concat([pd.read_parquet(p) for p in sorted((run / "scores").iterdir())], ignore_index=True)


@pytest.mark.slow
def test_a_scan_with_several_networks_from_combination_to_cascade(survey, scheduler):
    run = survey.folder / "runs" / "lrg"
    said = call("run", survey.config, "--scheduler", scheduler)
    assert "network     both: loopback: no network" in said and "network     red: " in said
    assert "mean of 4 views" in said and "ranked by   the mean of the logits of both, red" in said
    members = tables(run)
    ok = members["status"] == 0
    assert list(members) == ["object_id", "logit_both", "logit_red", "status"] and ok.sum() > 300
    mean = members["logit_both"].astype(float).add(members["logit_red"]) / 2
    candidates = pd.read_parquet(run / "candidates.parquet")
    best = members.assign(logit=mean.astype(np.float32))[ok].sort_values(
        ["logit", "object_id"], ascending=[False, True]
    )
    assert candidates["object_id"].tolist() == best["object_id"].tolist()[:500]
    np.testing.assert_array_equal(candidates["logit"], best["logit"][:500])
    np.testing.assert_array_equal(candidates["logit_red"], best["logit_red"][:500])
    assert "all is well" in call("verify", run)
    one = json.loads(call("inspect", run, candidates["object_id"][0], "--json"))["score"]
    assert one["logits"].keys() == {"both", "red"} and one["logit"] == pytest.approx(sum(one["logits"].values()) / 2)

    labels = survey.folder / "labels.csv"
    is_lens = (members["object_id"].isin(best["object_id"][:40])).astype(int)
    members.assign(label=is_lens)[ok | (is_lens == 1)][["object_id", "label"]].to_csv(labels, index=False)
    said = call("evaluate", run, "--labels", labels, "--out", survey.folder / "evaluation")
    assert "logit_both" in said and "logit_red" in said and "together" in said
    found = json.loads((survey.folder / "evaluation" / "evaluation.json").read_text())
    assert found["models"][0]["auc"]["value"] == 1
    assert [one["column"] for one in found["members"]] == ["logit_both", "logit_red"]
    assert all(0.5 < one["auc"]["value"] < 1 for one in found["members"])

    # Another combination ranks the same scores again and scores nothing.
    before = {p.name: p.stat().st_mtime_ns for p in (run / "scores").iterdir()}
    survey.edit(ranking={"combine": "mean_rank"})
    said = call("run", survey.config, "--scheduler", scheduler)
    assert "scores      all" in said
    assert {p.name: p.stat().st_mtime_ns for p in (run / "scores").iterdir()} == before
    ranked = pd.read_parquet(run / "candidates.parquet")
    fraction = members[ok][["logit_both", "logit_red"]].rank(pct=True).mean(axis=1)
    order = members.loc[fraction.sort_values(ascending=False).index, "object_id"]
    assert len(set(order[:100]) & set(ranked["object_id"][:100])) >= 97
    assert "all is well" in call("verify", run)
    call("evaluate", run, "--labels", labels, "--out", survey.folder / "evaluation")
    call("inspect", run, candidates["object_id"][0])

    # A cascade scores again, and says what the second network saw.
    survey.edit(ranking={"combine": None}, cascade={"fraction": 0.1})
    said = call("run", survey.config, "--scheduler", scheduler)
    assert "changed: cascade" in said and "ranked by   both scores everything, red the best of it" in said
    cascade = tables(run)
    aside = cascade["status"] == Status.SET_ASIDE
    seen = cascade["status"] == 0
    assert aside.sum() + seen.sum() == ok.sum() and 0.1 <= seen.sum() / ok.sum() < 0.12
    assert f"cascade     its second network saw {seen.sum()} of {ok.sum()} targets" in said
    assert f"scored {seen.sum()} + set aside {aside.sum():,} + flagged {(~ok).sum()}" in said
    np.testing.assert_array_equal(cascade["logit_both"], members["logit_both"])
    np.testing.assert_array_equal(cascade["logit_red"][seen], members["logit_red"][seen])
    assert len(pd.read_csv(run / "failures.csv")) == (~ok).sum()
    assert len(pd.read_parquet(run / "candidates.parquet")) == seen.sum()
    status = json.loads(call("status", run, "--json"))
    assert status["state"] == "complete" and status["counts"]["set_aside"] == aside.sum()
    assert "set aside by the cascade" in call("status", run)
    assert "all is well" in call("verify", run)
    lost = cascade["object_id"][aside & (is_lens == 1)]
    said = call("evaluate", run, "--labels", labels, "--out", survey.folder / "evaluation")
    assert (f"{len(lost)} lens" in said and "set aside by the cascade's first network" in said) or not len(lost)
    set_aside = cascade["object_id"][aside].iloc[0]
    assert "not asked" in call("inspect", run, set_aside)
