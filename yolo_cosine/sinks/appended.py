"""Files that grow by whole records, whatever becomes of the disk or the process."""

from __future__ import annotations

import errno
import os
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from yolo_cosine.files import replace_file

_UNSYNCABLE = {errno.EINVAL, errno.ENOTSUP}  # a place that knows no fsync, as some network folders


@dataclass(frozen=True)
class News:
    """What a sink has to tell of itself. It puts it on its list `news`, and the hub passes it on as a warning."""

    text: str
    incident: str | None = None  # the kind, if it is one


class AppendedFile:
    """A file to which records are appended, each of them whole or not at all.

    A record reaches the kernel at once, so that a process that is killed loses none. One that cannot be written whole (the
    disk is full, a quota or a limit is reached, a device fails) leaves no part behind: it and what follows wait in
    memory, in order, and are tried again at every turn. Beginning and end of such a time are told in `news`.

    An interrupt may come anywhere: a record has its place in the file from the start, so that at worst the same bytes are
    written to the same place again. There may be one writer only.

    Args:
        size: bytes of the file that are good; what follows is cut off. All of it by default.
        most: bytes that may wait before this gives up.

    Raises:
        OSError: if the file cannot be opened.
    """

    def __init__(self, path: Path, news: list[News], size: int | None = None, most: int = 64 * 2**20) -> None:
        self.path = Path(path)
        self._news, self._most = news, most
        self._file = _open(self.path)
        if size is not None:
            os.ftruncate(self._file, size)
        # Offset and bytes. The first is on file already, and the others wait.
        self._records = deque([(os.fstat(self._file).st_size, b"")])
        self._refused: str | None = None  # why the last write failed
        self._unsynced: str | None = None  # why the last fsync did
        self._closed = False

    @property
    def waiting(self) -> list[tuple[int, bytes]]:
        """The records that are not on file yet, each with its offset."""
        return list(self._records)[1:]

    @property
    def behind(self) -> bool:
        """Whether a record is not on file yet."""
        return len(self._records) > 1

    def put(self, record: bytes) -> None:
        """Let `record` wait for the next flush."""
        offset, last = self._records[-1]
        self._records.append((offset + len(last), record))

    def append(self, record: bytes) -> None:
        """Write `record`, after all that waits.

        Raises:
            OSError: if more than `most` bytes wait and cannot be written.
        """
        self.put(record)
        self.flush()

    def flush(self) -> None:
        """Write what waits, as far as that can be done now.

        Raises:
            OSError: if more than `most` bytes wait and cannot be written.
        """
        try:
            while len(self._records) > 1:
                offset, record = self._records[1]
                self._write(offset, record)
                self._records.popleft()
        except OSError as error:
            with suppress(OSError):  # a part that stays is overwritten by the whole
                os.ftruncate(self._file, self._size)
            self._now(_reason(error), self._unsynced)
            if self._end - self._size > self._most:
                text = f"{_reason(error)}, and more than {self._most / 2**20:.3g} MiB wait for room"
                raise OSError(error.errno, text) from None
        else:
            self._now(None, self._unsynced)

    def sync(self) -> None:
        """Write what waits and have the disk confirm it.

        Raises:
            OSError: if more than `most` bytes wait and cannot be written.
        """
        self.flush()
        try:
            os.fsync(self._file)
        except OSError as error:
            self._now(self._refused, None if error.errno in _UNSYNCABLE else _reason(error))
        else:
            self._now(self._refused, None)

    def replace(self, parts: Iterable[bytes], path: Path | None = None) -> None:
        """Let `parts` take the place of the whole content, what waits included; at `path` if given, where it goes on.

        A process that is killed leaves the old content or the new. An old file under another name is left alone.

        Raises:
            OSError: if there is no room for it; all is as it was then.
        """
        path = path or self.path
        replace_file(path, parts)
        old, self._file, self.path = self._file, _open(path), path
        self._records = deque([(os.fstat(self._file).st_size, b"")])
        os.close(old)
        self._now(None, None)

    def rewrite_from(self, start: int, tail: list[bytes]) -> None:
        """Let the records `tail` take the place of all from byte `start` on, what waits included.

        A process that is killed leaves the old content or the new, unless there is no room for both: then it is done in
        place.

        Raises:
            OSError: if more than `most` bytes wait and cannot be written, or the file cannot even be cut.
        """
        tail = [record for offset, record in self.waiting if offset < start] + tail
        start = min(start, self._size)
        try:
            self.replace(chain(_first_bytes(self.path, start), tail))
        except OSError:
            os.ftruncate(self._file, start)
            self._records = deque([(start, b"")])
            for record in tail:
                self.put(record)
            self.flush()

    def close(self) -> None:
        """Write what waits, and close, once.

        Raises:
            OSError: if something could not be written or confirmed.
        """
        if self._closed:
            return
        self._closed = True
        try:
            self.sync()
        finally:
            os.close(self._file)
        if self._refused or self._unsynced:
            left = f"; {self._end - self._size:,} bytes are lost" if self._refused else ""
            raise OSError(f"{self._refused or self._unsynced}{left}")

    def __del__(self) -> None:
        if not getattr(self, "_closed", True):  # what waits is lost, as with a process that is killed
            os.close(self._file)

    @property
    def _size(self) -> int:
        offset, last = self._records[0]
        return offset + len(last)

    @property
    def _end(self) -> int:
        offset, last = self._records[-1]
        return offset + len(last)

    def _write(self, offset: int, record: bytes) -> None:
        os.lseek(self._file, offset, os.SEEK_SET)
        rest = memoryview(record)
        while rest:
            written = os.write(self._file, rest)
            if not written:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]

    def _now(self, refused: str | None, unsynced: str | None) -> None:
        """Take down how writing goes, and tell if that has changed between well and badly."""
        before, after = self._refused or self._unsynced, refused or unsynced
        self._refused, self._unsynced = refused, unsynced
        if after and not before:
            text = f"cannot be written: {after}; what the run tells waits in memory until there is room"
            self._news.append(News(text, "disk"))
        elif before and not after:
            self._news.append(News("can be written again, and nothing is missing"))


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)


def _first_bytes(path: Path, count: int) -> Iterator[bytes]:
    with open(path, "rb") as file:
        while count and (part := file.read(min(count, 2**20))):
            count -= len(part)
            yield part


def _reason(error: OSError) -> str:
    return error.strerror or str(error)
