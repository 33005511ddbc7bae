"""YAML file → :class:`~survey_scan.config.Config`, every problem at once with file:line:column.

Paths in the file are relative to the file's own folder; ``~`` and ``$SCRATCH`` are expanded. What ``survey`` and
``selection.paper`` name is put under what the file says, and ``selection.box`` is drawn, so that the configuration says
everything itself.
"""

import difflib
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from survey_scan import spell_out
from survey_scan.config import Config, Run
from survey_scan.config_paths import is_path, resolve_paths
from survey_scan.errors import ConfigError, SelectionProblems, UserError
from survey_scan.yaml_file import Location, parse, place_of, read

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
    return "\n".join(f"{place_of(places, location, str(path))}: {text}" for location, text in error.problems)


def _spelled_out(path: Path, settings: tuple[str, ...]) -> tuple[dict[str, Any], dict[Location, str], list[str]]:
    """What a configuration says, with all that it names; the place of everything; problems."""
    data, places, problems = read(path, [name for name in Config.model_fields if name != "spelled_out"])
    if isinstance(data.get("run"), dict):
        data["run"].setdefault("directory", str(Run.model_fields["directory"].default))  # a path like any other
    resolve_paths(data, path.absolute().parent, places, problems)
    spell_out.name(data)
    for setting in settings:
        apply_setting(data, places, setting, problems)
        spell_out.name(data)
    if isinstance(data.get("survey"), dict):
        data["survey"].setdefault("root", str(path.absolute().parent))
    if data.get("spelled_out") is not True:
        for put_in in (spell_out.survey, spell_out.cuts):
            try:
                put_in(data, places, problems)
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


def apply_setting(
    data: dict[str, Any],
    places: dict[Location, str],
    setting: str,
    problems: list[str],
    is_path: Callable[[Location], bool] = is_path,
) -> None:
    """Put the value of ``section.key=value`` in its place; what is wrong with it is added to ``problems``.

    ``is_path`` tells keys whose values are paths, which are relative to the working directory then; by default those of a scan.
    """
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
    if is_path(keys):
        resolve_paths(data, Path.cwd(), places, problems, only=keys)


def _describe(
    root: type[BaseModel], detail: dict[str, Any], places: dict[Location, str], path: Path
) -> tuple[str, str]:
    """Place and key, and what is wrong there (one of several alternatives where a value may be of several kinds)."""
    location: Location = tuple(detail["loc"])
    model, known = _follow(root, location)
    dotted = ".".join(map(str, known))
    place = place_of(places, known, f"{path}:1:1")
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
