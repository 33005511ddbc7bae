"""The page's server, on 127.0.0.1 only: tornado, which comes with distributed.

Every address begins with a random token; without it, or with a wrong one, the answer is 403 and nothing else, also to
pictures and grades. A request must name this machine as its host, so that no foreign page reaches the server under a name
of its own (DNS rebinding). The page may load nothing but what this server sends.
"""

import asyncio
import gzip
import hmac
import json
import os
import secrets
import signal
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from tornado.httpserver import HTTPServer
from tornado.web import Application, RequestHandler

from survey_scan.errors import ResourceError, RunError
from survey_scan.grading.session import Refused, Session

#: Names under which a browser on this machine, or at the other end of a tunnel, asks for the page.
HOSTS = ("127.0.0.1", "localhost")

#: The page needs nothing but this server.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)

#: Files of the page, and what they are.
FILES = {
    "": ("index.html", "text/html; charset=utf-8"),
    "page.css": ("page.css", "text/css; charset=utf-8"),
    "page.js": ("page.js", "text/javascript; charset=utf-8"),
}

#: Threads that make pictures.
THREADS = 2

#: Largest body of a request, in bytes.
LARGEST = 64 << 10


class Handler(RequestHandler):
    """Lets in who has the token, and says to browsers what the page may do."""

    def initialize(self, session: Session, token: str, pool: ThreadPoolExecutor) -> None:
        """Take what all requests share."""
        self.session, self.token, self.pool = session, token, pool

    def set_default_headers(self) -> None:
        """Headers of every answer, errors too."""
        self.clear_header("Server")
        for name, value in {
            "Content-Security-Policy": POLICY,
            "Cross-Origin-Opener-Policy": "same-origin",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
            "Cache-Control": "no-store",
        }.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        """Refuse who asks under another name, or without the token."""
        token = self.request.path.split("/")[1]
        host = urlsplit(f"//{self.request.headers.get('Host', '')}").hostname
        if host not in HOSTS or not hmac.compare_digest(token.encode(), self.token.encode()):
            self.refuse(
                403, "This page has a secret in its address: open the address that 'survey_scan grade' printed."
            )

    def refuse(self, code: int, message: str) -> None:
        """End a request with a message."""
        self.set_status(code)
        self.tell({"error": message})
        self.finish()

    def tell(self, value: dict[str, Any]) -> None:
        """Write JSON, packed if it is long and the browser can unpack."""
        data = json.dumps(value).encode()
        self.set_header("Content-Type", "application/json; charset=utf-8")
        if len(data) > 1000 and "gzip" in self.request.headers.get("Accept-Encoding", ""):
            data = gzip.compress(data, 1)
            self.set_header("Content-Encoding", "gzip")
        self.write(data)

    def write_error(self, status_code: int, **facts: Any) -> None:
        """Say what tornado refused."""
        self.tell({"error": f"{status_code}: {self._reason}"})


class File(Handler):
    """The page's own files, and 404 for what there is not."""

    def get(self, path: str) -> None:
        """Answer a browser."""
        if path not in FILES:
            self.refuse(404, f"There is no '{path}' here.")
            return
        name, kind = FILES[path]
        self.set_header("Content-Type", kind)
        self.write(resources.files(__package__).joinpath("page", name).read_bytes())


class State(Handler):
    """All grades, and what the page must know to begin."""

    def get(self) -> None:
        """Answer the page."""
        self.tell(self.session.state())


class Facts(Handler):
    """What is known of one candidate."""

    def get(self, place: str) -> None:
        """Answer the page."""
        try:
            self.tell(self.session.facts(int(place)))
        except Refused as error:
            self.refuse(404, str(error))


