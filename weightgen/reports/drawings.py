"""What networks draw: pictures of sine networks, how often CLIP gives them the right caption, and a sheet of them.

Notation: T networks, P weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image, ImageDraw
from torch import Tensor
from torch.nn.functional import normalize

from weightgen.networks.sine import places
from weightgen.reports.contact_sheet import INK, PAPER, _font
from weightgen.storage.files import StrPath, written_beside
from weightgen.weights import FunctionalNetwork, WeightSpace

CELL, GAP, LABEL, HEAD = 96, 8, 270, 44


@torch.no_grad()
def drawn(
    network: FunctionalNetwork, space: WeightSpace, weights: Tensor, side: int = 64
) -> list[Image.Image]:
    """The pictures of weights (T, P) in the order of `space`; a network draws in any size."""
    own = network.space.flatten(space.unflatten(weights))
    colours = network(own, places(side).expand(len(own), -1, -1))
    pixels = ((colours.clamp(-1, 1) + 1) * 127.5).round().byte().unflatten(1, (side, side))
    return [Image.fromarray(picture.numpy()) for picture in pixels]


@torch.no_grad()
def ranked_first(clip: Any, images: Sequence[Image.Image], captions: Sequence[str]) -> float:
    """How often CLIP finds the caption of a picture to be the most similar of all T captions."""
    pictures, texts = (
        normalize(part, dim=-1) for part in (clip.encode_images(images), clip.encode_texts(captions))
    )
    first = (pictures @ texts.mT).argmax(dim=1)
    return first.eq(torch.arange(len(captions), device=first.device)).float().mean().item()


def drawing_sheet(
    path: StrPath, columns: Sequence[str], rows: Sequence[tuple[str, Sequence[Image.Image]]]
) -> None:
    """Write a PNG with a row for each prompt: its text, and a picture in each column."""
    size = (LABEL + len(columns) * (CELL + GAP) + GAP, HEAD + len(rows) * (CELL + GAP) + GAP)
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, name in enumerate(columns):
        draw.multiline_text((LABEL + number * (CELL + GAP), 8), name, fill=INK, font=_font(12, bold=True))
    for number, (prompt, images) in enumerate(rows):
        y = HEAD + number * (CELL + GAP)
        draw.text((12, y + CELL // 2 - 8), prompt, fill=INK, font=_font(12))
        for place, image in enumerate(images):
            sheet.paste(
                image.resize((CELL, CELL), Image.Resampling.NEAREST), (LABEL + place * (CELL + GAP), y)
            )
    with written_beside(path, overwrite=True) as partial:
        sheet.quantize(256, Image.Quantize.FASTOCTREE, dither=Image.Dither.NONE).save(
            partial, format="PNG", optimize=True
        )
