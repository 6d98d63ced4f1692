"""What each command of the command line does. Packages are imported by the command that needs them."""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from weightgen.errors import InputError

if TYPE_CHECKING:
    from weightgen.pipelines.weight_pipeline import WeightPipeline


def _check_sampling(args: argparse.Namespace, writes_folder: bool = False) -> None:
    from weightgen.storage.files import check_output

    if not math.isfinite(args.guidance_scale):
        raise InputError(f"--guidance-scale must be a finite number such as 1.5, got {args.guidance_scale}")
    if not 0 <= args.seed < 2**63:
        raise InputError(f"--seed must be from 0 to 2^63 - 1, got {args.seed}")
    if not writes_folder:
        check_output(args.output)


def _load(args: argparse.Namespace) -> WeightPipeline:
    from weightgen.pipelines.weight_pipeline import WeightPipeline

    return WeightPipeline.from_pretrained(args.model, trust_remote_code=args.trust_remote_code)


def _answers(word: str) -> list[str]:
    """The answers of one word of the command line: with commas between, those with commas in quotes, or @FILE with one a line."""
    from weightgen.pipelines.arguments import split_answers

    if word.startswith("@"):
        from weightgen.storage.limits import check_file

        path = Path(word[1:]).expanduser()
        check_file(path, "a text file with one answer a line")
        try:
            lines = path.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeError) as error:
            raise InputError(
                f"cannot read the answers in {path}: expected a UTF-8 file with one a line"
            ) from error
        return [line.strip() for line in lines if line.strip()]
    return split_answers(word)


def sample(args: argparse.Namespace) -> None:
    """Sample weights from a question, into a file or in a form for other stacks."""
    import torch

    from weightgen.exports import check_format
    from weightgen.pipelines.inputs import check_answers, check_prompts

    if args.format == "weights":
        _check_sampling(args)
    else:
        check_format(args.format, args.output)
        _check_sampling(args, writes_folder=True)
    if args.image_tower and args.format != "onnx":
        raise InputError(f"--image-tower needs --format onnx, got --format {args.format}")
    check_prompts(args.prompt)
    (answers,) = check_answers([answer for word in args.answers for answer in _answers(word)], 1)
    out = _load(args)(
        args.prompt,
        answers,
        num_samples=args.num_samples,
        guidance_scale=args.guidance_scale,
        num_inference_steps=args.steps,
        generator=torch.Generator().manual_seed(args.seed),
        template=args.template,
    )
    if args.format == "weights":
        out.save(args.output)
    else:
        out.save_pretrained(args.output, args.format, image_tower=args.image_tower)
    print(f"{args.output}: {args.num_samples} x {out.weights.shape[-1]} weights for {args.prompt!r}")
    if foreign := out.warning():
        print(f"{args.prompt!r} is {foreign}")


def write(args: argparse.Namespace) -> None:
    """Write a CNN from a folder of pictures."""
    from weightgen.pipelines.picture_hypernet import PictureHypernet
    from weightgen.storage.files import check_output

    check_output(args.output)
    made = PictureHypernet.load(args.model).write_from(args.folder)
    made.save(args.output)
    size = sum(weights.numel() for weights in made.network.parameters())
    seen = f"{made.facts['labelled']} labelled and {made.facts['unlabelled']} unlabelled pictures"
    print(f"{args.output}: a CNN of {size:,} weights for {len(made.classes)} classes, from {seen}")


def predict(args: argparse.Namespace) -> None:
    """Classify images with sampled weights, or with a written CNN."""
    import torch

    from weightgen.pipelines.picture_classifier import PictureClassifier, cnn_record
    from weightgen.storage.images import read_image

    if cnn_record(args.weights) is not None:
        if args.sample is not None or args.model is not None:
            raise InputError(f"{args.weights} holds one CNN, complete: leave out --model and --sample")
        cnn = PictureClassifier.load(args.weights)
        shares = cnn.probabilities(map(read_image, args.images), args.images)
        _print_answers(args.images, cnn.classes, shares)
        return
    if args.model is None:
        raise InputError(
            f"{args.weights} holds sampled weights: add --model with the pipeline that sampled them"
        )
    images = [read_image(path) for path in args.images]
    out = _load(args).load_weights(args.weights)
    count = out.weights.shape[1]
    if args.sample is not None and not 0 <= args.sample < count:
        raise InputError(f"{args.weights} holds samples 0 to {count - 1}, got --sample {args.sample}")
    samples = range(count) if args.sample is None else [args.sample]
    classifiers = [out.classifier(0, sample) for sample in samples]
    shares = torch.stack([classifier.probabilities(images) for classifier in classifiers]).mean(dim=0)
    _print_answers(args.images, classifiers[0].answers, shares)


