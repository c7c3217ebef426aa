"""Fetch a public data set by the `fetch:` list of its YAML: download, check, unpack, remember.

What was fetched is remembered in `.fetch` below the data set's folder, file by file with its size, so that a second
call finds a complete data set without its archives, and fetches again what someone deleted.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, ValidationInfo, field_validator

from yolo_cosine.config.load import read_yaml, validate
from yolo_cosine.data.places import expand_home, expand_variables, named_yaml, suggest_name
from yolo_cosine.errors import UserError
from yolo_cosine.fetch.download import Remote, download
from yolo_cosine.fetch.progress import Reporter
from yolo_cosine.fetch.unpack import is_archive, unpack


def _check_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 (asking for it is what checks it)
    except ValueError as error:
        raise ValueError(f"is no URL to fetch: {error}; write an http, https or file URL") from None
    if parts.scheme not in ("http", "https", "file") or (parts.scheme != "file" and not parts.netloc):
        raise ValueError("is no URL to fetch; write an http, https or file URL")
    if not url.isascii() or re.search(r"\s", url):
        raise ValueError("holds spaces or letters that a URL has not; percent-encode them, as in %20")
    if not re.fullmatch(r"[^/\\\0]+", _file_name(url)) or _file_name(url) in (".", ".."):
        raise ValueError("does not end in a file name")
    return url


def _file_name(url: str) -> str:
    return unquote(urlsplit(url).path.rpartition("/")[2])


def _check_below(folder: str) -> str:
    if PurePosixPath(folder).is_absolute() or ".." in PurePosixPath(folder).parts or "\\" in folder or ":" in folder:
        raise ValueError("is not below the data set's folder; write a relative path without ..")
    return folder


class FetchEntry(BaseModel):
    """One file of the `fetch:` list. A .zip, .tar, .tar.gz or .tgz is unpacked; any other file is kept as it is."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    url: Annotated[str, AfterValidator(_check_url)] = Field(description="http, https or file URL.")
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{64}$")] | None = Field(
        None, description="Checksum."
    )
    md5: Annotated[str, StringConstraints(pattern=r"^[0-9a-fA-F]{32}$")] | None = Field(
        None, description="Checksum, where no SHA-256 is published."
    )
    size: Annotated[int, Field(ge=1)] | None = Field(None, description="Bytes of the file.")
    to: Annotated[str, AfterValidator(_check_below)] = Field(".", description="Folder below `path` to put it in.")
    strip: Annotated[int, Field(ge=0)] = Field(0, description="Leading folders of an archive's paths to drop.")

    @field_validator("md5")
    @classmethod
    def _one_checksum(cls, md5: str | None, info: ValidationInfo) -> str | None:
        if md5 and info.data.get("sha256"):
            raise ValueError("stands beside a sha256; leave it out")
        return md5

    @property
    def remote(self) -> Remote:
        digest = ("sha256", self.sha256) if self.sha256 else ("md5", self.md5) if self.md5 else None
        return Remote(self.url, self.size, digest)


def find_data_yaml(name: str) -> Path:
    """The YAML of a data set: a path, or a name for `data/NAME.yaml` here or in this project's checkout.

    Raises:
        UserError: if there is none.
    """
    if name.endswith((".yaml", ".yml")) or os.sep in name:
        return Path(name)
    path = named_yaml(name)
    if path is None:
        raise UserError(f"{name}: there is no data set of this name; {suggest_name(name)}, or name a YAML file")
    return path


def read_entries(yaml: Path, content: Mapping[str, Any]) -> list[FetchEntry]:
    """The checked `fetch:` list of a data set's YAML.

    Raises:
        UserError: if there is none, or an entry is wrong.
    """
    entries = content.get("fetch")
    if entries is None:
        download_key = " (a `download:` script is not run)" if "download" in content else ""
        raise UserError(
            f"{yaml}: has no fetch: list, so there is nothing to fetch{download_key}; get the files by hand"
        )
    if not isinstance(entries, list) or not entries or not all(isinstance(entry, dict) for entry in entries):
        raise UserError(f"{yaml}: fetch: is not a list of entries; write `- url: https://...` below it")
    return [validate(entry, f"{yaml}: fetch.{k}", FetchEntry) for k, entry in enumerate(entries)]


