"""The whole way, in order: plan, cutouts and scores side by side, ranking; and what is printed on it."""

import contextlib
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from survey_scan import store
from survey_scan.cluster import pools, slurm
from survey_scan.cluster import profile as profiles
from survey_scan.cluster.connect import Cluster, connect, minding
from survey_scan.combination import column
from survey_scan.config import Config
from survey_scan.engine import (
    account,
    interrupt,
    lock,
    memory,
    model_check,
    nodes,
    planning,
    prepare,
    state,
    tasks,
)
from survey_scan.engine.events import Events
from survey_scan.engine.interrupt import Stop
from survey_scan.engine.progress import Count, Progressing, plan_lines
from survey_scan.engine.rank import rank
from survey_scan.engine.scan import Failure, Scan
from survey_scan.engine.state import Standing
from survey_scan.engine.watching import Watching
from survey_scan.errors import Incomplete, Interrupted, ResourceError
from survey_scan.imaging import service, service_http
from survey_scan.layout import STAGES, RunDirectory
from survey_scan.watch.scheduler import page


@dataclass(frozen=True)
class Options:
    """What the command line adds to the configuration."""

    profile: str | None = None
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
    run, events = RunDirectory(config.run.path), Events(RunDirectory(config.run.path).events)
    profile = profile_of(config, options)

    def again(signal: str | None) -> None:
        if isinstance(profile, profiles.SlurmAllocation) and slurm.job_id():
            _requeue(signal, events, options.say)

    stop = None
    try:
        with lock.held(run), interrupt.handled(run, options.say, at_once=again) as stop:
            prepare.open_run(config, config_path, options.redo, options.limit)
            events.write("started", redo=options.redo, limit=options.limit, slurm_job=slurm.job_id())
            try:
                _run(config, run, profile, options, stop, events)
            except Incomplete as error:
                events.write("incomplete", reason=str(error))
                raise
    except Interrupted:
        again(stop.requested if stop else None)
        raise
    return run


def profile_of(config: Config, options: Options) -> profiles.Profile:
    """Where a run is going to run."""
    if options.scheduler is not None:
        return profiles.Scheduler(kind="scheduler", address=options.scheduler)
    return profiles.load(options.profile or config.resources.profile)


def _requeue(signal: str | None, events: Events, say: Callable[[str], None]) -> None:
    """Put this Slurm job back into the queue, where there is a reason to hope; Slurm ends this process then."""
    try:
        job = slurm.job()
        if why := slurm.not_requeued(job, signal, events.counts["finished"], time.time()):
            say(f"requeue     no: {why}.")
            events.write("not requeued", reason=why)
            return
        say(f"requeue     job {job.job_id} goes back into the queue and resumes by itself")
        events.write("requeued", slurm_job=job.job_id, restart=job.restart)
        slurm.requeue(job.job_id)
    except ResourceError as error:
        say(f"requeue     failed: {error}. Submit the scan again to resume.")


def _run(
    config: Config, run: RunDirectory, profile: profiles.Profile, options: Options, stop: Stop, events: Events
) -> None:
    say, standing = options.say, _standing(config, run)
    if standing is not None and standing.complete:
        say(f"{run} is complete: nothing to do")
        prepare.write_manifest(run, {"state": "complete"})
        account.closing(run, standing, say)
        return
    if standing is not None and options.plan_only:
        say(f"{run} is planned already")
        return
    if config.images.service is not None and (standing is None or standing.todo["cutouts"]):
        service_http.login(config.images.service)  # else the first partition would say it
    needed = 0
    if not options.plan_only and (standing is None or standing.todo["scores"]):
        networks = model_check.describe(config, None if standing is None else state.plan_facts(run))
        for line in model_check.lines(config, networks):
            say(line)
        needed = model_check.projected_bytes(networks)
    with connect(profile, config.resources, run.logs, say, config.backend) as cluster:
        client, watching = cluster.client, Watching(run, cluster)
        say(f"workers     {cluster.text}")
        say(f"dashboard   {client.dashboard_link or 'none'}")
        if client.dashboard_link:
            say(f"this scan   {page(client.dashboard_link)}")
        if cluster.ssh:
            say(f"            from your own machine: {cluster.ssh}")
        try:
            with minding(cluster):
                nodes.check(config, run, client)
                watching.stage("plan")
                if standing is None:
                    events.write("stage", stage="plan")
                    for line in planning.make_plan(config, run, client, options.limit, plan_lines(say)).warnings:
                        say(f"warning     {line}")
                    standing = state.standing(run, config)
                account.plan(run, say)
                memory.check(config, run, needed, client)
                if options.plan_only:
                    return
                for line in model_check.agree(config, state.plan_facts(run)):
                    say(f"warning     {line}")
                account.todo(run, standing, say)
                account.service(config, standing, say)
                if standing.todo["cutouts"] and config.cutouts.store != "none" and not run.store.exists():
                    create_store(config, run)
                watching.planned(standing)
                failures = scan(cluster, config, run, standing, stop, events, watching, say)
                if failures:
                    raise Incomplete(_failed(run, failures))
                events.write("stage", stage="rank")
                watching.stage("rank")
                standing = None  # of very many partitions two take their memory twice
                standing = state.standing(run, config)
                rank(config, run, standing, client)
        except Incomplete:
            watching.stage("incomplete")
            raise
        watching.stage("complete")
    shutil.rmtree(run.downloads_folder, ignore_errors=True)
    prepare.write_manifest(run, {"state": "complete"})
    events.write("complete")
    standing = None
    account.closing(run, state.standing(run, config), say)
    report(run, say)


