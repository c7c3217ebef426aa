"""What takes long to read is read once, and never believed when it should not be."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from yolo_cosine.data import coco, image_files, kept, voc, yolo
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.kept import Kept, file_of_columns, packed, read_columns, unpacked
from yolo_cosine.errors import UserError
from yolo_cosine.files import FileLock

OF = b"what it was made from"


@pytest.fixture(autouse=True)
def small_files_too(monkeypatch):
    """Keep whatever is read, and trust clocks that are as fine as those of this machine's disks."""
    monkeypatch.setattr(kept, "_LONG", 0)
    monkeypatch.setattr(kept, "_SETTLED", -(10**18))


# --- data sets with something wrong in each ---------------------------------------------------------------------------


def picture(path: Path, width: int = 40, height: int = 30) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((height, width, 3), 90, np.uint8))


def make_coco(root: Path) -> str:
    names = ["a.png", "sub/b.png", "gone.png", "torn.png", "c.png"]
    for name in names:
        if name != "gone.png":
            picture(root / "images" / name)
    (root / "images/torn.png").write_bytes(b"\x89PNG")
    images = [{"id": 7 - k, "file_name": name} for k, name in enumerate(names)]
    images[0] |= {"width": 40, "height": 30}
    rows = [
        {"id": 1, "image_id": 6, "category_id": 9, "bbox": [1, 2, 3.5, 4], "area": 9.5, "iscrowd": 1},
        {"id": 1, "image_id": 7, "category_id": 2, "bbox": [30, 2, 30, 4]},
        {"id": 2, "image_id": 6, "category_id": 2, "bbox": [1, 2, 0, 4], "area": 0},
    ]
    content = {"images": images, "annotations": rows, "categories": [{"id": 9, "name": "ö"}, {"id": 2, "name": "b"}]}
    (root / "annotations").mkdir()
    for split in ("train", "val"):
        (root / f"annotations/instances_{split}.json").write_text(json.dumps(content))
    return str(root)


