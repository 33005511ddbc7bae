import asyncio
import io
import json
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import small_grading
from PIL import Image
from tornado.httpclient import AsyncHTTPClient
from tornado.httpserver import HTTPServer

from survey_scan.errors import ResourceError, RunError, UserError
from survey_scan.grading import candidates, command, journal, order, pictures, server
from survey_scan.grading.cache import Cache
from survey_scan.grading.journal import Journal
from survey_scan.grading.schemes import SCHEMES
from survey_scan.grading.session import Session
from survey_scan.layout import RunDirectory
from survey_scan.store import single
from survey_scan.store.reader import Reader


def silent(line: str) -> None:
    pass


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> RunDirectory:
    return small_grading.make(tmp_path_factory.mktemp("runs") / "small")


@pytest.fixture
def run(finished) -> RunDirectory:
    """The same run, without grades."""
    for path in sorted((finished.path / "grades").glob("*")) if (finished.path / "grades").exists() else []:
        path.unlink()
    for path in sorted((finished.path / "grades").glob(".*")) if (finished.path / "grades").exists() else []:
        path.unlink()
    return finished


def session(run: RunDirectory, journal_: Journal, blind: bool = False, repeats: float = 0.0) -> Session:
    table = candidates.read(run, None, silent)
    places = order.places(table["object_id"].tolist(), journal_.grader, blind, repeats)
    pixels = candidates.Pixels(run, table)
    return Session("small", table, pixels, journal_, SCHEMES["0-3"], places, blind or repeats > 0)


@pytest.fixture
def sitting(run):
    with Journal(run.path / "grades", "anna", candidates.run_digest(run), "0-3", silent) as one:
        yield session(run, one)


class Client:
    """tornado's own client against the application, in one event loop a call."""

    def __init__(self, sitting: Session):
        self.sitting = sitting

    def __call__(self, path: str, body: object = None, method: str | None = None, **headers: str):
        async def ask():
            listening = server.listen(0)
            with ThreadPoolExecutor(1) as pool:
                http = HTTPServer(server.application(self.sitting, "secret", pool))
                http.add_socket(listening)
                data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
                told = await AsyncHTTPClient().fetch(
                    f"http://127.0.0.1:{listening.getsockname()[1]}{path}",
                    method=method or ("GET" if data is None else "POST"), body=data, headers=headers, raise_error=False,
                    allow_nonstandard_methods=True,
                )  # fmt: skip
                http.stop()
                await http.close_all_connections()
                return told

        return asyncio.run(ask())


@pytest.fixture
def ask(sitting) -> Client:
    return Client(sitting)


def grade(sitting: Session, place: int, value: str = "2", **more: object) -> dict[str, object]:
    facts = sitting.facts(place)
    usual = {"place": place, "object_id": facts["object_id"], "grade": value, "note": "", "seconds": 1.5}
    return {**usual, "stretch": "colour", **more}


FORBIDDEN = {"error": "This page has a secret in its address: open the address that 'survey_scan grade' printed."}
PATHS = ["", "page.css", "page.js", "state", "facts/1", "picture/1/colour/0.png", "grade", "note", "undo", "nowhere"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("token", ["/", "/wrong/", "/secre/", "/secrets/", "//secret/", "/s%C3%A9cret/"])
def test_without_the_token_there_is_nothing(ask, sitting, path, token):
    for body in (None, {"place": 1}):
        told = ask(token + path, body)
        assert told.code == 403 and json.loads(told.body) == FORBIDDEN
    assert journal.read(sitting.journal.path) == []


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "", "localhost.evil"])
def test_under_another_name_there_is_nothing(ask, path, host):
    assert ask(f"/secret/{path}", Host=host).code == 403


def test_a_tunnel_on_another_port_is_let_in(ask):
    for host in ("localhost:9000", "127.0.0.1:1", "LOCALHOST"):
        assert ask("/secret/state", Host=host).code == 200


