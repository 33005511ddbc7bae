import hashlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from survey_scan import models, scores, store
from survey_scan.config import CHUNK_ROWS, Cutouts, Model
from survey_scan.errors import RunError
from survey_scan.imaging.base import Cutouts as Cut
from survey_scan.models.loopback import Loopback
from survey_scan.models.network import Pixels
from survey_scan.schema import Status

BANDS, SIZE = ["g", "r"], 8
LOOPBACK = Model(path="loopback", batch_size=100)


def pattern(n: int) -> np.ndarray:
    """Pixels that are the same with every numpy."""
    row, y, x, band = np.ogrid[:n, :SIZE, :SIZE, :2]
    return (((row * 7 + y * 3 + x * 5 + band * 11) % 97) / 16 - 2).astype(np.float32)


def stored(path: Path, image: np.ndarray, status: np.ndarray, ids: np.ndarray, dtype: str = "float32") -> store.Reader:
    spec = Cutouts(bands=BANDS, size=SIZE, dtype=dtype, partition=512)
    store.create(path, len(image), spec, ids.dtype, {})
    for p in range(-(-len(image) // 512)):
        rows = slice(p * 512, (p + 1) * 512)
        n = len(image[rows])
        cut = Cut(image[rows], status[rows], np.zeros((n, 2), np.float32))
        store.write(path, p, ids[rows], np.zeros(n), np.zeros(n), cut)
    return store.Reader(path)


class Rows:
    """A reader of a store in memory that remembers what was read; pixels are the row's number."""

    def __init__(self, status: np.ndarray, fail_at: int | None = None):
        self.statuses, self.fail_at = status, fail_at
        self.reads: list[tuple[int, int]] = []

    def read(self, start: int, stop: int) -> store.StoredBatch:
        if self.fail_at is not None and start >= self.fail_at:
            raise RunError("partition 0 is damaged")
        self.reads.append((start, stop))
        image = np.broadcast_to(np.arange(start, stop, dtype=np.float32)[:, None, None, None], (stop - start, 4, 4, 1))
        return store.StoredBatch(image, None)

    def column(self, name: str, start: int, stop: int) -> np.ndarray:
        return self.statuses[start:stop] if name == "status" else np.arange(start, stop)

    def kept(self, start: int, stop: int) -> np.ndarray:
        return np.ones(stop - start, bool)


class Watched(Loopback):
    """Loopback on what :class:`Rows` gives, with a hook before each batch."""

    def __init__(self, batch_size: int, before: Any = lambda: None):
        super().__init__(Pixels(("r",), 4, "float32"), batch_size)
        self.before, self.sizes = before, []

    def score(self, staged: Any) -> Any:
        self.before()
        self.sizes.append(len(staged[0]))
        return super().score(staged)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_every_target_gets_a_row_and_only_good_ones_a_logit(tmp_path, dtype):
    n = 700
    status = np.zeros(n, np.uint8)
    status[[3, 90, 600]] = Status.OUTSIDE, Status.UNREADABLE, Status.BAD_PIXELS
    status[256:512] = Status.MISSING
    reader = stored(tmp_path / "c.zarr", pattern(n), status, np.arange(n) * 3 + 1, dtype)
    network = models.load(LOOPBACK, BANDS, SIZE, dtype)
    for start, stop in ((0, 512), (512, n)):
        table = scores.score_partition(reader, start, stop, {"": network}).table
        assert list(table.columns) == ["object_id", "logit", "status"]
        assert table["logit"].dtype == np.float32 and table["status"].dtype == np.uint8
        assert table["object_id"].tolist() == [i * 3 + 1 for i in range(start, stop)]
        assert table["status"].tolist() == status[start:stop].tolist()
        batch = reader.read(start, stop)
        expected = network.logits(batch.image, batch.step)
        expected[status[start:stop] != 0] = np.nan
        np.testing.assert_array_equal(table["logit"], expected)


def test_a_network_scores_a_store_as_it_scores_its_pixels(tmp_path, networks_folder):
    n = 300
    status = (np.arange(n) % 5 == 2).astype(np.uint8)
    reader = stored(tmp_path / "c.zarr", pattern(n), status, np.arange(n), "int16")
    path = str(networks_folder["convolutional.keras"])
    table = scores.score_partition(
        reader, 0, n, {"": models.load(Model(path=path, batch_size=64), BANDS, SIZE, "int16")}
    ).table
    again = models.load(Model(path=path, batch_size=64), BANDS, SIZE, "float32").logits(reader.pixels(0, n))
    np.testing.assert_array_equal(table["logit"], np.where(status == 0, again, np.nan))


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    n=st.integers(1, 1100),
    first_chunk=st.integers(0, 2),
    batch=st.integers(1, 600),
    bad=st.sampled_from([0.0, 0.02, 0.5, 0.98, 1.0]),
)
def test_any_statuses_and_batches_give_each_row_its_own_logit(data, n, first_chunk, batch, bad):
    start = first_chunk * CHUNK_ROWS
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    status = np.zeros(start + n, np.uint8)
    status[random.random(start + n) < bad] = Status.BAD_PIXELS
    reader, network = Rows(status), Watched(batch)
    table = scores.score_partition(reader, start, start + n, {"": network}).table
    expected = np.arcsinh(np.arange(start, start + n, dtype=float)).astype(np.float32)
    expected[status[start:] != 0] = np.nan
    np.testing.assert_array_equal(table["logit"], expected)
    good = int((status[start:] == 0).sum())
    assert network.sizes == [batch] * (good // batch) + [good % batch] * (good % batch > 0)
    seen = np.concatenate([np.arange(a, b) for a, b in reader.reads] or [np.empty(0, int)])
    assert len(set(seen)) == len(seen)
    for a, b in reader.reads:
        assert a % CHUNK_ROWS == 0 and (b % CHUNK_ROWS == 0 or b == start + n)
        assert (status[a:b] == 0).any()


def test_the_next_batches_are_read_while_one_is_on_the_device_but_no_more():
    reader = Rows(np.zeros(20 * CHUNK_ROWS, np.uint8))
    waiting = threading.Event()

    def wait_for_reader() -> None:
        done = len(network.sizes)
        wanted = min(done + 1 + scores.AHEAD, 20)
        for _ in range(1000):  # the batch on the device, and AHEAD more
            if len(reader.reads) >= wanted:
                break
            waiting.wait(0.01)
        waiting.wait(0.01)
        assert len(reader.reads) == wanted

    network = Watched(CHUNK_ROWS, wait_for_reader)
    scores.score_partition(reader, 0, 20 * CHUNK_ROWS, {"": network})
    assert len(network.sizes) == 20


@pytest.mark.parametrize("fail_at", [0, 512])
def test_a_damaged_chunk_ends_the_partition_and_its_thread(fail_at):
    before = threading.active_count()
    with pytest.raises(RunError, match="partition 0 is damaged"):
        scores.score_partition(Rows(np.zeros(2000, np.uint8), fail_at), 0, 2000, {"": Watched(100)})
    assert threading.active_count() == before


def test_a_failing_network_ends_the_partition_and_its_thread():
    def fail() -> None:
        raise RuntimeError("device lost")

    before = threading.active_count()
    with pytest.raises(RuntimeError, match="device lost"):
        scores.score_partition(Rows(np.zeros(2000, np.uint8)), 0, 2000, {"": Watched(100, fail)})
    assert threading.active_count() == before


def test_threads_that_share_a_network_and_a_store_get_the_bits_of_one(tmp_path, networks_folder):
    """Two partitions at once, again and again; with a network that would tell rows of one from those of another."""
    status = (np.arange(1024) % 11 == 3).astype(np.uint8)
    reader = stored(tmp_path / "c.zarr", pattern(1024), status, np.arange(1024), "int16")
    path = str(networks_folder["convolutional.keras"])
    network = models.load(Model(path=path, batch_size=64), BANDS, SIZE, "int16")
    alone = [scores.score_partition(reader, start, start + 512, {"": network}).table for start in (0, 512)]
    assert not np.array_equal(alone[0]["logit"], alone[1]["logit"], equal_nan=True)
    with ThreadPoolExecutor(2) as pool:
        for _ in range(4):
            both = pool.map(
                lambda start: scores.score_partition(reader, start, start + 512, {"": network}).table, (0, 512)
            )
            for one, several in zip(alone, both, strict=True):
                pd.testing.assert_frame_equal(several, one, check_exact=True)


def test_one_thread_at_a_time_holds_the_device_and_the_time_is_its_own():
    holding = threading.Lock()

    def use_device() -> None:
        assert holding.acquire(blocking=False)
        time.sleep(0.02)
        holding.release()

    began = time.perf_counter()
    with ThreadPoolExecutor(2) as pool:
        found = list(
            pool.map(
                lambda _: scores.score_partition(Rows(np.zeros(500, np.uint8)), 0, 500, {"": Watched(100, use_device)}),
                "ab",
            )
        )
    elapsed = time.perf_counter() - began
    assert all(scored.device_seconds >= 5 * 0.02 for scored in found)
    assert sum(scored.device_seconds for scored in found) <= elapsed


def test_waiting_for_pixels_is_counted_apart():
    class Slow(Rows):
        def read(self, start: int, stop: int) -> store.StoredBatch:
            time.sleep(0.1)
            return super().read(start, stop)

    began = time.perf_counter()
    scored = scores.score_partition(
        Slow(np.zeros(3 * CHUNK_ROWS, np.uint8)), 0, 3 * CHUNK_ROWS, {"": Watched(CHUNK_ROWS)}
    )
    elapsed = time.perf_counter() - began
    assert scored.waited_seconds > 0.25  # nearly all of the three reads: the network takes no time
    assert scored.waited_seconds + scored.device_seconds <= elapsed


def test_no_finite_logit_is_a_status(tmp_path):
    class Odd(Watched):
        def score(self, staged: Any) -> Any:
            logits = super().score(staged)
            logits[1], logits[2], logits[3] = np.nan, np.inf, -np.inf
            return logits

    status = np.zeros(300, np.uint8)
    status[250] = Status.MISSING
    table = scores.score_partition(Rows(status), 0, 300, {"": Odd(300)}).table
    assert table["status"].tolist()[:5] == [0, 7, 7, 7, 0] and table["status"][250] == Status.MISSING
    assert np.array_equal(np.isfinite(table["logit"]), table["status"] == 0)
    assert not np.isinf(table["logit"]).any()


def test_nothing_to_score(tmp_path):
    reader = Rows(np.full(300, Status.MISSING, np.uint8))
    table = scores.score_partition(reader, 0, 300, {"": Watched(100)}).table
    assert reader.reads == [] and table["logit"].isna().all() and len(table) == 300


@pytest.mark.parametrize("ids", [[5, 2**60 + 1, -3], ["J0001+02", "", "Ω"]])
def test_a_table_is_read_as_it_was_written_and_is_the_same_bytes_each_time(tmp_path, ids):
    logits = np.array([1.5, np.nan, -20.25], np.float32)
    table = pd.DataFrame({"object_id": ids, "logit": logits, "status": np.array([0, 2, 0], np.uint8)})
    one, two = tmp_path / "scores" / "part-00000.parquet", tmp_path / "two.parquet"
    scores.write(one, table)
    scores.write(two, table.copy())
    assert one.read_bytes() == two.read_bytes()
    pd.testing.assert_frame_equal(pd.read_parquet(one), table)
    pd.testing.assert_frame_equal(pd.read_parquet(one), table)


def test_text_ids_go_from_the_store_into_the_table(tmp_path):
    ids = np.array([f"J{i:04d}" for i in range(300)], object)
    reader = stored(tmp_path / "c.zarr", pattern(300), np.zeros(300, np.uint8), ids)
    table = scores.score_partition(reader, 0, 300, {"": models.load(LOOPBACK, BANDS, SIZE, "float32")}).table
    scores.write(tmp_path / "part.parquet", table)
    assert pd.read_parquet(tmp_path / "part.parquet")["object_id"].tolist() == ids.tolist()
    assert table["object_id"].equals(pd.DataFrame({"object_id": ids.tolist()})["object_id"])


def test_no_score_changes_without_a_new_version(tmp_path, networks_folder):
    """Golden values: if this fails because scores are meant to change, raise SCORES_VERSION and renew them."""
    image = pattern(300)
    image[5, 1:3] = np.nan
    status = np.zeros(300, np.uint8)
    status[17] = Status.BAD_PIXELS
    reader = stored(tmp_path / "c.zarr", image, status, np.arange(300), "int16")
    table = scores.score_partition(reader, 0, 300, {"": models.load(LOOPBACK, BANDS, SIZE, "int16")}).table
    rounded = np.rint(table["logit"].fillna(-99).to_numpy(float) * 1e4).astype(int).tolist()
    digest = hashlib.sha256(repr((rounded, table["status"].tolist())).encode()).hexdigest()[:16]
    path = str(networks_folder["sigmoid.keras"])
    model = Model(
        path=path, batch_size=64, nan_fill=0.25, normalisation=[{"step": "scale", "offset": [0.5, 1.0], "scale": 2.0}]
    )
    logits = (
        scores.score_partition(reader, 0, 300, {"": models.load(model, BANDS, SIZE, "int16")}).table["logit"].to_numpy()
    )
    assert (scores.SCORES_VERSION, digest) == (1, "20a314a603d0b135")
    np.testing.assert_allclose(logits[[0, 5, 17, 299]], [1.31052, -0.90518, np.nan, -1.85825], atol=2e-5)