def _print_answers(paths: Sequence[str], answers: Sequence[str], shares: Any) -> None:
    for path, row in zip(paths, shares, strict=True):
        best = int(row.argmax())
        print(f"{path}\t{answers[best]}\t{row[best]:.3f}")


def evaluate(args: argparse.Namespace) -> None:
    """Score sampled classifiers on the tasks of a data set."""
    from weightgen.data import load_tasks
    from weightgen.evaluation import chance_scores, encoder_scores, zero_shot
    from weightgen.storage.files import write_json

    _check_sampling(args)
    pipe = _load(args)
    found = load_tasks(args.dataset, *args.split, features=args.features, questions=True)
    found[0].store.check_encoder(pipe.encoder)
    how = {"guidance_scale": args.guidance_scale, "num_inference_steps": args.steps, "seed": args.seed}
    report: dict[str, Any] = {**how, "splits": {}}
    for split, tasks in zip(args.split, found, strict=True):
        rows = {
            "chance": chance_scores(tasks),
            "encoder": encoder_scores(tasks),
            "sampled": zero_shot(pipe, tasks, **how),
        }
        accuracy = {name: {"macro": scores.macro, "micro": scores.micro} for name, scores in rows.items()}
        report["splits"][split] = {"tasks": len(tasks), "accuracy": accuracy}
    write_json(args.output, report)
    print(json.dumps(report["splits"], indent=2))


def import_zoo(args: argparse.Namespace) -> None:
    """Import a folder of trained networks with their descriptions."""
    from weightgen.data.zoo.importing import import_zoo
    from weightgen.data.zoo.text import zoo_text

    dtype = "float16" if args.half else "float32"
    options = {"dtype": dtype, "trust_remote_code": args.trust_remote_code, "aligned": args.align}
    zoo = import_zoo(args.folder, args.output, args.descriptions, **options)
    print(f"{args.output}: {zoo_text(zoo)}")


def info(args: argparse.Namespace) -> None:
    """Describe what is at a path."""
    from weightgen.data.meta_vqa.disk import FACTS, describe_meta_vqa
    from weightgen.data.zoo import Zoo
    from weightgen.data.zoo.text import zoo_text
    from weightgen.pipelines.picture_classifier import cnn_record
    from weightgen.pipelines.picture_hypernet import SCALE
    from weightgen.pipelines.weights_file import read_record
    from weightgen.storage.files import kind_of, read_json
    from weightgen.storage.shipped import shipped_folder

    path = shipped_folder(args.path)
    if kind_of(path) == "file":
        print(json.dumps(cnn_record(path) or read_record(path), indent=2))
    elif (path / SCALE).is_file():
        print(json.dumps(read_json(path / SCALE) | read_json(path / "config.json"), indent=2))
    elif (path / "pipeline.json").is_file():
        print(json.dumps(read_json(path / "pipeline.json"), indent=2))
    elif (path / FACTS).is_file():
        print(describe_meta_vqa(path))
    elif (path / "zoo.json").is_file():
        zoo = Zoo.load(path)
        zoo.verify()
        print(zoo_text(zoo))
    else:
        raise InputError(
            f"{path} is neither a saved pipeline, nor a Meta-VQA data set, nor a zoo, nor a file of weights"
        )


def app(args: argparse.Namespace) -> None:
    """Open the page."""
    try:
        from weightgen.app.page import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "weightgen":
            raise
        raise InputError(f"the page needs {error.name}: pip install 'weightgen[app]'") from error
    from weightgen.app.drawing import Draughtsman

    draughtsman = Draughtsman.load(args.hypertransformer)
    serve(_load(args), args.host, args.port, draughtsman)
