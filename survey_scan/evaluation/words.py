"""An evaluation on the terminal; numbers are those of evaluation.json."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from survey_scan.evaluation.purity import FEW

Say = Callable[[str], None]
Found = Mapping[str, Any]

#: Identifiers of lenses only one model finds that are printed; evaluation.json has more.
SHOWN = 5


def show(found: Found, say: Say) -> None:
    """Print what :func:`survey_scan.evaluation.summary.summarise` found."""
    models, settings = found["models"], found["settings"]
    _labels(models[0]["objects"], found["labels"], say)
    for model, mark in zip(models, _marks(models), strict=True):
        _scores(model, mark, say)
    say("")
    if found["comparison"]:
        _table(_side_by_side(models, found["comparison"]), say)
    else:
        _table(_alone(models[0], settings), say)
    for line in _negatives(models[0], settings):
        say(line)
    if found.get("members"):
        say("")
        _table(_members(models[0], found["members"]), say)
    for model, mark in zip(models, _marks(models), strict=True):
        say("")
        if not mark or mark == " 1":
            say(
                f"the best N of a scan of {settings['scan']:,} with {settings['prior'] * settings['scan']:,.0f} lenses, and of "
                f"these objects as they are (few: fewer than {FEW} non-lenses behind it)"
            )
        _table(_budgets(model, mark), say)
        if model["kinds"]:
            say("")
            _table(_kinds(model, mark), say)
        say("")
        if model["completeness"]["map"]:
            say(_by_radius(model, mark))
        say(_calibration(model, mark))
    if found["comparison"]:
        _top(found["comparison"], say)


def interval(found: Found, digits: int = 3) -> str:
    """A value with its interval, as far as there are any."""
    if found["value"] is None:
        return "-"
    ends = "" if found["low"] is None else f" ({found['low']:.{digits}f} to {found['high']:.{digits}f})"
    return f"{found['value']:.{digits}f}{ends}"


def tpr(point: Found) -> str:
    """Completeness at an operating point with its interval."""
    return interval({"value": point["tpr"], "low": point["tpr_low"], "high": point["tpr_high"]})


def edges(low: float, high: float | None) -> str:
    """A bin."""
    return f"{low:g} and more" if high is None else f"{low:g}–{high:g}"


def _marks(models: Sequence[Found]) -> list[str]:
    return [""] if len(models) == 1 else [f" {number}" for number in range(1, len(models) + 1)]


def _two(pair: Sequence[int]) -> str:
    lenses, others = pair
    return f"{lenses:,} lens{'' if lenses == 1 else 'es'} and {others:,} non-lens{'' if others == 1 else 'es'}"


def _labels(objects: Found, labels: Found, say: Say) -> None:
    say(f"labels      {labels['path']}, {labels['column']}: {_two(objects['labelled'])}")
    if any(objects["without_row"]):
        say(f"left out    {_two(objects['without_row'])}, which are not in the scores")


def _scores(model: Found, mark: str, say: Say) -> None:
    objects, ties = model["objects"], model["ties"]
    say(
        f"{'scores' + mark:<11} {model['scores']['path']}, {model['scores']['column']}: {objects['scores']:,} objects, "
        f"{objects['unlabelled']:,} of them without a label"
    )
    for reason, pair in objects["without_score"].items():
        say(f"{'not found' + mark:<11} {_two(pair)} without a score: {reason}")
    if ties["distinct"] < ties["scored"]:
        at_top, lenses = ties["top_lenses"] + ties["top_others"], ties["top_lenses"]
        share = f"{at_top:,} share the highest, {lenses:,} of them lenses" if at_top > 1 else "none ties at the highest"
        say(f"{'ties' + mark:<11} {ties['scored']:,} scores take {ties['distinct']:,} values; {share}")


def _points(model: Found) -> dict[str, Found]:
    rates = {f"FPR {r['fpr']:g}": r["point"] for r in model["at_fpr"]}
    return {"TPR0": model["tpr0"]["point"], "TPR10": model["tpr10"]["point"], **rates}


def _area(model: Found) -> str:
    return interval(model["auc"], 4)


def _average(model: Found) -> str:
    average = model["average_precision"]
    return f"{average['sample']:.3f}, at the prior {average['prior']:.3f}"


def _alone(model: Found, settings: Found) -> list[list[str]]:
    rows = [["AUC", _area(model)], ["AP", _average(model)]]
    rows.append(["", "completeness", "non-lenses found", f"purity at a prior of {settings['prior']:g}"])
    purities = {f"FPR {r['fpr']:g}": r["purity"] for r in model["at_fpr"]}
    purities |= {"TPR0": model["tpr0"]["purity"], "TPR10": model["tpr10"]["purity"]}
    for name, point in _points(model).items():
        rows.append([name, tpr(point), f"{point['false']:,}", interval(purities[name])])
    return rows


def _members(combined: Found, members: Sequence[Found]) -> list[list[str]]:
    """The networks a run combines, each by itself, and what comes of them."""
    points = {name: _points(one) for name, one in (*((m["column"], m) for m in members), ("together", combined))}
    names = list(points["together"])
    rows = [["each network", "AUC", *names]]
    for name, one in (*((m["column"], m) for m in members), ("together", combined)):
        rows.append([name, _area(one), *(f"{points[name][p]['tpr']:.3f}" for p in names)])
    return rows


def _side_by_side(models: Sequence[Found], comparison: Found) -> list[list[str]]:
    first, second = models
    rows = [["", "1", "2", "2 - 1"]]
    rows.append(["AUC", _area(first), _area(second), _difference(comparison["auc"], 4)])
    rows.append(["AP", _average(first), _average(second), ""])
    differences = {f"FPR {r['fpr']:g}": _difference(r["tpr"], 3) for r in comparison["at_fpr"]}
    for (name, one), two in zip(_points(first).items(), _points(second).values(), strict=True):
        rows.append([name, tpr(one), tpr(two), differences.get(name, "")])
    return rows


def _difference(found: Found, digits: int) -> str:
    ends = "" if found["low"] is None else f" ({found['low']:+.{digits}f} to {found['high']:+.{digits}f})"
    return f"{found['value']:+.{digits}f}{ends}"


def _negatives(model: Found, settings: Found) -> list[str]:
    others, wide = model["tpr0"]["others"], model["tpr0"]["false_in_scan"]
    lines = [
        f"TPR0 stands on {others:,} non-lenses with a score: none found among so many still allows {wide:,.0f} in a scan of "
        f"{settings['scan']:,} (95 %)"
    ]
    if few := [f"{r['fpr']:g}" for r in model["at_fpr"] if r["allowed"] < FEW]:
        lines.append(
            f"FPR {', '.join(few)}: fewer than {FEW} non-lenses of these may be found there, too few to know the rate"
        )
    return lines


def _budgets(model: Found, mark: str) -> list[list[str]]:
    rows = [["best N" + mark, "completeness", "purity", "candidates", "here: completeness", "purity"]]
    budgets = model["budgets"]
    for wide, here in zip(budgets["scan"], budgets["sample"], strict=True):
        nothing = wide["point"]["threshold"] is None
        tied = here["lenses_low"] < here["lenses_high"]
        ties = f", {here['lenses_low']:,} to {here['lenses_high']:,} lenses by ties" if tied else ""
        every = f", all {here['inspected']:,} with a score" if here["inspected"] < here["budget"] else ""
        rows.append(
            [
                f"{wide['budget']:,}",
                "more tie at the highest" if nothing else f"{wide['point']['tpr']:.3f}",
                interval(wide["purity"]) + ("" if wide["known"] or nothing else " few"),
                f"{wide['candidates']:,.0f} ({wide['candidates_low']:,.0f} to {wide['candidates_high']:,.0f})",
                f"{here['completeness']:.3f}",
                f"{here['purity']:.3f}{ties}{every}",
            ]
        )
    return rows


def kind_name(kind: Found) -> str:
    """A kind of object, marked where it is a lens and its name does not say so."""
    name = kind["kind"] or "of no kind"
    return f"{name} (lens)" if kind["is_lens"] and name.casefold() != "lens" else name


def _kinds(model: Found, mark: str) -> list[list[str]]:
    rows = [[f"kind{mark}", "objects", f"found at FPR {model['completeness']['fpr']:g}", "median logit"]]
    for kind in model["kinds"]:
        middle = f"{kind['quantiles'][2]:.2f}" if kind["quantiles"] else "-"
        share = f"{kind['found']:,} ({kind['found'] / kind['objects']:.1%})"
        rows.append([kind_name(kind), f"{kind['objects']:,}", share, middle])
    return rows


def _by_radius(model: Found, mark: str) -> str:
    grid = model["completeness"]["map"]
    bins = zip(grid["theta_e"][:-1], grid["theta_e"][1:], grid["lenses"], grid["found"], strict=True)
    parts = [f"{edges(low, high)}″ {sum(found) / sum(lenses):.2f}" for low, high, lenses, found in bins if sum(lenses)]
    return f"{'by θ_E' + mark:<11} completeness at FPR {model['completeness']['fpr']:g}: " + ", ".join(parts)


def _calibration(model: Found, mark: str) -> str:
    c = model["calibration"]
    cooled = (
        "no temperature fits"
        if c["temperature"] is None
        else f"{c['ece_temperature']:.4f} with logit / {c['temperature']:.3g}"
    )
    return (
        f"{'calibration' + mark:<11} ECE {c['ece']:.4f}; {c['ece_shift']:.4f} with logit {c['shift']:+.2f}, {cooled}. At the prior "
        f"{c['ece_prior']:.4f}; {c['ece_prior_shift']:.4f} with logit {c['prior_shift']:+.2f}"
    )


def _top(comparison: Found, say: Say) -> None:
    for top in comparison["top"]:
        say("")
        shared = "; ".join(
            f"{top[kind]['both']:,} {name} in both, {top[kind]['only_first']:,} only in 1, {top[kind]['only_second']:,} only in 2"
            for kind, name in (("lenses", "lenses"), ("others", "non-lenses"))
        )
        say(f"best {top['budget']:,}: {shared}")
        for number, ids in ((1, top["only_first"]), (2, top["only_second"])):
            if ids:
                more = f" and {len(ids) - SHOWN:,} more" if len(ids) > SHOWN else ""
                say(f"  only in {number}: {', '.join(map(str, ids[:SHOWN]))}{more}")


def _table(rows: Sequence[Sequence[str]], say: Say) -> None:
    """Columns side by side; a row that is shorter than others ends where it ends."""
    wide = [max(len(row[i]) for row in rows if i < len(row)) for i in range(max(map(len, rows)))]
    for row in rows:
        say("  ".join(f"{text:<{width}}" for text, width in zip(row, wide, strict=False)).rstrip())
