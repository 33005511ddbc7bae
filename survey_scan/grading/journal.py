"""What one grader did, event by event: ``RUN/grades/NAME.csv``.

A row is on disk (written, flushed, synced) before it counts. Nothing is ever changed or removed, an undone grade neither:
the undo is an event of its own. A last line without its end was never confirmed to anybody, and is cut off at the next
start. Grades belong to object ids and to a plan, not to a ranking, so that ranking again keeps them.
"""

import contextlib
import csv
import fcntl
import io
import json
import os
import re
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from types import TracebackType
from typing import Self

from survey_scan.errors import RunError, UserError

#: What a grader may be called: it is the name of a file and of a column.
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")

#: Longest note, in characters.
LONGEST_NOTE = 1000


@dataclass(frozen=True)
class Event:
    """One row of the file.

    Parameters
    ----------
    time : str
        UTC, ISO 8601.
    event : str
        ``grade``, ``note``, or ``undo`` of the last grade that stands.
    object_id : str
        Of the candidate.
    rank : int
        Its rank at that time.
    grade : str
        Given, or undone; empty for a note.
    note : str
        In one line.
    seconds : float
        For which it was looked at.
    stretch : str
        The view it was seen in.
    repeat : int
        1 if this was a second showing.
    scheme : str
        Of the grade.
    run : str
        Digest of the plan of the run.
    """

    time: str
    event: str
    object_id: str
    rank: int
    grade: str
    note: str
    seconds: float
    stretch: str
    repeat: int
    scheme: str
    run: str

    def row(self) -> str:
        """The event as a line of CSV, with its end."""
        stream = io.StringIO()
        csv.writer(stream, lineterminator="\n").writerow([getattr(self, name) for name in COLUMNS])
        return stream.getvalue()


#: Columns of the file, in order.
COLUMNS = tuple(f.name for f in fields(Event))

#: An object as it was shown: its id, and whether for the second time.
Shown = tuple[str, int]


@dataclass
class Standing:
    """What holds after some events.

    Attributes
    ----------
    grades, notes : dict
        By object and showing.
    """

    grades: dict[Shown, str] = field(default_factory=dict)
    notes: dict[Shown, str] = field(default_factory=dict)
    _undo: list[tuple[Shown, str | None, str | None]] = field(default_factory=list)

    @property
    def last(self) -> Shown | None:
        """What an undo would give back its earlier grade."""
        return self._undo[-1][0] if self._undo else None

    def take(self, event: Event) -> None:
        """Go one event on."""
        shown = (event.object_id, event.repeat)
        if event.event == "grade":
            self._undo.append((shown, self.grades.get(shown), self.notes.get(shown)))
            self.grades[shown] = event.grade
            self.notes[shown] = event.note
        elif event.event == "note":
            self.notes[shown] = event.note
        elif self._undo:
            shown, grade, note = self._undo.pop()
            for table, value in ((self.grades, grade), (self.notes, note)):
                table.pop(shown, None)
                if value is not None:
                    table[shown] = value


def standing(events: Iterable[Event]) -> Standing:
    """What holds after all of some events."""
    found = Standing()
    for event in events:
        found.take(event)
    return found


def read(path: Path) -> list[Event]:
    """The events of a file; a last line without its end is left out.

    Raises
    ------
    RunError
        If a line is not an event; with its number.
    """
    text = path.read_bytes()
    lines = text[: text.rfind(b"\n") + 1].decode("utf-8", "replace").splitlines()
    if not lines:
        return []
    if lines[0] != ",".join(COLUMNS):
        raise RunError(f"{path}:1: this is no file of grades: its columns are not {','.join(COLUMNS)}. Move it away.")
    found = []
    for number, row in enumerate(csv.reader(lines[1:]), 2):
        try:
            values = dict(zip(COLUMNS, row, strict=True))
            numbers = {
                "rank": int(values["rank"]),
                "seconds": float(values["seconds"]),
                "repeat": int(values["repeat"]),
            }
            if values["event"] not in ("grade", "note", "undo"):
                raise ValueError
        except ValueError:
            raise RunError(
                f"{path}:{number}: this line is not a grade, a note or an undo: {','.join(row)[:80]!r}. Mend or remove it."
            ) from None
        found.append(Event(**{**values, **numbers}))  # type: ignore[arg-type]
    return found


