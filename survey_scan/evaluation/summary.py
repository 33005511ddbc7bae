"""All that is said of one model or two, as the content of evaluation.json (docs/evaluation.md describes it)."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np

from survey_scan.evaluation import calibration, comparison, completeness, curve, kinds, metrics, purity
from survey_scan.evaluation.intervals import most
from survey_scan.evaluation.sample import Account, Sample

#: Raised when the meaning of what stands in evaluation.json changes.
FORMAT = 1

#: False-positive rates at which completeness is given.
FPRS = (1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Settings:
    """What an evaluation is asked for.

    Parameters
    ----------
    prior : float
        Fraction of lenses among a survey's targets.
    budgets : tuple of int
        Candidates that can be inspected, rising.
    fpr : float
        False-positive rate of the completeness map and of the kinds.
    scan : int
        Targets of the scan that rates are translated into.
    """

    prior: float = 1e-4
    budgets: tuple[int, ...] = (1000, 5000, 20000)
    fpr: float = 0.01
    scan: int = purity.SCAN


def summarise(
    models: Sequence[tuple[str, str]],
    labels: tuple[str, str],
    matched: Sequence[tuple[Sample, Account]],
    settings: Settings,
) -> dict[str, Any]:
    """Evaluate one model, or two and their difference.

    Parameters
    ----------
    models : sequence of (str, str)
        Path and column of each model's scores.
    labels : (str, str)
        Path and column of the labels.
    matched : sequence of (Sample, Account)
        Of the same objects in the same order.
    settings : Settings
        What is asked for.

    Returns
    -------
    dict
        Nothing but dict, list, str, int, float, bool and None; what is not finite is None.
    """
    samples = [sample for sample, _ in matched]
    found: dict[str, Any] = {
        "format": FORMAT,
        "settings": settings,
        "labels": dict(zip(("path", "column"), labels, strict=True)),
        "models": [
            {"scores": {"path": path, "column": column}, **_model(sample, account, settings)}
            for (path, column), (sample, account) in zip(models, matched, strict=True)
        ],
        "comparison": _compared(samples[0], samples[1], settings) if len(samples) == 2 else None,
    }
    plain: dict[str, Any] = _plain(found)
    return plain


def _model(sample: Sample, account: Account, settings: Settings) -> dict[str, Any]:
    points = curve.curve(sample)
    none, ten = curve.with_at_most(points, 0), curve.with_at_most(points, 9)
    here = curve.at_fpr(points, settings.fpr)
    drawn = curve.thinned(points)
    others = int(points.false[-1])  # with a score: the others could not have been found
    limit = most(0, others)
    rates = sorted({*FPRS, settings.fpr})
    return {
        "objects": account,
        "ties": curve.ties(points),
        "auc": metrics.area(sample),
        "average_precision": {
            "sample": metrics.average_precision(points),
            "prior": metrics.average_precision(points, settings.prior),
        },
        "tpr0": {
            "point": none,
            "purity": purity.at_prior(none, settings.prior),
            "others": others,
            "fpr_limit": limit,
            "false_in_scan": limit * settings.scan,
        },
        "tpr10": {"point": ten, "purity": purity.at_prior(ten, settings.prior)},
        "at_fpr": [_at_fpr(points, rate, settings) for rate in rates],
        "budgets": {
            "sample": [purity.in_sample(points, n) for n in settings.budgets],
            "scan": [purity.in_scan(points, n, settings.prior, settings.scan) for n in settings.budgets],
        },
        "completeness": {"fpr": settings.fpr, "point": here, "map": completeness.completeness(sample, here)},
        "calibration": calibration.calibration(sample, settings.prior),
        "kinds": kinds.by_kind(sample, here),
        "curve": {
            "threshold": points.threshold[drawn],
            "true": points.true[drawn],
            "false": points.false[drawn],
            "lenses": points.lenses,
            "others": points.others,
        },
    }


def _at_fpr(points: curve.Curve, rate: float, settings: Settings) -> dict[str, Any]:
    at = curve.at_fpr(points, rate)
    return {
        "fpr": rate,
        "allowed": curve.allowed(rate, points.others),
        "point": at,
        "purity": purity.at_prior(at, settings.prior),
        "false_in_scan": at.fpr * (1 - settings.prior) * settings.scan,
    }


def _compared(first: Sample, second: Sample, settings: Settings) -> dict[str, Any]:
    rates = sorted({*FPRS, settings.fpr})
    return {
        "auc": comparison.auc_difference(first, second),
        "at_fpr": [comparison.at_fpr(first, second, rate) for rate in rates],
        "top": [
            comparison.top(first, second, n) for n in comparison.budgets_that_tell(settings.budgets, first, second)
        ],
    }


def _plain(value: Any) -> Any:
    """The same in the types of JSON."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value
