"""One grader's sitting: what the page may ask, and what it is told. Knows nothing of HTTP."""

import contextlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from survey_scan.errors import RunError, UserError
from survey_scan.grading import pictures
from survey_scan.grading.cache import Cache
from survey_scan.grading.candidates import FACTS, Pixels
from survey_scan.grading.journal import LONGEST_NOTE, Journal, Shown
from survey_scan.grading.order import Place
from survey_scan.grading.schemes import Scheme

#: Bytes of PNG kept.
CACHE_BYTES = 96 << 20

#: Candidates whose colours make the run's white.
BALANCE = 48

#: Longest time one can look at a picture, in seconds: more is an error, or a night.
LONGEST_LOOK = 86_400


class Refused(UserError):
    """What the page sent cannot be taken; nothing was recorded."""


class Session:
    """Candidates in one grader's order, and the grades given to them.

    Parameters
    ----------
    name : str
        Of the run.
    table : DataFrame
        From :func:`survey_scan.grading.candidates.read`.
    pixels : Pixels
        Of the same table.
    journal : Journal
        Open.
    scheme : Scheme
        How is graded.
    places : sequence of (int, int)
        From :func:`survey_scan.grading.order.places`.
    hidden : bool
        Whether rank, logit and what is known of the object are kept from the page.
    """

    def __init__(
        self,
        name: str,
        table: pd.DataFrame,
        pixels: Pixels,
        journal: Journal,
        scheme: Scheme,
        places: Sequence[Place],
        hidden: bool,
    ):
        self.name, self.scheme, self.journal = name, scheme, journal
        self.places, self.hidden = list(places), hidden
        self.views = pictures.views(pixels.bands, pixels.nanomaggies)
        self._known_views = {view.name for view in self.views}
        self._pixels = pixels
        self._ids: list[str] = table["object_id"].tolist()
        self._ranks: list[int] = table["rank"].tolist()
        self._facts = table[[column for column in FACTS if column in table]]
        self._place_of = {self._shown(place): place for place in range(1, len(self.places) + 1)}
        self._cache = Cache(CACHE_BYTES)
        self._weights = self._white()

    def state(self) -> dict[str, Any]:
        """All the page must know to begin: grades by place, views, the scheme."""
        grades = self.journal.standing.grades
        return {
            "run": self.name,
            "grader": self.journal.grader,
            "hidden": self.hidden,
            "file": str(self.journal.path),
            "size": self._pixels.size,
            "gain_steps": pictures.GAIN_STEPS,
            "longest_note": LONGEST_NOTE,
            "views": [{"name": view.name, "title": view.title} for view in self.views],
            "scheme": {
                "name": self.scheme.name,
                "source": self.scheme.source,
                "grades": [
                    {"name": g.name, "value": g.value, "title": g.title, "meaning": g.meaning}
                    for g in self.scheme.grades
                ],
            },
            "grades": [grades.get(self._shown(place), "") for place in range(1, len(self.places) + 1)],
        }

    def facts(self, place: int) -> dict[str, Any]:
        """What is known of the object at a place; without what a blind grader must not know.

        Raises
        ------
        Refused
            If there is no such place.
        """
        number, _ = self._at(place)
        row = self._facts.iloc[number]
        hidden = set(FACTS) - {"ra", "dec"} if self.hidden else set()
        told = {name: _plain(row[name]) for name in row.index if name not in hidden}
        shown = self._shown(place)
        standing = self.journal.standing
        return {
            "place": place,
            "object_id": self._ids[number],
            "grade": standing.grades.get(shown, ""),
            "note": standing.notes.get(shown, ""),
            "facts": {name: value for name, value in told.items() if value not in (None, "")},
        }

    def picture(self, place: int, view: str, gain: int) -> bytes:
        """A picture as PNG, from the cache if it was made before; may be called from any thread.

        Raises
        ------
        Refused
            If there is no such place, view or gain.
        RunError
            If its cutout is not there.
        """
        number, _ = self._at(place)
        if view not in self._known_views or abs(gain) > pictures.GAIN_STEPS:
            raise Refused(f"there is no view '{view}' with gain {gain}. Views: {', '.join(sorted(self._known_views))}.")
        key = (number, view, gain)
        data = self._cache.get(key)
        if data is None:
            cutout = self._pixels.cutout(number)
            picture = pictures.render(cutout, self._pixels.bands, view, gain, self._weights)
            data = pictures.png(picture)
            self._cache.put(key, data)
        return data

    def grade(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Record a grade; it is on disk when this returns.

        Parameters
        ----------
        asked : mapping
            ``place``, ``object_id``, ``grade``, ``note``, ``seconds``, ``stretch``.

        Raises
        ------
        Refused
            If one of them cannot be; nothing is recorded.
        OSError
            If it cannot be written; nothing is recorded.
        """
        place, number, shown = self._asked(asked)
        grade = _text(asked, "grade")
        if grade not in self.scheme.values:
            raise Refused(
                f"grade '{grade}' is not one of the scheme {self.scheme.name}: {', '.join(self.scheme.values)}."
            )
        seconds, stretch = asked.get("seconds", 0), _text(asked, "stretch")
        if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= LONGEST_LOOK:
            raise Refused(f"'seconds' is {seconds!r}; it must be a number from 0 to {LONGEST_LOOK}.")
        if stretch.split("@")[0] not in self._known_views or len(stretch) > 40:
            raise Refused(f"there is no view '{stretch[:40]}'. Views: {', '.join(sorted(self._known_views))}.")
        self.journal.add("grade", shown, self._ranks[number], grade, _text(asked, "note"), seconds, stretch)
        return {"place": place, "grade": grade}

    def note(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        """Record a note without a grade (``place``, ``object_id``, ``note``); raises as :meth:`grade`."""
        place, number, shown = self._asked(asked)
        self.journal.add("note", shown, self._ranks[number], note=_text(asked, "note"))
        return {"place": place, "note": self.journal.standing.notes[shown]}

    def undo(self) -> dict[str, Any]:
        """Take the last grade back: which place it was, and the grade that now holds there.

        Raises
        ------
        Refused
            If there is none.
        OSError
            If it cannot be written; nothing is undone.
        """
        last = self.journal.standing.last
        if last is None:
            raise Refused("there is no grade to undo.")
        undone = self.journal.standing.grades[last]
        place = self._place_of.get(last)
        rank = self._ranks[self.places[place - 1][0]] if place else 0
        self.journal.add("undo", last, rank, undone)
        return {"place": place, "grade": self.journal.standing.grades.get(last, "")}

    def _white(self) -> tuple[float, ...]:
        """The run's white; the same for every picture, from candidates of all ranks that have pixels."""
        some = []
        for number in np.unique(np.linspace(0, len(self._ids) - 1, BALANCE).astype(int)).tolist():
            with contextlib.suppress(RunError):  # its own picture says so
                some.append(self._pixels.cutout(number))
        return pictures.balance(some, self._pixels.bands)

    def _asked(self, asked: Mapping[str, Any]) -> tuple[int, int, Shown]:
        object_id, place = asked.get("object_id"), asked.get("place")
        if not isinstance(object_id, str) or (object_id, 0) not in self._place_of:
            raise Refused(f"no candidate of this list has object_id {str(object_id)[:60]}. Nothing was recorded.")
        if not isinstance(place, int) or isinstance(place, bool):
            raise Refused(f"'place' is {place!r}; it must be a whole number.")
        number, _ = self._at(place)
        if self._ids[number] != object_id:
            raise Refused(f"at place {place} is not {object_id}, but another candidate. Load the page again.")
        return place, number, self._shown(place)

    def _at(self, place: int) -> Place:
        if not 1 <= place <= len(self.places):
            raise Refused(f"there is no place {place}; there are 1 to {len(self.places)}.")
        return self.places[place - 1]

    def _shown(self, place: int) -> Shown:
        number, repeat = self.places[place - 1]
        return self._ids[number], repeat


def _text(asked: Mapping[str, Any], name: str) -> str:
    value = asked.get(name, "")
    if not isinstance(value, str):
        raise Refused(f"'{name}' is {value!r}; it must be a text.")
    return value


def _plain(value: Any) -> Any:
    """A cell as JSON has it; None for what is missing."""
    if value is None or (isinstance(value, float | np.floating) and not np.isfinite(value)):
        return None
    return value.item() if isinstance(value, np.generic) else value
