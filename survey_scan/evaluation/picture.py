"""An evaluation as one picture; drawn from the content of evaluation.json alone."""

import io
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from survey_scan.evaluation.purity import FEW, precision
from survey_scan.evaluation.words import kind_name

Found = Mapping[str, Any]

#: One colour a model, and one for what belongs to none: of Okabe & Ito's, which the colour-blind tell apart.
COLOURS, GREY = ("#0072B2", "#D55E00"), "#666666"

#: Kinds that are drawn, of lenses and of the most confused others.
MOST_KINDS = 10


def draw(found: Found) -> bytes:
    """Draw one model, or two over each other.

    Parameters
    ----------
    found : dict
        From :func:`survey_scan.evaluation.summary.summarise`.

    Returns
    -------
    bytes
        A PNG: ROC curve, purity and completeness of budgets, reliability; below, as far as the labels allow, the
        completeness map of each model and the logits by kind.
    """
    models = found["models"]
    maps = [model for model in models if model["completeness"]["map"]]
    kinds = bool(models[0]["kinds"])
    figure = Figure(figsize=(15, 9.6 if maps or kinds else 5), dpi=110, layout="constrained")
    grid = figure.add_gridspec(2 if maps or kinds else 1, 6)
    _roc(figure.add_subplot(grid[0, 0:2]), found)
    _budgets(figure.add_subplot(grid[0, 2:4]), found)
    _reliability(figure.add_subplot(grid[0, 4:6]), models)
    width = (4 if kinds else 6) // max(len(maps), 1)
    for number, model in enumerate(maps):
        mark = f"{number + 1}: " if len(models) > 1 else ""
        _map(figure.add_subplot(grid[1, number * width : (number + 1) * width]), model, mark, number + 1 == len(maps))
    if kinds:
        _kinds(figure.add_subplot(grid[1, len(maps) * width : 6]), models)
    title = f"{models[0]['curve']['lenses']:,} lenses, {models[0]['curve']['others']:,} non-lenses"
    figure.suptitle(f"{'  ·  '.join(_names(models))}\n{title}", fontsize=11)
    stream = io.BytesIO()
    figure.savefig(stream, format="png", metadata={"Software": None})  # the same evaluation gives the same bytes
    return stream.getvalue()


def _names(models: Sequence[Found]) -> list[str]:
    """What each model is called in the picture: the end of its path, and the column if the ends are alike."""
    names = ["/".join(model["scores"]["path"].split("/")[-2:]) for model in models]
    if len(set(names)) < len(names):
        names = [f"{name} {model['scores']['column']}" for name, model in zip(names, models, strict=True)]
    return names if len(names) == 1 else [f"{number}: {name}" for number, name in enumerate(names, 1)]


def _curve(model: Found) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """TPR, FPR and false positives, from where nothing is found."""
    true, false = (np.array([0, *model["curve"][key]]) for key in ("true", "false"))
    return true / model["curve"]["lenses"], false / model["curve"]["others"], false


