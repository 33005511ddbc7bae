"""A budget, not a threshold: what it means to inspect the best N of a scan.

A threshold means nothing outside its network; a number of candidates that people can look at means the same in every search.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: False-positive rates at which the recovery is given: 1, 0.1 and 0.01 %.
FPRS = (1e-2, 1e-3, 1e-4)

#: Where the candidates there are, and those that an evaluation expects, differ more than so many times, it is of another sky.
STRANGE = 3.0


@dataclass(frozen=True)
class Budget:
    """The best N of a scan.

    Parameters
    ----------
    asked : int
        N.
    inspected : int
        N, or all targets with a score if those are fewer.
    scored : int
        Targets with a score.
    logit : float or None
        The lowest of the best N; None if nothing has a score.
    ties : int
        Targets with just that logit that are not among them.
    """

    asked: int
    inspected: int
    scored: int
    logit: float | None
    ties: int


@dataclass(frozen=True)
class Expected:
    """What an evaluation lets expect among the targets of a scan at or above a logit.

    Parameters
    ----------
    prior : float
        Fraction of lenses among the targets.
    tpr, fpr : float
        Of the evaluation, at that logit.
    lenses, false : float
        Expected: ``tpr prior scored`` and ``fpr (1 - prior) scored``.
    behind : int
        Non-lenses of the evaluation at or above the logit: fewer than ten, and ``false`` is hardly known.
    """

    prior: float
    tpr: float
    fpr: float
    lenses: float
    false: float
    behind: int


@dataclass(frozen=True)
class Recovery:
    """The completeness an evaluation found at a false-positive rate, and how many of a scan's targets that takes.

    ``tpr`` is None if the evaluation does not give it, and ``logit`` if nothing is found there; ``allowed`` non-lenses of the
    evaluation are what the rate allows: fewer than ten, and it is hardly known.
    """

    fpr: float
    tpr: float | None
    logit: float | None
    allowed: int
    targets: int = 0


class Overlap(NamedTuple):
    """Two lists of candidates: how many ``stay``, are ``new`` and are ``gone``."""

    stay: int
    new: int
    gone: int


def budget(logits: Iterable[ArrayLike], n: int) -> Budget:
    """What logit a number of candidates means.

    Parameters
    ----------
    logits : iterable of array_like of float
        Of all targets, a partition at a time; NaN where there is no score. No more than ``n`` are kept.
    n : int
        How many can be inspected, above 0.
    """
    best, scored, ties = np.empty(0), 0, 0
    for part in logits:
        values = np.asarray(part, np.float64)
        values = values[~np.isnan(values)]
        scored += len(values)
        lowest = best.min() if len(best) == n else None
        both = np.concatenate([best, values])
        if len(both) <= n:
            best = both
            continue
        order = np.partition(both, len(both) - n)
        best, rest = order[len(both) - n :], order[: len(both) - n]
        ties = int((rest == best.min()).sum()) + (ties if lowest == best.min() else 0)
    return Budget(n, len(best), scored, float(best.min()) if len(best) else None, ties)


def above(logits: Iterable[ArrayLike], limits: Collection[float]) -> list[int]:
    """How many logits are not below each limit; NaN is below all."""
    total = np.zeros(len(limits), np.int64)
    order = np.asarray(list(limits), np.float64)
    for part in logits:
        values = np.sort(np.asarray(part, np.float64)[~np.isnan(np.asarray(part, np.float64))])
        total += len(values) - np.searchsorted(values, order, side="left")
    return [int(n) for n in total]


def expected(evaluation: Mapping[str, Any], logit: float, scored: int, prior: float) -> Expected:
    """What to expect of the targets at or above a logit.

    Parameters
    ----------
    evaluation : mapping
        One of the ``models`` of an evaluation.json: its ``curve``, whose some 400 points are taken as steps: the rates are
        those of the last point whose threshold is not below ``logit``, never more than is known.
    logit : float
        As of :func:`budget`.
    scored : int
        Targets with a score.
    prior : float
        Fraction of lenses among them.
    """
    curve = evaluation["curve"]
    threshold: NDArray[np.float64] = np.asarray(curve["threshold"], np.float64)
    i = int(np.searchsorted(-threshold, -logit, side="right")) - 1
    true, false = (int(curve["true"][i]), int(curve["false"][i])) if i >= 0 else (0, 0)
    tpr, fpr = true / curve["lenses"], false / curve["others"]
    return Expected(prior, tpr, fpr, tpr * prior * scored, fpr * (1 - prior) * scored, false)


def recovery(evaluation: Mapping[str, Any]) -> list[Recovery]:
    """What one of the ``models`` of an evaluation.json says at the rates of :data:`FPRS`; targets are not counted yet."""
    given = {f"{at['fpr']:.6g}": at for at in evaluation["at_fpr"]}
    found = []
    for rate in FPRS:
        at = given.get(f"{rate:.6g}")
        point = at["point"] if at else {"tpr": None, "threshold": None}
        found.append(Recovery(rate, point["tpr"], point["threshold"], at["allowed"] if at else 0))
    return found


def overlap(last: Collection[Any], new: Collection[Any]) -> Overlap:
    """Compare two lists of ``object_id``; a number and its text are the same."""
    before, after = set(map(str, last)), set(map(str, new))
    return Overlap(len(before & after), len(after - before), len(before - after))


def sentences(
    found: Budget, hopes: Expected | None, recovered: Collection[Recovery], lists: Overlap | None
) -> Iterator[str]:
    """What is printed.

    Parameters
    ----------
    found : Budget
        Of the scan.
    hopes : Expected or None
        Of an evaluation, if there is one.
    recovered : collection of Recovery
        Of the same.
    lists : Overlap or None
        With another list of candidates.
    """
    if found.logit is None:
        yield f"budget      {found.asked:,}: no target has a score"
        return
    score = 1 / (1 + np.exp(-found.logit))
    what = f"{found.inspected:,} of {found.scored:,} scored targets, {found.inspected / found.scored:.2%}"
    if found.inspected < found.asked:
        what = f"{found.asked:,}, but only {found.scored:,} targets have a score"
    yield f"budget      {what}: logit {found.logit:.3f} and above, score {score:.6g}"
    if found.ties:
        yield f"            {found.ties:,} more have just that logit; among equals the lower object_id comes first"
    if hopes is not None:
        yield (
            f"expected    at a prior of {hopes.prior:g}: {hopes.lenses:,.1f} lenses ({hopes.tpr:.1%} of "
            f"{hopes.prior * found.scored:,.1f}) and {hopes.false:,.0f} false positives"
        )
        if hopes.behind < 10:
            yield (
                f"            only {hopes.behind} non-lenses of the evaluation are above that logit: the false positives are "
                "hardly known"
            )
        total = hopes.lenses + hopes.false
        if hopes.behind >= 10 and not 1 / STRANGE <= found.inspected / total <= STRANGE:
            yield (
                f"            but {found.inspected:,} targets are above it where {total:,.0f} were expected: the evaluation's "
                "objects are not those of this survey"
            )
    for at in recovered:
        rate = f"recovery    at {100 * at.fpr:g} % FPR"
        few = f" (only {at.allowed} non-lenses behind it)" if at.allowed < 10 else ""
        if at.tpr is None:
            yield f"{rate}: not in the evaluation"
        elif at.logit is None:
            yield f"{rate}: nothing{few}"
        else:
            yield f"{rate}: {at.tpr:.1%}, logit {at.logit:.3f}, {at.targets:,} targets of this run{few}"
    if lists is not None:
        yield f"overlap     {lists.stay:,} stay, {lists.new:,} new, {lists.gone:,} gone"
