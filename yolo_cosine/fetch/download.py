"""Download one file: resumed where it broke off, checked for size and checksum, in place only when it is whole.

A download grows in `NAME.part`. `NAME.part.json` beside it keeps the server's validator (ETag or Last-Modified), which
goes with a resume as If-Range (RFC 9110, 13.1.5): a server whose file has changed meanwhile then sends all of it.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import shutil
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yolo_cosine.errors import UserError
from yolo_cosine.fetch.progress import Reporter

ATTEMPTS = 5  # in a row that bring less than ENOUGH
ENOUGH = 2**20  # bytes after which a connection counts as a good one
WAIT = 1.0  # seconds before the second attempt, doubled for each one after
TIMEOUT = 30.0  # seconds of silence
_BLOCK = 2**18
_RETRIED = {408, 425, 429, 500, 502, 503, 504}


@dataclass(frozen=True)
class Remote:
    """A file on a server and what is known of it."""

    url: str  # http, https or file
    size: int | None = None  # bytes
    digest: tuple[str, str] | None = None  # (sha256 or md5, hexadecimal)


class _Dropped(Exception):
    """This attempt failed; the next may not."""


def download(remote: Remote, target: Path, report: Reporter) -> None:
    """Bring `remote` to `target`; a valid file that is there already stays.

    Raises:
        UserError: if the server refuses, the connection keeps breaking, the disk is full, or what came is not what was
            announced (size or checksum).
    """
    if target.is_file():
        problem = find_problem(remote, target, report)
        if problem is None:
            report.say(f"{target.name}: already there")
            return
        report.say(f"{problem}; fetching it again")
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    resumed = _bring(remote, part, target.name, report)
    problem = find_problem(remote, part, report)
    if problem is not None and resumed:  # the older half may be the bad one
        report.say(f"{problem}; fetching all of it again")
        _discard(part)
        _bring(remote, part, target.name, report)
        problem = find_problem(remote, part, report)
    if problem is not None:
        _discard(part)
        raise UserError(
            f"{remote.url}: {problem}; the server's file is not the expected one, or was damaged on the way"
        )
    os.replace(part, target)
    _validator_file(part).unlink(missing_ok=True)


def find_problem(remote: Remote, path: Path, report: Reporter) -> str | None:
    """What is wrong with a file by its declared size and checksum, in words; None if nothing is."""
    size = path.stat().st_size
    if remote.size is not None and size != remote.size:
        return f"{path.name} has {size} bytes, and {remote.size} were declared"
    if remote.digest is None:
        return None
    algorithm, expected = remote.digest
    digest = hashlib.new(algorithm, usedforsecurity=False)
    done = 0
    with open(path, "rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            done += len(block)
            report.bytes(f"{path.name.removesuffix('.part')}: {algorithm}", done, size)
    found = digest.hexdigest()
    if found == expected.lower():
        return None
    return f"{path.name} has the {algorithm} {found}, and {expected} was declared"


def _bring(remote: Remote, part: Path, name: str, report: Reporter) -> bool:
    """Repeat attempts until `part` is whole; says whether it may be made of more than one response."""
    failures, best = 0, _size(part)
    resumed = best > 0
    while True:
        try:
            _attempt(remote, part, name, report)
            return resumed
        except _Dropped as drop:
            size = _size(part)
            resumed |= size > 0
            failures = 1 if size - best >= ENOUGH else failures + 1
            best = max(best, size)
            if failures >= ATTEMPTS:
                kept = f"; {size} bytes are kept, and the same command goes on from there" if size else ""
                raise UserError(
                    f"{remote.url}: {drop}, {failures} times in a row; check the network and try again{kept}"
                ) from None
            report.say(f"{name}: {drop}; trying again")
            time.sleep(WAIT * 2 ** (failures - 1))


def _attempt(remote: Remote, part: Path, name: str, report: Reporter) -> None:
    """One request. Returns when `part` is whole; raises _Dropped where another request may help."""
    offset, validator = _size(part), _read_validator(part, remote.url)
    if offset and not validator and remote.digest is None:
        offset = 0  # nothing would tell whether the halves belong together
    headers = {"Accept-Encoding": "identity", "User-Agent": "yolo-cosine"}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        if validator:
            headers["If-Range"] = validator
    try:
        response = _opener().open(urllib.request.Request(remote.url, headers=headers), timeout=TIMEOUT)
    except urllib.error.HTTPError as error:
        with error:
            if error.code == 416 and offset:
                if error.headers.get("Content-Range", "") == f"bytes */{offset}":
                    return
                _discard(part)
                raise _Dropped("the server's file is shorter than what is here") from None
            if error.code in _RETRIED:
                raise _Dropped(f"the server answered {error.code} {error.reason}") from None
            raise UserError(f"{remote.url}: the server answered {error.code} {error.reason}; check the URL") from None
    except (OSError, http.client.HTTPException) as error:
        raise _explain(error, remote.url) from None
    with response:
        if response.status == 206:
            start, total = _content_range(response.headers)
            if start != offset:
                _discard(part)
                raise _Dropped(f"the server sent another range than bytes {offset} and on")
        else:
            offset, total = 0, _content_length(response.headers)
        if None not in (remote.size, total) and total != remote.size:
            raise UserError(
                f"{remote.url}: the server has {total} bytes, and {remote.size} were declared; check the URL"
            )
        if offset == 0:
            _write_validator(part, remote.url, response.headers)
        _receive(remote, response, part, offset, total, name, report)


def _receive(
    remote: Remote, response: Any, part: Path, offset: int, total: int | None, name: str, report: Reporter
) -> None:
    """Write the body behind `offset` bytes of `part`."""
    total = remote.size if total is None else total
    require_space((total or 0) - offset, part.parent, name)
    try:
        with open(part, "r+b" if offset else "wb") as file:
            file.seek(offset)
            done = offset
            report.bytes(name, done, total)
            while block := _read(response, remote.url):
                file.write(block)
                done += len(block)
                if remote.size is not None and done > remote.size:
                    raise UserError(f"{remote.url}: sends more than the {remote.size} bytes that were declared")
                report.bytes(name, done, total)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise UserError(f"{part}: cannot be written: {error}; free some space and run the same command again") from None
    if total is not None and done < total:
        raise _Dropped(f"the connection ended after {done} of {total} bytes")


def _read(response: Any, url: str) -> bytes:
    try:
        return response.read(_BLOCK)
    except (OSError, http.client.HTTPException) as error:
        raise _explain(error, url) from None


def require_space(need: int, folder: Path, name: str) -> None:
    """Check that `need` bytes fit on the disk of `folder`.

    Raises:
        UserError: if they do not.
    """
    free = shutil.disk_usage(folder).free
    if need > free:
        raise UserError(f"{name}: needs {need} bytes in {folder}, and {free} are free; free some space or use --to")


def _explain(error: Exception, url: str) -> Exception:
    """A failure of the connection: worth another attempt, or the user's to mend."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, ssl.SSLCertVerificationError):
        return UserError(f"{url}: the server's certificate is not trusted: {reason.verify_message}")
    if isinstance(reason, str):  # no handler for what the URL, or a redirect, asks for
        return UserError(f"{url}: cannot be opened: {reason}; use an http, https or file URL")
    if url.lower().startswith("file:"):
        return UserError(f"{url}: cannot be read: {reason}; mend the URL")
    return _Dropped(f"no connection ({reason or type(reason).__name__})")


