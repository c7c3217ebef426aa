"""Decoded images in a file that processes share: the same bits, one builder, and nothing half-written that is believed."""

from __future__ import annotations

import errno
import os
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yolo_cosine.config.schema import AugmentConfig, DataConfig, RunConfig, ValConfig
from yolo_cosine.data import cache, shared
from yolo_cosine.data.cache import ImageStore, read_image
from yolo_cosine.data.dataset import open_dataset
from yolo_cosine.data.index import Category, build_index, trainable_boxes
from yolo_cosine.data.loader import TrainLoader, eval_batches
from yolo_cosine.data.mapped import open_mapped, write_mapped
from yolo_cosine.data.places import images_folder
from yolo_cosine.data.workers import ahead
from yolo_cosine.engine.inputs import open_store
from yolo_cosine.errors import TrainingFailed, UserError

ROOT = Path(__file__).parents[2]
N, SIZE = 12, 60


def index_of(folder, n=N, annotated=(80, 40)):
    images = [(i, f"{i}.png", *annotated) for i in range(n)]
    return build_index("test", folder, images, [(0, 0, (5.0, 5.0, 20.0, 20.0), 400.0, False)], (Category(1, "a"),))


def picture(folder, i, height=40, width=80):
    pixels = np.random.default_rng(i).integers(0, 255, (height, width, 3), dtype=np.uint8)
    assert cv2.imwrite(str(folder / f"{i}.png"), pixels)


@pytest.fixture
def index(tmp_path):
    (tmp_path / "images").mkdir()
    for i in range(N):
        picture(tmp_path / "images", i, *[(40, 80), (80, 40), (50, 50), (7, 90)][i % 4])
    return index_of(tmp_path / "images")


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "runs" / ".images"


@pytest.fixture
def reads(monkeypatch):
    """How often each image was decoded."""
    counted: Counter[int] = Counter()

    def read(index, i, size):
        counted[i] += 1
        return read_image(index, i, size)

    monkeypatch.setattr(cache, "read_image", read)
    return counted


def opened(index, folder, kept="disk", size=SIZE, **more):
    return ImageStore(index, size, kept, 2, folder=folder, **more)


def same(a, b):
    """Whether two stores hold the same bits, and have the same images for unreadable."""
    n = len(a.index)
    equal = all(np.array_equal(a[i], b[i]) and a[i].dtype == b[i].dtype == np.uint8 for i in range(n))
    others = all(a.readable(i)[0] == b.readable(i)[0] for i in range(n))
    return equal and others and a.unreadable == b.unreadable


def files(folder, suffix="images"):
    return sorted(folder.glob(f"*.{suffix}"))


# --- the file


def test_a_file_holds_what_was_written(tmp_path):
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in [(3, 5, 3), (1, 1, 3), (7, 2, 3)]]
    images.insert(1, None)
    write_mapped(tmp_path / "a", "of", images)
    mapped = open_mapped(tmp_path / "a", "of", 4)
    assert len(mapped) == 4 and mapped.unreadable == [1] and mapped[1] is None
    assert all(np.array_equal(mapped[i], images[i]) for i in (0, 2, 3))
    assert type(mapped[0]) is np.ndarray and not mapped[0].flags.writeable


def test_images_need_not_lie_in_memory_as_in_the_file(tmp_path):
    image = np.arange(60, dtype=np.uint8).reshape(3, 4, 5).transpose(2, 1, 0)
    write_mapped(tmp_path / "a", "of", [image, image[:, ::-1]])
    mapped = open_mapped(tmp_path / "a", "of", 2)
    assert np.array_equal(mapped[0], image) and np.array_equal(mapped[1], image[:, ::-1])


@pytest.mark.parametrize("images", [[], [None], [None, None]])
def test_a_file_without_a_pixel(tmp_path, images):
    write_mapped(tmp_path / "a", "of", images)
    mapped = open_mapped(tmp_path / "a", "of", len(images))
    assert mapped.unreadable == list(range(len(images)))


