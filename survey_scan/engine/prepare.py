"""Open a run directory for writing: make it, or see that it belongs to this configuration."""

import importlib.metadata
import platform
import shutil
import socket
import sys
import time
from pathlib import Path
from typing import Any

from survey_scan import __version__, records
from survey_scan.config import Config
from survey_scan.config_file import dump, load
from survey_scan.engine import state
from survey_scan.errors import RunError
from survey_scan.layout import STAGES, RunDirectory

#: Stages that can be asked for again, in their order; each takes those after it along.
REDO = ("plan", "cutouts", "scores", "rank")

README = """\
A run of survey_scan: targets cut out of a survey's images, scored by a network, ranked.

  candidates.parquet, .fits   the ranked candidates (pandas, astropy, TOPCAT)
  failures.csv                every selected target without a score, and why
  report.html                 all of the scan on one page
  drift.csv                   how the scores of each tile are distributed
  plan/cut_flow.csv           how many objects each cut removed
  targets/, scores/           one parquet file a partition; row i of all targets is row i of cutouts.zarr
  cutouts.zarr                image (target, y, x, band), y up the array as stored in the survey's files
  records/                    one file a finished partition; the scan resumes from these
  config.resolved.yaml        the configuration with all defaults

    import numpy, pandas, xarray
    candidates = pandas.read_parquet("candidates.parquet")
    scores = pandas.read_parquet("scores")
    cutouts = xarray.open_zarr("cutouts.zarr", consolidated=False, mask_and_scale=False)
    cutouts.image[int(numpy.flatnonzero(cutouts.object_id == candidates.object_id[0])[0])]
"""

_PACKAGES = ("astropy", "dask", "distributed", "fitsio", "keras", "numpy", "pandas", "pyarrow", "tensorflow", "zarr")


def open_run(config: Config, config_path: Path, redo: str | None, limit: int | None) -> RunDirectory:
    """Make or open the run directory of a configuration; its lock must be held.

    Parameters
    ----------
    config : Config
        What to run.
    config_path : Path
        The file it came from, kept as given.
    redo : str or None
        The first stage whose results are thrown away.
    limit : int or None
        Only so many targets are planned.

    Raises
    ------
    RunError
        If the directory is not ours, is of a newer format, or was planned with another configuration.
    """
    run = RunDirectory(config.run.path)
    if run.manifest.exists():
        manifest = state.read_manifest(run)
        if redo != "plan":
            _same_plan(run, config, manifest, redo, limit)
    elif strangers := [p.name for p in sorted(run.path.iterdir()) if p not in (run.lock, run.logs, run.batch_script)]:
        raise RunError(
            f"{run} exists and is no run directory: it holds {', '.join(strangers[:3])}. Choose another run.name."
        )
    else:
        redo = None
    # Old results go before the new configuration comes: a kill in between leaves a run that still says what it lacks.
    _throw_away(run, redo)
    _sweep(run)
    write_manifest(run, {"state": "incomplete", "limit": limit})
    records.write_atomically(run.readme, _readme(config).encode())
    records.write_atomically(run.config_given, config_path.read_bytes())
    write_config(run, config)
    return run


def _readme(config: Config) -> str:
    """What a run's README.txt says, which depends on the pixels it keeps."""
    if config.cutouts.store == "none":
        text = README.replace("; row i of all targets is row i of cutouts.zarr", "; this run keeps no cutouts")
        return "".join(
            line
            for line in text.splitlines(keepends=True)
            if "cutouts.zarr" not in line and "cutouts.image" not in line
        )
    if config.cutouts.store == "candidates":
        return README.replace(
            "in the survey's files\n", "in the survey's files;\n" + " " * 30 + "only where kept is true\n"
        )
    return README


def write_config(run: RunDirectory, config: Config) -> None:
    """Write config.resolved.yaml: the only configuration tasks and later commands read."""
    header = (
        f"All settings of this run, defaults included (survey_scan {__version__}). Edit your own file, not this one."
    )
    records.write_atomically(run.config_resolved, dump(config, header).encode())


def write_manifest(run: RunDirectory, facts: dict[str, Any]) -> None:
    """Write manifest.json: ``facts`` over what it holds already, and who wrote it."""
    before: dict[str, Any] = state.read_manifest(run) if run.manifest.exists() else {}
    now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
    manifest = {
        **before,
        "format_version": state.FORMAT_VERSION,
        "survey_scan": __version__,
        "created": before.get("created", now),
        "changed": now,
        "host": socket.gethostname(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "command": sys.argv[1:],
        **facts,
    }
    records.write_json(run.manifest, manifest)


def _same_plan(
    run: RunDirectory, config: Config, manifest: dict[str, Any], redo: str | None, limit: int | None
) -> None:
    if not run.partitions.exists() or not run.config_resolved.exists():
        return
    found = state.differences(load(run.config_resolved), config)
    if manifest.get("limit") != limit:
        before, now = (f"--limit {n}" if n else "no --limit" for n in (manifest.get("limit"), limit))
        found["plan"].append(f"{before}; now there is {now}")
    if found["plan"]:
        raise RunError(f"{run} was planned with {_list(found['plan'])}. Use a new run.name, or --redo plan.")
    if found["cutouts"] and redo != "cutouts":
        raise RunError(f"{run} was planned with {_list(found['cutouts'])}. Use a new run.name, or --redo cutouts.")


def _throw_away(run: RunDirectory, redo: str | None) -> None:
    """Remove what ``--redo`` names; the records first, so that a kill leaves nothing that claims to be finished."""
    if redo is None:
        return
    later = REDO[REDO.index(redo) :]
    run.ranking_record.unlink(missing_ok=True)
    for stage in STAGES:
        if stage in later:
            shutil.rmtree(run.records_folder / stage, ignore_errors=True)
    if "plan" in later:
        run.partitions.unlink(missing_ok=True)
        for folder in (run.plan, run.targets_folder, run.scores_folder):
            shutil.rmtree(folder, ignore_errors=True)
    if "cutouts" in later:
        shutil.rmtree(run.store, ignore_errors=True)
        shutil.rmtree(run.downloads_folder, ignore_errors=True)


def _sweep(run: RunDirectory) -> None:
    """Remove what a kill left half written; it stands under temporary names and was never part of the run."""
    folders = (
        run.path,
        run.plan,
        run.targets_folder,
        run.scores_folder,
        *(run.records_folder / s for s in STAGES),
    )
    for folder in folders:
        for partial in folder.glob(".*.partial"):
            partial.unlink(missing_ok=True)
    for downloads in run.downloads_folder.glob("[0-9]*"):
        if run.record("cutouts", int(downloads.name)).exists():
            shutil.rmtree(downloads, ignore_errors=True)


def _list(items: list[str]) -> str:
    shown = items[:5] + ([f"and {len(items) - 5} more"] if len(items) > 5 else [])
    return "; ".join(shown)


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None
