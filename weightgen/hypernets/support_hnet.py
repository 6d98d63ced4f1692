"""SupportHNet: the weights of an adapter of CLIP features from a few labelled examples, in one pass.

A HyperTransformer for CLIP features: one transformer reads the support set as a set of tokens and writes both
layers of the adapter together, in a few rounds. Each round sees the predictions of the weights written so
far.

Notation: B tasks, N examples, C classes, P weights, E embedding (of images and answers), H hidden units, D
support embedding, K rounds.
"""

import inspect
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, normalize

from weightgen.errors import MAX_LAYERS, InputError, check_range, check_sizes
from weightgen.hypernets.saving import SPACE_CODER
from weightgen.hypernets.support_round import Round, RoundSettings, Seen
from weightgen.networks.clip_adapter import CLIPAdapter
from weightgen.storage.hub import SavedModule
from weightgen.tasks import PADDING_LABEL, Examples
from weightgen.weights import FunctionalNetwork, WeightSpace


class SupportHNet(nn.Module, SavedModule, coders=SPACE_CODER):
    r"""Support set → weights (U, V) of a `CLIPAdapter`, y = x + V a with a = [relu(U k), 1]/√H and k = [x, 1]/√E. In each of K rounds

        p = softmax(β s cos(y, answers)),   r = ∂ log-likelihood / ∂y, with the expected answer taken under p
        t ← block(t + S r),   γ, γ' = step · exp(G · mean t)
        V ← V + mean over examples of (γ (r + L r) + T t) (a + R a)ᵀ
        U ← U + mean over examples of γ' (Vᵀr ⊙ 1[U k > 0]) kᵀ

    where t, at first a projection of [image, answer, log N], is an example's token, and L, R, T, S and G are
    learned in each round. The last columns of U and V are √E and √H times the biases. L, R, T and G start at
    zero, so that an untrained pass is K steps of gradient descent (with steps smaller by E and H for the
    biases), which training improves. The gradients r are values of linear attention, and the activations are
    its keys. No automatic differentiation is used, and the result does not depend on the order of the
    examples.

    The support embedding holds the coordinates of the weights on the first D principal components of weights
    that were written for training tasks (`fit`).

    References:
        Zhmoginov, Sandler, Vladymyrov, "HyperTransformer: Model Generation for Supervised and Semi-Supervised
        Few-Shot Learning", 2022; von Oswald et al., "Transformers Learn In-Context by Gradient Descent", 2023
        (gradients as values of attention). The rounds are ours.

    Args:
        space: the weight space of a `CLIPAdapter` with biases; see `for_network`.
        dim: size of the tokens.
        heads: heads of the transformer.
        rounds: K.
        writes: "all" weights, or those of the "last" layer only; the others are learned, and the same for all
            tasks.
        step: see above; with 0, the weights do not depend on the support set before training.
        sharpness: β before training. Below 1, examples that are classified correctly keep a larger gradient.
        logit_scale: s.
        embed_dim: D.
        input_noise: standard deviation of the noise on images in training, relative to √E, the length of x.
        normalize_inputs: whether x is brought to the length √E first, as the adapter does it.

    Raises:
        InputError: another `writes`, no rounds, a sharpness that is not positive, or a space of other layers.
    """

    mean: Tensor
    components: Tensor

    def __init__(
        self,
        space: WeightSpace,
        dim: int = 64,
        heads: int = 4,
        rounds: int = 8,
        writes: Literal["all", "last"] = "all",
        step: float = 5.0,
        sharpness: float = 0.3,
        logit_scale: float = 100.0,
        embed_dim: int = 96,
        input_noise: float = 0.0,
        normalize_inputs: bool = True,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, embed_dim=embed_dim)
        check_sizes(1, MAX_LAYERS, heads=heads, rounds=rounds)
        check_range(step=step, sharpness=sharpness, logit_scale=logit_scale, input_noise=input_noise)
        if writes not in ("all", "last"):
            raise InputError(f"expected writes to be 'all' or 'last', got {writes!r}")
        if not sharpness:
            raise InputError("sharpness must be above 0, got 0")
        self.space = space
        self.hidden_dim, self.input_dim = adapter_sizes(space)
        self.embed_dim = embed_dim
        self.writes_all = writes == "all"
        self.step, self.logit_scale, self.input_noise = step, logit_scale, input_noise
        self.normalize_inputs = normalize_inputs
        self.base = nn.Parameter(torch.zeros(space.size))
        self.tokens = nn.Linear(2 * self.input_dim + 1, dim)
        self.rounds = nn.ModuleList(
            Round(dim, heads, self.input_dim, self.hidden_dim, sharpness) for _ in range(rounds)
        )
        self.register_buffer("mean", torch.zeros(space.size))
        self.register_buffer("components", torch.zeros(embed_dim, space.size))

    @classmethod
    def for_network(cls, network: FunctionalNetwork, **options: Any) -> Self:
        """A `SupportHNet` that writes the weights of `network`; `options` are further arguments of the class.

        Raises:
            InputError: the network is no `CLIPAdapter` whose forward pass the rounds know, or an option is
                unknown or follows from the network.
        """
        module = network.module
        if not isinstance(module, CLIPAdapter) or not module.ntk:
            raise InputError(
                "SupportHNet writes weights of a CLIPAdapter with ntk: give a network of that kind"
            )
        known: dict[str, Any] = {
            "logit_scale": module.logit_scale,
            "normalize_inputs": module.normalize_inputs,
        }
        free = inspect.signature(cls).parameters.keys() - known.keys() - {"space"}
        if wrong := sorted(options.keys() - free):
            raise InputError(
                f"expected arguments of SupportHNet that do not follow from the network, {', '.join(sorted(free))}, "
                f"got {wrong[0]!r}"
            )
        return cls(network.space, **known, **options)

    @torch.no_grad()
    def init_weights(self, weights: Tensor) -> Self:
        """Set the weights before the first round to `weights`, with shape (P,)."""
        self.base.copy_(weights)
        return self

    @torch.no_grad()
    def fit(self, values: Tensor) -> Self:
        """Take the principal components of weights (M, P), written for M support sets, as axes of the support embedding."""
        self.mean.copy_(values.mean(dim=0))
        kept = min(self.embed_dim, *values.shape)
        axes = torch.linalg.svd(values - self.mean, full_matrices=False).Vh[:kept]
        self.components.zero_()[:kept].copy_(axes)
        return self

    def encode(self, support: Examples, answers: Tensor) -> Tensor:
        """Support embeddings (B, D); arguments as for `forward`.

        Raises:
            InputError: see `check_examples`; or it has no axes yet, see `fit`.
        """
        if not bool(self.components.any()):
            raise InputError("the support embedding has no axes yet: call fit with weights of training tasks")
        return self.embed(self(support, answers))

    def embed(self, weights: Tensor) -> Tensor:
        """Written weights (*, P) → support embeddings (*, D)."""
        return linear(weights - self.mean, self.components)

    def forward(self, support: Examples, answers: Tensor) -> Tensor:
        """Write weights.

        Args:
            support: image embeddings (B, N, E) and labels (B, N), -100 for padding.
            answers: embeddings of the answers, with shape (B, C, E); zeros for padding.

        Returns:
            Weights, with shape (B, P).

        Raises:
            InputError: see `check_examples`.
        """
        check_examples(support, answers, self.input_dim)
        seen = self._look(support, answers)
        count = seen.share.ne(0).sum(dim=1, keepdim=True).to(seen.images.dtype).log()
        facts = [seen.images, self.input_dim**0.5 * seen.own, count.expand(*seen.share.shape)]
        tokens = self.tokens(torch.cat(facts, dim=-1))
        first, last = (matrix.expand(len(tokens), -1, -1) for matrix in self._matrices())
        settings = RoundSettings(
            self.input_dim, self.hidden_dim, self.step, self.logit_scale, self.writes_all
        )
        for one in self.rounds:
            tokens, first, last = one(seen, tokens, first, last, settings)
        return self._flat(first, last)

    def _look(self, support: Examples, answers: Tensor) -> Seen:
        choices = normalize(answers, dim=-1)
        size = self.input_dim**0.5
        images = size * normalize(support.inputs, dim=-1) if self.normalize_inputs else support.inputs
        if self.training and self.input_noise:
            images = images + self.input_noise * torch.randn_like(images)
        present = support.labels != PADDING_LABEL
        share = (present / present.sum(dim=1, keepdim=True)).to(images.dtype).unsqueeze(-1)
        index = support.labels.clamp_min(0).unsqueeze(-1).expand(-1, -1, self.input_dim)
        return Seen(images, choices, answers.any(dim=-1).unsqueeze(1), choices.gather(1, index), share)

    def _matrices(self) -> tuple[Tensor, Tensor]:
        """U (H, E + 1) and V (E, H + 1) before the first round."""
        parts = self.space.unflatten(self.base)
        first, last = (
            torch.cat([parts[f"{layer}.weight"], size**0.5 * parts[f"{layer}.bias"].unsqueeze(-1)], dim=-1)
            for layer, size in self._layers()
        )
        return first, last

    def _flat(self, first: Tensor, last: Tensor) -> Tensor:
        parts: dict[str, Tensor] = {}
        for (layer, size), matrix in zip(self._layers(), (first, last), strict=True):
            parts |= {f"{layer}.weight": matrix[..., :-1], f"{layer}.bias": matrix[..., -1] / size**0.5}
        return self.space.flatten(parts)

    def _layers(self) -> tuple[tuple[str, int], tuple[str, int]]:
        """The names of both layers, and how many inputs they have."""
        return ("hidden", self.input_dim), ("out", self.hidden_dim)


