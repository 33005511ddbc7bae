"""Rows of real cutouts: which, from a table of ids; and their pixels, as the simulated ones are laid out."""

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.config import CHUNK_ROWS
from survey_scan.errors import ConfigError
from survey_scan.schema import Status
from survey_scan.simulation.config import Real, Simulation
from survey_scan.store import Reader


def find(config: Simulation, kind: str) -> pd.DataFrame:
    """The rows of a store that a table names, those without a good cutout left out.

    Parameters
    ----------
    config : Simulation
    kind : str
        ``painted`` or ``field``.

    Returns
    -------
    DataFrame
        ``row`` and ``object_id``, and the table's columns ``mag_<band>``, in the order of the store.

    Raises
    ------
    RunError
        If the store is none.
    ConfigError
        If its bands, size, pixel scale or zero point do not fit the survey's, or the table has too few of its ids.
    """
    real: Real = getattr(config, kind)
    reader = Reader(real.store)
    _check(config, kind, real, reader)
    table = _table(kind, real)
    wanted, step = pd.Index(table["object_id"]), int(reader.attributes["partition"])
    pieces = []
    for start in range(0, reader.n_targets, step):
        stop = min(start + step, reader.n_targets)
        place = wanted.get_indexer(pd.Index(_text(reader.column("object_id", start, stop))))
        good = (np.asarray(reader.column("status", start, stop)) == Status.OK) & reader.kept(start, stop)
        mine = np.flatnonzero(good & (place >= 0))
        pieces.append(pd.DataFrame({"row": start + mine, "place": place[mine]}))
    found = pd.concat(pieces, ignore_index=True)
    magnitudes = [f"mag_{band}" for band in config.bands if f"mag_{band}" in table]
    chosen = table.iloc[found["place"]][["object_id", *magnitudes]].reset_index(drop=True)
    chosen.insert(0, "row", found["row"])
    needed = 1 if kind == "painted" else config.counts.field
    if len(chosen) < needed:
        raise ConfigError(
            f"{kind}.table {real.table} names {len(table):,} objects, {len(chosen):,} of them with a good cutout in "
            f"{real.store}; {needed:,} are needed. Name more, or ask for fewer with counts.{kind}."
        )
    return chosen


def pixels(config: Simulation, kind: str, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Cutouts of some rows, shape (n, size, size, bands): their middle, in the survey's order of bands."""
    real: Real = getattr(config, kind)
    reader = Reader(real.store)
    order = [reader.attributes["bands"].index(band) for band in config.bands]
    size = config.output.size
    edge = (int(reader.attributes["size"]) - size) // 2  # the same object stands in the middle of both
    out = np.empty((len(rows), size, size, len(order)), np.float32)
    for chunk in np.unique(rows // CHUNK_ROWS):  # each is read once
        start = int(chunk) * CHUNK_ROWS
        held = reader.pixels(start, min(start + CHUNK_ROWS, reader.n_targets))
        mine = np.flatnonzero(rows // CHUNK_ROWS == chunk)
        out[mine] = held[rows[mine] - start, edge : edge + size, edge : edge + size][..., order]
    return out


def _check(config: Simulation, kind: str, real: Real, reader: Reader) -> None:
    facts, survey = reader.attributes, config.survey
    missing = [band for band in config.bands if band not in facts["bands"]]
    if missing:
        raise ConfigError(
            f"{kind}.store {real.store} has no band {missing[0]!r}; it has {', '.join(facts['bands'])}. "
            "Simulate its bands, or cut these out as well."
        )
    size = config.output.size
    if facts["size"] < size or (facts["size"] - size) % 2:
        raise ConfigError(
            f"{kind}.store {real.store} has cutouts of {facts['size']} pixels; output.size is {size}. It must be no "
            "larger, and both odd or both even."
        )
    held = facts.get("pixel_scale")
    if held is not None and abs(held - survey.pixel_scale) > 0.01 * survey.pixel_scale:
        raise ConfigError(
            f"{kind}.store {real.store} has a pixel scale of {held:g} arcsec; survey.pixel_scale is {survey.pixel_scale:g}."
        )
    points = facts.get("zero_point")
    for band in config.bands:
        held = points.get(band) if isinstance(points, dict) else points
        if held is not None and abs(held - survey.zero_point) > 1e-3:
            raise ConfigError(
                f"{kind}.store {real.store} has a zero point of {held:g} in {band}; survey.zero_point is "
                f"{survey.zero_point:g}. Cut it with cutouts.zero_point: {survey.zero_point:g}, or change the survey's."
            )


def _table(kind: str, real: Real) -> pd.DataFrame:
    try:
        table = pd.read_csv(real.table) if real.table.suffix == ".csv" else pd.read_parquet(real.table)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{kind}.table {real.table} cannot be read: {error}") from None
    if "object_id" not in table:
        columns = ", ".join(map(str, table.columns))
        raise ConfigError(f"{kind}.table {real.table} has no column 'object_id'; it has {columns}.")
    return table.assign(object_id=_text(table["object_id"].to_numpy())).drop_duplicates("object_id")


def _text(ids: NDArray[np.generic]) -> NDArray[np.object_]:
    """Identifiers as text, so that a table's numbers meet a store's text and the other way round."""
    return np.array([str(i) for i in ids], dtype=object)
