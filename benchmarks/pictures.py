"""The pictures of docs/performance.md."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

#: Colours of the stages, and of curves: ours first.
STAGES = {"cutouts": "#2a7f9e", "scores": "#d98032"}
COLOURS = ("#2a7f9e", "#d98032", "#6a8f3c", "#8a5a9e", "#777777", "#b03a48", "#444444", "#c9a227")


def curves(path: Path, points: Sequence[Mapping[str, float]], x: str, y: str, ours: Sequence[str] = ()) -> None:
    """Cost against N, both by decades; ``ours`` are drawn first and thick, ``n`` is N."""
    names = [
        *(name for name in ours if name in points[0]),
        *(name for name in points[0] if name != "n" and name not in ours),
    ]
    figure = Figure(figsize=(6.4, 3.4), layout="constrained")
    axes = figure.add_subplot()
    for name, colour in zip(names, COLOURS, strict=False):
        known = [(point["n"], point[name]) for point in points if point.get(name)]
        width = 2.2 if name in ours else 1.2
        axes.plot(*zip(*known, strict=True), color=colour, label=name, marker="o", markersize=4, linewidth=width)
    axes.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    low, high = axes.get_ylim()
    if high / low < 10:  # a flat curve should look flat
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 4, middle * 4)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter(EngFormatter(sep=" "))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter(EngFormatter(sep=" "))
    axes.tick_params(axis="y", which="minor", labelsize=8)
    axes.grid(alpha=0.3, which="both", linewidth=0.5)
    figure.legend(fontsize=8, frameon=False, loc="outside right upper")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def timelines(path: Path, scans: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """When each task of a scan began and ended, a row a worker; one panel a scan."""
    figure = Figure(figsize=(8.0, 1.3 + 1.0 * len(scans)), layout="constrained")
    rows = figure.subplots(len(scans), squeeze=False)[:, 0]
    for axes, (title, tasks) in zip(rows, scans.items(), strict=True):
        workers = sorted({task["worker"] for task in tasks})
        for stage, colour in STAGES.items():
            for worker in workers:
                bars = [
                    (task["start"], task["stop"] - task["start"])
                    for task in tasks
                    if task["worker"] == worker and task["stage"] == stage
                ]
                axes.broken_barh(
                    bars, (worker - 0.36, 0.72), facecolor=colour, edgecolor="white", linewidth=0.6,
                    label=stage if worker == workers[0] else None,
                )  # fmt: skip
        axes.set(yticks=workers, yticklabels=[f"worker {w + 1}" for w in workers], title=title, xlabel="seconds")
        axes.title.set_fontsize(9)
        axes.invert_yaxis()
        axes.spines[["top", "right"]].set_visible(False)
    handles = dict(zip(*reversed(rows[0].get_legend_handles_labels()), strict=True))
    for axes in rows[1:]:
        handles |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(handles.values(), handles.keys(), loc="outside upper right", ncols=2, fontsize=8, frameon=False)
    figure.savefig(path, dpi=110, metadata={"Software": None})
