r"""Train HyperLDM, latent diffusion from questions to latents of weights, and save the whole as a pipeline.

    accelerate launch recipes/train_hyperldm.py dataset=runs/demo/scenes/dataset adapted=runs/demo/adapted hvae=runs/demo/hvae \
        output=runs/demo/pipeline

The latents are the encodings that an HVAE gives of adapted weights; without `hvae`, they are the adapted latents of an HNet (from
`adapt_tasks` with `point=latents`), whose decoder is that HNet.

With `function_weight` γ the loss sees what the denoised weights do, too, and the decoder is trained along (ours, not the paper's).

With `support`, examples are a second condition beside the question, each dropped by itself in training: the pipeline then takes a question,
examples, or both, and validation is the mean of the three.

What samples is the exponential moving average. The state with the best zero-shot accuracy on validation tasks (at the best of
`validate_scales`) is kept. Paper: section 4.2, table 3 (Adam at 2.5e-4, batch 128, 6000 updates, linear β from 1e-4 to 0.06, T = 350).
"""

import copy
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from omegaconf import MISSING
from torch import Tensor, nn
from tqdm import tqdm

from weightgen.adaptation import one_pass_weights
from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.data.meta_vqa.tasks import MetaVQATasks
from weightgen.encoders.load import load_clip
from weightgen.errors import InputError, one_line_errors
from weightgen.evaluation.accuracy import evaluate
from weightgen.hypernets import HVAE, SupportHNet
from weightgen.hypernets.saving import load_hypernet
from weightgen.networks import CLIPAdapter
from weightgen.objectives import DenoisingLoss, FunctionalDenoisingLoss
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.priors import DiffusionPrior
from weightgen.shots import keep_shots, shot_order
from weightgen.storage.files import check_new, read_tensors, write_json
from weightgen.storage.hub import load_part
from weightgen.tasks import TaskBatchSampler, random_subset
from weightgen.training.config import build, parse
from weightgen.training.loop import check_finite, ema, rows_of_process, seed_step, set_lr, warmup_cosine


@dataclass
class Config:
    dataset: str = MISSING
    adapted: str = MISSING  # output of adapt_tasks
    hvae: str | None = None  # output of train_hvae; none for the adapted latents of an HNet
    support: str | None = None  # output of train_support: learn from examples too
    output: str = MISSING  # pipeline folder to make
    features: str | None = None
    denoiser: dict[str, Any] = field(default_factory=lambda: {"_component_": "weightgen.priors.MLPDenoiser"})
    scheduler: dict[str, Any] = field(default_factory=lambda: {
        "_component_": "diffusers.DDIMScheduler", "num_train_timesteps": 350, "beta_schedule": "linear", "beta_start": 1e-4,
        "beta_end": 0.06, "prediction_type": "epsilon", "clip_sample": False,
    })  # fmt: skip
    posterior_noise: float = 1.0  # times the posterior's own; 1 as in the released code, 0 learns its means
    drop_rate: float = 0.2
    function_weight: float = 0.0  # γ
    function_tasks: int = 32  # how many rows of a batch γ sees
    ema_decay: float = 0.9999
    steps: int = 6000
    batch_size: int = 128
    lr: float = 2.5e-4
    max_grad_norm: float = 10.0
    validate_every: int = 500
    validate_samples: int = 1  # of each validation task
    validate_scales: list[float] = field(default_factory=lambda: [1.5])  # the best of them counts
    support_draws: int = 8  # support sets of each training task
    validate_support_scale: float = 1.5
    validate_shots: int = 5  # examples of each class
    num_inference_steps: int = 20
    questions: float = (
        1.0  # share of the training tasks whose question is known; the others are learned from without one
    )
    seed: int = 0


