"""Second tab: a few labelled examples, alone or with a question, make a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from weightgen.app.asking import Settings
from weightgen.app.cards import cards, empty
from weightgen.app.components import ErrorLines, Updates, picture_field, setting_fields
from weightgen.app.fields import FieldError, field
from weightgen.app.teaching import teach
from weightgen.app.uploads import read_uploads
from weightgen.pipelines.weight_pipeline import WeightPipeline

GROUPS = 4
BEFORE = "Name two answers or more, add examples of each, and a picture to answer about."


def add_examples_tab(pipe: WeightPipeline, examples: Sequence[str]) -> None:
    """Build the tab inside an open `gr.Tab`.

    Args:
        pipe: embeds the pictures and answers the question.
        examples: paths of pictures to try.
    """
    errors = ErrorLines({})
    names, galleries = [], []
    with gr.Row(equal_height=False):
        with gr.Column(scale=6, min_width=320):
            for start in range(0, GROUPS, 2):
                with gr.Row(visible=start == 0, equal_height=False) as row:
                    for number in range(start, start + 2):
                        with gr.Column(min_width=260):
                            names.append(
                                gr.Textbox(
                                    label=f"Answer {number + 1}", elem_id=f"group-{number}", max_lines=2
                                )
                            )
                            galleries.append(
                                picture_field(f"Examples of answer {number + 1}", f"shots-{number}", 180)
                            )
                if start:
                    further = row
            errors.add("groups", "groups")
            with gr.Row():
                more = gr.Button("More answers", size="sm", elem_id="more-groups")
                fill = gr.Button("Fill in an example", size="sm", visible=bool(examples), elem_id="fill")
            question = gr.Textbox(label="Question (may be empty)", elem_id="group-question", max_lines=4)
            errors.add("question", "group-question")
            queries = picture_field("Pictures to answer about", "queries", 180)
            errors.add("queries", "queries")
            with gr.Accordion("Settings", open=False):
                settings = setting_fields(pipe, "teach")
            errors.add("settings", "teach-settings")
            button = gr.Button("Answer", variant="primary", elem_id="teach")
        with gr.Column(scale=5, min_width=320):
            shown = gr.HTML(empty(BEFORE), elem_id="taught")

    def on_teach(*values: Any) -> Updates:
        texts, files, rest = values[:GROUPS], values[GROUPS : 2 * GROUPS], values[2 * GROUPS :]
        text, asked, *setting = rest
        try:
            with field("groups"):
                groups = [(name or "", read_uploads(some)) for name, some in zip(texts, files, strict=True)]
            with field("queries"):
                images = read_uploads(asked)
            found = teach(pipe, groups, text or "", images, Settings(*setting))
        except FieldError as error:
            return errors.show(error) | {shown: empty(BEFORE)}
        title = (text or "").strip() or "Examples alone"
        return errors.clear() | {shown: cards(title, images, found.answers, found.shares, found.notes)}

    inputs = [*names, *galleries, question, queries, *settings]
    button.click(on_teach, inputs, [*errors.components, shown], api_visibility="private")
    more.click(lambda: (gr.update(visible=True), gr.update(visible=False)), None, [further, more],
               api_visibility="private")  # fmt: skip
    fill.click(lambda: filled(examples), None, [*names[:2], *galleries[:2], question, queries],
               api_visibility="private")  # fmt: skip


def filled(examples: Sequence[str]) -> list[Any]:
    """Two answers with an example each, a question, and the other pictures to answer about."""
    cat, cup, motorcycle, *others = examples
    return ["yes", "no", [motorcycle], [cat, cup], "Does it have wheels?", others]
