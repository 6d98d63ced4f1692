"""What a pipeline returns: sampled weights, and the classifiers that they make.

Notation: B prompts, K samples of each, Z latent, P weights.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from torch import Tensor

from weightgen.data.meta_vqa.templates import answer_texts
from weightgen.errors import InputError
from weightgen.pipelines.classifier import Classifier
from weightgen.pipelines.familiarity import KNOWN
from weightgen.pipelines.mixed_classifier import MixedClassifier
from weightgen.pipelines.weights_file import check_shapes, read_record
from weightgen.storage.files import StrPath, read_tensors, write_tensors
from weightgen.storage.hub import check_finite

if TYPE_CHECKING:
    from weightgen.pipelines.weight_pipeline import WeightPipeline

INFO = ("guidance_scale", "num_inference_steps", "temperature", "support_guidance_scale")
"""How weights were sampled: what is saved with them."""


@dataclass
class GeneratedWeights:
    """Weights sampled for B prompts.

    Attributes:
        weights: flat weights, with shape (B, K, P).
        latents: what they were decoded from, with shape (B, K, Z).
        prompts: the B prompts; empty texts where embeddings were given.
        templates: B statements with one `{}`, in which the answers are embedded.
        answers: the answers of each prompt, or None.
        info: how they were sampled.
        familiarity: how near each prompt is to the questions of the training, from 0 to 1, with shape (B,); None where the pipeline
            does not know, or prompts were not given.
    """

    weights: Tensor
    latents: Tensor
    prompts: list[str]
    templates: list[str]
    answers: list[list[str]] | None
    pipeline: WeightPipeline = field(repr=False)
    info: dict[str, Any] = field(default_factory=dict)
    familiarity: Tensor | None = None

    def classifier(self, prompt: int = 0, sample: int = 0) -> Classifier:
        """The classifier with sample `sample` of prompt `prompt`.

        Raises:
            InputError: the pipeline was called without answers.
        """
        if self.answers is None:
            raise InputError(
                "a classifier needs answers to choose from: call the pipeline with answers=[...]"
            )
        self._check_decoded()
        encoder, answers = self.pipeline.encoder, self.answers[prompt]
        network = self.pipeline.network.with_weights(self.weights[prompt, sample])
        embeds = encoder.encode_texts(answer_texts(self.templates[prompt], answers))
        return Classifier(network, encoder, answers, embeds.clone())

    def with_examples(self, images: Sequence[Any], labels: Sequence[Any], prompt: int = 0) -> MixedClassifier:
        """The classifier of all samples of a prompt and of labelled examples together; see `MixedClassifier`.

        Args:
            images: N PIL images or paths.
            labels: an answer or its number for each; every answer needs an example.
            prompt: number of the prompt.

        Raises:
            InputError: the pipeline was called without answers, or examples that do not fit.
        """
        classifiers = [self.classifier(prompt, sample) for sample in range(self.weights.shape[1])]
        known = 1.0 if self.familiarity is None else self.familiarity[prompt].item()
        return MixedClassifier(classifiers, (images, labels), known)

    def warning(self, prompt: int = 0) -> str | None:
        """One line where a prompt is unlike all questions of the training, else None."""
        known = None if self.familiarity is None else self.familiarity[prompt].item()
        if known is None or known >= KNOWN:
            return None
        return f"unlike all questions of the training (familiarity {known:.2f}): do not rely on the answers"

    def decoded(self) -> GeneratedWeights:
        """The same with the weights of its latents, which may have been changed."""
        return replace(self, weights=self.pipeline.decode(self.latents))

    def save_pretrained(
        self,
        folder: StrPath,
        format: str = "state_dict",
        *,
        prompt: int = 0,
        sample: int | None = None,
        image_tower: bool = False,
        overwrite: bool = False,
    ) -> None:
        """Export the networks of one prompt as a folder that other programs load; `save` keeps samples for this library.

        Args:
            folder: the folder to make.
            format: `state_dict` (safetensors of parameters by name), `peft` (adapters that `PeftModel.from_pretrained` loads), `onnx`
                (the whole classifier: features in, probabilities out), or `numpy` (arrays, and the lines that use them).
            prompt: number of the prompt.
            sample: one sample; by default all K. `onnx` and `numpy` average their probabilities, the others write K folders.
            image_tower: whether the ONNX file takes pixels, as `encoder.preprocess` makes them, in place of features.
            overwrite: whether an existing folder may be replaced.

        Raises:
            InputError: `onnx` or `numpy` without answers, a package is missing, or the format cannot hold this network.
        """
        from weightgen.pipelines.exports import export_weights

        export_weights(self, folder, format, prompt, sample, image_tower, overwrite)

    def _check_decoded(self) -> None:
        if not self.weights.shape[-1]:
            raise InputError("there are latents only (output_type='latent'): take .decoded() first")

    @property
    def decoded_weights(self) -> Tensor:
        """The weights (B, K, P).

        Raises:
            InputError: there are latents only.
        """
        self._check_decoded()
        return self.weights

    def state_dict(self, prompt: int = 0, sample: int = 0) -> dict[str, Tensor]:
        """The parameters of the base network by name, for `network.load_state_dict`."""
        self._check_decoded()
        return self.pipeline.network.space.state_dict(self.weights[prompt, sample])

    def save(self, path: StrPath, prompt: int = 0) -> None:
        """Write the K samples of one prompt: `weights` (K, P) and `latents` (K, Z), with all else as metadata."""
        self._check_decoded()
        record = {
            "prompt": self.prompts[prompt],
            "template": self.templates[prompt],
            "encoder": self.pipeline.encoder.digest,
            "answers": self.answers[prompt] if self.answers else None,
            "familiarity": None if self.familiarity is None else self.familiarity[prompt].item(),
            **self.info,
        }
        tensors = {"weights": self.weights[prompt], "latents": self.latents[prompt]}
        write_tensors(path, tensors, metadata={"weightgen": json.dumps(record)})

    @classmethod
    def load(cls, path: StrPath, pipeline: Any) -> GeneratedWeights:
        """Read samples of one prompt that `save` wrote, onto the pipeline that sampled them.

        Raises:
            InputError: not such a file, or one of another model.
        """
        record = read_record(path)
        check_shapes(path, pipeline.network.space.size)
        if record["encoder"] != pipeline.encoder.digest:
            raise InputError(f"{path} was sampled with another model: its weights do not fit this one")
        tensors = read_tensors(path)
        check_finite(tensors, str(path))
        info = {key: record[key] for key in INFO if key in record}
        answers = [record["answers"]] if record["answers"] else None
        weights, latents = (
            tensors[name][None].float().to(pipeline.device) for name in ("weights", "latents")
        )
        known = record["familiarity"]
        familiarity = None if known is None else weights.new_tensor([known])
        asked = ([record["prompt"]], [record["template"]], answers)
        return cls(weights, latents, *asked, pipeline, info, familiarity)
