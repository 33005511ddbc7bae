import contextlib
import json
import re
import sys
import time
import urllib.error
import urllib.request

import dask
import pytest
import screenshot
from distributed import Client, LocalCluster

from survey_scan.watch import scheduler as preload
from survey_scan.watch.tally import Pool, StageCount, Tally

EVIL = "<img src=x onerror=alert(1)>"


@contextlib.contextmanager
def cluster(**options):
    """A scheduler with the preload: a client of it, and the address of its web server."""
    with (
        LocalCluster(
            n_workers=0,
            dashboard_address="127.0.0.1:0",
            scheduler_kwargs={"preload": ["survey_scan.watch.scheduler"], **options},
        ) as made,
        Client(made) as client,
    ):
        yield client, f"http://127.0.0.1:{made.scheduler.http_server.port}"


@pytest.fixture(scope="module")
def served():
    with cluster() as made:
        yield made


def snapshot(age=0.0):
    clock = [time.time() - 300 - age]
    count = StageCount(200, 100, 2000, 1000)
    tally = Tally(
        "lrg" + EVIL,
        "/runs/lrg",
        {"cutouts": count, "scores": count},
        2000,
        {"pid": 7, "host": EVIL},
        None,
        clock[0] + 900,
        lambda: clock[0],
    )
    tally.pools({"cutouts": Pool(4, 4), "scores": Pool(1, 2, device="NVIDIA H200")})
    tally.stage("scan")
    for p in range(60):
        tally.submitted("cutouts", p)
        clock[0] += 5
        tally.finished("cutouts", p, {"targets": 10, "status": {"0": 9, "4": 1}, "seconds": 20.0, "host": EVIL})
        tally.submitted("scores", p)
        status = {"0": 8, "4": 1, "7": 1}
        more = {"device_seconds": 1.0, "device": "NVIDIA H200", "logits": {"20": 7, "60": 1}}
        tally.finished("scores", p, {"targets": 10, "status": status, "seconds": 2.0, "host": "nid1", **more})
    tally.submitted("cutouts", 60)
    tally.failed("cutouts", 60, f"cutouts 00060: OSError: {EVIL}")
    return tally.snapshot()


def get(url):
    with urllib.request.urlopen(url, timeout=20) as reply:
        return reply.headers, reply.read().decode()


def metrics(url):
    lines = [line for line in get(f"{url}/metrics")[1].splitlines() if line.startswith("survey_scan_")]
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines)}


def test_before_any_driver_there_is_nothing():
    with cluster() as (_, url):
        found = json.loads(get(f"{url}/survey-scan.json")[1])
        assert found["run"] is None and found["age"] is None
        assert metrics(url) == {}


def test_what_a_driver_publishes_is_served(served):
    client, url = served
    given = snapshot()
    preload.publish(client, given)
    headers, text = get(f"{url}/survey-scan.json")
    found = json.loads(text)
    assert headers["Cache-Control"] == "no-store"
    assert {name: found[name] for name in given} == given
    assert 0 <= found["age"] < 60 and found["stale_after"] == 30
    assert found["reasons"]["4"] == "too many bad pixels"


def test_metrics(served):
    client, url = served
    preload.publish(client, snapshot())
    found = metrics(url)
    assert found["survey_scan_targets"] == 2000
    assert found['survey_scan_targets_done{stage="scores"}'] == 1600
    assert found['survey_scan_rate{stage="cutouts"}'] == pytest.approx(2, rel=0.05)
    assert found["survey_scan_gpu_idle"] == pytest.approx(0.8, abs=0.02)
    assert found['survey_scan_flagged{reason="bad_pixels"}'] == 60
    assert found['survey_scan_flagged{reason="not_finite"}'] == 60
    assert found['survey_scan_partitions_running{stage="cutouts"}'] == 0
    assert found["survey_scan_failures"] == 1
    assert found["survey_scan_walltime_left_seconds"] == pytest.approx(600, abs=60)
    assert 0 <= found["survey_scan_heard_seconds"] < 60
    assert "dask_scheduler_workers" in get(f"{url}/metrics")[1]  # Dask's own are still there


