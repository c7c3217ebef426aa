"""Where data sets are: names for the YAML files of `data/`, and variables in paths; and where what is made of them is."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from yolo_cosine.config.schema import DataConfig, RunConfig
from yolo_cosine.errors import UserError

_VARIABLE = re.compile(r"\$\{(?P<name>[A-Za-z_]\w*)(?::-(?P<default>[^}]*))?\}")


def _shelves() -> tuple[Path, Path]:
    """`data/` of the current folder, and that of the project's checkout."""
    return Path("data"), Path(__file__).resolve().parents[2] / "data"


def named_yaml(name: str) -> Path | None:
    """`data/NAME.yaml`, or None where there is no such file."""
    return next((shelf / f"{name}.yaml" for shelf in _shelves() if os.path.isfile(shelf / f"{name}.yaml")), None)


def suggest_name(name: str) -> str:
    """Words that name the data set that was probably meant, or all that there are."""
    known = sorted({"shapes"} | {path.stem for shelf in _shelves() for path in shelf.glob("*.yaml")})
    near = difflib.get_close_matches(name, known, n=1)
    return f"did you mean {near[0]}?" if near else f"the names are {', '.join(known)}"


def images_folder(config: DataConfig) -> Path:
    """Where decoded images are, and what takes long to read of annotations: `cache_dir`, by default `.images` among the
    runs."""
    if config.cache_dir is not None:
        return Path(config.cache_dir)
    return Path(config.runs if isinstance(config, RunConfig) else "runs") / ".images"


def expand_variables(text: str, place: str) -> str:
    """Fill in `${VAR}` and, for where it is unset or empty, `${VAR:-default}`.

    Raises:
        UserError: naming `place`, if a variable without a default is not set.
    """

    def value(match: re.Match[str]) -> str:
        name, default = match["name"], match["default"]
        if os.environ.get(name):
            return os.environ[name]
        if default is None:
            raise UserError(
                f"{place}: {text}: the environment variable {name} is not set; set it or write ${{{name}:-FOLDER}}"
            )
        return default

    return _VARIABLE.sub(value, text)


def expand_home(text: str, place: str) -> Path:
    """A path with its leading `~` or `~name` filled in.

    Raises:
        UserError: naming `place`, if there is no such user.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UserError(f"{place}: {text!r}: there is no user of this name here; write the whole path") from None
