"""What the driver does with a task that ended; also where a worker died with a result that nobody had read yet."""

import time
from types import SimpleNamespace
from unittest.mock import MagicMock

import pytest
from distributed import Client, LocalCluster

from survey_scan.engine import scan as scanning
from survey_scan.engine.interrupt import Stop
from survey_scan.errors import Interrupted


@pytest.fixture
def one_worker(monkeypatch):
    """A scan with one task in flight, on a worker of its own."""
    monkeypatch.setattr(scanning, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(scanning, "LOST_SECONDS", 0.5)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster,
        Client(cluster) as client,
    ):
        scan = scanning.Scan(
            cluster=SimpleNamespace(client=client, end=None, lost=lambda: None),
            run="run",
            standing=SimpleNamespace(todo={"cutouts": set(), "scores": set()}, streamed=False),
            retries=0,
            service=0,
            progress=MagicMock(),
            events=MagicMock(),
            tally=MagicMock(),
            stop=Stop(print),
        )
        yield cluster, client, scan


def gone(client: Client) -> None:
    """Wait until there is no worker."""
    while client.scheduler_info()["workers"]:
        time.sleep(0.05)


def test_its_result_is_made_again_by_another(one_worker):
    cluster, client, scan = one_worker
    future = client.submit(lambda: {"targets": 3, "seconds": 0.1}, key="scores-00000")
    future.result()
    scan._flying["scores-00000"] = ("scores", 0, future)
    cluster.scale(0)
    gone(client)
    cluster.scale(1)
    scan._collect(future)
    assert not scan._flying and not scan.failures
    scan.progress.finished.assert_called_once_with("scores", 3)


def test_without_another_the_scan_is_interrupted(one_worker):
    cluster, client, scan = one_worker
    future = client.submit(dict, key="scores-00000")
    future.result()
    scan._flying["scores-00000"] = ("scores", 0, future)
    cluster.scale(0)
    gone(client)
    with pytest.raises(Interrupted, match="there has been no worker for scores"):
        scan._collect(future)
    assert scan.progress.tick.called


def test_dask_keeps_one_span_of_a_stage_however_often_nothing_of_it_is_in_flight(one_worker):
    _, client, scan = one_worker
    for i in range(4):
        key = f"scores-{i:05d}"
        scan._flying[key] = ("scores", i, client.submit(lambda: {"targets": 3, "seconds": 0.1}, key=key))
        scan._collect(scan._flying[key][2])
        time.sleep(0.1)  # Dask hears of futures that are gone
    assert scan.progress.finished.call_count == 4
    assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.extensions["spans"].spans)) == 1
