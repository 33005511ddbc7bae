"""Asking a cutout service for files: not too often, again where that may help, and never twice for the same.

What an answer means:

* a whole FITS file is kept; 404, 410 and 204 are too, as the answer that there is no image;
* 429, 502, 503, 504, time-outs and broken connections say something of the service: all requests rest a while, and if that
  goes on to the last try, :class:`~survey_scan.errors.ServiceError`;
* 401, 403 and 407 refuse us: ServiceError at once;
* anything else (500, HTML, a truncated file) may be the service's fault or this position's (the viewer of the Legacy
  Surveys answers 500 where it has no image): an answer of its own kind, which the caller judges by the others.
"""

import email.utils
import os
import random
import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass
from http.client import responses
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Self

from survey_scan import __version__, config
from survey_scan.errors import ServiceError
from survey_scan.identity import digest
from survey_scan.imaging import service_file

if TYPE_CHECKING:
    import requests

#: Seconds of rest after the first failure; doubled with each, times something between a half and one and a half.
BACKOFF = 1.0

#: Longest rest a service may ask for (Retry-After, seconds) before its wish counts as a refusal for now.
LONGEST_REST = 600.0

_NOTHING = (204, 404, 410)
_REFUSED = (401, 403, 407)
_ILL = (408, 425, 429, 502, 503, 504)


@dataclass(frozen=True)
class Answer:
    """What came of one URL.

    Attributes
    ----------
    kind : str
        ``file``, ``nothing`` (the service has no image there) or ``bad`` (no try brought anything usable).
    text : str
        Of a file, empty; else what the service said.
    path : Path
        The file.
    new : bool
        Whether the service was asked for it now, rather than at an earlier start.
    """

    kind: Literal["file", "nothing", "bad"]
    text: str
    path: Path
    new: bool


class _Trouble(Exception):
    """One try that brought nothing."""

    def __init__(self, text: str, ill: bool, rest: float = 0.0, again: bool = True):
        super().__init__(text)
        self.text, self.ill, self.rest, self.again = text, ill, rest, again  # ill: the service, not just this position


