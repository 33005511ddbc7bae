"""Some of a run's targets and all of its candidates, for pictures of where they lie."""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.config import Selection
from survey_scan.layout import RunDirectory
from survey_scan.selection import select
from survey_scan.selection.expressions import parse

#: Partitions that are looked into, spread over the run, and rows that are taken of all of them.
PARTITIONS, ROWS = 16, 20_000


@dataclass(frozen=True)
class Axis:
    """A colour or a magnitude of the targets: one column, or one less another."""

    first: str
    second: str | None = None

    @property
    def label(self) -> str:
        """As it is written in a configuration."""
        return self.first if self.second is None else f"{self.first} - {self.second}"

    def of(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Its values, shape (n,)."""
        values = table[self.first].to_numpy(np.float64, na_value=np.nan)
        return values if self.second is None else values - table[self.second].to_numpy(np.float64, na_value=np.nan)


def targets(run: RunDirectory, partitions: list[int]) -> pd.DataFrame:
    """At most :data:`ROWS` targets of at most :data:`PARTITIONS` partitions, evenly spread; the same every time."""
    chosen = [partitions[i] for i in np.unique(np.linspace(0, len(partitions) - 1, PARTITIONS).astype(int))]
    table = pd.concat([pd.read_parquet(run.targets(p)) for p in chosen], ignore_index=True)
    return table.iloc[np.unique(np.linspace(0, len(table) - 1, ROWS).astype(int))].reset_index(drop=True)


def axes(table: pd.DataFrame, bands: list[str]) -> tuple[Axis, Axis] | None:
    """Two colours of neighbouring bands, or a magnitude and a colour; None of fewer than two magnitudes.

    Parameters
    ----------
    table : DataFrame
        Targets; magnitudes are its numeric columns ``mag_BAND``.
    bands : list of str
        From blue to red, as the configuration has them.
    """
    mags = [f"mag_{band}" for band in bands if f"mag_{band}" in table]
    mags = [name for name in mags if pd.api.types.is_numeric_dtype(table[name])]
    if len(mags) >= 3:
        return Axis(mags[0], mags[1]), Axis(mags[1], mags[2])
    return (Axis(mags[1]), Axis(mags[0], mags[1])) if len(mags) == 2 else None


def cuts(
    table: pd.DataFrame, selection: Selection, pair: tuple[Axis, Axis], x: NDArray[np.float64], y: NDArray[np.float64]
) -> dict[str, NDArray[np.bool_]]:
    """Where in the plane of two axes a target passes each cut, what is not on the axes being that of the typical target.

    Parameters
    ----------
    table : DataFrame
        Targets, of which the medians are taken.
    selection : config.Selection
        Definitions and cuts; cuts that use columns which the targets do not have are left out.
    pair : (Axis, Axis)
        From :func:`axes`.
    x, y : ndarray, shapes (nx,) and (ny,)
        Values along them.

    Returns
    -------
    dict
        Name of the cut → (ny, nx) bool; only of those that are true at some places and false at others.
    """
    typical = {name: float(table[name].median()) for name in table.select_dtypes("number")}
    grid_x, grid_y = (g.ravel() for g in np.meshgrid(x, y))
    one, other = pair
    if one.second is None:  # a magnitude, and a colour with it
        columns = {one.first: grid_x, other.first: grid_x + grid_y}
    else:  # two colours with a magnitude in common
        middle = np.full(len(grid_x), typical[other.first])
        columns = {other.first: middle, one.first: middle + grid_x, str(other.second): middle - grid_y}
    frame = pd.DataFrame({name: np.full(len(grid_x), value) for name, value in typical.items()}).assign(**columns)
    frame = frame.drop(columns=[name for name in selection.define if name in frame])
    frame = frame.assign(object_id=np.arange(len(frame)), ra=0.0, dec=0.0)
    known = set(frame.columns)
    define = {}
    for name, text in selection.define.items():
        if set(parse(text).names) <= known:
            define[name] = text
            known.add(name)
    found = {}
    for name, text in selection.cuts.items():
        if not set(parse(text).names) <= known:
            continue
        passed = select(frame, Selection(define=define, cuts={name: text}, keep=[]))[0]
        inside = np.zeros(len(frame), bool)
        inside[passed["object_id"].to_numpy()] = True
        if inside.any() and not inside.all():
            found[name] = inside.reshape(len(y), len(x))
    return found
