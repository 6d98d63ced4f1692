"""The Python of the README runs exactly as it is printed, on small models that stand where it looks for trained ones.

`runs/demo/pipeline`, which `make demo` makes, takes questions only; every other pipeline takes examples too. `images`, `labels`
and `pixels` are given. A name of a pipeline that comes with the package is left to it.
"""

import ast
import re

import pytest
import torch
from diffusers import DDIMScheduler
from PIL import Image

from tests.tiny import E, Z, tiny_pipeline
from weightgen import WeightPipeline
from weightgen.hypernets import HyperTransformer, SupportHNet
from weightgen.networks import ConvNet
from weightgen.priors import DiffusionPrior, MLPDenoiser
from weightgen.storage.shipped import SHIPPED

DEMO = "runs/demo/pipeline"
D = 3


def blocks(text):
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def words_of(code):
    """Small-letter words of all texts in the code, so that no two answers are unknown words."""
    texts = (
        node.value
        for node in ast.walk(ast.parse(code))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    )
    return sorted({word for text in texts for word in re.findall(r"\w+", text.lower())})


def with_support(plain):
    """The same pipeline with a denoiser that knows support sets."""
    support = SupportHNet.for_network(plain.network, dim=8, heads=2, rounds=2, step=0.1, embed_dim=D)
    support.fit(support.base + torch.randn(20, plain.space.size))
    denoiser = MLPDenoiser(Z, E, hidden_dims=(32, 32), time_dim=8, support_dim=D)
    denoiser.embeds.load_state_dict(plain.prior.denoiser.embeds.state_dict())
    denoiser.supports.fit(0.1 * torch.randn(20, D))
    prior = DiffusionPrior(denoiser, DDIMScheduler(num_train_timesteps=50, clip_sample=False))
    prior.latents.load_state_dict(plain.prior.latents.state_dict())
    return WeightPipeline(plain.encoder, prior, plain.hypernet, plain.network, "{}", support=support)


def furnished(code, folder):
    """Make what the code reads: pipelines, a HyperTransformer and pictures, by their names in it."""
    plain = tiny_pipeline(folder / "tiny", words_of(code))
    for kind, name in re.findall(r"(\w+)\.from_pretrained\(\s*[\"']([^\"']+)", code):
        target = folder / name
        if target.exists() or (SHIPPED / name).is_dir():
            continue
        if kind == "WeightPipeline":
            (plain if name == DEMO else with_support(plain)).save_pretrained(target)
        elif kind == "HyperTransformer":
            HyperTransformer(ConvNet(4, 5), layers=1).save_pretrained(target)
    for name in re.findall(r"[\"']([\w./-]+\.(?:png|jpe?g))[\"']", code):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (40, 32), "red").save(folder / name)
    return plain


def given(block):
    """`images` and `labels` for a block: pictures of every answer, or numbers for a CNN."""
    if "pixels" in block:
        pixels = torch.randint(256, (5, 1, 28, 28), dtype=torch.uint8)
        return {"pixels": pixels, "labels": torch.arange(5)}
    lists = [node for node in ast.walk(ast.parse(block)) if isinstance(node, ast.List) and len(node.elts) > 1]
    count = max(
        (len(each.elts) for each in lists if all(isinstance(e, ast.Constant) for e in each.elts)), default=2
    )
    images = [Image.new("RGB", (40, 32), (60 * k % 256, 30, 90)) for k in range(count)]
    return {"images": images, "labels": list(range(count))}


def run(text, folder, monkeypatch):
    monkeypatch.chdir(folder)
    found = blocks(text)
    names = {"pipe": furnished("\n".join(found), folder)}
    for block in found:
        names |= given(block)
        exec(compile(block, "README.md", "exec"), names)
    return found, names


@pytest.mark.filterwarnings("error")
def test_the_python_of_the_readme_runs(root, tmp_path, monkeypatch):
    found, names = run((root / "README.md").read_text(), tmp_path, monkeypatch)
    assert found and names["pipe"].parts
    if "out" in names:
        assert names["out"].weights.isfinite().all()


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ('from weightgen import WeightPipeline\npipe = WeightPipeline.from_pretrained("runs/demo/pipeline")\n'
         'pipe("What color?", ["red", "blue"], support=(images, labels))\n', "questions only"),
        ("from weightgen import NoSuchName\n", "NoSuchName"),
        ('pipe("What color?", answers=["red"])\n', "two answers"),
    ],
)  # fmt: skip
def test_code_that_does_not_run_is_seen(code, error, tmp_path, monkeypatch):
    with pytest.raises((ValueError, ImportError), match=error):
        run(f"```python\n{code}```\n", tmp_path, monkeypatch)
