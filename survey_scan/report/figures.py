"""The pictures of a report, each an SVG to stand in the page; drawn of tables and counts alone."""

import io
import re
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.collections import PolyCollection
from matplotlib.colors import LogNorm, Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from survey_scan.config import Selection
from survey_scan.layout import STAGES
from survey_scan.report import sample
from survey_scan.watch import bins

#: Colours of Okabe & Ito, which the colour-blind tell apart, and one for what is behind.
CANDIDATE, CUTOUTS, SCORES, GREY = "#D55E00", "#0072B2", "#E69F00", "#777777"

#: Candidates that are marked.
MARKED = 1000

#: Tiles up to which each is drawn with its borders.
OUTLINED = 2000

#: Points along each axis of the grid on which cuts are tried.
GRID = 300


def sky(tiles: pd.DataFrame, targets: pd.DataFrame, candidates: pd.DataFrame) -> str | None:
    """Where the targets are, tile by tile if the tiles' corners are known, and the candidates.

    Parameters
    ----------
    tiles : DataFrame
        ``n_targets``, and ``ra1, dec1, ... ra4, dec4`` (deg) of a plan that located its targets on tiles.
    targets : DataFrame
        From :func:`survey_scan.report.sample.targets`: drawn where there are no corners.
    candidates : DataFrame
        ``ra``, ``dec`` (deg).

    Returns
    -------
    str or None
        None if there is nothing to draw.
    """
    cornered = "ra1" in tiles and bool(tiles["ra1"].notna().any())
    held = tiles[(tiles["n_targets"] > 0) & tiles["ra1"].notna()] if cornered else tiles[:0]
    corners = (
        np.stack([held[[f"ra{i}", f"dec{i}"]].to_numpy(np.float64) for i in range(1, 5)], axis=1)
        if len(held)
        else np.empty((0, 4, 2))
    )
    dots = targets[["ra", "dec"]].to_numpy(np.float64) if not len(held) else np.empty((0, 2))
    everything = np.concatenate([candidates[["ra", "dec"]].to_numpy(np.float64), dots, corners.reshape(-1, 2)])
    if not len(everything):
        return None
    origin = _middle(everything[:, 0])
    figure, axis = _figure(7.2, 4.2)
    if len(held):
        # A corner goes with its tile: one that begins before the origin's far side ends there, too.
        first = _unwrap(corners[:, :1, 0], origin)
        corners[..., 0] = first + (corners[..., 0] - corners[:, :1, 0] + 180) % 360 - 180
        outlined = len(held) <= OUTLINED
        polygons = PolyCollection(
            list(corners), array=held["n_targets"].to_numpy(float), cmap="Blues", edgecolors="white" if outlined else "face",
            linewidths=0.6 if outlined else 0.1, rasterized=not outlined, norm=_counts(held["n_targets"]),
        )  # fmt: skip
        axis.add_collection(polygons)
        figure.colorbar(polygons, ax=axis, label="targets in a tile", shrink=0.85)
    else:
        axis.scatter(
            _unwrap(dots[:, 0], origin),
            dots[:, 1],
            s=2,
            color=GREY,
            linewidths=0,
            rasterized=True,
            label="some targets",
        )
    shown = candidates.head(MARKED)
    axis.scatter(
        _unwrap(shown["ra"].to_numpy(), origin), shown["dec"], s=9, color=CANDIDATE, linewidths=0, zorder=3,
        label=f"best {len(shown):,} candidates" if len(shown) < len(candidates) else f"{len(shown):,} candidates",
    )  # fmt: skip
    axis.autoscale_view()
    middle = float(np.median(everything[:, 1]))
    axis.set_aspect(1 / max(np.cos(np.radians(middle)), 0.1), adjustable="datalim")
    axis.invert_xaxis()  # east is left
    axis.xaxis.set_major_formatter(lambda value, _: f"{value % 360:g}")
    axis.set(xlabel="right ascension, deg", ylabel="declination, deg")
    figure.legend(loc="outside lower center", frameon=False, ncols=2)
    return _svg(figure)


def histogram(logits: Mapping[str, int], lowest: float | None) -> str | None:
    """The logits of all scored targets, and where the candidates begin.

    Parameters
    ----------
    logits : mapping
        As :func:`survey_scan.watch.bins.count` counts them.
    lowest : float or None
        The last candidate's logit.
    """
    counts = np.array([logits.get(str(i), 0) for i in range(len(bins.EDGES) - 1)])
    if not counts.any():
        return None
    figure, axis = _figure(7.2, 3.4)
    axis.stairs(counts, bins.EDGES, fill=True, color=SCORES)
    axis.set_yscale("log")
    inside = np.flatnonzero(counts)
    axis.set_xlim(bins.EDGES[inside[0]] - 0.5, bins.EDGES[inside[-1] + 1] + 0.5)
    axis.set_ylim(bottom=0.7)
    if lowest is not None:
        axis.axvline(lowest, color=CANDIDATE, linewidth=1.4)
        axis.annotate(
            f"candidates from {lowest:.2f}", (lowest, 1), (5, -4), xycoords=("data", "axes fraction"),
            textcoords="offset points", va="top", color=CANDIDATE,
        )  # fmt: skip
    axis.set(xlabel="logit", ylabel="targets")
    return _svg(figure)


