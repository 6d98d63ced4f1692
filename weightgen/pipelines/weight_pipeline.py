"""Text in, weights out: the whole of HyperLDM behind one call.

    prompt ─ encoder ─► embeds (B, E) ─ DiffusionPrior ─► latents (B, K, Z) ─ hypernetwork ─► weights (B, K, P)
    examples ─ encoder, SupportHNet ─► (B, D) ─┘

Notation: B prompts, K samples of each, E embedding of a question, D of a support set, Z latent, P weights.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from weightgen.data.meta_vqa.templates import check_template
from weightgen.encoders.load import check_encoder
from weightgen.errors import InputError
from weightgen.hypernets import SupportHNet
from weightgen.pipelines.arguments import check_condition, check_numbers, check_room, check_weights
from weightgen.pipelines.familiarity import Familiarity
from weightgen.pipelines.folder import check_sizes_of, describe, pipeline_folder, read_pipeline
from weightgen.pipelines.generated_weights import INFO, GeneratedWeights
from weightgen.pipelines.inputs import (
    Guide,
    check_reading,
    check_request,
    check_scales,
    embed_supports,
    guided_condition,
    streams,
)  # fmt: skip
from weightgen.pipelines.support_sets import Support
from weightgen.priors import DiffusionPrior
from weightgen.protocols import Encoder
from weightgen.storage.files import StrPath, write_json, written_beside
from weightgen.weights import FunctionalNetwork, WeightSpace


class WeightPipeline:
    """Sample the weights of a classifier from a question, from examples, or from both.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.2 (HyperLDM).

    Args:
        encoder: embeds prompts, answers and images.
        prior: embeds → latents.
        hypernet: latents → weights.
        network: the base network whose weights are generated.
        template: the statement with one `{}` in which all answers of its data are embedded; None where every question has its own.
        guidable: whether the prior has learned to do without a question (conditioning dropout), so that it can be guided.
        support: embeds examples; None for a pipeline that takes questions only.
        familiarity: says how near a question is to those of the training; None where nothing is known of them.

    Raises:
        InputError: parts that do not fit each other.
    """

    def __init__(
        self,
        encoder: Encoder,
        prior: DiffusionPrior,
        hypernet: nn.Module,
        network: FunctionalNetwork,
        template: str | None = None,
        guidable: bool = True,
        support: SupportHNet | None = None,
        familiarity: Familiarity | None = None,
    ) -> None:
        self.encoder = check_encoder(encoder)
        self.prior = prior.eval()
        self.hypernet = hypernet.eval()
        self.network = network
        self.template = template
        self.guidable = guidable
        self.support = support.eval() if support is not None else None
        self.familiarity = familiarity.eval() if familiarity is not None else None
        if self.space != hypernet.space:
            raise InputError("the hypernetwork writes weights of another network than the base network given")
        if template is not None:
            check_template(template, "the pipeline's template")
        question_dim, *support_dims = prior.denoiser.part_dims
        if question_dim != encoder.question_dim:
            raise InputError(
                f"the prior was trained with questions of length {question_dim}, but the encoder {encoder.name} gives "
                f"{encoder.question_dim}"
            )
        dims = (support.embed_dim if support else 0, sum(support_dims))
        if dims[0] != dims[1]:
            raise InputError(
                f"support embeddings have length {dims[0]}, but the prior was trained with {dims[1]}"
            )

    @property
    def space(self) -> WeightSpace:
        """The order of the weights."""
        return self.network.space

    @property
    def device(self) -> torch.device:
        """Where weights are generated."""
        return next(self.prior.parameters()).device

    @property
    def scheduler(self) -> Any:
        """The diffusers scheduler that sampling uses; assign another to sample differently."""
        return self.prior.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self.prior.scheduler = scheduler

    @property
    def parts(self) -> dict[str, Any]:
        """What is saved, by name."""
        found: dict[str, Any] = {"encoder": self.encoder, "prior": self.prior}
        found |= {"hypernet": self.hypernet, "network": self.network.module}
        further = {"support": self.support, "familiarity": self.familiarity}
        return found | {name: part for name, part in further.items() if part is not None}

    @property
    def description(self) -> dict[str, Any]:
        """What `pipeline.json` holds."""
        return describe(self)

    def save_pretrained(
        self, folder: StrPath, overwrite: bool = False, training: Mapping[str, Any] | None = None
    ) -> None:
        """Write a folder of safetensors and JSON with all that the pipeline needs.

        Args:
            folder: the folder to make.
            overwrite: whether an existing one may be replaced.
            training: facts about the training, for `training.json`.

        Raises:
            InputError: the folder exists.
        """
        with written_beside(folder, overwrite) as partial:
            partial.mkdir()
            for name, part in self.parts.items():
                part.save_pretrained(partial / name)
            write_json(partial / "pipeline.json", self.description)
            if training is not None:
                write_json(partial / "training.json", dict(training))

    @classmethod
    def from_pretrained(
        cls, folder: StrPath, *, device: str | torch.device = "cpu", trust_remote_code: bool = False
    ) -> WeightPipeline:
        """Read what `save_pretrained` wrote.

        Args:
            folder: the folder, or the name of a pipeline that comes with the package.
            device: where everything runs.
            trust_remote_code: whether classes that are not weightgen's may be imported and run.

        Raises:
            InputError: the folder is missing, damaged, another library's, or names foreign classes.
        """
        parts, record = read_pipeline(folder, device, trust_remote_code)
        prior, network = parts.pop("prior"), FunctionalNetwork(parts.pop("network"))
        options = {"template": record.get("template"), "guidable": record.get("guidable", True)}
        pipe = cls(parts.pop("encoder"), prior, parts.pop("hypernet"), network, **options, **parts)
        check_sizes_of(pipe, record, pipeline_folder(folder) / "pipeline.json")
        return pipe

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
        guide: Guide | None = None,
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
            guide: further guidance, put around that by prompt and examples, e.g. `lambda d: FewShotGuidance(d, …)`. It sees B·K
                latents, the K samples of a prompt next to each other.

        Returns:
            Weights (B, K, P) and the latents (B, K, Z).

        Raises:
            InputError: a number out of range, a scale other than 1 for a prior that is not guidable, or an embedding of zeros, which
                means "no question", at a scale other than 0.
        """
        check_numbers(num_samples=num_samples, num_inference_steps=num_inference_steps)
        check_numbers(guidance_scale=guidance_scale, temperature=temperature)
        check_numbers(support_guidance_scale=support_guidance_scale)
        like, dims = self.prior.latents.mean, self.prior.denoiser.part_dims
        embeds, support_embeds = check_condition(embeds, support_embeds, dims, like, guidance_scale)
        scales = ((guidance_scale, embeds), (support_guidance_scale, support_embeds))
        check_scales([scale for scale, given in scales if given is not None], self.guidable)
        known, inner = guided_condition(
            self.prior.denoiser.part_dims, embeds, support_embeds, guidance_scale, support_guidance_scale
        )
        check_room((self.prior, self.hypernet), len(known) * num_samples, self.space.size)
        latents = self.prior.sample(
            known.repeat_interleave(num_samples, dim=0),
            num_inference_steps=num_inference_steps,
            generator=streams(generator, len(known), num_samples),
            guide=inner if guide is None else lambda denoiser: guide(inner(denoiser)),
            temperature=temperature,
        )
        weights = check_weights(self.hypernet(latents))
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
        guide: Guide | None = None,
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
            guide: see `sample`.

        Raises:
            InputError: an empty prompt, answers given twice or fewer than two, a number out of range, or examples that do not fit.
        """
        asked = check_request(prompt, prompt_embeds, answers, support, template or self.template)
        check_reading(self.encoder, asked)
        embeds, support_embeds = prompt_embeds, None
        if asked.supports is not None:
            support_embeds = embed_supports(self.encoder, self.support, asked)
        if prompt is not None:
            embeds = self.encoder.encode_questions(asked.prompts).clone()
        values = (guidance_scale, num_inference_steps, temperature, support_guidance_scale)
        settings: dict[str, Any] = dict(zip(INFO, values, strict=True))
        weights, latents = self.sample(
            embeds,
            support_embeds=support_embeds,
            num_samples=num_samples,
            generator=generator,
            guide=guide,
            **settings,
        )
        if support_embeds is None:
            del settings["support_guidance_scale"]
        known = self.familiarity(embeds) if self.familiarity is not None and embeds is not None else None
        asked_for = (asked.prompts, asked.templates, asked.choices)
        return GeneratedWeights(weights, latents, *asked_for, self, settings, known)

    def load_weights(self, path: StrPath) -> GeneratedWeights:
        """Read samples that `GeneratedWeights.save` wrote.

        Raises:
            InputError: not such a file, or one of another model.
        """
        return GeneratedWeights.load(path, self)
