"""Train the small CLIP of Scenes, on rendered pictures and generated captions.

    python data/scenes/train_clip.py output=runs/scenes_clip

Writes a folder that `weightgen.encoders.load_encoder` reads, with `training.json` (retrieval on held-out pictures) in it.
A short caption is true of many pictures, and the loss knows of which. A second loss has the whole scene read off the
image embedding (as CoCa, Yu et al. 2022, adds captioning to contrast): captions alone teach colors in minutes, but shapes,
patterns and places hardly ever. About 10 minutes on 2 CPU cores; data/scenes/README.md has the figures to expect.
"""

import random
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from itertools import repeat
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from tqdm import tqdm

from weightgen import training
from weightgen.data.scenes.captions import LOOKS, Grid, caption
from weightgen.data.scenes.matching import MatchingLoss
from weightgen.data.scenes.render import render
from weightgen.data.scenes.vqa_files import draw_scenes
from weightgen.data.scenes.world import ATTRIBUTES, POSITIONS, Scene
from weightgen.encoders.clip_folder import FileTokenizer, new_clip, save_clip
from weightgen.storage.files import write_json

MEAN, STD = 0.5, 0.25  # of every channel


@dataclass
class Config(training.RunConfig):
    images: int = 20_000  # pictures to render for training
    held_out: int = 1000  # unrelated pictures for validation
    data_seed: int = 77_000  # scenes of other seeds than those of data/scenes/prepare.py
    steps: int = 1200
    batch_size: int = 128
    validate_every: int = 300
    lr: float = 2e-3
    reading_weight: float = 10.0  # of the second loss
    max_grad_norm: float = 10.0
    weight_decay: float = 0.05
    warmup: int = 100
    context_length: int = 24
    vocabulary: int = 1024
    processes: int = 2
    model: dict[str, Any] = field(default_factory=lambda: {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": [1, 1, 1, 1], "width": 24},
        "text_cfg": {"width": 128, "heads": 4, "layers": 3},
        "init_logit_scale": 2.3,  # log of 10
        "init_logit_bias": -3.0,
    })  # fmt: skip


def picture(scene: Scene) -> np.ndarray:
    return np.asarray(render(scene))


def render_all(scenes: list[Scene], processes: int) -> Tensor:
    """Pictures (N, 3, 64, 64) uint8."""
    with ProcessPoolExecutor(processes) as pool:
        drawn = list(tqdm(pool.map(picture, scenes, chunksize=250), total=len(scenes), desc="rendering"))
    return torch.from_numpy(np.stack(drawn)).permute(0, 3, 1, 2).contiguous()


