"""A cutout service on this machine that cuts out of one image of the sky, and misbehaves as it is told."""

import base64
import io
import threading
import time
from collections import Counter
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qs, urlsplit

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

TEMPLATE = "/cutout?ra={ra}&dec={dec}&size={size}&pixscale={pixel_scale}&bands={bands}"


class Service:
    """A context manager.

    Parameters
    ----------
    sky : dict
        Band → image.
    cards : fits.Header
        Its WCS.
    """

    def __init__(self, sky: dict[str, np.ndarray], cards: fits.Header):
        self.sky, self.cards, self.wcs = sky, cards, WCS(cards)
        #: What happens to the next requests of a position, by its place in ``order``; then all is well.
        self.misdeeds: dict[tuple[float, float], list[str]] = {}
        #: What happens to every request.
        self.always = ""
        self.login: str | None = None
        self.asked: list[tuple[float, str]] = []
        self.agents: set[str] = set()
        self.served: Counter[str] = Counter()
        self._lock = threading.Lock()
        service = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                service.answer(self)

            def log_message(self, *_: Any) -> None: ...

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 64

            def handle_error(self, *_: Any) -> None: ...  # whoever was killed no longer listens

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.server.shutdown()
        self.server.server_close()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        query = {name: values[0] for name, values in parse_qs(urlsplit(request.path).query).items()}
        position = round(float(query["ra"]), 6), round(float(query["dec"]), 6)
        with self._lock:
            self.asked.append((time.monotonic(), request.path))
            self.agents.add(request.headers.get("User-Agent", ""))
            left = self.misdeeds.get(position, [])
            misdeed = self.always or (left.pop(0) if left else "")
        given = request.headers.get("Authorization", "").removeprefix("Basic ")
        if self.login is not None and base64.b64decode(given).decode() != self.login:
            misdeed = "401"
        kind, _, detail = misdeed.partition(" ")
        if kind == "slow":
            time.sleep(float(detail))
        if kind == "drop":
            request.close_connection = True
            request.connection.close()
            return
        if kind.isdigit():
            self.send(request, int(kind), b"<html>%s</html>" % kind.encode(), detail)
            return
        if kind == "html":
            self.send(request, 200, b"<!DOCTYPE html>\n<html><title>Please log in</title></html>")
            return
        body = self.cube(query, kind, detail)
        if not body:
            self.send(request, 404, b"<html>no image there</html>")
            return
        if kind == "cut":  # by HTTP's own account
            self.send(request, 200, body, length=len(body) + 5000)
            request.close_connection = True
            return
        if kind == "short":  # as a server sends it that broke down while it made the file
            body = body[: len(body) // 2]
        with self._lock:
            self.served[request.path] += 1
        self.send(request, 200, body)

    @staticmethod
    def send(
        request: BaseHTTPRequestHandler, code: int, body: bytes, retry_after: str = "", length: int | None = None
    ) -> None:
        request.send_response(code)
        request.send_header("Content-Length", str(len(body) if length is None else length))
        if retry_after:
            when = (
                formatdate(time.time() + float(retry_after[1:]), usegmt=True) if retry_after[0] == "@" else retry_after
            )
            request.send_header("Location" if retry_after.startswith("/") else "Retry-After", when)
        request.end_headers()
        request.wfile.write(body)

    def cube(self, query: dict[str, str], kind: str, detail: str) -> bytes:
        """As the viewer of the Legacy Surveys sends it, but with the pixels of the sky as they are; nothing outside it."""
        bands, size = list(query["bands"]), int(query["size"])
        if kind == "order":
            bands = bands[::-1]
        if kind == "without":
            bands.remove(detail)
        size += {"more": 1, "less": -1}.get(kind, 0)
        x, y = self.wcs.all_world2pix(float(query["ra"]), float(query["dec"]), 0)
        x0, y0 = int(np.round(x - size / 2)), int(np.round(y - size / 2))
        some = next(iter(self.sky.values()))
        if not (-size < x0 < some.shape[1] and -size < y0 < some.shape[0]):
            return b""
        low_x, low_y = np.clip(x0, 0, some.shape[1] - 1), np.clip(y0, 0, some.shape[0] - 1)
        high_x, high_y = np.clip(x0 + size, 1, some.shape[1]), np.clip(y0 + size, 1, some.shape[0])
        planes = np.stack([self.sky[band][low_y:high_y, low_x:high_x] for band in bands])
        cards = self.cards.copy()
        cards["CRPIX1"] -= low_x
        cards["CRPIX2"] -= low_y
        if kind == "scale":
            for card in ("CDELT1", "CDELT2"):
                cards[card] = cards.get(card, 1.0) * 2
        if kind == "zeros":
            planes = np.zeros_like(planes)
        if kind != "nameless":
            cards["BANDS"] = "".join(bands)
            for i, band in enumerate(bands):
                cards[f"BAND{i}"] = band
        hdu = fits.PrimaryHDU(planes if len(planes) > 1 else planes[0], cards)
        stream = io.BytesIO()
        hdu.writeto(stream)
        return stream.getvalue()
