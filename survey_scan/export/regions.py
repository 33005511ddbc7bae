"""Candidates as regions for SAOImage DS9."""

import pandas as pd

#: Colours by grade; then of lenses that are known, and of all others.
GRADES = {"A": "red", "B": "orange", "C": "yellow"}
KNOWN, OTHER = "cyan", "green"


def write(table: pd.DataFrame, side: float) -> bytes:
    """A region file: a box the size of the cutout around each candidate, with its rank.

    Parameters
    ----------
    table : DataFrame
        ``rank``, ``ra``, ``dec``, ``object_id``, and perhaps ``grade`` and ``known_name``, which colour it (:data:`GRADES`; a
        known lens without a grade is cyan, all others are green).
    side : float
        Of a cutout, arcseconds.
    """
    lines = [
        "# Region file format: DS9 version 4.1",
        f'global color={OTHER} width=1 font="helvetica 10 normal roman" select=1 edit=1 move=0 delete=1',
        "fk5",
    ]
    for row in table.to_dict("records"):
        name = str(row.get("known_name") or "")
        colour = GRADES.get(str(row.get("grade", "")), KNOWN if name else OTHER)
        tags = [f"tag={{{_plain(text)}}}" for text in (row["object_id"], name) if text]
        lines.append(
            f'box({row["ra"]:.7f},{row["dec"]:.7f},{side:.3f}",{side:.3f}",0) # color={colour} text={{{row["rank"]}}} '
            + " ".join(tags)
        )
    return ("\n".join(lines) + "\n").encode()


def _plain(text: object) -> str:
    """A text that ends where its braces do."""
    return str(text).replace("{", "(").replace("}", ")").replace("\n", " ")
