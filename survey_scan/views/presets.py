"""The surveys and papers that come with the package, as tables or one whole."""

from collections.abc import Callable, Iterator

from survey_scan import presets

Say = Callable[[str], None]


def show(kind: presets.Kind, name: str | None, say: Say) -> None:
    """Print a preset's file, or a table of all of a kind; ``-`` is what a preset does not know.

    Parameters
    ----------
    kind : {"survey", "paper"}
        Which.
    name : str or None
        None: all.
    say : callable
        Prints a line.

    Raises
    ------
    ConfigError
        If there is none of that name.
    """
    if name is not None:
        path = presets.file(kind, name).path
        say(f"{path}\n\n{path.read_text(encoding='utf-8').rstrip()}")
        return
    rows = list(_surveys() if kind == "survey" else _papers())
    wide = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        say("  ".join(f"{text:<{width}}" for text, width in zip(row, wide, strict=True)).rstrip())


def _surveys() -> Iterator[tuple[str, ...]]:
    yield "name", "bands", "arcsec", "zero point", "title"
    for name in presets.names("survey"):
        survey = presets.survey(name)
        scale, zero_point = (str(survey.images.get(key, "-")) for key in ("pixel_scale", "zero_point"))
        yield name, " ".join(survey.images["bands"]), scale, zero_point, survey.about.title


def _papers() -> Iterator[tuple[str, ...]]:
    yield "name", "scored", "cuts", "columns", "survey", "reference"
    for name in presets.names("paper"):
        paper = presets.paper(name)
        about = paper.about
        needs = " ".join(about.needs) or "-"
        yield name, f"{about.count:,}", str(len(paper.cuts)), needs, about.survey, about.reference