def latent_posterior(cfg: Config, device: torch.device) -> tuple[Any, Tensor, Tensor]:
    """What decodes latents, and the mean and standard deviation of the latents of each draw of each task, both (R, T, Z)."""
    adapted = read_tensors(Path(cfg.adapted) / "adapted.safetensors")
    if cfg.hvae:
        if "weights" not in adapted:
            raise InputError(
                f"{cfg.adapted} has no weights for an HVAE: run adapt_tasks with keep_weights=true"
            )
        hvae = load_part(HVAE, Path(cfg.hvae) / "hypernet").to(device).requires_grad_(False)
        posterior = hvae.encode(adapted["weights"].to(device))
        return hvae, posterior.mean, posterior.stddev
    if "latents" not in adapted:
        raise InputError(
            f"{cfg.adapted} has weights, no latents: give hvae=..., or run adapt_tasks with point=latents"
        )
    hypernet = load_hypernet(cfg.adapted, "adapted.json").to(device).requires_grad_(False)
    latents = adapted["latents"].to(device)
    return hypernet, latents, torch.zeros_like(latents)


def train_decoder(hypernet: nn.Module) -> None:
    """Let all of a hypernetwork learn but what reads weights, and the latent where the adaptation of others starts."""
    for name, parameter in hypernet.named_parameters():
        parameter.requires_grad_(not name.startswith(("encoder", "start")))


def shown_examples(
    cfg: Config, train: MetaVQATasks, validation: MetaVQATasks, device: torch.device
) -> tuple[SupportHNet | None, Tensor, Tensor]:
    """What embeds examples; embeddings (R, T, D) of support sets of the training tasks, and (V, D) of the validation tasks."""
    if cfg.support is None:
        return None, torch.empty(0), torch.empty(0)
    hypernet = load_part(SupportHNet, Path(cfg.support) / "hypernet").to(device).requires_grad_(False)
    batch, rows = validation.batch(), torch.arange(len(validation))
    few = keep_shots(batch.support, cfg.validate_shots, shot_order(batch, rows, cfg.seed))
    shown = hypernet.encode(few, batch.context["answers"])
    return hypernet, one_pass_weights(hypernet, train, cfg.support_draws, seed=cfg.seed, embed=True), shown


