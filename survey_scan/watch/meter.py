"""Sums that only grow, and how much they grew lately; and how much of a pool's time is in use."""

from collections import deque

from survey_scan.layout import STAGES

#: Seconds that count as lately.
RECENT_SECONDS = 600.0

#: Seconds between two marks of the sums.
STEP_SECONDS = 10.0

#: Partitions that must have ended lately; where they take long, lately reaches further back.
FEW = 8

#: Marks kept at most: eleven hours of nothing ended.
MOST_MARKS = 4096

#: Stage and partition.
Task = tuple[str, int]


class Recent:
    """Remembers sums at times, to tell their growth over the last ten minutes or :data:`FEW` ended partitions.

    Parameters
    ----------
    now : float
        When the sums began, s.
    sums : tuple of float
        What they were; the first of them counts ended partitions.
    """

    def __init__(self, now: float, sums: tuple[float, ...]):
        self._marks: deque[tuple[float, tuple[float, ...]]] = deque([(now, sums)], maxlen=MOST_MARKS)

    def mark(self, now: float, sums: tuple[float, ...]) -> None:
        """Remember the sums as they are now, and forget what is too old to matter."""
        if now - self._marks[-1][0] >= STEP_SECONDS:
            self._marks.append((now, sums))
        while (
            len(self._marks) > 1 and self._marks[1][0] <= now - RECENT_SECONDS and sums[0] - self._marks[1][1][0] >= FEW
        ):
            self._marks.popleft()

    def growth(self, now: float, sums: tuple[float, ...]) -> tuple[float, list[float]]:
        """Seconds that count as lately, and how much each sum grew in them."""
        began, before = self._marks[0]
        return now - began, [b - a for a, b in zip(before, sums, strict=True)]


class Meter:
    """The time of one pool's threads: offered, and used.

    Tasks in flight are taken to begin in the order in which they were submitted, scores before cutouts, as soon as a
    thread is free; an ended task has used the seconds it reports itself, so that what passes between two tasks of a
    thread counts as not used. Time is offered only while the pool's stages have something left to do: what the pool
    lacks then, because nothing is ready for it, is idle time; after its last partition it is free.

    Parameters
    ----------
    now : float
        When the pool came to be, s.
    workers, threads : int
        Its size; a worker has at most one device.
    """

    def __init__(self, now: float, workers: int, threads: int):
        self._now, self._workers, self._threads = now, workers, threads
        self._running: dict[Task, float] = {}
        self._waiting: dict[Task, None] = {}
        self._ended = 0
        self._threads_offered = self._devices_offered = 0.0
        self._seconds = {"cutouts": 0.0, "scores": 0.0}
        self._reported = {"cutouts": 0.0, "scores": 0.0}
        self._device = 0.0
        self._recent = Recent(now, self._sums())

    @property
    def tasks(self) -> list[Task]:
        """Tasks in flight."""
        return [*self._running, *self._waiting]

    def advance(self, now: float, work: bool) -> None:
        """Let time pass; ``work`` says whether there was something left to do in it."""
        if work:
            self._threads_offered += self._threads * (now - self._now)
            self._devices_offered += self._workers * (now - self._now)
        self._now = now
        self._recent.mark(now, self._sums())

    def resize(self, workers: int, threads: int) -> None:
        """The pool has another size now."""
        self._workers, self._threads = workers, threads
        self._promote()

    def submitted(self, task: Task) -> None:
        """A task is in flight."""
        self._waiting[task] = None
        self._promote()

    def ended(self, task: Task, seconds: float | None, device_seconds: float) -> None:
        """A task is no longer in flight; it says what it used, or None if it failed."""
        began = self._running.pop(task, self._now)
        self._waiting.pop(task, None)
        self._ended += 1
        self._seconds[task[0]] += self._now - began if seconds is None else seconds
        self._reported[task[0]] += seconds or 0.0
        self._device += device_seconds
        self._promote()

    def busy(self, stage: str, whole: bool = False) -> float | None:
        """Share of the threads' time used by a stage, lately or since the pool came to be."""
        _, offered, _, cutouts, scores, _ = self._growth(whole)
        return _share(cutouts if stage == "cutouts" else scores, offered)

    def device_busy(self, whole: bool = False) -> float | None:
        """Share of the devices' time used; None as long as no task has said that it used one."""
        _, _, offered, _, _, device = self._growth(whole)
        return _share(device, offered) if self._device else None

    def _growth(self, whole: bool) -> list[float]:
        sums = self._sums()
        return list(sums) if whole else self._recent.growth(self._now, sums)[1]

    def _sums(self) -> tuple[float, ...]:
        """Ended tasks, seconds offered by threads and devices, used for cutouts and scores, and used of the devices."""
        running = {"cutouts": 0.0, "scores": 0.0}
        for (stage, _), began in self._running.items():
            running[stage] += self._now - began
        # a running task has used the device as those did that have ended
        device = running["scores"] * self._device / self._reported["scores"] if self._reported["scores"] else 0.0
        used = (self._seconds[stage] + running[stage] for stage in STAGES)
        return self._ended, self._threads_offered, self._devices_offered, *used, self._device + device

    def _promote(self) -> None:
        while self._waiting and len(self._running) < self._threads:
            task = next((t for t in self._waiting if t[0] == "scores"), next(iter(self._waiting)))
            del self._waiting[task]
            self._running[task] = self._now


def _share(used: float, offered: float) -> float | None:
    return min(max(used / offered, 0.0), 1.0) if offered > 0 else None
