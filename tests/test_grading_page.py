"""The page in Chromium: thirty candidates by keyboard, two undone, the server killed in the middle, every grade found."""

import asyncio
from pathlib import Path

import browser
import pytest
import screenshot
import small_grading

from survey_scan.grading import journal

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(screenshot.CHROMIUM is None, reason="no Chromium on this machine"),
]

READY = "document.documentElement?.dataset.ready"


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return small_grading.make(tmp_path_factory.mktemp("runs") / "small")


async def give(page: browser.Page, value: str) -> None:
    """Press a grade, and wait until the next candidate is there."""
    place = await page.value("document.getElementById('place').textContent")
    await page.key(value)
    await page.until(f"document.getElementById('place').textContent !== {place!r} && !document.body.ariaBusy")


def test_thirty_candidates_by_keyboard(finished):
    path = finished.path / "grades" / "anna.csv"
    given = [str(i * 7 % 4) for i in range(30)]

    async def first(url: str, server: small_grading.Server) -> None:
        async with browser.page() as page:
            await page.open(url, READY)
            await page.key("Enter")
            await page.until("document.getElementById('place').textContent === '1 of 60'")
            for value in given[:15]:
                await give(page, value)
            for back in ("15", "14"):
                await page.key("u")
                await page.until(
                    f"document.getElementById('place').textContent === '{back} of 60' && !document.body.ariaBusy"
                )
            await page.key("n")
            await page.value("document.getElementById('note').value = 'arc, or a spiral?'")
            await page.key("Escape")
            await give(page, given[13])
            assert page.seen.errors == [] and page.seen.strangers(url) == []
            assert len(page.seen.requests) > 50
            server.kill()
            await page.key("3")
            await page.until("!document.getElementById('trouble').hidden && !document.body.ariaBusy")
            said = await page.value("document.getElementById('trouble').textContent")
            assert said == (
                "The server does not answer: it was stopped, or the tunnel is down. Every grade it confirmed is on disk, in "
                f"{path}. Start 'survey_scan grade' again and open the address it prints."
            )
            assert (
                await page.value("document.getElementById('place').textContent") == "15 of 60"
            )  # not on without an answer
            assert page.seen.strangers(url) == []

    async def second(url: str) -> None:
        async with browser.page() as page:
            await page.open(url, READY)
            assert "14 of 60 graded" in await page.value(screenshot.TEXT)
            await page.key("f")
            await page.until("document.getElementById('place').textContent === '15 of 60'")
            for value in given[14:]:
                await give(page, value)
            await page.until("document.getElementById('progress').textContent.startsWith('30 of 60 graded')")
            assert page.seen.errors == [] and page.seen.strangers(url) == []

    server = small_grading.Server(finished, "--grader", "anna")
    asyncio.run(first(server.url, server))
    server = small_grading.Server(finished, "--grader", "anna")
    asyncio.run(second(server.url))
    code, out, err = server.stop()
    assert (code, err) == (0, "") and out.startswith("ended       30 of 60 graded, 16 more than before")
    events = journal.read(path)
    assert [e.event for e in events].count("undo") == 2 and len(events) == 34
    standing = journal.standing(events)
    by_rank = {e.object_id: e.rank for e in events}
    assert {by_rank[object_id]: grade for (object_id, _), grade in standing.grades.items()} == dict(enumerate(given, 1))
    assert [n for n in standing.notes.values() if n] == ["arc, or a spiral?"]
    looked = [e.seconds for e in events if e.event == "grade"]
    assert max(looked) > 0 and min(looked) >= 0 and max(looked) < 60


def test_the_mosaic_and_both_looks(finished, tmp_path):
    """Grading and moving in the mosaic, filters, few tiles in the page; nothing to scroll sideways on a phone."""

    async def look(url: str) -> None:
        async with browser.page(dark=True) as page:
            await page.open(url, READY)
            at = "Number(document.activeElement.dataset.place)"
            assert await page.value(at) == 1
            await page.key("ArrowRight")
            await page.key("ArrowDown")
            columns = await page.value(at) - 2
            assert columns > 3
            await page.key("3")
            await page.until(f"{at} === {columns + 3}")
            await page.value(
                "(s => (s.value = '2', s.dispatchEvent(new Event('change'))))(document.getElementById('filter'))"
            )
            assert await page.value("document.querySelectorAll('.tile').length") == 1
            assert await page.value("document.getElementById('found').textContent") == "1 of 60"
            await page.value(
                "(s => (s.value = 'all', s.dispatchEvent(new Event('change'))))(document.getElementById('filter'))"
            )
            await page.value(
                "(s => (s.value = 260, s.dispatchEvent(new Event('input'))))(document.getElementById('size'))"
            )
            assert await page.value("document.querySelectorAll('.tile').length") < 40
            await page.key("?")
            await page.until("document.getElementById('help').open")
            assert "A textbook case" in await page.value(screenshot.TEXT)
            await page.key("Escape")
            await page.until("!document.getElementById('help').open")
            await page.value("document.getElementById('to-one').click()")
            await page.key("e")
            await page.until("document.getElementById('view-name').textContent === 'Source light'")
            await page.key("+")
            large = "document.getElementById('large')"
            await page.until(
                f"{large}.complete && {large}.naturalWidth === 21 && {large}.src.endsWith('/source/1.png')"
            )
            for name, width, height in (("desk", 1280, 800), ("phone", 390, 844)):
                await page.window(width, height, dark=name == "desk")
                assert await page.value("document.documentElement.scrollWidth") <= width
                await page.picture(tmp_path / f"{name}.png")
                assert Path(tmp_path / f"{name}.png").stat().st_size > 8_000
            assert page.seen.errors == [] and page.seen.strangers(url) == []

    server = small_grading.Server(finished, "--grader", "ben")
    try:
        asyncio.run(look(server.url))
    finally:
        server.stop()


def test_the_abc_scheme_and_blind(finished):
    async def look(url: str) -> None:
        async with browser.page() as page:
            await page.open(url, READY)
            await page.key("Enter")
            await page.until("document.querySelectorAll('#facts dt').length > 0")
            assert (
                await page.value("[...document.querySelectorAll('#facts dt')].map(d => d.textContent).join()")
                == "id,RA,Dec"
            )
            for value in "abcx":
                await give(page, value)
            assert page.seen.errors == []

    server = small_grading.Server(finished, "--grader", "cleo", "--scheme", "ABC", "--blind", "--repeats", "0.1")
    try:
        asyncio.run(look(server.url))
    finally:
        server.stop()
    events = journal.read(finished.path / "grades" / "cleo.csv")
    assert [e.grade for e in events] == ["A", "B", "C", "X"] and [e.rank for e in events] != [1, 2, 3, 4]
