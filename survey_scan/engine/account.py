"""How many objects stand where, and what a run prints of it: no object may be missing."""

from collections.abc import Callable
from typing import Any

import pandas as pd
import pyarrow.parquet as pq

from survey_scan import records, scores
from survey_scan.combination import column
from survey_scan.config import CHUNK_ROWS, Config, Cutouts, Service
from survey_scan.config_file import load
from survey_scan.engine import state
from survey_scan.engine.progress import duration
from survey_scan.engine.state import Standing
from survey_scan.imaging import service as imaging_service
from survey_scan.layout import STAGES, RunDirectory
from survey_scan.ranking import drift
from survey_scan.schema import Status
from survey_scan.views import drift as drifting

Say = Callable[[str], None]

#: Tile problems printed at the end; all are in the records and in ``status --json``.
SHOWN_PROBLEMS = 10

#: Seconds of a partition of a cutout service after which a smaller one is recommended.
LONG_PARTITION = 1200


def plan(run: RunDirectory, say: Say) -> None:
    """Print the cut flow and the size of the plan."""
    facts = state.plan_facts(run)
    partitions = state.read_partitions(run)
    flow = pd.read_csv(run.cut_flow)
    say(f"catalogue   {facts['catalogue']:,} objects")
    width = max([len(str(name)) for name in flow["cut"]], default=0)
    for row in flow.itertuples():
        say(f"  {row.cut!s:<{width}}  {row.kept:>13,} kept {row.removed:>13,} removed  {row.fraction:7.2%}")
    n_targets = int(partitions["n_targets"].sum())
    where = f"from {facts['service']}" if facts.get("service") else f"on {facts['n_tiles']:,} tile(s)"
    say(f"plan        {n_targets:,} targets in {len(partitions):,} partitions {where}")
    if "flux" in facts:
        say(f"flux        {_flux(**facts['flux'])}")
    if n_targets != facts["selected"]:
        say(f"            limited to the first {n_targets:,} of {facts['selected']:,} selected objects")


def _flux(zero_point: dict[str, float | None], unit: str | None, from_headers: list[str], differ: list[str]) -> str:
    """What a pixel's value means, and who says so."""
    bands: dict[float | None, list[str]] = {}
    for band, point in zero_point.items():
        bands.setdefault(point, []).append(band)
    texts = [
        ("no zero point is known" if point is None else f"zero point {point:g}")
        + (f" in {', '.join(names)}" if len(bands) > 1 else "")
        for point, names in bands.items()
    ]
    who = f"; images.zero_point is not given for {', '.join(from_headers)}: the headers' counts" if from_headers else ""
    return "; ".join(texts) + (f"; unit {unit}" if unit else "") + who


def todo(run: RunDirectory, standing: Standing, say: Say) -> None:
    """Print how many partitions of each stage are to do, and why."""
    for stage in STAGES:
        done, reasons = len(standing.done[stage]), standing.reasons(stage)
        if not reasons:
            say(f"{stage:<11} all {done:,} done")
            continue
        new = reasons.pop("new", 0)
        again = reasons.pop(state.NOT_KEPT, 0)
        why = [f"{n:,} changed: {what}" for what, n in reasons.items()]
        why += [f"{again:,} again, whose pixels were not kept"] if again else []
        text = ", ".join(([f"{new:,} new"] if new else []) + why)
        say(f"{stage:<11} {len(standing.todo[stage]):,} to do ({text}), {done:,} done")


def service(config: Config, standing: Standing, say: Say) -> None:
    """Print what a cutout service is going to be asked, and how long that takes at least; nothing without one."""
    asked = config.images.service
    n = sum(standing.targets[p] for p in standing.todo["cutouts"])
    if asked is None or not n:
        return
    line, seconds = requests(asked, config.cutouts, n)
    say(line)
    partition = max(standing.targets[p] for p in standing.todo["cutouts"]) * seconds / n
    if partition > LONG_PARTITION and config.cutouts.partition > CHUNK_ROWS:
        say(
            f"            of which a partition takes {duration(partition)}: a smaller cutouts.partition shows sooner how far "
            "it is, and is scored sooner"
        )


def requests(asked: Service, spec: Cutouts, targets: int) -> tuple[str, float]:
    """What a cutout service is asked for some targets, in words, and the seconds that takes at least."""
    n = targets * imaging_service.requests_each(asked, spec)
    seconds = n / asked.rate
    text = f"{n:,} requests, at most {asked.rate:g} a second: {duration(seconds)} at least"
    return f"service     {asked.host}: {text}", seconds


