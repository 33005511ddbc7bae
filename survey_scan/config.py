"""The configuration: one frozen, strict model a section of the YAML file.

Paths are absolute here: :mod:`survey_scan.config_file` resolves them against the folder of the YAML file.
"""

import os
import re
import string
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, field_validator, model_validator

from survey_scan.box import COLOUR
from survey_scan.normalisation import Normalisation

#: Rows of one chunk inside a shard: 256 is where both writing and reading batches are fastest (see docs/architecture.md).
CHUNK_ROWS = 256

#: Candidates at most so far apart, arcseconds, are friends; friends of friends are one galaxy. Catalogues of one survey agree to
#: tenths of an arcsecond where they overlap; pieces of one galaxy, or an arc and its lens, lie within about twice the seeing
#: (1 arcsec) of each other; and what is nearer than that stands in the middle of the same cutout. Of 10,000 unrelated galaxies a
#: square degree, 1 % are as near.
LINKING_LENGTH = 2.0

Identifier = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Expression = Annotated[str, StringConstraints(min_length=1)]
Hdu = int | str
PositiveInt = Annotated[int, Field(gt=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]


class Section(BaseModel):
    """Base of every section: unknown keys are refused, values are not coerced, nothing can be changed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", protected_namespaces=())


class Run(Section):
    """Where the results go."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")]
    directory: Path = Field(Path("runs"), strict=False)

    @property
    def path(self) -> Path:
        """The run directory."""
        return self.directory / self.name


class Survey(Section):
    """The survey whose preset stands under the sections, and the folder (or URL) its files lie in."""

    name: str
    root: Annotated[str, StringConstraints(pattern="://")] | Annotated[Path, Field(strict=False)]


class Magnitude(Section):
    """``zero_point - 2.5 log10(flux / transmission) - extinction * ebv``; NaN where the flux is not positive.

    ``transmission`` and ``ebv`` are two ways to give the same correction: at most one of them.
    """

    flux: str
    zero_point: float = 22.5
    transmission: str | None = None
    ebv: str | None = None
    extinction: float | None = None

    @model_validator(mode="after")
    def _one_correction(self) -> Self:
        if self.transmission is not None and self.ebv is not None:
            raise ValueError("give 'transmission' or 'ebv' with 'extinction', not both")
        if (self.ebv is None) != (self.extinction is None):
            raise ValueError("'ebv' and 'extinction' (magnitudes per unit of E(B-V)) go together")
        return self


class Catalogue(Section):
    """The parent catalogue: files and the columns read from them.

    A column is named as in the file; ``NAME[2]`` is the third element of a vector column. Names match
    exactly, else without regard to case.
    """

    files: list[str] = Field(min_length=1)
    hdu: Hdu = 1
    id_column: str | Annotated[list[str], Field(min_length=1)] = "object_id"
    ra_column: str = "ra"
    dec_column: str = "dec"
    tile_column: str | None = None
    columns: dict[Identifier, str] = {}
    magnitudes: dict[Identifier, Magnitude] = {}
    missing: list[float] = []
    rows_per_task: PositiveInt = 500_000

    @field_validator("files", mode="before")
    @classmethod
    def _one_file(cls, value: Any) -> Any:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _names_once(self) -> Self:
        reserved = {"object_id", "ra", "dec", "tile", "x", "y", "rank", "score", "logit", "status"}
        for name in [*self.columns, *self.magnitudes]:
            if name in reserved:
                raise ValueError(f"column {name!r} is a name of this program's own; choose another")
        twice = self.columns.keys() & self.magnitudes.keys()
        if twice:
            raise ValueError(f"column {min(twice)!r} is defined in both 'columns' and 'magnitudes'")
        return self


class Box(Section):
    """A colour box that holds the middle ``fraction`` of the ``lenses`` in each of the ``colours``.

    ``lenses`` is a table of simulated lenses whose columns are named as those of the catalogue here; a colour is written
    ``mag_g - mag_r``.
    """

    lenses: str
    colours: list[str] = Field(min_length=1)
    fraction: Annotated[float, Field(gt=0, lt=1)] = 0.98

    @field_validator("colours")
    @classmethod
    def _are_colours(cls, value: list[str]) -> list[str]:
        for colour in value:
            if not COLOUR.fullmatch(colour):
                raise ValueError(f"a colour is one column less another, such as 'mag_g - mag_r', not {colour!r}")
        return value


