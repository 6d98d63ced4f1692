"""The one command from data to tables, with every stage as small as can be, for the settings of Scenes and for the paper's."""

import json

import pytest

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_clip
from weightgen.training.config import parse

pytestmark = pytest.mark.slow
# Sizes and lengths only: all else is what the configuration files say.
SMALL = {
    "train_hypernet": ["steps=1", "network.hidden_dim=4"],
    "adapt_tasks": ["steps=[2]", "draws=2"],
    "train_hvae": ["steps=1", "hypernet.hidden_dims=[4]", "hypernet.latent_dim=2"],
    "train_hyperclip": ["steps=1"],
    "train_hyperldm": ["steps=1", "denoiser.hidden_dims=[8]", "denoiser.time_dim=4", "sampling.num_inference_steps=2", "batch_size=8",
                       "function_tasks=2"],
    "studies/score_methods": ["num_inference_steps=2", "few_shot_steps=2"],
}  # fmt: skip


@pytest.mark.parametrize("setting", ["scenes", "paper"])
def test_from_data_to_tables(root, tmp_path, monkeypatch, setting):
    clip = tiny_clip(tmp_path / "clip")
    tested = ["held_out_meanings", "new_wordings"] if setting == "scenes" else ["test"]
    splits = ["train", "validation", *tested]
    data = save_data(tmp_path / "dataset", splits, clip=clip, tasks=4)
    reproduce = loaded(root, "reproduce")

    def run(command, _):
        name = command[0].removeprefix("recipes/").removesuffix(".py")
        recipe = loaded(root, name)
        words = [root / word if word.startswith("recipes/configs") else word for word in command[1:]]
        recipe.main(parse(recipe.Config, None, [*map(str, words), *SMALL.get(name, [])]))
        return 0

    def run_stages(stages, folder, clock):
        for stage in stages.values():
            assert run(stage.command, folder) == 0 and stage.makes.exists()
        clock.write_text(json.dumps({"all": 1.0}))

    monkeypatch.setattr(reproduce, "run", run)
    monkeypatch.setattr(reproduce, "run_stages", run_stages)
    paths = {name: str(tmp_path / name) for name in ("output", "runs")}
    reproduce.main(reproduce.Config(dataset=str(data), seeds=1, shares=[100], **paths))

    found = {path.name for path in (tmp_path / "output").iterdir()}
    tables = {f"{name}.{kind}" for name in ("table1", "table4", "task_inference") for kind in ("json", "md")}
    assert found == {
        *tables,
        "origin.json",
        "chosen.json",
        *(f"figure5{a}.{b}" for a in "ab" for b in ("json", "png")),
    }
    rows = json.loads((tmp_path / "output/table1.json").read_text())["rows"]
    assert len(rows) == 8 + 8 + 4
    for row in rows.values():
        assert list(row) == splits[2:] and len(row[tested[0]]["seeds"]) == 1
        assert all(0 <= value <= 1 for value in row[tested[0]]["seeds"])
