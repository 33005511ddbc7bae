"""What a configuration names, put into it: a survey's preset, the cuts of a paper, a colour box of simulated lenses."""

import re
from typing import Any

from pydantic import ValidationError

from survey_scan import presets
from survey_scan.box import draw
from survey_scan.config import Box
from survey_scan.config_paths import resolve_paths
from survey_scan.errors import ConfigError
from survey_scan.yaml_file import Location, place_of


def name(data: dict[str, Any]) -> None:
    """Write out ``survey: NAME``, which is short for ``survey: {name: NAME}``."""
    if isinstance(data.get("survey"), str):
        data["survey"] = {"name": data["survey"]}


def survey(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> None:
    """Put the preset that ``survey`` names under the sections."""
    survey = data.get("survey")
    if not isinstance(survey, dict) or not isinstance(survey.get("name"), str) or not isinstance(survey["root"], str):
        return  # there is none, or its model says what is wrong
    try:
        preset = presets.file("survey", survey["name"])
    except ConfigError as error:
        raise ConfigError(f"{place_of(places, ('survey', 'name'))}: {error}") from None
    resolve_paths(preset.data, survey["root"].rstrip("/") or "/", preset.places, problems)
    presets.put_under(data, places, preset)
    data["spelled_out"] = True


def cuts(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> None:
    """Put the cuts of the survey's preset, of the paper and of the box before those of the file."""
    selection = data.setdefault("selection", {})
    cuts = selection.get("cuts", {}) if isinstance(selection, dict) else None
    if not isinstance(cuts, dict):
        return  # the model says what is wrong
    before: dict[str, str] = {}
    for spell_out in (_survey_cuts, _paper_cuts, _box_cuts):
        try:
            before |= spell_out(data, places, problems)
        except ConfigError as error:
            problems.append(str(error))
    if before or any(selection.get(key) is not None for key in ("paper", "box")):
        selection["cuts"] = before | {name: text for name, text in cuts.items() if name not in before}
        data["spelled_out"] = True


def _survey_cuts(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> dict[str, str]:
    """Cuts of the survey's preset; the file's own of the same name take their places, and null leaves one out."""
    survey, own = data.get("survey"), data["selection"].get("cuts", {})
    if not isinstance(survey, dict) or data.get("spelled_out") is not True:
        return {}
    preset, held = presets.file("survey", survey["name"]), _held(data)
    known = {
        *preset.data.get("catalogue", {}).get("columns", {}),
        *preset.data.get("catalogue", {}).get("magnitudes", {}),
    }
    found = {}
    for cut, text in preset.data.get("cuts", {}).items():
        if cut in own:
            if own[cut] is None:
                del own[cut]
            else:
                found[cut] = own[cut]
            continue
        found[cut] = text
        places[("selection", "cuts", cut)] = preset.places[("cuts", cut)]
        absent = [name for name in re.findall(r"[A-Za-z_]\w*", text) if name in known and held and name not in held]
        if absent:
            problems.append(
                f"{place_of(places, ('survey', 'name'))}: cut '{cut}' of {survey['name']} ({text}) needs column '{absent[0]}', "
                f"which the configuration leaves out. Leave the cut out too: selection.cuts: {{{cut}: null}}."
            )
    return found


def _paper_cuts(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> dict[str, str]:
    """Cuts of the paper that ``selection.paper`` names."""
    name, place = data["selection"].get("paper"), place_of(places, ("selection", "paper"))
    if not isinstance(name, str):
        return {}
    try:
        paper, written = presets.paper(name), presets.file("paper", name).places
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    held = _held(data)
    for column, what in paper.about.needs.items() if held is not None else ():
        if held is not None and column not in held:
            problems.append(
                f"{place}: the cuts of {name} need a column '{column}' ({what}), which is not defined. Add it to "
                f"catalogue.columns, as '{column}: NAME_IN_YOUR_FILES'"
                + (", or to catalogue.magnitudes, from a flux." if column.startswith("mag_") else ".")
            )
    for cut in paper.cuts:
        places[("selection", "cuts", f"{name}: {cut}")] = written[("cuts", cut)]
    return {f"{name}: {cut}": text for cut, text in paper.cuts.items()}


def _box_cuts(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> dict[str, str]:
    """Cuts of the box that ``selection.box`` has drawn from lenses."""
    try:
        box = Box.model_validate(data["selection"].get("box"))
    except ValidationError:
        return {}  # there is none, or the model says what is wrong
    catalogue = data.get("catalogue")
    missing = catalogue.get("missing", []) if isinstance(catalogue, dict) else []
    numbers = [value for value in missing if isinstance(value, int | float)] if isinstance(missing, list) else []
    place = place_of(places, ("selection", "box"))
    try:
        cuts = draw(box, numbers).cuts
    except ConfigError as error:
        raise ConfigError(f"{place_of(places, ('selection', 'box', 'lenses'))}: {error}") from None
    places.update({("selection", "cuts", cut): place for cut in cuts})
    return cuts


def _held(data: dict[str, Any]) -> set[str] | None:
    """Columns that the configuration defines; None where that cannot be told, because something is wrong with it."""
    catalogue = data.get("catalogue")
    held = catalogue if isinstance(catalogue, dict) else {"columns": None}
    sections = [held.get("columns", {}), held.get("magnitudes", {}), data["selection"].get("define", {})]
    whole = all(isinstance(section, dict) for section in sections)  # else the models say what is wrong,
    whole = whole and (data.get("survey") is None or data.get("spelled_out") is True)  # or that there is no such survey
    return {name for section in sections for name in section} if whole else None
