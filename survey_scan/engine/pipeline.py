"""The whole way, in order: plan, cutouts and scores side by side, ranking; and what is printed on it."""

import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from survey_scan import ranking, store
from survey_scan.config import Config
from survey_scan.engine import account, cluster, interrupt, lock, memory, model_check, planning, prepare, state, tasks
from survey_scan.engine.events import Events
from survey_scan.engine.interrupt import Stop
from survey_scan.engine.progress import Count, Progressing, plan_lines
from survey_scan.engine.scan import Failure, Scan
from survey_scan.engine.state import Standing
from survey_scan.errors import Incomplete
from survey_scan.layout import RunDirectory

if TYPE_CHECKING:
    from distributed import Client

#: Partitions whose best targets one ``rank`` task merges, and tables one ``merge`` task merges.
RANK_GROUP, MERGE_FAN_IN = 32, 8


@dataclass(frozen=True)
class Options:
    """What the command line adds to the configuration."""

    scheduler: str | None = None
    redo: str | None = None
    limit: int | None = None
    plan_only: bool = False
    say: Callable[[str], None] = field(default=print)


def run(config: Config, config_path: Path, options: Options) -> RunDirectory:
    """Run a scan from wherever it stands to its end.

    Parameters
    ----------
    config : Config
        What to run.
    config_path : Path
        The file it came from.
    options : Options
        Cluster, stages to redo, limit.

    Returns
    -------
    RunDirectory
        Complete, or planned if only that was asked for.

    Raises
    ------
    UserError
        Something to mend; nothing was lost.
    Incomplete
        Stopped, or some partitions failed; the same call resumes.
    """
    directory, say = RunDirectory(config.run.path), options.say
    with lock.held(directory), interrupt.handled(directory, say) as stop:
        prepare.open_run(config, config_path, options.redo, options.limit)
        events = Events(directory.events)
        events.write("started", redo=options.redo, limit=options.limit)
        try:
            _run(config, directory, options, stop, events)
        except Incomplete as error:
            events.write("incomplete", reason=str(error))
            raise
    return directory


def _run(config: Config, run: RunDirectory, options: Options, stop: Stop, events: Events) -> None:
    say, standing = options.say, _standing(config, run)
    if standing is not None and standing.complete:
        say(f"{run} is complete: nothing to do")
        prepare.write_manifest(run, {"state": "complete"})
        account.closing(run, standing, say)
        return
    if standing is not None and options.plan_only:
        say(f"{run} is planned already")
        return
    network: dict[str, Any] | None = None
    if not options.plan_only and (standing is None or standing.todo["scores"]):
        network = model_check.describe(config)
        say(f"network     {model_check.line(network)}")
        for warning in network["warnings"]:
            say(f"warning     {warning}")
    with cluster.connect(config.resources, options.scheduler, run.logs) as client:
        say(f"dashboard   {client.dashboard_link or 'none'}")
        if standing is None:
            events.write("stage", stage="plan")
            for line in planning.make_plan(config, run, client, options.limit, plan_lines(say)).warnings:
                say(f"warning     {line}")
            standing = state.standing(run, config)
        account.plan(run, say)
        memory.check(config, run, network["projected_bytes"] if network else 0, client)
        if options.plan_only:
            return
        account.todo(run, standing, say)
        if standing.todo["cutouts"] and not run.store.exists():
            create_store(config, run)
        failures = scan(client, config, run, standing, stop, events, say)
        if failures:
            raise Incomplete(_failed(run, failures))
        events.write("stage", stage="rank")
        standing = state.standing(run, config)
        rank(config, run, standing, client)
    prepare.write_manifest(run, {"state": "complete"})
    events.write("complete")
    account.closing(run, state.standing(run, config), say)


def _standing(config: Config, run: RunDirectory) -> Standing | None:
    """Where a planned run stands; None without a plan."""
    if not run.partitions.exists():
        return None
    standing = state.standing(run, config)
    if any(standing.todo.values()) and not run.store.exists():
        # Someone deleted the pixels, which is their right; but what is still to be scored needs them again.
        shutil.rmtree(run.records_folder / "cutouts", ignore_errors=True)
        standing = state.standing(run, config)
    return standing


def create_store(config: Config, run: RunDirectory) -> None:
    """Create the store of a planned run, without any pixels."""
    facts = state.plan_facts(run)
    attributes = {
        "release": config.images.release,
        "zero_point": config.images.zero_point,
        "pixel_scale": facts["pixel_scale"],
    }
    store.create(run.store, facts["planned"], config.cutouts, np.dtype(facts["object_id"]), attributes)


def scan(
    client: "Client",
    config: Config,
    run: RunDirectory,
    standing: Standing,
    stop: Stop,
    events: Events,
    say: Callable[[str], None],
) -> list[Failure]:
    """Do the cutouts and scores that are to do; those that failed come back.

    Raises
    ------
    Incomplete
        As :meth:`survey_scan.engine.scan.Scan.go`.
    """
    if not any(standing.todo.values()):
        return []
    events.write("stage", stage="scan")
    total = sum(standing.targets.values())
    counts: dict[str, Count] = {
        s: Count(total, total - sum(standing.targets[p] for p in standing.todo[s])) for s in state.STAGES
    }
    with Progressing(counts, say) as progress:
        partitions = Scan(client, run, standing, config.resources.retries, progress, events, stop)
        partitions.go()
    return partitions.failures


def rank(config: Config, run: RunDirectory, standing: Standing, client: "Client | None") -> None:
    """Merge the scores of all partitions into the candidates, in a tree whose nodes hold only the best.

    Parameters
    ----------
    config : Config
        Its ranking section.
    run : RunDirectory
        With all scores.
    standing : Standing
        Of that run.
    client : Client or None
        Where the tasks run; None does them here.
    """
    numbers = standing.partitions["partition"].tolist()
    groups = [numbers[i : i + RANK_GROUP] for i in range(0, len(numbers), RANK_GROUP)]
    tables: list[Any] = [_call(client, "rank", i, tasks.top, str(run), group) for i, group in enumerate(groups)]
    level = 0
    while len(tables) > 1:
        level += 1
        parts = [tables[i : i + MERGE_FAN_IN] for i in range(0, len(tables), MERGE_FAN_IN)]
        tables = [_call(client, f"rank-merge{level}", i, tasks.merge, str(run), part) for i, part in enumerate(parts)]
    best = tables[0].result() if client is not None else tables[0]
    ranking.finish(run, best, standing.done["scores"], standing.ranking_key)


def _call(client: "Client | None", name: str, number: int, function: Callable[..., Any], *arguments: Any) -> Any:
    if client is None:
        return function(*arguments)
    return client.submit(function, *arguments, key=f"{name}-{number:05d}", pure=False)


def _failed(run: RunDirectory, failures: list[Failure]) -> str:
    lines = [f"{len(failures)} partitions failed, the others are finished:"]
    for failure in failures[:10]:
        lines.append(f"  {failure.reason}")
        lines.append(f"    try it alone: survey_scan partition {run} {failure.stage} {failure.partition}")
    if len(failures) > 10:
        lines.append(f"  and {len(failures) - 10} more, in {run.events}")
    kinds = Counter(f.stage for f in failures)
    lines.append(
        f"Run the same command again to try these {' and '.join(f'{n} {s}' for s, n in kinds.items())} once more."
    )
    return "\n".join(lines)
