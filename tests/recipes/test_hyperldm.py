"""The HyperLDM recipe: what it saves is the average of its steps, which the released code computes and throws away."""

import importlib.util

import pytest
import torch

from tests.tiny import tiny_clip
from weightgen.data.features.embed import names_to_embed
from weightgen.data.features.writer import FeaturePlan, FeatureWriter
from weightgen.data.meta_vqa.disk import Task, load_meta_vqa, save_meta_vqa
from weightgen.encoders.load import load_clip
from weightgen.hypernets import HVAE
from weightgen.networks import CLIPAdapter
from weightgen.storage.files import read_tensors, write_tensors
from weightgen.weights import WeightSpace

QUESTIONS = ["what color is the star?", "what shape is the star?", "what color is the moon?", "what shape is the moon?"]  # fmt: skip


@pytest.fixture(scope="module")
def recipe(root):
    spec = importlib.util.spec_from_file_location("train_hyperldm", root / "recipes/train_hyperldm.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def save_data(folder, clip, source):
    """Four tasks of random features in `folder`."""
    tasks = [
        Task(question, ["red", "green"], [f"{i}s{k}" for k in range(4)], [0, 1, 0, 1], [f"{i}q{k}" for k in range(40)],
             [k % 2 for k in range(40)], "it is {}")
        for i, question in enumerate(QUESTIONS)
    ]  # fmt: skip
    save_meta_vqa({name: tasks for name in ("train", "validation", "test")}, folder)
    plan = FeaturePlan(f"{clip.digest} fp32", **names_to_embed(load_meta_vqa(folder)), dtype="single")
    writer = FeatureWriter(folder / "features" / "clip", plan)
    writer.begin()
    for kind, number in writer.unfinished():
        shard = plan.shards(kind)[number]
        writer.write(
            kind,
            number,
            torch.randn(len(shard), clip.image_dim) if kind == "images" else clip.encode_texts(shard),
        )
    encoder = {"model": source, "pretrained": None, "preprocess": "center-crop"}
    writer.finish({"fewest": {"examples": 2, "answers": 2}, "encoder": encoder})


@pytest.fixture(scope="module")
def train(recipe, tmp_path_factory):
    """Run the recipe on data of its own; returns the weights of the part of the pipeline that it saved."""
    folder = tmp_path_factory.mktemp("hyperldm")
    clip = load_clip(str(tiny_clip(folder / "clip")))
    save_data(folder / "data", clip, str(folder / "clip"))
    network = CLIPAdapter(clip.image_dim, 2)
    space = WeightSpace.of(network)
    adapted = torch.randn(8, len(QUESTIONS), space.size)
    hvae = HVAE(space, 3, (8,)).fit(adapted.flatten(0, 1))
    network.save_pretrained(folder / "hvae/network")
    hvae.save_pretrained(folder / "hvae/hypernet")
    write_tensors(folder / "adapted/adapted.safetensors", {"weights": adapted})

    def run(name, part="prior/denoiser", **settings):
        paths = {key: str(folder / key) for key in ("adapted", "hvae")}
        denoiser = {"_component_": "weightgen.priors.MLPDenoiser", "hidden_dims": [8]}
        cfg = recipe.Config(
            dataset=str(folder / "data"), output=str(folder / name), denoiser=denoiser, batch_size=8, num_inference_steps=2,
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
