"""Preloaded by the Dask scheduler: a page on the scan that runs there, beside Dask's own, and metrics for Prometheus.

``dask scheduler --preload survey_scan.watch.scheduler``, or ``LocalCluster(scheduler_kwargs={"preload": [...]})``. The
page is ``/survey-scan`` on the dashboard's port, its data ``/survey-scan.json``, both also below any prefix, and both
also where there is no bokeh for Dask's own pages. The gauges ``survey_scan_*`` are on Dask's ``/metrics`` where
prometheus-client is installed. What is shown is the last snapshot a driver gave to :func:`publish`.
"""

import contextlib
import functools
import json
import sys
import time
from collections.abc import Iterator, Mapping
from importlib import resources, util
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from tornado.web import RequestHandler

from survey_scan.schema import REASONS, Status
from survey_scan.watch.tally import STALE_SECONDS

if TYPE_CHECKING:
    from distributed import Client, Scheduler
    from prometheus_client.core import GaugeMetricFamily

#: Under this name the snapshot lies in the scheduler's metadata.
KEY = "survey-scan"

#: Name of the page.
PAGE = "survey-scan"

#: The page needs nothing but itself and its data.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:; connect-src 'self'"


def publish(client: "Client", snapshot: Mapping[str, Any]) -> None:
    """Give the scheduler the driver's last snapshot.

    Parameters
    ----------
    client : Client
        Of the scheduler; one that is lost is not told, which is not an error: the scan finds out for itself.
    snapshot : mapping
        As :meth:`survey_scan.watch.tally.Tally.snapshot` gives it.
    """
    with contextlib.suppress(OSError):
        client.set_metadata(KEY, dict(snapshot))


def page(dashboard: str) -> str:
    """Address of the page on a dashboard, whose own address ends in ``/status``."""
    return urljoin(dashboard, PAGE)


def seen(scheduler: "Scheduler") -> dict[str, Any]:
    """The last snapshot and ``age``, seconds since it was made; both ``run`` and ``age`` are None if there is none."""
    snapshot = scheduler.task_metadata.get(KEY)
    if snapshot is None:
        return {"run": None, "age": None}
    return {**snapshot, "age": max(0.0, time.time() - snapshot["now"])}


class Page(RequestHandler):
    """The page: one file, with everything in it."""

    def get(self) -> None:
        """Answer a browser."""
        self.set_header("Content-Type", "text/html; charset=utf-8")
        self.set_header("Content-Security-Policy", POLICY)
        self.write(resources.files(__package__).joinpath("page.html").read_bytes())


class Data(RequestHandler):
    """What the page shows, and what the codes of flagged targets mean."""

    def initialize(self, scheduler: "Scheduler") -> None:
        """Take the scheduler whose data it is."""
        self.scheduler = scheduler

    def get(self) -> None:
        """Answer the page."""
        self.set_header("Content-Type", "application/json")
        self.set_header("Cache-Control", "no-store")
        reasons = {str(int(code)): reason for code, reason in REASONS.items()}
        self.write(json.dumps({**seen(self.scheduler), "stale_after": STALE_SECONDS, "reasons": reasons}))


def gauges(snapshot: Mapping[str, Any]) -> "Iterator[GaugeMetricFamily]":
    """The metrics of what :func:`seen` found; what is not known has no sample."""
    from prometheus_client.core import GaugeMetricFamily

    def gauge(name: str, text: str, values: Mapping[str, float | None], label: str | None = None) -> Any:
        family = GaugeMetricFamily(f"survey_scan_{name}", text, labels=[label] if label else [])
        for key, value in values.items():
            if value is not None:
                family.add_metric([key] if label else [], value)
        return family

    stages = snapshot["stages"]
    end = snapshot["walltime_end"]
    names = {Status(int(code)).name.lower(): n for code, n in snapshot["flagged"].items()}
    yield gauge("targets", "Targets of the plan.", {"": snapshot["targets"]})
    yield gauge("targets_done", "Targets finished.", {s: of["done"] for s, of in stages.items()}, "stage")
    yield gauge(
        "rate", "Targets per second over the last minutes.", {s: of["rate"] for s, of in stages.items()}, "stage"
    )
    yield gauge("gpu_idle", "Share of the GPUs' time not used over the last minutes.", {"": snapshot["gpu_idle"]})
    yield gauge("flagged", "Targets without a score, by reason.", names, "reason")
    yield gauge(
        "partitions_running",
        "Partitions submitted and not ended.",
        {s: of["running"] for s, of in stages.items()},
        "stage",
    )
    yield gauge("failures", "Partitions that could not be done.", {"": snapshot["n_failures"]})
    left = None if end is None else max(0.0, end - snapshot["now"] - snapshot["age"])
    yield gauge("walltime_left_seconds", "Seconds until the allocation ends.", {"": left})
    yield gauge("heard_seconds", "Seconds since the driver was last heard of.", {"": snapshot["age"]})


class Metrics:
    """Prometheus collector of this process: it has one registry, and may have several schedulers one after the other."""

    scheduler: "Scheduler | None" = None

    def collect(self) -> "Iterator[GaugeMetricFamily]":
        """Metrics of the newest scheduler; none as long as no driver has published anything."""
        found = seen(self.scheduler) if self.scheduler is not None else {"run": None}
        if found["run"] is not None:
            yield from gauges(found)


@functools.cache
def _metrics() -> Metrics:
    from prometheus_client import REGISTRY

    metrics = Metrics()
    REGISTRY.register(metrics)
    return metrics


def dask_setup(scheduler: "Scheduler") -> None:
    """Called by Dask when the scheduler has started: its web server stands, with or without bokeh."""
    below = r"(?:/.*)?/" + PAGE
    routes = [(below, Page), (below + r"\.json", Data, {"scheduler": scheduler})]
    scheduler.http_application.add_handlers(".*$", routes)
    dashboard = sys.modules.get("distributed.dashboard.scheduler")
    if dashboard is not None:  # else there are no pages with a menu
        dashboard.template_variables(scheduler)["pages"].append(PAGE)
    if util.find_spec("prometheus_client") is not None:
        _metrics().scheduler = scheduler


def dask_teardown(scheduler: "Scheduler") -> None:
    """Called by Dask when the scheduler ends."""
    if util.find_spec("prometheus_client") is not None and _metrics().scheduler is scheduler:
        _metrics().scheduler = None
