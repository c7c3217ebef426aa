"""Fetching data sets, against a server of our own that drops connections, forgets ranges and changes its files."""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from yolo_cosine import dataset
from yolo_cosine.config.load import read_yaml
from yolo_cosine.errors import UserError
from yolo_cosine.fetch import download as download_module
from yolo_cosine.fetch.dataset import data_root, fetch, find_data_yaml, read_entries
from yolo_cosine.fetch.download import Remote, download
from yolo_cosine.fetch.progress import Lines
from yolo_cosine.fetch.unpack import unpack

DATA = Path(__file__).parents[2] / "data"
NOISE = np.random.default_rng(0).bytes(600_000)  # does not compress, so that the archive has some length
LAYOUT = {
    "train2017/000000000001.jpg": NOISE,
    "train2017/000000000002.jpg": b"two",
    "val2017/000000000003.jpg": b"three",
    "annotations/instances_train2017.json": b"{}",
    "annotations/instances_val2017.json": b"{}",
}


class Server:
    """Serves `files` below `url`. `drops` holds, request by request, after how many body bytes to hang up."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.ranges = True
        self.etag: str | None = "by content"
        self.drops: list[int] = []
        self.statuses: list[int] = []  # sent instead, request by request
        self.requests: list[tuple[str, dict[str, str]]] = []
        self.sent: list[int] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.answer(self)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.handle_error = lambda *_: None  # a client that hangs up early is no news
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def answer(self, handler: BaseHTTPRequestHandler) -> None:
        self.requests.append((handler.path, dict(handler.headers)))
        if self.statuses:
            handler.send_error(self.statuses.pop(0))
            return
        body = self.files.get(handler.path.lstrip("/"))
        if body is None:
            handler.send_error(404)
            return
        etag = f'"{hashlib.md5(body).hexdigest()}"' if self.etag == "by content" else self.etag
        match = re.fullmatch(r"bytes=(\d+)-", handler.headers.get("Range", ""))
        start = int(match[1]) if match and self.ranges else 0
        if handler.headers.get("If-Range", etag) != etag:
            start = 0
        if start >= len(body) > 0:
            handler.send_response(416)
            handler.send_header("Content-Range", f"bytes */{len(body)}")
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
        if etag:
            handler.send_header("ETag", etag)
        handler.send_header("Content-Length", str(len(body) - start))
        handler.end_headers()
        rest = body[start:]
        self.sent.append(len(rest[: self.drops.pop(0)] if self.drops else rest))
        handler.wfile.write(rest[: self.sent[-1]])
        handler.close_connection = True

    def ranges_asked(self) -> list[str | None]:
        return [headers.get("Range") for _, headers in self.requests]


class Quiet:
    """Keeps what was said."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def bytes(self, task: str, done: int, total: int | None) -> None:
        assert total is None or done <= total, task

    def say(self, text: str) -> None:
        self.said.append(text)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(download_module, "WAIT", 0.0)
    monkeypatch.setenv("no_proxy", "*")
    running = Server()
    yield running
    running.close()


