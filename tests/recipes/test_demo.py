"""What the demos ask for; how stages run is tested in tests/reports/test_stages.py."""

import pytest
import torch

from tests.recipes.small import loaded
from weightgen import InputError
from weightgen.reports.demos import DEMOS, demo_stages
from weightgen.reports.stages import missing_stages
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


def test_the_nearest_task(root):
    demo = loaded(root, "demo")
    rows = [{"question": "what color is it?"}, {"question": "what shape is it?"}]
    splits = {"train": rows[:1], "test": rows[1:]}

    class Encoder:
        def encode_questions(self, texts):
            return torch.tensor([[1.0, float("color" in text)] for text in texts])

    assert demo.nearest_task("what color is it?", splits, Encoder()) == rows[0]
    assert demo.nearest_task("which color has it?", splits, Encoder()) == rows[0]
    assert demo.nearest_task("which form has it?", splits, Encoder()) == rows[1]


def test_wrong_use(root, tmp_path):
    demo = loaded(root, "demo")
    for words, reason in (({"demo": "birds"}, "one of scenes"), ({"prompt": " "}, "expected a question")):
        with pytest.raises(InputError, match=reason):
            demo.main(demo.Config(output=str(tmp_path / "out"), **words))
    assert not (tmp_path / "out").exists()