@pytest.mark.parametrize(
    ("path", "kind"),
    [("", "text/html"), ("page.css", "text/css"), ("page.js", "text/javascript"), ("state", "application/json"),
     ("facts/1", "application/json"), ("picture/1/colour/0.png", "image/png"), ("nowhere", "application/json")],
)  # fmt: skip
def test_every_answer_says_what_the_page_may_do(ask, path, kind):
    told = ask(f"/secret/{path}")
    assert told.headers["Content-Type"].startswith(kind)
    policy = told.headers["Content-Security-Policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "http" not in policy
    assert told.headers["Referrer-Policy"] == "no-referrer" and told.headers["X-Content-Type-Options"] == "nosniff"
    assert "Server" not in told.headers


def test_files_of_the_page_name_nothing_outside():
    folder = Path(server.__file__).parent / "page"
    for path in folder.iterdir():
        text = path.read_text()
        for link in ("https://www.legacysurvey.org/viewer", "https://sky.esa.int/esasky"):  # what a person may click
            text = text.replace(link, "")
        assert "//" not in text.replace("// ", ""), path.name
        assert "innerHTML" not in text and "eval(" not in text


def test_state_and_facts(ask, sitting):
    state = json.loads(ask("/secret/state").body)
    assert state["run"] == "small" and state["grader"] == "anna" and state["grades"] == [""] * 60
    assert [g["name"] for g in state["scheme"]["grades"]] == ["0", "1", "2", "3"]
    facts = json.loads(ask("/secret/facts/2").body)
    assert facts["facts"]["rank"] == 2 and facts["facts"]["known_name"] == "DESJ0" and facts["grade"] == ""
    assert set(json.loads(ask("/secret/facts/1").body)["facts"]) == {"ra", "dec", "rank", "logit"}
    told = ask("/secret/facts/61")
    assert told.code == 404 and json.loads(told.body) == {"error": "there is no place 61; there are 1 to 60."}


def test_pictures_are_those_of_the_candidate(ask, run, sitting):
    table = pd.read_parquet(run.candidates_parquet)
    targets = pd.concat([pd.read_parquet(run.targets(p)) for p in range(3)], ignore_index=True)
    reader = Reader(run.store)
    for place in (1, 17, 60):
        row = targets.index[targets["object_id"] == table["object_id"][place - 1]][0]
        cutout = reader.pixels(int(row), int(row) + 1)[0]
        expected = pictures.render(cutout, list("gri"), "source", 2, sitting._weights)
        told = ask(f"/secret/picture/{place}/source/2.png")
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(told.body))), expected)


@pytest.mark.parametrize("path", ["61/colour/0", "0/colour/0", "1/other/0", "1/colour/13", "1/band-z/0"])
def test_pictures_there_are_not(ask, path):
    assert ask(f"/secret/picture/{path}.png").code == 404


def test_a_grade_is_on_disk_before_the_answer(ask, sitting):
    told = ask("/secret/grade", grade(sitting, 3, "3", note="ring?", seconds=4.25, stretch="deep@+2"))
    assert told.code == 200 and json.loads(told.body) == {"place": 3, "grade": "3"}
    (event,) = journal.read(sitting.journal.path)
    assert (event.event, event.rank, event.grade, event.note, event.seconds, event.stretch) == (
        "grade", 3, "3", "ring?", 4.2, "deep@+2",
    )  # fmt: skip
    assert event.object_id == sitting.facts(3)["object_id"] and event.run == candidates.run_digest(RunDirectory(
        sitting.journal.path.parent.parent))  # fmt: skip
    assert json.loads(ask("/secret/state").body)["grades"][2] == "3"
    assert json.loads(ask("/secret/undo", {}).body) == {"place": 3, "grade": ""}
    assert [e.event for e in journal.read(sitting.journal.path)] == ["grade", "undo"]
    told = ask("/secret/undo", {})
    assert told.code == 400 and json.loads(told.body) == {"error": "there is no grade to undo."}


def test_grade_is_synced_before_the_answer(sitting, monkeypatch):
    seen = []
    real = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (seen.append(os.fstat(fd).st_size), real(fd))[1])
    sitting.grade(grade(sitting, 1))
    assert seen == [sitting.journal.path.stat().st_size]


BAD = [
    ({"object_id": "12"}, "no candidate of this list has object_id 12. Nothing was recorded."),
    ({"object_id": 12}, "no candidate of this list has object_id 12. Nothing was recorded."),
    ({"object_id": None}, "no candidate of this list has object_id None. Nothing was recorded."),
    ({"place": 61}, "there is no place 61; there are 1 to 60."),
    ({"place": "1"}, "'place' is '1'; it must be a whole number."),
    ({"place": True}, "'place' is True; it must be a whole number."),
    ({"grade": "4"}, "grade '4' is not one of the scheme 0-3: 0, 1, 2, 3."),
    ({"grade": 3}, "'grade' is 3; it must be a text."),
    ({"note": 3}, "'note' is 3; it must be a text."),
    ({"seconds": -1}, "'seconds' is -1; it must be a number from 0 to 86400."),
    ({"seconds": float("nan")}, "'seconds' is nan; it must be a number from 0 to 86400."),
    (
        {"stretch": "x"},
        "there is no view 'x'. Views: band-g, band-i, band-r, bright, colour, deep, difference, source.",
    ),
]


