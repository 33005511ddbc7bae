"""Gather, draw, and write report.html."""

import base64
import math
from importlib.resources import files
from pathlib import Path
from typing import Any

import pandas as pd

from survey_scan import records
from survey_scan.config import Config
from survey_scan.config_file import load
from survey_scan.engine import state
from survey_scan.grading import pictures
from survey_scan.grading.candidates import Pixels, without_pixels
from survey_scan.layout import RunDirectory
from survey_scan.ranking import drift
from survey_scan.report import facts, figures, sample
from survey_scan.views import drift as drifting

#: Candidates that are shown.
SHOWN = 100

#: Tiles, or bins of seeing, that are shown.
GROUPS = 12

#: What columns of the candidates say below a picture, where there are any.
CAPTIONS = {"known_name": "{}", "known_grade": "{}", "grade": "graded {}", "duplicate_of": "doubles {}"}


def write(run: RunDirectory) -> Path:
    """Write ``report.html`` of a run, as far as it has come.

    Parameters
    ----------
    run : RunDirectory
        A planned run.

    Returns
    -------
    Path
        The page: one file, which asks for nothing else.

    Raises
    ------
    RunError
        If it is not planned.
    """
    state.read_manifest(run)
    config = load(run.config_resolved)
    standing, events = state.standing(run, config), facts.read_events(run)
    found = facts.read(run, config, standing, events)
    candidates = pd.read_parquet(run.candidates_parquet) if run.candidates_parquet.exists() else pd.DataFrame()
    compared = drifting.read(run.drift) if run.drift.exists() else {}
    drawn = _drawn(run, config, found, candidates, events, standing.partitions["partition"].tolist())
    page = _template().render(
        facts=found,
        figures=drawn,
        candidates=_shown(run, candidates),
        unpictured=_unpictured(config),
        drift={what: _worst(table) for what, table in compared.items()},
        named=[line for what, table in compared.items() for line in drift.sentences(table, what)],
        more=max(len(candidates) - SHOWN, 0),
        widest=math.log10(max(found.funnel[0].left, 1) + 1),
        log10=lambda n: math.log10(n + 1),
        number=lambda x, form="{:.2f}": "–" if pd.isna(x) else form.format(x),
    )
    path = run.report
    records.write_atomically(path, page.encode())
    return path


def _drawn(
    run: RunDirectory,
    config: Config,
    found: facts.Facts,
    candidates: pd.DataFrame,
    events: list[dict[str, Any]],
    partitions: list[int],
) -> dict[str, str | None]:
    nothing = pd.DataFrame({"ra": [], "dec": []})
    targets = sample.targets(run, partitions) if partitions else nothing
    drawn = {
        "sky": figures.sky(pd.read_parquet(run.tiles), targets, candidates if len(candidates) else nothing),
        "histogram": figures.histogram(found.logits, float(candidates["logit"].min()) if len(candidates) else None),
        "progress": figures.progress(events),
        "colours": None,
    }
    if len(candidates) and (pair := sample.axes(targets, config.images.bands)):
        drawn["colours"] = figures.colours(targets, candidates, config.selection, pair)
    return drawn


def _shown(run: RunDirectory, candidates: pd.DataFrame) -> list[dict[str, Any]]:
    """The best candidates with their pictures; those whose pixels are gone have none."""
    if not len(candidates) or not run.store.exists():
        return []
    best = candidates.head(SHOWN).assign(object_id=candidates["object_id"].head(SHOWN).astype(str))
    pixels, without = Pixels(run, best), without_pixels(run)
    cutouts = [None if name in without else pixels.cutout(i) for i, name in enumerate(best["object_id"])]
    weights = pictures.balance([cutout for cutout in cutouts if cutout is not None], pixels.bands)
    shown = []
    for cutout, row in zip(cutouts, best.to_dict("records"), strict=True):
        picture = b""
        if cutout is not None:
            picture = pictures.png(pictures.render(cutout, pixels.bands, "colour", 0, weights))
        said = [
            form.format(row[name]) for name, form in CAPTIONS.items() if not pd.isna(row.get(name)) and str(row[name])
        ]
        shown.append(
            {**{str(k): v for k, v in row.items()}, "said": ", ".join(said), "png": base64.b64encode(picture).decode()}
        )
    return shown


def _unpictured(config: Config) -> str:
    """Why candidates have no picture, if some have none."""
    spec = config.cutouts
    if spec.store == "none":
        return "There are no pictures: this scan kept no cutouts (cutouts.store: none)."
    if spec.above is not None:
        return f"Pictures are of candidates with a logit of at least {spec.above:g}: other cutouts were not kept."
    return ""


def _worst(table: pd.DataFrame) -> list[dict[str, Any]]:
    """The groups that are named, then those whose scores differ most from the others'."""
    some = table.sort_values(["named", "effect"], ascending=False, na_position="last").head(GROUPS)
    return [{str(key): value for key, value in row.items()} for row in some.to_dict("records")]


def _template() -> Any:
    from jinja2 import Environment, StrictUndefined

    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(files("survey_scan.report").joinpath("page.html").read_text(encoding="utf-8"))
