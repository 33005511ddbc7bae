"""What is done to pixels before a network sees them: steps of a small closed set, and published recipes of such steps.

Missing pixels are filled before the first step, with ``nan_fill`` in the unit of the pixels: steps see finite numbers only,
and the statistics of ``z-score`` and ``min-max`` are over all pixels, filled ones included, as they are where a training set
was filled first.

In YAML, normalisation is the name of a recipe, a recipe with its constants, or a list of steps, among which recipes may stand::

    normalisation: gonzalez2025
    normalisation: {recipe: storfer2024, mean: [0.03, 0.05, 0.08], std: [0.1, 0.2, 0.3]}
    normalisation: [{step: clip, low: 0}, {step: sqrt}]
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self, get_args

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    FiniteFloat,
    TypeAdapter,
    model_validator,
)

from survey_scan.yaml_file import read

#: One number, or one a band in the order in which the bands are at that step.
PerBand = FiniteFloat | Annotated[list[FiniteFloat], Field(min_length=1)]

RECIPES = Path(__file__).parent / "models" / "recipes"


class _Strict(BaseModel):
    """Unknown keys are refused, values are not coerced, nothing can be changed."""

    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class Step(_Strict, ABC):
    """Base of the steps, with their constants; :mod:`survey_scan.models.steps` does them."""

    #: Fields that may hold one number a band.
    per_band: ClassVar[tuple[str, ...]] = ()

    step: str

    @abstractmethod
    def words(self) -> str:
        """What it does, in words."""

    def leaves(self, bands: list[str], size: int) -> tuple[list[str], int]:
        """Bands and size of the pixels after this step.

        Raises
        ------
        ValueError
            If it cannot be done to such pixels; the message begins with the field.
        """
        for name in self.per_band:
            value = getattr(self, name)
            if isinstance(value, list) and len(value) != len(bands):
                raise ValueError(
                    f"'{name}' has {len(value)} values, but there are {len(bands)} bands ({', '.join(bands)}). "
                    "Give one number for all, or one a band in this order."
                )
        return bands, size


class Clip(Step):
    """What is below ``low`` becomes ``low``, what is above ``high`` becomes ``high``."""

    per_band = ("low", "high")
    step: Literal["clip"]
    low: PerBand | None = None
    high: PerBand | None = None

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("'clip' needs 'low', 'high', or both")
        if self.low is not None and self.high is not None and not max(_list(self.low)) < min(_list(self.high)):
            raise ValueError(f"'low' must be below 'high', not {self.low} and {self.high}")
        return self

    def words(self) -> str:
        """In words."""
        ends = [f"{name} {_numbers(v)}" for name, v in (("below", self.low), ("above", self.high)) if v is not None]
        return f"clip what is {' or '.join(ends)}"


class Scale(Step):
    """``(x - offset) / scale``: of a training set's means and standard deviations, for one."""

    per_band = ("offset", "scale")
    step: Literal["scale"]
    offset: PerBand = 0.0
    scale: PerBand = 1.0

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if 0 in _list(self.scale):
            raise ValueError("'scale' must not be 0: pixels are divided by it")
        return self

    def words(self) -> str:
        """In words."""
        parts = [f"subtract {_numbers(self.offset)}"] if any(_list(self.offset)) else []
        parts += [f"divide by {_numbers(self.scale)}"] if set(_list(self.scale)) != {1} else []
        return ", ".join(parts) or "nothing"


class Asinh(Step):
    """``arcsinh(x / scale)``: linear below ``scale``, logarithmic above."""

    per_band = ("scale",)
    step: Literal["asinh"]
    scale: PerBand = 1.0

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if min(_list(self.scale)) <= 0:
            raise ValueError("'scale' must be above 0")
        return self

    def words(self) -> str:
        """In words."""
        return f"arcsinh of the pixel over {_numbers(self.scale)}"


class Sqrt(Step):
    """The square root; of negative pixels, 0."""

    step: Literal["sqrt"]

    def words(self) -> str:
        """In words."""
        return "square root; of negative pixels, 0"


class Log(Step):
    """``log10(x)``; of pixels below ``floor``, that of ``floor``."""

    per_band = ("floor",)
    step: Literal["log"]
    floor: PerBand

    @model_validator(mode="after")
    def _usable(self) -> Self:
        if min(_list(self.floor)) <= 0:
            raise ValueError("'floor' must be above 0")
        return self

    def words(self) -> str:
        """In words."""
        return f"log10, of at least {_numbers(self.floor)}"