def test_what_is_not_whole_is_not_opened(tmp_path):
    """Every length but the right one, every flipped byte behind the pixels, another digest and another number."""
    path = tmp_path / "a"
    write_mapped(path, "of", [np.zeros((2, 2, 3), np.uint8), None])
    whole = path.read_bytes()
    assert open_mapped(path, "of", 2) is not None
    assert open_mapped(path, "other", 2) is None
    assert [open_mapped(path, "of", count) for count in (0, 1, 3, 10**6)] == [None] * 4
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        assert open_mapped(path, "of", 2) is None, length
        path.write_bytes(whole[len(whole) - length :])
        assert open_mapped(path, "of", 2) is None, length
    for place in range(12, len(whole)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
        assert open_mapped(path, "of", 2) is None, place
    path.write_bytes(whole + b"\0")
    assert open_mapped(path, "of", 2) is None
    assert open_mapped(tmp_path, "of", 2) is None and open_mapped(tmp_path / "nothing", "of", 2) is None


def test_nothing_is_left_of_a_file_whose_images_fail(tmp_path):
    def images():
        yield np.zeros((2, 2, 3), np.uint8)
        raise TrainingFailed("no disk")

    with pytest.raises(TrainingFailed, match="no disk"):
        write_mapped(tmp_path / "a", "of", images())
    assert list(tmp_path.iterdir()) == []


# --- the same bits


def test_the_images_are_those_of_memory_and_of_the_files(index, folder):
    built, again = opened(index, folder), opened(index, folder)
    ram, none = opened(index, folder, "ram"), opened(index, folder, "none")
    assert built.cached and again.cached and ram.cached and not none.cached
    assert same(built, ram) and same(again, ram) and same(again, none)
    assert built.bytes == ram.bytes


@pytest.mark.parametrize("split", ["train", "val"])
def test_embedded_shapes(small_shapes, folder, split):
    index = open_dataset(str(small_shapes)).splits[split]
    for size in (64, 100):
        assert same(opened(index, folder, size=size), opened(index, folder, "ram", size))
        assert same(opened(index, folder, size=size), opened(index, folder, "none", size))
    assert len(files(folder)) == 2


@pytest.mark.parametrize("name", ["bccd", "tiny_coco"])
def test_real_photographs(real_data, folder, name):
    for index in open_dataset(str(real_data / name)).splits.values():
        ram = opened(index, folder, "ram", 128)
        assert same(opened(index, folder, size=128), ram) and same(opened(index, folder, size=128), ram)


def test_what_is_trained_and_evaluated_on_is_the_same(index, folder):
    """The images of a file cannot be written to, and nobody tries."""
    strong = AugmentConfig(mosaic=0.5, degrees=20, shear=5, flipud=0.5)
    plain = AugmentConfig(mosaic=0, translate=0, scale=0, fliplr=0, hsv_h=0, hsv_s=0, hsv_v=0)
    ram, disk = opened(index, folder, "ram"), opened(index, folder)
    for augment in (strong, plain):
        one, other = (
            list(TrainLoader(store, trainable_boxes(index), augment, batch=4, seed=3, workers=2).epoch(1))
            for store in (ram, disk)
        )
        assert all(torch.equal(a.images, b.images) for a, b in zip(one, other, strict=True))
    one, other = (list(eval_batches(store, batch=4, stride=32, workers=1)) for store in (ram, disk))
    assert all(torch.equal(a.images, b.images) for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize("for_good", [False, True])
def test_a_disk_that_does_not_answer_is_noticed_in_training(index, folder, monkeypatch, for_good):
    """The file may lie on another machine, and who makes the images between two steps cannot be given up."""
    store, release, hung, told = opened(index, folder), threading.Event(), [], []
    keys = {"batch": 4, "seed": 3, "workers": 1, "between": 2}
    expected = list(TrainLoader(store, trainable_boxes(index), AugmentConfig(), **keys).epoch(0))
    readable = store.readable

    def hangs(i):
        if i == 8 and (for_good or not hung):
            hung.append(i)
            release.wait(60)
        return readable(i)

    monkeypatch.setattr(store, "readable", hangs)
    train = TrainLoader(store, trainable_boxes(index), AugmentConfig(), timeout=0.5, **keys)
    train.tell = told.append
    try:
        if for_good:
            with pytest.raises(TrainingFailed, match=r"images .*\b8\.png.* \(folder .*worker_timeout"):
                list(train.epoch(0))
        else:
            got = list(train.epoch(0))
            assert all(torch.equal(a.images, b.images) for a, b in zip(expected, got, strict=True))
    finally:
        release.set()
    assert len(told) == 1 and "8.png" in told[0]


SPOILT = {
    "missing": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("404: not found"),
}


@pytest.mark.parametrize("spoil", SPOILT.values(), ids=SPOILT)
@pytest.mark.parametrize("bad", [[0], [3, 4], [0, 1, N - 1]])
def test_images_that_cannot_be_read(index, folder, spoil, bad):
    for i in bad:
        spoil(index.path(i))
    built, again, ram = opened(index, folder), opened(index, folder), opened(index, folder, "ram")
    assert same(built, ram) and same(again, ram) and again.unreadable == set(bad)
    assert built.news() == again.news() == ram.news() and again.news() is None and again.untold() == []


def test_a_split_of_unreadable_images_is_a_mistake(index, folder):
    for i in range(N):
        index.path(i).write_bytes(b"no image")
    config = DataConfig(cache="disk", cache_dir=str(folder))
    for _ in range(2):
        with pytest.raises(UserError, match=r"test: none of the 12 images can be read"):
            open_store(index, config, SIZE, lambda *said: None, fate="")


# --- used again, or built anew


def test_a_file_is_used_again_without_a_look_at_the_images(index, folder, reads):
    done = []
    opened(index, folder, progress=lambda *how_far: done.append(how_far))
    assert reads == Counter(range(N)) and done == [(k, N) for k in range(1, N + 1)]
    before = [(p.name, p.stat().st_mtime_ns) for p in files(folder)]
    opened(index, folder)
    assert reads == Counter(range(N)) and [(p.name, p.stat().st_mtime_ns) for p in files(folder)] == before


def test_it_does_not_matter_where_the_images_lie_and_what_is_on_them(index, folder, reads, tmp_path):
    opened(index, folder)
    shutil.copytree(index.root, tmp_path / "elsewhere")  # keeps the times
    others = build_index("other", tmp_path / "elsewhere", [(9 - i, f"{i}.png", 80, 40) for i in range(N)], [], ())
    opened(others, folder)
    assert reads == Counter(range(N))


def append(index):
    index.path(3).write_bytes(index.path(3).read_bytes() + b"\0")


CHANGES = {
    "length": lambda index: append(index),
    "time": lambda index: os.utime(index.path(3), ns=(0, index.path(3).stat().st_mtime_ns + 1)),
    "content": lambda index: picture(index.root, 3, 30, 30),
    "gone": lambda index: index.path(3).unlink(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_image(index, folder, reads, change):
    opened(index, folder)
    change(index)
    reads.clear()
    assert same(opened(index, folder), opened(index, folder, "none"))
    assert sum(reads.values()) >= N and len(files(folder)) == 2


@pytest.mark.parametrize("n", [1, N, 100])
def test_another_data_set_of_the_same_names_lengths_and_times(tmp_path, folder, n):
    """As uncompressed pictures have them whose archive has set all times to one."""
    for name, grey in (("one", 10), ("other", 200)):
        (tmp_path / name).mkdir()
        for i in range(n):
            file = tmp_path / name / f"{i}.bmp"
            assert cv2.imwrite(str(file), np.full((4, 8, 3), grey, np.uint8))
            os.utime(file, (0, 0))
    images = [(i, f"{i}.bmp", 8, 4) for i in range(n)]
    one, other = (build_index("test", tmp_path / name, images, [], ()) for name in ("one", "other"))
    assert (opened(one, folder, size=8)[n - 1] == 10).all() and (opened(other, folder, size=8)[n - 1] == 200).all()
    # all of few, some of many
    before = shared.decoding_print(one, 8)
    changed = []
    for i in range(n):
        path, whole = one.path(i), one.path(i).read_bytes()
        path.write_bytes(whole[:-1] + b"!")
        os.utime(path, (0, 0))
        changed.append(shared.decoding_print(one, 8) != before)
        path.write_bytes(whole)
        os.utime(path, (0, 0))
    assert sum(changed) == min(n, 16) and changed[0] and changed[-1]
    assert shared.decoding_print(one, 8) == before


@pytest.mark.parametrize(
    "other",
    [
        lambda index: {"size": 64},
        lambda index: {"index": index_of(index.root, N - 1)},
        lambda index: {"index": index_of(index.root, annotated=(40, 80))},  # may turn a picture
        lambda index: {"index": index.subset(np.arange(N)[::-1])},
    ],
    ids=["size", "number", "annotated sizes", "order"],
)
def test_other_images(index, folder, reads, other):
    opened(index, folder)
    reads.clear()
    keys = {"index": index, "size": SIZE, **other(index)}
    store = opened(keys["index"], folder, size=keys["size"])
    assert sum(reads.values()) == len(store.index) and len(files(folder)) == 2
    assert same(store, opened(keys["index"], folder, "ram", keys["size"]))


def test_another_decoder(index, folder, reads, monkeypatch):
    opened(index, folder)
    monkeypatch.setattr(cv2, "getBuildInformation", lambda: "OpenCV 99")
    opened(index, folder)
    assert reads == Counter({i: 2 for i in range(N)})


@pytest.mark.parametrize(
    "damage",
    [lambda data: b"", lambda data: data[:-1], lambda data: data[1:], lambda data: data[:-40] + b"x" + data[-39:]],
    ids=["empty", "cut", "head gone", "flipped"],
)
def test_a_damaged_file_is_built_anew(index, folder, reads, damage):
    opened(index, folder)
    (path,) = files(folder)
    path.write_bytes(damage(path.read_bytes()))
    reads.clear()
    store = opened(index, folder)
    assert reads == Counter(range(N)) and files(folder) == [path]
    reads.clear()
    assert same(store, opened(index, folder)) and not reads


def test_a_file_may_be_deleted_while_it_is_used(index, folder):
    store, ram = opened(index, folder), opened(index, folder, "ram")
    shutil.rmtree(folder)
    assert same(store, ram)
    assert same(opened(index, folder), ram)


@pytest.fixture
def failing(monkeypatch):
    """Reads of these images fail as a disk that is ill fails."""
    ill: set[int] = set()
    monkeypatch.setattr(cache, "_PAUSES", ())
    whole = Path.read_bytes

    def read_bytes(path):
        if path.suffix == ".png" and int(path.stem) in ill:
            raise OSError(errno.EIO, "Input/output error")
        return whole(path)

    monkeypatch.setattr(Path, "read_bytes", read_bytes)
    return ill


def test_a_read_that_fails_for_the_moment_is_this_runs_alone(index, folder, failing, reads):
    failing.update({2, 7})
    said = []
    store, ram = opened(index, folder, say=said.append), opened(index, folder, "ram")
    assert same(store, ram) and store.unreadable == {2, 7} and "not kept for other runs" in said[0]
    assert files(folder) == files(folder, "unfinished") == []
    failing.clear()
    assert store.unreadable == {2, 7} and same(store, ram)  # a run does not change under way
    assert opened(index, folder).unreadable == set() and len(files(folder)) == 1


def test_a_disk_that_fails_ends_the_run(index, folder, failing, monkeypatch):
    monkeypatch.setattr(cache, "_DEAD", 4)
    failing.update(range(4, N))
    with pytest.raises(TrainingFailed, match="4 images, one after another, could not be read"):
        opened(index, folder)
    assert files(folder) == files(folder, "unfinished") == []


def test_an_image_that_may_be_read_now_with_no_change_to_its_file(index, folder, monkeypatch):
    """Memory for it, or a permission: what was unreadable in one run must not be so for good."""
    with monkeypatch.context() as patch:
        patch.setattr(cache, "read_image", lambda index, i, size: None if i == 5 else read_image(index, i, size))
        assert opened(index, folder).unreadable == {5}
        assert opened(index, folder).unreadable == {5}
    assert opened(index, folder).unreadable == set()
    assert len(files(folder)) == 1 and same(opened(index, folder), opened(index, folder, "ram"))


# --- no room


def test_no_room_for_the_file(index, folder, monkeypatch, reads):
    usage = shutil.disk_usage(index.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=50_000))
    warnings = []
    store = opened(index, folder, tell=warnings.append)
    assert reads == Counter(range(N)) and same(store, opened(index, folder, "ram"))
    (warning,) = warnings
    assert f"test: decoded images cannot be shared in {folder}: they need 6.48e-05 GB, and 5e-05 GB are free" in warning
    assert "kept in memory, by this run alone" in warning and store.cached
    assert files(folder) == files(folder, "unfinished") == []


def test_where_there_is_no_room_what_else_is_kept_there_is_named(index, folder, monkeypatch):
    opened(index, folder)
    (stale,) = files(folder)
    append(index)
    usage = shutil.disk_usage(index.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=50_000))
    warnings = []
    opened(index, folder, tell=warnings.append)
    size = f"{stale.stat().st_size / 1e9:.3g} GB"
    assert f"what other decoded images hold there may be deleted: {stale.name} ({size})" in warnings[0]


def test_no_room_for_the_file_nor_in_memory(index, folder, monkeypatch, reads):
    usage = shutil.disk_usage(index.root)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage._replace(free=0))
    monkeypatch.setattr(cache, "free_memory", lambda: 0)
    warnings = []
    store = opened(index, folder, tell=warnings.append)
    assert not store.cached and not reads
    assert "they are decoded anew each time; write a smaller imgsz, or a cache_dir where there is room" in warnings[0]


def no_fsync(monkeypatch):
    def fsync(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    return lambda: None


def small_files(monkeypatch):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (30_000, before[1]))
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("fill", [no_fsync, small_files])
def test_a_disk_that_is_full_on_the_way(index, folder, monkeypatch, fill):
    warnings, undo = [], fill(monkeypatch)
    try:
        store = opened(index, folder, tell=warnings.append)
    finally:
        undo()
    assert len(warnings) == 1 and "cannot be shared" in warnings[0] and store.cached
    assert files(folder) == files(folder, "unfinished") == []
    assert same(store, opened(index, folder, "ram"))


@pytest.mark.parametrize("under", ["a file", "below a file"])
def test_a_folder_that_cannot_be_made_is_a_mistake(index, tmp_path, under):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" if under == "a file" else tmp_path / "file" / "below"
    with pytest.raises(UserError, match=rf"cache_dir: {folder} cannot be made: .*; name a folder that can be written"):
        opened(index, folder)


def test_a_folder_that_is_only_read_from(index, folder, monkeypatch, reads):
    """Where the file is there nothing is written, not even a lock."""
    opened(index, folder)
    for name in ("mkdir", "unlink"):
        monkeypatch.setattr(Path, name, None)
    monkeypatch.setattr(os, "open", None)
    reads.clear()
    assert opened(index, folder).cached and not reads


# --- several processes

CHILD = """
import sys, time
from pathlib import Path
from yolo_cosine.data import cache
from yolo_cosine.data.index import build_index
images, folder, pause, count, n, size = sys.argv[1:]
read, reads = cache.read_image, []
def slowly(index, i, size):
    time.sleep(float(pause))
    reads.append(i)
    return read(index, i, size)
cache.read_image = slowly
index = build_index("test", Path(images), [(i, f"{i}.png", 80, 40) for i in range(int(n))], [], ())
print("ready", flush=True)
if int(count) > 1:
    sys.stdin.readline()
store = cache.ImageStore(index, int(size), "disk", 2, folder=Path(folder))
print(len(reads), int(sum(int(store[i].sum()) for i in range(len(index)))), flush=True)
"""


def child(index, folder, pause, count=1):
    command = [sys.executable, "-c", CHILD, str(index.root), str(folder), *map(str, (pause, count, N, SIZE))]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT)