def check(path: Path, events: Iterable[Event], run: str) -> str | None:
    """The scheme of a file's grades, None if it has none.

    Raises
    ------
    RunError
        If they are of another run, or of several schemes.
    """
    schemes: dict[str, None] = {}
    for event in events:
        if event.run != run:
            raise RunError(
                f"{path} has grades of another run (its plan is {event.run}, that of {path.parent.parent} is {run}): the "
                "folder was copied, or the run planned anew. Move the file away, or to the run it belongs to."
            )
        schemes[event.scheme] = None
    if len(schemes) > 1:
        raise RunError(f"{path} mixes grades of the schemes {' and '.join(schemes)}. Give each a file of its own.")
    return next(iter(schemes), None)


class Journal:
    """One grader's file, open for writing, and nobody else's as long.

    Parameters
    ----------
    folder : Path
        ``RUN/grades``; made if it is not there.
    grader : str
        Whose.
    run : str
        Digest of the run's plan.
    scheme : str
        Of the grades to come.
    say : callable
        Told of what is mended.

    Raises
    ------
    UserError
        If the name cannot be a file's, or this grader used another scheme.
    RunError
        If somebody grades under this name now, or the grades are of another run.
    """

    def __init__(self, folder: Path, grader: str, run: str, scheme: str, say: Callable[[str], None]):
        if not NAME.fullmatch(grader):
            raise UserError(
                f"--grader {grader!r}: a grader's name begins with a letter or digit, and has at most 40 letters, digits and "
                "'_', '-', '.' (A-Z without accents). Give another with --grader."
            )
        self.path = folder / f"{grader}.csv"
        self.grader, self.run, self.scheme = grader, run, scheme
        folder.mkdir(parents=True, exist_ok=True)
        with contextlib.ExitStack() as opened:
            opened.callback(os.close, _lock(folder / f".{grader}.lock", self.path, say))
            self._file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
            opened.callback(os.close, self._file)
            self._mend(say)
            events = read(self.path)
            before = check(self.path, events, run)
            if before not in (None, scheme):
                raise UserError(
                    f"{self.path} has grades by the scheme {before}, not {scheme}. Go on with --scheme {before}, or grade "
                    "under another name with --grader."
                )
            self.standing = standing(events)
            if not os.fstat(self._file).st_size:
                self._append(",".join(COLUMNS) + "\n")
                _sync_folder(folder)
            self._open = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file, and let another have the name."""
        self._open.close()

    def add(
        self,
        event: str,
        shown: Shown,
        rank: int,
        grade: str = "",
        note: str = "",
        seconds: float = 0,
        stretch: str = "",
    ) -> None:
        """Record an event; it is on disk when this returns, and otherwise not at all.

        Raises
        ------
        OSError
            If it cannot be written.
        """
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        note = " ".join(note.split())[:LONGEST_NOTE]
        told = Event(
            now, event, shown[0], rank, grade, note, round(seconds, 1), stretch, shown[1], self.scheme, self.run
        )
        self._append(told.row())
        self.standing.take(told)

    def _append(self, line: str) -> None:
        size = os.fstat(self._file).st_size
        data = line.encode()
        try:
            if os.write(self._file, data) != len(data):
                raise OSError(28, "No space left on device", str(self.path))
            os.fsync(self._file)
        except OSError:
            with contextlib.suppress(OSError):  # else the next start mends it
                os.ftruncate(self._file, size)
            raise

    def _mend(self, say: Callable[[str], None]) -> None:
        """Cut off a last line that has no end."""
        text = self.path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.ftruncate(self._file, whole)
            os.fsync(self._file)
            say(
                f"mended      {self.path}: its last line was cut short, as by a kill, and is gone; it was never confirmed"
            )


def _lock(path: Path, grades: Path, say: Callable[[str], None]) -> int:
    """Take a name; the lock goes with the process, however it ends."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 1000)
        os.close(descriptor)
        try:
            who = "pid {pid} on {host} since {since}".format(**json.loads(holder))
        except (ValueError, KeyError):
            who = "another process"
        raise RunError(
            f"{grades} is being written by {who}: somebody grades under this name already. Use that page, stop it with "
            "Ctrl-C, or give yourself another name with --grader."
        ) from None
    except OSError as error:
        say(
            f"no lock     {path.parent} cannot be locked ({error.strerror}): see that nobody else grades under this name"
        )
    now = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M")}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(now).encode(), 0)
    return descriptor


def _sync_folder(folder: Path) -> None:
    """Put a new file's name on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some file systems cannot
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