def zipped(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for info, data in members:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def tar_file(name: str, data: bytes) -> tuple[tarfile.TarInfo, bytes]:
    return tarfile.TarInfo(name), data


def describe(folder: Path, *entries: dict[str, Any]) -> Path:
    file = folder / "set.yaml"
    file.write_text(yaml.safe_dump({"path": "set", "fetch": list(entries)}))
    return file


def contents(root: Path) -> dict[str, bytes]:
    files = (file for file in root.rglob("*") if file.is_file() and ".fetch" not in file.parts)
    return {file.relative_to(root).as_posix(): file.read_bytes() for file in files}


def stored(root: Path) -> set[str]:
    return {file.name for file in (root / ".fetch").iterdir()}


def test_a_whole_archive_lands_in_place(server: Server, tmp_path: Path) -> None:
    server.files["coco.zip"] = body = zipped(LAYOUT)
    entry = {"url": f"{server.url}/coco.zip", "sha256": hashlib.sha256(body).hexdigest(), "size": len(body)}
    root = fetch(describe(tmp_path, entry), Quiet())
    assert root == tmp_path / "set"
    assert contents(root) == LAYOUT
    assert stored(root) == {"coco.zip.done.json"}
    assert server.ranges_asked() == [None]


def test_a_dropped_connection_is_resumed_where_it_broke(server: Server, tmp_path: Path) -> None:
    server.files["coco.zip"] = body = zipped(LAYOUT)
    server.drops = [350_000]
    report = Quiet()
    root = fetch(describe(tmp_path, {"url": f"{server.url}/coco.zip"}), report)
    assert contents(root) == LAYOUT
    assert server.ranges_asked() == [None, "bytes=350000-"]
    assert server.requests[1][1]["If-Range"] == f'"{hashlib.md5(body).hexdigest()}"'
    assert server.sent == [350_000, len(body) - 350_000]
    assert any(f"ended after 350000 of {len(body)} bytes" in line for line in report.said)


def test_a_later_call_resumes_as_well(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = NOISE
    server.drops = [100_000] + [0] * (download_module.ATTEMPTS - 1)
    remote, target = Remote(f"{server.url}/a.bin"), tmp_path / "a.bin"
    with pytest.raises(UserError, match=r"5 times in a row; check the network .* 100000 bytes are kept"):
        download(remote, target, Quiet())
    assert not target.exists()
    download(remote, target, Quiet())
    assert target.read_bytes() == NOISE
    assert server.ranges_asked()[-1] == "bytes=100000-"
    assert [file.name for file in tmp_path.iterdir()] == ["a.bin"]


def test_a_server_without_ranges_starts_over(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = NOISE
    server.ranges, server.drops = False, [100_000]
    download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    assert (tmp_path / "a.bin").read_bytes() == NOISE
    assert server.sent == [100_000, len(NOISE)]


@pytest.mark.parametrize("etag", [None, 'W/"weak"'])
def test_without_a_strong_validator_and_checksum_nothing_is_pieced_together(
    server: Server, tmp_path: Path, etag: str | None
) -> None:
    server.files["a.bin"] = NOISE
    server.etag, server.drops = etag, [100_000]
    download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    assert (tmp_path / "a.bin").read_bytes() == NOISE
    assert server.ranges_asked() == [None, None]


def test_a_file_that_changed_on_the_server_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"] = NOISE
    server.drops = [100_000] + [0] * (download_module.ATTEMPTS - 1)
    with pytest.raises(UserError):
        download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    server.files["a.bin"] = NOISE[::-1]
    download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    assert (tmp_path / "a.bin").read_bytes() == NOISE[::-1]


def test_halves_that_do_not_belong_together_are_found_by_the_checksum(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"], server.etag = NOISE, None
    (tmp_path / "a.bin.part").write_bytes(b"old" * 1000)
    remote = Remote(f"{server.url}/a.bin", digest=("md5", hashlib.md5(NOISE).hexdigest()))
    download(remote, tmp_path / "a.bin", Quiet())
    assert (tmp_path / "a.bin").read_bytes() == NOISE
    assert server.ranges_asked() == ["bytes=3000-", None]


@pytest.mark.parametrize("part", [NOISE, NOISE + b"more"], ids=["whole", "too long"])
def test_a_part_as_long_as_the_file_needs_no_bytes(server: Server, tmp_path: Path, part: bytes) -> None:
    server.files["a.bin"] = NOISE
    (tmp_path / "a.bin.part").write_bytes(part)
    digest = ("sha256", hashlib.sha256(NOISE).hexdigest().upper())
    download(Remote(f"{server.url}/a.bin", digest=digest), tmp_path / "a.bin", Quiet())
    assert (tmp_path / "a.bin").read_bytes() == NOISE
    assert server.sent == ([] if part == NOISE else [len(NOISE)])


def test_a_wrong_checksum_names_both_and_keeps_nothing(server: Server, tmp_path: Path) -> None:
    server.files["coco.zip"] = body = zipped(LAYOUT)
    wrong = "0" * 64
    file = describe(tmp_path, {"url": f"{server.url}/coco.zip", "sha256": wrong})
    with pytest.raises(UserError, match=f"sha256 {hashlib.sha256(body).hexdigest()}, and {wrong} was declared"):
        fetch(file, Quiet())
    assert not (tmp_path / "set").exists()


def test_a_body_that_is_always_cut_off_is_given_up(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"], server.ranges = NOISE, False
    server.drops = [1000] * 50
    with pytest.raises(UserError, match=r"ended after 1000 of 600000 bytes, 5 times in a row"):
        download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    assert len(server.requests) <= download_module.ATTEMPTS + 1


def test_many_drops_are_endured_while_there_is_progress(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(download_module, "ENOUGH", 40_000)
    server.files["a.bin"], server.drops = NOISE, [50_000] * 11
    download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    assert (tmp_path / "a.bin").read_bytes() == NOISE
    assert sum(server.sent) == len(NOISE)


def test_a_busy_server_is_asked_again(server: Server, tmp_path: Path) -> None:
    server.files["a.bin"], server.statuses = b"data", [503, 429]
    download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    assert (tmp_path / "a.bin").read_bytes() == b"data"


def test_waits_double_from_attempt_to_attempt(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr(download_module, "WAIT", 1.0)
    monkeypatch.setattr(download_module.time, "sleep", waits.append)
    server.statuses = [503] * 9
    with pytest.raises(UserError, match="the server answered 503"):
        download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    assert waits == [1, 2, 4, 8]


@pytest.mark.parametrize(
    ("path", "remote", "match"),
    [
        ("none.bin", {}, "answered 404 .*; check the URL"),
        ("a.bin", {"size": 5}, "the server has 600000 bytes, and 5 were declared"),
    ],
)
def test_what_no_retry_mends_fails_at_once(
    server: Server, tmp_path: Path, path: str, remote: dict[str, Any], match: str
) -> None:
    server.files["a.bin"] = NOISE
    with pytest.raises(UserError, match=match):
        download(Remote(f"{server.url}/{path}", **remote), tmp_path / "a.bin", Quiet())
    assert len(server.requests) == 1 and list(tmp_path.iterdir()) == []


def test_no_server_is_no_network(server: Server, tmp_path: Path) -> None:
    server.close()
    with pytest.raises(UserError, match=r"no connection .* check the network and try again"):
        download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())
    server.__init__()  # for the fixture to close


def test_a_full_disk_is_said_before_and_while_writing(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.files["a.bin"] = NOISE
    usage = shutil.disk_usage(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1000))
        with pytest.raises(UserError, match=r"needs 600000 bytes in .* and 1000 are free"):
            download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(download_module.os, "fsync", full)
    with pytest.raises(UserError, match="No space left on device; free some space"):
        download(Remote(f"{server.url}/a.bin"), tmp_path / "a.bin", Quiet())


def test_a_file_url_is_copied(tmp_path: Path) -> None:
    (tmp_path / "source file.zip").write_bytes(zipped(LAYOUT))
    file = describe(tmp_path, {"url": (tmp_path / "source file.zip").as_uri(), "to": "a/b"})
    assert contents(fetch(file, Quiet()) / "a/b") == LAYOUT
    with pytest.raises(UserError, match=r"cannot be read: .*No such file"):
        download(Remote((tmp_path / "none.zip").as_uri()), tmp_path / "none", Quiet())


def test_what_is_complete_is_not_fetched_again(server: Server, tmp_path: Path) -> None:
    server.files["coco.zip"] = zipped(LAYOUT)
    file = describe(tmp_path, {"url": f"{server.url}/coco.zip"})
    root = fetch(file, Quiet())
    fetch(file, Quiet())
    assert len(server.requests) == 1
    (root / "val2017/000000000003.jpg").unlink()
    fetch(file, Quiet())
    assert len(server.requests) == 2 and contents(root) == LAYOUT


def test_another_entry_is_fetched_anew(server: Server, tmp_path: Path) -> None:
    server.files["coco.zip"] = zipped(LAYOUT)
    fetch(describe(tmp_path, {"url": f"{server.url}/coco.zip"}), Quiet())
    root = fetch(describe(tmp_path, {"url": f"{server.url}/coco.zip", "strip": 1}), Quiet())
    assert (root / "000000000002.jpg").read_bytes() == b"two"


def test_kept_archives_are_used_and_damaged_ones_replaced(server: Server, tmp_path: Path) -> None:
    server.files["coco.zip"] = body = zipped(LAYOUT)
    file = describe(tmp_path, {"url": f"{server.url}/coco.zip", "md5": hashlib.md5(body).hexdigest()})
    root = fetch(file, Quiet(), keep=True)
    assert (root / ".fetch/coco.zip").read_bytes() == body
    shutil.rmtree(root / "train2017")
    fetch(file, Quiet(), keep=True)
    assert len(server.requests) == 1 and contents(root) == LAYOUT
    (root / ".fetch/coco.zip").write_bytes(b"damaged")
    (root / "val2017/000000000003.jpg").unlink()
    fetch(file, Quiet(), keep=True)
    assert len(server.requests) == 2 and contents(root) == LAYOUT


def test_archives_share_folders_and_plain_files_stay_files(server: Server, tmp_path: Path) -> None:
    server.files["one/data.tar"] = tarred([tar_file("VOCdevkit/VOC2007/a.jpg", b"a")], "w:")
    server.files["two/data.tar"] = tarred([tar_file("VOCdevkit/VOC2007/b.jpg", b"b")], "w:")
    server.files["labels.json"] = b"[]"
    urls = [{"url": f"{server.url}/{name}/data.tar"} for name in ("one", "two")]
    root = fetch(describe(tmp_path, *urls, {"url": f"{server.url}/labels.json", "to": "annotations"}), Quiet())
    assert contents(root) == {
        "VOCdevkit/VOC2007/a.jpg": b"a",
        "VOCdevkit/VOC2007/b.jpg": b"b",
        "annotations/labels.json": b"[]",
    }


def test_strip_drops_leading_folders(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped({"coco128/LICENSE": b"l", "coco128/images/1.jpg": b"i", "top.txt": b"t"}))
    files = unpack(tmp_path / "a.zip", tmp_path / "out", 1, tmp_path, Quiet())
    assert files == {"LICENSE": 1, "images/1.jpg": 1}
    assert contents(tmp_path / "out") == {"LICENSE": b"l", "images/1.jpg": b"i"}
    with pytest.raises(UserError, match="holds no files below 5 leading folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 5, tmp_path, Quiet())


def link(name: str, target: str, kind: bytes) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info, b""


def zip_link() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        info = zipfile.ZipInfo("good/link")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "body", "match"),
    [
        ("a.zip", zipped({"fine.txt": b"", "../out.txt": b"x"}), "leads out of the folder"),
        ("a.zip", zipped({"a/../../out.txt": b"x"}), "leads out of the folder"),
        ("a.zip", zipped({"/out.txt": b"x"}), "leads out of the folder"),
        ("a.zip", zipped({"..\\out.txt": b"x"}), "leads out of the folder"),
        ("a.zip", zipped({"C:\\out.txt": b"x"}), "leads out of the folder"),
        ("a.zip", zipped({"../out/": b""}), "leads out of the folder"),
        ("a.zip", zip_link(), "is a link or a device"),
        ("a.tar.gz", tarred([tar_file("fine.txt", b""), tar_file("../out.txt", b"x")]), "leads out of the folder"),
        ("a.tar", tarred([tar_file("/out.txt", b"x")], "w:"), "leads out of the folder"),
        ("a.tgz", tarred([link("link", "/etc", tarfile.SYMTYPE), tar_file("link/x", b"x")]), "is a link or a device"),
        ("a.tar", tarred([link("link", "../out.txt", tarfile.LNKTYPE)], "w:"), "is a link or a device"),
        ("a.tar", tarred([link("pipe", "", tarfile.FIFOTYPE)], "w:"), "is a link or a device"),
        ("a.zip", b"<html>not found</html>", "cannot be unpacked: .*; delete it and fetch it again"),
        ("a.zip", zipped(LAYOUT)[:-400], "cannot be unpacked: .*; delete it and fetch it again"),
        ("a.tar.gz", tarred([tar_file("a", NOISE)])[:-5000], "cannot be unpacked: .*; delete it and fetch it again"),
        ("a.tar", b"no tar", "cannot be unpacked: .*; delete it and fetch it again"),
        ("a.zip", zipped({}), "holds no files"),
    ],
)
def test_archives_that_are_not_to_be_unpacked(tmp_path: Path, name: str, body: bytes, match: str) -> None:
    store = tmp_path / "store"
    store.mkdir()
    (store / name).write_bytes(body)
    with pytest.raises(UserError, match=match):
        unpack(store / name, tmp_path / "deep/target", 0, store, Quiet())
    assert contents(tmp_path) == {f"store/{name}": body}


def test_a_damaged_member_is_found(tmp_path: Path) -> None:
    body = bytearray(zipped({"a.bin": NOISE}))
    body[len(body) // 2] ^= 0xFF
    (tmp_path / "a.zip").write_bytes(body)
    with pytest.raises(UserError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 0, tmp_path, Quiet())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["bomb.zip", "bomb.tar.gz"])
def test_an_archive_that_declares_more_than_the_disk_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    zeros = b"\0" * 3_000_000
    (tmp_path / name).write_bytes(zipped({"a": zeros}) if name.endswith("zip") else tarred([tar_file("a", zeros)]))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=1_000_000))
    with pytest.raises(UserError, match=r"needs 3000000 bytes in .* and 1000000 are free"):
        unpack(tmp_path / name, tmp_path / "out", 0, tmp_path, Quiet())
    assert not (tmp_path / "out").exists()


def test_a_file_in_the_way_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zip").write_bytes(zipped(LAYOUT))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/val2017").write_bytes(b"mine")
    with pytest.raises(UserError, match="val2017: is in the way"):
        unpack(tmp_path / "a.zip", tmp_path / "out", 0, tmp_path, Quiet())
    assert (tmp_path / "out/val2017").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("entry", "match"),
    [
        ({}, r"fetch\.0: url"),
        ({"url": "ftp://host/a.zip"}, "is no URL to fetch; write an http, https or file URL"),
        ({"url": "a.zip"}, "is no URL to fetch"),
        ({"url": "https://host/"}, "does not end in a file name"),
        ({"url": "https://host/%2e%2e"}, "does not end in a file name"),
        ({"url": "https://host/a%2Fb.zip"}, "does not end in a file name"),
        ({"url": "https://host/a b.zip"}, "percent-encode"),
        ({"url": "https://host/a.zip", "to": "../up"}, "is not below the data set's folder"),
        ({"url": "https://host/a.zip", "to": "/etc"}, "is not below the data set's folder"),
        ({"url": "https://host/a.zip", "strip": -1}, "strip: -1"),
        ({"url": "https://host/a.zip", "size": "12"}, "size: '12'"),
        ({"url": "https://host/a.zip", "sha256": "12"}, "sha256: '12'"),
        (
            {"url": "https://host/a.zip", "md5": "0" * 32, "sha256": "0" * 64},
            "md5: .* stands beside a sha256; leave it out",
        ),
        ({"url": "https://host/a.zip", "sha265": "0" * 64}, "there is no such key; did you mean sha256"),
    ],
)
def test_entries_are_checked(tmp_path: Path, entry: dict[str, Any], match: str) -> None:
    file = describe(tmp_path, entry)
    with pytest.raises(UserError, match=match):
        read_entries(file, read_yaml(file))


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("path: x\n", "has no fetch: list"),
        ("path: x\ndownload: https://host/a.zip\n", "a `download:` script is not run"),
        ("path: x\nfetch: https://host/a.zip\n", "is not a list of entries"),
        ("path: 3\nfetch: [{url: 'https://host/a.zip'}]\n", "path: 3 is no folder"),
        ("path: ${YOLO_COSINE_UNSET}/x\nfetch: [{url: 'https://host/a.zip'}]\n", "YOLO_COSINE_UNSET is not set"),
    ],
)
def test_data_yamls_without_a_list_to_fetch(tmp_path: Path, text: str, match: str) -> None:
    (tmp_path / "set.yaml").write_text(text)
    with pytest.raises(UserError, match=match):
        fetch(tmp_path / "set.yaml", Quiet())


