"""Text in, weights out: the whole of HyperLDM behind one call.

    prompt ─ CLIP text tower ─► embeds (B, E) ─ DiffusionPrior ─► latents (B, K, Z) ─ hypernetwork ─► weights (B, K, P)
    examples ─ CLIP, SupportHNet ─► (B, D) ──────────┘

Notation: B prompts, K samples of each, Z latent, P weights, D support embedding.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor, nn

from weightgen import __version__
from weightgen.data.meta_vqa.templates import answer_texts, check_template, make_template
from weightgen.encoders.clip import CLIP
from weightgen.encoders.load import load_clip
from weightgen.errors import InputError
from weightgen.hypernets import SupportHNet
from weightgen.pipelines.classifier import Classifier
from weightgen.pipelines.inputs import (
    Support,
    check_answers,
    check_prompts,
    embed_support,
    guided_condition,
    support_list,
)
from weightgen.priors import DiffusionPrior
from weightgen.storage.files import (
    StrPath,
    read_json,
    read_metadata,
    read_tensors,
    write_json,
    write_tensors,
    written_beside,
)
from weightgen.storage.hub import class_named, class_path, load_part
from weightgen.weights import FunctionalNetwork

FORMAT = {"format": "weightgen-pipeline", "version": 1}
INFO = ("guidance_scale", "num_inference_steps", "temperature", "support_guidance_scale")
PARTS = ("prior", "hypernet", "network")


@dataclass
class GeneratedWeights:
    """What a pipeline returns.

    Attributes:
        weights: flat weights, with shape (B, K, P).
        latents: what they were decoded from, with shape (B, K, Z).
        prompts: the B prompts; empty texts where embeddings were given.
        templates: B statements with one `{}`, in which the answers are embedded.
        answers: the answers of each prompt, or None.
        info: how they were sampled.
    """

    weights: Tensor
    latents: Tensor
    prompts: list[str]
    templates: list[str]
    answers: list[list[str]] | None
    pipeline: WeightPipeline = field(repr=False)
    info: dict[str, Any] = field(default_factory=dict)

    def classifier(self, prompt: int = 0, sample: int = 0) -> Classifier:
        """The classifier with sample `sample` of prompt `prompt`.

        Raises:
            InputError: the pipeline was called without answers.
        """
        if self.answers is None:
            raise InputError(
                "a classifier needs answers to choose from: call the pipeline with answers=[...]"
            )
        pipe, answers = self.pipeline, self.answers[prompt]
        network = pipe.network.with_weights(self.weights[prompt, sample])
        embeds = pipe.clip.encode_texts(answer_texts(self.templates[prompt], answers))
        return Classifier(network, pipe.clip, answers, embeds.clone())

    def state_dict(self, prompt: int = 0, sample: int = 0) -> dict[str, Tensor]:
        """The parameters of the base network by name, for `network.load_state_dict`."""
        return self.pipeline.space.state_dict(self.weights[prompt, sample])

    def save(self, path: StrPath, prompt: int = 0) -> None:
        """Write the K samples of one prompt: `weights` (K, P) and `latents` (K, Z), with all else as metadata."""
        record = {
            "prompt": self.prompts[prompt], "template": self.templates[prompt], "clip": self.pipeline.clip.digest,
            "answers": self.answers[prompt] if self.answers else None, **self.info,
        }  # fmt: skip
        tensors = {"weights": self.weights[prompt], "latents": self.latents[prompt]}
        write_tensors(path, tensors, metadata={"weightgen": json.dumps(record)})


class WeightPipeline:
    """Sample the weights of a classifier from a question, from examples, or from both.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.2 (HyperLDM).

    Args:
        clip: embeds prompts, answers and images.
        prior: embeds → latents.
        hypernet: latents → weights.
        network: the base network whose weights are generated, as a function of its weights.
        clip_source: how to get the CLIP again: {"model", "pretrained", "preprocess"}.
        template: the statement with one `{}` in which all answers of its data are embedded; None where every question has its own.
        guidable: whether the prior has learned to do without a question (conditioning dropout), so that it can be guided.
        support: embeds examples; None for a pipeline that takes questions only.

    Raises:
        InputError: parts that do not fit each other.
    """

    def __init__(
        self,
        clip: CLIP,
        prior: DiffusionPrior,
        hypernet: nn.Module,
        network: FunctionalNetwork,
        clip_source: dict[str, Any],
        template: str | None = None,
        guidable: bool = True,
        support: SupportHNet | None = None,
    ) -> None:
        self.clip = clip
        self.prior = prior.eval()
        self.hypernet = hypernet.eval()
        self.network = network
        self.space = network.space
        self.clip_source = clip_source
        self.template = template
        self.guidable = guidable
        if self.space != hypernet.space:
            raise InputError("the hypernetwork writes weights of another network than the base network given")
        if template is not None:
            check_template(template, "the pipeline's template")
        self.support = support.eval() if support is not None else None
        dims = (support.embed_dim if support else 0, sum(prior.denoiser.part_dims[1:]))
        if dims[0] != dims[1]:
            raise InputError(
                f"support embeddings have length {dims[0]}, but the prior was trained with {dims[1]}"
            )

    @property
    def scheduler(self) -> Any:
        """The diffusers scheduler that sampling uses; assign another to sample differently."""
        return self.prior.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self.prior.scheduler = scheduler

    @property
    def parts(self) -> tuple[str, ...]:
        """The names of what is saved."""
        return PARTS if self.support is None else (*PARTS, "support")

    def _module(self, name: str) -> Any:
        return self.network.module if name == "network" else getattr(self, name)

    @property
    def description(self) -> dict[str, Any]:
        """What `pipeline.json` holds."""
        parts = {name: class_path(self._module(name)) for name in self.parts}
        sizes = {
            "embed_dim": self.clip.text_dim,
            "latent_dim": self.prior.denoiser.latent_dim,
            "weights": self.space.size,
        }
        about = {"parts": parts, "sizes": sizes, "template": self.template, "clip": self.clip_source}
        return {**FORMAT, "weightgen": __version__, **about, "guidable": self.guidable}

    def save_pretrained(self, folder: StrPath, overwrite: bool = False) -> None:
        """Write a folder of safetensors and JSON; a CLIP that came from a folder is copied into it.

        Raises:
            InputError: the folder exists.
        """
        with written_beside(folder, overwrite) as partial:
            partial.mkdir()
            for name in self.parts:
                self._module(name).save_pretrained(partial / name)
            description = self.description
            if Path(self.clip_source["model"]).is_dir():
                shutil.copytree(self.clip_source["model"], partial / "clip")
                description["clip"] = {**self.clip_source, "model": "clip"}
            write_json(partial / "pipeline.json", description)

    @classmethod
    def from_pretrained(
        cls, folder: StrPath, *, device: str | torch.device = "cpu", trust_remote_code: bool = False
    ) -> WeightPipeline:
        """Read what `save_pretrained` wrote.

        Args:
            folder: the folder.
            device: where everything runs.
            trust_remote_code: whether classes that are not weightgen's may be imported and run.

        Raises:
            InputError: the folder is missing, damaged, another library's, or names foreign classes.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise InputError(
                f"no folder {folder}: expected a saved WeightPipeline, such as `make demo` leaves in runs/demo/pipeline"
            )
        if not (folder / "pipeline.json").is_file():
            raise InputError(f"{folder} has no pipeline.json: it is not a saved WeightPipeline")
        record = read_json(folder / "pipeline.json")
        if not isinstance(record, dict) or any(record.get(key) != value for key, value in FORMAT.items()):
            raise InputError(
                f"{folder / 'pipeline.json'} is not of format {FORMAT['format']} version {FORMAT['version']}"
            )
        try:
            names = PARTS if "support" not in record["parts"] else (*PARTS, "support")
            kinds = {name: class_named(record["parts"][name], trust_remote_code) for name in names}
            source = dict(record["clip"])
            inside = folder / source["model"]
        except (KeyError, TypeError) as error:
            raise InputError(f"{folder / 'pipeline.json'} lacks {error}") from error
        if inside.is_dir():
            source["model"] = str(inside)
        clip = load_clip(
            source["model"],
            source.get("pretrained"),
            device=device,
            preprocess=source.get("preprocess", "center-crop"),
        )
        loaded = {name: load_part(kinds[name], folder / name).to(device) for name in names if name != "prior"}
        prior = kinds["prior"].from_pretrained(folder / "prior")
        return cls(
            clip,
            prior.to(device),
            loaded["hypernet"],
            FunctionalNetwork(loaded["network"]),
            source,
            record.get("template"),
            record.get("guidable", True),
            loaded.get("support"),
        )

    @torch.no_grad()
    def sample(
        self,
        embeds: Tensor | None,
        *,
        support_embeds: Tensor | None = None,
        num_samples: int = 1,
        guidance_scale: float = 1.5,
        support_guidance_scale: float = 2.0,
        num_inference_steps: int = 20,
        generator: Generator | Sequence[Generator] | None = None,
        temperature: float = 1.0,
    ) -> tuple[Tensor, Tensor]:
        """Sample weights for embedded prompts.

        Each sample draws from a stream of its own, seeded by the generator and by the sample's number alone: the same generator
        gives the same weights whatever the batch, and prompts that share one generator share their noise.

        Args:
            embeds: with shape (B, E); None where there are support embeddings only.
            support_embeds: with shape (B, D), from `SupportHNet.encode`.
            num_samples: K.
            guidance_scale: 0 ignores the prompt, 1 is conditional, above 1 guided (`ClassifierFreeGuidance`).
            support_guidance_scale: the same for examples; with a prompt, for what they add to it (`TextAndSupportGuidance`).
            num_inference_steps: denoising steps.
            generator: one for all prompts, or one per prompt.
            temperature: times the noise that sampling starts from; below 1, samples differ less (`DiffusionPrior.sample`).

        Returns:
            Weights (B, K, P) and the latents (B, K, Z).

        Raises:
            InputError: a number out of range, a scale other than 1 for a prior that is not guidable, or an embedding of zeros, which
                means "no question", at a scale other than 0.
        """
        if num_samples < 1:
            raise InputError(f"num_samples must be at least 1, got {num_samples}")
        scales = [
            scale
            for scale, given in ((guidance_scale, embeds), (support_guidance_scale, support_embeds))
            if given is not None
        ]
        if not self.guidable and scales != [1] * len(scales):
            raise InputError(
                f"this model was trained without conditioning dropout and cannot be guided: write guidance_scale=1, got {scales[0]}"
                if len(scales) == 1
                else f"without conditioning dropout there is no guidance: write 1 for both scales, got {scales}"
            )
        if embeds is not None and guidance_scale and not embeds.any(dim=-1).all():
            raise InputError(
                "an embedding is all zeros, which means 'no question': give a question, or guidance_scale=0"
            )
        known, guide = guided_condition(
            self.prior.denoiser.part_dims, embeds, support_embeds, guidance_scale, support_guidance_scale
        )
        latents = self.prior.sample(
            known.repeat_interleave(num_samples, dim=0),
            num_inference_steps=num_inference_steps,
            generator=_streams(generator, len(known), num_samples),
            guide=guide,
            temperature=temperature,
        )
        weights: Tensor = self.hypernet(latents)
        return weights.unflatten(0, (len(known), -1)), latents.unflatten(0, (len(known), -1))

    def __call__(
        self,
        prompt: str | Sequence[str] | None = None,
        answers: Sequence[str] | Sequence[Sequence[str]] | None = None,
        *,
        support: Support | Sequence[Support] | None = None,
        num_samples: int = 1,
        guidance_scale: float = 1.5,
        support_guidance_scale: float = 2.0,
        num_inference_steps: int = 20,
        generator: Generator | Sequence[Generator] | None = None,
        temperature: float = 1.0,
        template: str | None = None,
        prompt_embeds: Tensor | None = None,
    ) -> GeneratedWeights:
        """Sample K networks for each of B prompts, or support sets, or both.

        Args:
            prompt: a question, or B of them.
            answers: what the classifiers choose from; one list for all prompts, or one per prompt.
            support: examples (images, labels) for all prompts, or a list of B such pairs. Images are PIL images or paths; a label is an
                answer or its number. Each answer needs an example.
            num_samples: K.
            guidance_scale: see `sample`.
            support_guidance_scale: see `sample`.
            num_inference_steps: see `sample`.
            generator: see `sample`.
            temperature: see `sample`.
            template: statement with one `{}` for the answer; by default the pipeline's own, or else one made from the question.
            prompt_embeds: embeddings (B, E) in place of prompts.

        Raises:
            InputError: an empty prompt, answers given twice or fewer than two, a number out of range, or examples that do not fit.
        """
        if (prompt is None) == (prompt_embeds is None) and not (prompt is None and support is not None):
            raise InputError("give either a prompt or prompt_embeds, or examples as support=(images, labels)")
        embeds = prompt_embeds
        if prompt is not None:
            prompts = check_prompts(prompt)
            embeds = self.clip.encode_texts(prompts).clone()
        sets = None
        if support is not None:
            sets = support_list(support, None if embeds is None else len(embeds))
        count = len(sets) if sets is not None else len(embeds if embeds is not None else [])
        if prompt is None:
            prompts = [""] * count
        choices = check_answers(answers, count) if answers is not None else None
        template = template or self.template
        if template is not None:
            check_template(template, "template")
        if choices and template is None and prompt is None:
            raise InputError(
                "answers need a template when there is no prompt, e.g. template='the star is {}'"
            )
        templates = [template or make_template(text) for text in prompts]
        support_embeds = None if sets is None else self._embedded(sets, choices, templates)
        weights, latents = self.sample(
            embeds, support_embeds=support_embeds, num_samples=num_samples, guidance_scale=guidance_scale,
            support_guidance_scale=support_guidance_scale, num_inference_steps=num_inference_steps,
            generator=generator, temperature=temperature,
        )  # fmt: skip
        values = (guidance_scale, num_inference_steps, temperature, support_guidance_scale)
        info = dict(zip(INFO, values, strict=True))
        if sets is None:
            del info["support_guidance_scale"]
        return GeneratedWeights(weights, latents, prompts, templates, choices, self, info)

    def _embedded(
        self, sets: Sequence[Support], choices: list[list[str]] | None, templates: Sequence[str]
    ) -> Tensor:
        """Support embeddings (B, D)."""
        if self.support is None:
            raise InputError("this pipeline takes questions only: for examples, train one with support=...")
        if choices is None:
            raise InputError("examples need the answers to choose from: call the pipeline with answers=[...]")
        cases = zip(sets, choices, templates, strict=True)
        return torch.stack([embed_support(self.clip, self.support, *case) for case in cases])

    def load_weights(self, path: StrPath) -> GeneratedWeights:
        """Read samples that `GeneratedWeights.save` wrote.

        Raises:
            InputError: not such a file, or one of another model.
        """
        tensors, text = read_tensors(path), read_metadata(path).get("weightgen")
        if text is None or not {"weights", "latents"} <= tensors.keys():
            raise InputError(f"{path} holds no weights that `weightgen sample` wrote")
        record = json.loads(text)
        weights = tensors["weights"]
        if weights.shape[-1] != self.space.size or record["clip"] != self.clip.digest:
            raise InputError(f"{path} was sampled with another model: its weights do not fit this one")
        info = {key: record[key] for key in INFO if key in record}
        answers = [record["answers"]] if record["answers"] else None
        return GeneratedWeights(
            weights[None],
            tensors["latents"][None],
            [record["prompt"]],
            [record["template"]],
            answers,
            self,
            info,
        )


def _streams(
    generator: Generator | Sequence[Generator] | None, prompts: int, samples: int
) -> list[Generator]:
    """One generator per (prompt, sample), in that order."""
    if isinstance(generator, Sequence):
        if len(generator) != prompts:
            raise InputError(
                f"expected one generator, or one for each of {prompts} prompts, got {len(generator)}"
            )
        return [stream for one in generator for stream in _streams(one, 1, samples)]
    # Drawn one by one: torch draws longer tensors in another order, and the first samples must not depend on their number.
    seeds = [int(torch.randint(2**62, (), generator=generator)) for _ in range(samples)]
    return [Generator().manual_seed(seed) for _ in range(prompts) for seed in seeds]
