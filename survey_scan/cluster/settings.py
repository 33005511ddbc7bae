"""Dask's settings for long scans (dask.yaml), for the driver and for every process it starts."""

from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml

#: The name of the file, in the package and in a run's logs.
NAME = "dask.yaml"


def load() -> dict[str, Any]:
    """The settings by dotted names, as ``dask.config.set`` takes them without forgetting others."""
    return dict(_flat(yaml.safe_load(_text()), ""))


def write(logs: Path) -> Path:
    """Put the settings where every node can read them; the path is for DASK_CONFIG."""
    path = logs / NAME
    path.write_text(_text())
    return path


def _text() -> str:
    return files("survey_scan.cluster").joinpath(NAME).read_text()


def _flat(tree: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
