"""A user's desk: a small data set, a configuration, and a run of yesterday beside which a mistake is made.

Every mistake ends in a message that names place, value, rule and remedy, in exit code 2 and without a traceback, and
changes nothing: no file is made, and the run of yesterday has the same bytes and times as before.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TINY
from yolo_cosine import train

RUN = """\
data: data/shapes.yaml
model: yolo11n.yaml
imgsz: 64
batch: 4
epochs: 1
warmup_epochs: 0
plots: false
tensorboard: false
predictions: false
"""


def look(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder: when it was changed, and what it holds."""
    return {
        str(path.relative_to(folder)): (
            path.lstat().st_mtime_ns,
            path.read_bytes() if path.is_file() and os.access(path, os.R_OK) else b"",
        )
        for path in sorted(folder.rglob("*"))
    }


@dataclass(frozen=True)
class Desk:
    """The current folder, with `run.yaml`, `tiny.yaml`, `data/` and the earlier run in `runs/run`."""

    folder: Path
    capsys: pytest.CaptureFixture[str]

    @property
    def earlier(self) -> Path:
        return self.folder / "runs/run"

    def write(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    def annotations(self, split: str = "train") -> dict[str, Any]:
        return json.loads((self.folder / f"data/annotations/instances_{split}.json").read_text())

    def annotate(self, content: Any, split: str = "train") -> None:
        self.write(f"data/annotations/instances_{split}.json", json.dumps(content))

    def images(self, split: str = "train") -> list[Path]:
        return sorted((self.folder / f"data/images/{split}").iterdir())

    def refuses(self, main: Callable[[Sequence[str]], int], arguments: Iterable[str], parts: Iterable[str]) -> str:
        """Run a command that is to find a mistake; what it said."""
        before = look(self.folder)
        try:
            code = main([str(argument) for argument in arguments])
        except SystemExit as ended:  # argparse's
            code = ended.code
        said, error = self.capsys.readouterr()
        assert code == 2, error or said
        assert error.startswith(("error: ", "usage: ")), error
        assert "Traceback" not in said + error
        for part in parts:
            assert part in error
        after = look(self.folder)
        assert [name for name in {*before, *after} if before.get(name) != after.get(name)] == []
        return error

    def refuses_to_train(self, *overrides: str, parts: Iterable[str], config: str = "run.yaml") -> str:
        return self.refuses(train.main, ["--cfg", config, *overrides], parts)


@pytest.fixture(scope="session")
def yesterday(tmp_path_factory, small_shapes) -> Path:
    """A finished run of six steps, saved after three and after six."""
    folder = tmp_path_factory.mktemp("yesterday")
    (folder / "run.yaml").write_text(RUN)
    overrides = [f"model={TINY}", f"data={small_shapes}", f"runs={folder / 'runs'}"]
    assert train.main(["--cfg", str(folder / "run.yaml"), *overrides, "checkpoint.every=3it"]) == 0
    return folder / "runs/run"


@pytest.fixture
def desk(small_shapes, yesterday, tmp_path, monkeypatch, capsys) -> Desk:
    monkeypatch.chdir(tmp_path)
    shutil.copytree(small_shapes.parent, tmp_path / "data")
    shutil.copytree(yesterday, tmp_path / "runs/run")
    desk = Desk(tmp_path, capsys)
    desk.write("run.yaml", RUN)
    desk.write("tiny.yaml", TINY.read_text())
    capsys.readouterr()
    return desk
