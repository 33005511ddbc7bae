"""What a scan shows of itself while it runs: logs/now.json for anyone, and the page on the scheduler's dashboard."""

import contextlib
import json
import time
from collections import Counter

from survey_scan import records
from survey_scan.cluster.connect import Cluster
from survey_scan.engine import lock
from survey_scan.engine.state import Standing
from survey_scan.layout import STAGES, RunDirectory, Stage
from survey_scan.watch.scheduler import publish
from survey_scan.watch.stage import StageCount
from survey_scan.watch.tally import Tally

#: Seconds between two snapshots.
PUBLISH_SECONDS = 2.0


class Watching:
    """Takes snapshots of a tally and shows them.

    Parameters
    ----------
    run : RunDirectory
        Whose driver this is.
    cluster : Cluster
        Where it runs.
    """

    def __init__(self, run: RunDirectory, cluster: Cluster):
        self._run, self._cluster = run, cluster
        self._last = 0.0
        driver = lock.holder(run) or {}
        self.tally = Tally(run.path.name, str(run), {}, None, driver, cluster.client.dashboard_link, cluster.end)

    def planned(self, standing: Standing) -> None:
        """There is a plan, and this is what is done of it."""
        total = sum(standing.targets.values())
        self.tally.planned({stage: self._count(standing, stage) for stage in STAGES}, total)

    def stage(self, name: str) -> None:
        """The run has come to another stage."""
        self.tally.stage(name)
        self.show(now=True)

    def show(self, now: bool = False) -> None:
        """Take and show a snapshot, if the last one is old enough."""
        if not now and time.monotonic() - self._last < PUBLISH_SECONDS:
            return
        self._last = time.monotonic()
        snapshot = self.tally.snapshot()
        records.write_quickly(self._run.now, json.dumps(snapshot).encode())
        # A scheduler that is gone is told of elsewhere, by what cannot be done without it; asking it takes a minute.
        if self._cluster.client.status == "running" and self._cluster.lost() is None:
            with contextlib.suppress(OSError, TimeoutError):
                publish(self._cluster.client, snapshot)

    @staticmethod
    def _count(standing: Standing, stage: Stage) -> StageCount:
        done, logits = standing.done[stage], Counter[str]()
        for record in done.values():
            logits.update(record.get("logits", {}))
        return StageCount(
            partitions=len(standing.partitions),
            partitions_done=len(done),
            targets=sum(standing.targets.values()),
            targets_done=sum(standing.targets[p] for p in done),
            status=standing.status_counts(stage),
            logits=logits,
        )
