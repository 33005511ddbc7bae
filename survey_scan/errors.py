"""Every error this program raises on purpose.

::

    SurveyScanError                 exit 1   (never raised itself)
    ├── UserError                   exit 2   something the user can mend; the message says how
    │   ├── ConfigError                      the YAML file, with file:line:column
    │   ├── CatalogueError                   catalogue files, columns, ids, positions
    │   ├── SelectionError                   derived columns and cuts
    │   │   └── SelectionProblems            all of them, with their places in the configuration
    │   ├── ImageError                       the survey's images as a whole (not one tile)
    │   ├── ServiceError                     a cutout service is down, or refuses us; a scan it stops is Incomplete
    │   ├── ModelError                       the network, or the network against the pixels
    │   ├── ResourceError                    memory, disk, cluster
    │   └── RunError                         the run directory: of another config, newer, in use
    ├── Incomplete                  exit 3   stopped or partly failed; run again to resume
    │   ├── Unreachable                      a server fails, however often it is asked
    │   └── Interrupted                      from outside: a signal, or the workers are gone; a Slurm job requeues itself
    └── TileError                   never leaves its partition: it becomes the status of the tile's targets

A message says what is wrong, with the value and the place, what was allowed, and what to do. All classes take that
message as their only argument (``TileError`` takes the status before it, ``SelectionProblems`` a list), so that they pickle
across Dask workers.
"""

from survey_scan.schema import Status


class SurveyScanError(Exception):
    """Base of all errors of this program."""

    exit_code = 1


class UserError(SurveyScanError):
    """Something the user can mend."""

    exit_code = 2


class ConfigError(UserError):
    """The configuration is wrong; the message holds every problem, one a line."""


class CatalogueError(UserError):
    """A catalogue file cannot be used."""


class SelectionError(UserError):
    """A derived column or a cut cannot be used."""


class SelectionProblems(SelectionError):
    """Everything wrong with a selection: each the place in the configuration, and what is wrong there."""

    def __init__(self, problems: list[tuple[tuple[str, ...], str]]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        """All problems, one a line."""
        return "\n".join(text for _, text in self.problems)


class ImageError(UserError):
    """The survey's images cannot be used at all."""


class ServiceError(UserError):
    """A cutout service is out of reach, down, or refuses us; what it served already is kept."""


class ModelError(UserError):
    """The network cannot be used, or not on these cutouts."""


class ResourceError(UserError):
    """Not enough memory or disk, or no cluster."""


class RunError(UserError):
    """The run directory cannot be used by this command."""


class Incomplete(SurveyScanError):
    """The scan stopped before its end; what is finished stays, and the same command resumes."""

    exit_code = 3


class Unreachable(Incomplete):
    """A server did not answer, or not with what was asked for, however often; later it may."""


class Interrupted(Incomplete):
    """Something outside stopped the scan; nothing but another start is needed."""


class TileError(SurveyScanError):
    """One tile of one band cannot be used.

    Parameters
    ----------
    status : Status
        What the targets of this tile are given.
    message : str
        The reason, with the file's path.
    """

    def __init__(self, status: Status, message: str):
        super().__init__(status, message)
        self.status = status
        self.message = message

    def __str__(self) -> str:
        return self.message
