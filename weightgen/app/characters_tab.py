"""Third tab: a HyperTransformer writes a CNN from drawn characters, which then reads another one."""

from __future__ import annotations

from typing import Any

import gradio as gr

from weightgen.app.cards import cards, empty
from weightgen.app.components import ErrorLines, Updates
from weightgen.app.drawing import Draughtsman, drawn
from weightgen.app.fields import FieldError, field
from weightgen.errors import InputError

SIDE = 315  # three times Omniglot's, whose strokes are about three pixels wide
BRUSH = 9
MOST_CLASSES = 8
MOST_DRAWINGS = 60
BEFORE = "Take the brush and draw examples of two classes or more, then a character to read. The bin clears a drawing."


def add_characters_tab(draughtsman: Draughtsman) -> None:
    """Build the tab inside an open `gr.Tab`."""
    errors = ErrorLines({})
    letters = [chr(ord("A") + i) for i in range(min(MOST_CLASSES, draughtsman.most_classes))]
    drawings: Any = gr.State([])
    with gr.Row(equal_height=False):
        with gr.Column(min_width=330):
            example = sketchpad("Draw an example", "draw-example")
            name = gr.Radio(letters, value=letters[0], label="Its class", elem_id="draw-class")
            errors.add("example", "draw-example")
            with gr.Row():
                add = gr.Button("Add example", size="sm", elem_id="add-drawing")
                reset = gr.Button("Remove all", size="sm", elem_id="remove-drawings")
            have = gr.Gallery(label="Examples", columns=6, height=300, object_fit="contain", interactive=False, buttons=[],
                              elem_id="drawings")  # fmt: skip
        with gr.Column(min_width=330):
            query = sketchpad("Draw a character to read", "draw-query")
            errors.add("query", "draw-query")
            button = gr.Button("Write a CNN and read", variant="primary", elem_id="read")
            shown = gr.HTML(empty(BEFORE), elem_id="read-answer")

    def on_add(sketch: Any, label: str, kept: list[Any]) -> Updates:
        try:
            with field("example"):
                picture = drawn(sketch)
                if len(kept) >= MOST_DRAWINGS:
                    raise InputError(f"{MOST_DRAWINGS} examples are the most: press Read, or remove all")
        except FieldError as error:
            return errors.show(error)
        kept = [*kept, (label, picture)]
        after = letters[(letters.index(label) + 1) % len(letters)] if label in letters else letters[0]
        captions = [(one, text) for text, one in kept]
        return errors.clear() | {drawings: kept, have: captions, name: after}

    def on_read(sketch: Any, kept: list[Any]) -> Updates:
        try:
            with field("query"):
                picture = drawn(sketch)
            with field("example"):
                found = draughtsman.read(kept, picture)
        except FieldError as error:
            return errors.show(error) | {shown: empty(BEFORE)}
        note = (
            f"A CNN of {found.size:,} weights was written from {len(kept)} drawings in one pass and used, in "
            f"{found.seconds:.2f} s; no gradient step."
        )
        page = cards("What the CNN reads", [picture], found.names, found.shares, [note])
        return errors.clear() | {shown: page}

    add.click(on_add, [example, name, drawings], [*errors.components, drawings, have, name],
              api_visibility="private")  # fmt: skip
    reset.click(lambda: ([], []), None, [drawings, have], api_visibility="private")
    button.click(on_read, [query, drawings], [*errors.components, shown], api_visibility="private")


def sketchpad(label: str, name: str) -> Any:
    """A white square to draw on."""
    return gr.Sketchpad(
        label=label,
        type="numpy",
        canvas_size=(SIDE, SIDE),
        fixed_canvas=True,
        height=SIDE + 110,
        layers=False,
        brush=gr.Brush(default_size=BRUSH, colors=["#000000"], color_mode="fixed"),
        buttons=[],
        elem_id=name,
    )