def wait_until_it_writes(process, folder):
    for _ in range(3000):
        if any(path.stat().st_size for path in files(folder, "unfinished")):
            return
        assert process.poll() is None
        time.sleep(0.01)
    raise AssertionError("it writes nothing")


def test_a_builder_that_is_killed_leaves_nothing_that_is_believed(index, folder, reads):
    process = child(index, folder, 0.2)
    wait_until_it_writes(process, folder)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert files(folder) == [] and len(files(folder, "unfinished")) == 1
    store = opened(index, folder)
    assert reads == Counter(range(N)) and same(store, opened(index, folder, "ram"))
    assert files(folder, "unfinished") == []


def test_what_a_killed_builder_left_of_other_images_is_removed_too(index, folder):
    process = child(index, folder, 0.2)
    wait_until_it_writes(process, folder)
    assert len(files(folder, "unfinished")) == 1
    opened(index, folder, size=32)  # it lives: its file is its own
    assert len(files(folder, "unfinished")) == 1
    process.send_signal(signal.SIGKILL)
    process.communicate()
    opened(index, folder, size=64)
    assert files(folder, "unfinished") == [] and len(files(folder)) == 2


def test_the_others_wait_for_the_one_that_builds(index, folder, reads):
    process = child(index, folder, 0.2)
    wait_until_it_writes(process, folder)
    said, done = [], []
    store = opened(index, folder, say=said.append, progress=lambda *how_far: done.append(how_far))
    assert not reads and len(said) == 1
    assert said[0].startswith(f"test: another process is decoding its images into {folder}")
    assert done and all(0 <= k <= N for k, _ in done) and done == sorted(done)
    output, _ = process.communicate()
    assert output.split()[1] == str(N) and same(store, opened(index, folder, "ram"))


