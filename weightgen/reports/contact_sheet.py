"""A contact sheet: pictures with the answer of a classifier below each, and how sure it is."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, ImageDraw, ImageFont, ImageOps

from weightgen.errors import needs

SIDE, GAP, MARGIN, CAPTION = 160, 22, 32, 50
TRUTH = 24  # more below a picture, where a sheet has wrong answers
FEWEST_COLUMNS = 4  # so wide that a question fits
PAPER, INK, QUIET, RAIL = "#fbfbf9", "#1d1d1f", "#6b6b70", "#e4e4e0"
OPEN, RIGHT, WRONG = "#35679a", "#1f7a34", "#c2351c"  # truth unknown, answer right, answer wrong


class Answered(NamedTuple):
    """A picture with its answer, how sure the classifier is of it (0–1), and the truth where it is known."""

    image: Image.Image
    answer: str
    share: float
    truth: str | None = None

    @property
    def colour(self) -> str:
        """Green where the answer is right, red where it is wrong, blue where the truth is not known."""
        return OPEN if self.truth is None else RIGHT if self.answer == self.truth else WRONG


def contact_sheet(
    pictures: Sequence[Answered],
    title: str,
    notes: Sequence[str] = (),
    warning: str | None = None,
    columns: int = 6,
) -> Image.Image:
    """Draw pictures in a grid below a title, each with its answer, and the truth where the answer is wrong.

    Args:
        pictures: at least one.
        title: the question; a long one is wrapped.
        notes: smaller lines below the title.
        warning: a further one, in red.
        columns: pictures in a row, at most.
    """
    columns = min(columns, len(pictures))
    width = 2 * MARGIN + max(columns, FEWEST_COLUMNS) * (SIDE + GAP) - GAP
    head = _wrapped(title, _font(27, bold=True), width - 2 * MARGIN)
    told = [(note, QUIET) for note in notes] + ([(warning, WRONG)] if warning else [])
    lines = [(line, ink) for text, ink in told for line in _wrapped(text, _font(14), width - 2 * MARGIN)]
    top = MARGIN + 36 * len(head) + 4 + 21 * len(lines) + 18
    below = CAPTION + TRUTH * any(picture.colour == WRONG for picture in pictures)
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (width, top + rows * (SIDE + below) + MARGIN - 14), PAPER)
    draw = ImageDraw.Draw(sheet)
    for number, line in enumerate(head):
        draw.text((MARGIN, MARGIN - 6 + 36 * number), line, fill=INK, font=_font(27, bold=True))
    for number, (line, ink) in enumerate(lines):
        draw.text((MARGIN, MARGIN + 36 * len(head) + 21 * number), line, fill=ink, font=_font(14))
    for number, picture in enumerate(pictures):
        x = MARGIN + number % columns * (SIDE + GAP)
        _draw_picture(sheet, draw, picture, x, top + number // columns * (SIDE + below))
    return sheet


def _draw_picture(sheet: Image.Image, draw: ImageDraw.ImageDraw, picture: Answered, x: int, y: int) -> None:
    square = ImageOps.fit(picture.image.convert("RGB"), (SIDE, SIDE), Image.Resampling.LANCZOS)
    sheet.paste(square, (x, y), _rounded())
    share = f"{picture.share:.0%}"
    taken = _font(13).getlength(share) + 8
    answer = _shortened(picture.answer, _font(15, bold=True), SIDE - taken)
    draw.text((x, y + SIDE + 7), answer, fill=picture.colour, font=_font(15, bold=True))
    draw.text((x + SIDE, y + SIDE + 9), share, fill=QUIET, font=_font(13), anchor="ra")
    bar = y + SIDE + 31
    draw.rounded_rectangle((x, bar, x + SIDE - 1, bar + 5), 3, fill=RAIL)
    draw.rounded_rectangle(
        (x, bar, x + max(6, round(SIDE * picture.share)) - 1, bar + 5), 3, fill=picture.colour
    )
    if picture.colour == WRONG:
        truth = _shortened(f"it is {picture.truth}", _font(12), SIDE)
        draw.text((x, bar + 9), truth, fill=QUIET, font=_font(12))


@cache
def _rounded() -> Image.Image:
    """A mask with round corners, drawn large and made small, so that they are smooth."""
    mask = Image.new("L", (4 * SIDE, 4 * SIDE), 0)
    ImageDraw.Draw(mask).rounded_rectangle((0, 0, 4 * SIDE - 1, 4 * SIDE - 1), 4 * 14, fill=255)
    return mask.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


@cache
def _font(size: int, bold: bool = False) -> Any:
    with needs("plots"):
        import matplotlib

    # matplotlib carries it, so it is there on every machine.
    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(matplotlib.get_data_path(), "fonts/ttf", name)), size)


def _wrapped(text: str, font: Any, width: float) -> list[str]:
    """The lines of a text that are at most `width` pixels wide; a longer word is shortened."""
    lines: list[str] = []
    for word in text.split():
        joined = f"{lines[-1]} {word}" if lines else word
        if lines and font.getlength(joined) <= width:
            lines[-1] = joined
        else:
            lines.append(_shortened(word, font, width))
    return lines


def _shortened(text: str, font: Any, width: float) -> str:
    if font.getlength(text) <= width:
        return text
    while text and font.getlength(text + "…") > width:
        text = text[:-1]
    return text + "…"
