"""``survey_scan grade``: open a sitting, or put together what all graders found."""

import getpass
import socket
from collections.abc import Callable
from dataclasses import dataclass

from survey_scan.errors import UserError
from survey_scan.grading import candidates, order, server
from survey_scan.grading.journal import Journal
from survey_scan.grading.schemes import SCHEMES
from survey_scan.grading.session import Session
from survey_scan.layout import RunDirectory

Say = Callable[[str], None]


@dataclass(frozen=True)
class Options:
    """How one grader wants to grade."""

    grader: str | None = None
    scheme: str = "0-3"
    blind: bool = False
    repeats: float = 0.0
    top: int | None = None
    port: int = 0


def run(directory: RunDirectory, options: Options, say: Say) -> None:
    """Serve the page until Ctrl-C.

    Parameters
    ----------
    directory : RunDirectory
        With candidates.
    options : Options
        Of the command line.
    say : callable
        Prints a line.

    Raises
    ------
    UserError
        If an option cannot be used.
    RunError
        If the run has no candidates, somebody grades under this name now, or the grades are of another run.
    ResourceError
        If the port is taken.
    """
    if not 0 <= options.repeats <= 0.5:
        raise UserError(f"--repeats is {options.repeats:g}; it must be from 0 to 0.5, the share shown a second time.")
    grader = options.grader or getpass.getuser()
    table = candidates.with_pixels(directory, candidates.read(directory, options.top, say), say)
    places = order.places(table["object_id"].tolist(), grader, options.blind, options.repeats)
    digest, scheme = candidates.run_digest(directory), SCHEMES[options.scheme]
    with Journal(directory.path / "grades", grader, digest, scheme.name, say) as journal:
        pixels = candidates.Pixels(directory, table)
        hidden = options.blind or options.repeats > 0
        session = Session(directory.path.resolve().name, table, pixels, journal, scheme, places, hidden)
        graded = sum(1 for grade in session.state()["grades"] if grade)

        def ready(port: int, token: str) -> None:
            again = len(places) - len(table)
            shown = "in an order of your own" if options.blind else "in the order of rank"
            more = f"; {again:,} of them come again later, unmarked" if again else ""
            say(f"candidates  {len(table):,} of {directory.candidates_parquet}, {shown}{more}")
            say(f"grader      {grader}, scheme {scheme.name}: {graded:,} of {len(places):,} graded")
            say(f"grades      {journal.path}")
            say(f"page        http://127.0.0.1:{port}/{token}/")
            say(f"from afar   ssh -L {port}:127.0.0.1:{port} {getpass.getuser()}@{socket.gethostname()}")
            say(
                "            then open the same address there. Ctrl-C ends it; every grade is on disk when it is given."
            )

        server.serve(session, options.port, ready)
        done = sum(1 for grade in session.state()["grades"] if grade)
        say(f"ended       {done:,} of {len(places):,} graded, {done - graded:,} more than before, in {journal.path}")
