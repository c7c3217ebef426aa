from __future__ import annotations

import errno
import os
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.files import replace_file
from yolo_cosine.sinks import appended
from yolo_cosine.sinks.appended import AppendedFile

REAL_WRITE = os.write


class Disk:
    """Takes the place of `os.write`. `plan` has a number for each write to come: so many bytes fit, or -1 for an error."""

    def __init__(self, plan):
        self.plan = list(plan)

    def write(self, file, data):
        fits = self.plan.pop(0) if self.plan else None
        if fits == -1:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if fits is not None and 0 < fits < len(data):
            self.plan.insert(0, -1)  # the rest does not fit
        return REAL_WRITE(file, data[:fits])


@pytest.fixture
def disk(monkeypatch):
    def use(*plan):
        disk = Disk(plan)
        monkeypatch.setattr(appended.os, "write", disk.write)
        return disk

    return use


def test_each_record_is_on_file_at_once(tmp_path):
    file = AppendedFile(tmp_path / "log", [])
    for count in range(1, 4):
        file.append(b"record\n")
        assert (tmp_path / "log").read_bytes() == b"record\n" * count
    file.put(b"later\n")
    assert (tmp_path / "log").read_bytes() == b"record\n" * 3 and file.waiting == [(21, b"later\n")]
    file.close()
    file.close()
    assert (tmp_path / "log").read_bytes() == b"record\n" * 3 + b"later\n"


def test_a_file_is_continued_from_what_is_good_of_it(tmp_path):
    (tmp_path / "log").write_bytes(b"good\nto")
    file = AppendedFile(tmp_path / "log", [], size=5)
    file.append(b"more\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == b"good\nmore\n"


@pytest.mark.parametrize("fits", [-1, 0, 1, 5])
def test_what_does_not_fit_leaves_no_part_and_waits(tmp_path, disk, fits):
    news = []
    file = AppendedFile(tmp_path / "log", news)
    file.append(b"first\n")
    disk(fits, -1)
    file.append(b"second\n")
    file.append(b"third\n")
    assert (tmp_path / "log").read_bytes() == b"first\n"
    assert [n.incident for n in news] == ["disk"] and os.strerror(errno.ENOSPC) in news[0].text
    file.append(b"fourth\n")  # there is room again
    assert (tmp_path / "log").read_bytes() == b"first\nsecond\nthird\nfourth\n"
    assert [n.incident for n in news] == ["disk", None] and "again" in news[1].text
    file.close()


RECORDS = st.lists(st.tuples(st.sampled_from(["append", "put", "flush", "sync"]), st.integers(1, 12)), max_size=30)


@given(script=RECORDS, plan=st.lists(st.none() | st.integers(-1, 12), max_size=60))
def test_on_any_disk_the_file_is_whole_records_in_order_and_complete_in_the_end(tmp_path_factory, script, plan):
    path, news, put = tmp_path_factory.mktemp("disk") / "log", [], b""
    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(plan)
        patch.setattr(appended.os, "write", disk.write)
        file = AppendedFile(path, news)
        for number, (what, length) in enumerate(script):
            record = f"{number}:".encode() + b"x" * length + b"\n"
            if what in {"append", "put"}:
                put += record
                getattr(file, what)(record)
            else:
                getattr(file, what)()
            on_file = path.read_bytes()
            assert put.startswith(on_file) and on_file[-1:] in {b"", b"\n"}
            assert put == on_file + b"".join(record for _, record in file.waiting)
        disk.plan.clear()
        file.close()
    assert path.read_bytes() == put
    assert [n.incident for n in news] == ["disk", None] * (len(news) // 2)


@given(st.lists(st.booleans(), max_size=20))
def test_an_interrupt_during_a_write_neither_loses_nor_repeats(tmp_path_factory, interrupts):
    path, put = tmp_path_factory.mktemp("interrupt") / "log", b""

    def write(file, data):
        written = REAL_WRITE(file, data)
        if interrupts.pop() if interrupts else False:
            raise KeyboardInterrupt
        return written

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(appended.os, "write", write)
        file = AppendedFile(path, [])
        for number in range(len(interrupts)):
            record = b"%d\n" % number * (1 + number % 3)
            put += record
            with suppress(KeyboardInterrupt):
                file.append(record)
        interrupts.clear()
        file.close()
    assert path.read_bytes() == put


def test_what_waits_is_bounded(tmp_path, disk):
    file = AppendedFile(tmp_path / "log", [], most=100)
    disk(*[-1] * 100)
    for _ in range(10):
        file.append(b"ten bytes\n")
    with pytest.raises(OSError, match=r"No space left on device, and more than .* MiB wait"):
        file.append(b"and more\n")


def test_what_still_waits_at_the_end_is_an_error(tmp_path, disk):
    file = AppendedFile(tmp_path / "log", [])
    disk(*[-1] * 100)
    file.append(b"lost\n")
    with pytest.raises(OSError, match=r"No space left on device; 5 bytes are lost"):
        file.close()


@pytest.mark.parametrize("code, told", [(errno.EIO, True), (errno.EINVAL, False)])
def test_a_disk_that_does_not_confirm(tmp_path, monkeypatch, code, told):
    def fsync(file):
        raise OSError(code, os.strerror(code))

    news = []
    file = AppendedFile(tmp_path / "log", news)
    with monkeypatch.context() as patch:
        patch.setattr(appended.os, "fsync", fsync)
        for _ in range(3):
            file.append(b"record\n")
            file.sync()
        assert [n.incident for n in news] == ["disk"] * told
    file.sync()
    assert [n.incident for n in news] == ["disk", None] * told
    file.close()


@pytest.mark.parametrize("start", range(0, 37, 6))
@pytest.mark.parametrize("room", [True, False])
def test_the_end_is_rewritten_with_room_and_without_and_whatever_waits(tmp_path, monkeypatch, disk, start, room):
    news = []
    file = AppendedFile(tmp_path / "log", news)
    for number in range(3):
        file.append(b"line%d\n" % number)
    full = disk(*[-1] * 3)
    for number in range(3, 6):
        file.append(b"line%d\n" % number)
    assert len(file.waiting) == 3
    full.plan.clear()
    before = b"".join(b"line%d\n" % n for n in range(6))
    with monkeypatch.context() as patch:
        if not room:
            patch.setattr(appended, "replace_file", refuse)
        file.rewrite_from(start, [b"tail\n", b"end\n"])
    assert (tmp_path / "log").read_bytes() == before[:start] + b"tail\nend\n"
    assert [n.incident for n in news] == ["disk", None]
    file.append(b"more\n")
    file.close()
    assert (tmp_path / "log").read_bytes() == before[:start] + b"tail\nend\nmore\n"


def refuse(path, parts):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_file_goes_on_under_another_name(tmp_path):
    file = AppendedFile(tmp_path / "old", [])
    file.append(b"old\n")
    file.replace([b"a", b"b\n"], tmp_path / "new")
    file.append(b"c\n")
    file.close()
    assert (tmp_path / "old").read_bytes() == b"old\n" and (tmp_path / "new").read_bytes() == b"ab\nc\n"


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_a_replacement_that_fails_changes_nothing(tmp_path, error):
    def parts():
        yield b"some"
        raise error

    (tmp_path / "file").write_bytes(b"old")
    with pytest.raises(error):
        replace_file(tmp_path / "file", parts())
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("file", b"old")]
