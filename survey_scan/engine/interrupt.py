"""SIGINT, SIGTERM and SIGUSR1: the first stops gracefully, the second at once."""

import contextlib
import os
import signal
import sys
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from types import FrameType

from survey_scan.errors import Incomplete, Interrupted
from survey_scan.layout import RunDirectory

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Stop:
    """Whether a stop was asked for.

    Outside :meth:`graceful` the first signal ends the command where it stands, by raising ``Interrupted``; inside, it
    only sets ``requested`` so that tasks in flight can finish.
    """

    def __init__(self, say: Callable[[str], None]):
        self.requested: str | None = None
        self.say = say
        self._graceful: str | None = None

    @contextlib.contextmanager
    def graceful(self, finishing: str = "the partitions in flight") -> Iterator[None]:
        """While inside, a first signal is left to the caller, who finishes this."""
        self._graceful = finishing
        try:
            yield
        finally:
            self._graceful = None

    def raise_if_requested(self) -> None:
        """Raise ``Interrupted`` if a signal came."""
        if self.requested:
            raise Interrupted(f"stopped by {self.requested}; run the same command again to resume.")

    def first(self, name: str) -> None:
        """Act on the first signal."""
        self.requested = name
        if not self._graceful:
            self.raise_if_requested()
        self.say(f"{name}: finishing {self._graceful}; once more stops at once.")


@contextlib.contextmanager
def handled(
    run: RunDirectory, say: Callable[[str], None], at_once: Callable[[str], None] = lambda name: None
) -> Iterator[Stop]:
    """Handle the signals while inside.

    Parameters
    ----------
    run : RunDirectory
        Its lock is removed when a second signal ends the process at once.
    say : callable
        Prints a line.
    at_once : callable
        Called with the first signal's name before a second one ends the process.
    """
    stop = Stop(say)

    def handler(number: int, frame: FrameType | None) -> None:
        name = signal.Signals(number).name
        if stop.requested:
            sys.stderr.write(f"{name}: stopped at once; run the same command again to resume.\n")
            sys.stderr.flush()
            run.lock.unlink(missing_ok=True)
            at_once(stop.requested)
            os._exit(Incomplete.exit_code)  # the workers end with the pipe that ties them to this process
        stop.first(name)

    # multiprocessing's helper process minds SIGINT and SIGTERM of the group, but dies of SIGUSR1 unless born deaf to it.
    usual = signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    resource_tracker.ensure_running()
    signal.signal(signal.SIGUSR1, usual)
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield stop
    finally:
        for number, old in before.items():
            signal.signal(number, old)
