"""Whether every identifier occurs once, for more identifiers than fit into memory.

Beside each located file stand the hashes of its identifiers, sorted. Equal identifiers have equal hashes, so that each
share of the range of hashes can be looked at alone: of every file, one run of hashes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan.errors import CatalogueError

Hashes = NDArray[np.uint64]
#: Repeated hashes of a share whose identifiers are looked up for the message.
_SHOWN = 1000


class Repeated(NamedTuple):
    """How many hashes occur more than once, and the first of them."""

    number: int
    hashes: Hashes


def write_hashes(ids: "pd.Series[Any]", path: Path) -> None:
    """Write the sorted hashes of a located file's identifiers beside it."""
    np.save(hashes_path(path), np.sort(hash_ids(ids)))


def hashes_path(path: Path) -> Path:
    """The file of identifiers' hashes beside a located file."""
    return path.with_suffix(".npy")


def hash_ids(ids: "pd.Series[Any]") -> Hashes:
    """Hashes spread evenly over 64 bits; different integers never share one (the mixing can be undone)."""
    if ids.dtype.kind not in "iu":
        return pd.util.hash_array(ids.to_numpy(object), categorize=False)
    z = ids.to_numpy().astype(np.uint64)  # the finaliser of SplitMix64 (Steele, Lea & Flood 2014)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def repeated(paths: Iterable[Path], share: int, shares: int) -> Repeated:
    """Look for identifiers that occur more than once, in one share of the range of hashes.

    Parameters
    ----------
    paths : iterable of Path
        Of all located files.
    share, shares : int
        Which of how many equal parts of the range.
    """
    width = 2**64 // shares
    bounds = np.array([share * width, min((share + 1) * width, 2**64 - 1)], np.uint64)
    pieces = [np.zeros(0, np.uint64)]
    for path in paths:
        hashes = np.load(hashes_path(path), mmap_mode="r")
        start, stop = np.searchsorted(hashes, bounds)
        pieces.append(np.array(hashes[start : None if share == shares - 1 else stop]))
    together = np.sort(np.concatenate(pieces))
    twice = np.unique(together[1:][together[1:] == together[:-1]])
    return Repeated(len(twice), twice[:_SHOWN])


def refuse(located: Mapping[int, tuple[Path, str]], found: Iterable[Repeated], selected: int) -> None:
    """Refuse identifiers that occur more than once: results could not be told apart.

    Parameters
    ----------
    located : mapping
        Number → the located file and the catalogue file its rows come from.
    found : iterable of Repeated
        Of all shares.
    selected : int
        Rows of all located files.

    Raises
    ------
    CatalogueError
        With their number and the first few.
    """
    found = list(found)
    count = sum(each.number for each in found)
    if not count:
        return
    hashes = np.sort(np.concatenate([each.hashes for each in found]))
    where: dict[Any, list[str]] = {}
    for path, source in located.values():
        for object_id in find_ids(path, hashes):
            where.setdefault(object_id, []).append(Path(source).name)
    twice = sorted(object_id for object_id, files in where.items() if len(files) > 1)
    if not twice:
        return  # different texts that share a hash
    count -= len(hashes) - len(twice)
    first = "; ".join(f"{object_id} (in {', '.join(where[object_id])})" for object_id in twice[:3])
    verb = "occurs" if count == 1 else "occur"
    raise CatalogueError(
        f"catalogue.id_column: of the {selected:,} selected objects' identifiers, {count:,} {verb} more than once: "
        f"{first}{f'; and {count - 3:,} more' if count > 3 else ''}. Name a column, or a list of columns, that is "
        "unique, or add a cut that keeps one row of each."
    )


def find_ids(path: Path, hashes: Hashes) -> list[Any]:
    """Identifiers in a located file whose hashes are among some."""
    known = np.load(hashes_path(path), mmap_mode="r")
    at = np.minimum(np.searchsorted(known, hashes), max(len(known) - 1, 0))
    if not len(known) or not (known[at] == hashes).any():
        return []
    ids = pd.read_feather(path, columns=["object_id"])["object_id"]
    return list(ids[np.isin(hash_ids(ids), hashes)])