def adapter_sizes(space: WeightSpace) -> tuple[int, int]:
    """H and E of the adapter that has this weight space.

    Raises:
        InputError: it is of other layers.
    """
    shapes = dict(space.shapes)
    hidden, dim = shapes.get("hidden.weight", (0, 0))
    expected = {
        "hidden.weight": (hidden, dim),
        "hidden.bias": (hidden,),
        "out.weight": (dim, hidden),
        "out.bias": (dim,),
    }
    if shapes != expected:
        raise InputError(f"SupportHNet writes weights of a CLIPAdapter with biases, got layers {shapes}")
    return hidden, dim


def check_examples(support: Examples, answers: Tensor, dim: int) -> None:
    """Check support sets.

    Raises:
        InputError: shapes that do not fit, numbers that are not finite, labels that are no answer's, or a
            task without a labelled example.
    """
    features, labels = support
    if features.ndim != 3 or features.shape[:2] != labels.shape or features.shape[-1] != dim:
        raise InputError(
            f"expected image embeddings (B, N, {dim}) with labels (B, N), got {tuple(features.shape)} with {tuple(labels.shape)}"
        )
    if answers.ndim != 3 or len(answers) != len(labels) or answers.shape[-1] != dim:
        raise InputError(f"expected answers ({len(labels)}, C, {dim}), got {tuple(answers.shape)}")
    if not bool(features.isfinite().all() and answers.isfinite().all()):
        raise InputError(
            "the embeddings of examples or answers hold NaN or infinite numbers: clean them first"
        )
    present = labels != PADDING_LABEL
    if not bool(present.any(dim=1).all()):
        task = int((~present.any(dim=1)).nonzero()[0])
        raise InputError(f"support set {task} has no labelled example: label at least one")
    count = answers.any(dim=-1).sum(dim=1, keepdim=True)
    wrong = present & ((labels < 0) | (labels >= count))
    if bool(wrong.any()):
        task, place = wrong.nonzero()[0].tolist()
        raise InputError(
            f"expected labels from 0 to {int(count[task]) - 1} for the answers of support set {task}, got {int(labels[task, place])}"
        )
