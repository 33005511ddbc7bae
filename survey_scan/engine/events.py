"""logs/events.jsonl: one JSON line for each thing that happened to a run, for the person who asks what went on."""

import json
import time
from collections import Counter
from pathlib import Path
from typing import Any


class Events:
    """Appends lines to a file; every line stands on its own, so a kill costs at most the last.

    Parameters
    ----------
    path : Path
        The file; made if absent.

    Attributes
    ----------
    counts : Counter
        How often each thing was written since.
    """

    def __init__(self, path: Path):
        self._path = path
        self.counts: Counter[str] = Counter()

    def write(self, what: str, **facts: Any) -> None:
        """Append what happened, when, and the facts."""
        self.counts[what] += 1
        line = json.dumps({"time": round(time.time(), 3), "event": what, **facts})
        self._path.parent.mkdir(parents=True, exist_ok=True)  # not before: a folder that is no run is left as it is
        with self._path.open("a") as stream:
            stream.write(line + "\n")
