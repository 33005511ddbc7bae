"""Scores and labels from whatever they are kept in: a run directory, or a Parquet, CSV or FITS table."""

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import combination as combining
from survey_scan import records, scores
from survey_scan.config_file import load
from survey_scan.errors import RunError, UserError
from survey_scan.evaluation.files import find, has, listed, names, read
from survey_scan.identity import Key, digest
from survey_scan.layout import RunDirectory
from survey_scan.schema import Status

#: Columns looked for in a score table if none is named, in this order.
SCORES = ("logit", "score")

#: Columns of a label table that are used where it has them.
OPTIONAL = ("theta_E", "arc_snr", "kind")

#: Texts that name the two classes, without regard to case.
LENS, OTHER = ("lens", "1", "true", "yes"), ("non-lens", "nonlens", "non_lens", "not_lens", "0", "false", "no")


class Scores(NamedTuple):
    """One model's scores.

    Parameters
    ----------
    path : str
        The run directory or table they come from.
    column : str
        The column that was read.
    table : DataFrame
        ``object_id`` (int64, uint64 or object; each once), ``logit`` (float64; NaN without a score), ``status`` (uint8).
    """

    path: str
    column: str
    table: pd.DataFrame


class Labels(NamedTuple):
    """What objects are.

    Parameters
    ----------
    path : str
        The table they come from.
    column : str
        The column that says what is a lens.
    table : DataFrame
        ``object_id`` (each once), ``is_lens`` (bool), and those of ``theta_E``, ``arc_snr`` (float64) and ``kind`` (str)
        that the table has.
    """

    path: str
    column: str
    table: pd.DataFrame


def read_scores(path: Path, column: str | None = None) -> Scores:
    """Read the scores of a run, or of a table.

    Parameters
    ----------
    path : Path
        A run directory all of whose partitions are scored, or a table (or a folder of its Parquet parts) with ``object_id``
        and scores; its ``status`` counts, if it has one.
    column : str, optional
        Where the scores stand, if not in ``logit`` or else ``score``. A column whose name does not begin with ``logit`` holds
        probabilities; their logits are taken.

    Raises
    ------
    UserError
        If that is not what it is.
    """
    run = RunDirectory(path)
    is_run = run.manifest.exists() or run.plan.exists()
    files = _parts(run) if is_run else [path]
    columns = names(files[0], "scores")
    if is_run and column is None and "logit" not in columns:
        return _combined(run, files)
    name = _score_column(columns, files[0], column)
    wanted = {"object_id": find("object_id", columns, files[0], "scores"), "score": name}
    if status := has("status", columns):
        wanted["status"] = status
    table = pd.concat([read(file, wanted, "scores") for file in files], ignore_index=True)
    if is_run and status:  # what a cascade's first network set aside has a logit by that one
        aside = (table["status"] == Status.SET_ASIDE) & table["score"].notna()
        table["status"] = table["status"].where(~aside, int(Status.OK))
    ids = _identifiers(table["object_id"], path, "scores", "score")
    values = _numbers(table["score"], name, path, "scores")
    codes = np.zeros(len(table))
    if status:
        codes = _numbers(table["status"], status, path, "scores")
        if not np.isin(codes, np.arange(256)).all():
            raise UserError(f"scores: column '{status}' of {path} holds other values than 0 to 255. Rename it.")
    infinite = int(np.isinf(values).sum())
    if infinite:
        raise UserError(
            f"scores: column '{name}' of {path} has {infinite:,} infinite values. Leave it empty where there is no score; "
            "the object then counts as not found."
        )
    if not name.casefold().startswith("logit"):
        values = _logit(values, name, str(table["score"].dtype).casefold() == "float32", path)
    return Scores(str(path), name, pd.DataFrame({"object_id": ids, "logit": values, "status": codes.astype(np.uint8)}))


