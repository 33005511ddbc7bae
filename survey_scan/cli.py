"""The command line: parses and prints. Nothing heavy is imported before a command needs it."""

import importlib.util
import json
import sys
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from survey_scan import __version__
from survey_scan.errors import SelectionError, SelectionProblems, SurveyScanError, UserError

EPILOG = "Exit codes: 0 complete · 1 a bug of this program · 2 something to mend · 3 incomplete, run again to resume."

_SET = click.option(
    "--set", "settings", multiple=True, metavar="SECTION.KEY=VALUE", help="Put a value in place of the file's."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print JSON for a machine to read.")
_LIMIT = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Plan only the first N targets.")
_SCHEDULER = click.option(
    "--scheduler", metavar="ADDRESS|FILE", help="Use a Dask scheduler that runs already, instead of this machine."
)
_PROFILE = click.option(
    "--profile", metavar="NAME|FILE", help="Where to run: a cluster profile, instead of resources.profile."
)
_CONFIG = click.argument("config", type=click.Path(path_type=Path))
_RUN = click.argument("run", type=click.Path(path_type=Path))
_MODEL = click.argument("path", type=click.Path(path_type=Path))


class _Group(click.Group):
    """Turns the errors of this program into one message and an exit code, never a traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except SurveyScanError as error:
            click.echo(str(error), err=True)
            ctx.exit(error.exit_code)


@click.group(cls=_Group, epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="survey_scan")
def main() -> None:
    """Find strong gravitational lenses in a survey.

    catalogue → selection → plan → cutouts → scores → ranking
    """


@main.command()
@click.argument("directory", type=click.Path(path_type=Path), default=Path("survey_scan_demo"))
@click.option("--seed", type=int, help="Another sky than the usual one.")
def demo(directory: Path, seed: int | None) -> None:
    """Render a small sky with 30 lenses in DIRECTORY, scan it, and say how many were found."""
    if importlib.util.find_spec("lenstronomy") is None:
        raise UserError("the demo needs lenstronomy, which is not installed. pip install 'survey_scan[demo,tf-cpu]'")
    from survey_scan.demo import command

    command.run(directory, seed, _say)


@main.command()
@_CONFIG
@_SET
def check(config: Path, settings: tuple[str, ...]) -> None:
    """Open a file of each kind that CONFIG names and say what would go wrong."""
    from survey_scan.config_file import load, told
    from survey_scan.views.check import check as check_config

    check_config(load(config, settings), _say, partial(told, path=config, settings=settings))


@main.command()
@_CONFIG
@_SET
@_LIMIT
@_PROFILE
@_SCHEDULER
@click.option("--redo", is_flag=True, help="Plan anew; cutouts, scores and ranking of the old plan go.")
@click.option("--no-calibrate", is_flag=True, help="Scan no partitions beforehand to see what the scan will take.")
@_JSON
def plan(
    config: Path, settings: tuple[str, ...], redo: bool, no_calibrate: bool, as_json: bool, **options: Any
) -> None:
    """Select the targets, divide them into partitions, and say what their scan will take, by one of a few of them."""
    _run(config, settings, as_json, not no_calibrate, redo="plan" if redo else None, plan_only=True, **options)


@main.command()
@_CONFIG
@_SET
@_LIMIT
@_PROFILE
@_SCHEDULER
@click.option(
    "--redo",
    type=click.Choice(["plan", "cutouts", "scores", "rank"]),
    help="Throw away the results of this stage and of those after it.",
)
def run(config: Path, settings: tuple[str, ...], **options: Any) -> None:
    """Scan the survey of CONFIG, from wherever an earlier start of the same run ended."""
    _run(config, settings, False, **options)


@main.command()
@_CONFIG
@_SET
@click.option("--profile", "name", required=True, metavar="NAME|FILE", help="A profile with a section 'batch'.")
@click.option("--nodes", type=click.IntRange(min=1), metavar="N", help="Instead of the profile's.")
@click.option("--time", metavar="LIMIT", help="As Slurm takes it: minutes, H:MM:SS or D-HH:MM:SS.")
@click.option("--account", metavar="A", help="Instead of the profile's.")
@click.option("--dry-run", is_flag=True, help="Print the script and what to expect of it; submit nothing.")
@click.option("--targets", type=click.IntRange(min=1), metavar="N", help="With --dry-run: of a plan of N targets.")
@click.option(
    "--rates", type=click.Path(path_type=Path), metavar="RUN", help="With --dry-run: at the speed of another run."
)
def submit(config: Path, settings: tuple[str, ...], **options: Any) -> None:
    """Run CONFIG in a Slurm job that requeues and resumes by itself until the scan is complete."""
    from survey_scan.config_file import load
    from survey_scan.engine.submit import submit as submit_job

    submit_job(load(config, settings), config, settings, say=_say, **options)


@main.command()
@_RUN
@_JSON
@click.option("--watch", is_flag=True, help="Go on showing it until the scan ends.")
def status(run: Path, as_json: bool, watch: bool) -> None:
    """Say how far RUN (a run directory) is, what is left, and why."""
    from survey_scan.layout import RunDirectory
    from survey_scan.views import overview, report

    if watch:
        from survey_scan.engine import lock
        from survey_scan.watch.terminal import watch as watch_run

        watch_run(RunDirectory(run), partial(lock.holder, ask_slurm=False))
        return
    found = overview.status(RunDirectory(run))
    _print(found, as_json, report.status)


@main.command()
@_RUN
@click.argument("object_id")
@_JSON
def inspect(run: Path, object_id: str, as_json: bool) -> None:
    """Print all that RUN knows of one object."""
    from survey_scan.layout import RunDirectory
    from survey_scan.views import overview, report

    found = overview.inspect(RunDirectory(run), object_id)
    _print(found, as_json, report.target)


@main.command()
@_RUN
@click.argument("stage", type=click.Choice(["cutouts", "scores"]))
@click.argument("number", type=click.IntRange(min=0))
def partition(run: Path, stage: str, number: int) -> None:
    """Do one partition of one stage in this process, without Dask: to see why it fails."""
    from survey_scan.engine import single
    from survey_scan.layout import RunDirectory

    single.partition(RunDirectory(run), "cutouts" if stage == "cutouts" else "scores", number, _say)


@main.command()
@_RUN
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="As many candidates.")
@click.option("--threshold", type=click.FloatRange(0, 1), metavar="P", help="With at least this score.")
@click.option("--budget", type=click.IntRange(min=1), metavar="N", help="As --top, and say what inspecting N means.")
@click.option("--evaluation", type=click.Path(path_type=Path), metavar="FILE", help="With --budget: what to expect.")
@click.option(
    "--against", type=click.Path(path_type=Path), metavar="RUN|FILE", help="With --budget: compare with another list."
)
def rank(
    run: Path,
    top: int | None,
    threshold: float | None,
    budget: int | None,
    evaluation: Path | None,
    against: Path | None,
) -> None:
    """Rank the scores of RUN again, with another number of candidates or another threshold."""
    from survey_scan.engine import single
    from survey_scan.layout import RunDirectory

    if budget is not None:
        if top is not None or threshold is not None:
            raise UserError("--budget says how many, so that --top and --threshold do not go with it. Leave them out.")
        from survey_scan.views import budget as view

        view.run(RunDirectory(run), budget, evaluation, against, _say)
        single.rank(RunDirectory(run), {"top": budget, "threshold": None}, _say)
        return
    if evaluation is not None or against is not None:
        raise UserError("--evaluation and --against go with --budget. Give --budget N.")
    given = {"top": top, "threshold": threshold}
    single.rank(RunDirectory(run), {key: value for key, value in given.items() if value is not None}, _say)


@main.command()
@_RUN
def report(run: Path) -> None:
    """Write report.html of RUN, all of it on one page, as far as the scan has come."""
    from survey_scan.layout import RunDirectory
    from survey_scan.report import write

    _say(f"wrote       {write(RunDirectory(run))}")


@main.command()
@_RUN
@_JSON
def verify(run: Path, as_json: bool) -> None:
    """Read all of RUN again: digests, checksums, ids row by row, the ranking."""
    from survey_scan.layout import RunDirectory
    from survey_scan.views import report
    from survey_scan.views import verify as verifying

    found = verifying.verify(RunDirectory(run))
    _print(found, as_json, report.verified)
    if not found["ok"]:
        sys.exit(3)


@main.command()
@click.argument("name", required=False)
def surveys(name: str | None) -> None:
    """List the surveys a configuration can name, or print the preset of one."""
    from survey_scan.views import presets

    presets.show("survey", name, _say)


@main.command()
@click.argument("name", required=False)
def papers(name: str | None) -> None:
    """List the papers whose cuts a configuration can name, or print those of one."""
    from survey_scan.views import presets

    presets.show("paper", name, _say)


@main.command()
@click.argument("scores", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path), required=False, metavar="[SCORES2]")
@click.option("--labels", type=click.Path(path_type=Path), required=True, metavar="FILE", help="What the objects are.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("evaluation"), show_default=True, metavar="FOLDER")
@click.option("--prior", type=float, default=1e-4, show_default=True, help="Fraction of lenses in a survey.")
@click.option("--budget", default="1000,5000,20000", show_default=True, metavar="N,N,...", help="To inspect.")
@click.option("--fpr", type=float, default=0.01, show_default=True, help="Of the completeness map and the kinds.")
@click.option("--column", "columns", multiple=True, metavar="NAME", help="Of the scores; once for each SCORES.")
@click.option("--markdown", type=click.Path(path_type=Path), metavar="FILE", help="Write the completeness map there.")
@_JSON
def evaluate(scores: Path, second: Path | None, as_json: bool, **options: Any) -> None:
    """Compare SCORES (a run directory or a table) with labels; or two models on the same objects."""
    from survey_scan.evaluation import command

    paths = [scores] if second is None else [scores, second]
    found = command.run(paths, say=_silent if as_json else _say, **options)
    if as_json:
        click.echo(json.dumps(found, indent=1))


@main.command()
@_CONFIG
@_SET
@_PROFILE
@_SCHEDULER
def simulate(config: Path, settings: tuple[str, ...], profile: str | None, scheduler: str | None) -> None:
    """Draw the training set of CONFIG: simulated lenses and what is mistaken for them, or resume it."""
    from survey_scan.engine import simulate as simulating
    from survey_scan.simulation.config import load

    simulating.run(load(config, settings), config, profile, scheduler, _say)


@main.command()
@_RUN
@click.option("--grader", metavar="NAME", help="Who grades; the login name if not given.")
@click.option("--scheme", type=click.Choice(["0-3", "ABC"]), default="0-3", show_default=True, help="Of the grades.")
@click.option("--blind", is_flag=True, help="In an order of the grader's own, rank and logit hidden.")
@click.option("--repeats", type=float, default=0.0, metavar="SHARE", help="Show this share a second time, unmarked.")
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N candidates.")
@click.option("--port", type=click.IntRange(0, 65535), default=0, metavar="N", help="Instead of any free one.")
@click.option("--summary", is_flag=True, help="Put the grades of all graders together instead, and write them.")
@click.option(
    "--letters", type=click.Choice(["holismokes", "gonzalez", "huang"]), help="With --summary: whose means make an A."
)
def grade(run: Path, summary: bool, letters: str | None, **options: Any) -> None:
    """Open a page on this machine to grade the candidates of RUN by eye."""
    from survey_scan.grading import command
    from survey_scan.layout import RunDirectory

    if summary:
        from survey_scan.grading import results

        results.run(RunDirectory(run), letters, _say)
        return
    command.run(RunDirectory(run), command.Options(**options), _say)


@main.command()
@_CONFIG
@_SET
def train(config: Path, settings: tuple[str, ...]) -> None:
    """Train the network of CONFIG on labelled cutouts, or resume it, and pack it with its contract."""
    from survey_scan.engine import train as training
    from survey_scan.training.config import load

    training.run(load(config, settings), config, _say)


@main.command()
@_RUN
@click.option("--by", multiple=True, metavar="COLUMN", help="Also by this column of the targets, such as release.")
def drift(run: Path, by: tuple[str, ...]) -> None:
    """Say where in RUN scores are distributed otherwise than elsewhere: by tile, by seeing."""
    from survey_scan.layout import RunDirectory
    from survey_scan.views import drift as view

    view.show(view.drift(RunDirectory(run), by), _say)


@main.command()
@_RUN
@click.option("--lenses", type=click.Path(path_type=Path), metavar="FILE", help="Instead of the package lenscat.")
@click.option("--training", type=click.Path(path_type=Path), metavar="FILE", help="What the network was trained on.")
@click.option("--radius", type=click.FloatRange(min=0, min_open=True), default=3.0, show_default=True, help="Arcsec.")
def known(run: Path, lenses: Path | None, training: Path | None, radius: float) -> None:
    """Say how many of the known lenses among the targets of RUN are candidates, by grade."""
    from survey_scan.layout import RunDirectory
    from survey_scan.views import known as view

    view.show(RunDirectory(run), lenses, training, radius, _say)


@main.command()
@_RUN
@click.option(
    "--format",
    "form",
    required=True,
    type=click.Choice(["fits", "votable", "csv", "ecsv", "ds9", "cutouts", "zooniverse"]),
)
@click.option("--top", type=click.IntRange(min=1), metavar="N", help="Only the first N candidates.")
@click.option("--ids", metavar="ID,ID,...|FILE", help="Only these candidates.")
@click.option("--out", type=click.Path(path_type=Path), metavar="PATH", help="Instead of RUN/export; must not exist.")
@click.option(
    "--training", type=click.Path(path_type=Path), metavar="FOLDER", help="Of simulate: mixed into zooniverse."
)
@click.option("--share", type=float, metavar="F", help="Of these among all subjects; 0.1 if not given.")
def export(run: Path, **options: Any) -> None:
    """Write the candidates of RUN for other programs."""
    from survey_scan.export import command
    from survey_scan.layout import RunDirectory

    command.run(RunDirectory(run), command.Options(**options), _say)


@main.group()
def model() -> None:
    """Show, check, pack and try networks with their contracts (model.yaml)."""


@model.command("show")
@_MODEL
def model_show(path: Path) -> None:
    """Say what the network PATH is, and what its contract says."""
    from survey_scan.views import model

    model.show(path, _say)


@model.command("check")
@_MODEL
def model_check(path: Path) -> None:
    """Load PATH, try it on noise, and compare it with its parity cutouts."""
    from survey_scan.views import model

    model.check(path, _say)


@model.command("pack")
@click.argument("network", type=click.Path(path_type=Path))
@click.option("--contract", type=click.Path(path_type=Path), required=True, metavar="FILE", help="Its model.yaml.")
@click.option("--cutouts", type=click.Path(path_type=Path), required=True, metavar="RUN|STORE", help="For parity.")
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FOLDER", help="Must not exist.")
def model_pack(network: Path, contract: Path, cutouts: Path, out: Path) -> None:
    """Make a package of NETWORK: the file, its contract, and cutouts with the logits it gives them."""
    from survey_scan.views import model

    model.pack(network, contract, cutouts, out, _say)


@model.command("score")
@_MODEL
@click.argument("cutouts", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, metavar="FILE", help="The score table, Parquet.")
@click.option("--views", type=click.Choice(["1", "4", "8"]), default="1", help="Mirrored views to take the mean of.")
def model_score(path: Path, cutouts: Path, out: Path, views: str) -> None:
    """Score CUTOUTS (of a run, a training set, or a store) with the network PATH, here and without a scan."""
    from survey_scan.views import model

    model.score(path, cutouts, out, int(views), _say)


def _run(config: Path, settings: tuple[str, ...], as_json: bool, calibrate: bool = False, **options: Any) -> None:
    from survey_scan.config_file import load, told
    from survey_scan.engine import calibration, pipeline
    from survey_scan.views import overview

    wanted, loaded = pipeline.Options(**options, say=_silent if as_json else _say), load(config, settings)
    try:
        directory = pipeline.run(loaded, config, wanted)
    except SelectionProblems as error:
        raise SelectionError(told(error, config, settings)) from None
    projected = calibration.project(loaded, wanted, wanted.say) if calibrate else None
    if as_json:
        more = {"projection": asdict(projected)} if projected is not None else {}
        click.echo(json.dumps(overview.status(directory) | more, indent=1))


def _print(found: dict[str, Any], as_json: bool, show: Any) -> None:
    if as_json:
        click.echo(json.dumps(found, indent=1))
    else:
        show(found, _say)


def _say(line: str) -> None:
    click.echo(line)


def _silent(line: str) -> None:
    pass