class Selection(Section):
    """Derived columns, then cuts in order; a row is selected if every cut is true (NaN is never true).

    Before the cuts stand those of the survey's preset, those of the ``paper``, and those of the ``box``.
    """

    paper: str | None = None
    box: Box | None = None
    define: dict[Identifier, Expression] = {}
    cuts: dict[str, Expression] = {}
    keep: list[Identifier] | None = None


class Beside(Section):
    """Images beside those of the sky: by default in the same file, or in the same HDU of another."""

    files: str | None = None
    hdu: Hdu | dict[str, Hdu] | None = None

    @model_validator(mode="after")
    def _somewhere(self) -> Self:
        if self.files is None and self.hdu is None:
            raise ValueError("give 'hdu' (in the image's own file), 'files', or both")
        return self


class Mask(Beside):
    """Pixels with any of ``bits`` set (any bit at all if null) are bad.

    A bit is a number (0 is the lowest), or the name of a plane that the mask's header gives a number by a card ``MP_NAME``.
    """

    bits: list[Annotated[int, Field(ge=0, le=63)] | Identifier] | None = None


class Weight(Beside):
    """Pixels with a weight (inverse variance) that is not positive are bad."""


class Service(Section):
    """A web service that cuts images out of a survey, asked once for each target or for each of its bands.

    ``url`` holds ``{ra}`` and ``{dec}`` (degrees), and ``{bands}`` (all of the cutouts, in one file) or ``{band}`` (a request a
    band); also ``{size}`` (pixels along a side: two more than a cutout has, for services that round otherwise),
    ``{half_arcsec}`` (half of that) and ``{pixel_scale}``. ``rate`` is requests a second of the whole scan, ``timeout`` seconds.
    ``user`` and ``password`` name environment variables; without them, ~/.netrc counts.
    """

    url: str
    rate: Annotated[float, Field(gt=0, le=1000)] = 1.0
    connections: Annotated[int, Field(ge=1, le=64)] = 2
    tries: PositiveInt = 5
    timeout: Annotated[float, Field(gt=0)] = 60.0
    user: str | None = None
    password: str | None = None

    @field_validator("url")
    @classmethod
    def _usable(cls, value: str) -> str:
        if re.match(r"https?://[^/]*@", value):
            raise ValueError("no user or password may stand in 'url': give 'user' and 'password', or use ~/.netrc")
        if not re.match(r"https?://[^/{]", value):
            raise ValueError(f"'url' must begin with http:// or https:// and a host, not {value!r}")
        try:
            fields = {name for _, name, _, _ in string.Formatter().parse(value) if name is not None}
        except ValueError as error:
            raise ValueError(f"'url' cannot be filled in ({error})") from None
        known = ("ra", "dec", "bands", "band", "size", "half_arcsec", "pixel_scale")
        if unknown := sorted(fields - set(known)):
            raise ValueError(f"'url' has {{{unknown[0]}}}; it may hold {', '.join(f'{{{name}}}' for name in known)}")
        if not {"ra", "dec"} <= fields or len(fields & {"band", "bands"}) != 1:
            raise ValueError(
                "'url' needs {ra}, {dec}, and one of {bands} (all in one file) and {band} (a request a band)"
            )
        try:
            value.format(ra=1.5, dec=1.5, bands="gr", band="g", size=1, half_arcsec=1.5, pixel_scale=1.5)
        except (ValueError, AttributeError, LookupError) as error:
            raise ValueError(f"'url' cannot be filled in ({error})") from None
        return value

    @field_validator("user", "password")
    @classmethod
    def _name_of_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Z_][A-Z0-9_]*", value):
            raise ValueError("give the name of an environment variable, such as SSP_PDR_USR, never the thing itself")
        return value

    @model_validator(mode="after")
    def _both_or_none(self) -> Self:
        if (self.user is None) != (self.password is None):
            raise ValueError("'user' and 'password' go together")
        return self

    @property
    def host(self) -> str:
        """Whose service it is."""
        return self.url.split("/")[2]


