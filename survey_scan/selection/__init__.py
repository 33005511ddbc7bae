"""Selection: derived columns, then cuts in order, on one piece of the catalogue.

The first cut, :data:`VALID_POSITION`, is built in. Every row of the catalogue is either selected or removed by exactly
one cut: the first that is not true of it.
"""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.catalogue import Rows
from survey_scan.config import Selection
from survey_scan.errors import SelectionError, SelectionProblems
from survey_scan.schema import CANDIDATE_COLUMNS, SCORE_COLUMNS, TARGET_COLUMNS
from survey_scan.selection import expressions
from survey_scan.selection.logic import KINDS, Value, value

#: Name of the built-in first cut: dec in [-90, 90], ra in [-180, 360], both finite.
VALID_POSITION = "valid position"

#: Columns of this program's own, which no definition may take.
OWN = tuple(dict.fromkeys(c.name for c in (*TARGET_COLUMNS, *SCORE_COLUMNS, *CANDIDATE_COLUMNS)))
_POSITION = ("object_id", "ra", "dec", "tile")


@dataclass(frozen=True)
class CutFlow:
    """How many rows each cut keeps.

    Parameters
    ----------
    total : int
        Rows of the catalogue.
    kept : dict
        Name of the cut → rows left after it and all before it, in order.
    """

    total: int
    kept: dict[str, int]

    @classmethod
    def empty(cls, selection: Selection) -> "CutFlow":
        """The cut flow of no rows."""
        return cls(0, dict.fromkeys((VALID_POSITION, *selection.cuts), 0))

    def __add__(self, other: "CutFlow") -> "CutFlow":
        """The cut flow of two pieces together."""
        if self.kept.keys() != other.kept.keys():
            raise ValueError(f"cut flows of different cuts: {list(self.kept)} and {list(other.kept)}")
        return CutFlow(self.total + other.total, {name: n + other.kept[name] for name, n in self.kept.items()})

    @property
    def selected(self) -> int:
        """Rows that pass all cuts."""
        return list(self.kept.values())[-1]

    @property
    def first_empty(self) -> str | None:
        """The first cut that leaves nothing."""
        return next((name for name, n in self.kept.items() if n == 0), None)

    def frame(self) -> pd.DataFrame:
        """Table with columns cut, kept, removed, fraction (kept of all rows of the catalogue)."""
        kept = list(self.kept.values())
        before = [self.total, *kept[:-1]]
        return pd.DataFrame(
            {
                "cut": list(self.kept),
                "kept": kept,
                "removed": [b - k for b, k in zip(before, kept, strict=True)],
                "fraction": [k / self.total if self.total else 0.0 for k in kept],
            }
        )

    def text(self) -> str:
        """The same as lines of text, aligned."""
        rows = [("cut", "kept", "removed", "fraction")]
        rows += [(str(r.cut), f"{r.kept:,}", f"{r.removed:,}", f"{r.fraction:.4f}") for r in self.frame().itertuples()]
        wide = [max(len(row[i]) for row in rows) for i in range(4)]
        return "\n".join(
            f"  {row[0]:<{wide[0]}}  " + "  ".join(f"{row[i]:>{wide[i]}}" for i in (1, 2, 3)) for row in rows
        )


@dataclass(frozen=True)
class Problem:
    """One thing wrong with a selection.

    Parameters
    ----------
    place : tuple of str
        Where in the configuration, such as ``("selection", "cuts", "red")``.
    text : str
        What, and what to do.
    """

    place: tuple[str, ...]
    text: str


def check(selection: Selection, columns: pd.DataFrame, source: str, unlisted: Iterable[str] = ()) -> None:
    """Refuse a selection that cannot be evaluated on the catalogue.

    Parameters
    ----------
    selection, columns, source, unlisted
        As for :func:`problems`.

    Raises
    ------
    SelectionProblems
        With all problems, one a line.
    """
    found = problems(selection, columns, source, unlisted)
    if found:
        raise SelectionProblems([(problem.place, problem.text) for problem in found])


