"""Train the small CLIP that sees Scenes, on generated pictures and captions.

    accelerate launch recipes/train_clip.py output=data/scenes/clip

Writes a folder that `weightgen.encoders.clip.load_clip` reads, with `training.json` (retrieval on held-out pictures) in it.
Captions are short, so one is true of many pictures; the loss knows of which. A second loss has the whole scene read off the
image embedding (as CoCa, Yu et al. 2022, adds captioning to contrast): captions alone teach colors in minutes, but shapes,
patterns and places hardly ever. About 10 minutes on 2 CPU cores. Its figures stand in data/scenes/README.md.
"""

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
from weightgen.data.scenes.captions import Caption, Grid, caption
from weightgen.data.scenes.render import render
from weightgen.data.scenes.vqa_files import draw_scenes
from weightgen.data.scenes.world import ATTRIBUTES, POSITIONS, Scene
from weightgen.encoders.clip_folder import FileTokenizer, new_clip, save_clip
from weightgen.errors import one_line_errors
from weightgen.files import write_json
from weightgen.training import check_finite, set_lr, warmup_cosine

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)
LOOKS = [
    len(ATTRIBUTES[name]) + 1 for name in ("shape", "color", "size", "pattern")
]  # one more: an empty quarter


@dataclass
class Config:
    output: str = MISSING  # folder of the model to be
    images: int = 20_000  # pictures to render for training
    held_out: int = 1000  # unrelated pictures for validation
    data_seed: int = 77_000  # scenes of other seeds than those of data/scenes/prepare.py
    steps: int = 1200
    batch_size: int = 128
    checkpoint_every: int = 300
    lr: float = 2e-3
    reading_weight: float = 10.0  # of the second loss
    clip_norm: float = 10.0
    weight_decay: float = 0.05
    warmup: int = 100
    context_length: int = 24
    vocabulary: int = 1024
    seed: int = 0
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


