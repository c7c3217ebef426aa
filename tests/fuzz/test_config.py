"""Configuration files, command lines and durations that are anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tests.fuzz.conftest import ANYTHING, FUZZ, TEXT, WORDS, outcome, spoiled_bytes, spoiled_tree
from yolo_cosine.config.duration import Duration, parse_duration, parse_time
from yolo_cosine.config.load import dump_config, load_config, parse_yaml
from yolo_cosine.config.schema import RunConfig

KEYS = RunConfig().model_dump() | {
    "freeze": [0, 3],
    "phases": [{"curve": "cosine", "start": 1, "end": 0.1, "for": "rest"}],
    "group_phases": {"bias": [{"curve": "constant", "for": "3ep"}]},
    "lr_factors": {"layers 0-9": 0.1},
    "plateau": {"factor": 0.5, "patience": 3},
    "extensions": [{"how": "decay", "step": 3, "epochs": 3, "lrf": 0.1}],
    "preset_args": {"num_warmup_steps": 3},
    "extends": "other.yaml",
    "time": "90min",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A deep folder with a configuration to extend."""
    folder = tmp_path_factory.mktemp("fuzz") / "a/b/c/d"
    folder.mkdir(parents=True)
    (folder / "other.yaml").write_text("epochs: 7\nlr0: 0.02\n")
    return folder


@st.composite
def config_files(draw):
    """A few keys with values, spoiled."""
    keys = draw(st.lists(st.sampled_from(sorted(KEYS)), min_size=1, max_size=5, unique=True))
    tree = draw(spoiled_tree({key: KEYS[key] for key in keys}))
    return draw(spoiled_bytes(yaml.safe_dump(tree, allow_unicode=True, sort_keys=False)))


values = ANYTHING.map(lambda value: yaml.safe_dump(value, default_flow_style=True, width=2**31)) | TEXT
dotted = st.lists(st.sampled_from([*sorted(KEYS), "every", "bias", "factor"]) | TEXT, min_size=1, max_size=3).map(
    ".".join
)
overrides = st.lists(st.builds("{}={}".format, dotted, values) | TEXT, max_size=3)


@settings(FUZZ, max_examples=400)
@given(content=config_files(), changes=overrides)
def test_configurations(folder, content, changes):
    assume(b"/" not in content)
    path = folder / "fuzz.yaml"
    path.write_bytes(content)
    config = outcome(lambda: load_config(path, changes), ("fuzz.yaml", "command line"))
    if config is not None:  # it is what its dump says
        path.write_text(dump_config(config), encoding="utf-8")
        assert dump_config(load_config(path)) == dump_config(config)


pieces = st.sampled_from(
    ["a: ", "&x ", "*x", "<<: ", "- ", "[", "]", "{", "}", ", ", "\n", "  ", "!!bool ", "!!int ", "!!set ", "!!binary ", "!!str ",
     "!!float ", "!!timestamp ", "!!omap ", "? ", ": ", "|\n ", '"', "'", "\\U", "\\x", "#", "%YAML 9", "---\n", "...\n", "0x", "1_0", "=", "\t"]
)  # fmt: skip
yaml_texts = st.lists(pieces | WORDS, max_size=12).map("".join)


@settings(FUZZ, max_examples=400)
@given(text=yaml_texts)
@example("\n".join(["a0: &a0 [x]", *(f"a{k}: &a{k} [{', '.join([f'*a{k - 1}'] * 9)}]" for k in range(1, 30))]))
@example("a: &x [*x]")
@example("&x {<<: *x}")
@example("[" * 5000)
def test_yaml_texts(text):
    value = outcome(lambda: parse_yaml(text, "the source"), "the source", lines=1)
    assert value is None or isinstance(value, str | bool | int | float | list | dict)


duration_texts = (
    st.builds(
        "{}{}{}".format,
        st.sampled_from(["", " ", "-", "+"]),
        st.sampled_from(
            ["0", "1", "007", "2.5", ".5", "1.", "1e3", "9" * 400, "0." + "0" * 400 + "1", "١", "nan", "inf", "1_0"]
        ),
        st.sampled_from(["ep", "it", "%", "s", "min", "h", " ep ", "", "EP", "it\n"]),
    )
    | TEXT
)


@settings(FUZZ, max_examples=300)
@given(text=duration_texts, steps_per_epoch=st.integers(1, 10**6), epochs=st.integers(1, 10**6), whole=st.booleans())
@example("9" * 400 + "ep", 1, 1, True)
@example("9" * 400 + "h", 1, 1, True)
def test_durations(text, steps_per_epoch, epochs, whole):
    try:
        duration = parse_duration(text, whole)
    except ValueError as error:
        assert str(error).startswith("is ") and len(str(error)) < 200
    else:
        assert isinstance(duration, Duration) and duration.steps(steps_per_epoch, epochs * steps_per_epoch) >= 0
    seconds = parse_time(text)
    assert seconds is None or 0 < seconds < float("inf")
