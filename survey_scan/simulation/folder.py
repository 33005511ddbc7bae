"""Every path of a training set, and what its README says."""

from dataclasses import dataclass
from pathlib import Path

README = """\
A training set made by survey_scan simulate.

  cutouts.zarr          image (target, y, x, band), as that of a scan; object_id is the row; ra and dec are NaN
  truth/part-*.parquet  one row an object, in the order of cutouts.zarr
  lenses.parquet        the truth of the lenses alone, for selection.box of a scan
  simulation.json       what the set was made of, and how many draws each test rejected
  records/              one file a finished partition; a killed simulate resumes from these
  config.resolved.yaml  the configuration with all defaults

    import numpy, pandas, xarray
    truth = pandas.read_parquet("truth")
    cutouts = xarray.open_zarr("cutouts.zarr", consolidated=False, mask_and_scale=False)
    lenses = cutouts.image[numpy.flatnonzero(truth.label == 1)]

Columns of the truth (NaN where an object has none):

  object_id, kind, label   row of cutouts.zarr; kind of object; 1 for kinds lens and painted, else 0
  theta_E, sigma_v         Einstein radius, arcsec; velocity dispersion, km/s
  z_lens, z_source
  magnification            flux of all images in the frame over that of the source
  arc_snr, contrast        as the tests of the same names measure them, in the arc band
  images, separation       images of the source's centre; the largest distance between two, arcsec
  mass_e1, mass_e2, gamma1, gamma2        ellipticity of the mass and external shear, as lenstronomy has them
  source_x, source_y, source_radius       from the lens, arcsec; half-light radius, arcsec
  source_stamp             number of the stamp of a real source, else -1
  arc_flux_*, source_flux_*  of all images, and of the source unlensed
  mag_*                    of the object as a whole, lens and source together, without neighbours and noise
  fwhm_*                   of the point-spread function, arcsec
  origin                   object_id of the real cutout, if it is one
  seed                     seed:partition:row, which decides the object
"""


@dataclass(frozen=True)
class TrainingSet:
    """The paths of one training set.

    Parameters
    ----------
    path : Path
        Its folder.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def readme(self) -> Path:
        """What this is and how to open it."""
        return self.path / "README.txt"

    @property
    def config_given(self) -> Path:
        """The configuration as given."""
        return self.path / "config.yaml"

    @property
    def config_resolved(self) -> Path:
        """The configuration with defaults and command-line settings, the only one tasks read."""
        return self.path / "config.resolved.yaml"

    @property
    def manifest(self) -> Path:
        """What the set was made of (its key), and, once it is complete, what came out."""
        return self.path / "simulation.json"

    @property
    def logs(self) -> Path:
        """Folder of logs."""
        return self.path / "logs"

    @property
    def store(self) -> Path:
        """The Zarr group of cutouts."""
        return self.path / "cutouts.zarr"

    @property
    def lenses(self) -> Path:
        """The truth of the lenses alone, from which ``selection.box`` of a scan draws a colour box."""
        return self.path / "lenses.parquet"

    def truth(self, partition: int) -> Path:
        """The truth of one partition, in the order of the store."""
        return self.path / "truth" / f"part-{partition:05d}.parquet"

    def record(self, partition: int) -> Path:
        """The record that says one partition is finished."""
        return self.path / "records" / f"{partition:05d}.json"

    def chosen(self, kind: str) -> Path:
        """Rows of real cutouts to paint on (``painted``) or to copy (``field``)."""
        return self.path / "real" / f"{kind}.parquet"
