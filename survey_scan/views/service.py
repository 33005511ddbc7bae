"""One cutout from a service, to see that it sends what the configuration says."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

from survey_scan import catalogue, selection
from survey_scan.config import Config
from survey_scan.errors import ImageError, TileError
from survey_scan.imaging import service, service_file
from survey_scan.imaging.service_http import Client
from survey_scan.schema import Status


def look(config: Config) -> Iterator[str]:
    """Ask for one cutout, of the first object that is selected, and say what came.

    Parameters
    ----------
    config : Config
        Its images have a service.

    Raises
    ------
    ServiceError
        If the service is out of reach, down, or refuses us.
    ImageError
        If it sends what cannot be used.
    """
    images, spec, asked = config.images, config.cutouts, config.images.service
    assert asked is not None and images.pixel_scale is not None
    rate = f"{asked.rate:g} request{'s' if asked.rate != 1 else ''} a second"
    yield f"images      cutouts of {', '.join(spec.bands)} from {asked.host}, at most {rate}"
    contents = catalogue.survey(config.catalogue)
    first = catalogue.read_slice(contents.slices[0], config.catalogue, contents.types)
    selected = selection.select(first, config.selection)[0]
    if not len(selected):
        yield f"            of the first {len(first):,} objects none is selected, so none was asked for"
        return
    ra, dec = float(selected["ra"].iloc[0]), float(selected["dec"].iloc[0])
    yield f"            asked for object {selected['object_id'].iloc[0]} at {ra:.6f} {dec:+.6f}"
    problems = []
    with (
        tempfile.TemporaryDirectory() as folder,
        Client(asked, Path(folder) / "one", service.most_bytes(spec)) as client,
    ):
        for url, bands in service.urls(asked, spec, images.pixel_scale, ra, dec).items():
            answer = client.fetch(url)
            if answer.kind != "file":
                problems.append(f"{answer.text}: {url}")
                continue
            planes = service_file.planes(answer.path, images, bands)
            for band in bands:
                try:
                    if isinstance(plane := planes[band], TileError):
                        raise plane
                    scale = service.check(plane, images.pixel_scale, images.zero_point_of(band))
                except TileError as error:
                    problems.append(f"band {band}: {error}: {url}")
                    continue
                height, width = plane.pixels.shape
                yield f"              {band:<8} {width} x {height} pixels of {scale:.4f} arcsec, {plane.bad.mean():.0%} of them bad"
        if not problems:
            cut = service.cut(selected.iloc[:1], images, spec, Path(folder) / "one")
            yield f"              cutout of {spec.size} x {spec.size} pixels: {Status(int(cut.status[0])).reason}"
    if problems:
        raise ImageError("\n".join(f"images.service: {problem}" for problem in problems))
