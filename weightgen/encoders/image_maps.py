"""The map of an image tower: what it knows of each place of a picture, beside its one embedding of the whole.

Notation: N images, E embedding, D channels of a map, S × S its places.
"""

from typing import Any

from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from weightgen.errors import InputError


def embeds_and_map(tower: Any, pixels: Tensor, grid: int, name: str) -> tuple[Tensor, Tensor]:
    """Run an image tower once for its embedding and its map.

    The map is that of the last stage or block with at least S × S places, averaged down to S × S: a ResNet's stages shrink, a ViT's
    blocks all have one token for each patch.

    Args:
        tower: an image tower of open_clip or timm, which has `forward_intermediates`.
        pixels: N images, normalised, with shape (N, 3, H, W).
        grid: S.
        name: of the encoder, for messages.

    Returns:
        Embeddings with shape (N, E) and maps with shape (N, D, S, S).

    Raises:
        InputError: the tower has no map, or none of that many places.
    """
    if not hasattr(tower, "forward_intermediates"):
        raise InputError(
            f"the image tower of {name} has no map of tokens: embed without tokens, or use a ResNet or ViT of open_clip or timm"
        )
    found = tower.forward_intermediates(pixels)
    if isinstance(found, dict):
        embeds, maps = found["image_features"], found["image_intermediates"]
    else:
        embeds, maps = tower.forward_head(found[0]), found[1]
    fine = [each for each in maps if each.ndim == 4 and min(each.shape[-2:]) >= grid]
    if not fine:
        largest = max(min(each.shape[-2:]) for each in maps)
        raise InputError(
            f"the largest map of {name} has {largest} × {largest} places: write tokens={largest} or less, got {grid}"
        )
    return embeds.float(), adaptive_avg_pool2d(fine[-1].float(), grid)
