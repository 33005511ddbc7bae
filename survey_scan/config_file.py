"""YAML file → :class:`~survey_scan.config.Config`, every problem at once with file:line:column.

Paths in the file are relative to the file's own folder; ``~`` and ``$SCRATCH`` are expanded. What ``survey`` and
``selection.paper`` name is put under what the file says, and ``selection.box`` is drawn, so that the configuration says
everything itself.
"""

import difflib
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from survey_scan import presets
from survey_scan.box import draw
from survey_scan.config import Box, Config, Run
from survey_scan.errors import ConfigError, SelectionProblems, UserError
from survey_scan.yaml_file import Location, parse, read

#: Keys whose values are paths (or globs of paths), resolved against the folder of the file.
PATHS: tuple[Location, ...] = (
    ("run", "directory"),
    ("survey", "root"),
    ("catalogue", "files"),
    ("images", "files"),
    ("images", "index"),
    ("images", "mask", "files"),
    ("images", "weight", "files"),
    ("model", "path"),
    ("resources", "profile"),
    ("selection", "box", "lenses"),
)


Model = TypeVar("Model", bound=BaseModel)


def load(path: Path, settings: tuple[str, ...] = ()) -> Config:
    """Read a configuration.

    Parameters
    ----------
    path : Path
        The YAML file.
    settings : tuple of str
        ``section.key=value``, each put in place of what the file says; values are YAML, and paths among them are
        relative to the working directory.

    Raises
    ------
    ConfigError
        With every problem found, one a line, each with its place.
    """
    data, places, problems = _spelled_out(path, settings)
    if problems:
        raise ConfigError("\n".join(problems))
    return validate(Config, data, places, path)


def told(error: UserError, path: Path, settings: tuple[str, ...] = ()) -> str:
    """An error's text; each problem of a selection, which is seen only once the catalogue's columns are known, after its place.

    Parameters
    ----------
    error : UserError
        What came of the configuration.
    path, settings
        As for :func:`load`, of which the configuration came.
    """
    if not isinstance(error, SelectionProblems):
        return str(error)
    places = _spelled_out(path, settings)[1]
    return "\n".join(f"{_place(places, location, str(path))}: {text}" for location, text in error.problems)


def _spelled_out(path: Path, settings: tuple[str, ...]) -> tuple[dict[str, Any], dict[Location, str], list[str]]:
    """What a configuration says, with all that it names; the place of everything; problems."""
    data, places, problems = read(path, [name for name in Config.model_fields if name != "spelled_out"])
    if isinstance(data.get("run"), dict):
        data["run"].setdefault("directory", str(Run.model_fields["directory"].default))  # a path like any other
    resolve_paths(data, path.absolute().parent, places, problems)
    _write_out_name(data)
    for setting in settings:
        apply_setting(data, places, setting, problems)
        _write_out_name(data)
    if isinstance(data.get("survey"), dict):
        data["survey"].setdefault("root", str(path.absolute().parent))
    if data.get("spelled_out") is not True:
        for spell_out in (_spell_out_survey, _spell_out_cuts):
            try:
                spell_out(data, places, problems)
            except ConfigError as error:
                problems.append(str(error))
    return data, places, problems


def validate(root: type[Model], data: dict[str, Any], places: dict[Location, str], path: Path) -> Model:
    """A model of what :func:`read` found.

    Raises
    ------
    ConfigError
        With every problem found, one a line, each with its place.
    """
    try:
        return root.model_validate(data)
    except ValidationError as error:
        found: dict[str, list[str]] = {}
        for detail in error.errors():
            what, problem = _describe(root, dict(detail), places, path)
            found.setdefault(what, []).append(problem)
        lines = [what + ", or ".join(dict.fromkeys(alternatives)) for what, alternatives in found.items()]
        raise ConfigError("\n".join(sorted(lines, key=_in_file_order))) from None


