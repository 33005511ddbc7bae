"""What a run prints: the plan, what is to do and why, and the closing account in which no object is missing."""

from collections.abc import Callable
from typing import Any

import pandas as pd

from survey_scan.engine import lock, state
from survey_scan.engine.state import Standing
from survey_scan.layout import RunDirectory
from survey_scan.schema import Status
from survey_scan.views import overview

Say = Callable[[str], None]

#: Tile problems printed at the end; all are in the records and in ``status --json``.
SHOWN_PROBLEMS = 10


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
    say(f"plan        {n_targets:,} targets in {len(partitions):,} partitions on {facts['n_tiles']:,} tile(s)")
    if n_targets != facts["selected"]:
        say(f"            limited to the first {n_targets:,} of {facts['selected']:,} selected objects")


def todo(run: RunDirectory, standing: Standing, say: Say) -> None:
    """Print how many partitions of each stage are to do, and why."""
    for stage in state.STAGES:
        done, reasons = len(standing.done[stage]), standing.reasons(stage)
        if not reasons:
            say(f"{stage:<11} all {done:,} done")
            continue
        new = reasons.pop("new", 0)
        why = [f"{n:,} changed: {what}" for what, n in reasons.items()]
        text = ", ".join(([f"{new:,} new"] if new else []) + why)
        say(f"{stage:<11} {len(standing.todo[stage]):,} to do ({text}), {done:,} done")


def closing(run: RunDirectory, standing: Standing, say: Say) -> None:
    """Print the account: every object of the catalogue is cut, flagged or scored.

    Raises
    ------
    AssertionError
        If the account does not balance, which is a bug of this program and must not pass in silence.
    """
    counts = overview.counts(run, standing)
    flow = pd.read_csv(run.cut_flow)
    removed, planned = int(flow["removed"].sum()), counts["planned"]
    flagged = {Status(code): n for code, n in standing.status_counts("scores").items() if code != Status.OK}
    account = (
        (counts["catalogue"], counts["selected"] + removed),
        (planned, counts["cutouts_ok"] + sum(counts["cutouts_flagged"].values())),
        (planned, counts["scored"] + sum(flagged.values())),
    )
    for whole, parts in account:
        if whole != parts:
            raise AssertionError(f"{run}: objects are missing: {whole:,} became {parts:,}. Please report this.")
    problems = overview.problems(standing)
    for line in problems[:SHOWN_PROBLEMS]:
        say(f"tile        {line}")
    if len(problems) > SHOWN_PROBLEMS:
        say(f"            and {len(problems) - SHOWN_PROBLEMS:,} more: survey_scan status {run} --json")
    say(f"account     catalogue {counts['catalogue']:,} = selected {counts['selected']:,} + cut {removed:,}")
    word = "selected" if planned == counts["selected"] else "planned"
    say(f"            {word} {planned:,} = scored {counts['scored']:,} + flagged {sum(flagged.values()):,}")
    for status, n in sorted(flagged.items()):
        say(f"              {n:>13,}  {status.reason} (status {int(status)})")
    if flagged:
        say(f"flagged     {run.failures}")
    say(f"candidates  {counts['candidates']:,} in {run.candidates_parquet} and {run.candidates_fits.name}")


def status(found: dict[str, Any], say: Say) -> None:
    """Print what :func:`survey_scan.views.overview.status` found."""
    say(f"{found['run']}: {found['state']}" + (f" ({lock.describe(found['driver'])})" if found["driver"] else ""))
    if not found["stages"]:
        say("not planned yet")
        return
    counts = found["counts"]
    say(f"catalogue   {counts['catalogue']:,}, selected {counts['selected']:,}")
    for stage, facts in found["stages"].items():
        why = ", ".join(f"{what} {n:,}" for what, n in facts["reasons"].items())
        say(f"{stage:<11} {facts['done']:,} of {facts['partitions']:,} partitions" + (f", to do: {why}" if why else ""))
    flagged = ", ".join(f"{Status(int(code)).reason} {n:,}" for code, n in counts["cutouts_flagged"].items())
    say(f"cutouts     {counts['cutouts_ok']:,} ok" + (f", flagged: {flagged}" if flagged else ""))
    say(f"targets     {counts['scored']:,} scored, {counts['unscored']:,} not")
    say(f"candidates  {counts['candidates']:,}")
    for line in found["problems"]:
        say(f"tile        {line}")


def target(found: dict[str, Any], say: Say) -> None:
    """Print what :func:`survey_scan.views.overview.inspect` found."""
    for name, value in found["target"].items():
        say(f"{name:<12} {value}")
    say(f"{'row':<12} {found['row']} of cutouts.zarr, partition {found['partition']}")
    cutout, score = found["cutout"], found["score"]
    say(f"{'cutout':<12} " + (cutout["reason"] if cutout else "not cut yet"))
    for band, fraction in (cutout["bad_fraction"] if cutout else {}).items():
        say(f"{'  ' + band:<12} {fraction:.1%} bad pixels")
    if score is None or score["logit"] is None:
        say(f"{'score':<12} none: " + (score["reason"] if score else "not scored yet"))
    else:
        say(f"{'score':<12} {score['score']:.6f} (logit {score['logit']:.4f})")
    say(f"{'rank':<12} {found['rank'] or 'not a candidate'}")


def verified(found: dict[str, Any], say: Say) -> None:
    """Print what :func:`survey_scan.views.verify.verify` found."""
    for line in found["problems"]:
        say(line)
    say(
        f"{found['run']}: {found['partitions']:,} partitions, cutouts of {found['cutouts']:,} and scores of "
        f"{found['scores']:,} read again: " + ("all is well" if found["ok"] else f"{len(found['problems'])} problems")
    )
    if not found["ok"]:
        say(f"Mend with: survey_scan partition {found['run']} cutouts N (then scores N), and run again.")
