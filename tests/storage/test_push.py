"""Uploading to the Hub and loading from it by revision, against a stand-in; and the cards of saved folders."""

import os
import subprocess
import sys

import pytest
import torch
from huggingface_hub import ModelCard

from tests.storage.local_hub import local_hub
from tests.tiny import tiny_pipeline
from weightgen import InputError, WeightPipeline, WeightSpace
from weightgen.hypernets import HNet
from weightgen.storage.cards import CardFacts
from weightgen.storage.files import written_beside

SESSION = """
import sys, torch
from weightgen import InputError, WeightPipeline, WeightSpace
from weightgen.hypernets import HNet
from weightgen.storage.cards import CardFacts

pipe = WeightPipeline.from_pretrained(sys.argv[1])
url = pipe.push_to_hub("me/pipe", token="hf_x", facts=CardFacts(data="stars", metrics={"accuracy": 0.75}, seed=4))
first = url.rpartition("/")[2]
with torch.no_grad():
    pipe.hypernet.decoder[-1].bias.add_(1)
pipe.push_to_hub("me/pipe", token="hf_x")
pipe.push_to_hub("me/pipe", token="hf_x", revision="trial")
hypernet = HNet(WeightSpace.of(torch.nn.Linear(3, 2)), 4, hidden_dims=(5,))
hypernet.push_to_hub("me/hnet", token="hf_x")

z = torch.zeros(1, pipe.prior.denoiser.latent_dim)
for revision, expected in ((None, 0.0), (first, 1.0), ("trial", 0.0)):
    again = WeightPipeline.from_pretrained("hf://me/pipe", revision=revision)
    gap = (pipe.decode(z) - again.decode(z)).abs().max().item()
    assert (gap > 1e-3) == bool(expected), (revision, gap)
loaded = HNet.from_pretrained("hf://me/hnet", revision="main")
assert torch.equal(next(loaded.parameters()), next(hypernet.parameters()))
for name, how in (("hf://me/none", {}), ("hf://me/pipe", {"revision": "none"})):
    try:
        WeightPipeline.from_pretrained(name, **how)
    except InputError as error:
        assert "cannot download" in str(error), error
    else:
        raise AssertionError(name)
print("done")
"""


@pytest.fixture(scope="module")
def pipe(tmp_path_factory):
    return tiny_pipeline(tmp_path_factory.mktemp("tiny"))


def test_what_is_uploaded_can_be_loaded_by_revision(pipe, root, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    with local_hub() as (hub, address):
        env = {
            **os.environ,
            "PYTHONPATH": str(root),
            "HF_ENDPOINT": address,
            "HF_HOME": str(tmp_path / "home"),
        }
        env |= {"HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
        command = [sys.executable, "-W", "ignore", "-c", SESSION, str(tmp_path / "pipe")]
        done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0 and done.stdout.strip() == "done", done.stderr[-2000:]
    assert set(hub.repos) == {"me/pipe", "me/hnet"} and set(hub.repos["me/pipe"]) == {"main", "trial"}
    files = hub.commits[hub.repos["me/pipe"]["main"]]
    assert {"README.md", "pipeline.json", "hypernet/model.safetensors"} <= files.keys()
    assert ("POST", "/api/validate-yaml") in hub.requests


def test_the_card_of_a_pipeline(pipe, tmp_path):
    facts = CardFacts("stars", {"accuracy": 0.75}, ["It knows stars only."], license="mit")
    pipe.save_pretrained(tmp_path / "star-pipe", training={"steps": 9, "seed": 3}, facts=facts)
    card = ModelCard.load(tmp_path / "star-pipe/README.md")
    assert card.data.library_name == "weightgen" and card.data.license == "mit"
    (result,) = card.data.eval_results
    assert (result.dataset_name, result.metric_type, result.metric_value) == ("stars", "accuracy", 0.75)
    for text in (
        "# star-pipe",
        "WeightPipeline.from_pretrained",
        "| accuracy | 0.75 |",
        "- It knows stars only.",
        "## Seed\n\n3",
    ):
        assert text in card.text
    assert '"steps": 9' in card.text
    for part in ("hypernet", "network"):
        assert ModelCard.load(tmp_path / "star-pipe" / part / "README.md").data.library_name == "weightgen"
    WeightPipeline.from_pretrained(tmp_path / "star-pipe")


def test_a_card_has_the_name_that_its_folder_gets(pipe, tmp_path):
    with written_beside(tmp_path / "v1.2") as partial:
        pipe.save_pretrained(partial)
    assert ModelCard.load(tmp_path / "v1.2/README.md").text.strip().startswith("# v1.2\n")


def test_what_is_not_known_is_not_in_the_card(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    text = (tmp_path / "pipe/README.md").read_text()
    assert not any(word in text for word in ("Metrics", "Data", "Limits", "Seed", "Training", "null"))


def test_the_card_of_a_part(tmp_path):
    hypernet = HNet(WeightSpace.of(torch.nn.Linear(3, 2)), 4, hidden_dims=(5,))
    hypernet.save_pretrained(tmp_path / "part", model_card_kwargs={"data": "stars", "seed": 1})
    card = ModelCard.load(tmp_path / "part/README.md")
    assert "from weightgen.hypernets.hnet import HNet" in card.text and "## Seed\n\n1" in card.text


def test_wrong_names(pipe, tmp_path):
    pipe.save_pretrained(tmp_path / "pipe")
    with pytest.raises(InputError, match="revision is for names on the Hub"):
        WeightPipeline.from_pretrained(tmp_path / "pipe", revision="main")
    with pytest.raises(InputError, match="cannot upload to a/b/c"):
        pipe.push_to_hub("a/b/c", token="hf_x")
    with pytest.raises(InputError, match="cannot download hf://a/b"):  # offline
        WeightPipeline.from_pretrained("hf://a/b")
