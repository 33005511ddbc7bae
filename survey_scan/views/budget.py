"""``survey_scan rank RUN --budget N``: what it means to inspect so many."""

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.config_file import load
from survey_scan.errors import RunError, UserError
from survey_scan.layout import RunDirectory
from survey_scan.ranking import budget, merge, top
from survey_scan.views import parts


def run(
    directory: RunDirectory, n: int, evaluation: Path | None, against: Path | None, say: Callable[[str], None]
) -> None:
    """Print what a budget means.

    Parameters
    ----------
    directory : RunDirectory
        All of whose partitions are scored.
    n : int
        How many can be inspected.
    evaluation : Path or None
        evaluation.json of ``survey_scan evaluate``, or its folder; its prior counts.
    against : Path or None
        Another run, or its candidate table, to compare with.
    say : callable
        Prints a line.

    Raises
    ------
    UserError
        If scores are missing, or a file is not what it should be.
    """
    known = None if evaluation is None else read_evaluation(evaluation)
    found = budget.budget(_logits(directory), n)
    hopes, recovered = None, []
    if known is not None and found.logit is not None:
        model, prior = known
        hopes = budget.expected(model, found.logit, found.scored, prior)
        rates = budget.recovery(model)
        limits = [np.inf if at.logit is None else at.logit for at in rates]
        counts = budget.above(_logits(directory), limits)
        recovered = [replace(at, targets=count) for at, count in zip(rates, counts, strict=True)]
    last = _last(directory, against)
    lists = None if last is None else budget.overlap(last, _best(directory, n))
    for line in budget.sentences(found, hopes, recovered, lists):
        say(line)


def read_evaluation(path: Path) -> tuple[dict[str, Any], float]:
    """The only model of an evaluation.json, and the prior it was made for.

    Raises
    ------
    UserError
        If it is no such file, or of two models.
    """
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        found = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise UserError(f"--evaluation: {file}: no such file. Make it: survey_scan evaluate") from None
    except ValueError as error:
        raise UserError(
            f"--evaluation: {file} is not readable as JSON ({error}). Make it again: survey_scan evaluate"
        ) from None
    models = found.get("models") if isinstance(found, dict) else None
    if not isinstance(models, list) or found.get("format") != 1:
        raise UserError(f"--evaluation: {file} is no evaluation of this program. Make it: survey_scan evaluate")
    if len(models) != 1:
        raise UserError(
            f"--evaluation: {file} is of {len(models)} models, and nobody knows which ranked this run. Evaluate that one alone."
        )
    return models[0], float(found["settings"]["prior"])


def _logits(run: RunDirectory) -> Iterator[NDArray[np.float64]]:
    return (part["logit"].to_numpy(np.float64) for part in parts.scored(run))


def _best(run: RunDirectory, n: int) -> list[Any]:
    """The ids of the best ``n``, by the same order as the candidates'."""
    ranking = load(run.config_resolved).ranking.model_copy(update={"top": n, "threshold": None})
    best: pd.DataFrame | None = None
    for part in parts.scored(run, ["ra", "dec"]):
        some = top(part[["object_id", "ra", "dec"]], part[["object_id", "logit", "status"]], ranking)
        best = some if best is None else merge([best, some], ranking)
    return [] if best is None else best["object_id"].tolist()


def _last(run: RunDirectory, against: Path | None) -> list[Any] | None:
    if against is None:
        return None  # ranking says how its list differs from the last
    path = RunDirectory(against).candidates_parquet if against.is_dir() else against
    if not path.exists():
        raise RunError(f"--against: {path}: no such file. Name a run that is ranked, or its candidates.parquet.")
    try:
        return pd.read_parquet(path, columns=["object_id"])["object_id"].tolist()
    except (OSError, ValueError) as error:
        raise UserError(
            f"--against: {path} is no candidate table ({error}). Name a run's candidates.parquet."
        ) from None
