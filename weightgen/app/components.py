"""Parts of the page that its tabs share: lines for errors, a gallery for pictures, the settings of sampling, downloads."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import gradio as gr

from weightgen.app.asking import MAX_SAMPLES
from weightgen.app.cards import error_line
from weightgen.app.downloads import AT_ONCE, FORMATS, LABELS, offered, write_download
from weightgen.app.fields import FieldError
from weightgen.errors import InputError
from weightgen.pipelines.generated_weights import GeneratedWeights
from weightgen.pipelines.weight_pipeline import WeightPipeline
from weightgen.storage.images import SUFFIXES

Updates = dict[Any, Any]
"""Component → what it becomes."""


class ErrorLines(NamedTuple):
    """A line for the error of each field, beside the field; hidden where there is none."""

    by_field: dict[str, Any]

    def add(self, name: str, element: str) -> None:
        """Make the line of a field here; `element` is its id in the page."""
        self.by_field[name] = gr.HTML(visible=False, elem_id=f"error-{element}")

    def clear(self) -> Updates:
        """No errors."""
        return {line: gr.update(value="", visible=False) for line in self.by_field.values()}

    def show(self, error: FieldError) -> Updates:
        """One error and no other."""
        line = self.by_field[error.field]
        return self.clear() | {line: gr.update(value=error_line(str(error)), visible=True)}

    @property
    def components(self) -> list[Any]:
        """The lines."""
        return list(self.by_field.values())


class SettingFields(NamedTuple):
    """The fields of `asking.Settings`, in their order."""

    num_samples: Any
    guidance_scale: Any
    seed: Any


def setting_fields(pipe: WeightPipeline, name: str) -> SettingFields:
    """Number of samples, guidance and seed."""
    samples = gr.Slider(
        1, MAX_SAMPLES, value=8, step=1, label="Samples", info="classifiers that are averaged",
        elem_id=f"{name}-samples",
    )  # fmt: skip
    guidance = gr.Slider(
        0, 5, value=1, step=0.1, label="Guidance", interactive=pipe.guidable, elem_id=f"{name}-guidance",
        info="0 ignores the question, above 1 follows it more closely",
    )  # fmt: skip
    seed = gr.Number(value=0, precision=0, label="Seed", info="the same seed gives the same weights",
                     elem_id=f"{name}-seed")  # fmt: skip
    return SettingFields(samples, guidance, seed)


def picture_field(label: str, name: str, height: int = 260) -> Any:
    """A gallery that takes pictures by drag and drop, from the camera, or from the clipboard."""
    return gr.Gallery(
        label=label,
        file_types=list(SUFFIXES),
        sources=["upload", "webcam", "clipboard"],
        type="filepath",
        interactive=True,
        columns=4,
        height=height,
        object_fit="cover",
        buttons=[],
        elem_id=name,
    )


class Downloads(NamedTuple):
    """Buttons for each format, hidden until there is something to download; slow formats are made at a click.

    Attributes:
        download: ending → the button that hands out the file.
        make: ending → the button that makes it, for slow formats.
        weights: the weights of the last question.
    """

    download: dict[str, Any]
    make: dict[str, Any]
    weights: Any

    @classmethod
    def build(cls, name: str) -> Downloads:
        """Build the buttons here; their ids in the page begin with `name`."""
        weights = gr.State()
        make = {
            ending: gr.Button(
                f"Make a file of the {LABELS[ending]}",
                visible=False,
                size="md",
                elem_id=f"{name}-make-{ending}",
            )
            for ending in FORMATS
            if ending not in AT_ONCE
        }
        download = {
            ending: gr.DownloadButton(
                f"Download {LABELS[ending]}", visible=False, size="md", elem_id=f"{name}-{ending}"
            )
            for ending in FORMATS
        }
        made = cls(download, make, weights)
        for ending, button in make.items():
            button.click(
                partial(made.on_make, ending), weights, [button, download[ending]], api_visibility="private"
            )
        return made

    @property
    def components(self) -> list[Any]:
        """All that `offer` changes."""
        return [self.weights, *self.make.values(), *self.download.values()]

    def offer(self, out: GeneratedWeights | None) -> Updates:
        """What the buttons become for these weights, or for none."""
        found: Updates = {self.weights: out}
        for ending, button in self.download.items():
            path = write_download(out, ending) if out is not None and ending in AT_ONCE else None
            found[button] = gr.update(value=path, visible=path is not None)
        for ending, button in self.make.items():
            found[button] = gr.update(visible=out is not None and offered(out, ending))
        return found

    def on_make(self, ending: str, out: GeneratedWeights) -> Updates:
        """Make a file of a slow format, and offer it."""
        try:
            path = write_download(out, ending)
        except InputError as error:
            raise gr.Error(str(error), print_exception=False) from error
        return {
            self.make[ending]: gr.update(visible=False),
            self.download[ending]: gr.update(value=path, visible=True),
        }


def added(entries: Sequence[Any] | None, paths: Sequence[str]) -> list[Any]:
    """The entries of a gallery and further pictures, each once."""
    have = [entry[0] if isinstance(entry, tuple | list) else entry for entry in entries or []]
    names = {path.replace("\\", "/").rpartition("/")[2] for path in have}
    return have + [path for path in paths if path.replace("\\", "/").rpartition("/")[2] not in names]
