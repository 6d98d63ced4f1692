"""Every YAML file of the recipes names components that exist, with arguments that they have."""

import pytest
from omegaconf import OmegaConf

from weightgen import InputError
from weightgen.training.components import COMPONENT, component


def specs(value):
    """All mappings with a component in a nested structure."""
    if isinstance(value, dict):
        if COMPONENT in value:
            yield value
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from specs(item)


def check(path):
    for spec in specs(OmegaConf.to_container(OmegaConf.load(path))):
        component(spec)


def test_every_component_can_be_bound(root):
    for path in sorted((root / "recipes").rglob("*.y*ml")):
        check(path)


def test_a_wrong_argument_is_found(tmp_path):
    (tmp_path / "a.yaml").write_text("x: [{y: {_component_: weightgen.networks.MLP, hiden_dims: [3]}}]")
    with pytest.raises(InputError, match="Did you mean: 'hidden_dims'"):
        check(tmp_path / "a.yaml")
