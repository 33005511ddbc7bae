"""A folder of many files that may be killed while it is written, and goes on afterwards."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from survey_scan import records
from survey_scan.errors import UserError


def begin(folder: Path, key: dict[str, Any], say: Callable[[str], None]) -> bool:
    """Take a folder for an export; say whether anything is left to do.

    Parameters
    ----------
    folder : Path
        New, empty, or of the same export, begun or finished.
    key : dict
        What the files depend on.
    say : callable
        Prints a line.

    Raises
    ------
    UserError
        If something else is in it.
    """
    record = _record(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        found = records.read(record) if folder.is_dir() else None
        if found is None:
            raise UserError(f"--out: {folder} exists and is no export of this program. Name another, or remove it.")
        plain = json.loads(json.dumps(key))
        if found["key"] != plain:
            differ = sorted(name for name in found["key"] | plain if found["key"].get(name) != plain.get(name))
            raise UserError(
                f"--out: {folder} holds another export (it differs in: {', '.join(differ)}). Name another, or remove it."
            )
        for partial in folder.rglob(".*.partial"):
            partial.unlink()
        if found.get("finished"):
            say(f"finished    {folder} is there already, {found['files']:,} files; nothing is left to do")
            return False
        say(f"resumed     {folder}")
        return True
    folder.mkdir(parents=True, exist_ok=True)
    records.write(record, key, {"finished": False})
    return True


def put(path: Path, data: Callable[[], bytes]) -> None:
    """Write a file whole, unless it is there."""
    if not path.exists() or not path.stat().st_size:
        path.parent.mkdir(parents=True, exist_ok=True)
        records.write_quickly(path, data())


def end(folder: Path, key: dict[str, Any], files: int) -> None:
    """Record that an export is finished."""
    records.write(_record(folder), key, {"finished": True, "files": files})


def _record(folder: Path) -> Path:
    return folder / "export.json"