def members(path: Path) -> list[str]:
    """The columns with the scores of each of several networks of a run; none of anything else."""
    run = RunDirectory(path)
    if not run.config_resolved.exists():
        return []
    return [combining.column(name) for name in load(run.config_resolved).networks if name]


def read_labels(path: Path, one_class: bool = False) -> Labels:
    """Read a table of labels.

    Parameters
    ----------
    path : Path
        A table, or a folder of its Parquet parts, with ``object_id`` and ``label`` (1 and 0, true and false, or the names of
        :data:`LENS` and :data:`OTHER`). A truth table may do without ``label`` if its ``kind`` is ``lens`` for a lens and
        something else for all others.
    one_class : bool
        Whether all may be of one class.

    Raises
    ------
    UserError
        If that is not what it is, if an object has two labels or none, or if all are of one class.
    """
    columns = names(path, "labels")
    column = has("label", columns) or has("kind", columns) or find("label", columns, path, "labels")
    found = {own: has(own, columns) for own in OPTIONAL}
    wanted = {"object_id": find("object_id", columns, path, "labels"), "label": column}
    table = read(path, wanted | {own: name for own, name in found.items() if name is not None}, "labels")
    ids = _identifiers(table["object_id"], path, "labels", "label")
    is_lens = _classes(table["label"], column, path)
    if not one_class and (is_lens.all() or not is_lens.any()):
        only = "lenses" if is_lens.all() else "non-lenses"
        raise UserError(
            f"labels: {path} holds {len(table):,} {only} and nothing else. An evaluation needs both classes."
        )
    known: dict[str, Any] = {"object_id": ids, "is_lens": is_lens}
    known |= {own: _numbers(table[own], own, path, "labels") for own in ("theta_E", "arc_snr") if own in table}
    known |= {"kind": table["kind"].fillna("").astype(str)} if "kind" in table else {}
    return Labels(str(path), column, pd.DataFrame(known))


def read_identifiers(path: Path, what: str) -> "pd.Series[Any]":
    """The column ``object_id`` of a table, or of a folder of its Parquet parts.

    Parameters
    ----------
    path : Path
    what : str
        What it is for, for messages.

    Returns
    -------
    Series
        int64, uint64 or object (str), each once.

    Raises
    ------
    UserError
        If that is not what it is.
    """
    table = read(path, {"object_id": find("object_id", names(path, what), path, what)}, what)
    return _identifiers(table["object_id"], path, what, "row")


def _parts(run: RunDirectory) -> list[Path]:
    """The score tables of a run, if it has all of them and they are of one network."""
    from survey_scan.engine import state

    state.read_manifest(run)
    partitions = state.read_partitions(run)["partition"].tolist()
    found = [records.read(run.record("scores", p)) for p in partitions]
    missing = sum(record is None for record in found)
    if missing or not partitions:
        raise RunError(f"{run} lacks {missing} of {len(partitions)} partitions of scores. Run 'survey_scan run' first.")
    if len({digest(_of_networks(record["key"])) for record in found if record}) > 1:
        raise RunError(f"{run} holds scores of more than one network. Run 'survey_scan run' until it is complete.")
    return [run.scores(p) for p in partitions]


def _of_networks(key: Key) -> Key:
    """What of a key is not that of the pixels."""
    return {name: value for name, value in key.items() if name != "cutouts"}


def _combined(run: RunDirectory, files: list[Path]) -> Scores:
    """The scores of a run of several networks, by which its targets are ranked."""
    from survey_scan.engine import state

    combination = state.combination(run, load(run.config_resolved))
    table = pd.concat([scores.read(file, combination) for file in files], ignore_index=True)
    ids = _identifiers(table["object_id"], run.path, "scores", "score")
    kept = {"object_id": ids, "logit": table["logit"].astype(float), "status": table["status"]}
    return Scores(str(run), combination.words(), pd.DataFrame(kept))


