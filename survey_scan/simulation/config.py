"""The configuration of ``survey_scan simulate``: strict models like those of a scan, read in the same way."""

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self

from pydantic import AfterValidator, Field, FiniteFloat, model_validator

from survey_scan import config_file
from survey_scan.config import CHUNK_ROWS, Cutouts, Fraction, Identifier, Resources, Section
from survey_scan.config_paths import resolve_paths
from survey_scan.errors import ConfigError
from survey_scan.yaml_file import Location, read

if TYPE_CHECKING:
    import numpy as np

#: Keys whose values are paths, resolved against the folder of the file.
PATHS: tuple[Location, ...] = (
    ("output", "directory"),
    ("sources", "stamps"),
    ("painted", "store"),
    ("painted", "table"),
    ("field", "store"),
    ("field", "table"),
    ("resources", "profile"),
)

#: Kinds of which the first two are lenses; the order is that of the codes in a partition.
KINDS = (
    "lens",
    "painted",
    "deflector",
    "field",
    "elliptical",
    "spiral",
    "ring",
    "irregular",
    "merger",
    "companions",
)
LENSES = KINDS[:2]

#: Effective wavelengths in Å of bands known by name: those of DECam, Euclid and VISTA to a percent or two.
WAVELENGTHS = {
    "u": 3650.0,
    "g": 4800.0,
    "r": 6400.0,
    "i": 7800.0,
    "z": 9200.0,
    "y": 9900.0,
    "Y": 9900.0,
    "VIS": 7150.0,
    "J": 12500.0,
    "H": 16500.0,
    "Ks": 21500.0,
}

Positive = Annotated[FiniteFloat, Field(gt=0)]
NotNegative = Annotated[FiniteFloat, Field(ge=0)]


def between(rng: "np.random.Generator", bounds: list[float]) -> float:
    """A number drawn flat from a range."""
    return float(rng.uniform(bounds[0], bounds[1]))


def _in_order(value: list[float]) -> list[float]:
    if any(low > high for low, high in pairwise(value)):
        raise ValueError(f"a range is [lowest, highest], not {value}")
    return value


#: Drawn flat between two values.
Range = Annotated[list[NotNegative], Field(min_length=2, max_length=2), AfterValidator(_in_order)]
AnyRange = Annotated[list[FiniteFloat], Field(min_length=2, max_length=2), AfterValidator(_in_order)]


class Output(Section):
    """Where the set goes and how it is stored; ``seed`` decides every pixel."""

    directory: Path = Field(strict=False)
    seed: Annotated[int, Field(ge=0)]
    size: Annotated[int, Field(ge=8, le=1024)]
    dtype: Literal["float32", "float16", "int16"] = "float32"
    partition: Annotated[int, Field(ge=CHUNK_ROWS)] = 1024

    @model_validator(mode="after")
    def _whole_chunks(self) -> Self:
        if self.partition % CHUNK_ROWS:
            raise ValueError(f"'partition' must be a multiple of {CHUNK_ROWS} (a chunk), not {self.partition}")
        return self


class Band(Section):
    """One band of the survey.

    ``fwhm`` (arcsec; a range is drawn flat for each object) is of a Moffat profile, or ``psf`` is a file with one or
    more images of the point-spread function at the survey's pixel scale, of which each object is given one. ``noise``
    is the standard deviation of the sky in a pixel, ``gain`` electrons per unit of flux (of pixels in counts per second:
    gain times exposure time); null adds no photon noise of the objects.
    """

    fwhm: Positive | Range | None = None
    psf: Path | None = Field(default=None, strict=False)
    noise: Positive | Range
    gain: Positive | None = None
    wavelength: Positive | None = None

    @model_validator(mode="after")
    def _one_psf(self) -> Self:
        if (self.fwhm is None) == (self.psf is None):
            raise ValueError("give 'fwhm' (arcsec) or 'psf' (a file), one of them")
        return self


