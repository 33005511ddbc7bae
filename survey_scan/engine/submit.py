"""``survey_scan submit``: write the batch script of a scan, print it, give it to Slurm; or only say what it would do."""

import shlex
import sys
from collections.abc import Callable
from pathlib import Path

from pydantic import ValidationError

from survey_scan import records
from survey_scan.cluster import batch, profile, slurm
from survey_scan.config import Config
from survey_scan.engine import forecast, lock
from survey_scan.errors import ResourceError, RunError
from survey_scan.layout import RunDirectory

Say = Callable[[str], None]


def submit(
    config: Config,
    config_path: Path,
    settings: tuple[str, ...],
    name: str,
    nodes: int | None,
    time: str | None,
    account: str | None,
    dry_run: bool,
    targets: int | None,
    rates: Path | None,
    say: Say,
) -> None:
    """Submit a scan as a batch job that requeues itself until the scan is complete.

    Parameters
    ----------
    config, config_path, settings
        The configuration, its file, and what ``--set`` changed in it.
    name : str
        The profile, of kind slurm-allocation and with a section ``batch``.
    nodes, time, account : int or None, str or None, str or None
        In place of the profile's.
    dry_run : bool
        Print the script and what to expect; submit nothing.
    targets : int or None
        To be expected, in place of the plan's.
    rates : Path or None
        A run whose records say how fast this machine is, in place of this one.
    say : callable
        Prints a line.

    Raises
    ------
    ResourceError
        If the profile is not for this, or Slurm refuses.
    RunError
        If the run is in use.
    """
    chosen = profile.load(name)
    if not isinstance(chosen, profile.SlurmAllocation) or chosen.batch is None:
        raise ResourceError(
            f"profile {name} has no section 'batch' (or is not of kind slurm-allocation): it says nothing of a job to submit. "
            "Copy perlmutter-regular or generic-slurm, and fill in what your site asks for."
        )
    run = RunDirectory(config.run.path)
    given = {"nodes": nodes, "time": time, "account": account}
    changed = {key: value for key, value in given.items() if value is not None}
    try:
        wanted = profile.Batch.model_validate({**chosen.batch.model_dump(), **changed})
    except ValidationError:
        raise ResourceError(f"--time {time}: give minutes, H:MM:SS or D-HH:MM:SS, as Slurm takes them.") from None
    if chosen.nodes and chosen.nodes > wanted.nodes:
        raise ResourceError(
            f"the profile uses {chosen.nodes} nodes, but the job would have {wanted.nodes}. "
            "Raise --nodes, or lower 'nodes' in the profile."
        )
    named = name if name in profile.names() else str(Path(name).absolute())
    words = ["run", str(config_path.absolute()), "--profile", named]
    for setting in settings:
        words += ["--set", setting]
    log = run.logs.absolute() / "slurm-%j.out"
    # A site's own python may come with the setup lines; without any, the one that runs this is meant.
    python = "python" if wanted.setup else sys.executable
    script = batch.script(wanted, config.run.name, words, python, str(log))
    if dry_run:
        say(script.rstrip())
        say("")
        for line in forecast.lines(config, chosen, wanted, targets, rates):
            say(line)
        return
    if driver := lock.holder(run):
        raise RunError(
            f"{run} is in use by {lock.describe(driver)}. Wait until it ends; it would be in the way of the job."
        )
    run.logs.mkdir(parents=True, exist_ok=True)
    records.write_atomically(run.batch_script, script.encode())
    say(script.rstrip())
    say("")
    number = slurm.command("sbatch", "--parsable", str(run.batch_script)).strip().split(";")[0]
    say(f"submitted   job {number} ({run.batch_script})")
    say(f"log         {str(log).replace('%j', number)}")
    say(f"watch       survey_scan status {shlex.quote(str(run))} --watch")
    warn = f"scancel -s USR1{' --batch' if wanted.driver == 'exec' else ''} {number}"
    say(f"stop        scancel {number} ends it; {warn} lets it finish what it has begun, requeue and resume")