@pytest.mark.parametrize(("change", "message"), BAD)
def test_what_cannot_be_recorded_is_refused(ask, sitting, change, message):
    told = ask("/secret/grade", {**grade(sitting, 1), **change})
    assert told.code == 400 and json.loads(told.body) == {"error": message}
    assert journal.read(sitting.journal.path) == []


def test_another_candidates_id_is_refused(ask, sitting):
    other = sitting.facts(2)["object_id"]
    told = ask("/secret/grade", grade(sitting, 1, object_id=other))
    message = f"at place 1 is not {other}, but another candidate. Load the page again."
    assert told.code == 400 and json.loads(told.body) == {"error": message}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff"])
def test_no_json_is_refused(ask, body):
    told = ask("/secret/grade", body, "POST")
    assert told.code == 400 and json.loads(told.body) == {"error": "The request is no JSON object."}
    assert ask("/secret/state", b"{}", "POST").code == 405 and ask("/secret/grade").code in (404, 405)


def test_a_full_disk_is_said(ask, sitting, monkeypatch):
    asked = grade(sitting, 1)
    monkeypatch.setattr(os, "write", lambda fd, data: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    told = ask("/secret/grade", asked)
    assert told.code == 507
    message = f"Not recorded: {sitting.journal.path} cannot be written (No space left on device)."
    assert json.loads(told.body) == {"error": message}


def test_blind_hides_what_tells_and_repeats_are_not_marked(run):
    with Journal(run.path / "grades", "ben", candidates.run_digest(run), "0-3", silent) as one:
        blind = session(run, one, blind=True, repeats=0.1)
        state = blind.state()
        assert len(state["grades"]) == 66 and "repeat" not in json.dumps(state)
        facts = [blind.facts(place) for place in range(1, 67)]
        assert all(set(f["facts"]) == {"ra", "dec"} for f in facts)
        ids = [f["object_id"] for f in facts]
        again = [place for place, object_id in enumerate(ids, 1) if object_id in ids[: place - 1]]
        assert len(again) == 6
        first = ids.index(ids[again[0] - 1]) + 1
        blind.grade(grade(blind, first, "3"))
        assert blind.facts(again[0])["grade"] == ""
        blind.grade(grade(blind, again[0], "1"))
        assert blind.facts(first)["grade"] == "3"
    rows = journal.read(one.path)
    assert [(e.grade, e.repeat) for e in rows] == [("3", 0), ("1", 1)] and rows[0].rank == rows[1].rank


def test_candidates_of_a_run_that_is_not_complete(run, tmp_path):
    said: list[str] = []
    record = run.record("scores", 1)
    kept = record.read_text()
    record.unlink()
    try:
        assert len(candidates.read(run, 5, said.append)) == 5
    finally:
        record.write_text(kept)
    assert said == [
        "incomplete  1 of 3 partitions have no scores: these are the candidates of the last ranking, and there may be others"
    ]
    bare = small_grading.make(tmp_path / "bare", n_targets=300, n_candidates=5)
    bare.candidates_parquet.unlink()
    bare.ranking_record.unlink()
    with pytest.raises(RunError) as error:
        candidates.read(bare, None, silent)
    assert str(error.value) == (
        f"{bare} has no candidates yet (the ranking is not finished). Finish the scan: run 'survey_scan run' again with its "
        "config."
    )


def test_a_candidate_whose_cutout_is_gone(ask, run, sitting):
    shard = run.store / "image" / "c.1.0.0.0"
    kept = shard.read_bytes()
    place = next(p for p in range(1, 61) if 256 <= sitting._pixels._row(p - 1) < 512)
    try:
        shard.unlink()
        told = ask(f"/secret/picture/{place}/deep/1.png")
        assert told.code == 410
        again = f"Cut it again: survey_scan partition {run} cutouts 1"
        assert json.loads(told.body)["error"] == (
            f"partition 1 of {run.store} is not there (no image/c.1.0.0.0). {again}"
        )
        shard.write_bytes(kept[:-3])
        message = json.loads(ask(f"/secret/picture/{place}/deep/2.png").body)["error"]
        assert message == f"{shard} is damaged, in partition 1 (the checksum of its index differs). {again}"
    finally:
        shard.write_bytes(kept)


@pytest.mark.parametrize("dtype", ["float32", "float16", "int16"])
def test_one_cutout_is_that_of_the_reader(tmp_path, dtype):
    run = small_grading.make(tmp_path / dtype, n_targets=300, n_candidates=10, size=9, dtype=dtype)
    reader = Reader(run.store)
    for row in (0, 1, 255, 256, 299):
        np.testing.assert_array_equal(single.pixels(reader, row), reader.pixels(row, row + 1)[0])
    for row in (-1, 300):
        with pytest.raises(IndexError):
            single.pixels(reader, row)


def test_only_partitions_that_may_hold_a_candidate_are_read(run):
    table = candidates.read(run, None, silent)
    pixels = candidates.Pixels(run, table)
    number = table.index[table["tile"] == "T00000"][0]
    pixels.cutout(int(number))
    assert pixels._read == {0}


def test_pictures_nobody_waits_for_any_more_are_not_made(sitting, monkeypatch):
    """A browser that scrolls on closes its connections: what is still in line behind a slow picture is dropped."""
    made: list[int] = []
    gate = threading.Event()

    def picture(place: int, view: str, gain: int) -> bytes:
        gate.wait(20)
        made.append(place)
        return b"png"

    monkeypatch.setattr(sitting, "picture", picture)

    async def ask() -> None:
        listening = server.listen(0)
        with ThreadPoolExecutor(1) as pool:
            http = HTTPServer(server.application(sitting, "secret", pool))
            http.add_socket(listening)
            open_ = [await asyncio.open_connection(*listening.getsockname()) for _ in range(4)]
            for place, (_, out) in enumerate(open_, 1):
                out.write(f"GET /secret/picture/{place}/colour/0.png HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
                await asyncio.sleep(0.05)
            for _, out in open_[1:3]:
                out.close()
            await asyncio.sleep(0.2)
            gate.set()
            for into, out in (open_[0], open_[3]):
                assert (await into.readline()).startswith(b"HTTP/1.1 200")
                out.close()
            http.stop()
            await http.close_all_connections()

    asyncio.run(ask())
    assert made == [1, 4]


def test_the_cache_is_bounded():
    cache = Cache(100)
    for i in range(50):
        cache.put(i, bytes(30))
        assert cache.size <= 100
    assert cache.get(46) is None and cache.get(47) == bytes(30)
    cache.put(50, bytes(30))
    assert cache.get(48) is None and cache.get(47) is not None  # what was used last stays
    cache.put(51, bytes(200))
    assert cache.size == 0


@pytest.mark.parametrize("share", [-0.1, 0.6, float("nan")])
def test_repeats_out_of_range(run, share):
    with pytest.raises(UserError) as error:
        command.run(run, command.Options(grader="anna", repeats=share), silent)
    assert str(error.value) == f"--repeats is {share:g}; it must be from 0 to 0.5, the share shown a second time."


def test_a_port_that_is_taken():
    with server.listen(0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ResourceError) as error:
            server.listen(port)
    assert str(error.value) == (
        f"--port {port}: 127.0.0.1:{port} cannot be listened on (Address already in use). Give another, or none for a free one."
    )


def test_a_killed_server_has_lost_nothing(run):
    """kill -9 right after an answer; the torn line of another is mended at the next start, and Ctrl-C ends that cleanly."""
    from urllib.request import Request, urlopen

    def post(one: small_grading.Server, place: int, value: str) -> None:
        with urlopen(f"{one.url}facts/{place}") as told:
            facts = json.load(told)
        asked = {"place": place, "object_id": facts["object_id"], "grade": value, "stretch": "colour", "seconds": 1}
        with urlopen(Request(f"{one.url}grade", json.dumps(asked).encode())) as told:
            assert json.load(told) == {"place": place, "grade": value}

    first = small_grading.Server(run, "--grader", "anna")
    for place in range(1, 6):
        post(first, place, str(place % 4))
    refused = run_again(run, "--grader", "anna")
    assert refused[0] == 2 and f"is being written by pid {first.process.pid} on" in refused[1]
    first.kill()
    path = run.path / "grades" / "anna.csv"
    with path.open("ab") as stream:
        stream.write(b"2026-01-01T00:00:00Z,grade,10000")
    second = small_grading.Server(run, "--grader", "anna")
    assert "mended" in second.said and "5 of 60 graded" in second.said and second.url != first.url
    assert "ssh -L" in second.said and str(path) in second.said
    post(second, 6, "3")
    code, out, err = second.stop()
    assert (code, err) == (0, "") and out.startswith("ended       6 of 60 graded, 1 more than before, in ")
    assert [e.grade for e in journal.read(path)] == ["1", "2", "3", "0", "1", "3"]


def run_again(run: RunDirectory, *words: str) -> tuple[int, str]:
    import subprocess
    import sys

    done = subprocess.run(
        [sys.executable, "-m", "survey_scan", "grade", str(run), *words], capture_output=True, text=True, timeout=60
    )
    return done.returncode, done.stderr
