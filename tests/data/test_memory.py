"""How much memory is free, by the limits of a made up tree of control groups."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from yolo_cosine.data import memory
from yolo_cosine.data.memory import free_memory

GB = 10**9
UNLIMITED = 9223372036854771712  # how version 1 says it


@pytest.fixture(autouse=True)
def machine(monkeypatch):
    """100 GB are free on it."""
    monkeypatch.setattr(memory.psutil, "virtual_memory", lambda: SimpleNamespace(available=100 * GB))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)


def v2(folder, most, used, files=(0, 0)):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    inactive, active = files
    (folder / "memory.stat").write_text(f"anon 5\nfile 7\ninactive_file {inactive}\nactive_file {active}\n")


def v1(folder, most, used, files=(0, 0)):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.limit_in_bytes").write_text(f"{most}\n")
    (folder / "memory.usage_in_bytes").write_text(f"{used}\n")
    inactive, active = files
    own = "inactive_file 1\nactive_file 1\n"  # without the groups within
    (folder / "memory.stat").write_text(f"{own}total_inactive_file {inactive}\ntotal_active_file {active}\n")


def found(tmp_path, text):
    (tmp_path / "own").write_text(text)
    return free_memory(tmp_path / "groups", tmp_path / "own")


def test_files_that_were_read_do_not_fill_a_container(tmp_path):
    """The photographs of a data set, in the system's memory: it gives them up for whoever needs it."""
    v2(tmp_path / "groups", 64 * GB, 63 * GB, files=(40 * GB, 15 * GB))
    assert found(tmp_path, "0::/\n") == 56 * GB


@pytest.mark.parametrize(
    ("job", "step", "expected"),
    [((32 * GB, 2 * GB), ("max", GB), 30 * GB), ((32 * GB, 2 * GB), (9 * GB, GB), 8 * GB), (("max", 2), ("max", 1), 100 * GB)],
)  # fmt: skip
def test_the_least_of_a_job_and_all_that_it_is_in(tmp_path, job, step, expected):
    groups = tmp_path / "groups"
    v2(groups / "system.slice/slurm/job_7", *job)
    v2(groups / "system.slice/slurm/job_7/step_0", *step)
    v2(groups / "system.slice/other", GB, GB)
    assert found(tmp_path, "0::/system.slice/slurm/job_7/step_0\n") == expected


def test_the_first_version_of_control_groups(tmp_path):
    groups = tmp_path / "groups"
    v1(groups / "memory", UNLIMITED, 80 * GB)
    v1(groups / "memory/slurm/job", 20 * GB, 19 * GB, files=(10 * GB, 2 * GB))
    (groups / "unified").mkdir()
    own = "9:name=systemd:/a:b\n4:cpu,memory:/slurm/job\n1:cpu:/slurm/job\n0::/\n"
    assert found(tmp_path, own) == 13 * GB


def test_a_container_that_sees_its_own_group_as_the_root(tmp_path):
    v1(tmp_path / "groups/memory", 8 * GB, 3 * GB)
    assert found(tmp_path, "4:memory:/docker/0123abcd\n") == 5 * GB


def test_a_limit_that_is_passed_and_several_processes(tmp_path, monkeypatch):
    v2(tmp_path / "groups", 8 * GB, 9 * GB)
    assert found(tmp_path, "0::/\n") == 0
    v2(tmp_path / "groups", 8 * GB, 4 * GB)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert found(tmp_path, "0::/\n") == GB


def test_without_control_groups_it_is_the_machine_s(tmp_path):
    assert free_memory(tmp_path / "groups", tmp_path / "own") == 100 * GB
    assert found(tmp_path, "0::/gone\n") == 100 * GB