class Survey(Section):
    """What the survey's pixels are."""

    bands: dict[Identifier, Band] = Field(min_length=1)
    pixel_scale: Positive
    zero_point: FiniteFloat
    moffat: Annotated[float, Field(gt=1)] = 3.0
    supersampling: Annotated[int, Field(ge=1, le=9)] = 3

    @model_validator(mode="after")
    def _wavelengths(self) -> Self:
        for name, band in self.bands.items():
            if band.wavelength is None and name not in WAVELENGTHS:
                known = ", ".join(WAVELENGTHS)
                raise ValueError(f"band {name!r} needs its 'wavelength' in Å; known by name are {known}")
        return self


class Counts(Section):
    """How many objects of each kind."""

    lens: Annotated[int, Field(ge=0)] = 0
    painted: Annotated[int, Field(ge=0)] = 0
    deflector: Annotated[int, Field(ge=0)] = 0
    field: Annotated[int, Field(ge=0)] = 0
    elliptical: Annotated[int, Field(ge=0)] = 0
    spiral: Annotated[int, Field(ge=0)] = 0
    ring: Annotated[int, Field(ge=0)] = 0
    irregular: Annotated[int, Field(ge=0)] = 0
    merger: Annotated[int, Field(ge=0)] = 0
    companions: Annotated[int, Field(ge=0)] = 0

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.total:
            raise ValueError(f"nothing is asked for; give some of {', '.join(KINDS)}")
        return self

    @property
    def total(self) -> int:
        """All objects."""
        return sum(getattr(self, kind) for kind in KINDS)


class Prior(Section):
    """Where lenses come from.

    ``population`` draws velocity dispersion and redshifts as the sky has them, weighted by cross-section, and sources
    from their counts; ``flat`` draws ``theta_E`` (arcsec) and ``arc_snr`` flat in their ranges: galaxy and redshifts are
    then those the population has at this Einstein radius, and the source is as bright as the S/N asks.
    """

    kind: Literal["flat", "population"] = "flat"
    theta_E: Range = [0.8, 2.5]
    arc_snr: Range | None = None
    source_redshift: Positive = 1.2

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        if (self.kind == "flat") != (self.arc_snr is not None):
            raise ValueError("'arc_snr' is the range of kind 'flat', which needs it; 'population' has none")
        if self.theta_E[0] <= 0:
            raise ValueError("'theta_E' begins above 0 arcsec")
        return self


class Deflectors(Section):
    """Mass beside the light it follows."""

    shear: Range = [0.0, 0.08]
    ellipticity: Range = [0.6, 1.2]
    misalignment: NotNegative = 6.0


class Sources(Section):
    """Background galaxies: Sérsic profiles, and a share of real ones from a file of stamps.

    ``magnitude`` is that of the arc band, unlensed; ``slope`` of its counts (population only); ``colour`` is g-r;
    ``radius`` (arcsec, half light) is drawn flat in its logarithm; ``offset`` is the greatest distance from the lens in
    Einstein radii. ``stamps`` are images of galaxies of ``stamp_scale`` arcsec a pixel, without background.
    """

    magnitude: AnyRange = [21.5, 27.0]
    slope: FiniteFloat = 0.3
    colour: AnyRange = [0.0, 0.6]
    radius: Range = [0.1, 0.35]
    index: Range = [0.8, 2.0]
    axis_ratio: Range = [0.4, 1.0]
    offset: Positive = 0.6
    stamps: Path | None = Field(default=None, strict=False)
    stamp_scale: Positive = 0.03
    stamp_share: Fraction = 1.0

    @model_validator(mode="after")
    def _above_nothing(self) -> Self:
        for name in ("radius", "index", "axis_ratio"):
            if getattr(self, name)[0] <= 0:
                raise ValueError(f"'{name}' begins above 0")
        if self.axis_ratio[1] > 1:
            raise ValueError("'axis_ratio' ends at 1")
        return self


class Constraints(Section):
    """What a lens must be to count, test by test; null leaves a test out. See :mod:`survey_scan.simulation.constraints`."""

    arc_band: Identifier | None = None
    lens_band: Identifier | None = None
    lens_magnitude: AnyRange | None = [16.0, 21.5]
    seeing: NotNegative | None = 0.5
    magnification: NotNegative | None = 3.0
    source_magnitude: FiniteFloat | None = None
    arc_snr: NotNegative | None = 20.0
    images: Annotated[int, Field(ge=1, le=4)] | None = 2
    separation: NotNegative | None = 1.0
    contrast: Fraction | None = 0.5
    share: Positive | None = 0.9


