"""A page in Chromium that one can use: keys, questions in JavaScript, pictures; built on screenshot.py."""

import asyncio
import base64
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import screenshot

#: Windows' numbers of keys that browsers themselves do something with.
CODES = {"Escape": 27, "Enter": 13, "Tab": 9, "PageDown": 34, "End": 35}


class Page:
    """One tab."""

    def __init__(self, tab: screenshot.Tab):
        self.tab = tab

    @property
    def seen(self) -> screenshot.Seen:
        return self.tab.seen

    async def open(self, url: str, ready: str) -> None:
        await self.tab.call("Page.navigate", url=url)
        await self.until(ready)

    async def window(self, width: int, height: int, dark: bool = False) -> None:
        mobile = width < 600
        await self.tab.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=mobile
        )
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        await self.tab.call("Emulation.setEmulatedMedia", features=[scheme])

    async def value(self, expression: str) -> Any:
        told = await self.tab.call("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in told, told
        return told["result"].get("value")

    async def until(self, expression: str, seconds: float = 20) -> None:
        end = time.monotonic() + seconds
        while not await self.value(expression):
            if time.monotonic() > end:
                text = await self.value(screenshot.TEXT)
                raise TimeoutError(f"{expression} does not become true. {self.seen.errors} The page shows: {text}")
            await asyncio.sleep(0.01)

    async def key(self, key: str) -> None:
        """Press and release a key, as a keyboard does."""
        facts = {"key": key, "code": key if len(key) > 1 else "", "windowsVirtualKeyCode": CODES.get(key, 0)}
        text = {"text": key} if len(key) == 1 else {"text": "\r"} if key == "Enter" else {}
        await self.tab.call("Input.dispatchKeyEvent", type="keyDown", **facts, **text)
        await self.tab.call("Input.dispatchKeyEvent", type="keyUp", **facts)

    async def picture(self, path: Path) -> None:
        data = (await self.tab.call("Page.captureScreenshot", format="png"))["data"]
        path.write_bytes(base64.b64decode(data))


@contextlib.asynccontextmanager
async def page(width: int = 1280, height: int = 800, dark: bool = False) -> AsyncIterator[Page]:
    """A tab of a Chromium of its own, ready for use."""
    async with screenshot.tab() as tab:
        used = Page(tab)
        for domain in ("Page", "Runtime", "Log", "Network"):
            await used.tab.call(f"{domain}.enable")
        await used.window(width, height, dark)
        yield used
