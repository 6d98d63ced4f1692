"""A classifier as one ONNX file, with its weights and the embeddings of its answers: inputs or pixels in, probabilities out.

Notation: K samples of a network, N examples, C classes.
"""

from __future__ import annotations

import io
import json
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from weightgen.errors import InputError, needs

if TYPE_CHECKING:
    from weightgen.exports.export import Export

OPSET = 18
"""Version of ONNX's operators: that of the exporter itself, which needs no conversion; onnxruntime 1.14 (2023) and newer have it."""
TOLERANCE = 1e-4
"""Largest difference from the network itself in a trial run; float32 rounds differently in another program."""


class Averaged(nn.Module):
    """Inputs (N, *) or pixels (N, 3, H, W) → the mean over K networks of their probabilities, or outputs, with shape (N, C)."""

    def __init__(self, export: Export) -> None:
        super().__init__()
        self.networks = nn.ModuleList(export.networks)
        self.image_module = export.image_module
        self.probabilities = export.probabilities
        self.names = list(export.context)
        for name, value in export.context.items():
            self.register_buffer(f"context_{name}", value.detach().float().clone(), persistent=False)

    def forward(self, inputs: Tensor) -> Tensor:
        """See the class."""
        features = inputs if self.image_module is None else self.image_module(inputs)
        context = {name: getattr(self, f"context_{name}") for name in self.names}
        outputs = [network(features, **context) for network in self.networks]
        if self.probabilities:
            outputs = [one.softmax(dim=-1) for one in outputs]
        return outputs[0] if len(outputs) == 1 else torch.stack(outputs).mean(dim=0)


def write_onnx(export: Export, folder: Path) -> dict[str, Any]:
    """Write `model.onnx`, and try it once with onnxruntime.

    Raises:
        InputError: a package is missing, ONNX cannot express the network, or onnxruntime gives something else.
    """
    with needs("onnx"):
        import onnx

    averaged = Averaged(export).cpu().eval()
    path = folder / "model.onnx"
    name = "inputs" if export.image_module is None else "pixels"
    output = "probabilities" if export.probabilities else "outputs"
    try:
        with _quiet():
            torch.onnx.export(
                averaged,
                (_examples(export, 2),),
                str(path),
                input_names=[name],
                output_names=[output],
                opset_version=OPSET,
                dynamic_shapes=({0: torch.export.Dim("N", min=2)},),
                dynamo=True,
                external_data=False,
                verbose=False,
            )
        model = onnx.load(path)
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:  # of torch.export, onnxscript and onnx, which share no class
        kind = type(export.networks[0]).__name__
        reason = " ".join(str(error.__cause__ or error).split())
        raise InputError(f"ONNX cannot express {kind}: {reason:.200}") from error
    facts: dict[str, Any] = {"opset": OPSET, "input": name, "output": output}
    facts["input_shape"] = ["N", *_examples(export, 1).shape[1:]]
    onnx.helper.set_model_props(model, {"weightgen": json.dumps({**facts, **export.about})})
    onnx.save(model, path)
    _try(path, averaged, _examples(export, 3))
    return facts


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what the exporter says of its own insides."""
    before, unread = logging.root.manager.disable, io.StringIO()
    logging.disable(logging.WARNING)
    try:
        # Where it fails, it prints the whole graph.
        with warnings.catch_warnings(), redirect_stdout(unread), redirect_stderr(unread):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


def _examples(export: Export, count: int) -> Tensor:
    drawn = torch.Generator().manual_seed(0)
    if export.image_shape is not None:
        return torch.randint(256, (count, *export.image_shape), dtype=torch.uint8, generator=drawn)
    return torch.randn(count, *export.example_shape, generator=drawn)


def _try(path: Path, averaged: nn.Module, inputs: Tensor) -> None:
    """Run the file once, and compare."""
    with needs("onnx"):
        import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        (found,) = session.run(None, {session.get_inputs()[0].name: inputs.numpy()})
    except Exception as error:  # its exceptions share no class
        reason = " ".join(str(error).split())
        raise InputError(f"onnxruntime refuses the exported network: {reason:.200}") from error
    expected = averaged(inputs)
    if found.shape != tuple(expected.shape) or not torch.allclose(
        torch.from_numpy(found), expected, atol=TOLERANCE, rtol=TOLERANCE
    ):
        raise InputError(
            "the exported network gives other results than the network itself: its forward may depend on values or on the number "
            "of examples, which ONNX cannot express"
        )