def dump(config: Config, header: str) -> str:
    """The configuration as YAML with all defaults, after a comment; :func:`load` reads it back to an equal one."""
    body = yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True, width=120)
    return "".join(f"# {line}\n" for line in header.splitlines()) + body


def _write_out_name(data: dict[str, Any]) -> None:
    """``survey: NAME`` is short for ``survey: {name: NAME}``."""
    if isinstance(data.get("survey"), str):
        data["survey"] = {"name": data["survey"]}


def _spell_out_survey(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> None:
    """Put the preset that ``survey`` names under the sections."""
    survey = data.get("survey")
    if not isinstance(survey, dict) or not isinstance(survey.get("name"), str) or not isinstance(survey["root"], str):
        return  # there is none, or its model says what is wrong
    try:
        preset = presets.file("survey", survey["name"])
    except ConfigError as error:
        raise ConfigError(f"{_place(places, ('survey', 'name'))}: {error}") from None
    resolve_paths(preset.data, survey["root"].rstrip("/") or "/", preset.places, problems)
    presets.put_under(data, places, preset)
    data["spelled_out"] = True


def _spell_out_cuts(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> None:
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
                f"{_place(places, ('survey', 'name'))}: cut '{cut}' of {survey['name']} ({text}) needs column '{absent[0]}', which "
                f"the configuration leaves out. Leave the cut out too: selection.cuts: {{{cut}: null}}."
            )
    return found


def _paper_cuts(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> dict[str, str]:
    """Cuts of the paper that ``selection.paper`` names."""
    name, place = data["selection"].get("paper"), _place(places, ("selection", "paper"))
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
    place = _place(places, ("selection", "box"))
    try:
        cuts = draw(box, numbers).cuts
    except ConfigError as error:
        raise ConfigError(f"{_place(places, ('selection', 'box', 'lenses'))}: {error}") from None
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


def _place(places: dict[Location, str], location: Location, otherwise: str = "") -> str:
    """The place of a key, or of the nearest section around it."""
    return next((places[location[:end]] for end in range(len(location), -1, -1) if location[:end] in places), otherwise)


def apply_setting(data: dict[str, Any], places: dict[Location, str], setting: str, problems: list[str]) -> None:
    """Put the value of ``section.key=value`` in its place; what is wrong with it is added to ``problems``."""
    name, equals, text = setting.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        problems.append(f"--set {setting}: expected section.key=value, for example --set ranking.top=500")
        return
    try:
        value = parse(text)
    except yaml.YAMLError:
        problems.append(f"--set {setting}: {text!r} is not a YAML value")
        return
    section: Any = data
    for key in keys[:-1]:
        if section.get(key) is None:
            section[key] = {}
        section = section[key]
        if not isinstance(section, dict):
            problems.append(f"--set {setting}: {key!r} is not a section")
            return
    section[keys[-1]] = value
    for known in [known for known in places if known[: len(keys)] == keys]:
        del places[known]
    for end in range(1, len(keys) + 1):
        places.setdefault(keys[:end], f"--set {setting}")
    if keys in PATHS:
        resolve_paths(data, Path.cwd(), places, problems, only=keys)


def resolve_paths(
    data: dict[str, Any],
    folder: Path | str,
    places: dict[Location, str],
    problems: list[str],
    only: Location | None = None,
) -> None:
    """Make paths absolute, from a folder or below a URL, with ``~`` and variables expanded.

    Parameters
    ----------
    data, places
        A configuration as read, and where everything in it stands; ``data`` is changed.
    folder : Path or str
        What paths are relative to.
    problems : list of str
        Gets a line for each variable that is not set.
    only : tuple of str, optional
        This key instead of :data:`PATHS`.
    """
    for location in PATHS if only is None else (only,):
        section: Any = data
        for key in location[:-1]:
            section = section.get(key) if isinstance(section, dict) else None
        last = location[-1]
        if not isinstance(section, dict) or last not in section:
            continue
        value = section[last]
        if isinstance(value, str):
            section[last] = _resolve(value, folder, location, places, problems)
        elif isinstance(value, list):
            section[last] = [
                _resolve(v, folder, location, places, problems) if isinstance(v, str) else v for v in value
            ]


def _resolve(
    text: str, folder: Path | str, location: Location, places: dict[Location, str], problems: list[str]
) -> str:
    if not text or (location == ("model", "path") and text == "loopback"):
        return text
    if location == ("images", "index") and text == "bricks":
        return text  # the Legacy Surveys' by arithmetic
    if location == ("resources", "profile") and not text.endswith((".yaml", ".yml")):
        return text  # the name of one that comes with the package
    expanded = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111 - a glob, perhaps a URL
    unknown = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unknown:
        problems.append(f"{places.get(location, '')}: environment variable {unknown.group(0)} in {text!r} is not set")
    if "://" in expanded:
        return expanded.removeprefix("file://")
    return f"{folder}/{expanded}" if "://" in str(folder) else os.path.normpath(Path(folder) / expanded)


def _describe(
    root: type[BaseModel], detail: dict[str, Any], places: dict[Location, str], path: Path
) -> tuple[str, str]:
    """Place and key, and what is wrong there (one of several alternatives where a value may be of several kinds)."""
    location: Location = tuple(detail["loc"])
    model, known = _follow(root, location)
    dotted = ".".join(map(str, known))
    place = _place(places, known, f"{path}:1:1")
    kind, value = detail["type"], detail.get("input")
    if kind == "extra_forbidden":
        name, allowed = str(location[-1]), list(model.model_fields)
        close = difflib.get_close_matches(name, allowed, n=1, cutoff=0.6)
        hint = f"Did you mean '{close[0]}'?" if close else f"Allowed: {', '.join(allowed)}."
        return f"{place}: unknown key '{dotted}'. ", hint
    if kind == "missing":
        return f"{place}: '{dotted}' is required", ""
    message = detail["msg"].removeprefix("Value error, ")
    if kind == "value_error":
        return f"{place}: {dotted + ': ' if dotted else ''}", message
    return f"{place}: '{dotted}' is {value!r}: ", message[:1].lower() + message[1:]


def _in_file_order(line: str) -> tuple[int, int]:
    place = re.match(r".*?:(\d+):(\d+): ", line)
    return (int(place[1]), int(place[2])) if place else (0, 0)


def _follow(root: type[BaseModel], location: Location) -> tuple[type[BaseModel], Location]:
    """The model that holds the last key, and the location without pydantic's names for the members of a union."""
    holder: type[BaseModel] = root
    model: type[BaseModel] | None = root
    known: list[str | int] = []
    items: type[BaseModel] | None = None
    annotation: Any = None
    for key in location:
        if model is None and (kind := _kind(annotation, key)) is not None:  # of several, told apart by a key of theirs
            holder = model = kind
            continue
        if model is not None:
            holder, field = model, model.model_fields.get(str(key))
            annotation = field.annotation if field else None
            model, items = _model_of(annotation)
        elif items is not None:
            model, items = items, None
        elif not isinstance(key, int) and re.search(r"[\[(]|^(str|int|float|bool|constrained-\w+)$", str(key)):
            continue
        known.append(key)
    return holder, tuple(known)


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, type[BaseModel] | None]:
    """The model a field holds, and the model its items are, where it is a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, None
    if len(list(_models(annotation))) > 1:
        return None, None
    for argument in get_args(annotation):
        model, items = _model_of(argument)
        if model is not None and get_origin(annotation) is dict:
            return None, model
        if model is not None or items is not None:
            return model, items
    return None, None


def _kind(annotation: Any, tag: str | int) -> type[BaseModel] | None:
    """That of several models which says by a literal that it is the one of this name."""
    for model in _models(annotation):
        if any(tag in get_args(field.annotation) for field in model.model_fields.values()):
            return model
    return None


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models(argument)
