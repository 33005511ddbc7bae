"""What several graders found together: means, letters, and how far they agree. Pure functions of tables of grades."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from survey_scan.grading.schemes import Letters

#: Graders from whom on the lowest and the highest grade of an object can be dropped (González et al. 2025 have seven).
TRIM_FROM = 5


def summary(grades: pd.DataFrame, letters: Letters) -> pd.DataFrame:
    """One row an object that anybody graded.

    Parameters
    ----------
    grades : DataFrame
        Objects × graders: the value of the last grade, NaN where there is none.
    letters : Letters
        Convention of the letters.

    Returns
    -------
    DataFrame
        ``grade_mean``, which is ``trimmed_mean`` where the convention has one and there are graders enough, else ``mean``;
        ``grade``, its letter; ``n_graders``, ``mean``, ``trimmed_mean`` (NaN below five graders), ``std`` (of the sample, NaN
        of one grader).
    """
    graded = grades[grades.notna().any(axis=1)]
    values = graded.to_numpy(float)
    n = np.isfinite(values).sum(axis=1)
    total = np.nansum(values, axis=1)
    mean = total / np.maximum(n, 1)
    lowest = np.where(np.isfinite(values), values, np.inf).min(axis=1, initial=np.inf)
    highest = np.where(np.isfinite(values), values, -np.inf).max(axis=1, initial=-np.inf)
    enough = n >= TRIM_FROM
    trimmed = np.full(len(n), np.nan)
    trimmed[enough] = (total - lowest - highest)[enough] / (n[enough] - 2)
    squares = np.nansum((values - mean[:, None]) ** 2, axis=1)
    std = np.full(len(n), np.nan)
    std[n > 1] = np.sqrt(squares[n > 1] / (n[n > 1] - 1))
    counted = np.where(enough & letters.trimmed, trimmed, mean)
    return pd.DataFrame(
        {
            "grade_mean": counted,
            "grade": pd.Series([letters.letter(float(value)) for value in counted], graded.index, dtype=str),
            "n_graders": n.astype(np.int16),
            "mean": mean,
            "trimmed_mean": trimmed,
            "std": std,
        },
        index=graded.index,
    )


def counts(grades: pd.DataFrame, values: Sequence[int]) -> pd.DataFrame:
    """How often each grader gave each grade: graders × values."""
    table = {value: (grades == value).sum(axis=0) for value in values}
    return pd.DataFrame(table, index=grades.columns)


def kappa(first: ArrayLike, second: ArrayLike, values: Sequence[int]) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968, Psychol. Bull. 70, 213).

    Parameters
    ----------
    first, second : array_like, shape (n,)
        Values given by two graders, or by one twice; pairs in which one is NaN are left out.
    values : sequence of int
        All values there are, evenly spaced.

    Returns
    -------
    float
        1 is full agreement, 0 what chance gives; NaN without a pair, or if both always gave the same one value.
    """
    a, b = np.asarray(first, float), np.asarray(second, float)
    both = np.isfinite(a) & np.isfinite(b)
    a, b = a[both], b[both]
    if not len(a):
        return float("nan")
    steps = np.asarray(sorted(values), float)
    weights = (steps[:, None] - steps[None, :]) ** 2
    shares_a = (a[:, None] == steps).mean(axis=0)
    shares_b = (b[:, None] == steps).mean(axis=0)
    by_chance = float((weights * np.outer(shares_a, shares_b)).sum())
    return 1 - float(((a - b) ** 2).mean()) / by_chance if by_chance > 0 else float("nan")
