"""The event file of a run: TensorBoard's records, written as they come, and renewed where a run takes steps again."""

from __future__ import annotations

import io
import os
import re
import struct
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from pathlib import Path
from typing import BinaryIO

from google.protobuf.message import DecodeError
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.record_writer import RecordWriter

from yolo_cosine.files import replace_file
from yolo_cosine.sinks.appended import AppendedFile, News

_WAIT = 5.0  # seconds until what was logged is written at the latest; as often as TensorBoard looks


class EventLog:
    """The events of a run in `folder`, in one file that holds every tag and step once.

    Nothing is written before the first `renew`.

    Raises:
        OSError: if the folder cannot be written.
    """

    def __init__(self, folder: Path, news: list[News]) -> None:
        self._folder, self._news = Path(folder), news
        self._folder.mkdir(parents=True, exist_ok=True)
        (self._folder / ".writable").touch()
        (self._folder / ".writable").unlink()
        self._file: AppendedFile | None = None
        self._emptied: set[Path] = set()
        self._written = 0.0  # when, on the monotonic clock

    def renew(self, step: int, first: Iterable[Summary], at: int, keep: Callable[[Event], bool]) -> None:
        """Begin a new file with `first`, at step `at`, and those events of all files so far that `keep` holds on to.

        Older files are emptied, and deleted when this is closed: a TensorBoard that reads one of them meanwhile goes on
        to the new file, which tells it to forget all that came before. Where there is no room for a second copy, the old
        ones stay, and readers are told to forget what they have from `step` on.

        Raises:
            OSError: if more waits than may, and cannot be written.
        """
        old = sorted(self._folder.glob("*tfevents*"))
        path = self._next_path(old)
        head = [_record(event) for event in (_version(), _start(0))]
        about = [_record(_summary(summary, at)) for summary in first]
        waiting = b"".join(record for _, record in self._file.waiting) if self._file else b""
        self._written = time.monotonic()
        parts = chain(head, about, self._kept(old, waiting, keep))
        try:
            if self._file is None:
                replace_file(path, parts)
                self._file = AppendedFile(path, self._news)
            else:
                self._file.replace(parts, path)
        except OSError:
            if self._file is None:
                self._file = AppendedFile(path, self._news)
                self._put(head[:1])
            self._put([_record(_start(step)), *about])
            self.flush()
            return
        for each in old:
            with suppress(OSError):
                os.truncate(each, 0)
        self._emptied.update(old)

    def write(self, summary: Summary, step: int) -> None:
        """Log `summary`; it is on file within seconds, if others follow, or with the next `flush`."""
        if self._file is None:
            return
        self._put([_record(_summary(summary, step))])
        if time.monotonic() - self._written >= _WAIT:
            self.flush()

    def flush(self) -> None:
        """Write what was logged."""
        if self._file is not None:
            self._written = time.monotonic()
            self._file.flush()

    def sync(self) -> None:
        """Write what was logged and have the disk confirm it."""
        if self._file is not None:
            self._written = time.monotonic()
            self._file.sync()

    def close(self, forget: bool = True) -> None:
        """Write what was logged, and close.

        Args:
            forget: delete the files that were emptied. One that a reader is at must stay until it has gone on from there.

        Raises:
            OSError: if something could not be written.
        """
        if self._file is not None:
            self._file.close()
        for path in self._emptied if forget else ():
            with suppress(OSError):
                path.unlink()

    def _put(self, records: Iterable[bytes]) -> None:
        for record in records:
            self._file.put(record)

    def _next_path(self, old: list[Path]) -> Path:
        """A name behind those of all files so far, whatever the clock says, for TensorBoard reads in this order."""
        numbers = [int(found[1]) for path in old if (found := re.search(r"tfevents\.(\d+)", path.name))]
        number = max(int(time.time()), *(n + 1 for n in numbers), 0)
        return self._folder / f"events.out.tfevents.{number:010d}.{os.getpid()}"

    def _kept(self, old: list[Path], waiting: bytes, keep: Callable[[Event], bool]) -> Iterator[bytes]:
        """The records that `keep` holds on to, of all that a TensorBoard would show."""
        sources: list[Callable[[], BinaryIO]] = [partial(open, path, "rb") for path in old]
        sources.append(lambda: io.BytesIO(waiting))
        names = [*(path.name for path in old), "what waits"]
        restarts: list[tuple[int, int]] = []  # number of an event, and the step from which it makes earlier ones void
        ends = []  # of what is whole
        count = 0
        for opened, name in zip(sources, names, strict=True):
            end = 0
            with opened() as source:
                try:
                    for record, event in _records(source):
                        if event.session_log.status == SessionLog.START:
                            restarts.append((count, event.step))
                        end, count = end + len(record), count + 1
                except ValueError as error:
                    self._news.append(News(f"{name} {error} at byte {end}; what follows there is left out"))
            ends.append(end)
        count = 0
        for opened, end in zip(sources, ends, strict=True):
            with opened() as source:
                for record, event in _records(source, end):
                    void = any(event.step >= step for number, step in restarts if number > count)
                    if event.HasField("summary") and not void and keep(event):
                        yield record
                    count += 1


def _summary(summary: Summary, step: int) -> Event:
    return Event(wall_time=time.time(), step=step, summary=summary)


def _version() -> Event:
    return Event(wall_time=time.time(), file_version="brain.Event:2")


def _start(step: int) -> Event:
    """The event by which readers forget what they have from `step` on. The first of a run has no effect on some."""
    return Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))


def _record(event: Event) -> bytes:
    framed = io.BytesIO()
    RecordWriter(framed).write(event.SerializeToString())
    return framed.getvalue()


def _records(file: BinaryIO, end: int | None = None) -> Iterator[tuple[bytes, Event]]:
    """The records of a file and their events, up to byte `end`, which were checked before, or to the end of the file.

    Raises:
        ValueError: where the file is torn or damaged.
    """
    place = 0
    while end is None or place < end:
        head = file.read(12)
        if not head and end is None:
            return
        if len(head) < 12:
            raise ValueError("is torn")
        if struct.unpack("<I", head[8:])[0] != masked_crc32c(head[:8]):
            raise ValueError("is damaged")
        (length,) = struct.unpack("<Q", head[:8])
        data, foot = file.read(length), file.read(4)
        if len(data) < length or len(foot) < 4:
            raise ValueError("is torn")
        if end is None and struct.unpack("<I", foot)[0] != masked_crc32c(data):
            raise ValueError("is damaged")
        try:
            event = Event.FromString(data)
        except DecodeError:
            raise ValueError("is damaged") from None
        place += 12 + length + 4
        yield head + data + foot, event
