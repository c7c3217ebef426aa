"""Pictures that are none: what is told, what is left out, and when a run cannot begin."""

from __future__ import annotations

import shutil

import pytest

from yolo_cosine import train, val


def as_folder(path):
    path.unlink()
    path.mkdir()


SPOILT = {
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("404: not found"),
    "page": lambda path: path.write_text("<html>not found</html>"),
    "cut in the header": lambda path: path.write_bytes(path.read_bytes()[:30]),
    "folder": as_folder,
}


@pytest.mark.parametrize("cache", ["ram", "none"])
@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_all_images_unreadable(desk, split, spoil, cache):
    for path in desk.images(split):
        spoil(path)
    parts = [f"instances_{split}.json: none of the ", "can be read", f"images/{split}/000000.jpg", "mend the files"]
    desk.refuses_to_train(f"cache={cache}", parts=parts)


@pytest.mark.parametrize("split", ["train", "val"])
def test_all_images_unreadable_and_of_unknown_size(desk, split):
    content = desk.annotations(split)
    desk.annotate({**content, "images": [{k: i[k] for k in ("id", "file_name")} for i in content["images"]]}, split)
    for path in desk.images(split):
        path.write_bytes(b"")
    parts = [f"instances_{split}.json: ", "have a header that cannot be read (000000.jpg, ", "mend the files"]
    desk.refuses_to_train(parts=parts)


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize("folder", [True, False], ids=["with their folder", "the folder stays"])
def test_all_images_missing(desk, split, folder):
    shutil.rmtree(desk.folder / f"data/images/{split}")
    if not folder:
        (desk.folder / f"data/images/{split}").mkdir()
    parts = [
        f"instances_{split}.json: none of its ",
        "images is there, such as 000000.jpg",
        "looked in ",
        "name their folder",
    ]
    desk.refuses_to_train(parts=parts)


def test_faulty_images_and_boxes_are_warned_of_and_training_goes_on(desk):
    content = desk.annotations()
    first = next(a for a in content["annotations"] if not a["iscrowd"])
    first["bbox"] = [5.0, 5.0, 0.0, 0.0]
    content["annotations"][-1]["bbox"][2] = 900.0
    desk.annotate(content)
    images = desk.images()
    images[0].write_bytes(images[0].read_bytes()[:30])
    assert train.main(["--cfg", "run.yaml"]) == 0
    flat = " ".join(desk.capsys.readouterr().out.split())
    assert "1 box(es) without area inside the image: left out" in flat
    assert "over the image's edge: clipped" in flat
    assert "1 image(s) cannot be read" in flat and images[0].name in flat


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
def test_an_image_that_is_none_is_named_and_the_run_of_yesterday_stays(desk, yesterday, spoil):
    image = desk.images()[3]
    spoil(image)
    assert train.main(["--cfg", "run.yaml", "model=tiny.yaml"]) == 0
    flat = " ".join(desk.capsys.readouterr().out.split())
    assert "1 image(s) cannot be read" in flat and image.name in flat
    assert (desk.folder / "runs/run-2/weights/best.pt").exists()
    for path in yesterday.rglob("*"):
        copy = desk.earlier / path.relative_to(yesterday)
        assert copy.stat().st_mtime_ns == path.stat().st_mtime_ns
        assert path.is_dir() or copy.read_bytes() == path.read_bytes()


def test_unreadable_images_are_named_without_a_cache_too(desk):
    for split in ("train", "val"):
        desk.images(split)[1].write_bytes(b"junk")
    assert train.main(["--cfg", "run.yaml", "cache=none"]) == 0
    flat = " ".join(desk.capsys.readouterr().out.split())
    assert flat.count("1 image(s) cannot be read") == 2 and "the next image that can be read takes its place" in flat
    weights = desk.folder / "runs/run-2/weights/best.pt"
    for cache in ("ram", "none"):
        assert val.main(["--weights", str(weights), "--data", "data/shapes.yaml", f"cache={cache}"]) == 0
        error = desk.capsys.readouterr().err
        assert error.count("warning") == 1 and "1 image(s) cannot be read" in error
        assert "every object on it counts as not found" in error


def test_sizes_that_are_not_the_images_do_no_harm_where_they_are_not_needed(desk):
    """An image of two billion pixels' width by its annotation, and gone: nothing of this size is made for it."""
    content = desk.annotations("val")
    content["images"][0] |= {"width": 2**31 - 1, "height": 2**31 - 1}
    desk.annotate(content, "val")
    desk.images("val")[0].unlink()
    assert train.main(["--cfg", "run.yaml", "model=tiny.yaml"]) == 0
    assert "1 of 10 images are missing (000000.jpg" in " ".join(desk.capsys.readouterr().out.split())
