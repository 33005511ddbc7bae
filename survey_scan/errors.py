"""Every error this program raises on purpose.

::

    SurveyScanError                 exit 1   (never raised itself)
    ├── UserError                   exit 2   something the user can mend; the message says how
    │   ├── ConfigError                      the YAML file, with file:line:column
    │   ├── CatalogueError                   catalogue files, columns, ids, positions
    │   ├── SelectionError                   derived columns and cuts
    │   ├── ImageError                       the survey's images as a whole (not one tile)
    │   ├── ModelError                       the network, or the network against the pixels
    │   ├── ResourceError                    memory, disk, cluster
    │   └── RunError                         the run directory: of another config, newer, in use
    ├── Incomplete                  exit 3   stopped or partly failed; run again to resume
    │   └── Interrupted                      from outside: a signal, or the workers are gone; a Slurm job requeues itself
    └── TileError                   never leaves its partition: it becomes the status of the tile's targets

A message says what is wrong, with the value and the place, what was allowed, and what to do. All classes take that
message as their only argument (``TileError`` takes the status before it), so that they pickle across Dask workers.
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


class ImageError(UserError):
    """The survey's images cannot be used at all."""


class ModelError(UserError):
    """The network cannot be used, or not on these cutouts."""


class ResourceError(UserError):
    """Not enough memory or disk, or no cluster."""


class RunError(UserError):
    """The run directory cannot be used by this command."""


class Incomplete(SurveyScanError):
    """The scan stopped before its end; what is finished stays, and the same command resumes."""

    exit_code = 3


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
