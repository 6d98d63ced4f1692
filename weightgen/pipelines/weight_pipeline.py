"""Text in, weights out: the whole of HyperLDM behind one call.

    prompt ─ encoder ─► embeds (B, E) ─ DiffusionPrior ─► latents (B, K, Z) ─ hypernetwork ─► weights (B, K, P)
    examples ─ encoder, SupportHNet ─► (B, D) ─┘

Notation: B prompts, K samples of each, E embedding of a question, D of a support set, Z latent, P weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Generator, Tensor, nn

from weightgen.data.meta_vqa.templates import check_template
from weightgen.encoders.load import check_encoder
from weightgen.errors import InputError
from weightgen.hypernets import SupportHNet
from weightgen.pipelines.arguments import check_condition, check_numbers, check_room, check_weights
from weightgen.pipelines.familiarity import Familiarity
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
from weightgen.pipelines.placement import place
from weightgen.pipelines.saved_pipeline import SavedPipeline
from weightgen.pipelines.steps import StepCallback, after_steps
from weightgen.pipelines.support_sets import Support
from weightgen.priors import DiffusionPrior, PointPrior
from weightgen.protocols import Encoder
from weightgen.weights import FunctionalNetwork, WeightSpace


class WeightPipeline(SavedPipeline):
    """Sample the weights of a classifier from a question, from examples, or from both.

    References:
        Nava, Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance", 2023, section 4.2 (HyperLDM).

    Args:
        encoder: embeds prompts, answers and images.
        prior: embeds → latents; a `PointPrior` for a hypernetwork that reads questions, such as that of Cond. Multitask.
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
        prior: DiffusionPrior | PointPrior,
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
        self._bar: dict[str, Any] = {"disable": True}
        if self.space != hypernet.space:
            raise InputError("the hypernetwork writes weights of another network than the base network given")
        taken = getattr(network.module, "input_dim", encoder.image_dim)
        if taken != encoder.image_dim:
            raise InputError(
                f"the base network takes features of {taken} numbers, but the encoder {encoder.name} gives {encoder.image_dim}: "
                "take the features that the network was trained on, with image tokens or without"
            )
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
        return self.prior.latents.mean.device

    @property
    def scheduler(self) -> Any:
        """The diffusers scheduler that sampling uses; assign another to sample differently. A `PointPrior` has none."""
        return self._diffusion.scheduler

    @scheduler.setter
    def scheduler(self, scheduler: Any) -> None:
        self._diffusion.scheduler = scheduler

    @property
    def _diffusion(self) -> DiffusionPrior:
        if not isinstance(self.prior, DiffusionPrior):
            raise InputError(
                f"this pipeline has no scheduler: its {type(self.prior).__name__} samples without diffusion"
            )
        return self.prior

    @property
    def parts(self) -> dict[str, Any]:
        """What is saved, by name."""
        found: dict[str, Any] = {"encoder": self.encoder, "prior": self.prior}
        found |= {"hypernet": self.hypernet, "network": self.network.module}
        further = {"support": self.support, "familiarity": self.familiarity}
        return found | {name: part for name, part in further.items() if part is not None}

    def to(self, device: str | torch.device | None = None, dtype: torch.dtype | None = None) -> Self:
        """Move all parts, and choose the precision in which weights are generated; returns the pipeline.

        The encoder keeps its precision, and so do the classifiers, whose features it makes.

        Args:
            device: where everything runs.
            dtype: of prior and hypernetwork, such as `torch.bfloat16`.

        Raises:
            InputError: no such device, no floating-point type, or an encoder that cannot be moved.
        """
        place(self.encoder, self.parts, device, dtype)
        return self

    def set_progress_bar_config(self, **config: Any) -> None:
        """Show a progress bar while sampling, with these arguments of tqdm; `disable=True` hides it again."""
        self._bar = config

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
        callback_on_step_end: StepCallback | None = None,
        decode: bool = True,
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
            callback_on_step_end: called as (pipe, step, timestep, {"latents": …}) after each step, with standardised latents (B·K, Z), the
                K samples of a prompt next to each other; it may return a dictionary with other latents.
            decode: whether the hypernetwork turns latents into weights.

        Returns:
            Weights (B, K, P), or (B, K, 0) if they are not decoded, and the latents (B, K, Z).

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
        with after_steps(self, callback_on_step_end, num_inference_steps, self._bar) as on_step:
            latents = self.prior.sample(
                known.repeat_interleave(num_samples, dim=0),
                num_inference_steps=num_inference_steps,
                generator=streams(generator, len(known), num_samples),
                guide=inner if guide is None else lambda denoiser: guide(inner(denoiser)),
                temperature=temperature,
                on_step=on_step,
            )
        weights = self.decode(latents) if decode else latents.new_empty(len(latents), 0)
        return weights.unflatten(0, (len(known), -1)), latents.unflatten(0, (len(known), -1))

    @torch.no_grad()
    def decode(self, latents: Tensor) -> Tensor:
        """Weights (*, P) of latents (*, Z), by the hypernetwork.

        Raises:
            InputError: some are not finite.
        """
        return check_weights(self.hypernet(latents))

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
        callback_on_step_end: StepCallback | None = None,
        output_type: str = "weights",
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
            callback_on_step_end: see `sample`.
            output_type: "weights", or "latent" to leave the hypernetwork out; `GeneratedWeights.decoded` makes up for it.

        Raises:
            InputError: an empty prompt, answers given twice or fewer than two, a number out of range, or examples that do not fit.
        """
        if output_type not in ("weights", "latent"):
            raise InputError(f"output_type must be 'weights' or 'latent', got {output_type!r}")
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
            callback_on_step_end=callback_on_step_end,
            decode=output_type == "weights",
            **settings,
        )
        if support_embeds is None:
            del settings["support_guidance_scale"]
        known = self.familiarity(embeds) if self.familiarity is not None and embeds is not None else None
        asked_for = (asked.prompts, asked.templates, asked.choices)
        return GeneratedWeights(weights, latents, *asked_for, self, settings, known)