def _opener() -> urllib.request.OpenerDirector:
    """urllib's opener without FTP and data URLs. Redirects lead to http and https only."""
    opener = urllib.request.OpenerDirector()
    for handler in (
        urllib.request.ProxyHandler, urllib.request.UnknownHandler, urllib.request.HTTPHandler,
        urllib.request.HTTPSHandler, urllib.request.FileHandler, urllib.request.HTTPDefaultErrorHandler,
        urllib.request.HTTPRedirectHandler, urllib.request.HTTPErrorProcessor,
    ):  # fmt: skip
        opener.add_handler(handler())
    return opener


def _content_length(headers: Mapping[str, str]) -> int | None:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else None


def _content_range(headers: Mapping[str, str]) -> tuple[int | None, int | None]:
    """First byte and whole size by `Content-Range: bytes 5-9/10`; None for what it does not say."""
    match = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", headers.get("Content-Range", "").strip())
    if match is None:
        return None, None
    return int(match[1]), None if match[2] == "*" else int(match[2])


def _validator_file(part: Path) -> Path:
    return part.with_name(part.name + ".json")


def _write_validator(part: Path, url: str, headers: Mapping[str, str]) -> None:
    etag = headers.get("ETag", "")
    strong = etag and not etag.startswith("W/")  # a weak one does not promise equal bytes
    validator = etag if strong else headers.get("Last-Modified", "")
    part.unlink(missing_ok=True)  # first: a validator must never stand beside the bytes of another version
    _validator_file(part).write_text(json.dumps({"url": url, "validator": validator}), encoding="utf-8")


def _read_validator(part: Path, url: str) -> str:
    try:
        saved = json.loads(_validator_file(part).read_text(encoding="utf-8"))
        return saved["validator"] if saved["url"] == url else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _discard(part: Path) -> None:
    part.unlink(missing_ok=True)
    _validator_file(part).unlink(missing_ok=True)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
