"""Invariants of the repository itself."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest

from tests.conftest import LONGEST
from yolo_cosine.config.load import json_schema
from yolo_cosine.data.yaml_forms import yaml_splits

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "yolo_cosine"
MODULES = sorted(PACKAGE.rglob("*.py"))

# Which rooms each room may import from. Data flows one way:
# config -> {data, model, schedules} -> engine -> events -> {sinks, report}.
ALLOWED = {
    "__init__": set(),
    "errors": set(),
    "files": set(),
    "events": set(),
    "processor": set(),
    "kernels": {"processor"},
    "config": {"errors"},
    "schedules": {"config", "errors"},
    "integrations": {"config", "engine", "errors", "schedules"},
    "data": {"config", "errors", "files", "kernels", "processor"},
    "fetch": {"config", "data", "errors"},
    "convert": {"data", "errors"},
    "doctor": {"data", "errors", "processor"},
    "model": {"config", "errors", "kernels"},
    "evaluate": {"config", "data", "engine", "events", "image_bootstrap", "model"},
    "image_bootstrap": set(),
    "engine": {
        "config", "data", "errors", "evaluate", "events", "files", "model", "processor", "report", "schedules", "sinks",
    },
    "sinks": {"errors", "events", "files"},
    "report": {"errors", "events", "files", "sinks"},
    "ablation": {
        "config", "data", "engine", "errors", "events", "files", "model", "processor", "report", "schedules", "sinks",
    },
}  # fmt: skip
# These put the rooms together, and may import from all of them.
ENTRY_POINTS = {"ablate", "cli", "dataset", "find_lr", "preview", "train", "val"}


def imported_rooms(path: Path) -> set[str]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # the names of the types that a room is handed are no import of the room that makes them
    typing = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    nodes = [n for n in ast.walk(tree) if not any(n in block.body for block in typing)]
    names = [n.module for n in nodes if isinstance(n, ast.ImportFrom) and n.module]
    names += [a.name for n in nodes if isinstance(n, ast.Import) for a in n.names]
    names += [
        f"yolo_cosine.{a.name}"
        for n in nodes
        if isinstance(n, ast.ImportFrom) and n.module == "yolo_cosine"
        for a in n.names
    ]
    return {name.split(".")[1] for name in names if name.startswith("yolo_cosine.")}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    if room not in ENTRY_POINTS:
        assert imported_rooms(path) <= ALLOWED[room] | {room}


def test_only_one_room_knows_ultralytics_modules():
    knowing = {
        str(p.relative_to(PACKAGE))
        for p in MODULES
        if re.search(r"^\s*(from|import) ultralytics\.nn", p.read_text(), re.M)
    }
    assert knowing == {"model/detector.py", "model/inference.py", "model/weights.py"}


def test_nothing_imports_torchvision():
    assert not [p for p in MODULES if re.search(r"^\s*(from|import) torchvision", p.read_text(), re.M)]


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_every_public_name_is_documented(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree) or not tree.body, "the module"
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            documented = ast.get_docstring(node) or (isinstance(node, ast.ClassDef) and node.bases)
            assert documented, node.name


def test_the_committed_schema_is_that_of_the_types():
    assert json.loads((ROOT / "configs/schema.json").read_text()) == json.loads(json.dumps(json_schema()))


@pytest.mark.parametrize("path", sorted(ROOT.glob("data/*.yaml")), ids=lambda p: p.name)
def test_every_shipped_data_yaml_is_understood_or_says_how_to_get_the_data(path, monkeypatch):
    from yolo_cosine.errors import UserError

    monkeypatch.delenv("YOLO_COSINE_REAL_DATA", raising=False)
    try:
        assert {"train", "val"} <= set(yaml_splits(path))
    except UserError as error:  # the data is not here
        assert "there is no such folder" in str(error)


def test_the_readme_tells_the_truth_about_files():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for name in re.findall(r"(?:configs|scripts|data)/[\w.-]+\.(?:yaml|sh|py|json)", text):
        assert (ROOT / name).exists(), name
    tour = text[text.index("## Around it") :]
    for folder in (p.name for p in PACKAGE.iterdir() if p.is_dir() and any(p.glob("*.py"))):
        assert f"  {folder}/" in tour, folder
    for module in (p.name for p in PACKAGE.glob("*.py") if p.name != "__init__.py"):
        assert module in tour, module


def test_the_repository_names_no_place_of_its_making():
    for path in [
        *ROOT.glob("*.md"),
        *MODULES,
        *ROOT.glob("configs/*"),
        *ROOT.glob("data/*.yaml"),
        *ROOT.glob("scripts/*"),
    ]:
        if path.is_file():
            assert not re.search(r"/work/|/root/|/home/\w", path.read_text(encoding="utf-8")), path


def test_the_test_files_that_come_first_are_there():
    assert [name for name in LONGEST if not (ROOT / "tests" / name).is_file()] == []