def closing(run: RunDirectory, standing: Standing, say: Say) -> None:
    """Print the account: every object of the catalogue is cut, flagged or scored.

    Raises
    ------
    AssertionError
        If the account does not balance, which is a bug of this program and must not pass in silence.
    """
    n = counts(run, standing)
    flow = pd.read_csv(run.cut_flow)
    removed, planned = int(flow["removed"].sum()), n["planned"]
    aside = n["set_aside"]
    flagged = {
        Status(code): n
        for code, n in standing.status_counts("scores").items()
        if code not in (Status.OK, Status.SET_ASIDE)
    }
    account = (
        (n["catalogue"], n["selected"] + removed),
        (planned, n["cutouts_ok"] + sum(n["cutouts_flagged"].values())),
        (planned, n["scored"] + aside + sum(flagged.values())),
    )
    for whole, parts in account:
        if whole != parts:
            raise AssertionError(f"{run}: objects are missing: {whole:,} became {parts:,}. Please report this.")
    texts = problems(standing)
    for line in texts[:SHOWN_PROBLEMS]:
        say(f"tile        {line}")
    if len(texts) > SHOWN_PROBLEMS:
        say(f"            and {len(texts) - SHOWN_PROBLEMS:,} more: survey_scan status {run} --json")
    say(f"account     catalogue {n['catalogue']:,} = selected {n['selected']:,} + cut {removed:,}")
    word = "selected" if planned == n["selected"] else "planned"
    middle = f" + set aside {aside:,}" if aside else ""
    say(f"            {word} {planned:,} = scored {n['scored']:,}{middle} + flagged {sum(flagged.values()):,}")
    if aside:
        seen = n["scored"] + flagged.get(Status.NOT_FINITE, 0)
        say(f"cascade     its second network saw {seen:,} of {seen + aside:,} targets ({seen / (seen + aside):.1%})")
    for status, number in sorted(flagged.items()):
        say(f"              {number:>13,}  {status.reason} (status {int(status)})")
    if flagged:
        say(f"flagged     {run.failures}")
    if standing.streamed:
        _kept(run, n, say)
    _candidates(run, say)


def _kept(run: RunDirectory, n: dict[str, Any], say: Say) -> None:
    """Print how many cutouts there are to look at, and how many candidates have none."""
    config = load(run.config_resolved)
    if config.cutouts.above is None:
        say("kept        no cutouts (cutouts.store: none)")
        return
    names = [column(name) for name in config.networks]
    table = pd.read_parquet(run.candidates_parquet, columns=names)
    without = int((~scores.kept(table, names, config.cutouts.above)).sum())
    say(
        f"kept        {n['kept']:,} of {n['planned']:,} cutouts, those with a logit of at least {config.cutouts.above:g}; "
        f"{without:,} of {len(table):,} candidates have none"
    )


def _candidates(run: RunDirectory, say: Say) -> None:
    """Print what the candidates are, how they differ from the last list, and which tiles are not like the others."""
    wanted = ["logit", "leader", "is_new", "in_training"]
    table = pd.read_parquet(
        run.candidates_parquet, columns=[c for c in wanted if c in pq.read_schema(run.candidates_parquet).names]
    )
    lowest = f", logit {table['logit'].min():.3f} and above," if len(table) else ""
    say(f"candidates  {len(table):,}{lowest} in {run.candidates_parquet} and {run.candidates_fits.name}")
    of = {"leader": "double a better one", "is_new": "are known lenses", "in_training": "stood in the training set"}
    said = [
        f"{n:,} {what}"
        for name, what in of.items()
        if name in table and (n := int((table[name] == (name == "in_training")).sum()))
    ]
    if said:
        say(f"            {', '.join(said)}")
    overlap = (records.read(run.ranking_record) or {}).get("overlap")
    if overlap and (overlap["new"] or overlap["gone"]):
        say("overlap     {stay:,} stay, {new:,} new, {gone:,} gone".format(**overlap))
    for what, groups in drifting.read(run.drift).items() if run.drift.exists() else ():
        for line in drift.sentences(groups, what):
            say(f"drift       {line}")


#: Names of what :func:`counts` counts.
COUNTS = (
    "catalogue",
    "selected",
    "planned",
    "cutouts_ok",
    "cutouts_flagged",
    "kept",
    "scored",
    "unscored",
    "set_aside",
    "candidates",
)


def counts(run: RunDirectory, standing: state.Standing) -> dict[str, Any]:
    """How many objects stand where; every object is in exactly one place at each stage."""
    facts = state.plan_facts(run)
    cut, scored = standing.status_counts("cutouts"), standing.status_counts("scores")
    ranked = records.read(run.ranking_record) if not standing.ranking_todo else None
    done = standing.done["cutouts"]
    kept = sum(r["kept"] for r in done.values()) if standing.streamed else sum(standing.targets[p] for p in done)
    return {
        "catalogue": facts["catalogue"],
        "selected": facts["selected"],
        "planned": sum(standing.targets.values()),
        "cutouts_ok": cut[Status.OK],
        "cutouts_flagged": {str(int(code)): n for code, n in sorted(cut.items()) if code != Status.OK},
        "kept": kept,
        "scored": scored[Status.OK],
        "unscored": sum(standing.targets.values()) - scored[Status.OK],
        "set_aside": scored[Status.SET_ASIDE],
        "candidates": ranked["candidates"] if ranked else 0,
    }


def problems(standing: state.Standing) -> list[str]:
    """What was wrong with tiles, each once, in the order of the partitions."""
    found: dict[str, None] = {}
    for p in sorted(standing.done["cutouts"]):
        found.update(dict.fromkeys(standing.done["cutouts"][p]["problems"]))
    return list(found)
