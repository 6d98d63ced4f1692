"""What the small CLIP of Scenes learns from: which captions are true of which pictures, and what each picture shows.

Notation: N pictures, M captions, Q quarters of a picture, A looks of an object (shape, color, …).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from weightgen.protocols import Outcome


class MatchingLoss(nn.Module):
    """L = (1/N) Σ BCE(s · cos(picture, caption) + b, true or not) + λ Σ over looks of CE(what is read, what is there).

    The first part is SigLIP's (Zhai et al., 2023), except that the truth of every pair is known, where SigLIP takes a caption's own
    picture for the only match. The second has each quarter's object read off the image embedding by a linear map, as CoCa
    (Yu et al., 2022) adds captioning to contrast: captions alone teach colors in minutes, but shapes and places hardly ever.

    Args:
        clip: an open_clip model with `logit_scale` and `logit_bias`.
        embed_dim: E.
        quarters: Q.
        looks: how many values each of the A looks has.
        reading_weight: λ.
    """

    def __init__(
        self, clip: nn.Module, embed_dim: int, quarters: int, looks: Sequence[int], reading_weight: float
    ) -> None:
        super().__init__()
        self.clip = clip
        self.quarters = quarters
        self.sizes = [values + 1 for values in looks]  # one more: there is no object
        self.reader = nn.Linear(embed_dim, quarters * sum(self.sizes))
        self.reading_weight = reading_weight

    def score(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Logits of pictures (N, 3, H, W) and captions (M, L), with shape (N, M); per look what is read, (N, Q, values + 1)."""
        images = self.clip.encode_image(pixels, normalize=True)  # type: ignore[operator]
        texts = self.clip.encode_text(tokens, normalize=True)  # type: ignore[operator]
        read = self.reader(images * images.shape[-1] ** 0.5).unflatten(1, (self.quarters, -1))
        scale, bias = self.clip.logit_scale, self.clip.logit_bias
        return scale.exp() * images @ texts.T + bias, list(read.split(self.sizes, dim=-1))  # type: ignore[operator]

    def forward(self, batch: tuple[Tensor, Tensor, Tensor, Tensor]) -> Outcome:
        """Loss of a batch.

        Args:
            batch: pixels (N, 3, H, W), tokens (M, L), truth (N, M) bool, looks (N, Q, A) with −1 where there is no object.
        """
        pixels, tokens, truth, looks = batch
        logits, read = self.score(pixels, tokens)
        summed = functional.binary_cross_entropy_with_logits(logits, truth.to(logits.dtype), reduction="sum")
        pairs = zip(read, looks.long().unbind(dim=-1), strict=True)
        parts = [functional.cross_entropy(part.flatten(0, 1), look.flatten() + 1) for part, look in pairs]
        matching, reading = summed / len(pixels), torch.stack(parts).sum()
        loss = matching + self.reading_weight * reading
        return Outcome(loss, {"matching": matching.detach(), "reading": reading.detach()})
