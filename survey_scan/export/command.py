"""``survey_scan export``: choose candidates and write them for another program."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from survey_scan import records
from survey_scan.config_file import load
from survey_scan.engine import state
from survey_scan.errors import UserError
from survey_scan.export import cutouts, folder, regions, tables, zooniverse
from survey_scan.export.chosen import Chosen, choose
from survey_scan.grading import candidates
from survey_scan.grading.candidates import Pixels, run_digest
from survey_scan.identity import digest
from survey_scan.layout import RunDirectory

FORMATS = (*tables.SUFFIXES, "ds9", "cutouts", "zooniverse")

#: Raised by hand when the same candidates would give other files.
EXPORT_VERSION = 1


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Parameters
    ----------
    form : str
        One of :data:`FORMATS`.
    top : int or None
        Only the first so many candidates.
    ids : str or None
        Only these: separated by commas, or a file with one a line.
    out : Path or None
        Where to; ``export/`` in the run directory if not given.
    training : Path or None
        Labelled cutouts to mix into a subject set.
    share : float or None
        Of these among all subjects; a tenth if not given.
    """

    form: str
    top: int | None = None
    ids: str | None = None
    out: Path | None = None
    training: Path | None = None
    share: float | None = None


def run(directory: RunDirectory, options: Options, say: Callable[[str], None]) -> None:
    """Write candidates of a run.

    Raises
    ------
    UserError
        If there are none, an option does not fit, or the output exists.
    """
    if options.form != "zooniverse" and (options.training is not None or options.share is not None):
        raise UserError(f"--training and --share go with --format zooniverse, not {options.form}. Leave them out.")
    if options.share is not None and (options.training is None or not 0 < options.share < 1):
        raise UserError(
            f"--share is {options.share:g}; it must be above 0 and below 1, and --training name the subjects."
        )
    chosen = choose(directory, options.top, options.ids, say)
    if options.form in ("cutouts", "zooniverse"):
        out = options.out or directory.path / "export" / options.form
        _folder(directory, chosen, options, out, say)
        return
    suffix = ".reg" if options.form == "ds9" else tables.SUFFIXES[options.form]
    out = options.out or directory.path / "export" / f"candidates{suffix}"
    if out.exists():
        raise UserError(f"--out: {out} exists. Name another, or remove it.")
    if options.form == "ds9":
        data = regions.write(chosen.table, load(directory.config_resolved).cutouts.size * _scale(directory))
    else:
        data = tables.write(chosen, options.form)
    records.write_atomically(out, data)
    say(f"wrote       {out}: {len(chosen.table):,} candidates")


def _folder(directory: RunDirectory, chosen: Chosen, options: Options, out: Path, say: Callable[[str], None]) -> None:
    chosen = Chosen(candidates.with_pixels(directory, chosen.table, say), chosen.columns)
    ids = chosen.table.assign(object_id=chosen.table["object_id"].astype(str))
    pixels = Pixels(directory, ids)
    ranked = records.read(directory.ranking_record)
    key: dict[str, Any] = {
        "format": options.form,
        "version": EXPORT_VERSION,
        "run": run_digest(directory),
        "scores": ranked["key"].get("scores") if ranked else None,
        "candidates": digest([[str(n) for n in chosen.table["rank"]], ids["object_id"].tolist()]),
    }
    if options.form == "cutouts":
        if folder.begin(out, key, say):
            _cutouts(directory, chosen, pixels, out, say)
            folder.end(out, key, len(ids))
        return
    training = None
    if options.training is not None:
        training = zooniverse.Training(options.training, pixels.size, pixels.bands)
    share = (options.share or 0.1) if training else 0.0
    key |= zooniverse.key_of(training, share)
    found = zooniverse.subjects(chosen.table, pixels.cutout, training, share, int(digest(key["candidates"]), 16))
    if not folder.begin(out, key, say):
        return
    factors = zooniverse.weights(pixels.cutout, len(ids), pixels.bands)
    for subject in found:
        missing = [name for name in subject.files if not (out / name).exists()]
        if missing or not all((out / name).stat().st_size for name in subject.files):
            cutout = subject.pixels()
            for view, name in zip(zooniverse.STRETCHES, subject.files, strict=True):
                folder.put(out / name, lambda v=view, c=cutout: zooniverse.picture(c, pixels.bands, v, factors))  # type: ignore[misc]
    records.write_atomically(out / zooniverse.MANIFEST, zooniverse.manifest(found))
    folder.end(out, key, len(found) * len(zooniverse.STRETCHES) + 1)
    mixed = sum(subject.hidden["#training"] for subject in found)
    say(f"wrote       {out / zooniverse.MANIFEST}: {len(found):,} subjects, {mixed:,} of them training")


def _cutouts(directory: RunDirectory, chosen: Chosen, pixels: Pixels, out: Path, say: Callable[[str], None]) -> None:
    from survey_scan.store.reader import Reader

    facts = Reader(directory.store).attributes | {"pixel_scale": _scale(directory)}
    tiles = cutouts.Tiles(load(directory.config_resolved).images)
    without = 0
    for i, row in enumerate(chosen.table.to_dict("records")):
        plain = {str(name): value for name, value in row.items()}
        cards = tiles.cards(str(row["tile"]))
        without += cards is None
        folder.put(
            out / cutouts.name(plain),
            lambda i=i, p=plain, c=cards: cutouts.write(p, pixels.cutout(i), facts, c),  # type: ignore[misc]
        )
    for problem in tiles.problems.values():
        say(f"tile        {problem}")
    said = f"; the WCS of {without:,} is assumed, north up" if without else ""
    say(f"wrote       {out}: {len(chosen.table):,} files{said}")


def _scale(directory: RunDirectory) -> float:
    return float(state.plan_facts(directory)["pixel_scale"])