def test_who_waits_builds_if_the_builder_dies(index, folder, reads):
    process = child(index, folder, 0.2)
    wait_until_it_writes(process, folder)
    store = opened(index, folder, say=lambda text: process.kill())
    process.communicate()
    assert reads == Counter(range(N)) and same(store, opened(index, folder, "ram"))
    assert len(files(folder)) == 1 and files(folder, "unfinished") == []


def test_of_several_at_once_one_builds(index, folder):
    processes = [child(index, folder, 0.02, 3) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate()[0].split() for process in processes]
    assert sorted(int(reads) for reads, _ in outputs) == [0, 0, N]
    assert len({total for _, total in outputs}) == 1 and len(files(folder)) == 1


@pytest.mark.parametrize("how", ["no module", "not supported"])
def test_where_there_are_no_locks_both_build(index, folder, monkeypatch, reads, how):
    if how == "no module":
        monkeypatch.setattr("yolo_cosine.files.fcntl", None)
    else:

        def flock(*args):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr("yolo_cosine.files.fcntl.flock", flock)
    inner = []

    def in_between(*args, **keys):
        if not inner:  # while the first is at it, a second one begins, and ends before it
            inner.append(None)
            inner[0] = opened(index, folder)
            assert len(files(folder)) == 1
        yield from ahead(*args, **keys)

    monkeypatch.setattr(cache, "ahead", in_between)
    outer = opened(index, folder)
    assert reads == Counter({i: 2 for i in range(N)})
    assert same(outer, inner[0]) and len(files(folder)) == 1 and files(folder, "unfinished") == []
    assert same(opened(index, folder), outer) and set(reads.values()) == {2}


# --- which folder


def test_the_folder_is_among_the_runs_unless_it_is_named():
    assert images_folder(RunConfig(runs="there/runs")) == Path("there/runs/.images")
    assert images_folder(RunConfig(runs="there/runs", cache_dir="fast")) == Path("fast")
    assert images_folder(ValConfig()) == Path("runs/.images")
    assert images_folder(ValConfig(cache_dir="fast")) == Path("fast")


def test_a_hundred_thousand_files_are_looked_at_in_seconds(tmp_path):
    (tmp_path / "0.png").write_bytes(b"")
    index = index_of(tmp_path, 118_000)
    start = time.monotonic()
    shared.decoding_print(index, 640)
    assert time.monotonic() - start < 15  # about one second; a loaded machine must not fail for it