def _roc(axes: Axes, found: Found) -> None:
    others = found["models"][0]["curve"]["others"]
    left = 0.5 / others
    axes.axvspan(left, FEW / others, color="0.93", lw=0, label=f"fewer than {FEW} non-lenses")
    for model, colour, name in zip(found["models"], COLOURS, _names(found["models"]), strict=False):
        tpr, fpr, _ = _curve(model)
        none = model["tpr0"]["point"]
        label = f"{name[:34]}\nAUC {model['auc']['value']:.4f}, TPR0 {none['tpr']:.2f}"
        axes.step(np.maximum(fpr, left), tpr, where="post", color=colour, lw=1.8, label=label)
        _bar(axes, left * 1.15, none, colour)
        for rate in model["at_fpr"]:
            if rate["allowed"] and rate["point"]["false"]:
                _bar(axes, rate["point"]["fpr"], rate["point"], colour)
    chance = np.geomspace(left, 1, 200)
    axes.plot(chance, chance, color=GREY, lw=1, ls=":")
    axes.set(
        xscale="log",
        xlim=(left, 1),
        ylim=(0, 1.02),
        xlabel="false-positive rate",
        ylabel="completeness (TPR)",
        title="ROC",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right", fontsize=8)


def _bar(axes: Axes, x: float, point: Found, colour: str) -> None:
    below, above = point["tpr"] - point["tpr_low"], point["tpr_high"] - point["tpr"]
    axes.errorbar([x], [point["tpr"]], [[below], [above]], fmt="o", ms=4, color=colour, lw=1.2, capsize=2)


def _budgets(axes: Axes, found: Found) -> None:
    settings = found["settings"]
    prior, scan = settings["prior"], settings["scan"]
    for model, colour in zip(found["models"], COLOURS, strict=False):
        tpr, fpr, false = _curve(model)
        expected = scan * (tpr * prior + fpr * (1 - prior))
        known, some = false >= FEW, expected > 0
        pure = precision(tpr, fpr, prior)
        mark = f"{COLOURS.index(colour) + 1} " if len(found["models"]) > 1 else ""
        for values, style, what in ((tpr, "-", "completeness"), (pure, "--", "purity")):
            axes.step(
                expected[some & known],
                values[some & known],
                style,
                where="post",
                color=colour,
                lw=1.8,
                label=mark + what,
            )
            early = some & (~known | (np.cumsum(known) == 1))  # up to the first that is known
            axes.step(expected[early], values[early], style, where="post", color=colour, lw=1, alpha=0.4)
    for budget in settings["budgets"]:
        axes.axvline(budget, color=GREY, lw=0.8, ls=":")
        axes.text(budget, 1.11, f"{budget:,} ", ha="right", va="top", rotation=90, fontsize=8, color=GREY)
    left = min(settings["budgets"]) / 10
    axes.set(xscale="log", xlim=(left, scan), ylim=(0, 1.1), xlabel=f"candidates inspected in a scan of {scan:,}")
    axes.set_title(f"Budgets at a prior of {prior:g}")
    axes.grid(alpha=0.3)
    axes.plot([], [], color=GREY, lw=1, alpha=0.4, label=f"fewer than {FEW} non-lenses")
    axes.legend(loc="lower right", bbox_to_anchor=(1.0, 0.05), fontsize=8)


def _reliability(axes: Axes, models: Sequence[Found]) -> None:
    axes.plot([0, 1], [0, 1], color=GREY, lw=1, ls=":")
    for model, colour in zip(models, COLOURS, strict=False):
        bins = model["calibration"]["bins"]
        p, share, low, high = (
            np.array([b[key] for b in bins]) for key in ("probability", "lenses", "lenses_low", "lenses_high")
        )
        label = f"ECE {model['calibration']['ece']:.4f}"
        axes.errorbar(
            p, share, [share - low, high - share], fmt="o-", ms=4, lw=1.2, capsize=2, color=colour, label=label
        )
    axes.set(
        xlim=(-0.02, 1.02),
        ylim=(-0.02, 1.02),
        xlabel="score (probability)",
        ylabel="fraction of lenses",
        title="Calibration",
    )
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", fontsize=8)


def _map(axes: Axes, model: Found, mark: str, last: bool) -> None:
    part = model["completeness"]
    grid = part["map"]
    lenses, hits = np.array(grid["lenses"]), np.array(grid["found"])
    share = np.where(lenses > 0, hits / np.maximum(lenses, 1), np.nan)
    mesh = axes.pcolormesh(np.ma.masked_invalid(share.T), cmap="cividis", vmin=0, vmax=1, edgecolors="white", lw=0.5)
    size = 8 if share.shape[0] <= 8 else 7
    for i, j in np.argwhere(lenses > 0):
        ink = "black" if share[i, j] > 0.55 else "white"
        axes.text(
            i + 0.5, j + 0.5, f"{share[i, j]:.2f}\n{lenses[i, j]:,}", ha="center", va="center", fontsize=size, color=ink
        )
    for axis, values in ((axes.xaxis, grid["theta_e"]), (axes.yaxis, grid["arc_snr"])):
        axis.set_ticks(np.arange(len(values)), ["∞" if v is None else f"{v:g}" for v in values])
    axes.set(xlabel="Einstein radius (arcsec)", ylabel="arc S/N")
    axes.set_title(f"{mark}completeness, number of lenses, at FPR {part['point']['fpr']:.2g}")
    if last:
        axes.figure.colorbar(mesh, ax=axes, fraction=0.04, pad=0.01)


def _kinds(axes: Axes, models: Sequence[Found]) -> None:
    names = [kind_name(kind) for kind in models[0]["kinds"] if kind["quantiles"]][:MOST_KINDS]
    offsets = (0.0,) if len(models) == 1 else (0.18, -0.18)
    for model, colour, offset in zip(models, COLOURS, offsets, strict=False):
        kinds = {kind_name(kind): kind for kind in model["kinds"]}
        for row, name in enumerate(names):
            if not kinds[name]["quantiles"]:
                continue
            low, lower, middle, upper, high = kinds[name]["quantiles"]
            y = len(names) - 1 - row + offset
            axes.plot([low, high], [y, y], color=colour, lw=1)
            axes.plot(
                [lower, upper], [y, y], color=colour, lw=5 if len(models) > 1 else 8, alpha=0.5, solid_capstyle="butt"
            )
            axes.plot([middle], [y], "o", color=colour, ms=4)
        threshold = model["completeness"]["point"]["threshold"]
        if threshold is not None:
            axes.axvline(threshold, color=colour, lw=1, ls="--")
    axes.set_yticks(np.arange(len(names))[::-1], names)
    axes.set(xlabel="logit: median, middle half, 5 to 95 %", ylim=(-0.7, len(names) - 0.3))
    axes.set_title(f"Scores by kind; dashed: threshold at FPR {models[0]['completeness']['fpr']:g}")
    axes.grid(alpha=0.3, axis="x")