def problems(selection: Selection, columns: pd.DataFrame, source: str, unlisted: Iterable[str] = ()) -> list[Problem]:
    """Everything wrong with a selection.

    Parameters
    ----------
    selection : Selection
        Its definitions, cuts and kept columns.
    columns : DataFrame
        A table with the catalogue's columns and types; its rows do not matter.
    source : str
        Name of a catalogue file, for messages.
    unlisted : iterable of str
        Columns which that file has but the configuration does not name.
    """
    found: list[Problem] = []
    values = {str(name): value(columns[name].iloc[:0]) for name in columns.columns}
    broken: set[str] = set()
    for section, word, entries in (("define", "definition", selection.define), ("cuts", "cut", selection.cuts)):
        for name, text in entries.items():
            try:
                if section == "define" and (name in OWN or name in columns.columns):
                    raise SelectionError("this is the name of a column there is already. Choose another.")
                if section == "cuts" and name == VALID_POSITION:
                    raise SelectionError("this is the name of the built-in cut. Choose another.")
                expression = expressions.parse(text)
                if absent := [n for n in expression.names if n not in values and n not in broken]:
                    raise SelectionError("; ".join(_absent(n, values, source, set(unlisted)) for n in absent))
                if broken.isdisjoint(expression.names):  # else what is wrong is said already
                    result = expression.evaluate(values)
                    if section == "cuts" and result.kind != "condition":
                        kind = KINDS[result.kind]
                        raise SelectionError(f"'{expression.text}' is {kind}, not a condition. Compare it.")
                    if section == "define":
                        values[name] = _storable(expression.text, result)
            except SelectionError as error:
                found.append(Problem(("selection", section, name), f"{word} '{name}'{_joined(error)}"))
                broken.add(name)
    for name in selection.keep or ():
        if name not in values and name not in broken:
            text = f"selection.keep {_absent(name, values, source, set(unlisted))}"
            found.append(Problem(("selection", "keep"), text))
    return found


def select(frame: pd.DataFrame, selection: Selection) -> tuple[pd.DataFrame, CutFlow]:
    """Apply a selection to one piece of the catalogue.

    Parameters
    ----------
    frame : DataFrame
        Columns object_id, ra, dec (deg), perhaps tile, and those the expressions use.
    selection : Selection
        Checked by :func:`check`.

    Returns
    -------
    DataFrame
        The selected rows in their order, ``ra`` in [0, 360): object_id, ra, dec, perhaps tile, then the kept columns:
        ``selection.keep``, or all columns and definitions. A kept condition is 1.0, 0.0 or (undecided) NaN.
    CutFlow
        Counts.

    Raises
    ------
    SelectionError
        If an expression cannot be evaluated.
    """
    values = _defined({str(name): frame[name] for name in frame.columns}, selection)
    keep, flow = _cut(frame["ra"].to_numpy(np.float64), frame["dec"].to_numpy(np.float64), selection, values)
    names = [name for name in _POSITION if name in frame.columns]
    chosen = [name for name in values if name not in names] if selection.keep is None else selection.keep
    columns: dict[str, object] = {name: frame[name].array[keep] for name in names}
    columns["ra"] = wrap(frame["ra"].to_numpy(np.float64)[keep])
    for name in chosen:
        if name not in columns:
            columns[name] = frame[name].array[keep] if name in frame.columns else _column(values[name], keep)
    return pd.DataFrame(columns), flow


def select_rows(blocks: Iterable[Rows], selection: Selection) -> tuple[pd.DataFrame, CutFlow]:
    """Apply a selection to rows of the catalogue as they are read; the same as :func:`select` on all of them together.

    Of each block only the columns that cuts need are made for all rows; the others, identifiers among them, for those
    rows that pass. Of a sweep's 130 columns and a cut that keeps one row in twenty, that is most of the work saved.

    Parameters
    ----------
    blocks : iterable of Rows
        From :func:`survey_scan.catalogue.read_rows`; at least one.
    selection : Selection
        Checked by :func:`check`.

    Raises
    ------
    CatalogueError
        If the file cannot be read.
    SelectionError
        If an expression cannot be evaluated.
    """
    names, own = needed(selection), _needed_definitions(selection)
    few = selection.model_copy(update={"define": {name: selection.define[name] for name in own}})
    flow, recipe = CutFlow.empty(selection), None
    picked = []
    for rows in blocks:
        columns = rows.columns(names)
        ra, dec = np.asarray(columns["ra"]), np.asarray(columns["dec"])
        keep, found = _cut(ra, dec, few, _defined(columns, few))
        flow += found
        picked.append(rows.pick(keep))
        recipe = rows.recipe
    if recipe is None:
        raise ValueError("there are no rows to select from")
    return select(recipe.frame(picked), selection)[0], flow


