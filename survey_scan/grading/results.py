"""``survey_scan grade RUN --summary``: the grades of all graders, put together, printed and written."""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from survey_scan import records
from survey_scan.engine import lock, state
from survey_scan.errors import RunError
from survey_scan.grading import aggregate, journal
from survey_scan.grading.candidates import run_digest
from survey_scan.grading.schemes import SCHEMES, Letters, Scheme, letters_of
from survey_scan.layout import RunDirectory
from survey_scan.ranking.candidates import described, write_candidates
from survey_scan.schema import Column

#: Columns that the candidate table gets, with unit and UCD.
COLUMNS = {
    "grade_mean": Column("grade_mean", None, "meta.code.qual;stat.mean", "mean of the graders' last grades"),
    "grade": Column("grade", None, "meta.code.qual", "letter of that mean; empty if nobody graded it"),
    "n_graders": Column("n_graders", None, "meta.number", "who graded it"),
}

#: Pairs of graders whose agreement is printed; all of more would be a page.
SHOWN_PAIRS = 15


@dataclass(frozen=True)
class Grades:
    """The grades of all graders of a run.

    Attributes
    ----------
    scheme : Scheme
        Of all of them.
    first, second : DataFrame
        Objects × graders: the value that stands, of the first and of the second showing.
    notes : dict
        Object id → notes, each with its grader's name.
    """

    scheme: Scheme
    first: pd.DataFrame
    second: pd.DataFrame
    notes: dict[str, str]


def run(directory: RunDirectory, letters: str | None, say: Callable[[str], None]) -> None:
    """Print what graders found, write grades.csv, and put the grades into the candidate table.

    Parameters
    ----------
    directory : RunDirectory
        With grades.
    letters : str or None
        Convention of the letters; the scheme's usual one if None.
    say : callable
        Prints a line.

    Raises
    ------
    UserError
        If the letters are of another scheme.
    RunError
        If there are no grades, or some cannot be used; if a scan is writing the candidates.
    """
    state.read_manifest(directory)
    grades = read(directory)
    convention = letters_of(grades.scheme.name, letters)
    found = aggregate.summary(grades.first, convention)
    show(grades, found, convention, say)
    written = directory.path / "grades.csv"
    columns = grades.first.reindex(found.index).add_prefix("grade_by_").astype("Int64")
    notes = pd.Series(grades.notes, dtype=str).reindex(found.index).fillna("").rename("notes")
    table = pd.concat([found, columns, notes], axis=1).rename_axis("object_id")
    table = table.sort_values(["grade_mean", "n_graders"], ascending=False, kind="stable")
    records.write_atomically(written, table.round(6).to_csv(lineterminator="\n").encode())
    say(f"wrote       {written}")
    matched = update_candidates(directory, found)
    say(
        f"            grade_mean, grade and n_graders in {directory.candidates_parquet} and .fits: {matched:,} candidates"
    )
    if matched < len(found):
        others = _many(len(found) - matched, "graded object")
        say(f"            {others} not among the candidates of the last ranking; only grades.csv has what was found")


def read(directory: RunDirectory) -> Grades:
    """The grades of all files of a run.

    Raises
    ------
    RunError
        If there are none, a file is damaged or of another run, or graders used different schemes.
    """
    folder = directory.path / "grades"
    files = sorted(folder.glob("*.csv"))
    digest = run_digest(directory)
    schemes: dict[str, str] = {}
    tables: tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]] = ({}, {})
    notes: dict[str, list[str]] = {}
    for path in files:
        events = journal.read(path)
        scheme = journal.check(path, events, digest)
        standing = journal.standing(events)
        if scheme is None or not standing.grades:
            continue
        if scheme not in SCHEMES:
            raise RunError(f"{path} has grades by the scheme {scheme!r}, which is not known: {', '.join(SCHEMES)}.")
        schemes[path.stem] = scheme
        for (object_id, repeat), grade in standing.grades.items():
            if grade not in SCHEMES[scheme].values:
                raise RunError(f"{path}: grade {grade!r} of {object_id} is none of the scheme {scheme}. Mend the file.")
            tables[bool(repeat)].setdefault(path.stem, {})[object_id] = SCHEMES[scheme].values[grade]
        for (object_id, _), note in standing.notes.items():
            if note:
                notes.setdefault(object_id, []).append(f"{path.stem}: {note}")
    if not schemes:
        raise RunError(f"{directory} has no grades yet ({folder} holds none). First: survey_scan grade {directory}")
    if len(set(schemes.values())) > 1:
        used = ", ".join(f"{grader} {scheme}" for grader, scheme in schemes.items())
        raise RunError(f"graders used different schemes ({used}): no mean can be taken. Move files out of {folder}.")
    first, second = (pd.DataFrame({g: table.get(g, {}) for g in schemes}, dtype=float) for table in tables)
    return Grades(SCHEMES[next(iter(schemes.values()))], first, second, {k: " | ".join(v) for k, v in notes.items()})


