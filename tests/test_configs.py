"""Every YAML file of the recipes fits its recipe: known settings, components that exist, of the right kind, with arguments they have."""

import pytest
from omegaconf import OmegaConf

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.training.components import COMPONENT, HOMES, component
from weightgen.training.config import parse


def specs(value, name=None):
    """All mappings with a component in a nested structure, each with the name of its place."""
    if isinstance(value, dict):
        if COMPONENT in value:
            yield name, value
        for key, part in value.items():
            yield from specs(part, key)
    if isinstance(value, list):
        for part in value:
            yield from specs(part, name)


def check(settings):
    for name, spec in specs(settings):
        component(spec, name if name in HOMES else None)


def configurations(root):
    return sorted((root / "recipes/configs").rglob("*.y*ml"))


def test_every_file_is_a_configuration_of_its_recipe(root):
    """A folder of configurations has the name of a recipe, whose settings they are."""
    found = configurations(root)
    assert len(found) > 30
    for path in found:
        (recipe,) = (root / "recipes").rglob(f"{path.parent.name}.py")
        schema = loaded(root, recipe.relative_to(root / "recipes").with_suffix("")).Config
        given = OmegaConf.structured(schema)
        needed = [f"{key}=x" for key in OmegaConf.missing_keys(given)]
        settings = parse(schema, None, ["--config", str(path), *needed])
        check(vars(settings))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x: [{y: {_component_: weightgen.networks.MLP, hiden_dims: [3]}}]", "Did you mean: 'hidden_dims'"),
        ("denoiser: {_component_: weightgen.networks.MLP}", "the class of a denoiser"),
    ],
)
def test_wrong_files_are_found(text, message):
    with pytest.raises(InputError, match=message):
        check(OmegaConf.to_container(OmegaConf.create(text)))
