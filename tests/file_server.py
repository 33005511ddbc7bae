"""A web server of a folder that knows ranges, counts what it is asked for, and misbehaves where it is told to."""

import re
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape


@dataclass
class FileServer:
    """A context manager.

    ``faults`` holds, by path, what happens to the next requests for its bytes: a status of HTTP, or ``cut``: half of what
    was promised, then the end of the connection.
    """

    folder: Path
    listing: bool = True
    ranges: bool = True
    head: bool = True
    encoding: str = ""
    faults: dict[str, list[int | str]] = field(default_factory=dict)
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    sent: Counter[str] = field(default_factory=Counter)

    def __enter__(self) -> Self:
        outer = self

        class Handler(_Handler):
            server_of = outer

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # a client that hangs up
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def requests(self, path: str) -> list[tuple[str, str]]:
        """Methods and ranges of the requests for a path."""
        return [(method, ranges) for method, asked, ranges in self.asked if asked == path]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_of: FileServer

    def log_message(self, *args: object) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, body: bool) -> None:
        server, parts = self.server_of, urlsplit(self.path)
        path = unquote(parts.path)
        server.asked.append((self.command, path, self.headers.get("Range", "")))
        if not body and not server.head:
            return self._send(405, b"", body)
        fault = server.faults[path].pop(0) if body and server.faults.get(path) else None
        if isinstance(fault, int):
            return self._send(fault, b"no", body)
        query = parse_qs(parts.query)
        if "list-type" in query:
            return self._send(200, self._s3_list(path, query), body, kind="application/xml")
        file = server.folder / path.lstrip("/")
        if file.is_dir():
            if not server.listing:
                return self._send(403, b"Forbidden", body)
            links = "".join(
                f'<a href="{escape(p.name)}{"/" * p.is_dir()}">{escape(p.name)}</a>\n' for p in sorted(file.iterdir())
            )
            return self._send(200, f"<html>{links}</html>".encode(), body, kind="text/html")
        if not file.is_file():
            return self._send(404, b"Not Found", body)
        data, status, more = file.read_bytes(), 200, {"ETag": f'"{file.stat().st_mtime_ns}"'}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if wanted and server.ranges:
            first, last = int(wanted[1]), min(int(wanted[2] or len(data)), len(data) - 1)
            more["Content-Range"] = f"bytes {first}-{last}/{len(data)}"
            data, status = data[first : last + 1], 206
        if server.ranges:
            more["Accept-Ranges"] = "bytes"
        if server.encoding:
            more["Content-Encoding"] = server.encoding
        self._send(status, data, body, more=more, cut=fault == "cut")

    def _send(
        self,
        status: int,
        data: bytes,
        body: bool,
        kind: str = "application/octet-stream",
        more: dict[str, str] | None = None,
        cut: bool = False,
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (more or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if body:
            data = data[: len(data) // 2] if cut else data
            self.server_of.sent[urlsplit(self.path).path] += len(data)
            self.wfile.write(data)
        if cut:
            self.close_connection = True

    def _s3_list(self, path: str, query: dict[str, list[str]]) -> bytes:
        """ListObjectsV2 of a bucket, which is a folder."""
        bucket = self.server_of.folder / path.strip("/")
        prefix, delimiter = query.get("prefix", [""])[0], query.get("delimiter", [""])[0]
        keys = sorted(str(p.relative_to(bucket)) for p in bucket.rglob("*") if p.is_file())
        found, folders = [], set()
        for key in keys:
            if not key.startswith(prefix):
                continue
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                folders.add(prefix + rest.partition(delimiter)[0] + delimiter)
            else:
                found.append((key, (bucket / key).stat().st_size))
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{size}</Size><ETag>&quot;{size}&quot;</ETag>"
            "<LastModified>2024-01-01T00:00:00.000Z</LastModified><StorageClass>STANDARD</StorageClass></Contents>"
            for key, size in found
        )
        common = "".join(f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in sorted(folders))
        return (
            '<?xml version="1.0" encoding="UTF-8"?><ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>{bucket.name}</Name><Prefix>{escape(prefix)}</Prefix><KeyCount>{len(found) + len(folders)}</KeyCount>"
            f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated>{contents}{common}</ListBucketResult>"
        ).encode()