def test_the_folder_of_a_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "set.yaml"
    monkeypatch.setenv("YOLO_COSINE_TEST", "/elsewhere")
    for path, expected in (
        ("sub", tmp_path / "sub"),
        ("${YOLO_COSINE_TEST}/sub", Path("/elsewhere/sub")),
        ("${YOLO_COSINE_UNSET:-.}/sub", tmp_path / "sub"),
    ):
        assert data_root(file, {"path": path}) == expected
    assert data_root(file, {}) == tmp_path


@pytest.mark.parametrize("name", ["coco", "voc", "coco128"])
def test_shipped_lists_are_valid(name: str) -> None:
    file = find_data_yaml(name)
    entries = read_entries(file, read_yaml(file))
    assert file.resolve() == DATA / f"{name}.yaml"
    assert all(entry.url.startswith("http") for entry in entries)
    assert data_root(file, read_yaml(file)) == DATA / name


def test_command_line_fetches(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    server.files["coco.zip"] = zipped(LAYOUT)
    file = describe(tmp_path, {"url": f"{server.url}/coco.zip"})
    assert dataset.main(["fetch", str(file), "--to", str(tmp_path / "there"), "--keep"]) == 0
    assert contents(tmp_path / "there") == LAYOUT
    assert "coco.zip" in stored(tmp_path / "there")
    out, err = capsys.readouterr()
    assert f"complete in {tmp_path / 'there'}" in out and "coco.zip" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["fetch", "nonesuch"], "there is no data set of this name; the names are .*coco128.*, or name a YAML file"),
        (["fetch", "nonesuch.yaml"], "there is no such file"),
        (["fetch", str(DATA / "bccd.yaml")], "has no fetch: list"),
    ],
)
def test_mistakes_end_with_code_2(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert dataset.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and re.search(message, error)


def test_an_unwritable_folder_ends_with_code_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    file = describe(tmp_path, {"url": "https://host/a.zip"})
    assert dataset.main(["fetch", str(file), "--to", str(tmp_path / "file/below")]) == 2
    assert "cannot be written" in capsys.readouterr().err


@pytest.mark.parametrize("arguments", [[], ["fetch"], ["nonesuch"]])
def test_usage_ends_with_code_2(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exit:
        dataset.main(arguments)
    assert exit.value.code == 2


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from yolo_cosine import dataset\n"
        "try: dataset.main(['fetch', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(bool({'cv2', 'numpy', 'torch', 'pydantic', 'rich'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL).returncode == 0


def test_lines_are_few(capsys: pytest.CaptureFixture[str]) -> None:
    lines = Lines()
    for done in range(0, 1001):
        lines.bytes("a.zip", done * 1000, 1_000_000)
    assert capsys.readouterr().err.splitlines() == ["a.zip: 0 bytes of 1.0 MB", "a.zip: 1.0 MB of 1.0 MB"]


def test_records_say_what_was_fetched(server: Server, tmp_path: Path) -> None:
    server.files["coco.zip"] = zipped(LAYOUT)
    root = fetch(describe(tmp_path, {"url": f"{server.url}/coco.zip"}), Quiet())
    record = json.loads((root / ".fetch/coco.zip.done.json").read_text())
    assert record["files"] == {name: len(data) for name, data in LAYOUT.items()}