class Client:
    """Asks one service, from several threads; a context manager.

    Parameters
    ----------
    service : config.Service
        Its rate, tries, timeout, credentials.
    folder : Path
        Where files are kept, by the digest of their URL.
    most_bytes : int
        Larger files are not cutouts.

    Raises
    ------
    ServiceError
        If an environment variable with credentials is not set.
    """

    def __init__(self, service: config.Service, folder: Path, most_bytes: int):
        import requests

        self._service, self._folder, self._most_bytes = service, folder, most_bytes
        self._login = (found := login(service)) and requests.auth.HTTPBasicAuth(*found)
        self._turn = threading.Lock()
        self._next = time.monotonic() + 1 / service.rate  # whoever asked before may have done so a moment ago
        self._failed: ServiceError | None = None
        self._own = threading.local()
        self._open = ExitStack()
        folder.mkdir(parents=True, exist_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._open.close()

    def fetch(self, url: str, keep: bool = True) -> Answer:
        """The file of a URL: as kept by an earlier call, else from the service.

        Parameters
        ----------
        url : str
            What to ask for.
        keep : bool
            Whether to use what is kept, and to keep what comes.

        Raises
        ------
        ServiceError
            If the service is out of reach, ill or refuses us; then also in all other threads.
        OSError
            If the file cannot be written.
        """
        path = self._folder / f"{digest(url)}.fits"
        if keep and (kept := _kept(path)):
            return kept
        trouble = _Trouble("", ill=False)
        for attempt in range(self._service.tries):
            self._wait()
            try:
                data = self._ask(url)
            except _Trouble as error:
                trouble = error
                if not error.again or attempt + 1 == self._service.tries:
                    break
                self._rest(max(error.rest, BACKOFF * 2**attempt * random.uniform(0.5, 1.5)))
            except ServiceError as error:
                self._failed = error
                raise
            else:
                if data is None:
                    text = f"{self._service.host} has no image there"
                    if keep:
                        _write(path.with_suffix(".none"), text.encode())
                    return Answer("nothing", text, path, True)
                if keep:
                    _write(path, data)
                return Answer("file", "", path, True)
        tries = f" ({self._service.tries} tries)" if trouble.again else ""
        if trouble.ill:
            self._failed = ServiceError(f"{self._service.host} {trouble.text}{tries}.")
            raise self._failed
        return Answer("bad", f"{self._service.host} {trouble.text}{tries}", path, True)

    def _ask(self, url: str) -> bytes | None:
        """One request: a whole FITS file, or None if there is no image."""
        import requests

        deadline = time.monotonic() + self._service.timeout
        try:
            with self._session().get(url, stream=True, timeout=self._service.timeout, auth=self._login) as response:
                self._judge(response)
                if response.status_code in _NOTHING:
                    return None
                data = bytearray()
                for piece in response.iter_content(1 << 16):
                    data += piece
                    if time.monotonic() > deadline:
                        raise _Trouble(f"sent no whole file within {self._service.timeout:g} s", ill=True)
                    if len(data) > self._most_bytes:
                        raise _Trouble(
                            f"sent more than {self._most_bytes:,} bytes for a cutout", ill=False, again=False
                        )
        except requests.Timeout:
            raise _Trouble(f"did not answer within {self._service.timeout:g} s", ill=True) from None
        except (requests.TooManyRedirects, requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema) as error:
            raise _Trouble(f"sends us elsewhere ({error})", ill=False, again=False) from None
        except requests.exceptions.SSLError as error:
            raise ServiceError(f"{self._service.host} cannot prove who it is ({_cause(error)}).") from None
        except (requests.exceptions.ChunkedEncodingError, requests.exceptions.ContentDecodingError) as error:
            raise _Trouble(f"breaks off in the middle of a file ({_cause(error)})", ill=False) from None
        except requests.RequestException as error:
            text = f"cannot be reached ({_cause(error)}; have the workers access to the internet?)"
            raise _Trouble(text, ill=True) from None
        try:
            return service_file.whole(bytes(data))
        except ValueError as error:
            raise _Trouble(f"sends {error}", ill=False) from None

    def _judge(self, response: "requests.Response") -> None:
        """Raise for what is neither a file nor the answer that there is none."""
        code = response.status_code
        if code == 200 or code in _NOTHING:
            return
        said = f"{code} {responses.get(code, '')}".rstrip()
        if code in _REFUSED:
            how = (
                f"It was given what stands in the environment variables {self._service.user} and {self._service.password}"
                if self._login
                else "If it wants a login, name the environment variables that hold user and password in "
                "images.service.user and images.service.password, or use ~/.netrc"
            )
            raise ServiceError(f"{self._service.host} refuses us: {said}. {how}.")
        rest = _retry_after(response.headers.get("Retry-After"))
        if rest > LONGEST_REST:
            raise ServiceError(f"{self._service.host} answers {said} and asks to be left alone for {rest:,.0f} s.")
        raise _Trouble(f"answers {said}", ill=code in _ILL, rest=rest, again=code >= 500 or code in _ILL)

    def _wait(self) -> None:
        """Wait for this request's turn: 1 / rate seconds after the last one's, and after any rest."""
        with self._turn:
            while (left := self._next - time.monotonic()) > 0 and self._failed is None:
                time.sleep(min(left, 0.5))
            if self._failed is not None:
                raise self._failed
            self._next = time.monotonic() + 1 / self._service.rate

    def _rest(self, seconds: float) -> None:
        """No thread asks for so long."""
        self._next = max(self._next, time.monotonic() + seconds)

    def _session(self) -> "requests.Session":
        """One for each thread: it keeps a connection, knows proxies and ~/.netrc, and says who we are."""
        import requests

        session: requests.Session | None = getattr(self._own, "session", None)
        if session is None:
            session = self._own.session = self._open.enter_context(requests.Session())
            session.max_redirects = 5
            session.headers["User-Agent"] = f"survey_scan/{__version__} {requests.utils.default_user_agent()}"
            session.headers["Accept"] = "application/fits, image/fits, */*"
        return session


def login(service: config.Service) -> tuple[bytes, bytes] | None:
    """User and password, from the environment variables that the configuration names; None if it names none.

    Raises
    ------
    ServiceError
        If one is not set.
    """
    if service.user is None or service.password is None:
        return None
    for key, name in (("user", service.user), ("password", service.password)):
        if not os.environ.get(name):
            raise ServiceError(
                f"images.service.{key}: the environment variable {name} is not set. Set it where the scan is started, so "
                "that its workers have it, too."
            )
    return os.environb[service.user.encode()], os.environb[service.password.encode()]


def _kept(path: Path) -> Answer | None:
    """What an earlier start kept."""
    none = path.with_suffix(".none")
    if none.exists():
        return Answer("nothing", none.read_text(), path, False)
    try:
        service_file.whole(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:  # the machine broke down before it was all on disk
        path.unlink()
        return None
    return Answer("file", "", path, False)


def _write(path: Path, data: bytes) -> None:
    """Write a file that is either there whole or not at all after a kill."""
    partial = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}.partial")
    try:
        partial.write_bytes(data)
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def _retry_after(value: str | None) -> float:
    """Seconds that a Retry-After header asks for, as a number or a date; 0 without one."""
    if not value:
        return 0.0
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return 0.0


def _cause(error: BaseException) -> str:
    """The innermost reason of what requests raised, without the URL it repeats."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
