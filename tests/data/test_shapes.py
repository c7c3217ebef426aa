"""The embedded data set: repeatable, exactly annotated, written all or nothing."""

from __future__ import annotations

import contextlib
import io
import json
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_cosine.data import shapes, shapes_render
from yolo_cosine.data.shapes_outlines import NAMES
from yolo_cosine.errors import UserError

SIZE = (192, 160)


@pytest.fixture(scope="module")
def pictures() -> list[shapes_render.Picture]:
    return [shapes_render.render(0, 0, index, SIZE) for index in range(250)]


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return shapes.generate(tmp_path_factory.mktemp("shapes") / "a", train=60, val=8).parent


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> None:
    """The standard data set with a handful of images."""
    monkeypatch.setitem(shapes.generate.__kwdefaults__, "train", 5)
    monkeypatch.setitem(shapes.generate.__kwdefaults__, "val", 2)


def contents(root: Path) -> dict[str, bytes]:
    return {str(file.relative_to(root)): file.read_bytes() for file in sorted(root.rglob("*")) if file.is_file()}


def test_two_generations_are_equal_bit_for_bit(small: Path, tmp_path: Path) -> None:
    again = shapes.generate(tmp_path / "b", train=60, val=8).parent
    assert contents(small) == contents(again)


def test_an_image_does_not_depend_on_how_many_there_are(small: Path, tmp_path: Path) -> None:
    fewer = shapes.generate(tmp_path / "b", train=9, val=3).parent
    both = contents(small)
    images = {name: data for name, data in contents(fewer).items() if name.endswith(".jpg")}
    assert len(images) == 12
    assert all(both[name] == data for name, data in images.items())
    long, short = (json.loads((root / "annotations/instances_train.json").read_text()) for root in (small, fewer))
    assert short["annotations"] == long["annotations"][: len(short["annotations"])]


@pytest.mark.parametrize("other", [(1, 0, 3), (0, 1, 3), (0, 0, 4)], ids=["seed", "split", "index"])
def test_seed_split_and_index_each_change_the_image(other: tuple[int, int, int]) -> None:
    one, two = shapes_render.render(0, 0, 3, SIZE).image, shapes_render.render(*other, SIZE).image
    assert one.shape != two.shape or not np.array_equal(one, two)


@pytest.mark.parametrize("index", range(12))  # there is a crowd in image 0
def test_boxes_are_tight_around_the_pixels_that_change_with_the_object(index: int) -> None:
    scene = shapes_render.compose(np.random.default_rng((7, index)), SIZE)
    boxes = iter(shapes_render.annotate(scene)[0])
    crowd = [k for k, layer in enumerate(scene.layers) if layer.crowd]
    groups = [[k] for k, layer in enumerate(scene.layers) if layer.kind >= 0 and not layer.crowd]
    if crowd:
        groups = sorted([*groups, crowd])
    for members in groups:
        painted = []
        for level in (0, 255):
            layers = list(scene.layers)
            for k in members:
                layers[k] = replace(layers[k], texture=np.full_like(layers[k].texture, level))
            painted.append(shapes_render.paint(replace(scene, layers=layers)))
        rows, columns = np.nonzero((painted[1] - painted[0]).max(2) > 0.5)
        x, y, width, height = next(boxes)
        assert (math.floor(x), math.floor(y)) == (columns.min(), rows.min())
        assert (math.ceil(x + width), math.ceil(y + height)) == (columns.max() + 1, rows.max() + 1)
    assert next(boxes, None) is None


def test_a_soft_edge_has_the_share_that_the_object_covers() -> None:
    """A square of 10.5 x 4.25 pixels on black: its painted sum is its area, its box is exact."""
    scene = shapes_render.Scene(np.zeros((20, 24, 3), np.float32), [], np.zeros((80, 96), np.uint8))
    scene.owner[8:25, 10:52] = 1
    window = (slice(0, 20), slice(0, 24))
    scene.layers.append(shapes_render.Layer(1, False, 17 * 42, window, np.full((20, 24, 3), 1, np.float32)))
    boxes, areas, classes, _ = shapes_render.annotate(scene)
    assert boxes.tolist() == [[2.5, 2.0, 10.5, 4.25]]
    assert areas.tolist() == [10.5 * 4.25]
    assert classes.tolist() == [1]
    assert shapes_render.paint(scene)[..., 0].sum() == pytest.approx(10.5 * 4.25, rel=1e-6)


def test_boxes_lie_inside_their_image_and_are_large_enough(pictures: list[shapes_render.Picture]) -> None:
    for picture in pictures:
        height, width = picture.image.shape[:2]
        assert (picture.boxes[:, :2] >= 0).all()
        assert (picture.boxes[:, :2] + picture.boxes[:, 2:] <= (width, height)).all()
        assert (picture.boxes[:, 2:] >= shapes_render.MIN_SIDE).all()
        assert (picture.areas <= picture.boxes[:, 2] * picture.boxes[:, 3]).all()


