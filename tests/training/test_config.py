from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import pytest
from omegaconf import MISSING

from weightgen import InputError
from weightgen.training.config import parse


@dataclass
class Optimizer:
    lr: float = 1e-3
    name: Literal["adam", "sgd"] = "adam"


@dataclass
class Config:
    dataset: str = MISSING
    output_dir: Path = Path("runs")
    pretrained: str | None = None
    steps: int = 100
    lr: float = 0.1
    max_grad_norm: float = 1.0
    question_fraction: float = 1.0
    inner_variable: str = "weights"
    min_shots: int = 1
    max_things: int = 1
    seeds: list[int] = field(default_factory=lambda: [0])
    optimizer: Optimizer = field(default_factory=Optimizer)
    network: dict[str, Any] = field(
        default_factory=lambda: {"_component_": "weightgen.networks.MLP", "hidden_dims": [8], "out_dim": 2}
    )


def settings(*argv):
    return parse(Config, "Train something.", ["dataset=d", *argv])


def test_defaults():
    assert settings() == Config(dataset="d")


def test_files_then_command_line(tmp_path):
    (tmp_path / "a.yaml").write_text("steps: 1\noptimizer: {lr: 0.5}\nseeds: [1, 2]\n")
    (tmp_path / "b.yaml").write_text("steps: 2\n")
    (tmp_path / "empty.yaml").write_text("")
    files = [part for name in ("a", "b", "empty") for part in ("--config", str(tmp_path / f"{name}.yaml"))]
    config = settings("seeds=[3]", *files, "optimizer.name=sgd", "output_dir=2024")
    assert config == Config(
        dataset="d", steps=2, optimizer=Optimizer(0.5, "sgd"), seeds=[3], output_dir=Path("2024")
    )


@pytest.mark.parametrize(
    "text", ["no", "Is it: red?", "a=b", "{x}", "${x}", "1e3", "", " 'quoted' ", "null", "#1"]
)
def test_text_is_taken_as_it_is(text):
    assert settings(f"dataset={text}").dataset == text


def test_optional_text_can_be_null():
    assert settings("pretrained=openai").pretrained == "openai"
    assert settings("pretrained=null").pretrained is None


def test_another_component_forgets_the_arguments_of_the_old(tmp_path):
    assert settings("network.out_dim=5").network == {**Config().network, "out_dim": 5}
    replaced = settings("network._component_=weightgen.networks.CLIPAdapter", "network.hidden_dim=4").network
    assert replaced == {"_component_": "weightgen.networks.CLIPAdapter", "hidden_dim": 4}
    (tmp_path / "a.yaml").write_text("network: {_component_: torch.nn.Linear, out_features: 2}")
    assert settings("--config", str(tmp_path / "a.yaml")).network.keys() == {"_component_", "out_features"}


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["stepz=1"], "command line, stepz: there is no setting 'stepz'. Did you mean: 'steps'?"),
        (["clip_norm=1"], "Did you mean: 'max_grad_norm'?"),
        (["questions=1"], "Did you mean: 'question_fraction'?"),
        (["point=latents"], "Did you mean: 'inner_variable'?"),
        (["least_shots=1"], "Did you mean: 'min_shots'?"),
        (["most_things=1"], "Did you mean: 'max_things'?"),
        (["lr=.nan"], "lr: expected a finite number, got nan"),
        (["lr=.inf"], "lr: expected a finite number, got inf"),
        (["network.out_dim=.nan"], "network.out_dim: expected a finite number"),
        (["steps=99999999999999999999"], "steps: the number 999999999999... is too large"),
        (["optimizer.lrr=1"], "optimizer.lrr.*Did you mean: 'lr'"),
        (["steps=many"], "steps: Value 'many' of type 'str' could not be converted to Integer"),
        (["optimizer.name=adm"], r"expected one of \['adam', 'sgd'\]"),
        (["seeds=1"], "seeds"),
        (["seeds.0=1"], "command line"),
        (["optimizer=3"], "not a subclass of Optimizer"),
        (["steps"], "expected key=value, got 'steps'"),
        (["=1"], "expected key=value, got '=1'"),
        (["seeds=[1"], "cannot understand 'seeds=\\[1'"),
        (["steps=${missing}"], "missing"),
        (["--confg", "x"], "--confg"),
        (["--config"], "--config.*--help"),
        (["--config", "no-such.yaml"], "cannot read the settings in no-such.yaml: No such file"),
    ],
)
def test_mistakes_are_one_line(argv, message):
    with pytest.raises(InputError, match=message) as caught:
        settings(*argv)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("content", ["[1, 2]", "steps: [", "just words", "steps: 1\nsteps: 2", "\0"])
def test_files_that_are_no_settings_are_named(tmp_path, content):
    (tmp_path / "a.yaml").write_text(content)
    with pytest.raises(InputError, match=r"a\.yaml"):
        settings("--config", str(tmp_path / "a.yaml"))


def test_what_must_be_given_is_named():
    with pytest.raises(InputError, match=r"missing settings: write dataset=\.\.\."):
        parse(Config, None, [])


def test_help_shows_every_setting(capsys):
    with pytest.raises(SystemExit) as stop:
        parse(Config, "Train something: 50 % of it.", ["--help"])
    assert stop.value.code == 0
    shown = capsys.readouterr().out
    assert "Train something: 50 % of it." in shown
    for line in ("dataset: str (must be given)", "steps: int = 100", "optimizer.lr: float = 0.001"):
        assert f"  {line}\n" in shown


def test_settings_too_deep_are_one_line(tmp_path):
    (tmp_path / "a.yaml").write_text("network: " + "[" * 5000)
    with pytest.raises(InputError, match=r"a\.yaml"):
        settings("--config", str(tmp_path / "a.yaml"))


def test_the_home_folder_is_expanded_in_files_and_words(tmp_path, monkeypatch):
    @dataclass
    class Paths:
        data: str = "???"
        output: str = "???"
        prompt: str = "is ~/ a path?"

    monkeypatch.setenv("HOME", "/home/me")
    (tmp_path / "a.yaml").write_text("data: ~/sets/a")
    found = parse(Paths, None, ["--config", str(tmp_path / "a.yaml"), "output=~/runs/b"])
    assert found == Paths("/home/me/sets/a", "/home/me/runs/b")
