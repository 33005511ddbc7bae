"""How fast the page for grading is with 20,000 candidates: first mosaic, next picture, pictures by view, memory.

    python benchmarks/grading.py [--candidates N] [--size PX] [--dtype float32|float16|int16] [--folder FOLDER] [--keep]

Makes a run of N candidates among 2 N targets in partitions of 4096 (random galaxies and arcs in three bands; at 101 px
about 5 GB as float32), starts ``survey_scan grade`` on it, and uses the page in Chromium: seconds from the first request
until all tiles in sight are drawn, with the files' pages in memory dropped before where the system lets us; the same for a
jump to the middle and to the end; milliseconds from a grade's key until the next picture is drawn, for 100 candidates, without
pause and with half a second each. Then every view of other candidates straight from the server. Resident memory of the
server is read before, after each part and after 3,000 pictures. Prints JSON.
"""

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import psutil

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import browser  # noqa: E402
import small_grading  # noqa: E402

#: How many tiles are in sight, once all of them are drawn.
DRAWN = """(() => {
  const box = document.getElementById('scroll').getBoundingClientRect();
  const seen = [...document.querySelectorAll('.tile img')].filter(i => {
    const r = i.getBoundingClientRect();
    return r.bottom > box.top && r.top < box.bottom;
  });
  const drawn = seen.length > 20 && seen.every(i => i.src && i.complete && i.naturalWidth > 0);
  return document.documentElement.dataset.ready && drawn ? seen.length : 0;
})()"""

#: Milliseconds between frames while one scrolls fast.
FRAMES = """new Promise(done => {
  const box = document.getElementById('scroll'), all = [];
  let last = performance.now();
  box.scrollTop = 0;
  const go = now => {
    all.push(now - last);
    last = now;
    box.scrollTop += 60;
    all.length < 240 ? requestAnimationFrame(go) : done(all);
  };
  requestAnimationFrame(go);
})"""

#: A key, and milliseconds until the next candidate's picture is decoded; measured in the page itself.
NEXT = """(async () => { const image = document.getElementById('large'), before = image.src, began = performance.now();
  document.dispatchEvent(new KeyboardEvent('keydown', {key: '1', bubbles: true}));
  while (image.src === before) await new Promise(r => setTimeout(r, 1));
  await image.decode(); return performance.now() - began; })()"""


def spread(values: list[float]) -> dict[str, float]:
    """Median, 95th percentile and the longest."""
    ordered = sorted(values)
    return {
        "median": round(statistics.median(ordered), 1),
        "p95": round(ordered[int(0.95 * (len(ordered) - 1))], 1),
        "max": round(ordered[-1], 1),
        "n": len(ordered),
    }


def drop_caches(folder: Path) -> None:
    """Let the system forget the store's pages; it may decline."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())
                os.posix_fadvise(stream.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


async def use(url: str, candidates: int, memory: Any) -> dict[str, Any]:
    """Use the page, and measure."""
    found: dict[str, Any] = {}
    async with browser.page() as page:
        began = time.perf_counter()
        await page.tab.call("Page.navigate", url=url)
        await page.until(f"document.documentElement && {DRAWN}", 60)
        found["first_mosaic_s"] = round(time.perf_counter() - began, 2)
        found["tiles_in_sight"] = await page.value(DRAWN)
        found["tiles_in_page"] = await page.value("document.querySelectorAll('.tile').length")
        for name, share in (("middle", 0.5), ("end", 1.0)):
            began = time.perf_counter()
            await page.value(f"(b => {{ b.scrollTop = b.scrollHeight * {share}; }})(document.getElementById('scroll'))")
            await asyncio.sleep(0.05)
            await page.until(DRAWN, 60)
            found[f"{name}_of_mosaic_s"] = round(time.perf_counter() - began, 2)
        found["scroll_frame_ms"] = spread((await page.value(FRAMES))[5:])
        found["rss_after_mosaic_mb"] = memory()
        await page.value("document.getElementById('scroll').scrollTop = 0")
        await page.key("g")
        await page.value("location.hash = ''")
        await page.key("f")
        await page.until("document.getElementById('large').naturalWidth > 0")
        for name, pause in (("next_ms", 0.5), ("next_without_pause_ms", 0.0)):
            times = []
            for _ in range(100 if pause == 0 else 60):
                await asyncio.sleep(pause)
                times.append(await page.value(NEXT))
            found[name] = spread(times)
        found["errors"], found["strangers"] = page.seen.errors, page.seen.strangers(url)
    return found


def straight(url: str, candidates: int) -> dict[str, Any]:
    """Milliseconds of pictures nobody asked for before, by view."""
    with urlopen(f"{url}state") as told:
        views = [view["name"] for view in json.load(told)["views"]]
    rng = np.random.default_rng(1)
    found: dict[str, Any] = {}
    for view in views:
        times = []
        for place in rng.integers(1, candidates, 60):
            began = time.perf_counter()
            with urlopen(f"{url}picture/{place}/{view}/3.png") as told:
                told.read()
            times.append(1e3 * (time.perf_counter() - began))
        found[view] = spread(times)
    return found


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=20_000)
    parser.add_argument("--size", type=int, default=101)
    parser.add_argument("--dtype", default="float32", choices=["float32", "float16", "int16"])
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--keep", action="store_true")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="grading-"))
    path = folder / f"run-{options.candidates}-{options.size}-{options.dtype}"
    if not path.exists():
        small_grading.PARTITION = 4096
        path.mkdir(parents=True)
        small_grading.make(path, 2 * options.candidates, options.candidates, options.size, options.dtype, "grz")
    run = small_grading.RunDirectory(path)
    shutil.rmtree(path / "grades", ignore_errors=True)
    size = sum(file.stat().st_size for file in run.store.rglob("*") if file.is_file())
    drop_caches(path)
    began = time.perf_counter()
    server = small_grading.Server(run, "--grader", "bench")
    process = psutil.Process(server.process.pid)
    started = round(time.perf_counter() - began, 2)

    def memory() -> int:
        return round(process.memory_info().rss / 2**20)

    try:
        found = {
            "candidates": options.candidates, "size": options.size, "dtype": options.dtype, "store_mb": round(size / 2**20),
            "cpus": os.cpu_count(), "start_s": started, "rss_at_start_mb": memory(),
        }  # fmt: skip
        found |= asyncio.run(use(server.url, options.candidates, memory))
        found["rss_after_page_mb"] = memory()
        found["picture_ms"] = straight(server.url, options.candidates)
        for place in np.random.default_rng(2).integers(1, options.candidates, 3000):
            with urlopen(f"{server.url}picture/{place}/deep/0.png") as told:
                told.read()
        found["rss_after_3000_pictures_mb"] = memory()
    finally:
        server.stop()
        if not options.keep and options.folder is None:
            shutil.rmtree(folder)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    try:
        main()
    except subprocess.SubprocessError as error:
        sys.exit(str(error))
