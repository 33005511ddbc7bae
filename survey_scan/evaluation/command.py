"""``survey_scan evaluate``: read, match, evaluate, write."""

import shlex
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from survey_scan import records
from survey_scan.errors import UserError
from survey_scan.evaluation import markdown as tables_of_markdown
from survey_scan.evaluation import words
from survey_scan.evaluation.sample import match
from survey_scan.evaluation.summary import Settings, summarise
from survey_scan.evaluation.tables import Labels, members, read_labels, read_scores


def run(
    scores: Sequence[Path],
    labels: Path,
    out: Path,
    prior: float,
    budget: str,
    fpr: float,
    columns: Sequence[str],
    markdown: Path | None,
    say: Callable[[str], None],
) -> dict[str, Any]:
    """Evaluate one model or two, print the result and write evaluation.json and evaluation.png.

    Parameters
    ----------
    scores : sequence of Path
        One or two run directories or tables.
    labels : Path
        Table of labels.
    out : Path
        Folder for the two files; earlier ones there are replaced.
    prior, fpr : float
        Fraction of lenses in a survey; false-positive rate of the completeness map and the kinds. Both within 0 and 1.
    budget : str
        Numbers of candidates that can be inspected, separated by commas.
    columns : sequence of str
        Empty, or the column of the scores for each of ``scores``.
    markdown : Path or None
        Where a table of the completeness map is to go.
    say : callable
        Prints a line.

    Returns
    -------
    dict
        The content of evaluation.json.

    Raises
    ------
    UserError
        If an option or a table cannot be used, or the tables not together.
    """
    settings = Settings(_fraction(prior, "--prior"), _numbers(budget), _fraction(fpr, "--fpr"))
    if columns and len(columns) != len(scores):
        raise UserError(f"--column is given {len(columns)} times for {len(scores)} sets of scores. Name one for each.")
    known = read_labels(labels)
    asked: Sequence[str | None] = columns or [None] * len(scores)
    read = [read_scores(path, column) for path, column in zip(scores, asked, strict=True)]
    found = summarise([(s.path, s.column) for s in read], (known.path, known.column), match(read, known), settings)
    if len(scores) == 1 and not columns:  # an unequal member harms a combination: show what each is worth
        found["members"] = [_member(scores[0], column, known, settings) for column in members(scores[0])]
    written = _write(found, out)  # first, so that it is there however much of the following is read
    if markdown is not None:
        command = _command(scores, labels, columns, settings, markdown)
        records.write_atomically(markdown, tables_of_markdown.table(found, command).encode())
        written.append(f"wrote       {markdown}")
    words.show(found, say)
    say("")
    for line in written:
        say(line)
    return found


def _member(path: Path, column: str, known: Labels, settings: Settings) -> dict[str, Any]:
    """One of several networks of a run, by itself."""
    own = read_scores(path, column)
    found = summarise([(own.path, own.column)], (known.path, known.column), match([own], known), settings)
    return {"column": column, **found["models"][0]}


def _write(found: dict[str, Any], out: Path) -> list[str]:
    """Write the two files; what was written, in words."""
    from survey_scan.evaluation.picture import draw

    data, picture = out / "evaluation.json", out / "evaluation.png"
    records.write_json(data, found)
    records.write_atomically(picture, draw(found))
    return [f"wrote       {data}", f"wrote       {picture}"]


def _fraction(value: float, option: str) -> float:
    if not 0 < value < 1:
        raise UserError(f"{option} is {value:g}; it must be above 0 and below 1.")
    return value


def _numbers(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise UserError(
            f"--budget is '{text}'; it must be whole numbers above 0, separated by commas, such as 1000,5000."
        )
    return tuple(sorted({int(part) for part in parts}))


def _command(scores: Sequence[Path], labels: Path, columns: Sequence[str], settings: Settings, markdown: Path) -> str:
    line = ["survey_scan", "evaluate", *map(str, scores), "--labels", str(labels)]
    for column in columns:
        line += ["--column", column]
    return shlex.join([*line, "--fpr", f"{settings.fpr:g}", "--markdown", str(markdown)])
