"""First tab: a question and pictures in, the answers of sampled classifiers out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import gradio as gr

from weightgen.app.asking import Reply, Settings, ask, suggested_answers
from weightgen.app.cards import cards, empty, hint
from weightgen.app.components import (
    Downloads,
    ErrorLines,
    Updates,
    added,
    picture_field,
    setting_fields,
)
from weightgen.app.fields import FieldError, field
from weightgen.app.uploads import read_uploads
from weightgen.pipelines.known_questions import KnownQuestions
from weightgen.pipelines.weight_pipeline import WeightPipeline

BEFORE = "Write a question, add pictures, and press Ask."


def add_question_tab(pipe: WeightPipeline, known: KnownQuestions | None, examples: Sequence[str]) -> None:
    """Build the tab inside an open `gr.Tab`.

    Args:
        pipe: answers.
        known: questions with answers to suggest; None where there are none for this pipeline.
        examples: paths of pictures to try.
    """
    errors = ErrorLines({})
    with gr.Row(equal_height=False):
        with gr.Column(scale=4, min_width=320):
            question = gr.Textbox(label="Question", value="Does it have wheels?", lines=1, max_lines=4,
                                  elem_id="question")  # fmt: skip
            errors.add("question", "question")
            answers = gr.Textbox(label="Answers, with commas between", value="yes, no", elem_id="answers",
                                 max_lines=3)  # fmt: skip
            errors.add("answers", "answers")
            origin = gr.HTML(visible=False, elem_id="origin")
            suggest = gr.Button("Suggest answers", size="sm", visible=known is not None, elem_id="suggest")
            pictures = picture_field("Pictures", "pictures")
            errors.add("pictures", "pictures")
            more = gr.Button("Add example photographs", size="sm", visible=bool(examples), elem_id="examples")
            with gr.Accordion("Settings", open=False):
                settings = setting_fields(pipe, "ask")
            errors.add("settings", "settings")
            button = gr.Button("Ask", variant="primary", elem_id="ask")
        with gr.Column(scale=6, min_width=320):
            shown = gr.HTML(empty(BEFORE), elem_id="answered")
            downloads = Downloads.build("download")

    def on_suggest(text: str) -> Updates:
        try:
            choices, nearest = suggested_answers(pipe, known, text or "")
        except FieldError as error:
            return errors.show(error) | {origin: gr.update(visible=False)}
        told = hint(f"Answers of the nearest known question: {nearest}")
        return errors.clear() | {answers: joined(choices), origin: gr.update(value=told, visible=True)}

    def on_ask(text: str, choices: str, files: Any, *values: Any) -> Updates:
        try:
            with field("pictures"):
                images = read_uploads(files)
            reply = ask(pipe, text or "", choices or "", images, Settings(*values))
        except FieldError as error:
            return errors.show(error) | {shown: empty(BEFORE)} | downloads.offer(None)
        notes = [*told_bars(reply), *reply.notes, told_time(reply)]
        page = cards(text.strip(), images, reply.answers, reply.shares, notes)
        return errors.clear() | {shown: page} | downloads.offer(reply.out)

    outputs = [*errors.components, shown, *downloads.components]
    gr.on(
        [button.click, question.submit, answers.submit],
        on_ask,
        [question, answers, pictures, *settings],
        outputs,
        api_visibility="private",
    )
    suggest.click(on_suggest, question, [*errors.components, answers, origin], api_visibility="private")
    more.click(lambda files: added(files, examples), pictures, pictures, api_visibility="private")


def joined(answers: Sequence[str]) -> str:
    """Answers in one line, as `split_answers` reads them."""
    return ", ".join(f'"{answer}"' if "," in answer else answer for answer in answers)


def told_bars(reply: Reply) -> list[str]:
    """What the bars mean, where there are any."""
    samples, pictures, _ = reply.shares.shape
    if samples < 2 or not pictures:
        return []
    return [
        f"A bar is the mean of {samples} samples; the orange line goes from the lowest sample to the highest."
    ]


def told_time(reply: Reply) -> str:
    """How long what took."""
    samples, pictures, _ = reply.shares.shape
    size = reply.out.weights.shape[-1]
    made = f"{samples} × {size:,} weights were written in {reply.seconds[0]:.2f} s"
    return (
        f"{made}, {pictures} pictures answered in {reply.seconds[1]:.2f} s; no gradient step."
        if pictures
        else f"{made}."
    )
