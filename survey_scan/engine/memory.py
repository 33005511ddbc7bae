"""Projected memory of a worker at each stage, and the refusal of a scan that would not fit."""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from survey_scan import records
from survey_scan.cluster import pools
from survey_scan.config import Config
from survey_scan.cutouts import projected_bytes
from survey_scan.engine import state
from survey_scan.engine.scan import WINDOW
from survey_scan.errors import ResourceError
from survey_scan.imaging.cost import Layout
from survey_scan.layout import STAGES, RunDirectory, Stage

if TYPE_CHECKING:
    from distributed import Client

#: What a worker holds before it does anything: Python, Dask, pandas, astropy, zarr (peak_mem of the records of an
#: empty partition is a little less).
IDLE_BYTES = 350 * 2**20


def project(
    config: Config, layouts: Iterable[Layout], network_bytes: int, held: Mapping[Stage, int] | None = None
) -> dict[str, int]:
    """Bytes a worker needs at most, by stage.

    Parameters
    ----------
    config : Config
        Its cutouts and images sections.
    layouts : iterable of Layout
        Of the tiles, each kind once; of no use with a cutout service.
    network_bytes : int
        What the network says it needs, with everything; 0 if it is not asked.
    held : mapping, optional
        Stage → partitions whose pixels a worker holds at a time where these go through memory
        (:meth:`survey_scan.cluster.pools.Pools.held_by_one`); those of workers of one thread if it is not known.
    """
    kinds = layouts if config.images.service is None else [None]
    cut = IDLE_BYTES + max((projected_bytes(config.cutouts, config.images, layout) for layout in kinds), default=0)
    spec = config.cutouts
    pixels = spec.partition * spec.size**2 * len(spec.bands)
    kept = pixels * 4  # by a worker that cuts and scores in turn
    if not spec.streamed:
        return {"cutouts": cut, "scores": max(IDLE_BYTES, network_bytes) + kept}
    held = held or dict.fromkeys(STAGES, WINDOW)
    one = pixels * np.dtype(spec.dtype).itemsize
    same = one if spec.dtype == "float32" else 0  # what is cut is held where it is
    return {
        "cutouts": cut + held["cutouts"] * one - same,
        "scores": max(IDLE_BYTES, network_bytes) + (0 if same else kept) + held["scores"] * one,
    }


def refuse(projected: dict[str, int], allowed: dict[str, int | None]) -> None:
    """Raise if a stage does not fit.

    Parameters
    ----------
    projected : dict
        Bytes by stage.
    allowed : dict
        Bytes of the smallest worker that does this stage; None for no limit.

    Raises
    ------
    ResourceError
        With what to change.
    """
    ways = {"cutouts": "Lower cutouts.partition", "scores": "Lower model.batch_size"}
    lines = [
        f"{stage} needs {gib(needed)} a worker but a worker has {gib(limit)}. {ways[stage]}, have fewer workers "
        "(resources.workers, or the profile), or give them more memory (resources.memory, or the profile)."
        for stage, needed in projected.items()
        if (limit := allowed[stage]) is not None and needed > limit
    ]
    if lines:
        raise ResourceError("\n".join(lines))


def check(config: Config, run: RunDirectory, network_bytes: int, client: "Client") -> None:
    """Project, write plan/memory.json, and refuse what does not fit the smallest worker of its stage.

    Raises
    ------
    ResourceError
        If a stage does not fit.
    """
    known = state.plan_facts(run)["layouts"]
    layouts = [Layout(kind["codec"], tuple(kind["shape"]), tuple(kind["tile"])) for kind in known]
    there = pools.find(client)
    projected = project(config, layouts, network_bytes, there.held_by_one(WINDOW))
    allowed = there.memory
    records.write_json(run.memory, {"projected": projected, "allowed": allowed})
    refuse(projected, {stage: allowed[stage] for stage in STAGES})


def gib(n: int) -> str:
    """Bytes in words."""
    return f"{n / 2**30:.1f} GiB"
