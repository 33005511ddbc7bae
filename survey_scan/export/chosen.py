"""Which candidates are exported, with the units and UCDs of their columns."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from survey_scan.errors import UserError
from survey_scan.grading import candidates
from survey_scan.layout import RunDirectory
from survey_scan.ranking.candidates import described
from survey_scan.schema import Column


@dataclass(frozen=True)
class Chosen:
    """Rows of a candidate table.

    Parameters
    ----------
    table : DataFrame
        In the order of rank, all columns of candidates.parquet.
    columns : dict
        Name → what candidates.parquet says of it.
    """

    table: pd.DataFrame
    columns: dict[str, Column]


def choose(run: RunDirectory, top: int | None, ids: str | None, say: Callable[[str], None]) -> Chosen:
    """The candidates of a run that are wanted.

    Parameters
    ----------
    run : RunDirectory
        Says so if it is not complete; its candidates are then those of the last ranking.
    top : int or None
        The first so many.
    ids : str or None
        ``object_id`` separated by commas, or the name of a text file with one a line.
    say : callable
        Prints a line.

    Raises
    ------
    RunError
        If this is no run, or it has no candidates.
    UserError
        If an id is not among them.
    """
    candidates.read(run, None, say)  # refuses what cannot be used
    table = pd.read_parquet(run.candidates_parquet).sort_values("rank", kind="stable", ignore_index=True)
    if ids is not None:
        wanted = _ids(ids)
        known = table["object_id"].astype(str)
        missing = [one for one in wanted if one not in set(known)]
        if missing:
            raise UserError(
                f"--ids: {len(missing):,} of {len(wanted):,} are no candidates of {run}, the first is {missing[0]}. "
                f"Candidates are in {run.candidates_parquet}; survey_scan inspect says of any target why it is none."
            )
        table = table[known.isin(wanted)].reset_index(drop=True)
    return Chosen(table if top is None else table.head(top), described(run.candidates_parquet))


def _ids(text: str) -> list[str]:
    path = Path(text)
    if path.is_file():
        try:
            words = [line.split(",")[0].strip() for line in path.read_text().splitlines()]
        except UnicodeDecodeError:
            raise UserError(f"--ids: {path} is no text file. Write one object_id a line.") from None
        words = words[1:] if words[:1] == ["object_id"] else words
    else:
        words = [word.strip() for word in text.split(",")]
    found = list(dict.fromkeys(word for word in words if word))
    if not found:
        raise UserError(f"--ids: '{text}' names no object. Give ids separated by commas, or a file with one a line.")
    return found