class Matching(nn.Module):
    """Sigmoid loss over all pairs of a picture and a caption, with the truth of each pair as its label.

    As in SigLIP (Zhai et al., 2023), logits are scale · cosine + bias; there only a caption's own picture counts as a match.
    """

    def __init__(self, clip: nn.Module, embed_dim: int) -> None:
        super().__init__()
        self.clip = clip
        self.reader = nn.Linear(embed_dim, len(POSITIONS) * sum(LOOKS))

    def forward(self, pictures: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of N pictures (N, 3, H, W) uint8 and M captions (M, L), with shape (N, M); what is read: (N, 4, sum of LOOKS)."""
        pictures = pictures.contiguous(memory_format=torch.channels_last)
        pixels = (
            pictures.float() / 255 - pictures.new_tensor(MEAN, dtype=torch.float32)[:, None, None]
        ) / STD[0]
        images = self.clip.encode_image(pixels, normalize=True)
        texts = self.clip.encode_text(tokens, normalize=True)
        read = self.reader(images * images.shape[-1] ** 0.5).unflatten(1, (len(POSITIONS), -1))
        return self.clip.logit_scale.exp() * images @ texts.T + self.clip.logit_bias, read


def reading_loss(read: Tensor, looks: Tensor) -> Tensor:
    """Cross-entropy of the looks (N, 4, 4) of the object in each quarter, -1 where there is none, summed over the four looks."""
    parts = zip(read.split(LOOKS, dim=-1), looks.long().unbind(-1), strict=True)
    return sum(
        (F.cross_entropy(part.flatten(0, 1), look.flatten() + 1) for part, look in parts), read.new_zeros(())
    )


@torch.inference_mode()
def retrieval(objective: Matching, pictures: Tensor, tokens: Tensor, truth: Tensor) -> dict[str, float]:
    """How often the picture that CLIP ranks first for a caption, or one of the first five, is one that the caption is true of."""
    objective.eval()
    ranked = objective(pictures, tokens)[0].argsort(dim=0, descending=True)
    objective.train()
    right = truth.gather(0, ranked)
    return {f"precision_at_{k}": right[:k].float().mean().item() for k in (1, 5)} | {
        "chance": truth.float().mean().item()
    }


def truth_of(grid: Grid, captions: list[Caption]) -> np.ndarray:
    """Which of M captions are true of which of N scenes, with shape (N, M)."""
    return np.stack([grid.fits(c) for c in captions], axis=1)


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
    scenes, validation = draw_scenes(cfg.images, cfg.data_seed), draw_scenes(cfg.held_out, cfg.data_seed + 1)
    said = [caption(s, random.Random(i)) for i, s in enumerate(scenes[:20_000])]
    tokenizer = train_tokenizer([c.text for c in said], cfg.vocabulary)
    tokenize = FileTokenizer(tokenizer, cfg.context_length)
    sizes = {"context_length": cfg.context_length, "vocab_size": tokenize.vocab_size}
    model_cfg = {**cfg.model, "text_cfg": {**cfg.model["text_cfg"], **sizes}}
    clip = new_clip(model_cfg, tokenizer)
    clip.visual.to(memory_format=torch.channels_last)  # a third faster on a CPU
    optimizer = make_optimizer(objective := Matching(clip, cfg.model["embed_dim"]), cfg.weight_decay)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    pictures, held_out = (
        render_all(part, cfg.processes).to(accelerator.device) for part in (scenes, validation)
    )
    grid = Grid(scenes)
    looks = torch.from_numpy(grid.looks).to(accelerator.device)
    asked = [caption(s, random.Random(i)) for i, s in enumerate(validation)]
    asked_tokens = tokenize([c.text for c in asked]).to(accelerator.device)
    asked_truth = torch.from_numpy(truth_of(Grid(validation), asked)).to(accelerator.device)

    def save(step: int) -> None:
        found = retrieval(accelerator.unwrap_model(objective), held_out, asked_tokens, asked_truth)
        settings = {key: value for key, value in asdict(cfg).items() if key not in ("output", "processes")}
        facts = {**found, "step": step, "seconds": round(time.time() - started), **settings}
        save_clip(
            clip,
            model_cfg,
            tokenizer,
            cfg.output,
            half=True,
            pixels={"mean": MEAN, "std": STD},
            overwrite=True,
        )
        write_json(Path(cfg.output) / "training.json", facts)
        tqdm.write(f"step {step}: {found}")

    rng = random.Random(cfg.seed + accelerator.process_index)
    bar = tqdm(range(cfg.steps), desc="training CLIP", disable=not accelerator.is_main_process, mininterval=5)
    for step in bar:
        rows = rng.sample(range(cfg.images), cfg.batch_size)
        captions = [caption(scenes[i], rng) for i in rows]
        truth = torch.from_numpy(truth_of(grid[rows], captions)).to(accelerator.device)
        tokens = tokenize([c.text for c in captions]).to(accelerator.device)
        logits, read = objective(pictures[rows], tokens)
        matching = F.binary_cross_entropy_with_logits(logits, truth.float(), reduction="sum") / len(rows)
        reading = reading_loss(read, looks[rows])
        loss = matching + cfg.reading_weight * reading
        check_finite(loss, step, "loss")
        set_lr(optimizer, cfg.lr * warmup_cosine(step, cfg.steps, cfg.warmup))
        optimizer.zero_grad()
        accelerator.backward(loss)
        accelerator.clip_grad_norm_(objective.parameters(), cfg.clip_norm)
        optimizer.step()
        bar.set_postfix(matching=f"{matching.item():.2f}", reading=f"{reading.item():.2f}", refresh=False)
        if accelerator.is_main_process and ((step + 1) % cfg.checkpoint_every == 0 or step + 1 == cfg.steps):
            save(step + 1)


if __name__ == "__main__":
    main(parse(Config, __doc__))
