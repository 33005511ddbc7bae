"""Look at a file of each kind a configuration names, and say everything that would go wrong, before anything runs."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice

from survey_scan import catalogue, presets, selection
from survey_scan.cluster import local, profile
from survey_scan.cluster.workers import Pool
from survey_scan.config import Config
from survey_scan.engine import memory, model_check
from survey_scan.errors import ImageError, TileError, UserError
from survey_scan.imaging import tiles
from survey_scan.imaging.fits_header import find_image
from survey_scan.layout import STAGES

#: Tiles whose headers are read, spread over the list.
SAMPLE = 5


def check(config: Config, say: Callable[[str], None]) -> None:
    """Print what each part of the configuration finds.

    Parameters
    ----------
    config : Config
        What to look at.
    say : callable
        Prints a line.

    Raises
    ------
    UserError
        With all problems, after every part was looked at.
    """
    if config.survey is not None and config.survey.name in presets.names("survey"):
        name = config.survey.name
        open_points = len(presets.survey(name).about.unverified)
        say(f"survey      {name}: {open_points} points of it nobody has checked, see 'survey_scan surveys {name}'")
    problems: list[str] = []
    for part in (_catalogue, _images, _model):
        try:
            for line in part(config):
                say(line)
        except UserError as error:
            problems.append(str(error))
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    say("all is well. Next: survey_scan run")


def _catalogue(config: Config) -> Iterator[str]:
    contents = catalogue.survey(config.catalogue)
    empty = catalogue.empty(config.catalogue, contents)
    yield f"catalogue   {len(contents.files):,} files; columns {', '.join(empty.columns)}"
    selection.check(config.selection, empty, contents.files[0], contents.unlisted)
    yield f"selection   {len(config.selection.cuts)} cuts, {len(config.selection.define)} derived columns"
    first = catalogue.read_slice(contents.slices[0], config.catalogue, contents.types)
    flow = selection.select(first, config.selection)[1]
    yield f"            of the first {len(first):,} objects {flow.selected:,} are selected"


def _images(config: Config) -> Iterator[str]:
    names = _tiles(config)
    sample = _sample(config, names)
    yield f"images      {len(names):,} tiles, bands {', '.join(config.images.bands)}"
    problems, usable = [], 0
    for name in sample:
        try:
            info = tiles.read_tile_info(config.images, name)
        except TileError as error:
            problems.append(str(error))
            continue
        height, width = info.shape
        yield (
            f"            {name}: {width} x {height} pixels of {info.pixel_scale:.4f} arcsec, {info.layout.codec}, "
            f"compression tiles {info.layout.tile[1]} x {info.layout.tile[0]}"
        )
        for band in config.cutouts.bands:
            try:
                find_image(tiles.tile_file(config.images, name, band), tiles.hdu_of(config.images.hdu, band))
                usable += 1
            except TileError as error:
                problems.append(str(error))
    # A survey has holes: what is wrong with some tiles becomes the status of their targets.
    for problem in problems:
        yield f"            warning: {problem}"
    if not usable:
        raise ImageError(
            "images: none of the tiles looked at can be used. Check images.files, images.hdu and images.bands."
        )


def _tiles(config: Config) -> list[str]:
    """Names from the index if there is one, else from the files; no header is read for them."""
    images = config.images
    names = tiles.tile_table(images)["tile"].tolist() if images.index is not None else tiles.list_tiles(images)
    if not names:
        raise ImageError(f"no file matches images.files {images.files!r} with a band of {', '.join(images.bands)}.")
    return names


def _sample(config: Config, names: list[str]) -> list[str]:
    """Some of the tiles; if they come from an index, which may list a whole survey, of those that have files."""
    if config.images.index is not None:
        with contextlib.suppress(ImageError):  # files do not tell the whole names of their tiles
            here = set(names) & set(islice(tiles.find_tiles(config.images), SAMPLE))
            if here:
                return sorted(here)
    return sorted({names[i * (len(names) - 1) // (SAMPLE - 1)] for i in range(SAMPLE)})


def _model(config: Config) -> Iterator[str]:
    found = model_check.describe(config)
    yield f"model       {model_check.line(found)}"
    yield from (f"            warning: {warning}" for warning in found["warnings"])
    layouts = []
    for name in _sample(config, _tiles(config)):
        with contextlib.suppress(TileError):  # told of under "images"
            layouts.append(tiles.read_tile_info(config.images, name).layout)
    projected = memory.project(config, layouts, found["projected_bytes"])
    chosen = profile.load(config.resources.profile)
    if isinstance(chosen, profile.Local | profile.Cuda):  # the size of other clusters is known where they run
        memory.refuse(projected, _allowed(local.sized(chosen, config.resources)))
    yield "memory      " + ", ".join(f"{stage} {memory.gib(n)}" for stage, n in projected.items()) + " a worker"


def _allowed(pools: list[Pool]) -> dict[str, int | None]:
    """Bytes of the smallest worker of each stage."""
    return {stage: min(pool.memory for pool in pools if stage in pool.stages or not pool.stages) for stage in STAGES}