class ZScore(Step):
    """Minus the cutout's own mean, over its own standard deviation (of the population); 0 where all pixels are equal."""

    step: Literal["z-score"]
    per: Literal["band", "image"] = "band"

    def words(self) -> str:
        """In words."""
        return f"subtract the mean, divide by the standard deviation, of each {_OF[self.per]}"


class MinMax(Step):
    """From the cutout's own lowest pixel (or ``low``) to its highest, linearly onto ``to``; its first where they are equal."""

    step: Literal["min-max"]
    per: Literal["band", "image"] = "band"
    low: FiniteFloat | None = None
    to: Annotated[list[FiniteFloat], Field(min_length=2, max_length=2)] = [0.0, 1.0]

    def words(self) -> str:
        """In words."""
        low = "lowest pixel" if self.low is None else f"{self.low:g}"
        return f"from {low} to highest pixel of each {_OF[self.per]}, onto {self.to[0]:g} to {self.to[1]:g}"


class Quantise(Step):
    """From [0, 1] to whole numbers 0 ... levels - 1, rounded down, as a cast to bytes does; what lies outside is clipped.

    A pixel within float32's rounding of a whole number may come out one lower on other hardware.
    """

    step: Literal["quantise"]
    levels: Annotated[int, Field(ge=2, le=65536)] = 256

    def words(self) -> str:
        """In words."""
        return f"0 to 1 as whole numbers 0 to {self.levels - 1}, rounded down"


class Lupton(Step):
    """Three bands, red first, to colours of equal hue at all brightnesses, in [0, 1] (Lupton et al. 2004, PASP 116, 133).

    With I the mean of the bands above ``minimum``: each band times ``arcsinh(q I / stretch) / (I arcsinh(0.1 q)) / 10``, negative
    ones 0; where a band exceeds 1, all three are divided by the highest. The constants are those of
    ``astropy.visualization.make_lupton_rgb``, whose bytes are 255 times this.
    """

    per_band = ("minimum",)
    step: Literal["lupton"]
    stretch: Annotated[FiniteFloat, Field(gt=0)]
    q: Annotated[FiniteFloat, Field(gt=0)]
    minimum: PerBand = 0.0

    def leaves(self, bands: list[str], size: int) -> tuple[list[str], int]:
        """Three bands, whose names they keep."""
        if len(bands) != 3:
            raise ValueError(f"takes three bands, red first, and there are {len(bands)} ({', '.join(bands)})")
        return super().leaves(bands, size)

    def words(self) -> str:
        """In words."""
        minimum = f" above {_numbers(self.minimum)}" if any(_list(self.minimum)) else ""
        return f"Lupton's colours, red first{minimum}: stretch {self.stretch:g}, Q {self.q:g}"


class Resize(Step):
    """To ``size`` pixels on a side, as Pillow does with ``antialias``; without it, pixels that get fewer are not smoothed.

    Pixel centres are at halves; the cubic is that of Keys 1981 with a = -1/2; what would lie outside does not count.
    """

    step: Literal["resize"]
    size: Annotated[int, Field(ge=1, le=4096)]
    method: Literal["nearest", "bilinear", "bicubic"] = "bilinear"
    antialias: bool = False

    def leaves(self, bands: list[str], size: int) -> tuple[list[str], int]:
        """The same bands, of the new size."""
        return bands, self.size

    def words(self) -> str:
        """In words."""
        return f"resize to {self.size} x {self.size}, {self.method}{', antialiased' if self.antialias else ''}"


class Order(Step):
    """The bands by name, in this order; some may be left out, and one may stand more than once."""

    step: Literal["order"]
    bands: Annotated[list[str], Field(min_length=1)]

    def leaves(self, bands: list[str], size: int) -> tuple[list[str], int]:
        """The bands it names."""
        for band in self.bands:
            if band not in bands:
                raise ValueError(f"'bands' has {band!r}, which is not there ({', '.join(bands)})")
        return self.bands, size

    def words(self) -> str:
        """In words."""
        return f"bands {', '.join(self.bands)}"


_OF = {"band": "band of each cutout", "image": "cutout, all bands together"}


class About(_Strict):
    """Where a recipe is from, what it was used on, and what of it nobody has checked; ``needs`` says what each constant is."""

    title: str
    reference: str
    read: Literal["code", "text", "others"]
    bands: list[str]
    size: int | None = None
    unit: str
    needs: dict[str, str] = {}
    unverified: list[str] = []