def data_root(yaml: Path, content: Mapping[str, Any]) -> Path:
    """The folder that `path:` names, absolute: ${NAME} and ${NAME:-default} filled in, relative to the YAML's folder.

    Raises:
        UserError: if it is no text, or a variable without a default is not set.
    """
    text = content.get("path", ".")
    if not isinstance(text, str):
        raise UserError(f"{yaml}: path: {text!r} is no folder; write a path")

    return (yaml.absolute().parent / expand_home(expand_variables(text, f"{yaml}: path"), f"{yaml}: path")).resolve()


def fetch(yaml: Path, report: Reporter, root: Path | None = None, keep: bool = False) -> Path:
    """Bring everything in the `fetch:` list of `yaml` to its place and return the data set's folder.

    Args:
        root: the data set's folder, instead of what `path:` says.
        keep: keep the archives, in `.fetch` below the folder.

    Raises:
        UserError: if the YAML is wrong, a file cannot be fetched, is not the expected one, or cannot be unpacked.
    """
    content = read_yaml(yaml)
    entries = read_entries(yaml, content)
    root = data_root(yaml, content) if root is None else root.absolute()
    store = root / ".fetch"
    new = [folder for folder in (store, *store.parents) if not folder.exists()]
    try:
        store.mkdir(parents=True, exist_ok=True)
        for name, entry in _named(entries):
            if _is_complete(store, root, name, entry):
                report.say(f"{name}: already fetched")
            else:
                _fetch_one(store, root, name, entry, keep, report)
    except OSError as error:
        raise UserError(f"{root}: cannot be written: {error}; use --to DIR for another folder") from None
    finally:
        for folder in new:  # that nothing came into
            with contextlib.suppress(OSError):
                folder.rmdir()
    return root


def _named(entries: list[FetchEntry]) -> list[tuple[str, FetchEntry]]:
    """Entries with the names of their files; a name that was there before gets the entry's number."""
    names: list[str] = []
    for k, entry in enumerate(entries):
        name = _file_name(entry.url)
        names.append(f"{k}-{name}" if name in names else name)
    return list(zip(names, entries, strict=True))


def _fetch_one(store: Path, root: Path, name: str, entry: FetchEntry, keep: bool, report: Reporter) -> None:
    file, folder = store / name, root / entry.to
    download(entry.remote, file, report)
    if is_archive(name):
        files = unpack(file, folder, entry.strip, store, report)
        _write_record(store, name, entry, files)
        if not keep:
            file.unlink()
    else:
        target = folder / _file_name(entry.url)
        files = {target.name: file.stat().st_size}
        folder.mkdir(parents=True, exist_ok=True)
        os.replace(file, target)
        _write_record(store, name, entry, files)


def _record_file(store: Path, name: str) -> Path:
    return store / f"{name}.done.json"


def _write_record(store: Path, name: str, entry: FetchEntry, files: dict[str, int]) -> None:
    path = _record_file(store, name)
    text = json.dumps({"entry": entry.model_dump(), "files": files})
    path.with_suffix(".tmp").write_text(text, encoding="utf-8")
    os.replace(path.with_suffix(".tmp"), path)


def _is_complete(store: Path, root: Path, name: str, entry: FetchEntry) -> bool:
    """Whether this very entry was fetched and all of its files are there with their sizes."""
    try:
        record = json.loads(_record_file(store, name).read_text(encoding="utf-8"))
        if record["entry"] != entry.model_dump():
            return False
        return all((root / entry.to / path).stat().st_size == size for path, size in record["files"].items())
    except (OSError, ValueError, KeyError, TypeError):
        return False
