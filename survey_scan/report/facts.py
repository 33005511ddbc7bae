"""What a report says, read from the small files of a run directory: nothing here grows with the number of targets."""

import json
from collections import Counter
from dataclasses import dataclass
from typing import Any

import pandas as pd

from survey_scan.combination import Combination
from survey_scan.config import Config
from survey_scan.engine import account, state
from survey_scan.engine.progress import duration
from survey_scan.engine.state import Standing
from survey_scan.layout import STAGES, RunDirectory
from survey_scan.schema import Status

#: Problems with tiles that are shown; all are in the records and in ``status --json``.
SHOWN_PROBLEMS = 20


@dataclass(frozen=True)
class Step:
    """One step of the funnel: what is left after it, and of it what is shown beside the number."""

    name: str
    left: int
    note: str = ""


@dataclass(frozen=True)
class Facts:
    """What a report says in words and numbers.

    Parameters
    ----------
    title, path : str
        The run's name, and where it lies.
    state : str
        ``complete``, or what is missing.
    survey : str
        Survey, release and bands.
    funnel : list of Step
        From the catalogue to the candidates.
    flagged : list of (str, int)
        Reason → targets without a score for it, most first.
    problems : list of str
        What was wrong with tiles.
    hidden_problems : int
        How many more there were.
    logits : Counter
        Logits by bin, as :mod:`survey_scan.watch.bins` counts them.
    timing : list of dict
        For each stage ``name``, ``partitions``, ``targets``, ``seconds`` of workers, ``rate`` a worker thread.
    verdict : str or None
        Which side starved, of the last start that scanned.
    starts : int
        How often the scan was started.
    wall : str
        Time in which it ran.
    networks : list of (str, str)
        Name → file or package; of several also what is made of their logits.
    keys : list of (str, str)
        What decides the results: digests of networks and contracts, and that of the ranking.
    versions : list of (str, str)
        Software.
    """

    title: str
    path: str
    state: str
    survey: str
    funnel: list[Step]
    flagged: list[tuple[str, int]]
    problems: list[str]
    hidden_problems: int
    logits: Counter[str]
    timing: list[dict[str, Any]]
    verdict: str | None
    starts: int
    wall: str
    networks: list[tuple[str, str]]
    keys: list[tuple[str, str]]
    versions: list[tuple[str, str]]


def read(run: RunDirectory, config: Config, standing: Standing, events: list[dict[str, Any]]) -> Facts:
    """Read them.

    Parameters
    ----------
    run : RunDirectory
        A planned run.
    config : Config
        Its own.
    standing : Standing
        Of that run.
    events : list of dict
        From :func:`read_events`.

    Raises
    ------
    RunError
        If it is not planned.
    """
    manifest, counts = state.read_manifest(run), account.counts(run, standing)
    problems = account.problems(standing)
    spans = _spans(events)
    return Facts(
        title=config.run.name,
        path=str(run),
        state=_state(standing),
        survey=_survey(config),
        funnel=_funnel(run, counts),
        flagged=[
            (status.reason, n)
            for status, n in ((Status(code), n) for code, n in standing.status_counts("scores").most_common())
            if status != Status.OK
        ],
        problems=problems[:SHOWN_PROBLEMS],
        hidden_problems=max(len(problems) - SHOWN_PROBLEMS, 0),
        logits=sum((Counter(record.get("logits", {})) for record in standing.done["scores"].values()), Counter[str]()),
        timing=[_timing(standing, stage) for stage in STAGES],
        verdict=_verdict(run),
        starts=len(spans),
        wall=duration(sum(end - start for start, end in spans)),
        networks=_networks(config),
        keys=[*_keys(standing), ("ranking", standing.ranking_key["scores"] + " " + standing.ranking_key["ranking"])],
        versions=[
            ("survey_scan", str(manifest.get("survey_scan"))),
            ("Python", str(manifest.get("python"))),
            *((name, version) for name, version in manifest.get("packages", {}).items() if version),
        ],
    )


def read_events(run: RunDirectory) -> list[dict[str, Any]]:
    """What happened, in order; a line that a kill left half written is not."""
    events = []
    for line in run.events.read_text().splitlines() if run.events.exists() else ():
        try:
            events.append(json.loads(line))
        except ValueError:
            continue
    return events


def _state(standing: Standing) -> str:
    if standing.complete:
        return "complete"
    lacking = [
        f"{len(standing.todo[s]):,} of {len(standing.partitions):,} partitions of {s}"
        for s in STAGES
        if standing.todo[s]
    ]
    return "incomplete: " + (" and ".join(lacking) if lacking else "the ranking") + " to do"


def _survey(config: Config) -> str:
    name = config.survey.name if config.survey else ""
    size = f"cutouts of {config.cutouts.size} × {config.cutouts.size} pixels in {', '.join(config.cutouts.bands)}"
    return " · ".join(filter(None, (name, config.images.release, size)))


def _funnel(run: RunDirectory, counts: dict[str, Any]) -> list[Step]:
    steps = [Step("catalogue", counts["catalogue"])]
    flow = pd.read_csv(run.cut_flow)
    for cut, kept, removed in zip(flow["cut"], flow["kept"].tolist(), flow["removed"].tolist(), strict=True):
        if removed:
            steps.append(Step(str(cut), kept, f"{removed:,} removed"))
    if counts["planned"] != counts["selected"]:
        steps.append(Step("planned", counts["planned"], "limited"))
    flagged = sum(counts["cutouts_flagged"].values())
    steps.append(Step("cutouts", counts["cutouts_ok"], f"{flagged:,} flagged" if flagged else ""))
    aside = f"{counts['set_aside']:,} set aside by the cascade" if counts["set_aside"] else ""
    return [*steps, Step("scored", counts["scored"], aside), Step("candidates", counts["candidates"])]


def _timing(standing: Standing, stage: Any) -> dict[str, Any]:
    done = standing.done[stage].values()
    seconds, targets = sum(record["seconds"] for record in done), sum(record["targets"] for record in done)
    found = {"name": stage, "partitions": len(done), "targets": targets, "seconds": seconds}
    found["rate"] = targets / seconds if seconds else None
    found["waited"] = sum(record.get("waited_seconds", 0) for record in done)
    found["memory"] = max((record["peak_mem"] for record in done), default=0)
    return found


def _spans(events: list[dict[str, Any]]) -> list[tuple[float, float]]:
    """When it ran: from each start to the last thing that happened before the next."""
    spans: list[tuple[float, float]] = []
    for event in events:
        if event["event"] == "started":
            spans.append((event["time"], event["time"]))
        elif spans:
            spans[-1] = (spans[-1][0], event["time"])
    return spans


def _verdict(run: RunDirectory) -> str | None:
    try:
        found: str | None = json.loads(run.now.read_text())["verdict"]
    except (OSError, ValueError, KeyError):
        return None  # planned only, or the file went with the logs
    return found


def _networks(config: Config) -> list[tuple[str, str]]:
    found = [(name or "network", model.path) for name, model in config.networks.items()]
    return [*found, ("ranked by", Combination(config).words())] if config.models is not None else found


def _keys(standing: Standing) -> list[tuple[str, str]]:
    """Parts of the scores keys that are the same in all partitions."""
    keys = standing.keys["scores"]
    return [(name, value) for name, value in keys[min(keys)].items() if name not in ("cutouts", "code")] if keys else []
