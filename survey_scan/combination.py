"""Several networks' logits of a target → the one it is ranked by."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from survey_scan import records
from survey_scan.config import Config
from survey_scan.schema import Status

#: A float32's sign, exponent and first seven digits: so many counts hold the distribution of any number of logits.
BINS = 1 << 16


def column(name: str) -> str:
    """Where a score table has the logit of one of several networks; ``logit`` if there is one only."""
    return f"logit_{name}" if name else "logit"


class Ranks:
    """How the logits of several networks are distributed over all scored targets.

    Each network's logits are counted by the first 16 bits of float32, in which numbers stand in their order; within a bin they
    are taken to be spread evenly. So a rank is right to a part in the bin's own share of all targets, keeps the order of
    logits, and the counts of partitions can be added.

    Parameters
    ----------
    counts : mapping
        Network → int64 counts of shape (65536,).
    """

    def __init__(self, counts: Mapping[str, NDArray[np.int64]]):
        self.counts = dict(counts)
        self._below = {name: np.concatenate([[0], np.cumsum(n)]) for name, n in self.counts.items()}

    @classmethod
    def of(cls, table: pd.DataFrame, names: Sequence[str]) -> Self:
        """The ranks of one score table alone; only rows with status ok count."""
        scored = table["status"].to_numpy() == Status.OK
        ordered = {name: _ordered(table[column(name)].to_numpy()[scored]) >> 16 for name in names}
        return cls({name: np.bincount(bins, minlength=BINS).astype(np.int64) for name, bins in ordered.items()})

    def __add__(self, other: Self) -> Self:
        return type(self)({name: counts + other.counts[name] for name, counts in self.counts.items()})

    def mean(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """Mean over the networks of the fraction of targets they put below each row, in (0, 1); NaN without a logit."""
        fractions = np.stack([self._fraction(name, table[column(name)].to_numpy()) for name in self.counts])
        mean: NDArray[np.float64] = fractions.mean(axis=0)
        return mean

    def write(self, path: Path) -> None:
        """Keep them; the same counts give the same bytes."""
        sparse = {name: {str(i): int(n[i]) for i in np.flatnonzero(n)} for name, n in self.counts.items()}
        records.write_json(path, sparse)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Those that were kept.

        Raises
        ------
        OSError
            If there are none.
        """
        import json

        counts = {}
        for name, sparse in json.loads(path.read_text()).items():
            counts[name] = np.zeros(BINS, np.int64)
            counts[name][[int(i) for i in sparse]] = list(sparse.values())
        return cls(counts)

    def _fraction(self, name: str, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        known = np.isfinite(logits)
        ordered = _ordered(np.where(known, logits, 0).astype(np.float32))
        bins, within = ordered >> 16, (ordered & 0xFFFF) / BINS
        below = self._below[name][bins] + within * self.counts[name][bins]
        fraction = (below + 0.5) / (self._below[name][-1] + 1)  # neither 0 nor 1, whose logits are infinite
        return np.where(known, fraction, np.nan)


class Combination:
    """From a score table to the logit its targets are ranked by.

    Parameters
    ----------
    config : Config
        Its networks, its cascade, and ``ranking.combine``.
    ranks : Ranks, optional
        Of the whole run; needed where the mean of ranks is taken.
    """

    def __init__(self, config: Config, ranks: Ranks | None = None):
        self.names = list(config.networks)
        cascade = config.cascade is not None
        self.by = "last" if cascade or len(self.names) == 1 else config.ranking.combine or "mean_logit"
        self._ranks = ranks

    def logit(self, table: pd.DataFrame) -> NDArray[np.float32]:
        """The logits of a score table, shape (n,); NaN where the status is not ok.

        Parameters
        ----------
        table : DataFrame
            ``status``, and ``logit`` or a ``logit_NAME`` of each network.
        """
        columns = np.stack([table[column(name)].to_numpy(np.float64) for name in self.names])
        if self.by == "last":
            logit = columns[-1]
        elif self.by == "max":
            logit = columns.max(axis=0)
        elif self.by == "mean_logit":
            logit = columns.mean(axis=0)
        else:
            if self._ranks is None:
                raise ValueError("the mean of ranks needs the ranks of the whole run")
            fraction = self._ranks.mean(table)
            logit = np.log(fraction) - np.log1p(-fraction)
        return np.where(table["status"] == Status.OK, logit, np.nan).astype(np.float32)

    def apply(self, table: pd.DataFrame) -> pd.DataFrame:
        """A score table with that logit as its column ``logit``."""
        return table if self.names == [""] else table.assign(logit=self.logit(table))

    def words(self) -> str:
        """What it does."""
        first, *others = self.names
        said = {
            "last": f"{first} scores everything, {' and '.join(others)} the best of it",
            "mean_logit": f"the mean of the logits of {', '.join(self.names)}",
            "mean_rank": f"the mean of the ranks by {', '.join(self.names)}",
            "max": f"the largest of the logits of {', '.join(self.names)}",
        }
        return said[self.by]


def _ordered(logits: NDArray[np.float32]) -> NDArray[np.int64]:
    """Whole numbers in the order of float32 numbers, from 0 to 2³² - 1; -0 is made 0 by adding it."""
    bits = (np.ascontiguousarray(logits, np.float32) + np.float32(0)).view(np.uint32).astype(np.int64)
    return np.where(bits >> 31, 0xFFFFFFFF - bits, bits + 0x80000000)
