"""A subject set for Zooniverse: pictures of each candidate in several stretches, training subjects among them, a manifest.

Columns of the manifest that begin with ``!`` are hidden while a subject is classified, those with ``#`` from everyone. So a
training subject is known as one, by its ``!object_id``, only to those who have classified it.
"""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.errors import UserError
from survey_scan.evaluation.tables import read_labels
from survey_scan.grading import pictures
from survey_scan.simulation.folder import TrainingSet
from survey_scan.store import single
from survey_scan.store.reader import Reader

#: Views of each subject, from :mod:`survey_scan.grading.pictures`.
STRETCHES = ("colour", "deep", "bright")

#: Pixels on a side that a picture has at least, by whole factors, so that nothing is smoothed.
SIDE = 420

#: Candidates from whose colours the bands are balanced.
TYPICAL = 200

MANIFEST = "manifest.csv"


@dataclass(frozen=True)
class Subject:
    """One row of the manifest.

    Parameters
    ----------
    number : int
        From 1 on, in an order that says nothing of rank, or of what is a training subject.
    pixels : callable
        Reads its cutout.
    hidden : dict
        Columns with ``!`` and ``#``.
    """

    number: int
    pixels: Callable[[], NDArray[np.float32]]
    hidden: dict[str, Any]

    @property
    def files(self) -> list[str]:
        """Its pictures, beside the manifest, where Zooniverse's page and its command line both look for them."""
        return [f"subject-{self.number:06d}-{i}-{view}.png" for i, view in enumerate(STRETCHES, 1)]


class Training:
    """Labelled cutouts to be mixed in.

    Parameters
    ----------
    folder : Path
        Of ``survey_scan simulate``; or any with ``cutouts.zarr`` and, as folder or table, ``truth``: ``object_id`` as in the
        store, and ``label``.
    size : int
        Of the run's cutouts.
    bands : sequence of str
        Likewise.

    Raises
    ------
    UserError
        If there is no such thing in it, or its cutouts are others than the run's.
    """

    def __init__(self, folder: Path, size: int, bands: Sequence[str]):
        store = TrainingSet(folder).store
        truths = [path for path in (folder / "truth", *sorted(folder.glob("truth.*"))) if path.exists()]
        if not (store / "zarr.json").exists() or not truths:
            lacking = "truth" if (store / "zarr.json").exists() else store.name
            raise UserError(
                f"--training: {folder} has no {lacking}. Name the folder of a 'survey_scan simulate', or one with cutouts.zarr and "
                "truth.csv (object_id, label)."
            )
        self.reader = Reader(store)
        facts = self.reader.attributes
        if facts["size"] != size or list(facts["bands"]) != list(bands):
            raise UserError(
                f"--training: {store} has {facts['size']} pixels in {', '.join(facts['bands'])}; the run's cutouts have {size} in "
                f"{', '.join(bands)}. They would be told apart at a glance."
            )
        labels = read_labels(truths[0]).table
        ids = pd.Series(self.reader.column("object_id", 0, self.reader.n_targets)).astype(str)
        ok = self.reader.column("status", 0, self.reader.n_targets) == 0
        row = pd.Series(np.arange(len(ids)), ids).where(ok).dropna().astype(int)
        known = labels.assign(row=labels["object_id"].astype(str).map(row)).dropna(subset="row")
        #: ``object_id``, ``is_lens``, ``row`` (of the store).
        self.table = known.astype({"row": int}).reset_index(drop=True)
        self.folder = folder

    def draw(self, n: int, seed: np.random.Generator) -> pd.DataFrame:
        """``n`` of them, half of them lenses.

        Raises
        ------
        UserError
            If there are not so many.
        """
        parts = []
        for is_lens, count, what in ((True, (n + 1) // 2, "lenses"), (False, n // 2, "non-lenses")):
            some = self.table[self.table["is_lens"] == is_lens]
            if len(some) < count:
                raise UserError(
                    f"--training: {self.folder} has {len(some):,} {what} with a cutout, {count:,} are needed. Lower --share."
                )
            parts.append(some.iloc[np.sort(seed.choice(len(some), count, replace=False))])
        return pd.concat(parts, ignore_index=True)


def subjects(
    table: pd.DataFrame,
    pixels: Callable[[int], NDArray[np.float32]],
    training: Training | None,
    share: float,
    seed: int,
) -> list[Subject]:
    """All subjects, mixed.

    Parameters
    ----------
    table : DataFrame
        Candidates.
    pixels : callable
        Number in the table → its cutout.
    training : Training or None
        To be mixed in.
    share : float
        Of training subjects among all.
    seed : int
        The same gives the same order.
    """
    rng = np.random.default_rng(seed)
    made: list[tuple[Callable[[], NDArray[np.float32]], dict[str, Any]]] = []
    for i, row in enumerate(table.to_dict("records")):
        hidden = {"!object_id": row["object_id"], "!ra": f"{row['ra']:.7f}", "!dec": f"{row['dec']:.7f}"}
        hidden |= {"#training": 0, "#label": "", "#rank": row["rank"], "#logit": row["logit"]}
        made.append((lambda i=i: pixels(i), hidden | {"#known_name": str(row.get("known_name") or "")}))  # type: ignore[misc]
    if training is not None:
        reader = training.reader
        for row in training.draw(round(len(table) * share / (1 - share)), rng).to_dict("records"):
            hidden = {"!object_id": f"training-{row['object_id']}", "!ra": "", "!dec": "", "#training": 1}
            hidden |= {"#label": "lens" if row["is_lens"] else "non-lens", "#rank": "", "#logit": "", "#known_name": ""}
            made.append((lambda r=row["row"]: single.pixels(reader, r), hidden))  # type: ignore[misc]
    order = rng.permutation(len(made))
    return [Subject(number, *made[i]) for number, i in enumerate(order.tolist(), 1)]


def manifest(found: Sequence[Subject]) -> bytes:
    """manifest.csv: ``subject``, ``image_1`` …, then what is hidden."""
    text = io.StringIO()
    images = [f"image_{i}" for i in range(1, len(STRETCHES) + 1)]
    writer = csv.DictWriter(text, ["subject", *images, *found[0].hidden], lineterminator="\n")
    writer.writeheader()
    for subject in found:
        names = dict(zip(images, subject.files, strict=True))
        writer.writerow({"subject": f"{subject.number:06d}", **names, **subject.hidden})
    return text.getvalue().encode()


def weights(pixels: Callable[[int], NDArray[np.float32]], n: int, bands: Sequence[str]) -> tuple[float, ...]:
    """Factors of the bands, from candidates spread evenly over the table; training subjects get the same."""
    return pictures.balance(
        [pixels(int(i)) for i in np.unique(np.linspace(0, n - 1, min(n, TYPICAL)).astype(int))], bands
    )


def picture(cutout: NDArray[np.float32], bands: Sequence[str], view: str, factors: Sequence[float]) -> bytes:
    """One PNG, each pixel as large as makes it :data:`SIDE` on a side or a little more."""
    shown = pictures.render(cutout, bands, view, weights=factors)
    times = -(-SIDE // shown.shape[0])
    return pictures.png(shown.repeat(times, axis=0).repeat(times, axis=1))


def key_of(training: Training | None, share: float) -> Mapping[str, Any]:
    """What of the settings decides the files."""
    return {
        "stretches": list(STRETCHES),
        "training": str(training.folder.resolve()) if training else None,
        "share": share,
    }
