"""Labels and scores of the same objects, and what became of those that have only one of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.errors import UserError
from survey_scan.evaluation.tables import Labels, Scores
from survey_scan.schema import Status

#: What a target without a score lacks it for, if its status does not say.
NO_NUMBER = "no score in the table"


@dataclass(frozen=True)
class Sample:
    """One model's scores of labelled objects.

    Parameters
    ----------
    object_id : ndarray
        (n,) integers or objects (str), each once.
    is_lens : ndarray
        (n,) bool; both classes are there.
    logit : ndarray
        (n,) float64; -inf where the object has no score, below every score, so that no threshold finds it.
    theta_e, arc_snr : ndarray or None
        (n,) float64, arcsec and dimensionless; NaN where not known, None if the labels have no such column.
    kind : ndarray or None
        (n,) objects (str), likewise.
    """

    object_id: NDArray[Any]
    is_lens: NDArray[np.bool_]
    logit: NDArray[np.float64]
    theta_e: NDArray[np.float64] | None = None
    arc_snr: NDArray[np.float64] | None = None
    kind: NDArray[Any] | None = None

    @property
    def scored(self) -> NDArray[np.bool_]:
        """Which objects have a score."""
        return self.logit > -np.inf


@dataclass(frozen=True)
class Account:
    """Every labelled object, and every score: in the sample, or why not. Pairs are (lenses, non-lenses).

    Parameters
    ----------
    scores : int
        Rows of the score table.
    unlabelled : int
        Those of them without a label; they say nothing here.
    labelled : (int, int)
        Objects of the label table.
    without_row : (int, int)
        Those of them that a score table does not hold: not targets of the scan. They are left out.
    in_sample : (int, int)
        The others: ``labelled - without_row``.
    without_score : dict
        Reason → how many of the sample have a row but no score. They count as not found.
    """

    scores: int
    unlabelled: int
    labelled: tuple[int, int]
    without_row: tuple[int, int]
    in_sample: tuple[int, int]
    without_score: dict[str, tuple[int, int]] = field(default_factory=dict)


def match(scores: Sequence[Scores], labels: Labels) -> list[tuple[Sample, Account]]:
    """Put labels to scores.

    Parameters
    ----------
    scores : sequence of Scores
        One table a model. The samples hold the same objects in the same order: those all of the tables have a row for.
    labels : Labels
        What the objects are.

    Returns
    -------
    list of (Sample, Account)
        One pair a model.

    Raises
    ------
    UserError
        If no object is in all tables, or those that are, or those with a score, are of one class.
    """
    rows = [_rows(model.table["object_id"], labels.table["object_id"]) for model in scores]
    for model, found in zip(scores, rows, strict=True):
        if not (found >= 0).any():
            raise UserError(
                f"none of the {len(labels.table):,} object_ids of {labels.path} is in {model.path}: "
                f"{_example(labels.table)} in the labels, {_example(model.table)} in the scores. "
                "Name labels of the objects that were scored."
            )
    both = np.logical_and.reduce([found >= 0 for found in rows])
    table = labels.table[both]
    is_lens = table["is_lens"].to_numpy(bool)
    paths = " and ".join(model.path for model in scores)
    if not is_lens.any() or is_lens.all():
        lenses, others = _classes(is_lens)
        raise UserError(
            f"of the objects of {labels.path}, {lenses:,} lenses and {others:,} non-lenses have a row in {paths}. "
            "An evaluation needs both: label more of the objects that were scored."
        )
    return [_matched(model, found, both, labels) for model, found in zip(scores, rows, strict=True)]


def _matched(model: Scores, found: NDArray[np.intp], both: NDArray[np.bool_], labels: Labels) -> tuple[Sample, Account]:
    table, rows = labels.table[both], found[both]
    is_lens = table["is_lens"].to_numpy(bool)
    logit = model.table["logit"].to_numpy()[rows]
    status = model.table["status"].to_numpy()[rows]
    scored = (status == Status.OK) & ~np.isnan(logit)
    if not scored[is_lens].any() or not scored[~is_lens].any():
        which = "lens" if scored[~is_lens].any() else "non-lens"
        raise UserError(
            f"no labelled {which} has a score in {model.path}, though {len(rows):,} labelled objects have a row. "
            "See its status."
        )
    reasons: dict[str, tuple[int, int]] = {}
    for code in np.unique(status[~scored]):
        at = ~scored & (status == code)
        reasons[_reason(int(code))] = _classes(is_lens[at])
    everything = labels.table["is_lens"].to_numpy(bool)
    account = Account(
        scores=len(model.table),
        unlabelled=len(model.table) - int((found >= 0).sum()),
        labelled=_classes(everything),
        without_row=_classes(everything[~both]),
        in_sample=_classes(is_lens),
        without_score=reasons,
    )
    optional = {own: table[name].to_numpy() for own, name in _OPTIONAL.items() if name in table}
    return Sample(table["object_id"].to_numpy(), is_lens, np.where(scored, logit, -np.inf), **optional), account


_OPTIONAL = {"theta_e": "theta_E", "arc_snr": "arc_snr", "kind": "kind"}


def _rows(have: pd.Series, want: pd.Series) -> NDArray[np.intp]:
    """Where each wanted identifier stands, -1 if nowhere; numbers and texts are compared as texts."""
    if have.dtype != want.dtype:
        have, want = have.astype(str), want.astype(str)
    return np.asarray(pd.Index(have).get_indexer(pd.Index(want)), np.intp)


def _classes(is_lens: NDArray[np.bool_]) -> tuple[int, int]:
    lenses = int(is_lens.sum())
    return lenses, len(is_lens) - lenses


def _reason(code: int) -> str:
    if code == Status.OK:
        return NO_NUMBER
    return Status(code).reason if code in set(Status) else f"status {code}"


def _example(table: pd.DataFrame) -> str:
    return str(table["object_id"].iloc[0])
