"""What a training learns from: the stores it names, the rows that are labelled, and which of them only judge."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan import records
from survey_scan.errors import ModelError, UserError
from survey_scan.evaluation.tables import read_identifiers, read_labels
from survey_scan.models.contract import Contract
from survey_scan.models.package import SCALE_TOLERANCE, ZERO_POINT_TOLERANCE, Cutouts, Package, View
from survey_scan.models.packing import cutouts_of
from survey_scan.simulation.folder import TrainingSet
from survey_scan.store import UNWRITTEN, Reader, kept_none
from survey_scan.training import labels
from survey_scan.training.config import Data, Labelled, Training
from survey_scan.training.labels import Matched, Rows


@dataclass(frozen=True)
class Entry:
    """One store with its labels.

    Parameters
    ----------
    given : Path
        As the configuration names it.
    reader : Reader
        Of its cutouts.
    ids : ndarray
        ``object_id`` of all its rows.
    labels : str
        Where its labels come from.
    matched : Matched
        Its labelled rows.
    """

    given: Path
    reader: Reader
    ids: NDArray[Any]
    labels: str
    matched: Matched

    @property
    def cutouts(self) -> Cutouts:
        """What its cutouts are."""
        return cutouts_of(self.reader)


@dataclass(frozen=True)
class Opened:
    """All stores, the rows of both sets, and what they have in common.

    Parameters
    ----------
    entries : list of Entry
        Those to learn from, then those that only judge.
    training, validation : Rows
        The two sets; numbers of stores are those of ``entries``.
    """

    entries: list[Entry]
    training: Rows
    validation: Rows

    @property
    def readers(self) -> list[Reader]:
        """Of the stores."""
        return [entry.reader for entry in self.entries]


def open_data(config: Training) -> Opened:
    """Open the stores, match their labels, and hold out what judges.

    Raises
    ------
    UserError
        If a store or a table cannot be used, stores differ in their pixels, or one of the two sets lacks a class.
    """
    entries = [_open(number, data) for number, data in enumerate(config.data)]
    own = len(entries)
    judging = config.validation.data or []
    entries += [_open(own + number, data) for number, data in enumerate(judging)]
    for other in entries[1:]:
        _alike(entries[0], other)
    rows = Rows.join([entry.matched.rows for entry in entries])
    if judging:
        judges = rows.store >= own
    else:
        names = [
            entry.given.parent.name if entry.given.name == "cutouts.zarr" else entry.given.name for entry in entries
        ]
        assert config.validation.fraction is not None
        judges = labels.held_out(rows, [entry.ids for entry in entries], names, config.validation.fraction)
    opened = Opened(entries, rows[~judges], rows[judges])
    _both(opened.training, "data", "to learn from")
    _both(opened.validation, "validation", "to judge by")
    return opened


def views(opened: Opened, contract: Contract) -> list[View]:
    """What a network with this contract sees of each store.

    Raises
    ------
    UserError
        If a store's cutouts are not those of the contract.
    """
    package, found = Package.of(Path("the network"), contract), []
    for entry in opened.entries:
        try:
            found.append(package.view(entry.cutouts))
        except ModelError as error:
            raise UserError(f"{entry.given}: {error}") from None
    return found


def describe(entry: Entry) -> str:
    """One store in words."""
    rows, matched = entry.matched.rows, entry.matched
    flagged = "whose cutout is not whole" + ("" if entry.reader.whole else ", or was not kept")
    without = [
        f"{count:,} {what}"
        for count, what in ((matched.absent, "not in the store"), (matched.flagged, flagged))
        if count
    ]
    more = f"; without {' and '.join(without)}" if without else ""
    hard = rows.repeat > 1
    often = f"; {int(hard.sum()):,} hard negatives, {int(rows.repeat[hard][0])} times each" if hard.any() else ""
    return (
        f"{entry.given}: {rows.lenses:,} lenses and {rows.others:,} non-lenses of its {entry.reader.n_targets:,} cutouts "
        f"by {entry.labels}{more}{often}"
    )


def _open(number: int, data: Labelled) -> Entry:
    given = data.store
    simulated = TrainingSet(given)
    store = given if (given / "zarr.json").exists() else given / "cutouts.zarr"
    if not (store / "zarr.json").exists():
        raise UserError(
            kept_none(store)
            or f"{given} holds no cutouts. Name a run directory, a folder of 'survey_scan simulate', or a cutouts.zarr."
        )
    made = records.read(simulated.manifest)
    if made is not None and made.get("state") != "complete":
        raise UserError(f"{given} is not complete. Run 'survey_scan simulate' on it again.")
    path = data.labels or (simulated.truth(0).parent if made is not None else None)
    if path is None:
        raise UserError(f"{given} is not simulated, so that it has no truth of its own. Give its 'labels', a table.")
    reader = Reader(store)
    ids = reader.column("object_id", 0, reader.n_targets)
    status = reader.column("status", 0, reader.n_targets)
    status = np.where(reader.kept(0, reader.n_targets), status, np.uint8(UNWRITTEN))
    found = labels.match(number, (str(given), str(path)), ids, status, read_labels(path, one_class=True).table)
    if isinstance(data, Data) and data.hard_negatives is not None:
        hard = data.hard_negatives
        wanted = read_identifiers(hard.table, "hard negatives")
        rows = labels.repeated(found.rows, ids, wanted, hard.repeat, (str(given), str(hard.table)))
        found = Matched(rows, found.labelled, found.absent, found.flagged)
    return Entry(given, reader, ids, "its own truth" if data.labels is None else str(path), found)


def _alike(first: Entry, other: Entry) -> None:
    """Refuse stores whose pixels differ."""
    one, two = first.cutouts, other.cutouts
    differ = []
    if one.bands != two.bands:
        differ.append(("bands", ", ".join(one.bands), ", ".join(two.bands)))
    if one.size != two.size:
        differ.append(("pixels on a side", str(one.size), str(two.size)))
    scales = one.pixel_scale, two.pixel_scale
    if None not in scales and abs(scales[1] / scales[0] - 1) > SCALE_TOLERANCE:  # type: ignore[operator]
        differ.append(("arcsec a pixel", f"{scales[0]:g}", f"{scales[1]:g}"))
    for band in one.bands:
        points = one.zero_points.get(band), two.zero_points.get(band)
        if band in two.bands and _apart(*points):
            one_text, two_text = (f"{p:g}" if p is not None else "not known" for p in points)
            differ.append((f"zero point in {band}", one_text, two_text))
    if (one.unit or "").lower() != (two.unit or "").lower() and all(p is None for p in one.zero_points.values()):
        differ.append(("unit", str(one.unit), str(two.unit)))
    if differ:
        texts = "; ".join(f"{what} {a} against {b}" for what, a, b in differ)
        raise UserError(
            f"{first.given} and {other.given} hold different pixels: {texts}. One network learns from pixels of one kind: "
            "cut one of them again as the other is, or train two."
        )


def _apart(one: float | None, two: float | None) -> bool:
    if one is None or two is None:
        return one is not two
    return abs(one - two) > ZERO_POINT_TOLERANCE


def _both(rows: Rows, where: str, what: str) -> None:
    if not rows.lenses or not rows.others:
        lacks = "lens" if rows.others else "non-lens"
        has = f"{rows.others:,} non-lenses" if rows.others else f"{rows.lenses:,} lenses" if rows.lenses else "nothing"
        raise UserError(f"{where}: there is no {lacks} {what}, but {has}. Label some of both classes.")


def parity_rows(rows: Rows, count: int) -> NDArray[np.int64]:
    """Some rows of both classes, spread over them."""
    halves = [np.flatnonzero(rows.is_lens), np.flatnonzero(~rows.is_lens)]
    chosen = [half[np.unique(np.linspace(0, len(half) - 1, count // 2).astype(int))] for half in halves]
    return np.sort(np.concatenate(chosen))


def identity(opened: Opened, rows: Rows) -> Sequence[Any]:
    """What a set is, wherever it lies."""
    stores = [
        [entry.reader.n_targets, list(entry.cutouts.bands), entry.cutouts.size, entry.cutouts.pixel_scale]
        for entry in opened.entries
    ]
    return [stores, [_sum(getattr(rows, name)) for name in ("store", "row", "is_lens", "repeat")]]


def _sum(values: NDArray[Any]) -> str:
    return hashlib.sha256(np.ascontiguousarray(values).tobytes()).hexdigest()[:16]
