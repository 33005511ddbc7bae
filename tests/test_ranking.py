import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan import ranking, records, scores
from survey_scan.config import Config, Ranking
from survey_scan.engine import rank as engine_rank
from survey_scan.engine import rank_tasks
from survey_scan.engine.state import Standing
from survey_scan.errors import RunError
from survey_scan.layout import RunDirectory
from survey_scan.schema import Status
from survey_scan.watch import bins


def tables(logit: Any, ids: Any = None, status: Any = None) -> tuple[pd.DataFrame, pd.DataFrame]:
    logit = np.asarray(logit, np.float32)
    n = len(logit)
    ids = np.arange(n) if ids is None else ids
    status = np.where(np.isfinite(logit), 0, Status.MISSING) if status is None else status
    where = np.linspace(0, 300, n)
    targets = pd.DataFrame({
        "object_id": ids, "ra": where, "dec": -where / 10, "tile": [f"T{i % 3}" if i % 4 else "" for i in range(n)],
        "x": where + 0.5, "y": where * 2, "mag_r": where / 20,
    })  # fmt: skip
    return targets, pd.DataFrame({"object_id": ids, "logit": logit, "status": np.asarray(status, np.uint8)})


def naive(targets: pd.DataFrame, table: pd.DataFrame, top: int, threshold: float | None) -> list[Any]:
    """The definition, in plain Python."""
    rows = [
        (-float(logit), object_id)
        for object_id, logit, status in zip(table["object_id"], table["logit"], table["status"], strict=True)
        if status == 0 and (threshold is None or float(ranking.probability(np.float32(logit))) >= threshold)
    ]
    return [object_id for _, object_id in sorted(rows)[:top]]


LOGITS = st.lists(
    st.one_of(
        st.sampled_from([0.0, -0.0, 1.5, 16.6, 17.0, 40.0, -100.0, float("nan")]),
        st.floats(-120, 120, width=32),
    ),
    max_size=60,
)
IDS = {
    "numbers": lambda n, rng: rng.permutation(np.arange(n) * 7 - 50),
    "large": lambda n, rng: rng.permutation(np.arange(n, dtype=np.uint64) + np.uint64(2**63)),
    "texts": lambda n, rng: rng.permutation([f"{'aZé9Ω'[i % 5]}{i}" for i in range(n)]).astype(object),
}


@settings(max_examples=100, deadline=None)
@given(
    logits=LOGITS,
    ids=st.sampled_from(sorted(IDS)),
    seed=st.integers(0, 99),
    top=st.integers(1, 20),
    threshold=st.sampled_from([None, 0.0, 0.5, 0.99, 1.0]),
    size=st.integers(1, 20),
    fan_in=st.integers(2, 5),
)
def test_any_partitions_merged_in_any_tree_rank_as_one_table(logits, ids, seed, top, threshold, size, fan_in):
    rng = np.random.default_rng(seed)
    targets, table = tables(logits, IDS[ids](len(logits), rng))
    rule = Ranking(top=top, threshold=threshold)
    parts = [slice(i, i + size) for i in range(0, max(len(targets), 1), size)]
    level = [ranking.top(targets[p], table[p], rule) for p in parts]
    assert all(len(part) <= top for part in level)
    while len(level) > 1:
        level = [level[i] for i in rng.permutation(len(level))]
        level = [ranking.merge(level[i : i + fan_in], rule) for i in range(0, len(level), fan_in)]
    best = level[0]
    assert best["object_id"].tolist() == naive(targets, table, top, threshold)
    once = ranking.top(targets, table, rule)
    pd.testing.assert_frame_equal(best, once)
    rows = targets.set_index("object_id").loc[best["object_id"]].reset_index()
    pd.testing.assert_frame_equal(best[targets.columns], rows, check_dtype=len(best) > 0)


