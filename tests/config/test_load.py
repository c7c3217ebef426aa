from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
import yaml

from yolo_cosine.config.describe import describe_keys, schema_text
from yolo_cosine.config.duration import Duration, parse_duration
from yolo_cosine.config.load import dump_config, load_config
from yolo_cosine.config.schema import RunConfig
from yolo_cosine.errors import UserError

ROOT = Path(__file__).parents[2]


# ablations have keys of their own
RUNS = [p for p in sorted(ROOT.glob("configs/**/*.yaml")) if p.parent.name != "ablations"]


@pytest.mark.parametrize("path", RUNS, ids=lambda p: p.name)
def test_every_shipped_config_loads_and_fits_the_schema(path):
    config = load_config(path)
    assert config.name == path.stem
    jsonschema.validate(yaml.safe_load(path.read_text()), json.loads(schema_text()))


def test_extends_layers_and_overrides(tmp_path):
    (tmp_path / "base.yaml").write_text("epochs: 7\nlr0: 0.02\nbatch: 4\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/top.yaml").write_text("extends: ../base.yaml\nlr0: 1e-3\n")
    config = load_config(tmp_path / "sub/top.yaml", ["batch=8", "close_mosaic=0"])
    assert (config.epochs, config.lr0, config.batch, config.close_mosaic) == (7, 1e-3, 8, 0)
    assert config.name == "top"


def test_a_data_path_is_relative_to_the_file_it_stands_in(tmp_path):
    (tmp_path / "set.yaml").write_text("")
    (tmp_path / "run.yaml").write_text("data: set.yaml\n")
    assert Path(load_config(tmp_path / "run.yaml").data) == tmp_path / "set.yaml"


def test_the_resolved_config_reproduces_itself(tmp_path):
    config = load_config(None, ["lr0=0.0123", "freeze=[0, 3]", "weights=null", "eval_every=50it", "nms=false"])
    (tmp_path / "resolved.yaml").write_text(dump_config(config))
    assert load_config(tmp_path / "resolved.yaml") == config


MISTAKES = [  # YAML text, what the message must hold
    ("lr0: -1", ["lr0: -1", "greater than 0"]),
    ("lr0: fast", ["lr0: 'fast'", "number"]),
    ("lr0: .nan", ["lr0: NaN", "finite"]),
    ("lrf: 1.5", ["lrf: 1.5", "less than or equal to 1"]),
    ("epochs: 0", ["epochs: 0", "greater than or equal to 1"]),
    ("epochs: 1.5", ["epochs: 1.5", "integer"]),
    ("epochs: '3'", ["epochs: '3'", "integer"]),
    ("batch: true", ["batch: true", "integer"]),
    ("mosiac: 1", ["mosiac: 1", "no such key", "did you mean mosaic?"]),
    ("nbs: 64", ["nbs: 64", "nominal_batch"]),
    ("cos_lr: true", ["cos_lr", "curve"]),
    ("optimizer: sgd", ["optimizer: 'sgd'", "'SGD'", "'MuSGD'"]),
    ("workers: many", ["workers: 'many'", "'auto'"]),
    ("eval_every: 3", ["eval_every: 3", "write 3ep for epochs or 3it for steps"]),
    ("freeze: -1", ["freeze: -1", "greater than or equal to 0"]),
    ("data: {{ DATA }}", ["cannot read the YAML"]),
    ("eval_every: 3 epochs", ["eval_every: '3 epochs'", "3ep"]),
    ("eval_every: 0.5it", ["eval_every", "fraction of a step"]),
    (
        "warmup_epochs: 12\nepochs: 10",
        ["warmup_epochs: 12 is longer than epochs=10", "shorten the warmup or train longer"],
    ),
    ("warmup_epochs: 10\nepochs: 10", ["takes up all of"]),
    ("model: yolo11n.pt", ["weights: yolo11n.pt", "model: yolo11n.yaml"]),
    ("name: ../x", ["name: '../x'", "pattern"]),
    ("lr0: 1\nlr0: 2", [":2:1", "'lr0' stands twice"]),
    ("lr0: [", ["cannot read the YAML"]),
    ("lr0: !!python/object/apply:os.system [ls]", ["cannot read the YAML"]),
    ("- a", ["not a mapping"]),
    ("extends: nowhere.yaml", ["nowhere.yaml: there is no such file"]),
    ("extends: 3", ["extends: 3"]),
    ("extends: bad.yaml", ["circle"]),
]


@pytest.mark.parametrize(("text", "parts"), MISTAKES, ids=[m[0].replace("\n", ";") for m in MISTAKES])
def test_mistakes_name_file_key_value_and_remedy(text, parts, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        load_config(path)
    for part in ["bad.yaml", *parts]:
        assert part in str(caught.value)


def test_all_mistakes_are_named_at_once(tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text("lr0: 0\nepochs: -2\nfoo: 1\n")
    with pytest.raises(UserError) as caught:
        load_config(path)
    assert len(str(caught.value).splitlines()) == 3


@pytest.mark.parametrize("override", ["lr0", "=3", "lr0 0.1"])
def test_an_override_without_key_or_value(override):
    with pytest.raises(UserError, match="key=value"):
        load_config(None, [override])


def test_a_missing_file_names_its_neighbour(tmp_path):
    (tmp_path / "train.yaml").write_text("")
    with pytest.raises(UserError, match=r"did you mean .*train\.yaml"):
        load_config(tmp_path / "trian.yaml")


def test_yaml_scalars_are_what_they_look_like(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("lr0: 1e-2\nweights: no\nname: on\nclose_mosaic: 010\n")
    config = load_config(path)
    assert (config.lr0, config.weights, config.name, config.close_mosaic) == (0.01, "no", "on", 10)


@pytest.mark.parametrize(
    ("text", "steps"), [("3ep", 300), ("0.5ep", 50), ("500it", 500), ("5%", 50), ("12.5%", 125), (" 2 ep", 200)]
)
def test_durations(text, steps):
    assert parse_duration(text).steps(steps_per_epoch=100, total_steps=1000) == steps


def test_a_duration_prints_as_it_is_written():
    assert str(Duration(2.5, "ep")) == "2.5ep"


def test_every_key_is_described():
    text = describe_keys()
    for name, field in RunConfig.model_fields.items():
        assert f"{name} = " in text or f"{name}." in text
        assert field.description, name