def _score_column(columns: list[str], path: Path, column: str | None) -> str:
    if column is not None:
        return find(column, columns, path, "scores")
    for name in SCORES:
        if found := has(name, columns):
            return found
    raise UserError(
        f"scores: {path} has no column 'logit' or 'score'. Name the one with the scores by --column. It has: "
        f"{listed(columns)}."
    )


def _identifiers(ids: "pd.Series[Any]", path: Path, what: str, each: str) -> "pd.Series[Any]":
    """As int64, uint64 or object (str), if every row has one and none twice."""
    if not len(ids):
        raise UserError(f"{what}: {path} has no rows. Name a table that has some.")
    if pd.api.types.is_float_dtype(ids) or pd.api.types.is_bool_dtype(ids):
        raise UserError(
            f"{what}: column 'object_id' of {path} is of type {ids.dtype}. An identifier is a whole number or a text."
        )
    missing = ids.isna() if pd.api.types.is_integer_dtype(ids) else ids.isna() | (ids.astype(str) == "")
    if missing.any():
        raise UserError(
            f"{what}: {int(missing.sum()):,} rows of {path} have no 'object_id'. Give each one, or remove those rows."
        )
    twice = ids[ids.duplicated()]
    if len(twice):
        raise UserError(
            f"{what}: {twice.nunique():,} object_ids of {path} stand in it more than once, the first is {twice.iloc[0]}. "
            f"Leave one {each} for each object."
        )
    if pd.api.types.is_unsigned_integer_dtype(ids) and ids.max() > np.iinfo(np.int64).max:
        return ids.astype(np.uint64)
    return ids.astype(np.int64 if pd.api.types.is_integer_dtype(ids) else object)


def _numbers(series: "pd.Series[Any]", name: str, path: Path, what: str) -> NDArray[np.float64]:
    if not series.notna().any():
        return np.full(len(series), np.nan)
    if not pd.api.types.is_numeric_dtype(series):
        raise UserError(f"{what}: column '{name}' of {path} holds texts where numbers are needed.")
    return series.to_numpy(np.float64, na_value=np.nan)


def _classes(label: "pd.Series[Any]", column: str, path: Path) -> NDArray[np.bool_]:
    """Which rows are lenses."""
    mend = "Give each object 1 or 0, or lens or non-lens, or remove those rows."
    text = not pd.api.types.is_numeric_dtype(label)
    missing = label.isna() | (label.astype(str) == "") if text else label.isna()
    if missing.any():
        raise UserError(f"labels: {int(missing.sum()):,} rows of {path} have no '{column}'. {mend}")
    known = label.astype(str).str.casefold() if text else label
    yes, no = (known.isin(LENS), known.isin(OTHER)) if text else (known == 1, known == 0)
    if column.casefold() == "kind":
        return np.asarray(known == "lens", bool)
    strange = [repr(value) for value in label[~(yes | no)].unique().tolist()]
    if strange:
        raise UserError(
            f"labels: column '{column}' of {path} holds {listed(strange, 3)}, neither lens nor non-lens. {mend}"
        )
    return np.asarray(yes, bool)


def _logit(score: NDArray[np.float64], name: str, single: bool, path: Path) -> NDArray[np.float64]:
    """Logits of probabilities; those rounded to 0 or 1 become the nearest that the column's type rounds so, and still tie."""
    outside = int(((score < 0) | (score > 1)).sum())
    if outside:
        raise UserError(
            f"scores: column '{name}' of {path} has {outside:,} values outside 0 to 1. A column whose name does not begin "
            "with 'logit' is read as probabilities: rename it, or name another by --column."
        )
    limits = np.finfo(np.float32 if single else np.float64)
    zero, one = score == 0, score == 1
    below = np.where(one, np.log(float(limits.epsneg) / 2), np.log1p(-np.where(one, 0, score)))
    logits: NDArray[np.float64] = np.log(np.where(zero, float(limits.smallest_subnormal), score)) - below
    return logits
