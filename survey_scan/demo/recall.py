"""How many of the injected lenses a ranking finds."""

from dataclasses import dataclass

import pandas as pd


@dataclass(frozen=True, slots=True)
class Recovery:
    """Injected lenses among the best-ranked candidates.

    Attributes
    ----------
    lenses : int
        Lenses in the truth table.
    ranked : int
        How many of them the candidates table holds at any rank.
    top30, top100 : int
        How many stand in the first 30, as many as the demo has lenses, and in the first 100.
    """

    lenses: int
    ranked: int
    top30: int
    top100: int


def recovery(candidates: pd.DataFrame, truth: pd.DataFrame) -> Recovery:
    """Count the injected lenses among the best candidates.

    Parameters
    ----------
    candidates : DataFrame
        Columns object_id and rank, 1 for the best.
    truth : DataFrame
        Columns object_id and kind, which is "lens" for a lens: truth.csv of the embedded survey.

    Returns
    -------
    Recovery
    """
    lenses = truth.loc[truth["kind"] == "lens", "object_id"]
    ranks = candidates.loc[candidates["object_id"].isin(lenses), "rank"]
    return Recovery(len(lenses), len(ranks), int((ranks <= 30).sum()), int((ranks <= 100).sum()))
