"""Pictures with their answers as HTML: below each picture a bar for the likeliest answers.

Everything that a visitor wrote is escaped; pictures are small JPEGs inside the text, so nothing is fetched.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image, ImageOps
from torch import Tensor

SIDE = 240
MOST_BARS = 4
LONG = 100  # letters of a title that is written smaller

CSS = """
.wg-cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(8rem, 1fr)); gap: 1.1rem; }
.wg-card { margin: 0; min-width: 0; }
.wg-card img { width: 100%; aspect-ratio: 1; object-fit: cover; border-radius: .75rem; display: block; }
.wg-answer { font-weight: 600; font-size: 1.05rem; margin: .5rem 0 .25rem; overflow-wrap: anywhere; }
.wg-row { display: grid; grid-template-columns: 1fr auto; gap: 0 .5rem; font-size: .85rem; line-height: 1.35;
  color: var(--body-text-color); margin-top: .3rem; }
.wg-row span:first-child { overflow-wrap: anywhere; }
.wg-rail { grid-column: 1 / -1; position: relative; height: .45rem; border-radius: .25rem;
  background: var(--border-color-primary); overflow: hidden; }
.wg-bar, .wg-span { position: absolute; top: 0; bottom: 0; }
.wg-bar { left: 0; background: #35679a; border-radius: .25rem; }
.wg-rest .wg-bar { background: #7b8594; }
.dark .wg-bar { background: #7ab3ea; }
.dark .wg-rest .wg-bar { background: #98a2b3; }
.wg-span { background: #f0a030; top: 35%; bottom: 35%; border-radius: .1rem; }
.wg-title { font-size: 1.25rem; font-weight: 600; line-height: 1.3; margin: 0 0 .75rem; overflow-wrap: anywhere; }
.wg-title.wg-long { font-size: 1rem; }
.wg-notes { font-size: .9rem; line-height: 1.5; margin: 1rem 0 0; color: var(--body-text-color); overflow-wrap: anywhere; }
.wg-notes p { margin: .15rem 0; }
.wg-empty { color: var(--body-text-color); padding: 2.5rem 1rem; text-align: center;
  border: 1px dashed var(--border-color-primary); border-radius: .75rem; }
.wg-error { color: #b3261e; font-size: .92rem; line-height: 1.4; border-left: 3px solid #b3261e; padding: .1rem 0 .1rem .6rem;
  overflow-wrap: anywhere; }
.dark .wg-error { color: #ff8a80; border-color: #ff8a80; }
.wg-hint { color: var(--body-text-color); font-size: .88rem; line-height: 1.4; overflow-wrap: anywhere; }
"""


def cards(
    title: str,
    pictures: Sequence[Image.Image],
    answers: Sequence[str],
    shares: Tensor,
    notes: Sequence[str] = (),
) -> str:
    """HTML with one card for each picture.

    Args:
        title: the question, or what stands for it.
        pictures: N pictures.
        answers: C answers.
        shares: probability of each answer by each of K samples, with shape (K, N, C).
        notes: sentences below the cards.
    """
    shown = "".join(_card(picture, answers, shares[:, i]) for i, picture in enumerate(pictures))
    below = "".join(f"<p>{escape(note)}</p>" for note in notes)
    body = f'<div class="wg-cards">{shown}</div>' if pictures else empty("Add a picture to see answers.")
    long = " wg-long" if len(title) > LONG else ""
    return f'<h3 class="wg-title{long}">{escape(title)}</h3>{body}<div class="wg-notes">{below}</div>'


def empty(text: str) -> str:
    """HTML that stands where answers will be."""
    return f'<div class="wg-empty">{escape(text)}</div>'


def error_line(message: str) -> str:
    """HTML of an error beside its field; screen readers say it at once."""
    return f'<div class="wg-error" role="alert">{escape(message)}</div>'


def hint(text: str) -> str:
    """HTML of a quiet line."""
    return f'<div class="wg-hint">{escape(text)}</div>'


def _card(picture: Image.Image, answers: Sequence[str], shares: Tensor) -> str:
    """One card; `shares` has the shape (K, C)."""
    mean = shares.mean(dim=0)
    order = mean.argsort(descending=True).tolist()[:MOST_BARS]
    best = escape(answers[order[0]])
    rows = "".join(
        _row(answers[i], mean[i].item(), shares[:, i], place == 0) for place, i in enumerate(order)
    )
    image = f'<img src="{_inline(picture)}" alt="a picture, answered {best}">'
    return f'<figure class="wg-card">{image}<figcaption><div class="wg-answer">{best}</div>{rows}</figcaption></figure>'


def _row(answer: str, mean: float, samples: Tensor, first: bool) -> str:
    low, high = samples.min().item(), samples.max().item()
    told = f"mean {mean:.1%}, samples from {low:.1%} to {high:.1%}"
    span = (
        f'<i class="wg-span" style="left:{low:.2%};width:{high - low:.2%}"></i>' if len(samples) > 1 else ""
    )
    return (
        f'<div class="wg-row{"" if first else " wg-rest"}" title="{told}"><span>{escape(answer)}</span><span>{mean:.0%}</span>'
        f'<div class="wg-rail"><i class="wg-bar" style="width:{mean:.2%}"></i>{span}</div></div>'
    )


def _inline(picture: Image.Image) -> str:
    """A small JPEG as a data URL."""
    file = io.BytesIO()
    ImageOps.fit(picture.convert("RGB"), (SIDE, SIDE)).save(file, "JPEG", quality=82)
    return f"data:image/jpeg;base64,{base64.b64encode(file.getvalue()).decode()}"
