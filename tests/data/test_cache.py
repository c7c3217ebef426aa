from __future__ import annotations

import errno
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from yolo_cosine.config.schema import DataConfig
from yolo_cosine.data import cache
from yolo_cosine.data.cache import UNREADABLE_IN_TRAINING, ImageStore, fitted_size, read_image
from yolo_cosine.data.index import Category, build_index
from yolo_cosine.engine.inputs import open_store
from yolo_cosine.errors import TrainingFailed, UserError

CATEGORIES = (Category(1, "a"),)
N = 8
CACHES = pytest.mark.parametrize("kept", ["ram", "disk", "none"])


@pytest.fixture
def index(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # runs/.images is there
    for i in range(N):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((40, 60, 3), 20 * i, dtype=np.uint8))
    return build_index("test", tmp_path, [(i, f"{i}.png", 60, 40) for i in range(N)], [], CATEGORIES)


class Disk:
    """Reads of image `i` fail `failures[i]` times with an error, then work; `reads` counts them."""

    def __init__(self, failures, error):
        self.failures, self.error, self.reads = failures, error, Counter()

    def read_bytes(self, path):
        i = int(path.stem)
        self.reads[i] += 1
        if self.reads[i] <= self.failures.get(i, 0):
            raise self.error
        return path.open("rb").read()


@pytest.fixture
def disk(monkeypatch):
    monkeypatch.setattr(cache, "_PAUSES", (0.0, 0.001, 0.002))

    def make(failures, error=None):
        made = Disk(failures, error or OSError(errno.EIO, "Input/output error"))
        monkeypatch.setattr(Path, "read_bytes", lambda path: made.read_bytes(path))
        return made

    return make


HICCUPS = [
    OSError(errno.EIO, "Input/output error"),
    OSError(errno.ESTALE, "Stale file handle"),
    TimeoutError("timed out"),
]


@CACHES
@pytest.mark.parametrize("error", HICCUPS)
def test_a_disk_that_hiccups_is_asked_again(index, kept, error, disk):
    reads = disk({2: 3, 5: 1}, error).reads
    store = ImageStore(index, 60, kept, 1)
    assert [int(store[i].max()) for i in range(N)] == [20 * i for i in range(N)]
    assert store.unreadable == set() and reads == Counter({i: 1 for i in range(N)} | {2: 4, 5: 2})


@CACHES
def test_what_was_unreadable_once_stays_so(index, kept, disk):
    """Also where the disk is well again: a run must not change under way."""
    reads = disk({2: 4}).reads
    store = ImageStore(index, 60, kept, 1)
    for _ in range(3):
        assert (store[2] == 114).all() and store[2].shape == (40, 60, 3)
        assert store.readable(2)[0] == 3
    assert store.unreadable == {2} and reads[2] == 4
    assert ImageStore(index, 60, kept, 1).readable(2)[0] == 2  # the next run finds it well


@CACHES
@pytest.mark.parametrize("error", [FileNotFoundError(), NotADirectoryError(), IsADirectoryError(), PermissionError()])
def test_a_file_that_is_not_there_is_asked_for_once(index, kept, error, disk):
    reads = disk({2: 99}, error).reads
    store = ImageStore(index, 60, kept, 1)
    assert store.readable(2)[0] == 3 and reads[2] == 1


@CACHES
@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_file_that_is_no_image_is_asked_for_once(index, kept, content, disk):
    index.path(2).write_bytes(content)
    reads = disk({}).reads
    store = ImageStore(index, 60, kept, 1)
    assert store.readable(2)[0] == 3 and reads[2] == 1


@CACHES
def test_a_disk_that_fails_for_every_image_ends_the_run(index, kept, disk, monkeypatch):
    """Else all images would be called unreadable one by one, or all but those that were read before."""
    monkeypatch.setattr(cache, "_DEAD", 4)
    disk({i: 99 for i in range(2, N)})
    message = r"test: 4 images, one after another, could not be read in 4 tries each, the last one .*5.png: Input/output error"
    with pytest.raises(TrainingFailed, match=message):
        store = ImageStore(index, 60, kept, 1)
        store.readable(0)
        store.readable(2)


