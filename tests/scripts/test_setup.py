"""The set-up script, with interpreters that only note what they are asked."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SETUP = Path(__file__).parents[2] / "scripts/setup.sh"
# answers as Python NAME would; an environment that it makes answers as it does
PYTHON = """#!/usr/bin/env bash
if [ "$1" = -c ]; then echo NAME; fi
if [ "$2" = venv ]; then
    rm -rf .venv
    mkdir -p .venv/bin
    cp "$0" .venv/bin/python
    echo NAME >> made
fi
"""


def test_an_environment_of_another_interpreter_is_made_anew(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).write_text(PYTHON.replace("NAME", name))
        (tmp_path / name).chmod(0o755)
    for name in ("constraints.txt", "pyproject.toml"):
        (tmp_path / name).touch()
    (tmp_path / "scripts").mkdir()
    shutil.copy(SETUP, tmp_path / "scripts")

    def made(python: str | None) -> list[str]:
        environment = {key: value for key, value in os.environ.items() if key != "PYTHON"}
        chosen = {} if python is None else {"PYTHON": str(tmp_path / python)}
        subprocess.run(["bash", str(tmp_path / "scripts/setup.sh")], env={**environment, **chosen}, check=True)
        assert (tmp_path / ".venv/.installed").exists()
        return (tmp_path / "made").read_text().split()

    assert made("one") == ["one"] == made("one")
    assert made("two") == ["one", "two"] == made(None)  # nobody asked for another
