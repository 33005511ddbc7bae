import errno
import os
import subprocess
import sys

import google_crc32c
import numpy as np
import pytest

from survey_scan.store import shards


def test_a_shard_is_chunks_with_checksums_and_an_index():
    chunks = [b"first", np.arange(10, dtype=np.uint8)]
    data = b"".join(bytes(part) for part in shards.shard(chunks, 3))
    index, crc = data[-52:-4], data[-4:]
    assert int.from_bytes(crc, "little") == google_crc32c.value(index)
    places = np.frombuffer(index, "<u8").reshape(3, 2).tolist()
    assert places == [[0, 9], [9, 14], [2**64 - 1, 2**64 - 1]]
    for chunk, (at, size) in zip(chunks, places, strict=False):
        assert data[at : at + size - 4] == bytes(chunk)
        assert int.from_bytes(data[at + size - 4 : at + size], "little") == google_crc32c.value(bytes(chunk))


def test_publish_replaces_a_file_whole(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"old and longer")
    shards.publish([b"new", np.array([33], np.uint8)], file, tmp_path / "scratch", "7")
    assert file.read_bytes() == b"new!"
    assert list((tmp_path / "scratch").iterdir()) == []


def test_a_reader_never_sees_a_file_half_written(tmp_path):
    file = tmp_path / "file"

    def parts():
        yield b"first half"
        assert not file.exists()
        assert len(list((tmp_path / "scratch").glob("7.*.partial"))) == 1
        yield b"second half"

    shards.publish(parts(), file, tmp_path / "scratch", "7")
    assert file.read_bytes() == b"first halfsecond half"


@pytest.mark.parametrize("call", ["fsync", "write"])
def test_a_full_disk_names_the_file_and_leaves_nothing(tmp_path, monkeypatch, call):
    def full(*args):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def parts():
        if call == "write":
            full()
        yield b"data"

    if call == "fsync":
        monkeypatch.setattr(os, "fsync", full)
    file = tmp_path / "c.0.0.0.0"
    with pytest.raises(OSError) as caught:
        shards.publish(parts(), file, tmp_path / "scratch", "0")
    assert caught.value.errno == errno.ENOSPC
    assert str(caught.value) == f"[Errno {errno.ENOSPC}] No space left on device: '{file}'"
    assert not file.exists() and list((tmp_path / "scratch").iterdir()) == []


def test_a_real_limit_on_the_size_of_files(tmp_path):
    """The kernel refuses in the middle of a large write."""
    code = f"""
import resource
from pathlib import Path
from survey_scan.store import shards
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    shards.publish([bytes(60_000)] * 3, Path({str(tmp_path)!r}) / "file", Path({str(tmp_path)!r}) / "scratch", "0")
except OSError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"[Errno {errno.EFBIG}] File too large: '{tmp_path}/file'\n"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["scratch"]


def test_sweep_takes_only_its_own(tmp_path):
    for name in ("1.aa.partial", "1.bb.partial", "12.cc.partial", "1.done"):
        (tmp_path / name).touch()
    shards.sweep(tmp_path, "1")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1.done", "12.cc.partial"]
    shards.sweep(tmp_path / "none", "1")
