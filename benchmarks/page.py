"""Make docs/performance.md, and its pictures, of what the benchmarks kept.

    python benchmarks/page.py

Every number on the page comes from ``benchmarks/kept/SUBJECT.json`` (``python benchmarks/....py --keep``) or, for a Perlmutter
node, from :mod:`perlmutter`, which says what it assumes.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
import kept
import perlmutter
import pictures

DOCS = Path(__file__).parent.parent / "docs"

#: What was wanted of a subject: in words, the limit in words, what was found, whether that is met.
Wanted = tuple[str, str, str, bool]

Found = dict[str, Any]


def load() -> dict[str, Found]:
    """What was kept, by subject."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(kept.FOLDER.glob("*.json"))}


def most(words: str, limit: float, found: float, unit: str = "") -> Wanted:
    """At most so much is wanted."""
    return words, f"≤ {limit:g}{unit}", f"{found:.3g}{unit}", found <= limit


def least(words: str, limit: float, found: float, unit: str = "") -> Wanted:
    """At least so much is wanted."""
    return words, f"≥ {limit:g}{unit}", f"{found:.3g}{unit}", found >= limit


def table(*rows: list[str]) -> list[str]:
    """A Markdown table, its first row the head."""
    head, *body = rows
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *body)] + [""]


def curve(subject: str, found: Found, x: str, y: str, ours: list[str], points: str = "curve") -> list[str]:
    """The picture of a cost against N."""
    name = f"performance-{subject}.png"
    pictures.curves(DOCS / name, found[points], x, y, ours)
    return [f"![{y}, against {x}]({name})", ""]


def summary(all_wanted: dict[str, list[Wanted]]) -> list[str]:
    """What was wanted, and whether it is met."""
    rows = [
        [f"[{subject}](#{subject})", words, limit, f"{value}" if met else f"**{value}: not met**"]
        for subject, each in all_wanted.items()
        for words, limit, value, met in each
    ]
    return table(["subject", "wanted", "limit", "found"], *rows)
