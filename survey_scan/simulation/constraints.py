"""What a simulated lens must be to count: the tests a draw passes, the cheapest first, and how many fail at each.

The kinds of test are those González et al. 2025 (arXiv:2501.15679) name for their simulations: magnification, image
positions, S/N of the arcs, their contrast against the lens light, Einstein radius against seeing. Their thresholds were
not at hand; the defaults are those by which Collett 2015 (ApJ 811, 20) calls a lens discoverable where he has one
(``seeing``, ``magnification``, ``arc_snr``), and otherwise choices, all to be configured:

==================  =======  ======================================================================================
test                default  passed if
==================  =======  ======================================================================================
lens_magnitude      16, 21.5 the lens galaxy is between these in the lens band (as a parent sample asks)
seeing              0.5      theta_E^2 >= r_s^2 + (0.5 FWHM)^2, r_s the source's half-light radius (Collett 2015)
magnification       3        flux of all images over that of the source is at least this (Collett 2015)
source_magnitude    none     the source, unlensed, is no brighter than this in the arc band
arc_snr             20       sqrt(sum(s^2 / noise^2)) in the arc band is at least this: the S/N of a matched filter against
                             the noise of the sky and of the lens light (Collett's 20 is of a sum of bright pixels)
contrast            0.5      this share of the arcs' light in the arc band falls where they are brighter than the lens
share               0.9      the arcs have at most this share of the lens galaxy's flux in the lens band
images              2        the centre of the source has so many images, of magnification 0.1 and more
separation          1        the two images farthest apart are at least so many FWHM apart
==================  =======  ======================================================================================

FWHM is that of the arc band. ``lens_magnitude`` and ``share`` do not apply to arcs painted onto real galaxies.
"""

from collections import Counter
from dataclasses import dataclass, field

from survey_scan.errors import ConfigError

#: In the order in which they are made.
TESTS = (
    "lens_magnitude",
    "seeing",
    "magnification",
    "source_magnitude",
    "arc_snr",
    "contrast",
    "share",
    "images",
    "separation",
)

#: Fewer than one accepted draw in so many is taken for a mistake in the configuration.
FEWEST = 1_000


@dataclass
class Tally:
    """Draws, and rejections a test, of one partition."""

    draws: int = 0
    accepted: int = 0
    rejected: Counter[str] = field(default_factory=Counter)

    def reject(self, test: str) -> None:
        """Count a rejection.

        Raises
        ------
        ConfigError
            If fewer than one draw in :data:`FEWEST` is accepted, ten times as many draws allowed for chance.
        """
        self.rejected[test] += 1
        if self.draws >= FEWEST * (self.accepted + 10):
            raise ConfigError(
                f"{self.accepted} of {self.draws:,} draws passed the constraints, fewer than 1 in {FEWEST:,}. "
                f"Rejected by {described(self.rejected)}. Loosen constraints.{self.rejected.most_common(1)[0][0]}, or "
                "change 'prior' and 'sources'."
            )


def described(rejected: Counter[str]) -> str:
    """Rejections in words, those of most first, as in ``arc_snr 9,120, seeing 880``."""
    return ", ".join(f"{test} {n:,}" for test, n in rejected.most_common()) or "none"
