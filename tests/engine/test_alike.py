"""Processes that do not fit together are named before they train, and do not wait for each other for ever."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from yolo_cosine.config.schema import RunConfig
from yolo_cosine.engine import alike, launch
from yolo_cosine.engine.alike import check_alike, check_same_data, differing
from yolo_cosine.engine.distributed import World, check_shares
from yolo_cosine.engine.launch import Launch
from yolo_cosine.errors import TrainingFailed, UserError


def together(size, work):
    """What `work(launch)` returns or raises in each of several processes, here threads."""
    store = dist.HashStore()

    def run(rank):
        try:
            return work(Launch(rank, size, rank, store))
        except (UserError, TrainingFailed) as error:
            return error

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(run, range(size)))


ENVIRONMENT = {"torch": "2.9", "ultralytics": "8.4", "numpy": "2.1", "precision": "fp32", "device": "cpu, Some CPU"}


@pytest.mark.parametrize(
    ("config", "environment", "device", "said"),
    [
        ({"epochs": 7}, {}, "cpu", r"configurations differ: epochs is 100 on ranks 0, 2 \(.*\) and 7 on rank 1 \("),
        ({"checkpoint": {"every": "2ep"}}, {}, "cpu", r"checkpoint is \{'every': '1ep'.*0, 2.* and .*'2ep'.* on rank 1"),
        ({}, {"torch": "2.8"}, "cpu", r"torch is 2.9 on ranks 0, 2 \(.*\) and 2.8 on rank 1 .*; set all machines up alike"),
        ({}, {"precision": "bf16"}, "cpu", r"precision is fp32 on ranks 0, 2 .* and bf16 on rank 1"),
        ({}, {}, "cuda", r"device kind is cpu on ranks 0, 2 .* and cuda on rank 1"),
    ],
)  # fmt: skip
def test_another_one_is_named(config, environment, device, said):
    def work(launch):
        if launch.rank == 1:
            return check_alike(launch, RunConfig(**config), ENVIRONMENT | environment, device)
        return check_alike(launch, RunConfig(), ENVIRONMENT, "cpu")

    main, *others = together(3, work)
    assert isinstance(main, UserError) and re.search(said, str(main)), main
    assert all(isinstance(other, UserError) and not str(other) for other in others)  # one speaks for all


def test_another_checkout_is_named(monkeypatch):
    codes = iter(["abc", "def"])
    monkeypatch.setattr(alike, "_code", lambda: next(codes))
    main, _ = together(2, lambda launch: check_alike(launch, RunConfig(), ENVIRONMENT, "cpu"))
    assert "yolo_cosine's files is" in str(main) and "abc on rank" in str(main)


def test_what_is_a_matter_of_the_machine_may_differ():
    def work(launch):
        config = RunConfig(
            data=f"/disk{launch.rank}/data.yaml", workers=launch.rank, cache="disk" if launch.rank else "ram"
        )
        return check_alike(launch, config, {**ENVIRONMENT, "numpy": f"2.{launch.rank}"}, "cpu")

    for said in together(2, work):
        assert len(said) == 1 and "numpy is 2.0 on rank 0" in said[0] and "and 2.1 on rank 1" in said[0]


def test_many_processes_are_told_by_their_machines():
    hosts = ["a"] * 8 + ["b"] * 8
    (text,) = differing(hosts, [{"torch": "1"}] * 8 + [{"torch": "2"}] * 8)
    assert text == ("torch is 1 on ranks 0, 1, 2, 3, 4, 5, 6, 7 (a) and 2 on ranks 8, 9, 10, 11, 12, 13, 14, 15 (b)")
    assert differing(hosts, [{"torch": "1"}] * 16) == []


class Pair(World):
    """Two processes, of which the other has told already."""

    def gather(self, value):
        return [self.told, value] if self.rank else [value, self.told]


def test_other_data_is_named():
    prints = {"train": {"images": "4 images (a)", "boxes": "9 boxes (b)"}, "val": {"images": "2 images (c)"}}
    odd = {**prints, "train": {"images": "4 images (a)", "boxes": "8 boxes (d)"}}
    Pair.told = ("node-b", odd)
    with pytest.raises(
        UserError, match=r"train: boxes is 9 boxes \(b\) on rank 0 \(.*\) and 8 boxes \(d\) on rank 1 \(node-b\)"
    ):
        check_same_data(Pair(0, 2), prints)
    Pair.told = ("node-b", None)  # the first process of its machine has looked at it
    assert check_same_data(Pair(0, 2), prints) == prints
    assert check_same_data(World(), prints) == prints


def test_who_waits_in_vain_says_for_what(monkeypatch):
    monkeypatch.setattr(launch, "_PATIENCE", timedelta(milliseconds=50))
    (found,) = [f for f in together(2, lambda each: each.rank or each.exchange("word", 1)) if f != 1]
    assert isinstance(found, TrainingFailed) and "rank 0 on" in str(found) and "did not come" in str(found)


def test_the_main_process_reads_for_all():
    def read():
        raise UserError("there is no such run")

    assert together(3, lambda launch: launch.from_main("a", lambda: {"rank": launch.rank})) == [{"rank": 0}] * 3
    assert [str(error) for error in together(2, lambda launch: launch.from_main("a", read))] == [
        "there is no such run",
        "",
    ]


def test_a_batch_that_cannot_be_shared():
    check_shares(16, 4)
    with pytest.raises(UserError, match="batch: 10 cannot be shared by 4 processes; write a multiple of 4, as 8"):
        check_shares(10, 4)
