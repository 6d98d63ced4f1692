"""What the demo asks for; how stages run is tested in tests/test_stages.py."""

import importlib.util
import sys

import pytest


@pytest.fixture(scope="module")
def demo(root):
    spec = importlib.util.spec_from_file_location("demo_recipe", root / "recipes" / "demo.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["demo_recipe"] = module
    spec.loader.exec_module(module)
    return module


def test_every_stage_names_a_script_and_a_configuration(demo, root, tmp_path):
    stages = demo.stages(tmp_path)
    for stage in stages.values():
        assert (root / stage.command[0]).is_file()
        for before, word in zip(stage.command, stage.command[1:], strict=False):
            assert before != "--config" or (root / word).is_file()
    assert list(stages)[0] == "scenes" and list(stages)[-1] == "evaluate"
