"""The configuration: one frozen, strict model a section of the YAML file.

Paths are absolute here: :mod:`survey_scan.config_file` resolves them against the folder of the YAML file.
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, StringConstraints, field_validator, model_validator

#: Rows of one chunk inside a shard: 256 is where both writing and reading batches are fastest (see docs/architecture.md).
CHUNK_ROWS = 256

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
    """The survey whose preset stands under the sections, and the folder its files lie in."""

    name: str
    root: Path = Field(strict=False)


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


class Selection(Section):
    """Derived columns, then cuts in order; a row is selected if every cut is true (NaN is never true).

    ``paper`` names a paper whose cuts stand before the others.
    """

    paper: str | None = None
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
    """Pixels with any of ``bits`` set (any bit at all if null) are bad."""

    bits: list[Annotated[int, Field(ge=0, le=63)]] | None = None


class Weight(Beside):
    """Pixels with a weight (inverse variance) that is not positive are bad."""


class Images(Section):
    """The survey's tile images.

    ``files`` is a path with ``{tile}`` and, unless one file holds all bands, ``{band}`` (``{tile:.3}`` is the tile's first
    three characters, and ``*`` what differs from tile to tile, such as DES's numbers of requests). ``hdu`` is a number, a
    name that may hold ``{band}``, or one of these a band.
    """

    files: str
    bands: list[Identifier] = Field(min_length=1)
    hdu: Hdu | dict[str, Hdu] = 0
    index: str | None = None
    release: str = ""
    zero_point: float | None = None
    pixel_scale: Annotated[float, Field(gt=0)] | None = None
    blank: float | None = 0.0
    mask: Mask | None = None
    weight: Weight | None = None

    @field_validator("files")
    @classmethod
    def _has_tile(cls, value: str) -> str:
        if "{tile" not in value:
            raise ValueError("'files' needs '{tile}' where the tile's name stands, e.g. '{tile}/{tile}_{band}.fits.fz'")
        return value

    @field_validator("bands")
    @classmethod
    def _bands_once(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise ValueError(f"a band is listed twice: {', '.join(value)}")
        return value


class Cutouts(Section):
    """The pixels cut for each target and how they are stored."""

    bands: list[Identifier] = Field(min_length=1)
    size: Annotated[int, Field(ge=4, le=1024)]
    dtype: Literal["float32", "float16", "int16"] = "float32"
    max_bad_fraction: Fraction = 0.1
    partition: Annotated[int, Field(ge=CHUNK_ROWS)] = 4096

    @field_validator("partition")
    @classmethod
    def _whole_chunks(cls, value: int) -> int:
        if value % CHUNK_ROWS:
            raise ValueError(f"'partition' must be a multiple of {CHUNK_ROWS} (a chunk), not {value}")
        return value


class Normalisation(Section):
    """``clip((pixels - offset) / scale)``, one number or one a band, before the network."""

    offset: FiniteFloat | list[FiniteFloat] = 0.0
    scale: FiniteFloat | list[FiniteFloat] = 1.0
    clip: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)] | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if 0 in (self.scale if isinstance(self.scale, list) else [self.scale]):
            raise ValueError("'scale' must not be 0: pixels are divided by it")
        if self.clip is not None and not self.clip[0] < self.clip[1]:
            raise ValueError(f"'clip' is [lowest, highest], not {self.clip}")
        return self


class Model(Section):
    """The trained network."""

    path: str
    output: Literal["probability", "logit"] | None = None
    column: Annotated[int, Field(ge=0)] | None = None
    normalisation: Normalisation | None = None
    nan_fill: FiniteFloat = 0.0
    batch_size: PositiveInt = 256
    backend: Literal["tensorflow", "jax"] = Field(
        default_factory=lambda: os.environ.get("KERAS_BACKEND", "tensorflow"), validate_default=True
    )
    jit: bool = False
    precision: Literal["float32", "tf32", "mixed_float16", "mixed_bfloat16"] = "float32"


class Ranking(Section):
    """Which scored targets become candidates: the ``top`` highest logits with a score of at least ``threshold``."""

    top: PositiveInt = 1000
    threshold: Fraction | None = None


class Resources(Section):
    """The cluster: a profile's name or file; of one on this machine also its size, null meaning from the machine."""

    profile: str = "local"
    workers: PositiveInt | None = None
    memory: str | None = None
    retries: Annotated[int, Field(ge=0)] = 2
    dashboard: Annotated[int, Field(ge=0, le=65535)] = 8787


class Config(Section):
    """A whole configuration.

    ``spelled_out`` says that what ``survey`` and ``selection.paper`` name stands in it already.
    """

    run: Run
    survey: Survey | None = None
    catalogue: Catalogue
    selection: Selection = Selection()
    images: Images
    cutouts: Cutouts
    model: Model
    ranking: Ranking = Ranking()
    resources: Resources = Resources()
    spelled_out: bool = False

    @model_validator(mode="after")
    def _bands_exist(self) -> Self:
        unknown = [band for band in self.cutouts.bands if band not in self.images.bands]
        if unknown:
            raise ValueError(
                f"cutouts.bands has {unknown[0]!r}, which is not in images.bands ({', '.join(self.images.bands)})"
            )
        return self