def test_metrics_leave_out_what_is_not_known():
    empty = Tally("lrg", "/runs/lrg", {}, None, {}, None, None).snapshot()
    samples = {s.name for family in preload.gauges({**empty, "age": 0.0}) for s in family.samples}
    assert samples == {"survey_scan_failures", "survey_scan_heard_seconds"}


def test_the_menu_of_the_dashboard_names_the_page(served):
    client, url = served
    assert re.search(r'<a href="survey-scan">\s*Survey-Scan\s*</a>', get(f"{url}/status")[1])
    assert preload.page(client.dashboard_link) == client.dashboard_link.replace("/status", "/survey-scan")


def test_the_page_is_one_file_that_asks_only_for_its_data(served):
    headers, text = get(f"{served[1]}/survey-scan")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert not re.findall(r"""(?:src|href)=["']?(?:https?:)?//""", text) and "innerHTML" not in text


def test_other_pages_stay_what_they_were(served):
    with pytest.raises(urllib.error.HTTPError, match="404"):
        get(f"{served[1]}/survey-scandal")
    assert get(f"{served[1]}/health")[1] == "ok"


def test_below_a_prefix():
    with cluster(http_prefix="/proxy/8787") as (client, url):
        preload.publish(client, snapshot())
        assert json.loads(get(f"{url}/proxy/8787/survey-scan.json")[1])["run"] == "/runs/lrg"
        assert "<title>survey_scan</title>" in get(f"{url}/proxy/8787/survey-scan")[1]
        assert 'href="survey-scan"' in get(f"{url}/proxy/8787/status")[1]


@pytest.mark.parametrize("bokeh", [True, False])
def test_without_dasks_own_pages(monkeypatch, bokeh):
    if not bokeh:
        monkeypatch.setitem(sys.modules, "distributed.dashboard.scheduler", None)
    routes = list(dask.config.get("distributed.scheduler.http.routes"))
    # Dask appends to this list where bokeh is missing
    with dask.config.set({"distributed.scheduler.http.routes": routes}), cluster(dashboard=not bokeh) as (client, url):
        preload.publish(client, snapshot())
        assert json.loads(get(f"{url}/survey-scan.json")[1])["run"] == "/runs/lrg"
        assert metrics(url)["survey_scan_targets"] == 2000


def test_a_scheduler_that_is_gone_is_not_told():
    class Gone:
        def set_metadata(self, key, value):
            raise OSError("closed")

    preload.publish(Gone(), {})


@pytest.mark.browser
@pytest.mark.skipif(screenshot.CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_it(tmp_path):
    ready = "!document.getElementById('main').hidden"
    with cluster(http_prefix="/proxy/8787") as (client, url):
        address = f"{url}/proxy/8787/survey-scan"
        preload.publish(client, snapshot())
        for width in (1200, 390):
            seen = screenshot.shoot(address, tmp_path / f"{width}.png", ready, width, 800, dark=width == 390)
            assert seen.errors == [] and seen.strangers(address) == []
            assert seen.width == width  # nothing to scroll sideways
            for text in (
                "80.0 % scored",
                "1,600 of 2,000 targets",
                "GPU idle 80 %",
                "too many bad pixels",
                "nid1",
                EVIL,
            ):
                assert text in seen.text
            assert "Nothing heard" not in seen.text
            assert (tmp_path / f"{width}.png").stat().st_size > 10_000
        preload.publish(client, snapshot(age=95))
        seen = screenshot.shoot(address, tmp_path / "stale.png", ready, 390, 800)
        assert "Nothing heard of the driver for 2 min" in seen.text and seen.errors == []
        lost = (
            "!document.getElementById('main').hidden && (window.fetch = () => Promise.reject(new Error('gone')),"
            "!document.getElementById('waiting').hidden)"
        )
        seen = screenshot.shoot(address, tmp_path / "lost.png", lost, 390, 800)
        assert "The scheduler has not answered for" in seen.text and "80.0 % scored" in seen.text
