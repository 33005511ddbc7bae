"""Look at a file of each kind a configuration names, and say everything that would go wrong, before anything runs."""

import contextlib
from collections.abc import Callable, Iterator
from itertools import islice

from survey_scan import box, catalogue, presets, selection
from survey_scan.cluster import local, profile
from survey_scan.cluster.workers import Pool
from survey_scan.config import Config, Images
from survey_scan.engine import memory, model_check
from survey_scan.errors import ImageError, TileError, UserError
from survey_scan.imaging import agreement, tiles
from survey_scan.imaging.agreement import Finding, Header
from survey_scan.imaging.remote import is_remote
from survey_scan.layout import STAGES
from survey_scan.views import service

#: Tiles whose headers are read, spread over the list; and files of a band that are counted, before it says "or more".
SAMPLE, COUNTED = 5, 20_000


def check(config: Config, say: Callable[[str], None], tell: Callable[[UserError], str] = str) -> None:
    """Print what each part of the configuration finds.

    Parameters
    ----------
    config : Config
        What to look at.
    say : callable
        Prints a line.
    tell : callable
        An error's text.

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
            problems.append(tell(error))
    if problems:
        raise UserError("\n".join(dict.fromkeys(problems)))
    say("all is well. Next: survey_scan run")


def _catalogue(config: Config) -> Iterator[str]:
    contents = catalogue.survey(config.catalogue)
    empty = catalogue.empty(config.catalogue, contents)
    yield f"catalogue   {len(contents.files):,} files; columns {', '.join(empty.columns)}"
    selection.check(config.selection, empty, contents.files[0], contents.unlisted)
    yield f"selection   {len(config.selection.cuts)} cuts, {len(config.selection.define)} derived columns"
    if config.selection.box is not None:
        yield f"            the box {box.draw(config.selection.box, config.catalogue.missing).text}"
    rows = catalogue.read_rows(contents.slices[0], config.catalogue, contents.types)
    flow = selection.select_rows(rows, config.selection)[1]
    yield f"            of the first {flow.total:,} objects {flow.selected:,} are selected"


def _images(config: Config) -> Iterator[str]:
    images = config.images
    if images.service is not None:
        yield from service.look(config)
        return
    names, counts = _tiles(config), _on_disk(config)
    listed = "" if images.index is None else f"{len(names):,} tiles in images.index; "
    found = ", ".join(f"{band} {count}" for band, count in counts.items())
    yield f"images      {listed}" + (f"on disk: {found}" if found else "their files lie elsewhere and are not counted")
    sample, others = _sample(config, names), [band for band in images.bands if band not in config.cutouts.bands]
    wanted, errors = agreement.look(images, sample, config.cutouts.bands, SAMPLE)
    yield from _table(config, wanted + agreement.look(images, sample, others, SAMPLE)[0])
    # A survey has holes: what is wrong with some tiles becomes the status of their targets.
    for error in errors:
        yield f"            warning: {error}"
    for band in config.cutouts.bands:
        if wanted and not any(header.band == band for header in wanted):
            yield f"            warning: no tile looked at has band {band}: a target without it gets no score"
    if not wanted:
        raise ImageError(
            "images: none of the tiles looked at can be used. Check images.files, images.hdu and images.bands."
        )
    if refusals := agreement.refusals(wanted, images):
        raise ImageError("\n".join(refusals))


def _table(config: Config, headers: list[Header]) -> Iterator[str]:
    """What headers say beside what the configuration does; bands that say the same stand together."""
    alike: dict[tuple[Finding, ...], list[str]] = {}
    by_band = agreement.by_band(headers)
    for band, of_band in by_band.items():
        alike.setdefault(tuple(agreement.findings(of_band, config.images)), []).append(band)
    for found, bands in alike.items():
        tiles = sorted({header.tile for band in bands for header in by_band[band]})
        title = f"{', '.join(bands)} of {tiles[0]}" + (f" and {len(tiles) - 1} more" if len(tiles) > 1 else "")
        yield f"            {title:<50}  configuration"
        for finding in found:
            if finding.what == "PSF FWHM" and not finding.found:
                continue  # few surveys write it into their tiles
            mark = "   refused" if finding.refused and set(bands) & set(config.cutouts.bands) else ""
            found_ = finding.found or "not said"
            yield f"              {finding.what:<12} {found_:<35}  {finding.expected or '-'}{mark}"


def _on_disk(config: Config) -> dict[str, str]:
    """Band → how many tiles have a file of it; empty where that is not worth its time."""
    found: dict[str, str] = {}
    for band in () if _elsewhere(config.images) else config.images.bands:
        one = config.images.model_copy(update={"bands": [band]})
        try:
            count = sum(1 for _ in islice(tiles.find_tiles(one), COUNTED))
            found[band] = f"{count:,}" + (" or more" if count == COUNTED else "")
        except ImageError:  # files do not tell the whole names of their tiles
            found[band] = "not counted"
    return found


def _tiles(config: Config) -> list[str]:
    """Names from the index if there is one, else from the files; no header is read for them."""
    images = config.images
    if images.index is not None:
        names = tiles.tile_table(images)["tile"].tolist()
    else:
        names = sorted(set(islice(tiles.find_tiles(images), COUNTED)))
    if not names:
        raise ImageError(tiles.no_tiles(images))
    return names


def _elsewhere(images: Images) -> bool:
    """Whether files lie on a server, which lists folder by folder, and need not be listed."""
    return is_remote(images.files) and images.index is not None


def _sample(config: Config, names: list[str]) -> list[str]:
    """Some of the tiles; if they come from an index, which may list a whole survey, of those that have files."""
    if config.images.index is not None and not _elsewhere(config.images):
        with contextlib.suppress(ImageError):  # files do not tell the whole names of their tiles
            here = set(names) & set(islice(tiles.find_tiles(config.images), SAMPLE))
            if here:
                return sorted(here)
    return sorted({names[i * (len(names) - 1) // (SAMPLE - 1)] for i in range(SAMPLE)})


def _model(config: Config) -> Iterator[str]:
    found = model_check.describe(config)
    yield from model_check.lines(config, found)
    layouts = []
    sample = [] if config.images.service is not None else _sample(config, _tiles(config))
    for name in sample:
        with contextlib.suppress(TileError):  # told of under "images"
            layouts.append(tiles.read_tile_info(config.images, name).layout)
    projected = memory.project(config, layouts, model_check.projected_bytes(found))
    chosen = profile.load(config.resources.profile)
    if isinstance(chosen, profile.Local | profile.Cuda):  # the size of other clusters is known where they run
        memory.refuse(projected, _allowed(local.sized(chosen, config.resources)))
    yield "memory      " + ", ".join(f"{stage} {memory.gib(n)}" for stage, n in projected.items()) + " a worker"


def _allowed(pools: list[Pool]) -> dict[str, int | None]:
    """Bytes of the smallest worker of each stage."""
    return {stage: min(pool.memory for pool in pools if stage in pool.stages or not pool.stages) for stage in STAGES}
