"""The command line: its commands and their arguments."""

from __future__ import annotations

import argparse
import os
from typing import NoReturn, TypeAlias

import weightgen.cli.commands as commands
from weightgen import __version__
from weightgen.errors import InputError

ABOUT = "Write the weights of small networks from a question or from pictures, use them, score them, and see what files hold."
HYPERTRANSFORMER = "omniglot-16ch-1shot"
_path = os.path.expanduser  # a shell does not expand ~ in --model=~/pipeline


Kinds: TypeAlias = "argparse._SubParsersAction[_Parser]"


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:  # one line, as for every other wrong use
        raise InputError(f"{message}; see {self.prog} --help")


def parser() -> argparse.ArgumentParser:
    """The arguments of all commands; `run` of what they are parsed to is the command."""
    top = _Parser(prog="weightgen", description=ABOUT)
    top.add_argument("--version", action="version", version=f"weightgen {__version__}")
    kinds = top.add_subparsers(title="commands", required=True)
    for add in (
        _add_sample,
        _add_write,
        _add_predict,
        _add_evaluate,
        _add_app,
        _add_zoo,
        _add_info,
        _add_completion,
    ):
        add(kinds)
    return top


def _add_trust(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--trust-remote-code", action="store_true", help="import classes that are not weightgen's"
    )


def _add_sampling(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--guidance-scale", type=float, default=1.5, help="0 ignores the question (default: 1.5)"
    )
    command.add_argument("--steps", type=int, default=20, help="denoising steps (default: 20)")
    command.add_argument("--seed", type=int, default=0, help="of the sampling (default: 0)")


def _add_sample(kinds: Kinds) -> None:
    sample = kinds.add_parser("sample", help="sample the weights of classifiers from a question")
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
    sample.set_defaults(run=commands.sample)
    _add_trust(sample)
    _add_sampling(sample)


def _add_write(kinds: Kinds) -> None:
    write = kinds.add_parser("write", help="write a CNN from a folder of pictures, in one pass")
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
    write.set_defaults(run=commands.write)


def _add_predict(kinds: Kinds) -> None:
    predict = kinds.add_parser("predict", help="classify images, with sampled weights or a written CNN")
    predict.add_argument(
        "weights", type=_path, help="file that `weightgen sample` or `weightgen write` wrote"
    )
    predict.add_argument("images", nargs="+", type=_path, metavar="IMAGE", help="image files")
    predict.add_argument(
        "--model", type=_path, help="folder of the pipeline that sampled the weights; a CNN needs none"
    )
    predict.add_argument("--sample", type=int, help="use this sample alone (default: average over all)")
    predict.set_defaults(run=commands.predict)
    _add_trust(predict)


def _add_evaluate(kinds: Kinds) -> None:
    evaluate = kinds.add_parser("evaluate", help="score sampled classifiers on the tasks of a data set")
    evaluate.add_argument("--model", required=True, type=_path, help="folder of a saved pipeline, or photos")
    evaluate.add_argument(
        "--dataset", required=True, type=_path, help="Meta-VQA folder with features of the model's encoder"
    )
    evaluate.add_argument("--features", help="name of the features, where the data set has several")
    evaluate.add_argument(
        "--split", nargs="+", default=["test"], help="one split to score, or several (default: test)"
    )
    evaluate.add_argument("--output", required=True, type=_path, help="JSON file to write")
    evaluate.set_defaults(run=commands.evaluate)
    _add_trust(evaluate)
    _add_sampling(evaluate)


def _add_app(kinds: Kinds) -> None:
    app = kinds.add_parser("app", help="open a page to try a model in the browser")
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
    app.set_defaults(run=commands.app)
    _add_trust(app)


def _add_zoo(kinds: Kinds) -> None:
    zoo = kinds.add_parser("zoo", help="many trained networks, to learn from")
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
    imported.set_defaults(run=commands.import_zoo)
    _add_trust(imported)


def _add_info(kinds: Kinds) -> None:
    info = kinds.add_parser(
        "info", help="describe a pipeline, a Meta-VQA data set, a zoo or a file of weights"
    )
    info.add_argument("path", type=_path)
    info.set_defaults(run=commands.info)


def _add_completion(kinds: Kinds) -> None:
    completion = kinds.add_parser("completion", help="print what a shell needs to complete this command")
    completion.add_argument("shell", choices=["bash", "zsh", "tcsh"])
    completion.set_defaults(run=_completion)


def _completion(args: argparse.Namespace) -> None:
    """Print the completion script of a shell."""
    try:
        import shtab
    except ModuleNotFoundError as error:
        raise InputError("completion needs shtab: pip install shtab") from error
    print(shtab.complete(parser(), args.shell))
