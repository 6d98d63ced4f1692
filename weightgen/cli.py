"""The command line: weights from a prompt or from pictures, their use, scores, a page, descriptions of files."""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from weightgen import __version__
from weightgen.errors import InputError, one_line_errors

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


def _sample(args: argparse.Namespace) -> None:
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


def _write(args: argparse.Namespace) -> None:
    from weightgen.pipelines.picture_hypernet import PictureHypernet
    from weightgen.storage.files import check_output

    check_output(args.output)
    made = PictureHypernet.load(args.model).write_from(args.folder)
    made.save(args.output)
    size = sum(weights.numel() for weights in made.network.parameters())
    seen = f"{made.facts['labelled']} labelled and {made.facts['unlabelled']} unlabelled pictures"
    print(f"{args.output}: a CNN of {size:,} weights for {len(made.classes)} classes, from {seen}")


def _predict(args: argparse.Namespace) -> None:
    import torch

    from weightgen.pipelines.picture_classifier import PictureClassifier, cnn_record
    from weightgen.storage.images import read_image

    if cnn_record(args.weights) is not None:
        if args.sample is not None or args.model is not None:
            raise InputError(f"{args.weights} holds one CNN, complete: leave out --model and --sample")
        cnn = PictureClassifier.load(args.weights)
        pictures = [read_image(path) for path in args.images]
        _print_answers(args.images, cnn.classes, cnn.probabilities(pictures, args.images))
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


def _evaluate(args: argparse.Namespace) -> None:
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


def _import_zoo(args: argparse.Namespace) -> None:
    from weightgen.data.zoo.importing import import_zoo
    from weightgen.data.zoo.text import zoo_text

    dtype = "float16" if args.half else "float32"
    options = {"dtype": dtype, "trust_remote_code": args.trust_remote_code, "aligned": args.align}
    zoo = import_zoo(args.folder, args.output, args.descriptions, **options)
    print(f"{args.output}: {zoo_text(zoo)}")


def _info(args: argparse.Namespace) -> None:
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


def _app(args: argparse.Namespace) -> None:
    try:
        from weightgen.app.page import serve
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "weightgen":
            raise
        raise InputError(f"the page needs {error.name}: pip install 'weightgen[app]'") from error
    from weightgen.app.drawing import Draughtsman

    draughtsman = Draughtsman.load(args.hypertransformer)
    serve(_load(args), args.host, args.port, draughtsman)


def _completion(args: argparse.Namespace) -> None:
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise InputError("completion needs shtab: pip install shtab") from error
    print(shtab.complete(_parser(), args.shell))


