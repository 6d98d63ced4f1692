"""The HyperLDM recipe: what it saves is the average of its steps, which the released code computes and throws away."""

import pytest
import torch

from tests.recipes.small import fill_zoo, loaded, save_data
from tests.tiny import tiny_clip
from weightgen.encoders.load import load_clip
from weightgen.hypernets import HVAE, SharedWeights
from weightgen.networks import CLIPAdapter
from weightgen.storage.files import read_tensors, write_json
from weightgen.storage.hub import class_path
from weightgen.weights import FunctionalNetwork

TASKS = 4


@pytest.fixture(scope="module")
def train(root, tmp_path_factory):
    """Run the recipe on data of its own; returns the weights of the part of the pipeline that it saved."""
    folder = tmp_path_factory.mktemp("hyperldm")
    clip = load_clip(str(tiny_clip(folder / "clip")))
    save_data(folder / "data", clip=folder / "clip", tasks=TASKS)
    network = FunctionalNetwork(CLIPAdapter(clip.image_dim, 2))
    adapted = torch.randn(8, TASKS, network.space.size)
    hvae = HVAE(network.space, 3, (8,)).fit(adapted.flatten(0, 1))
    hvae.save_pretrained(folder / "hvae/hypernet")
    write_json(folder / "hvae/training.json", {"hypernet": class_path(hvae)})
    network.module.save_pretrained(folder / "adapted/network")
    start = SharedWeights(network.space)
    start.save_pretrained(folder / "adapted/hypernet")
    parts = {"network": class_path(network.module), "hypernet": class_path(start)}
    facts = {"steps": 1, "lr": 0.1, "inner_variable": "weights", **parts}
    write_json(folder / "adapted/adapted.json", facts)
    fill_zoo(folder / "adapted", network.space, adapted)
    recipe = loaded(root, "train_hyperldm")

    def run(name, part="prior/denoiser", **settings):
        paths = {key: str(folder / key) for key in ("adapted", "hvae")}
        denoiser = {"_component_": "weightgen.priors.MLPDenoiser", "hidden_dims": [8]}
        cfg = recipe.Config(
            dataset=str(folder / "data"), output=str(folder / name), denoiser=denoiser, batch_size=8, sampling={"num_inference_steps": 2},
            validate_every=99, lr=0.5, **paths, **settings,
        )  # fmt: skip
        recipe.main(cfg)
        return read_tensors(folder / name / part / "model.safetensors")

    return run


def test_what_is_saved_is_the_average_of_the_steps(train):
    # Steps are a function of their number, so a run of one step is the beginning of a run of two; decay 0 keeps the last step alone.
    first, second = (train(f"last{n}", steps=n, ema_decay=0.0) for n in (1, 2))
    average = train("average", steps=2, ema_decay=0.9999)
    assert average.keys() == first.keys() and any("gate" in name for name in average)
    decay = 2 / 11  # (1 + n) / (10 + n) after n = 1 updates
    for name, found in average.items():
        expected = decay * first[name] + (1 - decay) * second[name]
        torch.testing.assert_close(found, expected.to(found.dtype))
        assert name.startswith("embeds.") or not torch.allclose(found, second[name], rtol=1e-6, atol=0)


def test_the_decoder_is_trained_along_where_the_loss_sees_the_tasks(train):
    scheduler = {
        "_component_": "diffusers.DDIMScheduler", "num_train_timesteps": 20, "prediction_type": "sample", "clip_sample": False,
    }  # fmt: skip
    plain = train("plain", "hypernet", steps=2, ema_decay=0.0)
    seen = train(
        "seen", "hypernet", steps=2, ema_decay=0.0, scheduler=scheduler, function_weight=1.0, function_tasks=3
    )
    changed = {name for name in plain if not torch.equal(plain[name], seen[name])}
    assert changed == {name for name in plain if name.startswith("decoder")}
