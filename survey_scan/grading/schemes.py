"""How candidates are graded: keys, what they mean, and the letters that averaged grades are given."""

from collections.abc import Callable
from dataclasses import dataclass

from survey_scan.errors import UserError


@dataclass(frozen=True)
class Grade:
    """One grade: its key and name, its value in a mean, and when to give it."""

    name: str
    value: int
    title: str
    meaning: str


@dataclass(frozen=True)
class Scheme:
    """A set of grades, from the lowest to the highest.

    Parameters
    ----------
    name : str
        As ``--scheme`` takes it.
    source : str
        Who grades so.
    grades : tuple of Grade
        Their names are also their keys, in lower case.
    """

    name: str
    source: str
    grades: tuple[Grade, ...]

    @property
    def values(self) -> dict[str, int]:
        """Name of a grade → its value."""
        return {grade.name: grade.value for grade in self.grades}


#: Meanings: the convention of SuGOHI (Sonnenfeld et al.), which HOLISMOKES and González et al. follow, in short; and that of
#: Huang et al. 2020, whose grades 4 to 1 are averaged.
SCHEMES: dict[str, Scheme] = {
    scheme.name: scheme
    for scheme in (
        Scheme(
            "0-3",
            "SuGOHI, HOLISMOKES; González et al. 2025",
            (
                Grade("0", 0, "not a lens", "What is seen does not fit a strong lens."),
                Grade("1", 1, "possibly a lens", "Most of it fits a lens, but contaminants may explain it as well."),
                Grade("2", 2, "probably a lens", "All of it fits a lens, but some of it may yet be contaminants."),
                Grade(
                    "3",
                    3,
                    "a lens",
                    "A textbook case: positions, colours and surface brightness of the images agree, and contaminants can "
                    "be ruled out.",
                ),
            ),
        ),
        Scheme(
            "ABC",
            "Huang et al. 2020, 2021",
            (
                Grade("X", 1, "not a lens", "Nothing that suggests a lens."),
                Grade(
                    "C",
                    2,
                    "maybe",
                    "Fainter or smaller features still, but they suggest arcs; counter-images often unseen.",
                ),
                Grade("B", 3, "probable", "As A, but the arcs are fainter, the arclets smaller or alone."),
                Grade(
                    "A",
                    4,
                    "confident",
                    "One or more prominent arcs, or clear arclets in a configuration, of similar colour.",
                ),
            ),
        ),
    )
}


@dataclass(frozen=True)
class Letters:
    """Letters for averaged grades, as a team gives them.

    Parameters
    ----------
    name : str
        As ``--letters`` takes it.
    scheme : str
        The scheme whose grades are averaged.
    bounds : str
        In words.
    trimmed : bool
        Whether the lowest and the highest grade are dropped where five or more people graded.
    letter : callable
        Mean → letter, or ``-``.
    """

    name: str
    scheme: str
    bounds: str
    trimmed: bool
    letter: Callable[[float], str]


#: The first of a scheme is its usual one. Huang's B is exactly 3.0, for two graders; more of them have means between, which
#: take the letter below.
LETTERS: dict[str, Letters] = {
    letters.name: letters
    for letters in (
        Letters(
            "holismokes", "0-3", "A > 2.5, B 1.5 to 2.5", False,
            lambda mean: "A" if mean > 2.5 else "B" if mean >= 1.5 else "-",
        ),
        Letters(
            "gonzalez", "0-3", "A >= 1.8, B 1.2 to 1.8, C 0.8 to 1.2", True,
            lambda mean: "A" if mean >= 1.8 else "B" if mean >= 1.2 else "C" if mean >= 0.8 else "-",
        ),
        Letters(
            "huang", "ABC", "A >= 3.5, B 3.0 to 3.5, C 2.0 to 3.0", False,
            lambda mean: "A" if mean >= 3.5 else "B" if mean >= 3.0 else "C" if mean >= 2.0 else "-",
        ),
    )
}  # fmt: skip


def letters_of(scheme: str, name: str | None) -> Letters:
    """The letters of a scheme: those named, or its usual ones.

    Raises
    ------
    UserError
        If those are of another scheme.
    """
    fitting = [letters for letters in LETTERS.values() if letters.scheme == scheme]
    found = fitting[0] if name is None else LETTERS[name]
    if found not in fitting:
        allowed = ", ".join(letters.name for letters in fitting)
        raise UserError(f"--letters {name} is for grades {found.scheme}; these are {scheme}. Allowed: {allowed}.")
    return found