class Recipe(_Strict):
    """The steps of a published search; ``$name`` stands for a constant that must be given."""

    about: About
    steps: Annotated[list[dict[str, Any]], Field(min_length=1)]


class Named(Step):
    """A recipe by name, with the constants it needs."""

    model_config = ConfigDict(extra="allow")
    __pydantic_extra__: dict[str, PerBand]
    step: Literal["recipe"]
    recipe: str

    @model_validator(mode="after")
    def _usable(self) -> Self:
        self.steps()
        return self

    def words(self) -> str:
        """In words."""
        return f"the steps of {self.recipe}"

    def steps(self) -> "list[AnyStep]":
        """The steps, with the constants in their places."""
        found, given = recipe(self.recipe), self.__pydantic_extra__ or {}
        needs = found.about.needs
        for name, what in needs.items():
            if name not in given:
                raise ValueError(f"the recipe {self.recipe!r} needs {name!r}: {what}")
        for name in given:
            if name not in needs:
                raise ValueError(f"the recipe {self.recipe!r} takes {', '.join(needs) or 'no constants'}, not {name!r}")
        filled = [
            {key: given[v[1:]] if isinstance(v, str) and v.startswith("$") else v for key, v in step.items()}
            for step in found.steps
        ]
        return _Any.validate_python(filled)


AnyStep = Annotated[
    Clip | Scale | Asinh | Sqrt | Log | ZScore | MinMax | Quantise | Lupton | Resize | Order | Named,
    Field(discriminator="step"),
]

_KINDS = get_args(get_args(AnyStep)[0])
_NAMES: list[str] = [get_args(kind.model_fields["step"].annotation)[0] for kind in _KINDS if kind is not Named]
_Any: TypeAdapter[list[AnyStep]] = TypeAdapter(list[AnyStep])


def _known(value: Any) -> Any:
    """Refuse what is no step or recipe, before pydantic says so in its own words."""
    if isinstance(value, dict) and isinstance(value.get("recipe"), str):
        return {"step": "recipe", **value}
    name = value.get("step") if isinstance(value, dict) else None
    if isinstance(value, Step) or name in _NAMES:
        return value
    near = difflib.get_close_matches(str(name), _NAMES, n=1)
    what = "a step is a mapping with the key 'step'" if name is None else f"there is no step {name!r}"
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ValueError(f"{what}.{hint} There are {', '.join(_NAMES)}, and recipes, as {{recipe: NAME}}.")


def _listed(value: Any) -> Any:
    if isinstance(value, str):
        return [{"recipe": value}]
    return [value] if isinstance(value, dict) else value


def _spelled_out(items: list[AnyStep]) -> list[AnyStep]:
    return [step for item in items for step in (item.steps() if isinstance(item, Named) else [item])]


#: Steps in order, recipes among them spelled out.
Normalisation = Annotated[
    list[Annotated[AnyStep, BeforeValidator(_known)]], BeforeValidator(_listed), AfterValidator(_spelled_out)
]


def recipes() -> list[str]:
    """The recipes there are."""
    return sorted(path.stem for path in RECIPES.glob("*.yaml"))


@cache
def recipe(name: str) -> Recipe:
    """A published recipe.

    Raises
    ------
    ValueError
        If there is none of that name.
    """
    if name not in (known := recipes()):
        near = difflib.get_close_matches(name, known, n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise ValueError(f"there is no recipe {name!r}.{hint} There are {', '.join(known)}.")
    return Recipe.model_validate(read(RECIPES / f"{name}.yaml", ["about", "steps"])[0])


def after(steps: Iterable[Step], bands: list[str], size: int) -> tuple[list[str], int]:
    """Bands and size of the pixels after all steps.

    Raises
    ------
    ValueError
        If a step cannot be done; the message says which.
    """
    for number, step in enumerate(steps, 1):
        try:
            bands, size = step.leaves(bands, size)
        except ValueError as error:
            raise ValueError(f"step {number} ({step.step}): {error}") from None
    return bands, size


def _list(value: PerBand) -> list[float]:
    return value if isinstance(value, list) else [value]


def _numbers(value: PerBand) -> str:
    return "[" + ", ".join(f"{v:g}" for v in value) + "]" if isinstance(value, list) else f"{value:g}"
