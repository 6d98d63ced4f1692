"""Train the small CLIP that sees Scenes, on generated pictures and captions.

    accelerate launch recipes/train_clip.py output=data/scenes/clip

Writes a folder that `weightgen.encoders.clip.load_clip` reads, with `training.json` (retrieval on held-out pictures) in it.
Every picture has siblings that differ from it in a few attributes, and a batch holds whole families: telling siblings apart is what
makes the model bind attributes to objects. About 50 minutes on one CPU core. Its figures stand in data/scenes/README.md.
"""

import math
import random
import time
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import MISSING
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from tqdm import tqdm

from weightgen.config import parse
from weightgen.data.scenes.captions import caption
from weightgen.data.scenes.render import render
from weightgen.data.scenes.vqa_files import draw_scenes
from weightgen.data.scenes.world import Scene, draw_sibling
from weightgen.encoders.clip_folder import FileTokenizer, new_clip, save_clip
from weightgen.errors import one_line_errors
from weightgen.files import write_json
from weightgen.training import check_finite, set_lr, warmup_cosine

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


@dataclass
class Config:
    output: str = MISSING  # folder of the model to be
    families: int = 12_000  # groups of sibling pictures to render for training
    siblings: int = 4
    held_out: int = 1000  # unrelated pictures for validation
    data_seed: int = 77_000  # scenes of other seeds than those of data/scenes/prepare.py
    steps: int = 2400
    batch_size: int = 256
    checkpoint_every: int = 400
    lr: float = 1.5e-3
    weight_decay: float = 0.05
    warmup: int = 100
    context_length: int = 32
    vocabulary: int = 1024
    seed: int = 0
    processes: int = 2
    model: dict[str, Any] = field(default_factory=lambda: {
        "embed_dim": 128,
        "vision_cfg": {"image_size": 64, "layers": [1, 2, 2, 1], "width": 16},
        "text_cfg": {"width": 128, "heads": 4, "layers": 3},
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


class Contrastive(nn.Module):
    """CLIP's loss: in each batch, find the caption of every picture and the picture of every caption."""

    def __init__(self, clip: nn.Module) -> None:
        super().__init__()
        self.clip = clip

    def embed(self, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        pixels = (pictures.float() / 255 - pictures.new_tensor(MEAN, dtype=torch.float32)[:, None, None]) / STD[0]
        return self.clip.encode_image(pixels, normalize=True), self.clip.encode_text(tokens, normalize=True)

    def forward(self, pictures: Tensor, tokens: Tensor) -> Tensor:
        images, texts = self.embed(pictures, tokens)
        logits = self.clip.logit_scale.exp() * images @ texts.T
        own = torch.arange(len(logits), device=logits.device)
        return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


@torch.inference_mode()
def retrieval(objective: Contrastive, pictures: Tensor, tokens: Tensor) -> dict[str, float]:
    """Share of held-out pictures whose own caption is the first, or among the first five, of all of them."""
    objective.eval()
    pairs = [objective.embed(*pair) for pair in zip(pictures.split(250), tokens.split(250), strict=True)]
    images, texts = (torch.cat(side) for side in zip(*pairs, strict=True))
    objective.train()
    ranks = (images @ texts.T).argsort(dim=1, descending=True).argsort(dim=1).diagonal()
    return {f"recall_at_{k}": (ranks < k).float().mean().item() for k in (1, 5)}


def draw_families(cfg: Config) -> list[Scene]:
    """Scenes of all families, one family after the other."""
    scenes = []
    for i, first in enumerate(draw_scenes(cfg.families, cfg.data_seed)):
        rng = random.Random(f"family {cfg.data_seed} {i}")
        scenes += [first, *(draw_sibling(first, rng) for _ in range(cfg.siblings - 1))]
    return scenes


def make_optimizer(objective: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """AdamW; biases, norms and the temperature are not decayed, as in CLIP."""
    parameters = list(objective.parameters())
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, betas=(0.9, 0.98))


@one_line_errors()
def main(cfg: Config) -> None:
    accelerator = Accelerator()
    set_seed(cfg.seed)
    started = time.time()
    scenes = draw_families(cfg)
    validation = draw_scenes(cfg.held_out, cfg.data_seed + 1)
    tokenizer = train_tokenizer([caption(s, random.Random(i)) for i, s in enumerate(scenes[:20_000])], cfg.vocabulary)
    tokenize = FileTokenizer(tokenizer, cfg.context_length)
    sizes = {"context_length": cfg.context_length, "vocab_size": tokenize.vocab_size}
    model_cfg = {**cfg.model, "text_cfg": {**cfg.model["text_cfg"], **sizes}}
    clip = new_clip(model_cfg, tokenizer)
    clip.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    optimizer = make_optimizer(objective := Contrastive(clip), cfg.weight_decay)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    pictures, held_out = (render_all(part, cfg.processes) for part in (scenes, validation))
    said = tokenize([caption(s, random.Random(i)) for i, s in enumerate(validation)])

    def save(step: int) -> None:
        found = retrieval(accelerator.unwrap_model(objective), held_out.to(accelerator.device), said.to(accelerator.device))
        facts = {**found, "chance_at_1": 1 / cfg.held_out, "steps": step, "seconds": round(time.time() - started), **asdict(cfg)}
        save_clip(clip, model_cfg, tokenizer, cfg.output, half=True, pixels={"mean": MEAN, "std": STD}, overwrite=True)
        write_json(Path(cfg.output) / "training.json", facts)
        tqdm.write(f"step {step}: {found}")

    rng = random.Random(cfg.seed + accelerator.process_index)
    bar = tqdm(range(cfg.steps), desc="training CLIP", disable=not accelerator.is_main_process, mininterval=5)
    for step in bar:
        families = rng.sample(range(cfg.families), cfg.batch_size // cfg.siblings)
        rows = [family * cfg.siblings + i for family in families for i in range(cfg.siblings)]
        tokens = tokenize([caption(scenes[i], rng) for i in rows])
        loss = objective(pictures[rows].to(accelerator.device), tokens.to(accelerator.device))
        check_finite(loss, step, "contrastive loss")
        set_lr(optimizer, cfg.lr * warmup_cosine(step, cfg.steps, cfg.warmup))
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(objective.parameters(), 1.0)
        optimizer.step()
        with torch.no_grad():
            clip.logit_scale.clamp_(max=math.log(100))
        bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        if accelerator.is_main_process and ((step + 1) % cfg.checkpoint_every == 0 or step + 1 == cfg.steps):
            save(step + 1)


if __name__ == "__main__":
    main(parse(Config, __doc__))
