"""The completeness map as a table for a page of documentation."""

from collections.abc import Mapping
from typing import Any

from survey_scan.evaluation.words import edges, interval, tpr


def table(found: Mapping[str, Any], command: str) -> str:
    """A Markdown table of each model's completeness map, with what it stands on.

    Parameters
    ----------
    found : dict
        From :func:`survey_scan.evaluation.summary.summarise`.
    command : str
        The command line that writes the table again.

    Returns
    -------
    str
        Found lenses of all lenses in bins of Einstein radius x S/N; - where there are none. A line says so where the
        labels do not allow a map.
    """
    return "\n".join([f"<!-- written by: {command} -->", *(_map(model) for model in found["models"])])


def _map(model: Mapping[str, Any]) -> str:
    part = model["completeness"]
    point, grid, others = part["point"], part["map"], model["curve"]["others"]
    lines = [
        "",
        f"Completeness of `{model['scores']['path']}` ({model['scores']['column']}) at a false-positive rate of "
        f"{point['fpr']:.2g} ({point['false']:,} of {others:,} non-lenses; at most {part['fpr']:g} was asked for): "
        f"{tpr(point)}, {point['true']:,} of {model['curve']['lenses']:,} lenses. "
        f"AUC {interval(model['auc'], 4)}; TPR0 {tpr(model['tpr0']['point'])}, "
        f"before the first of {model['tpr0']['others']:,} non-lenses with a score.",
        "",
    ]
    if grid is None:
        return "\n".join([*lines, "The labels give no Einstein radii and S/N of the lenses.", ""])
    columns = zip(grid["arc_snr"][:-1], grid["arc_snr"][1:], strict=True)
    lines.append("| θ_E (″) \\ arc S/N | " + " | ".join(edges(*pair) for pair in columns) + " | all |")
    lines.append("|---|" + "---|" * len(grid["arc_snr"]))
    rows = zip(grid["theta_e"][:-1], grid["theta_e"][1:], grid["lenses"], grid["found"], strict=True)
    for low, high, lenses, hits in rows:
        cells = [_cell(hit, n) for hit, n in zip([*hits, sum(hits)], [*lenses, sum(lenses)], strict=True)]
        lines.append(f"| {edges(low, high)} | " + " | ".join(cells) + " |")
    sums = [
        _cell(sum(hits), sum(lenses))
        for hits, lenses in zip(zip(*grid["found"], strict=True), zip(*grid["lenses"], strict=True), strict=True)
    ]
    total = _cell(sum(map(sum, grid["found"])), sum(map(sum, grid["lenses"])))
    lines.append("| all | " + " | ".join([*sums, total]) + " |")
    if grid["unplaced"][0]:
        lines += ["", f"Without a radius or an S/N: {_cell(grid['unplaced'][1], grid['unplaced'][0])}."]
    return "\n".join([*lines, ""])


def _cell(found: int, lenses: int) -> str:
    return f"{found / lenses:.2f} ({found:,}/{lenses:,})" if lenses else "-"