def needed(selection: Selection) -> set[str]:
    """The catalogue's columns that must be known to say which rows are selected."""
    own = _needed_definitions(selection)
    texts = [*selection.cuts.values(), *(selection.define[name] for name in own)]
    return {"ra", "dec", *(name for text in texts for name in expressions.parse(text).names if name not in own)}


def _needed_definitions(selection: Selection) -> list[str]:
    """The definitions that cuts use, or definitions that cuts use, in their order."""
    used = {name for text in selection.cuts.values() for name in expressions.parse(text).names}
    for name, text in reversed(selection.define.items()):
        if name in used:
            used.update(expressions.parse(text).names)
    return [name for name in selection.define if name in used]


def _defined(columns: Mapping[str, Any], selection: Selection) -> dict[str, Value]:
    """Columns and definitions."""
    values = {name: value(column) for name, column in columns.items()}
    for name, text in selection.define.items():
        values[name] = _evaluate("definition", name, text, values)
    return values


def _cut(
    ra: NDArray[np.float64], dec: NDArray[np.float64], selection: Selection, values: Mapping[str, Value]
) -> tuple[NDArray[np.bool_], CutFlow]:
    """Which rows pass all cuts, and how many pass each."""
    keep = (np.abs(dec) <= 90) & (ra >= -180) & (ra <= 360)
    kept = {VALID_POSITION: int(keep.sum())}
    for name, text in selection.cuts.items():
        keep = keep & np.broadcast_to(_evaluate("cut", name, text, values).data, keep.shape)
        kept[name] = int(keep.sum())
    return keep, CutFlow(len(keep), kept)


def refuse_empty(flow: CutFlow) -> None:
    """Refuse a selection that selects nothing.

    Raises
    ------
    SelectionError
        Naming the first cut that leaves nothing, with the cut flow.
    """
    if flow.first_empty is not None:
        raise SelectionError(
            f"cut '{flow.first_empty}' leaves none of the {flow.total:,} objects of the catalogue. Widen it, or see "
            f"whether columns, units and catalogue.missing are right.\n{flow.text()}"
        )


def wrap(ra: NDArray[np.float64]) -> NDArray[np.float64]:
    """Right ascensions (deg) in [0, 360)."""
    turned = np.mod(ra, 360.0)
    return np.where(turned >= 360.0, 0.0, turned)  # mod of a tiny negative number rounds to 360


def _evaluate(word: str, name: str, text: str, values: Mapping[str, Value]) -> Value:
    try:
        return expressions.parse(text).evaluate(values)
    except SelectionError as error:
        raise SelectionError(f"{word} '{name}': {error}") from None


def _column(v: Value, keep: NDArray[np.bool_]) -> NDArray[np.float64]:
    numbers = np.where(v.undecided, np.nan, v.data) if v.kind == "condition" else v.data
    return np.broadcast_to(np.asarray(numbers, np.float64), keep.shape)[keep]


def _storable(text: str, result: Value) -> Value:
    if result.kind == "text":
        raise SelectionError(f"'{text}' is a text. Define a number or a condition.")
    return result


def _joined(error: SelectionError) -> str:
    text = str(error)
    return f" {text}" if text.startswith("uses ") else f": {text}"


def _absent(name: str, values: Mapping[str, Value], source: str, unlisted: set[str]) -> str:
    if name in unlisted:
        return f"uses '{name}', a column of {source} that is not read. Add it to catalogue.columns: {name}: {name}"
    own = [v for v in values if v not in _POSITION]
    near = difflib.get_close_matches(name, list(values), n=1)
    text = f"uses '{name}', which is neither a column of {source} nor defined. Defined: {', '.join(own) or 'nothing'}."
    return text + (f" Did you mean '{near[0]}'?" if near else "")