HYPERTRANSFORMER = "omniglot-8ch-1shot"
_path = os.path.expanduser  # a shell does not expand ~ in --model=~/pipeline


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # one line, as for every other wrong use
        raise InputError(f"{message}; see {self.prog} --help")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="weightgen", description=__doc__)
    parser.add_argument("--version", action="version", version=f"weightgen {__version__}")
    commands = parser.add_subparsers(title="commands", required=True)

    sample = commands.add_parser("sample", help="sample the weights of classifiers from a question")
    sample.add_argument("prompt", help='the question, such as "What color is the star?"')
    sample.add_argument("--model", required=True, type=_path, help="folder of a saved pipeline, or photos")
    sample.add_argument(
        "--answers",
        required=True,
        action="append",
        help="what to choose from, with commas between; an answer with a comma in double quotes; @FILE has one a line; may be repeated",
    )
    sample.add_argument("--template", help='statement with one {} for the answer, such as "the star is {}"')
    sample.add_argument("--num-samples", type=int, default=1, help="networks to sample (default: 1)")
    sample.add_argument(
        "--output",
        required=True,
        type=_path,
        help="file to write, or folder for another --format than weights",
    )
    sample.add_argument(
        "--format",
        choices=["weights", "state_dict", "peft", "onnx", "numpy"],
        default="weights",
        help="weights: a file for `weightgen predict` (default); the others are for use without weightgen, see docs/exports.md",
    )
    sample.add_argument(
        "--image-tower",
        action="store_true",
        help="with --format onnx: take pixels in place of image features",
    )
    sample.set_defaults(run=_sample)

    write = commands.add_parser("write", help="write a CNN from a folder of pictures, in one pass")
    write.add_argument(
        "folder",
        type=_path,
        help="holds a folder of pictures for each class; pictures beside them have no label",
    )
    write.add_argument(
        "--model", default=HYPERTRANSFORMER, type=_path,
        help=f"output of recipes/train_hypertransformer.py, or the name of a shipped model (default: {HYPERTRANSFORMER})",
    )  # fmt: skip
    write.add_argument("--output", required=True, type=_path, help="safetensors file to write")
    write.set_defaults(run=_write)

    predict = commands.add_parser("predict", help="classify images, with sampled weights or a written CNN")
    predict.add_argument(
        "weights", type=_path, help="file that `weightgen sample` or `weightgen write` wrote"
    )
    predict.add_argument("images", nargs="+", type=_path, metavar="IMAGE", help="image files")
    predict.add_argument(
        "--model", type=_path, help="folder of the pipeline that sampled the weights; a CNN needs none"
    )
    predict.add_argument("--sample", type=int, help="use this sample alone (default: average over all)")
    predict.set_defaults(run=_predict)

    evaluate = commands.add_parser("evaluate", help="score sampled classifiers on the tasks of a data set")
    evaluate.add_argument("--model", required=True, type=_path, help="folder of a saved pipeline, or photos")
    evaluate.add_argument(
        "--dataset", required=True, type=_path, help="Meta-VQA folder with features of the model's encoder"
    )
    evaluate.add_argument("--features", help="name of the features, where the data set has several")
    evaluate.add_argument(
        "--split", nargs="+", default=["test"], help="one split to score, or several (default: test)"
    )
    evaluate.add_argument("--output", required=True, type=_path, help="JSON file to write")
    evaluate.set_defaults(run=_evaluate)
    app = commands.add_parser("app", help="open a page to try a model in the browser")
    app.add_argument(
        "--model", default="photos", type=_path, help="folder of a saved pipeline (default: photos)"
    )
    app.add_argument("--port", type=int, default=7860, help="of the page; 0 takes a free one (default: 7860)")
    app.add_argument(
        "--host", default="127.0.0.1", help="address to listen on (default: 127.0.0.1, this machine alone)"
    )
    app.add_argument(
        "--hypertransformer", type=_path, metavar="FOLDER", default=HYPERTRANSFORMER,
        help=f"output of recipes/train_hypertransformer.py, for the tab of drawn characters (default: {HYPERTRANSFORMER})",
    )  # fmt: skip
    app.set_defaults(run=_app)

    zoo = commands.add_parser("zoo", help="many trained networks, to learn from")
    imported = zoo.add_subparsers(title="commands", required=True).add_parser(
        "import", help="make a zoo of a folder of state dictionaries (safetensors) or PEFT adapters"
    )
    imported.add_argument("folder", type=_path, help="folder of NAME.safetensors, or of PEFT folders")
    imported.add_argument(
        "--descriptions",
        type=_path,
        help="JSONL or CSV with name, text and optionally split (default: the line `description:` of each adapter's card)",
    )
    imported.add_argument("--output", required=True, type=_path, help="zoo to make")
    imported.add_argument("--half", action="store_true", help="store half precision")
    imported.add_argument(
        "--align",
        action="store_true",
        help="permute the hidden units of MLPs and CNNs, and turn the factors of LoRA products, to be like those of the first network",
    )
    imported.set_defaults(run=_import_zoo)

    for command in (sample, predict, evaluate, app, imported):
        command.add_argument(
            "--trust-remote-code", action="store_true", help="import classes that are not weightgen's"
        )
    for command in (sample, evaluate):
        command.add_argument(
            "--guidance-scale", type=float, default=1.5, help="0 ignores the question (default: 1.5)"
        )
        command.add_argument("--steps", type=int, default=20, help="denoising steps (default: 20)")
        command.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")

    info = commands.add_parser(
        "info", help="describe a pipeline, a Meta-VQA data set, a zoo or a file of weights"
    )
    info.add_argument("path", type=_path)
    info.set_defaults(run=_info)

    completion = commands.add_parser("completion", help="print what a shell needs to complete this command")
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    completion.set_defaults(run=_completion)
    return parser


@one_line_errors()
def main(argv: Sequence[str] | None = None) -> None:
    """Run a command of the command line; bad input is one line on stderr and exit status 2."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may lack letters of a prompt or a path
    args = _parser().parse_args(argv)
    args.run(args)
