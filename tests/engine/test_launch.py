"""Processes that torchrun has started find one another, whoever was there before them, and say things once."""

from __future__ import annotations

import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import torch.distributed as dist

from yolo_cosine import cli
from yolo_cosine.engine import launch
from yolo_cosine.engine.launch import Launch, agree_on_attempt
from yolo_cosine.errors import UserError


def test_they_agree_how_often_others_were_there_before():
    """Machines count restarts of their own only, and the words of those before are still in the store."""
    store = dist.HashStore()
    for attempt in range(3):
        with ThreadPoolExecutor(3) as pool:  # the main one comes first or last
            ranks = (0, 1, 2) if attempt % 2 else (2, 1, 0)
            assert list(pool.map(lambda rank: agree_on_attempt(store, rank, 3), ranks)) == [attempt] * 3


def test_who_finds_nobody_says_so(monkeypatch):
    monkeypatch.setattr(launch, "_PATIENCE", timedelta(milliseconds=20))
    for rank in (0, 1):
        with pytest.raises(RuntimeError, match=r"no word for 0\.02 seconds"):
            agree_on_attempt(dist.HashStore(), rank, 2)


def test_a_signal_ends_the_waiting(monkeypatch):
    """Who waits within the store hears none until the time is over."""
    began = time.monotonic()
    monkeypatch.setattr(launch, "_PATIENCE", timedelta(seconds=20))
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where the tests run in the background
    threading.Timer(0.2, signal.raise_signal, (signal.SIGINT,)).start()
    try:
        with pytest.raises(KeyboardInterrupt):
            Launch(0, 2, 0, dist.HashStore()).exchange("word", 1)
    finally:
        signal.signal(signal.SIGINT, before)
    assert time.monotonic() - began < 5


def test_what_all_find_is_said_once(monkeypatch, capsys):
    store = dist.TCPStore("localhost", 0, is_master=True, wait_for_workers=False)
    variables = {
        "WORLD_SIZE": 2, "MASTER_ADDR": "localhost", "MASTER_PORT": store.port, "TORCHELASTIC_USE_AGENT_STORE": True,
        "TORCHELASTIC_RESTART_COUNT": 0,
    }  # fmt: skip
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(cli, "_QUIET", 0.0)

    def ends(text):
        def work():
            raise UserError(text)

        assert cli.run_command(work) == 2
        return capsys.readouterr().err

    assert [ends("imgsz: no"), ends("imgsz: no"), ends("batch: no")] == ["error: imgsz: no\n", "", "error: batch: no\n"]
    monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")  # others in their place
    assert ends("imgsz: no") == "error: imgsz: no\n"
    monkeypatch.delenv("TORCHELASTIC_USE_AGENT_STORE")  # who knows whether there is a store
    assert ends("imgsz: no") == ends("imgsz: no") == "error: imgsz: no\n"
    assert ends("") == ""