def test_ties_go_by_number_not_by_its_text():
    targets, table = tables([1.0] * 4, ids=[100, 20, 3, -1])
    assert ranking.top(targets, table, Ranking(top=3))["object_id"].tolist() == [-1, 3, 20]
    targets, table = tables([1.0] * 3, ids=["100", "20", "3"])
    assert ranking.top(targets, table, Ranking(top=3))["object_id"].tolist() == ["100", "20", "3"]


def test_only_status_ok_is_ranked():
    targets, table = tables([5.0, 4.0, np.nan, 3.0], status=[0, Status.BAD_PIXELS, Status.NOT_FINITE, 0])
    best = ranking.top(targets, table, Ranking())
    assert best["object_id"].tolist() == [0, 3]
    assert best["status"].tolist() == [0, 0]


def test_score_tells_logits_apart_that_float32_probabilities_do_not():
    logit = np.array([16.7, 17.0, 30.0, -103.0, 0.0], np.float32)
    score = ranking.probability(logit)
    assert score[0] < score[1] < score[2] < 1 and score[3] > 0 and score[4] == 0.5
    exact = [float(1 / (1 + Fraction(float(np.exp(-np.float64(x)))))) for x in logit]
    np.testing.assert_allclose(score, exact, rtol=3e-16)
    assert np.isnan(ranking.probability(np.array([np.nan])))[0]


@settings(max_examples=200, deadline=None)
@given(st.floats(-90, 90, width=32), st.integers(-3, 3))
def test_a_threshold_equal_to_a_score_keeps_it(logit, steps):
    """The threshold is compared with the very number that the candidate table shows."""
    threshold = float(ranking.probability(np.float32(logit)))
    near = np.nextafter(np.float32(logit), np.float32(np.inf if steps > 0 else -np.inf))
    for _ in range(abs(steps) - 1):
        near = np.nextafter(near, np.float32(np.inf if steps > 0 else -np.inf))
    targets, table = tables([logit, near])
    best = ranking.top(targets, table, Ranking(threshold=threshold))
    assert 0 in best["object_id"].tolist()
    assert (best["score"] >= threshold).all()
    kept = float(ranking.probability(near)) >= threshold
    assert (1 in best["object_id"].tolist()) == kept


def test_tables_of_other_targets_are_refused():
    targets, table = tables([1.0, 2.0])
    for other in (table[:1], table.assign(object_id=[1, 0]), table.assign(object_id=["0", "1"])):
        with pytest.raises(RunError) as caught:
            ranking.top(targets, other, Ranking())
        assert str(caught.value) == ("a score table is not of its partition's targets. Run again with '--redo scores'.")


def test_failures_are_the_rows_without_a_score():
    targets, table = tables([1.0, np.nan, 2.0, np.nan], status=[0, Status.OUTSIDE, 0, Status.NOT_FINITE])
    failed = ranking.failures(targets, table)
    assert failed.to_csv(index=False) == (
        "object_id,ra,dec,tile,status,reason\n"
        "1,100.0,-10.0,T1,2,outside every tile\n"
        "3,300.0,-30.0,T0,7,network gave no finite logit\n"
    )
    assert len(ranking.failures(targets[:1], table[:1])) == 0


def written(folder: Path, logits: list[list[float]]) -> tuple[RunDirectory, dict[int, dict[str, Any]]]:
    run, done = RunDirectory(folder), {}
    for p, part in enumerate(logits):
        targets, table = tables(part, ids=np.arange(len(part)) + 100 * p)
        run.targets(p).parent.mkdir(exist_ok=True)
        targets.to_parquet(run.targets(p))
        scores.write(run.scores(p), table)
        counts = table["status"].value_counts()
        done[p] = {"status": {str(code): int(n) for code, n in counts.items()}}
    return run, done