def test_the_set_has_what_a_trainer_must_cope_with(pictures: list[shapes_render.Picture]) -> None:
    counts = np.array([(~picture.crowd).sum() for picture in pictures])
    classes = np.concatenate([picture.classes for picture in pictures])
    shares = np.bincount(classes, minlength=len(NAMES)) / len(classes)
    sides = np.sqrt(np.concatenate([picture.boxes[:, 2:].prod(1) for picture in pictures]))
    assert shares.min() > 0.15 and shares.max() < 0.25
    assert counts.max() == shapes_render.OBJECTS[1] and 0 < (counts == 0).mean() < 0.1
    assert 0.005 < np.mean([picture.crowd.any() for picture in pictures]) < 0.07
    assert sides.min() < 25 and sides.max() > 75
    portraits = np.mean([picture.image.shape[0] > picture.image.shape[1] for picture in pictures])
    assert 0.2 < portraits < 0.5


def test_colour_does_not_tell_the_class(pictures: list[shapes_render.Picture]) -> None:
    colours: dict[int, list[np.ndarray]] = {kind: [] for kind in range(len(NAMES))}
    for picture in pictures:
        for (x, y, w, h), kind in zip(picture.boxes.astype(int), picture.classes, strict=True):
            colours[int(kind)].append(picture.image[y : y + h, x : x + w].mean((0, 1)))
    means = np.array([np.mean(values, 0) for values in colours.values()])
    spread = np.mean([np.std(values, 0).mean() for values in colours.values()])
    assert np.ptp(means, axis=0).max() < 0.5 * spread


def test_written_files_agree_with_pycocotools(small: Path) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(str(small / "annotations/instances_train.json"))
        annotations = coco.loadAnns(coco.getAnnIds(iscrowd=False))
        found = [{**{k: a[k] for k in ("image_id", "category_id", "bbox")}, "score": 0.9} for a in annotations]
        evaluation = COCOeval(coco, coco.loadRes(found), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)
    assert tuple(coco.getCatIds()) == shapes.CATEGORY_IDS
    for image in coco.loadImgs(coco.getImgIds()):
        decoded = cv2.imread(str(small / "images/train" / image["file_name"]))
        assert decoded.shape == (image["height"], image["width"], 3)


def test_ensure_makes_the_set_once(few: None, tmp_path: Path) -> None:
    yaml = shapes.ensure_shapes(tmp_path / "shapes")
    times = {file: file.stat().st_mtime_ns for file in yaml.parent.rglob("*")}
    assert shapes.ensure_shapes(tmp_path / "shapes") == yaml
    assert times == {file: file.stat().st_mtime_ns for file in yaml.parent.rglob("*")}


def test_ensure_makes_another_version_anew(few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = shapes.ensure_shapes(tmp_path / "shapes").parent
    (root / "images/train/stray.jpg").touch()
    monkeypatch.setitem(shapes.generate.__kwdefaults__, "seed", 1)
    shapes.ensure_shapes(root)
    assert not (root / "images/train/stray.jpg").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


@pytest.mark.parametrize("had_one", [False, True], ids=["first", "replacement"])
def test_an_interruption_leaves_no_half(
    few: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, had_one: bool
) -> None:
    root = tmp_path / "shapes"
    before = contents(shapes.ensure_shapes(root).parent) if had_one else {}
    write = shapes._write_split

    def interrupted(folder: Path, split: str, *rest: object) -> None:
        if split == "val":
            raise KeyboardInterrupt
        write(folder, split, *rest)

    monkeypatch.setattr(shapes, "_write_split", interrupted)
    monkeypatch.setitem(shapes.generate.__kwdefaults__, "seed", 1)
    with pytest.raises(KeyboardInterrupt):
        shapes.ensure_shapes(root)
    assert contents(root) == before
    assert [path.name for path in tmp_path.iterdir()] == (["shapes"] if had_one else [])


def test_many_may_ask_at_once(few: None, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda _: shapes.ensure_shapes(tmp_path / "shapes"), range(4)))
    assert set(answers) == {tmp_path / "shapes/shapes.yaml"}
    assert len(list((tmp_path / "shapes/images/train").iterdir())) == 5
    assert [path.name for path in tmp_path.iterdir()] == ["shapes"]


def test_a_folder_of_the_user_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"mine")
    with pytest.raises(UserError, match="is no generated data set; name a new or empty folder"):
        shapes.generate(tmp_path, train=1, val=1)
    assert contents(tmp_path) == {"photo.jpg": b"mine"}


@pytest.mark.parametrize("given", [{"train": 0}, {"val": 0}, {"size": (192, 8)}, {"seed": -1}])
def test_impossible_sets_are_refused(tmp_path: Path, given: dict) -> None:
    with pytest.raises(UserError, match=next(iter(given))):
        shapes.generate(tmp_path / "shapes", **given)


def test_where_the_standard_set_lives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.delenv("YOLO_COSINE_CACHE", raising=False)
    assert shapes.default_root() == tmp_path / "home/.cache/yolo-cosine/shapes"
    (tmp_path / "data").mkdir()
    (tmp_path / "yolo_cosine").mkdir()
    (tmp_path / "data/coco.yaml").touch()
    assert shapes.default_root() == tmp_path / "data/shapes"
    monkeypatch.setenv("YOLO_COSINE_CACHE", str(tmp_path / "elsewhere"))
    assert shapes.default_root() == tmp_path / "elsewhere/shapes"