class Images(Section):
    """The survey's tile images, or a service that cuts them.

    ``files`` is a path with ``{tile}`` and, unless one file holds all bands, ``{band}`` (``{tile:.3}`` is the tile's first
    three characters, and ``*`` what differs from tile to tile, such as DES's numbers of requests). ``hdu`` is a number, a
    name that may hold ``{band}``, or one of these a band. ``zero_point`` (magnitude = zero_point - 2.5 log10(pixel)) is one
    number, or one a band; where it is not given, that of the headers counts.
    """

    files: str = ""
    service: Service | None = None
    bands: list[Identifier] = Field(min_length=1)
    hdu: Hdu | dict[str, Hdu] = 0
    index: str | None = None
    release: str = ""
    zero_point: FiniteFloat | dict[Identifier, FiniteFloat] | None = None
    pixel_scale: Annotated[float, Field(gt=0)] | None = None
    blank: float | None = 0.0
    mask: Mask | None = None
    weight: Weight | None = None

    @field_validator("files", mode="before")
    @classmethod
    def _none_given(cls, value: Any) -> Any:
        return "" if value is None else value

    @field_validator("files")
    @classmethod
    def _has_tile(cls, value: str) -> str:
        if value and "{tile" not in value:
            raise ValueError("'files' needs '{tile}' where the tile's name stands, e.g. '{tile}/{tile}_{band}.fits.fz'")
        return value

    def zero_point_of(self, band: str) -> float | None:
        """The zero point given for a band, if any."""
        return self.zero_point.get(band) if isinstance(self.zero_point, dict) else self.zero_point

    @field_validator("bands")
    @classmethod
    def _bands_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"a band is listed twice: {', '.join(value)}")
        return value

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if bool(self.files) == (self.service is not None):
            raise ValueError(
                "give one of 'files' (tiles on disk) and 'service' (a cutout service); "
                + ("here are both" if self.files else "here is neither")
            )
        if self.service is not None:
            if self.pixel_scale is None:
                raise ValueError("a 'service' needs 'pixel_scale', in arcsec: what it is asked for, and what must come")
            beside = [name for name in ("mask", "weight") if (s := getattr(self, name)) is not None and s.files]
            if beside or self.index:
                name = f"{beside[0]}.files" if beside else "index"
                raise ValueError(f"'{name}' goes with tiles on disk; of what a 'service' sends, give 'hdu'")
        return self


class Cutouts(Section):
    """The pixels cut for each target and how they are stored.

    With a ``zero_point`` all bands are brought to it; without one, pixels are kept as they are in the files.

    ``store`` says which pixels are kept: ``all``; of ``candidates``, targets with a logit of at least ``above`` by any of the
    networks; or ``none``. What is not kept goes to the networks through memory, and is cut again for another network.
    """

    bands: list[Identifier] = Field(min_length=1)
    size: Annotated[int, Field(ge=4, le=1024)]
    dtype: Literal["float32", "float16", "int16"] = "float32"
    max_bad_fraction: Fraction = 0.1
    zero_point: FiniteFloat | None = None
    partition: Annotated[int, Field(ge=CHUNK_ROWS)] = 4096
    store: Literal["all", "candidates", "none"] = "all"
    above: FiniteFloat | None = None

    @model_validator(mode="after")
    def _above_is_of_candidates(self) -> Self:
        if self.store == "candidates" and self.above is None:
            raise ValueError("'store: candidates' needs 'above', the logit from which on a target's cutout is kept")
        if self.store != "candidates" and self.above is not None:
            raise ValueError(
                f"'above' goes with 'store: candidates', not with 'store: {self.store}': remove one of them"
            )
        return self

    @property
    def streamed(self) -> bool:
        """Whether pixels go to the networks through memory."""
        return self.store != "all"

    @field_validator("partition")
    @classmethod
    def _whole_chunks(cls, value: int) -> int:
        if value % CHUNK_ROWS:
            raise ValueError(f"'partition' must be a multiple of {CHUNK_ROWS} (a chunk), not {value}")
        return value


class Model(Section):
    """The trained network: its file, or the folder of a package with its contract (``model.yaml``).

    Where there is a contract, ``output``, ``column``, ``normalisation`` and ``nan_fill`` stand in it, and not here.
    With ``views``, the logit is the mean of those of as many views of a cutout: 4 are it and its mirror images, 8 are
    those and the same of its transpose.
    """

    path: str
    output: Literal["probability", "logit"] | None = None
    column: Annotated[int, Field(ge=0)] | None = None
    normalisation: Normalisation | None = None
    nan_fill: FiniteFloat | None = None
    batch_size: PositiveInt = 256
    backend: Literal["tensorflow", "jax"] = Field(
        default_factory=lambda: os.environ.get("KERAS_BACKEND", "tensorflow"), validate_default=True
    )
    jit: bool = False
    precision: Literal["float32", "tf32", "mixed_float16", "mixed_bfloat16"] = "float32"
    views: Literal[1, 4, 8] = 1


