"""How far the scan is: bars on a terminal, one line a minute elsewhere."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

#: Seconds between two lines where there is no terminal.
LINE_SECONDS = 60.0


@dataclass
class Count:
    """Targets of one stage: of all partitions, finished before this start, finished since.

    ``part`` are those of partitions under way, where that is known, and ``kept`` how many of them an earlier start did.
    """

    total: int
    before: int
    now: int = 0
    began: float | None = None
    part: int = 0
    kept: int | None = None

    @property
    def rate(self) -> float:
        """Targets a second since the first task of this start was submitted."""
        elapsed = time.monotonic() - self.began if self.began is not None else 0.0
        return (self.now + self.part - (self.kept or 0)) / elapsed if elapsed > 0 else 0.0

    @property
    def done(self) -> int:
        """Targets that need not be waited for."""
        return self.before + self.now + self.part

    def line(self) -> str:
        """Done, rate and time left in words."""
        text = f"{self.done:,}/{self.total:,}"
        if self.rate > 0 and self.done < self.total:
            text += f" ({self.speed()}, {duration((self.total - self.done) / self.rate)} left)"
        return text

    def speed(self) -> str:
        """The rate in words."""
        return f"{self.rate:,.0f}/s" if self.rate >= 10 else f"{self.rate:.2g}/s"


@dataclass
class Progressing:
    """Shows the counts of the stages while the scan runs.

    Parameters
    ----------
    counts : mapping
        Stage → its count of targets.
    say : callable
        Prints a line where there is no terminal.
    """

    counts: Mapping[str, Count]
    say: Callable[[str], None]
    _bars: Progress | None = field(default=None, init=False)
    _ids: dict[str, TaskID] = field(default_factory=dict, init=False)
    _last: float = field(default_factory=time.monotonic, init=False)

    def __enter__(self) -> Self:
        if sys.stderr.isatty():
            self._bars = Progress(
                TextColumn("{task.description:<8}"),
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.fields[rate]}"),
                TimeRemainingColumn(),
                console=Console(stderr=True),
            )
            self._bars.start()
            for stage, count in self.counts.items():
                self._ids[stage] = self._bars.add_task(stage, total=count.total, completed=count.before, rate="")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bars is not None:
            self._bars.stop()

    def started(self, stage: str) -> None:
        """A task of this stage was submitted: its clock starts."""
        if self.counts[stage].began is None:
            self.counts[stage].began = time.monotonic()

    def finished(self, stage: str, targets: int) -> None:
        """A partition of this stage is finished."""
        count = self.counts[stage]
        count.now, count.part = count.now + targets, 0
        self._show(stage, count)

    def under_way(self, stage: str, targets: int) -> None:
        """So many targets of the partitions under way are done."""
        count = self.counts[stage]
        if count.kept is None:
            count.kept = targets
        count.part = targets
        self._show(stage, count)

    def _show(self, stage: str, count: Count) -> None:
        if self._bars is not None:
            self._bars.update(self._ids[stage], completed=count.done, rate=count.speed())
        self.tick()

    def tick(self) -> None:
        """Print a line if a minute has passed and there is no terminal."""
        if self._bars is None and time.monotonic() - self._last >= LINE_SECONDS:
            self._last = time.monotonic()
            lines = [f"{stage} {count.line()}" for stage, count in self.counts.items()]
            self.say(f"{time.strftime('%H:%M:%S')}  {' · '.join(lines)}")


def plan_lines(say: Callable[[str], None]) -> Callable[[str, int, int], None]:
    """A callable that is told how far the plan is, and prints a line a minute."""
    last = time.monotonic()

    def report(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last >= LINE_SECONDS:
            last = time.monotonic()
            say(f"{time.strftime('%H:%M:%S')}  plan: {what} {done:,}/{total:,}")

    return report


def duration(seconds: float) -> str:
    """Hours, minutes and seconds as in ``2:05:09``, ``5:09`` or ``9 s``."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours}:{minutes:02d}:{whole % 60:02d}"
    return f"{minutes}:{whole % 60:02d}" if minutes else f"{whole} s"
