"""What the demos ask for; how stages run is tested in tests/reports/test_stages.py."""

import pytest

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.reports.demos import DEMOS, demo_stages
from weightgen.reports.stages import missing_stages
from weightgen.storage.files import write_json
from weightgen.training.config import parse


@pytest.mark.parametrize("name", list(DEMOS))
def test_every_stage_is_a_command_that_its_script_understands(root, tmp_path, name):
    chain = demo_stages(tmp_path, name)
    for stage in chain.values():
        script, *words = stage.command
        assert (root / script).is_file()
        if script.startswith("recipes/"):
            recipe = loaded(root, script.removeprefix("recipes/").removesuffix(".py"))
            words = [str(root / word) if word.startswith("recipes/configs") else word for word in words]
            parse(recipe.Config, None, words)
    assert missing_stages(chain) == list(chain)
    assert list(chain)[0] == name and list(chain)[-1] == "evaluate"


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({"demo": "birds"}, "one of photos, scenes"),
        ({"prompt": " "}, "expected a question"),
        ({"demo": "scenes", "answers": "red"}, "two answers or more"),
        ({"demo": "scenes", "images": "nowhere"}, "no folder nowhere"),
    ],
)
def test_wrong_use_is_refused_before_any_work(root, tmp_path, words, reason):
    demo = loaded(root, "demo")
    with pytest.raises(InputError, match=reason):
        demo.main(demo.Config(output=str(tmp_path / "out"), **words))
    assert not (tmp_path / "out").exists()


def test_a_folder_of_another_demo_is_refused(root, tmp_path):
    demo = loaded(root, "demo")
    write_json(tmp_path / "origin.json", {"demo": "photos"})
    with pytest.raises(InputError, match="holds results of"):
        demo.main(demo.Config(demo="scenes", output=str(tmp_path)))
