"""A whole pipeline of random weights, a few hundred kilobytes, for tests of what is done with one."""

from collections.abc import Sequence
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from weightgen.encoders.clip_folder import new_clip, save_clip
from weightgen.encoders.load import load_clip
from weightgen.hypernets.hvae import HVAE
from weightgen.networks.clip_adapter import CLIPAdapter
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.priors import DiffusionPrior
from weightgen.priors.denoiser import MLPDenoiser
from weightgen.weights import FunctionalNetwork

WORDS = ["[PAD]", "[UNK]", "[BOS]", *"what color shape is the star moon red green blue ? .".split(), "[EOS]"]
E, Z = 24, 6
CONFIG = {
    "embed_dim": E,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 16, "head_width": 8, "patch_size": 8},
    "text_cfg": {"context_length": 12, "vocab_size": len(WORDS), "width": 16, "heads": 2, "layers": 1},
}


def tiny_clip(folder: Path, more: Sequence[str] = ()) -> Path:
    """Save a CLIP of a few thousand random weights, with a tokenizer of a dozen words and `more`."""
    words = [*WORDS[:-1], *(word for word in more if word not in WORDS), WORDS[-1]]
    config = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": len(words)}}
    if more:
        config["text_cfg"]["context_length"] = 77
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[BOS] $A [EOS]", special_tokens=[("[BOS]", 2), ("[EOS]", len(words) - 1)]
    )
    save_clip(new_clip(config, tokenizer).eval(), config, tokenizer, folder)
    return folder


def tiny_pipeline(folder: Path, more: Sequence[str] = ()) -> WeightPipeline:
    """Make a pipeline whose prompts, noise and guidance scales all matter; its CLIP lies in `folder`/clip."""
    from diffusers import DDIMScheduler

    torch.manual_seed(0)
    clip = load_clip(str(tiny_clip(folder / "clip", more)))
    network = FunctionalNetwork(CLIPAdapter(embed_dim=E, hidden_dim=4))
    space = network.space
    hypernet = HVAE(space, latent_dim=Z, hidden_dims=(16,)).fit(torch.randn(64, space.size))
    denoiser = MLPDenoiser(latent_dim=Z, embed_dim=E, hidden_dims=(32, 32), time_dim=8)
    denoiser.embeds.fit(clip.encode_texts(["what color is the star?", "what shape is the moon?", "red"]))
    schedule = DDIMScheduler(num_train_timesteps=50, clip_sample=False)
    prior = DiffusionPrior(denoiser, schedule)
    prior.latents.fit(hypernet.encode(torch.randn(64, space.size)).mean.detach())
    return WeightPipeline(clip, prior, hypernet, network)