@CACHES
def test_single_bad_sectors_do_not(index, kept, disk, monkeypatch):
    monkeypatch.setattr(cache, "_DEAD", 2)
    disk({i: 99 for i in range(1, N, 2)})
    store = ImageStore(index, 60, kept, 1)
    assert [store.readable(i)[0] for i in range(N)] == [0, 2, 2, 4, 4, 6, 6, 0]
    assert store.unreadable == {1, 3, 5, 7}


def test_a_read_that_breaks_off_is_no_short_file(tmp_path, monkeypatch):
    """numpy would take what came before for the file, and OpenCV make a half grey picture of it."""
    if not Path("/proc/self/mem").exists():
        pytest.skip("needs a file that opens and then fails")
    monkeypatch.setattr(cache, "_PAUSES", ())
    with pytest.raises(OSError, match="Input/output"):
        read_image(build_index("t", Path("/proc/self"), [(1, "mem", 60, 40)], [], CATEGORIES), 0, 60)


@CACHES
@pytest.mark.parametrize("bad", [[0], [7], [3, 4, 5], [0, 1, 6, 7], [0, 1, 2, 3, 4, 6, 7]])
def test_the_next_that_can_be_read_around_the_end_of_the_list(index, kept, bad):
    for i in bad:
        index.path(i).unlink()
    store = ImageStore(index, 60, kept, 1)
    for _ in range(2):  # the second time from what it knows
        for i in [*range(N), *reversed(range(N))]:
            expected = next(k % N for k in range(i, i + N) if k % N not in bad)
            found, image = store.readable(i)
            assert found == expected and (image == 20 * expected).all()


def test_an_image_that_is_lost_under_way_is_replaced_from_then_on(index):
    store = ImageStore(index, 60, "none", 1)
    index.path(3).unlink()
    assert store.readable(3)[0] == 4
    index.path(4).unlink()
    assert store.readable(3)[0] == store.readable(4)[0] == 5 and store.unreadable == {3, 4}


@CACHES
def test_the_news_name_each_image_once_and_what_becomes_of_it(index, kept):
    for i in (0, 1):
        index.path(i).write_bytes(b"no image")
    told = []
    store = open_store(
        index, DataConfig(cache=kept, imgsz=60), 60, lambda *said: told.append(said), fate=UNREADABLE_IN_TRAINING
    )
    files = f"{index.path(0)}, {index.path(1)}"
    assert told == [
        (f"test: 2 image(s) cannot be read: {files}; the next image that can be read takes its place", True)
    ]
    assert store.fate == UNREADABLE_IN_TRAINING and store.news() is None and store.untold() == []


@CACHES
def test_a_split_of_unreadable_images_is_a_mistake(index, kept):
    for i in range(N):
        index.path(i).write_bytes(b"no image")
    with pytest.raises(UserError, match=r"test: none of the 8 images can be read \(.*0.png, .*and 5 more\); mend"):
        open_store(index, DataConfig(cache=kept, imgsz=60), 60, lambda *said: None, fate=UNREADABLE_IN_TRAINING)


@pytest.mark.parametrize(
    ("width", "height", "expected"),
    [(640, 480, (320, 240)), (333, 500, (214, 320)), (10, 5000, (1, 320)), (32, 32, (320, 320))],
)
def test_fitted_size_is_ultralytics(width, height, expected):
    assert fitted_size(width, height, 320) == expected


@pytest.mark.parametrize(("annotated", "turned"), [((40, 80), True), ((80, 40), False)])
def test_exif_orientation_follows_the_annotations(tmp_path, annotated, turned):
    from PIL import Image

    picture = np.zeros((40, 80, 3), np.uint8)  # stored 80 wide, 40 high, left half red
    picture[:, :40, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    Image.fromarray(picture).save(tmp_path / "a.jpg", exif=exif, quality=95)
    index = build_index("t", tmp_path, [(1, "a.jpg", *annotated)], [], CATEGORIES)
    image = read_image(index, 0, 80)
    assert image.shape[:2] == ((80, 40) if turned else (40, 80))
    red = image[:20] if turned else image[:, :20]
    assert red[..., 0].mean() > 200
