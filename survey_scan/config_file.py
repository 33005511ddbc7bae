"""YAML file → :class:`~survey_scan.config.Config`, every problem at once with file:line:column.

Paths in the file are relative to the file's own folder; ``~`` and ``$SCRATCH`` are expanded. What ``survey`` and
``selection.paper`` name is put under what the file says, so that the configuration says everything itself.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from survey_scan import presets
from survey_scan.config import Config, Run
from survey_scan.errors import ConfigError
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
    data, places, problems = read(path, [name for name in Config.model_fields if name != "spelled_out"])
    if isinstance(data.get("run"), dict):
        data["run"].setdefault("directory", str(Run.model_fields["directory"].default))  # a path like any other
    _resolve_paths(data, path.absolute().parent, places, problems)
    _write_out_name(data)
    for setting in settings:
        _apply(data, places, setting, problems)
        _write_out_name(data)
    if isinstance(data.get("survey"), dict):
        data["survey"].setdefault("root", str(path.absolute().parent))
    if data.get("spelled_out") is not True:
        for spell_out in (_spell_out_survey, _spell_out_paper):
            try:
                spell_out(data, places, problems)
            except ConfigError as error:
                problems.append(str(error))
    if problems:
        raise ConfigError("\n".join(problems))
    return validate(Config, data, places, path)


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
    _resolve_paths(preset.data, Path(survey["root"]), preset.places, problems)
    presets.put_under(data, places, preset)
    data["spelled_out"] = True


def _spell_out_paper(data: dict[str, Any], places: dict[Location, str], problems: list[str]) -> None:
    """Put the cuts of the paper that ``selection.paper`` names before those of the file."""
    selection, catalogue = data.get("selection"), data.get("catalogue")
    if not isinstance(selection, dict) or not isinstance(selection.get("paper"), str):
        return
    name, place = selection["paper"], _place(places, ("selection", "paper"))
    try:
        paper = presets.paper(name)
    except ConfigError as error:
        raise ConfigError(f"{place}: {error}") from None
    held = catalogue if isinstance(catalogue, dict) else {"columns": None}
    defined = [held.get("columns", {}), held.get("magnitudes", {}), selection.get("define", {})]
    whole = all(isinstance(section, dict) for section in defined)  # else the models say what is wrong,
    whole = whole and (data.get("survey") is None or data.get("spelled_out") is True)  # or that there is no such survey
    for column, what in paper.about.needs.items() if whole else ():
        if not any(column in section for section in defined):
            problems.append(
                f"{place}: the cuts of {name} need a column '{column}' ({what}), which is not defined. Add it to "
                f"catalogue.columns, as '{column}: NAME_IN_YOUR_FILES'"
                + (", or to catalogue.magnitudes, from a flux." if column.startswith("mag_") else ".")
            )
    cuts = selection.get("cuts", {})
    if isinstance(cuts, dict):
        selection["cuts"] = {f"{name}: {cut}": text for cut, text in paper.cuts.items()} | cuts
    data["spelled_out"] = True


def _place(places: dict[Location, str], location: Location, otherwise: str = "") -> str:
    """The place of a key, or of the nearest section around it."""
    return next((places[location[:end]] for end in range(len(location), -1, -1) if location[:end] in places), otherwise)


def _apply(data: dict[str, Any], places: dict[Location, str], setting: str, problems: list[str]) -> None:
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
        _resolve_paths(data, Path.cwd(), places, problems, only=keys)


def _resolve_paths(
    data: dict[str, Any], folder: Path, places: dict[Location, str], problems: list[str], only: Location | None = None
) -> None:
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


def _resolve(text: str, folder: Path, location: Location, places: dict[Location, str], problems: list[str]) -> str:
    if location == ("model", "path") and text == "loopback":
        return text
    if location == ("resources", "profile") and not text.endswith((".yaml", ".yml")):
        return text  # the name of one that comes with the package
    expanded = os.path.expandvars(os.path.expanduser(text))  # noqa: PTH111 - a glob, perhaps a URL
    unknown = re.search(r"\$(\w+|\{\w+\})", expanded)
    if unknown:
        problems.append(f"{places.get(location, '')}: environment variable {unknown.group(0)} in {text!r} is not set")
    return expanded if "://" in expanded else os.path.normpath(folder / expanded)


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
    for key in location:
        if model is not None:
            holder, field = model, model.model_fields.get(str(key))
            model, items = _model_of(field.annotation) if field else (None, None)
        elif items is not None:
            model, items = items, None
        elif not isinstance(key, int) and re.search(r"[\[(]|^(str|int|float|bool)$", str(key)):
            continue
        known.append(key)
    return holder, tuple(known)


def _model_of(annotation: Any) -> tuple[type[BaseModel] | None, type[BaseModel] | None]:
    """The model a field holds, and the model its items are, where it is a mapping."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation, None
    for argument in get_args(annotation):
        model, items = _model_of(argument)
        if model is not None and get_origin(annotation) is dict:
            return None, model
        if model is not None or items is not None:
            return model, items
    return None, None
