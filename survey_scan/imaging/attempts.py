"""Requests to the servers of remote files, through fsspec: what a failure means, and whether to try again.

What fails is one of three things. The file is not there, or may not be read: that says something about the file, and is
told by the OSError that a disk would raise. Anything else is tried again a few times, and then says something about the
server.
"""

import errno
import random
import sys
import time
from collections.abc import Callable
from typing import Any, TypeVar

from survey_scan.errors import ImageError, Unreachable

#: Seconds before another attempt, half as much more or less, so that a thousand workers do not come back at once.
WAITS = (1.0, 3.0, 9.0)
#: Statuses of HTTP that say nothing about the file; so do all from 500 on.
_PASSING = (408, 425, 429)
#: What the disk under the copies may run into.
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE, errno.ENFILE)

Result = TypeVar("Result")


def ask(url: str, request: Callable[[Any], Result]) -> Result:
    """What a request to the file system of a URL gives, after as many attempts as it takes.

    Raises
    ------
    FileNotFoundError, PermissionError
        If that is what the server says; an OSError of the disk under the copies passes, too.
    Unreachable
        If no attempt had an answer.
    """
    system = _system(url)
    why = ""
    for wait in (*WAITS, 0.0):
        try:
            return request(system)
        except _failures() as error:
            failure = error
        # raised out here: what aiohttp raises cannot be pickled, and would travel along as the reason
        why = _verdict(url, failure)
        time.sleep(wait * random.uniform(0.5, 1.5))
    raise Unreachable(
        f"{url} could not be read in {len(WAITS) + 1} attempts ({why}). Run the same command again when it can be reached."
    )


def _system(url: str) -> Any:
    """The file system of a URL; fsspec keeps one for all."""
    import fsspec

    protocol = url.partition("://")[0]
    options: dict[str, Any] = {"use_listings_cache": False}  # a tile may come while a worker lives
    try:
        if protocol in ("http", "https"):
            import aiohttp

            # bytes as they lie there, also of .gz that a server calls an encoding; as long as it takes, while some come
            timeout = aiohttp.ClientTimeout(total=None, sock_connect=30, sock_read=60)
            options["headers"] = {"Accept-Encoding": "identity"}
            options["client_kwargs"] = {"auto_decompress": False, "timeout": timeout}
        return fsspec.filesystem(protocol, **options)
    except (ImportError, OSError) as error:
        why = str(error).partition("\n")[0]
        raise ImageError(
            f"{url}: {protocol}:// cannot be read here ({why}). For https:// and s3://: pip install 'survey-scan[remote]'"
        ) from error
    except ValueError as error:
        raise ImageError(
            f"{url}: {protocol}:// is no file system that is known. Known are https:// and s3://."
        ) from error


def _failures() -> tuple[type[Exception], ...]:
    """What a request may raise: OSError, and what packages behind fsspec raise that is none."""
    found: list[type[Exception]] = [OSError]
    for module, names in (("aiohttp", ["ClientError"]), ("botocore.exceptions", ["BotoCoreError", "ClientError"])):
        if module in sys.modules:
            found.extend(getattr(sys.modules[module], name) for name in names)
    return tuple(found)


def _verdict(url: str, error: Exception) -> str:
    """Why a request failed, if another attempt may not.

    Raises
    ------
    OSError
        If it would.
    """
    said: BaseException = error
    if url.startswith("http") and isinstance(error, FileNotFoundError) and error.__cause__ is not None:
        said = error.__cause__  # fsspec takes any failure for a missing file
    status = getattr(said, "status", None)
    if isinstance(said, FileNotFoundError) or status in (404, 410):
        raise FileNotFoundError(errno.ENOENT, "not found", url)
    refused = isinstance(status, int) and 400 <= status < 500 and status not in _PASSING
    if refused or isinstance(said, PermissionError) or type(said).__name__ == "NoCredentialsError":
        raise PermissionError(errno.EACCES, _line(said), url)
    if isinstance(said, OSError) and said.errno in _DISK:
        raise said
    return _line(said)


def _line(error: BaseException) -> str:
    """An error in a line."""
    status, message = getattr(error, "status", None), getattr(error, "message", None)
    if isinstance(status, int):
        return f"{status} {message}"
    text = str(error.strerror if isinstance(error, OSError) and error.strerror else error)
    return " ".join(text.split()) or type(error).__name__