def make_yolo(root: Path) -> str:
    for split, lines in (("train", "0 .5 .5 .2 .2\n1 .9 .5 .4 .2\n"), ("val", "1 .5 .5 .1 .1\n")):
        for name in ("a", "b", "c"):
            picture(root / f"images/{split}/{name}.png")
        (root / f"images/{split}/torn.png").write_bytes(b"\x89PNG")
        (root / f"images/{split}/other.gif").touch()
        (root / f"labels/{split}").mkdir(parents=True)
        (root / f"labels/{split}/a.txt").write_text(lines)
        (root / f"labels/{split}/b.txt").write_text("")
    (root / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [x, y]\n")
    return str(root / "data.yaml")


def make_voc(root: Path) -> str:
    for name, sized in (("a", True), ("b", False), ("gone", True)):
        if name != "gone":
            picture(root / f"images/{name}.png")
        size = "<size><width>40</width><height>30</height></size>" if sized else ""
        box = "<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>25.5</ymax></bndbox>"
        thing = f"<object><name>y</name><difficult>{name == 'a':d}</difficult>{box}</object>"
        (root / "xml").mkdir(exist_ok=True)
        (root / f"xml/{name}.xml").write_text(f"<annotation>{size}{thing * 2}</annotation>")
    part = "{images: images, annotations: xml}"
    (root / "data.yaml").write_text(f"format: voc\nnames: [x, y]\ntrain: {part}\nval: {part}\n")
    return str(root / "data.yaml")


MAKERS = {"coco": make_coco, "yolo": make_yolo, "voc": make_voc}


@pytest.fixture(params=MAKERS)
def data(request, tmp_path) -> str:
    root = tmp_path / "data"
    root.mkdir()
    return MAKERS[request.param](root)


def everything(dataset) -> list:
    """All that a data set tells, to be compared."""
    said = [dataset.name, dataset.categories, [(str(n), n.kind, n.places, n.boxes) for n in dataset.notes]]
    for index in dataset.splits.values():
        columns = (index.image_ids, index.sizes, index.offsets, index.boxes, index.classes, index.crowd, index.areas)
        assert not any(column.flags.writeable for column in columns)
        said += [index.source, index.root, index.files, [(c.dtype.str, c.shape, c.tobytes()) for c in columns]]
    return said


def listing(root: Path) -> dict[str, tuple[int, int]]:
    found = (Path(folder, name) for folder, _, names in os.walk(root) for name in names)
    return {str(path): (path.stat().st_size, path.stat().st_mtime_ns) for path in found}


@pytest.fixture
def read_again(monkeypatch):
    """The files that are read for what could have been kept."""
    read: list[str] = []

    def watched(module, name):
        really = getattr(module, name)

        def call(path, *args, **kwargs):
            read.append(Path(path).name)
            return really(path, *args, **kwargs)

        monkeypatch.setattr(module, name, call)

    for module, name in (
        (coco, "coco_columns"), (yolo, "read_labels"), (voc, "read_xml"), (image_files, "image_size"),
    ):  # fmt: skip
        watched(module, name)
    return read


def test_what_was_kept_is_what_was_read(data, tmp_path, read_again):
    before = listing(tmp_path / "data")
    plain = everything(open_dataset(data))
    assert plain[2] and not (tmp_path / "kept").exists()
    assert everything(open_dataset(data, folder=tmp_path / "kept")) == plain
    assert set(read_again) - {"torn.png"}
    read_again.clear()
    assert everything(open_dataset(data, folder=tmp_path / "kept")) == plain
    assert set(read_again) <= {"torn.png"}  # which the disk may have failed to read
    assert {path.suffix for path in (tmp_path / "kept").iterdir()} == {".columns", ".lock"}
    assert listing(tmp_path / "data") == before


def append(path: Path, text: str) -> None:
    path.write_text(path.read_text() + text)


def same_length(path: Path) -> None:
    """Another content of the same length, with the time of the old one."""
    time = path.stat().st_mtime_ns
    path.write_text(path.read_text().replace("3.5", "3.0").replace(".5 .5", ".4 .5").replace("25.5", "24.5"))
    os.utime(path, ns=(time, time))


CHANGES = {
    "coco": {
        "content": lambda root: append(root / "annotations/instances_train.json", " "),
        "same length": lambda root: same_length(root / "annotations/instances_train.json"),
        "image gone": lambda root: (root / "images/a.png").unlink(),
        "image there": lambda root: picture(root / "images/gone.png"),
        "image mended": lambda root: picture(root / "images/torn.png"),
        "image of another size": lambda root: picture(root / "images/c.png", 64, 48),
        "other folder": lambda root: shutil.copytree(root / "images", root / "train"),
    },
    "yolo": {
        "content": lambda root: append(root / "labels/train/a.txt", "1 .5 .5 .3 .3\n"),
        "same length": lambda root: same_length(root / "labels/train/a.txt"),
        "labels gone": lambda root: (root / "labels/train/b.txt").unlink(),
        "labels there": lambda root: (root / "labels/train/c.txt").write_text("0 .5 .5 .3 .3\n"),
        "image gone": lambda root: (root / "images/train/b.png").unlink(),
        "image there": lambda root: picture(root / "images/train/d.png"),
        "image of another size": lambda root: picture(root / "images/train/a.png", 64, 48),
        "names": lambda root: append(root / "data.yaml", "nc: 2\n"),
    },
    "voc": {
        "content": lambda root: append(root / "xml/a.xml", "\n"),
        "same length": lambda root: same_length(root / "xml/a.xml"),
        "file gone": lambda root: (root / "xml/b.xml").unlink(),
        "file there": lambda root: shutil.copy(root / "xml/b.xml", root / "xml/c.xml"),
        "image there": lambda root: picture(root / "images/gone.png"),
        "image of another size": lambda root: picture(root / "images/b.png", 64, 48),
        "edges from 0": lambda root: append(root / "data.yaml", "one_based: false\n"),
    },
}


@pytest.mark.parametrize(("form", "change"), [(form, change) for form in CHANGES for change in CHANGES[form]])
def test_a_change_is_seen(tmp_path, form, change):
    root = tmp_path / "data"
    root.mkdir()
    data = MAKERS[form](root)
    open_dataset(data, folder=tmp_path / "kept")
    CHANGES[form][change](root)
    assert everything(open_dataset(data, folder=tmp_path / "kept")) == everything(open_dataset(data))


def test_other_names_in_the_yaml_are_other_columns(tmp_path):
    (tmp_path / "data").mkdir()
    data = Path(make_voc(tmp_path / "data"))
    open_dataset(str(data), folder=tmp_path / "kept")
    data.write_text(data.read_text().replace("[x, y]", "[y, x]"))
    assert everything(open_dataset(str(data), folder=tmp_path / "kept")) == everything(open_dataset(str(data)))
    data.write_text(data.read_text().replace("[y, x]", "[x, z]"))
    with pytest.raises(UserError, match="'y' is not in `names`"):
        open_dataset(str(data), folder=tmp_path / "kept")


@pytest.mark.parametrize("damage", [b"", b"\0" * 500, "flipped", "short", "longer"])
def test_damage_is_read_over(data, tmp_path, damage, read_again):
    plain = everything(open_dataset(data, folder=tmp_path / "kept"))
    for path in (tmp_path / "kept").glob("*.columns"):
        content = path.read_bytes()
        middle = len(content) // 2
        path.write_bytes(
            damage if isinstance(damage, bytes)
            else content[:middle] if damage == "short"
            else content + b"\0" if damage == "longer"
            else content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        )  # fmt: skip
    read_again.clear()
    assert everything(open_dataset(data, folder=tmp_path / "kept")) == plain
    assert set(read_again) - {"torn.png"}
    read_again.clear()
    assert everything(open_dataset(data, folder=tmp_path / "kept")) == plain and set(read_again) <= {"torn.png"}


def test_a_header_that_the_disk_failed_to_read_is_read_again(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    data = make_yolo(tmp_path / "data")
    plain, really = everything(open_dataset(data)), image_files.image_size
    with monkeypatch.context() as failing:
        failing.setattr(image_files, "image_size", lambda path: None if path.endswith("b.png") else really(path))
        assert everything(open_dataset(data, folder=tmp_path / "kept")) != plain
    assert list((tmp_path / "kept").glob("sizes-*.columns"))
    assert everything(open_dataset(data, folder=tmp_path / "kept")) == plain


# --- what is kept, and when -------------------------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path) -> str:
    path = tmp_path / "long.json"
    path.write_text("content")
    return str(path)


def count(folder: Path | None, file: str, times: int, between=lambda: None) -> int:
    """How often columns are read that are asked for so many times."""
    reads = []

    def read():
        reads.append(1)
        between()
        return {"a": np.arange(3)}

    for _ in range(times):
        assert Kept(folder).columns("kind", "source", [file], ["fact"], read)["a"].tolist() == [0, 1, 2]
    return len(reads)


def test_a_file_is_read_once(tmp_path, file):
    assert count(tmp_path / "kept", file, 3) == 1
    assert count(None, file, 3) == 3


def test_what_is_read_fast_is_not_kept(tmp_path, file, monkeypatch):
    monkeypatch.setattr(kept, "_LONG", 100)
    assert count(tmp_path / "kept", file, 2) == 2 and not (tmp_path / "kept").exists()
    monkeypatch.setattr(kept, "_MANY", 1)
    assert count(tmp_path / "kept", file, 2) == 1


def test_a_file_that_was_written_a_moment_ago_is_not_believed_to_stay(tmp_path, file, monkeypatch):
    # a change within one tick of a coarse clock leaves no trace
    monkeypatch.setattr(kept, "_SETTLED", 2 * 10**9)
    assert count(tmp_path / "kept", file, 2) == 2


def test_a_file_that_changes_while_it_is_read_is_read_again(tmp_path, file):
    assert count(tmp_path / "kept", file, 2, between=lambda: append(Path(file), ".")) == 2
    assert count(tmp_path / "kept", file, 2) == 1


@pytest.mark.parametrize(
    "kind_source_fact", [("other", "source", "fact"), ("kind", "other", "fact"), ("kind", "source", "x")]
)
def test_other_columns_of_the_same_file(tmp_path, file, kind_source_fact):
    kind, source, fact = kind_source_fact
    assert count(tmp_path, file, 1) == 1
    found = Kept(tmp_path).columns(kind, source, [file], [fact], lambda: {"a": np.arange(5)})
    assert len(found["a"]) == 5


def test_new_columns_take_the_place_of_the_old(tmp_path, file):
    for _ in range(3):
        append(Path(file), ".")
        assert count(tmp_path / "kept", file, 1) == 1
    assert len(list((tmp_path / "kept").glob("*.columns"))) == 1


def test_relative_names_mean_other_files_elsewhere(tmp_path, monkeypatch):
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Path("a").write_text("content")
        assert count(tmp_path / "kept", "a", 2) == 1


def test_a_mistake_is_not_kept(tmp_path, file):
    def fails():
        raise UserError("wrong")

    with pytest.raises(UserError):
        Kept(tmp_path / "kept").columns("kind", "source", [file], ["fact"], fails)
    assert count(tmp_path / "kept", file, 2) == 1


def test_where_nothing_can_be_written_it_is_read_each_time(tmp_path, file):
    (tmp_path / "kept").write_text("in the way")
    assert count(tmp_path / "kept", file, 2) == 2
    assert (tmp_path / "kept").read_text() == "in the way"


def test_a_full_disk_leaves_nothing_behind(tmp_path, file, monkeypatch):
    def full(path, parts):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept, "write_flushed", full)
    assert count(tmp_path / "kept", file, 2) == 2
    assert [path.suffix for path in (tmp_path / "kept").iterdir()] == [".lock"]


def test_while_another_process_writes_it_nobody_else_does(tmp_path, file):
    assert count(tmp_path, file, 1) == 1
    (columns,) = tmp_path.glob("*.columns")
    columns.unlink()
    (tmp_path / f"{columns.stem}.0123.unfinished").write_text("a part")
    lock = FileLock(columns.with_suffix(".lock"))
    assert lock.take()
    assert count(tmp_path, file, 1) == 1 and not columns.exists()
    lock.release()  # as the system does with the lock of a process that was killed
    assert count(tmp_path, file, 2) == 1
    assert not list(tmp_path.glob("*.unfinished"))


# --- a file of columns ------------------------------------------------------------------------------------------------

COLUMN = st.one_of(
    arrays.arrays(dtype, arrays.array_shapes(min_dims=1, max_dims=2, min_side=0, max_side=5))
    for dtype in (np.int64, np.float64, np.bool_, np.uint8)
)


@settings(max_examples=50, deadline=None)
@given(columns=st.dictionaries(st.text(max_size=8), COLUMN, max_size=4), cut=st.data())
def test_a_file_holds_columns_and_every_other_file_holds_none(tmp_path_factory, columns, cut):
    path = tmp_path_factory.getbasetemp() / "any.columns"
    content = b"".join(file_of_columns(OF, columns))
    path.write_bytes(content)
    found = read_columns(path, OF)
    assert list(found) == list(columns)
    for name, column in columns.items():
        assert (found[name].dtype, found[name].shape) == (column.dtype, column.shape)
        assert found[name].tobytes() == column.tobytes() and not found[name].flags.writeable
    assert read_columns(path, OF + b".") is None
    place = cut.draw(st.integers(0, len(content) - 1))
    path.write_bytes(content[:place] + bytes([content[place] ^ (1 << place % 8)]) + content[place + 1 :])
    assert read_columns(path, OF) is None
    path.write_bytes(content[:place])
    assert read_columns(path, OF) is None
    assert read_columns(path.with_name("no.columns"), OF) is None


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec=None), max_size=5)))
def test_texts_come_back_the_same(texts):
    assert unpacked(packed(texts)) == texts


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["half \ud800", "\udcff from a file system"]])
def test_odd_texts_too(texts):
    assert unpacked(packed(texts)) == texts
