"""The words all stages share: status codes, and the columns of targets, scores and candidates."""

from dataclasses import dataclass
from enum import IntEnum


class Status(IntEnum):
    """Why a target has no score (or ``OK``). One status a target: where several hold, the highest severity wins."""

    OK = 0
    PARTLY_COVERED = 1
    OUTSIDE = 2
    MISSING = 3
    BAD_PIXELS = 4
    UNREADABLE = 5
    MISMATCHED = 6
    NOT_FINITE = 7
    SET_ASIDE = 8

    @property
    def reason(self) -> str:
        """A short text for tables and messages."""
        return REASONS[self]


REASONS: dict[Status, str] = {
    Status.OK: "ok",
    Status.PARTLY_COVERED: "cutout runs off the tile",
    Status.OUTSIDE: "outside every tile",
    Status.MISSING: "tile or band missing",
    Status.BAD_PIXELS: "too many bad pixels",
    Status.UNREADABLE: "tile unreadable",
    Status.MISMATCHED: "tile differs from its siblings",
    Status.NOT_FINITE: "network gave no finite logit",
    Status.SET_ASIDE: "set aside by the cascade's first network",
}

#: From the least to the most severe: the status of a target is the last of these that holds in any of its bands.
SEVERITY: tuple[Status, ...] = (
    Status.OK,
    Status.SET_ASIDE,
    Status.BAD_PIXELS,
    Status.PARTLY_COVERED,
    Status.OUTSIDE,
    Status.MISSING,
    Status.MISMATCHED,
    Status.UNREADABLE,
    Status.NOT_FINITE,
)


@dataclass(frozen=True)
class Column:
    """Name, unit and IVOA UCD of one column of a table we write."""

    name: str
    unit: str | None
    ucd: str | None
    description: str


#: Columns every target has, in this order; the columns kept by the selection follow.
TARGET_COLUMNS: tuple[Column, ...] = (
    Column("object_id", None, "meta.id;meta.main", "identifier in the parent catalogue"),
    Column("ra", "deg", "pos.eq.ra;meta.main", "right ascension, in [0, 360)"),
    Column("dec", "deg", "pos.eq.dec;meta.main", "declination"),
    Column("tile", None, "meta.id;obs.field", "tile that holds the target most centrally; empty if none"),
    Column("x", "pix", "pos.cartesian.x;instr.det", "0-based column on the tile, of the pixel's centre"),
    Column("y", "pix", "pos.cartesian.y;instr.det", "0-based row on the tile, of the pixel's centre"),
)

#: Columns of a score table: one row a target, in the order of the targets.
SCORE_COLUMNS: tuple[Column, ...] = (
    Column("object_id", None, "meta.id;meta.main", "identifier in the parent catalogue"),
    Column("logit", None, "stat.likelihood", "network output before the sigmoid, float32; NaN without a score"),
    Column("status", None, "meta.code.status", "0 ok, else why there is no score"),
)

#: Columns of the candidate table beside those of the target.
CANDIDATE_COLUMNS: tuple[Column, ...] = (
    Column("rank", None, "meta.record", "1 is the highest logit; ties in the order of object_id"),
    Column("score", None, "stat.probability", "sigmoid of the logit"),
    Column("logit", None, "stat.likelihood", "network output before the sigmoid, float32"),
    Column("status", None, "meta.code.status", "0 ok"),
)
