# %% [markdown]
# # A folder of LoRAs, a sentence, and a LoRA for it
#
# You have low-rank adapters of one base model, and a sentence about each. Here is the way to an adapter for a new sentence, which `peft` loads. The base model is
# a small one, and the adapters are fitted in a second, so that the page runs anywhere; with your own folder, begin at step 2.

# %%
import subprocess
import sys
import tempfile
from pathlib import Path

import peft
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from weightgen import Examples, TaskBatch, WeightPipeline, fine_tune
from weightgen.networks import lora_target

folder = Path(tempfile.mkdtemp())
recipes = Path("recipes") if Path("recipes").is_dir() else Path("../../recipes")
torch.manual_seed(0)
base = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 2)).requires_grad_(False)
save_file(base.state_dict(), folder / "base.safetensors")

# %% [markdown]
# **1. Adapters.** A thing has one of eight colors and one of eight shapes. The adapter of a sentence such as "the red star" makes the base model tell whether a
# thing is that one. All fits begin at one point ([why](../zoo.md)).

# %%
COLORS = ("red", "orange", "yellow", "green", "blue", "purple", "white", "black")
SHAPES = ("circle", "square", "triangle", "star", "heart", "cross", "ring", "moon")
sentences = [f"the {color} {shape}" for color in COLORS for shape in SHAPES]
unseen = sentences[::9]  # one of each color and of each shape


def things(numbers: torch.Tensor, examples: int = 200) -> TaskBatch:
    """For each sentence: half of the things have its color, and half its shape, the others any; the label says whether a thing has both."""
    color, shape = numbers[:, None] // 8, numbers[:, None] % 8
    colors, shapes = torch.randint(8, (2, len(numbers), examples))
    colors = torch.where(torch.rand(colors.shape) < 0.6, color, colors)
    shapes = torch.where(torch.rand(shapes.shape) < 0.6, shape, shapes)
    inputs = torch.cat([nn.functional.one_hot(part, 8) for part in (colors, shapes)], dim=-1).float()
    found = Examples(inputs, ((colors == color) & (shapes == shape)).long())
    return TaskBatch(found, found, torch.zeros(len(numbers), 1), {})


config = peft.LoraConfig(r=2, lora_alpha=2, target_modules=["2"])
network = lora_target(base, config)
known = [number for number, sentence in enumerate(sentences) if sentence not in unseen]
start = network.initial_weights.expand(len(known), -1)
fitted = fine_tune(network, None, things(torch.tensor(known)), steps=100, lr=0.3, start=start).detach()
for number, weights in zip(known, fitted, strict=True):
    place = folder / "adapters" / sentences[number].replace(" ", "_")
    network.with_weights(weights).save_pretrained(place)
    (place / "README.md").write_text(f"description: {sentences[number]}\n")

# %% [markdown]
# **2. The folder as a zoo.** Each adapter has a folder, and a line `description: ...` in its card; a file of descriptions does as well. The import compares the
# adapters with each other, and runs nothing that lies in the folder. The two factors of a low-rank product can be turned against each other without any change of
# what the adapter does, and gradient descent leaves them anywhere; `--align` brings them into one form. Without it, adapters that do the same may lie far apart.


# %%
def run(*words: str) -> None:
    """Run a command as in a shell: python WORDS"""
    done = subprocess.run([sys.executable, *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    print(done.stdout.strip().splitlines()[-1])


run("-m", "weightgen", "zoo", "import", f"{folder / 'adapters'}", "--align", "--output", f"{folder / 'zoo'}")

# %% [markdown]
# **3. A generator**: an autoencoder of the adapters, and a diffusion model of its latents. The text encoder comes with the package.

# %%
run(f"{recipes / 'train_hvae.py'}", f"adapted={folder / 'zoo'}", f"output={folder / 'hvae'}", "hypernet.latent_dim=24",
    "hypernet.hidden_dims=[64]", "kl_weight=0.1", "steps=100", "lr=0.001", "batch_size=16")  # fmt: skip
run(f"{recipes / 'train_hyperldm.py'}", f"adapted={folder / 'zoo'}", f"hvae={folder / 'hvae'}", f"output={folder / 'pipeline'}",
    "text_encoder=photos", "denoiser.hidden_dims=[128,128]", "scheduler.prediction_type=sample", "posterior_noise=0.2", "ema_decay=0.99",
    "steps=600", "batch_size=64", "lr=0.002", "validate_every=100")  # fmt: skip

# %% [markdown]
# **4. A new sentence.** `peft` loads the folder onto the base model. With so few adapters, a guidance scale of 3 makes the sentence count; it is the one that
# validation tasks choose for [adapters of a real model](../zoo.md), too.

# %%
pipe = WeightPipeline.from_pretrained(folder / "pipeline")


def adapted(sentence: str) -> nn.Module:
    """The base model with an adapter that is generated for a sentence."""
    place = folder / "generated" / sentence.replace(" ", "_")
    place.parent.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    pipe(sentence, guidance_scale=3.0, generator=generator).save_pretrained(place, "peft", overwrite=True)
    fresh = nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, 2))
    fresh.load_state_dict(load_file(folder / "base.safetensors"))
    return peft.PeftModel.from_pretrained(fresh, place).eval()


@torch.no_grad()
def accuracy(model: nn.Module, number: int) -> float:
    inputs, labels = things(torch.tensor([number]), 2000).query
    return model(inputs[0]).argmax(dim=-1).eq(labels[0]).float().mean().item()


right = [accuracy(adapted(sentence), sentences.index(sentence)) for sentence in unseen]
wrong = [
    accuracy(adapted(other), sentences.index(sentence))
    for other, sentence in zip(unseen[1:], unseen, strict=False)
]
print(
    f"adapters of {len(unseen)} unseen sentences: {sum(right) / len(right):.2f}; of other sentences: {sum(wrong) / len(wrong):.2f}"
)
assert sum(right) / len(right) > 0.7 > 0.65 > sum(wrong) / len(wrong)
