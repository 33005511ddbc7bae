"""The state of a training in one file, so that it is of one moment whatever kills the program."""

import json
import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from survey_scan.errors import RunError

Arrays = dict[str, list[NDArray[Any]]]


def write(path: Path, facts: dict[str, Any], arrays: Arrays) -> None:
    """Write facts (as JSON can hold them) and lists of arrays by name; the file before stays until this one is whole.

    Raises
    ------
    OSError
        If the disk is full or the folder is not writable.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    named = {f"{name}/{number:05d}": array for name, some in arrays.items() for number, array in enumerate(some)}
    try:
        with partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, facts=np.array(json.dumps(facts)), **named)
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def read(path: Path) -> tuple[dict[str, Any], Arrays] | None:
    """What :func:`write` wrote; None if there is no file.

    Raises
    ------
    RunError
        If the file is damaged.
    """
    if not path.exists():
        return None
    arrays: Arrays = {}
    try:
        with np.load(path, allow_pickle=False) as file:
            facts: dict[str, Any] = json.loads(str(file["facts"]))
            for name in sorted(file.files):
                if name != "facts":
                    arrays.setdefault(name.partition("/")[0], []).append(file[name])
    except (OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"{path} is damaged ({error}). Delete it to train from the beginning.") from None
    return facts, arrays