def train_tokenizer(captions: list[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE on small letters; the end token gets the highest id, which is where open_clip reads the text's embedding."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary - 2, special_tokens=["[PAD]"], initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.add_special_tokens(["[START]", "[END]"])
    ends = [(token, tokenizer.token_to_id(token)) for token in ("[START]", "[END]")]
    tokenizer.post_processor = processors.TemplateProcessing(single="[START] $A [END]", special_tokens=ends)
    return tokenizer


class Draws(random.Random):
    """Random draws whose state a checkpoint can hold."""

    def state_dict(self) -> dict[str, Tensor]:
        return {"state": torch.tensor(self.getstate()[1])}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        self.setstate((self.VERSION, tuple(state["state"].tolist()), None))


class Captioned:
    """Scenes with their pictures, and captions of them as they are asked for."""

    def __init__(
        self, scenes: list[Scene], processes: int, tokenize: FileTokenizer, device: torch.device
    ) -> None:
        self.scenes = scenes
        self.tokenize = tokenize
        self.device = device
        self.grid = Grid(scenes)
        self.pictures = render_all(scenes, processes).to(device)

    def batch(self, rows: list[int], rngs: Iterable[random.Random]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `MatchingLoss` takes: N scenes, and a caption of each, drawn by its own generator."""
        captions = [caption(self.scenes[row], rng) for row, rng in zip(rows, rngs, strict=False)]
        grid = self.grid[rows]
        truth = torch.from_numpy(np.stack([grid.fits(c) for c in captions], axis=1))
        tokens = self.tokenize([c.text for c in captions])
        pictures = self.pictures[rows].contiguous(memory_format=torch.channels_last)
        pixels = (pictures.float() / 255 - MEAN) / STD
        looks = torch.from_numpy(grid.looks)
        return pixels, tokens.to(self.device), truth.to(self.device), looks.to(self.device)


@torch.inference_mode()
def validate(objective: MatchingLoss, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, float]:
    """How well held-out pictures are found and read.

    How often the picture ranked first for a caption, or one of the first five, is one that the caption is true of; how often a look
    of an object is read off right, given its quarter.
    """
    pixels, tokens, truth, looks = batch
    objective.eval()
    logits, read = objective.score(pixels, tokens)
    objective.train()
    right = truth.gather(0, logits.argsort(dim=0, descending=True))
    there = looks[..., 0] >= 0
    read_right = {
        f"read_{name}": (part.argmax(dim=-1) == look + 1)[there].float().mean().item()
        for name, part, look in zip(LOOKS, read, looks.unbind(-1), strict=True)
    }
    precision = {f"precision_at_{k}": right[:k].float().mean().item() for k in (1, 5)}
    return {**precision, "chance": truth.float().mean().item(), **read_right}


def make_optimizer(objective: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; biases, norms and the temperature are not decayed, as in CLIP."""
    parameters = list(objective.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


def main(cfg: Config) -> None:
    run = training.start_run(cfg, processes=1)
    scenes, held_out = draw_scenes(cfg.images, cfg.data_seed), draw_scenes(cfg.held_out, cfg.data_seed + 1)
    said = [caption(s, random.Random(i)) for i, s in enumerate(scenes[:20_000])]
    tokenizer = train_tokenizer([c.text for c in said], cfg.vocabulary)
    tokenize = FileTokenizer(tokenizer, cfg.context_length)
    sizes = {"context_length": cfg.context_length, "vocab_size": tokenize.vocab_size}
    model_cfg = {**cfg.model, "text_cfg": {**cfg.model["text_cfg"], **sizes}}
    clip = new_clip(model_cfg, tokenizer)
    clip.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    looks = [len(ATTRIBUTES[name]) for name in LOOKS]
    objective = MatchingLoss(clip, cfg.model["embed_dim"], len(POSITIONS), looks, cfg.reading_weight)
    optimizer = make_optimizer(objective, cfg.weight_decay)
    prepared, optimizer = run.accelerator.prepare(objective, optimizer)
    train, validation = (Captioned(part, cfg.processes, tokenize, run.device) for part in (scenes, held_out))
    asked = validation.batch(list(range(cfg.held_out)), map(random.Random, range(cfg.held_out)))
    rng = Draws(cfg.seed)
    training.resume(run, optimizer, objective=objective, rng=rng)
    for step in training.step_numbers(run, cfg.steps):
        rows = rng.sample(range(cfg.images), cfg.batch_size)
        outcome = prepared(train.batch(rows, repeat(rng)))
        lr = cfg.lr * training.warmup_cosine(step, cfg.steps, cfg.warmup)
        training.update(
            run, optimizer, outcome.loss, prepared.parameters(), lr=lr, max_grad_norm=cfg.max_grad_norm
        )
        if training.due(step, cfg.validate_every, cfg.steps):
            training.log_metrics(run, step + 1, validate(objective, asked))
    settings = {key: value for key, value in asdict(cfg).items() if key not in ("output", "processes")}
    facts = {**validate(objective, asked), "step": cfg.steps, **settings}

    def fill(folder: Path) -> None:
        pixels = {"mean": [MEAN] * 3, "std": [STD] * 3}
        save_clip(clip, model_cfg, tokenizer, folder, half=True, pixels=pixels, overwrite=True)
        write_json(folder / "training.json", facts)

    training.finish(run, fill)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