def test_finish_leaves_candidates_failures_and_the_record(tmp_path):
    run, done = written(tmp_path, [[1.0, np.nan, 3.0], [0.5, 0.25], [np.nan]])
    run.targets(1).unlink()  # without failures: not read
    rule = Ranking(top=2)
    pairs = [(pd.read_parquet(run.targets(0)), pd.read_parquet(run.scores(0)))]
    best = ranking.merge([ranking.top(*pair, rule) for pair in pairs], rule)
    ranking.finish(run, best, done, {"scores": "abc"})
    assert pd.read_parquet(run.candidates_parquet)["object_id"].tolist() == [2, 0]
    assert run.candidates_fits.is_file()
    failed = pd.read_csv(run.failures)
    assert failed["object_id"].tolist() == [1, 200]
    assert failed["reason"].tolist() == ["tile or band missing"] * 2
    assert records.read(run.ranking_record) == {"key": {"scores": "abc"}, "candidates": 2, "failures": 2}


def test_a_ranking_that_fails_leaves_no_record(tmp_path):
    run, done = written(tmp_path, [[1.0, np.nan]])
    best = ranking.top(pd.read_parquet(run.targets(0)), pd.read_parquet(run.scores(0)), Ranking())
    ranking.finish(run, best, done, {"scores": "abc"})
    before = run.failures.read_bytes()
    run.targets(0).unlink()
    with pytest.raises(FileNotFoundError):
        ranking.finish(run, best, done, {"scores": "def"})
    assert not run.ranking_record.exists()
    assert run.failures.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir() if "partial" in path.name] == []


def test_no_ranking_changes_without_a_new_version():
    """Golden values: if this fails because ranking is meant to change, raise RANKING_VERSION and renew them."""
    logit = (np.arange(200) * 37 % 101 - 50) / 4
    targets, table = tables(logit, ids=np.arange(200) * 13 % 200, status=(np.arange(200) % 11 == 5) * 3)
    best = ranking.top(targets, table, Ranking(top=50, threshold=0.9))
    digest = hashlib.sha256(json.dumps(best[["object_id", "logit"]].values.tolist()).encode()).hexdigest()[:16]
    assert (ranking.RANKING_VERSION, len(best), digest) == (2, 50, "80edfef0c9563ffa")


def a_run(folder: Path, logits: list[Any], ids: str = "numbers", top: int = 30, models: Any = None) -> Any:
    """A run of such logits and its standing, as far as ranking asks."""
    from survey_scan.combination import column
    from survey_scan.config_file import dump

    config = small_config(top, models)
    run = RunDirectory(folder)
    run.targets_folder.mkdir(parents=True)
    names, found = IDS[ids](sum(map(len, logits)), np.random.default_rng(3)), records.Records()
    for p, part in enumerate(logits):
        targets, table = tables(part, names[sum(map(len, logits[:p])) :][: len(part)])
        if models:
            own = {column(name): table["logit"] * (1 + i) for i, name in enumerate(models)}
            table = table[["object_id"]].assign(**own, status=table["status"])
        targets.to_parquet(run.targets(p), index=False)
        scores.write(run.scores(p), table)
        counted = bins.count(table.filter(regex="^logit").to_numpy()[:, -1])
        found.add(p, json.dumps({"key": {}, "logits": counted}).encode())
    run.config_resolved.write_text(dump(config, "test"))
    partitions = pd.DataFrame({"partition": range(len(logits)), "n_targets": list(map(len, logits))})
    return config, run, Standing(partitions, {}, {"scores": found}, {}, {}, [])


def small_config(top: int, models: Any) -> Config:
    which: dict[str, Any] = {"models": models} if models else {"model": {"path": "loopback"}}
    return Config.model_validate({
        "run": {"name": "r"}, "catalogue": {"files": ["c.fits"], "id_column": "ID"}, "selection": {"cuts": {}},
        "images": {"files": "{tile}_{band}.fits", "bands": ["g"]}, "cutouts": {"bands": ["g"], "size": 20},
        "ranking": {"top": top, **({"combine": "max"} if models else {})}, **which,
    })  # fmt: skip