def report(run: RunDirectory, say: Callable[[str], None]) -> None:
    """Write the report and say where it is."""
    from survey_scan.report import write

    say(f"report      {write(run)}")


def _standing(config: Config, run: RunDirectory) -> Standing | None:
    """Where a planned run stands; None without a plan."""
    if not run.partitions.exists():
        return None
    standing = state.standing(run, config)
    if any(standing.todo.values()) and config.cutouts.store != "none" and not run.store.exists():
        # Someone deleted the pixels, which is their right; but what is still to be scored needs them again.
        shutil.rmtree(run.records_folder / "cutouts", ignore_errors=True)
        standing = state.standing(run, config)
    return standing


def create_store(config: Config, run: RunDirectory) -> None:
    """Create the store of a planned run, without any pixels."""
    facts = state.plan_facts(run)
    images, spec = config.images, config.cutouts
    flux = facts.get("flux", {"zero_point": {band: images.zero_point_of(band) for band in spec.bands}, "unit": None})
    attributes = {
        "survey": config.survey.name if config.survey else None,
        "release": images.release,
        "pixel_scale": facts["pixel_scale"],
        **store.flux_scale(flux["zero_point"], flux["unit"], spec.zero_point),
        **({"kept_by": list(map(column, config.networks))} if spec.store == "candidates" else {}),
    }
    store.create(run.store, facts["planned"], spec, np.dtype(facts["object_id"]), attributes)


def scan(
    cluster: Cluster,
    config: Config,
    run: RunDirectory,
    standing: Standing,
    stop: Stop,
    events: Events,
    watching: Watching,
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
    watching.stage("scan")
    total = sum(standing.targets.values())
    counts: dict[str, Count] = {
        s: Count(total, total - sum(standing.targets[p] for p in standing.todo[s])) for s in STAGES
    }
    asked = service.requests_each(config.images.service, config.cutouts) if config.images.service else 0
    with _performance_report(cluster, run), Progressing(counts, say) as progress:
        partitions = Scan(
            cluster,
            run,
            standing,
            config.resources.retries,
            asked,
            progress,
            events,
            watching.tally,
            stop,
            watching.show,
        )
        partitions.go()
    if config.images.service is None and (verdict := watching.tally.snapshot()["verdict"]):
        say(f"balance     {verdict}")
    if standing.todo["scores"]:
        _effect(cluster, config, run, standing, say)
    return partitions.failures


def _effect(
    cluster: Cluster, config: Config, run: RunDirectory, standing: Standing, say: Callable[[str], None]
) -> None:
    """Print what another precision than float32, or XLA, does to the logits of some cutouts of this run."""
    if all(m.path == "loopback" or (m.precision == "float32" and not m.jit) for m in config.networks.values()):
        return
    if config.cutouts.streamed and config.images.service is not None:
        say("effect      not measured: it takes pixels, and the service would be asked for them again")
        return
    first = min(standing.todo["scores"])
    demand = pools.find(cluster.client).demand("scores")
    for line in cluster.client.submit(
        tasks.effect, str(run), first, key="effect", pure=False, resources=demand
    ).result():
        say(f"effect      {line}")


@contextlib.contextmanager
def _performance_report(cluster: Cluster, run: RunDirectory) -> Iterator[None]:
    """Dask's own report of the scan, in logs/; without one if the scheduler is gone when it would be written."""
    from distributed import performance_report

    path = run.logs / f"performance-{time.strftime('%Y%m%d-%H%M%S')}.html"
    report = performance_report(filename=str(path), mode="inline")
    report.__enter__()
    try:
        yield
    finally:
        if cluster.client.status == "running" and cluster.lost() is None:
            with contextlib.suppress(OSError, TimeoutError):
                report.__exit__(None, None, None)


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
