"""What candidates say of themselves beside their rank: duplicates, known lenses, what stood in a training set."""

from pathlib import Path

import pandas as pd

from survey_scan.combination import column
from survey_scan.config import Config
from survey_scan.ranking import groups, known
from survey_scan.schema import Column
from survey_scan.views.known import read_known, read_training


def annotate(config: Config, best: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Column]]:
    """Add the columns that a configuration asks for; no row goes.

    Parameters
    ----------
    config : Config
        Its section ``ranking``.
    best : DataFrame
        The candidates, ranked.

    Returns
    -------
    DataFrame
        With the columns of :func:`survey_scan.ranking.groups.duplicates`, those of :func:`survey_scan.ranking.known.match`, and
        ``in_training`` (bool), as far as they are asked for.
    dict
        What these are, and those of several networks.

    Raises
    ------
    UserError
        If a table cannot be read.
    """
    asked = config.ranking
    added = [
        Column(column(name), None, "stat.likelihood", f"logit of the network {name}") for name in config.models or ()
    ]
    if asked.duplicates is not None:
        best = best.join(groups.duplicates(best, asked.duplicates))
        added += groups.COLUMNS
    if asked.known is not None:
        lenses = read_known(None if asked.known == "lenscat" else Path(asked.known))
        best = best.join(known.match(best, lenses))
        added += [one for one in known.COLUMNS if one.name != "in_training"]
    if asked.training is not None:
        best = best.assign(in_training=known.in_training(best, read_training(Path(asked.training))))
        added += [one for one in known.COLUMNS if one.name == "in_training"]
    return best, {one.name: one for one in added}