class Galaxies(Section):
    """The galaxies that are no lenses: the range of their i magnitude and the slope of its counts."""

    magnitude: AnyRange = [16.5, 21.5]
    slope: FiniteFloat = 0.32


class Neighbours(Section):
    """Others by chance in a cutout: objects per square arcmin, of i magnitudes to ``faintest``."""

    galaxies: NotNegative = 0.0
    stars: NotNegative = 0.0
    faintest: FiniteFloat = 22.8


class Real(Section):
    """Real cutouts: a store, and a table (CSV or Parquet) of the ``object_id`` to use.

    Columns ``mag_<band>`` of the table, if it has them, give the total magnitudes in the truth.
    """

    store: Path = Field(strict=False)
    table: Path = Field(strict=False)


class Simulation(Section):
    """A whole configuration."""

    output: Output
    survey: Survey
    counts: Counts
    prior: Prior = Prior(arc_snr=[30.0, 160.0])
    deflectors: Deflectors = Deflectors()
    sources: Sources = Sources()
    constraints: Constraints = Constraints()
    galaxies: Galaxies = Galaxies()
    neighbours: Neighbours = Neighbours()
    painted: Real | None = None
    field: Real | None = None
    resources: Resources = Resources()

    @model_validator(mode="after")
    def _agree(self) -> Self:
        for kind in ("painted", "field"):
            if getattr(self.counts, kind) and getattr(self, kind) is None:
                raise ValueError(f"counts.{kind} needs a section '{kind}' with 'store' and 'table'")
        for name in ("arc_band", "lens_band"):
            band = getattr(self.constraints, name)
            if band is not None and band not in self.survey.bands:
                raise ValueError(f"constraints.{name} is {band!r}, not one of {', '.join(self.survey.bands)}")
        return self

    @property
    def bands(self) -> list[str]:
        """Names of the bands, in the order of the store."""
        return list(self.survey.bands)

    @property
    def wavelengths(self) -> list[float]:
        """Effective wavelengths of the bands in Å."""
        return [band.wavelength or WAVELENGTHS[name] for name, band in self.survey.bands.items()]

    @property
    def arc_band(self) -> int:
        """Index of the band in which arcs are judged: the bluest unless it is named."""
        named = self.constraints.arc_band
        return self.bands.index(named) if named else self.wavelengths.index(min(self.wavelengths))

    @property
    def lens_band(self) -> int:
        """Index of the band in which lens galaxies are judged: the reddest unless it is named."""
        named = self.constraints.lens_band
        return self.bands.index(named) if named else self.wavelengths.index(max(self.wavelengths))

    @property
    def cutouts(self) -> Cutouts:
        """What the store is made from."""
        out = self.output
        return Cutouts(bands=self.bands, size=out.size, dtype=out.dtype, partition=out.partition)

    @property
    def partitions(self) -> int:
        """How many partitions there are."""
        return -(-self.counts.total // self.output.partition)


def load(path: Path, settings: tuple[str, ...] = ()) -> Simulation:
    """Read a configuration, as :func:`survey_scan.config_file.load` reads that of a scan.

    Raises
    ------
    ConfigError
        With every problem found, one a line, each with its place.
    """
    data, places, problems = read(path, list(Simulation.model_fields))
    survey = data.get("survey")
    bands = survey.get("bands") if isinstance(survey, dict) else None
    paths = (*PATHS, *(("survey", "bands", str(band), "psf") for band in (bands if isinstance(bands, dict) else ())))
    for location in paths:
        resolve_paths(data, path.absolute().parent, places, problems, only=location)
    for setting in settings:
        config_file.apply_setting(data, places, setting, problems, paths.__contains__)
    if problems:
        raise ConfigError("\n".join(problems))
    return config_file.validate(Simulation, data, places, path)
