"""A page in Chromium: a picture of it, its text, and what it complained of; with nothing but tornado."""

import asyncio
import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

#: Names Chromium goes by.
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)

#: Seconds a page has to become ready.
READY_SECONDS = 20

TEXT = "document.body.innerText"

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


@dataclass
class Seen:
    """What a page showed and did."""

    text: str = ""
    #: Width of its content in CSS pixels; more than the window's if one has to scroll sideways.
    width: int = 0
    #: Messages of level error, exceptions.
    errors: list[str] = field(default_factory=list)
    #: Addresses it asked for.
    requests: list[str] = field(default_factory=list)

    def strangers(self, url: str) -> list[str]:
        """Requests to another host than the page's."""
        known = urlsplit(url).netloc
        return [r for r in self.requests if urlsplit(r).scheme not in ("data", "blob") and urlsplit(r).netloc != known]


def shoot(
    url: str, path: Path, ready_expression: str, width: int, height: int, dark: bool = False, timeout: float = 60
) -> Seen:
    """Open a page, wait until a JavaScript expression is true, and write a picture of all of it.

    Parameters
    ----------
    url : str
        The page.
    path : Path
        The picture, PNG.
    ready_expression : str
        JavaScript.
    width, height : int
        Of the window, in CSS pixels; the picture is as high as the page if that is more.
    dark : bool
        Whether the reader prefers dark pages.
    timeout : float
        Seconds to wait, for everything.

    Raises
    ------
    TimeoutError
        If Chromium does not start or the expression does not become true.
    """
    return asyncio.run(asyncio.wait_for(_shoot(url, path, ready_expression, width, height, dark), timeout))


async def _shoot(url: str, path: Path, ready: str, width: int, height: int, dark: bool) -> Seen:
    async with tab() as opened:
        return await _look(opened, url, path, ready, width, height, dark)


@contextlib.asynccontextmanager
async def tab() -> AsyncIterator["Tab"]:
    """A tab of a Chromium of its own."""
    from tornado.httpclient import AsyncHTTPClient
    from tornado.websocket import websocket_connect

    assert CHROMIUM is not None, "no Chromium"
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        command = [CHROMIUM, *OPTIONS, f"--user-data-dir={home}", "about:blank"]
        browser = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = Path(home, "DevToolsActivePort")
            while not (found.exists() and found.read_text().count("\n")):
                await asyncio.sleep(0.1)
            reply = await AsyncHTTPClient().fetch(f"http://127.0.0.1:{found.read_text().split()[0]}/json/list")
            one = next(t for t in json.loads(reply.body) if t["type"] == "page")
            socket = await websocket_connect(one["webSocketDebuggerUrl"], max_message_size=1 << 27)
            try:
                yield Tab(socket)
            finally:
                socket.close()
                while await socket.read_message() is not None:
                    pass
        finally:
            browser.terminate()
            try:
                browser.wait(5)
            except subprocess.TimeoutExpired:
                browser.kill()
                browser.wait()


class Tab:
    """Calls the browser's debugger, and notes what it tells unasked."""

    def __init__(self, socket: Any):
        self.socket = socket
        self.seen = Seen()
        self._calls = 0

    async def call(self, method: str, **parameters: Any) -> Any:
        self._calls += 1
        await self.socket.write_message(json.dumps({"id": self._calls, "method": method, "params": parameters}))
        while True:
            message = json.loads(await self.socket.read_message())
            if message.get("id") == self._calls:
                if "error" in message:
                    raise RuntimeError(message["error"])
                return message["result"]
            self._note(message.get("method"), message.get("params", {}))

    def _note(self, method: str | None, what: dict[str, Any]) -> None:
        if method == "Network.requestWillBeSent":
            self.seen.requests.append(what["request"]["url"])
        elif method == "Runtime.exceptionThrown":
            self.seen.errors.append(json.dumps(what["exceptionDetails"]))
        elif method == "Log.entryAdded" and what["entry"]["level"] == "error":
            self.seen.errors.append(what["entry"]["text"])
        elif method == "Runtime.consoleAPICalled" and what["type"] == "error":
            self.seen.errors.append(json.dumps(what["args"]))


async def _look(tab: Tab, url: str, path: Path, ready: str, width: int, height: int, dark: bool) -> Seen:
    for domain in ("Page", "Runtime", "Log", "Network"):
        await tab.call(f"{domain}.enable")
    size = {"width": width, "deviceScaleFactor": 1, "mobile": width < 600}
    await tab.call("Emulation.setDeviceMetricsOverride", height=height, **size)
    scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
    await tab.call("Emulation.setEmulatedMedia", features=[scheme])
    await tab.call("Page.navigate", url=url)

    async def value(expression: str) -> Any:
        return (await tab.call("Runtime.evaluate", expression=expression))["result"].get("value")

    until = time.monotonic() + READY_SECONDS
    while not await value(ready):
        if time.monotonic() > until:
            raise TimeoutError(f"{url} does not become ready. Errors: {tab.seen.errors}. It shows: {await value(TEXT)}")
        await asyncio.sleep(0.1)
    tall = max(height, int(await value("document.documentElement.scrollHeight")))
    await tab.call("Emulation.setDeviceMetricsOverride", height=tall, **size)
    await asyncio.sleep(0.3)
    tab.seen.text = await value(TEXT)
    tab.seen.width = int(await value("document.documentElement.scrollWidth"))
    picture = (await tab.call("Page.captureScreenshot", format="png"))["data"]
    path.write_bytes(base64.b64decode(picture))
    return tab.seen