def show(grades: Grades, found: pd.DataFrame, convention: Letters, say: Callable[[str], None]) -> None:
    """Print counts, letters and agreement."""
    values = list(grades.scheme.values.values())
    names = {value: name for name, value in grades.scheme.values.items()}
    counts = aggregate.counts(grades.first, values)
    width = max(len("grader"), *map(len, counts.index.astype(str)))
    say(f"scheme      {grades.scheme.name} ({grades.scheme.source})")
    say(f"{'grader':<{width}}  {'graded':>7} {''.join(f'{names[value]:>7}' for value in values)}   again  agreement")
    for grader in counts.index:
        row = counts.loc[grader]
        pairs = _pair(grades.first, grades.second, str(grader), str(grader))
        again = f"{len(pairs):>8,}  {_kappa(pairs, values)}" if len(pairs) else f"{'-':>8}"
        say(f"{grader!s:<{width}}  {row.sum():>7,} {''.join(f'{row[value]:>7,}' for value in values)}{again}")
    say("")
    lines = []
    for a, b in combinations(counts.index, 2):
        pairs = _pair(grades.first, grades.first, str(a), str(b))
        if len(pairs):
            lines.append(f"agreement   {a} and {b}: {_kappa(pairs, values)} on {_many(len(pairs), 'object')}")
    for line in lines[:SHOWN_PAIRS]:
        say(line)
    if len(lines) > SHOWN_PAIRS:
        say(f"            and {len(lines) - SHOWN_PAIRS:,} pairs more")
    if lines or grades.second.notna().any(axis=None):
        say("            quadratic-weighted kappa: 1 is full agreement, 0 what chance gives")
    dropped = f"; of {aggregate.TRIM_FROM} or more graders the lowest and the highest are dropped" * convention.trimmed
    say(f"letters     {convention.name}: {convention.bounds}, of the mean{dropped}")
    letters = found["grade"].value_counts().sort_index()
    said = [
        f"{n:,} {'below' if letter == '-' else letter}" for letter, n in letters.sort_index(key=_letters_first).items()
    ]
    say(f"objects     {len(found):,}: {', '.join(said)}")
    seen = found["n_graders"]
    if seen.min() == seen.max():
        say(f"            each seen by {_many(int(seen.max()), 'grader')}")
    else:
        say(f"            seen by {seen.min()} to {seen.max()} graders, {seen.median():g} at the median")


def update_candidates(directory: RunDirectory, found: pd.DataFrame) -> int:
    """Put the grades into the candidate table, all its other columns as they are; how many candidates have one.

    Raises
    ------
    RunError
        If there is no table, or a scan is writing it.
    """
    with lock.held(directory):
        if not directory.candidates_parquet.exists():
            raise RunError(f"{directory} has no candidates.parquet. Rank again: survey_scan rank {directory}")
        columns = described(directory.candidates_parquet)
        table = pd.read_parquet(directory.candidates_parquet)
        matched = found.reindex(table["object_id"].astype(str))
        mean = matched["grade_mean"].to_numpy(np.float32)
        table = table.assign(
            grade_mean=mean,
            grade=matched["grade"].fillna("").to_numpy(),
            n_graders=matched["n_graders"].fillna(0).to_numpy(np.int16),
        )
        write_candidates(table, directory.candidates_parquet, directory.candidates_fits, {**columns, **COLUMNS})
    return int(np.isfinite(mean).sum())


def _pair(first: pd.DataFrame, second: pd.DataFrame, a: str, b: str) -> pd.DataFrame:
    """Grades of the objects that have both."""
    return pd.concat([first[a], second[b]], axis=1, keys=["a", "b"]).dropna()


def _kappa(pairs: pd.DataFrame, values: list[int]) -> str:
    """Kappa, and how many are the same."""
    kappa = aggregate.kappa(pairs["a"], pairs["b"], values)
    return f"{'kappa undefined' if np.isnan(kappa) else f'kappa {kappa:.2f}'}, {(pairs['a'] == pairs['b']).mean():.0%} the same"


def _many(n: int, what: str) -> str:
    return f"{n:,} {what}{'s' * (n != 1)}"


def _letters_first(letters: pd.Index) -> pd.Index:
    return letters.where(letters != "-", "~")