def main(cfg: Config) -> None:
    guidable = cfg.drop_rate > 0 or cfg.questions < 1  # the denoiser sees tasks without a question
    if cfg.support and not cfg.drop_rate > 0:
        raise InputError(
            "a question or examples alone are learned by dropping the other: write drop_rate=0.2"
        )
    if not cfg.validate_scales:
        raise InputError("expected guidance scales to validate at: write validate_scales=[1.5]")
    if not guidable and set(cfg.validate_scales) != {1}:
        raise InputError(
            "without conditioning dropout nothing is guided: write validate_scales=[1], or drop_rate=0.2"
        )
    if cfg.function_weight and not 0 < cfg.function_tasks <= cfg.batch_size:
        raise InputError(
            f"expected function_tasks from 1 to batch_size={cfg.batch_size}, got {cfg.function_tasks}"
        )
    check_new(cfg.output)
    accelerator = Accelerator()
    set_seed(cfg.seed)
    device = accelerator.device
    splits = load_meta_vqa(cfg.dataset)
    store = find_features(cfg.dataset, cfg.features)
    train, validation = (MetaVQATasks(splits[name], store, device) for name in ("train", "validation"))
    for tasks in (train, validation):
        tasks.check_questions()
    embeds, validation_embeds = train.batch().embeds, validation.batch().embeds
    known = torch.tensor(random_subset(len(train), cfg.questions, cfg.seed))
    conditions = torch.zeros_like(embeds).index_copy(0, known.to(device), embeds[known])  # zero: no question
    network = load_part(CLIPAdapter, Path(cfg.hvae or cfg.adapted) / "network").to(device)
    hypernet, mean, stddev = latent_posterior(cfg, device)

    support, examples, shown = shown_examples(cfg, train, validation, device)
    sizes = {"latent_dim": mean.shape[-1], "embed_dim": embeds.shape[-1]}
    sizes |= {"support_dim": support.embed_dim} if support else {}
    denoiser = build(cfg.denoiser, **sizes).to(device)
    denoiser.embeds.fit(embeds[known])
    if support:
        denoiser.supports.fit(examples.flatten(0, 1))
    scheduler = build(cfg.scheduler)
    model = nn.ModuleDict({"denoiser": denoiser, "hypernet": hypernet})
    average = ema(model, cfg.ema_decay)
    sampled = average.module["hypernet"]
    prior = DiffusionPrior(average.module["denoiser"], scheduler)
    prior.latents.to(device).fit(mean + cfg.posterior_noise * stddev * torch.randn_like(mean))
    source = {key: store.index["encoder"].get(key) for key in ("model", "pretrained", "preprocess")}
    clip = load_clip(source["model"], source["pretrained"], device=device, preprocess=source["preprocess"])
    templates = set(splits["train"]["template"])
    template = templates.pop() if len(templates) == 1 else None
    pipe = WeightPipeline(clip, prior, sampled, network, source, template, guidable, support)
    objective: nn.Module = DenoisingLoss(denoiser, scheduler, cfg.drop_rate)
    if cfg.function_weight:
        train_decoder(hypernet)
        objective = FunctionalDenoisingLoss(objective, prior.latents, hypernet, network, cfg.function_weight)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.Adam(trained, lr=cfg.lr)
    objective, optimizer = accelerator.prepare(objective, optimizer)

    def zero_shot(text: Tensor | None, support_embeds: Tensor | None, scale: float) -> float:
        rows = [torch.Generator().manual_seed(row) for row in range(len(validation))]
        weights, _ = pipe.sample(
            text, support_embeds=support_embeds, guidance_scale=scale,
            support_guidance_scale=cfg.validate_support_scale, num_inference_steps=cfg.num_inference_steps,
            num_samples=cfg.validate_samples, generator=rows,
        )  # fmt: skip
        return evaluate(sampled.space, network, validation, lambda _, tasks: weights[tasks]).macro

    asked_with: list[tuple[Tensor | None, Tensor | None]] = [(validation_embeds, None)]
    if support:
        asked_with += [(None, shown), (validation_embeds, shown)]

    def validate() -> float:
        return max(fmean(zero_shot(*given, scale) for given in asked_with) for scale in cfg.validate_scales)

    best = {"step": 0, "validation_accuracy": 0.0}
    kept = copy.deepcopy(average.module.state_dict())
    sampler = TaskBatchSampler(train.sizes, cfg.function_tasks, cfg.steps, cfg.seed)
    bar = tqdm(sampler, desc="training HyperLDM", disable=not accelerator.is_main_process)
    for step, chosen in enumerate(bar):
        seed_step(cfg.seed, step, accelerator.process_index)
        asked = (
            rows_of_process(chosen, accelerator.process_index, accelerator.num_processes)
            if cfg.function_weight
            else []
        )
        others = torch.randint(len(train), (cfg.batch_size - len(asked),), device=device)
        rows = torch.cat([torch.tensor(asked, dtype=torch.int64, device=device), others])
        draws = torch.randint(len(mean), (len(rows),), device=device)
        # A fresh posterior sample per use, as the released code does: it smooths the latents.
        noise = torch.randn(len(rows), mean.shape[-1], device=device)
        latents = mean[draws, rows] + cfg.posterior_noise * stddev[draws, rows] * noise
        given = conditions[rows]
        if support:
            shown_draws = torch.randint(len(examples), rows.shape, device=device)
            given = torch.cat([given, examples[shown_draws, rows]], dim=-1)
        batch = (prior.latents(latents), given, *([train.batch(asked)] if asked else []))
        outcome = objective(batch)
        check_finite(outcome.loss, step, "denoising loss")
        set_lr(optimizer, cfg.lr * warmup_cosine(step, cfg.steps, 50))
        optimizer.zero_grad()
        accelerator.backward(outcome.loss)
        accelerator.clip_grad_norm_(trained, cfg.max_grad_norm)
        optimizer.step()
        average.update_parameters(model)
        if (step + 1) % cfg.validate_every == 0 or step + 1 == cfg.steps:
            average.module.eval()
            accuracy = validate()
            bar.set_postfix(loss=f"{outcome.loss.item():.3f}", validation=f"{accuracy:.3f}")
            if accuracy > best["validation_accuracy"]:
                best = {"step": step + 1, "validation_accuracy": accuracy}
                kept = copy.deepcopy(average.module.state_dict())
    average.module.load_state_dict(kept)
    if accelerator.is_main_process:
        pipe.save_pretrained(cfg.output)
        write_json(Path(cfg.output) / "training.json", {**best, "steps": cfg.steps, "seed": cfg.seed})
        print(
            f"{cfg.output}: zero-shot validation accuracy {best['validation_accuracy']:.3f} at step {best['step']}"
        )


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
