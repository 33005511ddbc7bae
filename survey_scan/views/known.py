"""Known lenses and training sets from tables, and how many of them a run found."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

from survey_scan.errors import RunError, UserError
from survey_scan.evaluation.files import find, has, names, read
from survey_scan.layout import RunDirectory
from survey_scan.ranking import known as knowing
from survey_scan.views import parts

#: Names that columns have in tables of lenses, in the order they are looked for.
NAMES, GRADES = ("name", "object_id", "id"), ("grade", "grading")


def read_known(path: Path | None) -> pd.DataFrame:
    """Known lenses: ``name``, ``ra``, ``dec``, ``grade``.

    Parameters
    ----------
    path : Path or None
        A Parquet, CSV or FITS table with ``ra`` and ``dec`` (degrees), and, if it has them, ``name`` (or ``object_id``, ``id``) and
        ``grade`` (or ``grading``), in capitals or not; None for the package lenscat.

    Raises
    ------
    UserError
        If it cannot be read or lacks its positions, or lenscat is not installed.
    """
    if path is None:
        return knowing.lenscat()
    columns = names(path, "known lenses")
    wanted = {own: find(own, columns, path, "known lenses") for own in ("ra", "dec")}
    for own, others in (("name", NAMES), ("grade", GRADES)):
        if found := next((name for other in others if (name := has(other, columns))), None):
            wanted[own] = found
    table = _positions(read(path, wanted, "known lenses"), path, "known lenses")
    return table if "name" in table else table.assign(name=[f"{path.stem} {i}" for i in range(1, len(table) + 1)])


def read_training(path: Path) -> pd.DataFrame:
    """What a network was trained on: those of ``ra``, ``dec``, ``object_id`` that a table, or a folder of its Parquet parts, has.

    Raises
    ------
    UserError
        If it cannot be read, or has neither positions nor ids.
    """
    columns = names(path, "training set")
    wanted = {own: name for own in ("ra", "dec", "object_id") if (name := has(own, columns))}
    if not {"ra", "dec"} <= set(wanted) and "object_id" not in wanted:
        raise UserError(f"training set: {path} has neither 'ra' and 'dec' nor 'object_id'. Give it one of these.")
    return _positions(read(path, wanted, "training set"), path, "training set")


def recall(
    run: RunDirectory, lenses: pd.DataFrame, training: pd.DataFrame | None = None, radius: float = knowing.RADIUS
) -> pd.DataFrame:
    """How many of the known lenses among a run's targets are candidates, by grade, in two passes over the scores.

    Parameters
    ----------
    run : RunDirectory
        Scored and ranked.
    lenses, training : DataFrame
        From :func:`read_known`, :func:`read_training`.
    radius : float
        Arcseconds.

    Returns
    -------
    DataFrame
        As of :func:`survey_scan.ranking.known.recall`.

    Raises
    ------
    RunError
        If scores or candidates are missing.
    """
    if not run.candidates_parquet.exists():
        raise RunError(f"{run} has no candidates yet. Run 'survey_scan run' again with its config.")
    found = knowing.among_targets(lenses, parts.scored(run, ["ra", "dec"]), radius)
    found["rank"] = knowing.ranks(found["logit"], (part["logit"] for part in parts.scored(run)))
    if training is not None:
        found["in_training"] = knowing.in_training(found, training, radius)
    return knowing.recall(found, pd.read_parquet(run.candidates_parquet, columns=["object_id"])["object_id"])


def show(
    run: RunDirectory, lenses: Path | None, training: Path | None, radius: float, say: Callable[[str], None]
) -> None:
    """Print how many of the known lenses among the targets are candidates."""
    table = read_known(lenses)
    seen = None if training is None else read_training(training)
    say(f"known       {len(table):,} lenses in {lenses or 'lenscat'}, matched within {radius:g} arcsec")
    for line in knowing.sentences(recall(run, table, seen, radius)):
        say(f"recall      {line}")


def _positions(table: pd.DataFrame, path: Path, what: str) -> pd.DataFrame:
    """With positions as float64, if they are numbers."""
    for name in [name for name in ("ra", "dec") if name in table]:
        if not pd.api.types.is_numeric_dtype(table[name]) and table[name].notna().any():
            raise UserError(f"{what}: column '{name}' of {path} holds texts; it must be in degrees, such as 187.70593.")
        table[name] = table[name].to_numpy(np.float64, na_value=np.nan)
    return table
