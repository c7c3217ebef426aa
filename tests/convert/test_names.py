from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from yolo_cosine.convert.names import new_names
from yolo_cosine.data.image_files import SUFFIXES


@pytest.mark.parametrize(
    ("files", "labelled", "names"),
    [
        (["b.jpg", "sub/a.png"], True, ["b.jpg", "sub/a.png"]),
        (["a/x.jpg", "b/x.jpg"], True, ["a/x.jpg", "b/x.jpg"]),
        (["x.jpg", "x.png", "x-2.bmp", "x.tif"], True, ["x.jpg", "x-2.png", "x-2-2.bmp", "x-3.tif"]),
        (["x.jpg", "x.png"], False, ["x.jpg", "x.png"]),
        (["a.jpg", "A.jpg", "a.JPG"], False, ["a.jpg", "A-2.jpg", "a-3.JPG"]),
        (["D/a.jpg", "d/a.jpg"], False, ["D/a.jpg", "d/a-2.jpg"]),
        (["\xe9.jpg", "e\u0301.jpg"], False, ["\xe9.jpg", "e\u0301-2.jpg"]),  # composed and decomposed
        (["a.jpg", "a.jpg"], False, ["a.jpg", "a.jpg"]),  # one file of two images
        (["a.jpg", "a.jpg"], True, ["a.jpg", "a-2.jpg"]),
        (["/etc/a.jpg", "../../b.jpg", "x/../c.jpg", "./d.jpg", ".."], False, [
            "etc/a.jpg", "b.jpg", "x/c.jpg", "d.jpg", "_",
        ]),
        (["C:/a.jpg", "\\\\host\\b.jpg", "a\0b.jpg"], False, ["C_/a.jpg", "__host_b.jpg", "a_b.jpg"]),
        ([" a .jpg", ".b.jpg", "c\nd.jpg", "e\u2028.jpg", "\ud800.jpg", "   .jpg"], True, [
            "a.jpg", "_b.jpg", "c_d.jpg", "e_.jpg", "_.jpg", "_jpg.jpg",
        ]),
        ([" a .jpg", ".b.jpg"], False, [" a .jpg", ".b.jpg"]),
        (["photo", "film.gif", "up.JPEG"], True, ["photo.jpg", "film.gif.jpg", "up.JPEG"]),
        (["images/train/a.jpg", "images/train/s/b.jpg"], True, ["a.jpg", "s/b.jpg"]),
        (["images/a.jpg", "images/s/b.jpg"], False, ["a.jpg", "s/b.jpg"]),
        (["images/train2017/a.jpg"], True, ["a.jpg"]),
        (["images/trainings/a.jpg"], True, ["trainings/a.jpg"]),
        (["train/images/a.jpg"], True, ["a.jpg"]),
        (["K/2007/JPEGImages/a.jpg", "K/2012/JPEGImages/a.jpg"], True, [
            "K/2007/JPEGImages/a.jpg", "K/2012/JPEGImages/a.jpg",
        ]),
        (["../far/JPEGImages/a.jpg"], True, ["a.jpg"]),
    ],
)  # fmt: skip
def test_names(files, labelled, names):
    assert new_names(files, "train", labelled=labelled) == names


def test_long_names_are_cut_to_what_a_file_system_takes():
    for labelled in (False, True):
        names = new_names(["y" * 999 + ".jpg", "y" * 998 + ".jpg", "ä" * 200 + ".png", "z." + "w" * 999], "train", labelled=labelled)  # fmt: skip
        assert len(set(names)) == 4 and all(100 < len(name.encode()) <= 255 for name in names)


def test_ten_thousand_images_of_one_name_take_no_longer_than_others():
    assert len(set(new_names(["a.jpg"] * 10_000, "train", labelled=True))) == 10_000


part = st.sampled_from(["a", "A", "b.jpg", "..", ".", "", "images", "x" * 300, "é", "a-2.jpg", "C:"]) | st.text(
    max_size=5
)
path = st.lists(part, min_size=1, max_size=4).map("/".join)


@given(st.lists(path, min_size=1, max_size=12), st.booleans())
def test_no_name_leaves_its_folder_or_stands_for_two_images(files, labelled):
    names = new_names(files, "train", labelled=labelled)
    keys = {}
    for file, name in zip(files, names, strict=True):
        parts = name.split("/")
        assert not name.startswith("/") and not {"", ".", ".."} & set(parts) and not set("\\\0") & set(name)
        assert all(len(part.encode("utf-8", "surrogatepass")) <= 255 for part in parts)
        assert os.path.normpath(os.path.join("/root", name)).startswith("/root/")
        key = (os.path.splitext(name)[0] if labelled else name).casefold()
        assert keys.setdefault(key, file) == file and (not labelled or list(map(key.__eq__, keys)).count(True) == 1)
        if labelled:
            assert name.isprintable() and name == name.strip() and os.path.splitext(name)[1].lower() in SUFFIXES
            assert not any(part.startswith(".") for part in parts)
    if labelled:
        assert len(keys) == len(files)
