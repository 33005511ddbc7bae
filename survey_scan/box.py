"""A colour box drawn from simulated lenses, as Jacobs et al. 2019b (ApJS 243, 17) drew theirs: which colours lenses have.

The paper gives no numbers that could be reached; so the box is drawn anew, from lenses simulated for the survey at hand.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from survey_scan.errors import ConfigError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from survey_scan.config import Box

#: Lenses that are too few to tell where 98 of 100 lie.
FEWEST = 20

#: A colour: one magnitude less another.
COLOUR = re.compile(r"\s*([A-Za-z_]\w*)\s*-\s*([A-Za-z_]\w*)\s*")


@dataclass(frozen=True)
class Drawn:
    """What lenses say.

    Parameters
    ----------
    cuts : dict
        Name → condition, one a colour.
    lenses : int
        Rows of the table of lenses.
    used : int
        Those whose magnitudes are all known; the others are left out.
    inside : int
        Those of them inside the whole box.
    """

    cuts: dict[str, str]
    lenses: int
    used: int
    inside: int

    @property
    def text(self) -> str:
        """One line on it."""
        left_out = f", {self.lenses - self.used:,} more lack a magnitude" if self.used < self.lenses else ""
        return f"holds {self.inside:,} of {self.used:,} lenses ({self.inside / self.used:.1%}){left_out}"


def draw(box: "Box", missing: list[float]) -> Drawn:
    """Draw the box: of each colour the middle ``fraction`` of the lenses, between percentiles.

    Parameters
    ----------
    box : Box
        The lenses' file, their colours, the fraction.
    missing : list of float
        Magnitudes that mean "not measured", as in the catalogue.

    Raises
    ------
    ConfigError
        If the file cannot be read, lacks a column, or has too few lenses.
    """
    import numpy as np

    pairs = {colour: COLOUR.fullmatch(colour) for colour in box.colours}
    names = list(dict.fromkeys(name for pair in pairs.values() if pair for name in pair.groups()))
    magnitudes = _read(Path(box.lenses), names)
    lenses = len(magnitudes[names[0]])
    known = np.ones(lenses, bool)
    for values in magnitudes.values():
        known &= np.isfinite(values) & ~np.isclose(values[:, None], np.asarray(missing), rtol=1e-6, atol=0).any(axis=1)
    used = int(known.sum())
    if used < FEWEST:
        raise ConfigError(
            f"{box.lenses} has {lenses:,} lenses, {used:,} of them with {', '.join(names)}; a box is drawn from at least "
            f"{FEWEST}. Simulate more, or write the cuts yourself."
        )
    inside, cuts = np.ones(used, bool), {}
    for pair in pairs.values():
        assert pair is not None
        values = magnitudes[pair[1]][known] - magnitudes[pair[2]][known]
        low, high = (float(f"{v:.6g}") for v in np.quantile(values, [(1 - box.fraction) / 2, (1 + box.fraction) / 2]))
        if not low < high:
            raise ConfigError(
                f"{box.lenses}: {pair[1]} - {pair[2]} is {low} in all lenses, of which no box can be drawn. Name other columns."
            )
        inside &= (values > low) & (values < high)
        cuts[f"box: {pair[1]} - {pair[2]}"] = f"{low} < {pair[1]} - {pair[2]} < {high}"
    return Drawn(cuts, lenses, used, int(inside.sum()))


def _read(path: Path, names: list[str]) -> "dict[str, NDArray[np.float64]]":
    """Columns of numbers of a CSV, FITS (its first table) or Parquet file."""
    import numpy as np
    import pandas as pd

    name, table = path.name.lower(), None
    try:
        if name.endswith((".parquet", ".pq")):
            table = pd.read_parquet(path)
        elif name.endswith(".csv"):
            table = pd.read_csv(path, skipinitialspace=True)
        elif name.endswith((".fits", ".fits.gz", ".fit")):
            table = _fits(path)
    except (OSError, ValueError) as error:
        reason = "there is no such file" if isinstance(error, FileNotFoundError) else str(error)
        raise ConfigError(f"{path} cannot be read ({reason}). Name the table of your simulated lenses.") from None
    if table is None:
        raise ConfigError(f"{path} is of no kind that is read. Kinds are: .fits, .fits.gz, .fit, .parquet, .pq, .csv.")
    if absent := [column for column in names if column not in table]:
        more = f" and {len(table.columns) - 20} more" if len(table.columns) > 20 else ""
        raise ConfigError(
            f"{path} has no column {absent[0]!r}. It has: {', '.join(map(str, table.columns[:20]))}{more}. Name its magnitudes as "
            "catalogue.columns or catalogue.magnitudes do."
        )
    try:
        return {column: table[column].to_numpy(np.float64, na_value=np.nan) for column in names}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{path} holds something else than numbers among {', '.join(names)} ({error}).") from None


def _fits(path: Path) -> Any:
    import numpy as np
    import pandas as pd
    from astropy.io import fits

    with fits.open(path) as file:
        tables = [hdu for hdu in file if isinstance(hdu, fits.BinTableHDU)]
        if not tables:
            raise ValueError("it holds no table")
        columns = {n: np.asarray(tables[0].data[n]) for n in tables[0].columns.names}
    return pd.DataFrame({n: v.astype(v.dtype.newbyteorder("=")) for n, v in columns.items() if v.ndim == 1})
