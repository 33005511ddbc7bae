"""What a result depends on: digests, and keys of named parts that can say why they differ."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

#: A key names each thing a result depends on and gives its digest.
Key = dict[str, str]


def digest(value: Any) -> str:
    """Digest of a value as canonical JSON.

    Parameters
    ----------
    value : Any
        Anything JSON can hold; paths count as their text.

    Returns
    -------
    str
        The first 16 hexadecimal digits of a SHA-256.
    """
    return hashlib.sha256(_canonical(value).encode()).hexdigest()[:16]


def digest_each(values: Iterable[Any]) -> str:
    """Digest of a list of values, of which one at a time is held; that of :func:`digest` of the list."""
    sha, before = hashlib.sha256(), "["
    for value in values:
        sha.update((before + _canonical(value)).encode())
        before = ","
    sha.update(("[]" if before == "[" else "]").encode())
    return sha.hexdigest()[:16]


def digest_path(path: Path) -> str:
    """Digest of a file's content, or of all files below a folder with their names.

    Raises
    ------
    OSError
        If it cannot be read.
    """
    sha = hashlib.sha256()
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    for file in files:
        if path.is_dir():
            sha.update(str(file.relative_to(path)).encode() + b"\0")
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                sha.update(block)
    return sha.hexdigest()[:16]


def explain(old: Mapping[str, str] | None, new: Mapping[str, str]) -> list[str]:
    """Names of the parts in which two keys differ, in the order of the new key.

    Returns
    -------
    list of str
        Empty if the keys are equal; ``["new"]`` if there is no old key.
    """
    if old is None:
        return ["new"]
    changed = [name for name, value in new.items() if old.get(name) != value]
    return changed + [name for name in old if name not in new]


def _plain(value: Any) -> str:
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no canonical JSON form")


_canonical = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_plain).encode