class Cascade(Section):
    """Which targets the second of two models sees: the best by the first.

    Either the best ``fraction`` of each partition's targets that have a score, or all whose logit by the first model is
    ``above`` a number, however many they are. The others are set aside: they have that logit and no score.
    """

    fraction: Annotated[float, Field(gt=0, lt=1)] | None = None
    above: FiniteFloat | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if (self.fraction is None) == (self.above is None):
            raise ValueError("give 'fraction' (of each partition) or 'above' (a logit of the first model), one of them")
        return self


class Ranking(Section):
    """Which scored targets become candidates: the ``top`` highest logits with a score of at least ``threshold``.

    Of several models that see everything, the logit is their ``mean_logit`` (the default), the ``max``, or that of their
    ``mean_rank``: of the mean of the fractions of all scored targets that each of them puts below this one.

    ``budget`` is another word for ``top``: how many people can inspect. Candidates within ``duplicates`` arcsec of each other are
    one galaxy; ``known`` is a table of known lenses, or ``lenscat``, and ``training`` one of what the networks were trained on:
    the candidates say so, and none is removed.
    """

    top: PositiveInt = 1000
    threshold: Fraction | None = None
    combine: Literal["mean_logit", "mean_rank", "max"] | None = None
    duplicates: Annotated[FiniteFloat, Field(gt=0, le=3600)] | None = LINKING_LENGTH
    known: str | None = None
    training: str | None = None

    @model_validator(mode="before")
    @classmethod
    def _budget_is_top(cls, data: Any) -> Any:
        if isinstance(data, dict) and "budget" in data:
            if "top" in data:
                raise ValueError("'budget' is another word for 'top': give one of them")
            return {"top" if key == "budget" else key: value for key, value in data.items()}
        return data


class Resources(Section):
    """The cluster: a profile's name or file; of one on this machine also its size, null meaning from the machine."""

    profile: str = "local"
    workers: PositiveInt | None = None
    memory: str | None = None
    retries: Annotated[int, Field(ge=0)] = 2
    dashboard: Annotated[int, Field(ge=0, le=65535)] = 8787


class Config(Section):
    """A whole configuration.

    There is one ``model``, or there are several ``models`` by name.

    ``spelled_out`` says that what ``survey`` and ``selection.paper`` name stands in it already.
    """

    run: Run
    survey: Survey | None = None
    catalogue: Catalogue
    selection: Selection = Selection()
    images: Images
    cutouts: Cutouts
    model: Model | None = None
    models: dict[Identifier, Model] | None = None
    cascade: Cascade | None = None
    ranking: Ranking = Ranking()
    resources: Resources = Resources()
    spelled_out: bool = False

    @property
    def networks(self) -> dict[str, Model]:
        """The models by name; the name of a single one is empty."""
        return {"": self.model} if self.model is not None else dict(self.models or {})

    @property
    def backend(self) -> str | None:
        """What the networks run on; None if there is none but the loopback scorer."""
        return next((m.backend for m in self.networks.values() if m.path != "loopback"), None)

    @model_validator(mode="after")
    def _some_models(self) -> Self:
        if (self.model is None) == (self.models is None):
            raise ValueError("give 'model' (one) or 'models' (several, by name), one of them")
        n = len(self.networks)
        if self.models is not None and n < 2:
            raise ValueError(f"'models' has {n}; it takes two or more, and 'model' takes one")
        if self.cascade is not None and (self.models is None or n != 2):
            raise ValueError(f"a 'cascade' is of two 'models', the first of which sees everything; here is {n}")
        if self.ranking.combine is not None and (self.models is None or self.cascade is not None):
            why = "a cascade is ranked by its second model" if self.cascade is not None else "there is one model"
            raise ValueError(f"ranking.combine is for several 'models' that all see everything, but {why}: remove it")
        if len({(m.backend, m.precision == "float32") for m in self.networks.values() if m.path != "loopback"}) > 1:
            raise ValueError("all 'models' run in one process: give them one 'backend', and float32 to all or to none")
        columns = {*self.catalogue.columns, *self.catalogue.magnitudes, *self.selection.define}
        if taken := sorted(columns & {f"logit_{name}" for name in self.models or ()}):
            raise ValueError(f"{taken[0]!r} is a column of yours and would be that of a model: rename one of them")
        return self

    @model_validator(mode="after")
    def _bands_exist(self) -> Self:
        unknown = [band for band in self.cutouts.bands if band not in self.images.bands]
        if unknown:
            raise ValueError(
                f"cutouts.bands has {unknown[0]!r}, which is not in images.bands ({', '.join(self.images.bands)})"
            )
        return self
