"""Reading YAML so that the place of every key and value is known.

YAML is read as version 1.2 has it: ``1e-9`` is a number, ``yes`` and ``on`` are words.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from survey_scan.errors import ConfigError

#: Where a value stands: the keys and list positions from the top of the file down to it.
Location = tuple[str | int, ...]


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


def parse(text: str) -> Any:
    """The value that a piece of YAML is.

    Raises
    ------
    yaml.YAMLError
        If it is none.
    """
    return yaml.load(text, Loader=_Loader)


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


def place_of(places: dict[Location, str], location: Location, otherwise: str = "") -> str:
    """The place of a key, or of the nearest section around it."""
    return next((places[location[:end]] for end in range(len(location), -1, -1) if location[:end] in places), otherwise)
