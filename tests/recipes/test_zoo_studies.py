"""The studies of zoos as they are run, in small: adapters of a text tower, and networks that draw."""

import pytest
import torch

from tests.recipes.small import loaded, save_data
from tests.tiny import tiny_clip
from weightgen.data.zoo.importing import import_zoo
from weightgen.storage.files import read_json

HVAE = {"_component_": "weightgen.hypernets.HVAE", "latent_dim": 2, "hidden_dims": [8]}
DENOISER = {"_component_": "weightgen.priors.MLPDenoiser", "hidden_dims": [8]}
SAMPLE = {"_component_": "weightgen.priors.paper_schedule", "prediction_type": "sample"}
FEW = {"steps": 2, "validate_every": 2, "batch_size": 4}


def generator(root, zoo, home, clip, score=None):
    """HVAE and HyperLDM of a zoo, in the folders where the studies look for them."""
    more = {"score": score, "function_weight": 1.0} if score else {}
    recipe = loaded(root, "train_hvae")
    recipe.main(recipe.Config(adapted=str(zoo), output=str(home / "hvae"), hypernet=HVAE, **FEW, **more))
    recipe = loaded(root, "train_hyperldm")
    recipe.main(
        recipe.Config(
            adapted=str(zoo), hvae=str(home / "hvae"), output=str(home / "pipeline_common"), text_encoder=str(clip),
            denoiser=DENOISER, scheduler=SAMPLE, function_tasks=4, sampling={"num_inference_steps": 2}, **FEW, **more,
        )
    )  # fmt: skip


@pytest.mark.filterwarnings("ignore:.is_gradient_checkpointing.:FutureWarning")
def test_generated_adapters_are_scored_as_peft_loads_them(root, tmp_path):
    pytest.importorskip("peft")
    torch.manual_seed(0)
    clip = tiny_clip(tmp_path / "clip")
    splits = ("train", "validation", "held_out_meanings")
    data = {"dataset": str(save_data(tmp_path / "data", splits, clip=clip, tasks=4)), "rank": 2}
    tower = {"tower": str(tmp_path / "tower")}
    fit = loaded(root, "studies/fit_loras")
    for name, common in (("common", True), ("own", False)):
        fit.main(
            fit.Config(output=str(tmp_path / name), common_start=common, start_steps=2, batch_size=3, steps=[2], lrs=[0.1], **data, **tower)
        )  # fmt: skip
    zoo = import_zoo(tmp_path / "common/adapters", tmp_path / "zoo_common", tmp_path / "common/texts.jsonl")
    own = import_zoo(tmp_path / "own/adapters", tmp_path / "zoo_own", tmp_path / "own/texts.jsonl")
    assert zoo.shape == own.shape == (1, 8, zoo.space.size) and zoo.index.facts["adapter_config"]["r"] == 2
    apart, near = (each.rows()[:].std(dim=0).mean() for each in (own, zoo))
    assert apart > 2 * near  # fits that begin at one point stay near to each other
    generator(root, tmp_path / "zoo_common", tmp_path / "seed0", clip)
    write = loaded(root, "studies/write_loras")
    write.main(
        write.Config(start=str(tmp_path / "common"), output=str(tmp_path / "seed0/written"), steps=2, validate_every=2, **data, **tower)
    )  # fmt: skip
    score = loaded(root, "studies/score_loras")
    score.main(
        score.Config(runs=str(tmp_path), output=str(tmp_path / "scores.json"), zoos=["common"], neighbours=[1, 2], scales=[1.0], **data)
    )  # fmt: skip
    report = read_json(tmp_path / "scores.json")
    assert all(0 <= row["held_out_meanings"] <= 1 for row in report["rows"].values())
    assert report["rows"]["neighbours' average"]["chosen"] in (1, 2) and "HVAE + HyperLDM" in report["rows"]
    assert report["variance"]["common"]["96"] == pytest.approx(1)


def test_what_sampled_networks_draw_is_ranked(root, tmp_path):
    pytest.importorskip("matplotlib")
    fit = loaded(root, "studies/fit_pictures")
    fit.main(
        fit.Config(
            output=str(tmp_path / "common"), most=16, held_out=4, start_steps=1, start_batch=2, steps=2
        )
    )
    import_zoo(tmp_path / "common/networks", tmp_path / "zoo_common", tmp_path / "common/texts.jsonl")
    clip = root / "data/scenes/clip"
    score = {"_component_": "weightgen.objectives.drawn.DrawnDifference", "side": 4}
    generator(root, tmp_path / "zoo_common", tmp_path / "seed0", clip, score)
    recipe = loaded(root, "studies/score_pictures")
    output, sheet = tmp_path / "scores.json", tmp_path / "sheet.png"
    recipe.main(
        recipe.Config(runs=str(tmp_path), output=str(output), sheet=str(sheet), zoos=["common"], scales=[1.0])
    )
    report = read_json(output)
    assert report["captions"] == 4 and report["rows"]["rendered"] == 1
    assert set(report["rows"]) == {"rendered", *(f"{row}, common start" for row in
        ("fitted", "sampled", "nearest", "5 nearest", "mean of all"))}  # fmt: skip
    assert sheet.stat().st_size > 1000