def random_logits(rng: Any, partitions: int = 9) -> list[Any]:
    """Some partitions with high logits, some without, one without any, one empty."""
    found = [rng.normal(p % 4 * 3 - 8, 2, 40).astype(np.float32).round(1) for p in range(partitions)]
    found[4][:] = np.nan
    found[2][::3] = np.nan
    return found


def all_at_once(config: Config, run: RunDirectory, numbers: Any) -> pd.DataFrame:
    pairs = [(pd.read_parquet(run.targets(p)), pd.read_parquet(run.scores(p))) for p in numbers]
    return ranking.top(*(pd.concat(part, ignore_index=True) for part in zip(*pairs, strict=True)), config.ranking)


@pytest.mark.parametrize("ids", sorted(IDS))
@pytest.mark.parametrize(("top", "group"), [(1, 9), (30, 2), (30, 9), (1000, 4)])
def test_the_best_of_a_run_are_those_of_one_table(tmp_path, ids, top, group, monkeypatch):
    monkeypatch.setattr(engine_rank, "RANK_GROUP", group)
    monkeypatch.setattr(rank_tasks, "CHOSEN_ROWS", 50)
    config, run, standing = a_run(tmp_path, random_logits(np.random.default_rng(top)), ids, top)
    best = engine_rank.best_of(config, run, standing, None)[0]
    pd.testing.assert_frame_equal(best, all_at_once(config, run, range(9)))
    old = records.Records()
    for p in range(9):
        old.add(p, b'{"key": {}}')  # counts no logits
    standing.done["scores"] = old
    pd.testing.assert_frame_equal(engine_rank.best_of(config, run, standing, None)[0], best)


def test_tables_that_hold_none_of_the_best_are_not_read(tmp_path):
    config, run, standing = a_run(tmp_path, random_logits(np.random.default_rng(0)))
    best = engine_rank.best_of(config, run, standing, None)[0]
    for p in (0, 1, 4, 5, 8):
        run.targets(p).unlink()
        run.scores(p).unlink()
    pd.testing.assert_frame_equal(engine_rank.best_of(config, run, standing, None)[0], best)
    run.scores(3).unlink()
    with pytest.raises(FileNotFoundError):
        engine_rank.best_of(config, run, standing, None)[0]


def test_a_run_without_a_single_score_has_an_empty_table_of_the_best(tmp_path):
    config, run, standing = a_run(tmp_path, [np.full(5, np.nan, np.float32)] * 2)
    best = engine_rank.best_of(config, run, standing, None)[0]
    assert len(best) == 0
    assert list(best) == ["object_id", "ra", "dec", "tile", "x", "y", "mag_r", "score", "logit", "status"]


def test_several_networks_are_ranked_by_all_tables(tmp_path):
    models = {"a": {"path": "loopback"}, "b": {"path": "loopback"}}
    config, run, standing = a_run(tmp_path, random_logits(np.random.default_rng(1)), models=models)
    best = engine_rank.best_of(config, run, standing, None)[0]
    assert list(best)[-5:] == ["logit_a", "logit_b", "score", "logit", "status"]
    logit = np.concatenate([pd.read_parquet(run.scores(p))[["logit_a", "logit_b"]].max(axis=1) for p in range(9)])
    np.testing.assert_allclose(best["logit"], np.sort(logit[np.isfinite(logit)])[::-1][:30])


def test_a_score_table_of_other_targets_is_refused_where_one_of_the_best_is_in_it(tmp_path):
    config, run, standing = a_run(tmp_path, random_logits(np.random.default_rng(0)))
    table = pd.read_parquet(run.scores(3))
    scores.write(run.scores(3), table.assign(object_id=table["object_id"][::-1].to_numpy()))
    with pytest.raises(RunError) as caught:
        engine_rank.best_of(config, run, standing, None)[0]
    assert str(caught.value) == "a score table is not of its partition's targets. Run again with '--redo scores'."
