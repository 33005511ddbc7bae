"""What stands in the footer of a score table, and what it spares a ranking."""

import json

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from test_ranking import a_run, all_at_once, random_logits

from survey_scan import scores
from survey_scan.engine import rank as engine_rank
from survey_scan.engine import rank_tasks, tasks
from survey_scan.ranking import drift, summary
from survey_scan.schema import Status
from survey_scan.views import drift as drifting


def footer_of(path):
    return pq.ParquetFile(path).metadata.metadata


def with_footers(run, config, partitions):
    """Score tables as a scan writes them; those of test_ranking tell nothing."""
    for p in partitions:
        table, targets = pd.read_parquet(run.scores(p)), pq.ParquetFile(run.targets(p)).read()
        scores.write(run.scores(p), table, tasks._footer(config, targets, table))


@pytest.mark.parametrize("n", [0, 1, 31, 32, 33, 500])
def test_the_best_rows_come_back_whole_and_no_other_is_higher(n, tmp_path):
    rng = np.random.default_rng(n)
    logit = rng.normal(0, 3, n).astype(np.float32).round(1)
    status = rng.choice([Status.OK, Status.OK, Status.OK, Status.SET_ASIDE], n).astype(np.uint8)
    logit[rng.random(n) < 0.1] = np.nan
    targets = pa.table(
        {"object_id": np.arange(n), "tile": pa.array(["a"] * n, pa.string()), "logit": np.arange(n) * 2.0}
    )
    made = summary.of(targets, {"logit_a": logit * 2, "status": status, "logit": logit})
    assert made == summary.of(targets, {"logit_a": logit * 2, "status": status, "logit": logit})
    scores.write(tmp_path / "part.parquet", pd.DataFrame({"logit": logit}), made)
    found = summary.best(footer_of(tmp_path / "part.parquet"))
    rows = found.targets["object_id"].to_numpy()
    assert (np.diff(rows) > 0).all() and len(rows) == min(
        ((status == Status.OK) & np.isfinite(logit)).sum(), summary.SHORT
    )
    assert found.targets.equals(targets.take(rows))
    assert {name: values.dtype for name, values in found.scored.items()} == {
        "logit_a": np.float32, "status": np.uint8, "logit": np.float32,
    }  # fmt: skip
    np.testing.assert_array_equal(found.scored["logit"], logit[rows])
    others = np.delete(np.where(status == Status.OK, logit, np.nan), rows)
    assert found.beyond == max(others[np.isfinite(others)], default=-np.inf)
    assert (found.scored["logit"] >= found.beyond).all()


def test_a_score_table_holds_the_same_rows_with_and_without_a_footer(tmp_path):
    table = pd.DataFrame({"object_id": [3, 1], "logit": np.float32([1, 2]), "status": np.uint8([0, 0])})
    scores.write(tmp_path / "plain.parquet", table)
    scores.write(tmp_path / "more.parquet", table, {"survey_scan.x": "y"})
    for name in ("plain", "more"):
        pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / f"{name}.parquet"), table)
    assert footer_of(tmp_path / "more.parquet")[b"survey_scan.x"] == b"y"
    assert summary.best(footer_of(tmp_path / "more.parquet")) is summary.counts(None) is None


@pytest.mark.parametrize("top", [1, 5, 30, 200])
@pytest.mark.parametrize("some", [range(9), (0, 2, 3, 6), ()])
@pytest.mark.parametrize("short", [1, 4, 32])
def test_the_best_of_a_run_are_the_same_by_footers_and_by_tables(tmp_path, monkeypatch, top, some, short):
    monkeypatch.setattr(summary, "SHORT", short)
    monkeypatch.setattr(rank_tasks, "CHOSEN_ROWS", 20)
    config, run, standing = a_run(tmp_path, random_logits(np.random.default_rng(top)), "texts", top)
    with_footers(run, config, some)
    pd.testing.assert_frame_equal(
        engine_rank.best_of(config, run, standing, None)[0], all_at_once(config, run, range(9)), check_exact=True
    )


def test_no_target_table_is_read_for_a_few_of_the_best(tmp_path):
    logits = [np.random.default_rng(p).normal(-5, 2, 400).astype(np.float32) for p in range(6)]
    config, run, standing = a_run(tmp_path, logits, top=8)
    with_footers(run, config, range(6))
    whole = all_at_once(config, run, range(6))
    for p in range(6):
        run.targets(p).unlink()
    pd.testing.assert_frame_equal(engine_rank.best_of(config, run, standing, None)[0], whole)


def test_a_footer_says_nothing_where_the_ranking_combines_networks(tmp_path):
    models = {"a": {"path": "loopback"}, "b": {"path": "loopback"}}
    config, run, _ = a_run(tmp_path, random_logits(np.random.default_rng(1)), models=models)
    table, targets = pd.read_parquet(run.scores(0)), pq.ParquetFile(run.targets(0)).read()
    assert tasks._footer(config, targets, table) == {}


def test_tiles_are_compared_alike_by_footers_and_by_tables(tmp_path, monkeypatch):
    rng = np.random.default_rng(3)
    logits = [rng.normal(p % 3, 2, 300).astype(np.float32) for p in range(5)]
    logits[1][::7] = np.nan
    config, run, standing = a_run(tmp_path, logits)
    tiles = np.array(["", "t1", "t2", "t3"])
    for p in range(5):
        targets = pd.read_parquet(run.targets(p))
        targets.assign(tile=np.sort(tiles[rng.integers(4, size=300)])).to_parquet(run.targets(p), index=False)
        run.record("scores", p).parent.mkdir(parents=True, exist_ok=True)
        run.record("scores", p).write_text("{}")
    run.manifest.write_text(json.dumps({"format_version": 1}))
    run.plan.mkdir()
    standing.partitions.to_csv(run.partitions, index=False)
    pd.DataFrame({"tile": ["t1", "t2", "t3"], "psf_g": [0.95, 1.05, np.nan]}).to_parquet(run.tiles)
    names = ["tile", "seeing"]
    by_tables = drifting.tables(drifting.count(run, range(5), names))
    with_footers(run, config, (0, 1, 3))
    mixed = drifting.tables(drifting.count(run, range(5), names))
    with_footers(run, config, range(5))
    monkeypatch.setattr(drifting.parts, "scored", lambda run, columns, partitions: iter([None][: len(partitions)]))
    by_footers = drifting.tables(drifting.count(run, range(5), names))
    assert list(by_tables) == names and set(by_tables["tile"]["group"]) == {"t1", "t2", "t3"}
    for name in names:
        pd.testing.assert_frame_equal(mixed[name], by_tables[name], check_exact=True)
        pd.testing.assert_frame_equal(by_footers[name], by_tables[name], check_exact=True)
    assert drift.BINS <= 1 << 16  # a bin stands in two bytes
