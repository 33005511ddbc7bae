"""YAML file → :class:`~survey_scan.config.Config`, every problem at once with file:line:column.

YAML is read as version 1.2 has it: ``1e-9`` is a number, ``yes`` and ``on`` are words. Paths in the file are relative to
the file's own folder; ``~`` and ``$SCRATCH`` are expanded.
"""

import difflib
import os
import re
from pathlib import Path
from typing import Any, TypeVar, get_args, get_origin

import yaml
from pydantic import BaseModel, ValidationError

from survey_scan.config import Config, Run
from survey_scan.errors import ConfigError

#: Where a value stands: the keys and list positions from the top of the file down to it.
Location = tuple[str | int, ...]

#: Keys whose values are paths (or globs of paths), resolved against the folder of the file.
PATHS: tuple[Location, ...] = (
    ("run", "directory"),
    ("catalogue", "files"),
    ("images", "files"),
    ("images", "index"),
    ("images", "mask", "files"),
    ("images", "weight", "files"),
    ("model", "path"),
    ("resources", "profile"),
)


Model = TypeVar("Model", bound=BaseModel)


class _Loader(yaml.SafeLoader):
    """PyYAML with the scalars of YAML 1.2."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$"), list("tTfF")
)
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(?:(?:\.[0-9]+|[0-9]+\.[0-9]*)(?:[eE][-+]?[0-9]+)?|[0-9]+[eE][-+]?[0-9]+|\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
    ),
    list("-+0123456789."),
)


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
    data, places, problems = read(path, list(Config.model_fields))
    if isinstance(data.get("run"), dict):
        data["run"].setdefault("directory", str(Run.model_fields["directory"].default))  # a path like any other
    _resolve_paths(data, path.absolute().parent, places, problems)
    for setting in settings:
        _apply(data, places, setting, problems)
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


def read(path: Path, expected: list[str]) -> tuple[dict[str, Any], dict[Location, str], list[str]]:
    """Read a YAML file whose top is a mapping.

    Parameters
    ----------
    path : Path
        The file.
    expected : list of str
        Keys of the top, for the message where there are none.

    Returns
    -------
    tuple
        Plain data, the place of every key and value as ``file:line:column``, and the problems so far.

    Raises
    ------
    ConfigError
        If it cannot be read, or is not such a file.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ConfigError(f"{path}: is a folder; give the YAML file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: cannot be read as text: {error}") from None
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if not isinstance(node, yaml.MappingNode):
            raise ConfigError(f"{path}:1:1: expected sections ({', '.join(expected)}), found none")
        places: dict[Location, str] = {}
        problems: list[str] = []
        _walk(node, (), path, places, problems)
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        at = f":{mark.line + 1}:{mark.column + 1}" if mark else ""
        raise ConfigError(f"{path}{at}: not valid YAML: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path}: not valid YAML: {error}") from None
    finally:
        loader.dispose()
    return data, places, problems


def _walk(node: yaml.Node, at: Location, path: Path, places: dict[Location, str], problems: list[str]) -> None:
    def place(marked: yaml.Node) -> str:
        return f"{path}:{marked.start_mark.line + 1}:{marked.start_mark.column + 1}"

    places.setdefault(at, place(node))
    if isinstance(node, yaml.MappingNode):
        seen: dict[str, str] = {}
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                problems.append(
                    f"{place(key)}: key '{'.'.join(map(str, (*at, name)))}' stands twice, first at {seen[name]}"
                )
            seen[name] = place(key)
            places[(*at, name)] = place(key)
            _walk(value, (*at, name), path, places, problems)
    elif isinstance(node, yaml.SequenceNode):
        for i, value in enumerate(node.value):
            _walk(value, (*at, i), path, places, problems)


def _apply(data: dict[str, Any], places: dict[Location, str], setting: str, problems: list[str]) -> None:
    name, equals, text = setting.partition("=")
    keys = tuple(name.strip().split("."))
    if not equals or not all(keys):
        problems.append(f"--set {setting}: expected section.key=value, for example --set ranking.top=500")
        return
    try:
        value = yaml.load(text, Loader=_Loader)
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
    place = next((places[known[:end]] for end in range(len(known), -1, -1) if known[:end] in places), f"{path}:1:1")
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