def colours(
    targets: pd.DataFrame, candidates: pd.DataFrame, selection: Selection, pair: tuple[sample.Axis, sample.Axis]
) -> str:
    """Targets and candidates in two colours, and the cuts that run through there.

    Parameters
    ----------
    targets : DataFrame
        From :func:`survey_scan.report.sample.targets`.
    candidates : DataFrame
        With the same columns.
    selection : config.Selection
        The cuts.
    pair : (Axis, Axis)
        From :func:`survey_scan.report.sample.axes`.
    """
    figure, axis = _figure(7.2, 4.6)
    values = [one.of(targets) for one in pair]
    known = np.isfinite(values[0]) & np.isfinite(values[1])
    best = [one.of(candidates.head(MARKED)) for one in pair]
    (x_low, x_high), (y_low, y_high) = (_range(v[known], b) for v, b in zip(values, best, strict=True))
    axis.hexbin(
        values[0][known], values[1][known], gridsize=70, extent=(x_low, x_high, y_low, y_high), bins="log", cmap="Greys",
        mincnt=1, linewidths=0, rasterized=True,
    )  # fmt: skip
    axis.scatter(best[0], best[1], s=9, color=CANDIDATE, linewidths=0, label="candidates")
    x, y = np.linspace(x_low, x_high, GRID), np.linspace(y_low, y_high, GRID)
    found = sample.cuts(targets, selection, pair, x, y)
    for number, (name, inside) in enumerate(found.items()):
        style = ("-", "--", "-.", ":")[number % 4]
        axis.contour(x, y, inside.astype(float), levels=[0.5], colors=CUTOUTS, linewidths=1.2, linestyles=style)
        axis.plot([], [], color=CUTOUTS, linestyle=style, linewidth=1.2, label=f"cut {name}")
    axis.set(xlim=(x_low, x_high), ylim=(y_low, y_high), xlabel=pair[0].label, ylabel=pair[1].label)
    axis.legend(loc="best", frameon=True, framealpha=0.85, edgecolor="none")
    return _svg(figure)


def progress(events: list[dict[str, Any]]) -> str | None:
    """How many targets were cut and scored when; time in which the scan did not run is left out.

    Parameters
    ----------
    events : list of dict
        From :func:`survey_scan.report.facts.read_events`.
    """
    passed, before = 0.0, None
    times: dict[str, list[float]] = {stage: [0.0] for stage in STAGES}
    sums: dict[str, list[int]] = {stage: [0] for stage in STAGES}
    restarts: list[float] = []
    for event in events:
        if event["event"] == "started":
            before = event["time"]
            restarts.append(passed)
            continue
        if before is not None:
            passed += max(event["time"] - before, 0.0)
        before = event["time"]
        if event["event"] == "finished" and event.get("stage") in times:
            times[event["stage"]].append(passed)
            sums[event["stage"]].append(sums[event["stage"]][-1] + event["targets"])
    if not any(len(t) > 1 for t in times.values()):
        return None
    figure, axis = _figure(7.2, 3.2)
    unit, name = (3600.0, "hours") if passed > 7200 else (60.0, "minutes") if passed > 300 else (1.0, "seconds")
    for stage, colour in (("cutouts", CUTOUTS), ("scores", SCORES)):
        axis.step(np.array(times[stage]) / unit, sums[stage], where="post", color=colour, label=stage)
    for restart in restarts[1:]:
        axis.axvline(restart / unit, color=GREY, linewidth=0.8, linestyle=":")
    if len(restarts) > 1:
        axis.plot([], [], color=GREY, linewidth=0.8, linestyle=":", label="started again")
    axis.set(xlabel=f"{name} in which the scan ran", ylabel="targets", xlim=(0, None), ylim=(0, None))
    axis.legend(loc="upper left", frameon=False)
    return _svg(figure)


def _figure(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="none")
    axis = figure.subplots()
    axis.set_facecolor("none")
    axis.spines[["top", "right"]].set_visible(False)
    return figure, axis


def _svg(figure: Figure) -> str:
    """The figure as an SVG element that is as wide as there is room for; the same figure gives the same text."""
    stream = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "survey_scan", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(stream, format="svg", dpi=150, metadata={"Date": None})
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    return re.sub(
        r'(<svg[^>]*?) width="[^"]*" height="[^"]*"|(<svg[^>]*?) height="[^"]*" width="[^"]*"', r"\1\2", text, count=1
    )


def _counts(n: "pd.Series[int]") -> Normalize:
    """Of a logarithm where numbers differ by more than ten times."""
    low, high = int(n.min()), int(n.max())
    return LogNorm(low, high) if high > 10 * low else Normalize(0, high)


def _middle(ra: NDArray[np.float64]) -> float:
    """The direction of the mean of right ascensions, degrees."""
    angle = np.radians(ra)
    return float(np.degrees(np.arctan2(np.sin(angle).sum(), np.cos(angle).sum())) % 360)


def _unwrap(ra: Any, origin: float) -> NDArray[np.float64]:
    """Right ascensions within 180 degrees of the origin, which may be below 0 or above 360."""
    return np.asarray(origin + (np.asarray(ra, np.float64) - origin + 180) % 360 - 180)


def _range(values: NDArray[np.float64], best: NDArray[np.float64]) -> tuple[float, float]:
    """What holds nearly all, with room for a cut beyond."""
    every = np.concatenate([values, best[np.isfinite(best)]])
    low, high = np.percentile(every, [0.3, 99.7]) if len(every) else (0.0, 1.0)
    room = 0.12 * max(high - low, 0.1)
    return float(low - room), float(high + room)