class Picture(Handler):
    """One picture, as PNG; not made if the browser has gone on before its turn comes."""

    work: asyncio.Future[bytes] | None = None

    def on_connection_close(self) -> None:
        """Leave the line of pictures to be made."""
        if self.work is not None:
            self.work.cancel()

    async def get(self, place: str, view: str, gain: str) -> None:
        """Answer the page."""
        try:
            self.work = asyncio.get_running_loop().run_in_executor(
                self.pool, self.session.picture, int(place), view, int(gain)
            )
            data = await self.work
        except asyncio.CancelledError:
            return
        except Refused as error:
            self.refuse(404, str(error))
        except RunError as error:
            self.refuse(410, str(error))
        else:
            self.set_header("Content-Type", "image/png")
            self.set_header("Cache-Control", "private, max-age=86400, immutable")
            self.write(data)


class Act(Handler):
    """A grade, a note or an undo: answered when it is on disk."""

    def post(self, what: str) -> None:
        """Answer the page."""
        try:
            asked = json.loads(self.request.body)
            if not isinstance(asked, dict):
                raise ValueError
        except ValueError:
            self.refuse(400, "The request is no JSON object.")
            return
        act: Callable[[], dict[str, Any]] = {
            "grade": lambda: self.session.grade(asked),
            "note": lambda: self.session.note(asked),
            "undo": self.session.undo,
        }[what]
        try:
            self.tell(act())
        except Refused as error:
            self.refuse(400, str(error))
        except OSError as error:
            self.refuse(507, f"Not recorded: {self.session.journal.path} cannot be written ({error.strerror}).")


def application(session: Session, token: str, pool: ThreadPoolExecutor) -> Application:
    """All addresses of the page.

    Parameters
    ----------
    session : Session
        Whose.
    token : str
        First part of every address.
    pool : ThreadPoolExecutor
        Makes pictures.
    """
    shared = {"session": session, "token": token, "pool": pool}
    return Application(
        [
            (r"/[^/]*/state", State, shared),
            (r"/[^/]*/facts/(\d{1,9})", Facts, shared),
            (r"/[^/]*/picture/(\d{1,9})/([\w-]{1,40})/(-?\d{1,2})\.png", Picture, shared),
            (r"/[^/]*/(grade|note|undo)", Act, shared),
            (r"/[^/]*/(.*)", File, shared),
        ],
        default_handler_class=Nowhere,
        default_handler_args=shared,
        log_function=lambda handler: None,
    )


class Nowhere(Handler):
    """Addresses of another form."""

    def get(self) -> None:
        """Only who has the token learns that there is nothing."""
        self.refuse(404, "There is nothing here.")


def listen(port: int) -> socket.socket:
    """A socket on 127.0.0.1.

    Parameters
    ----------
    port : int
        0 for any that is free.

    Raises
    ------
    ResourceError
        If the port is taken.
    """
    try:
        listening = socket.create_server(("127.0.0.1", port))
    except OSError as error:
        reason = os.strerror(error.errno or 0)
        raise ResourceError(
            f"--port {port}: 127.0.0.1:{port} cannot be listened on ({reason}). Give another, or none for a free one."
        ) from None
    listening.setblocking(False)
    return listening


def serve(session: Session, port: int, ready: Callable[[int, str], None]) -> None:
    """Serve the page until Ctrl-C or SIGTERM.

    Parameters
    ----------
    session : Session
        What is graded.
    port : int
        0 for a free one.
    ready : callable
        Told the port and the token as soon as the page can be opened.

    Raises
    ------
    ResourceError
        If the port is taken.
    """
    asyncio.run(_serve(session, listen(port), ready))


async def _serve(session: Session, listening: socket.socket, ready: Callable[[int, str], None]) -> None:
    token = secrets.token_urlsafe(24)
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    with ThreadPoolExecutor(THREADS, "pictures") as pool:
        server = HTTPServer(application(session, token, pool), max_buffer_size=1 << 20, max_body_size=LARGEST)
        server.add_socket(listening)
        ready(listening.getsockname()[1], token)
        await stop.wait()
        server.stop()
        await server.close_all_connections()
