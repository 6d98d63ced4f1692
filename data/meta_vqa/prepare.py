"""Make the Meta-VQA data set: few-shot tasks described by a question.

    python data/meta_vqa/prepare.py --vqa-dir VQA_V2 --output-dir META_VQA
    python data/meta_vqa/prepare.py --from-release meta_train.json meta_test.json --output-dir META_VQA
    python data/meta_vqa/prepare.py --table pairs.csv --output-dir MY_TASKS

VQA_V2 holds the four files of the official download (questions and annotations of train2014 and val2014), as
.json, as .json.gz or inside the .zip files. At full size it takes some ten seconds. See README.md in this
folder.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from weightgen.errors import needs, one_line_errors

with one_line_errors(), needs("train"):  # told in one line, before any work
    import datasets  # noqa: F401
    import msgspec  # noqa: F401

from weightgen.data.meta_vqa.disk import Origin, Rules, Task, build_meta_vqa, describe_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.release import export_release, read_release
from weightgen.data.meta_vqa.table import VqaTable
from weightgen.data.meta_vqa.templates import read_templates, templates_first
from weightgen.data.meta_vqa.vqa_v2 import VqaV2
from weightgen.errors import InputError

DEFAULTS = Rules()


def parser() -> argparse.ArgumentParser:
    """All options; the authors' rules are the defaults."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_argument_group("source, one of").add_mutually_exclusive_group(required=True)
    source.add_argument("--vqa-dir", metavar="DIR", help="folder with the VQA v2 files")
    source.add_argument(
        "--from-release",
        nargs=2,
        metavar=("TRAIN", "TEST"),
        help="the authors' meta_train.json and meta_test.json",
    )
    source.add_argument("--table", metavar="FILE", help="CSV or Parquet with columns question, image, answer")
    output = parser.add_argument_group("output")
    output.add_argument("--output-dir", required=True, metavar="OUT", help="folder to make")
    output.add_argument(
        "--overwrite", action="store_true", help="replace an earlier data set, with its features"
    )
    output.add_argument(
        "--export-json", metavar="DIR", help="also write the authors' format into a new folder"
    )
    output.add_argument("--templates", metavar="FILE", help="JSON object: question -> statement with one {}")
    output.add_argument(
        "--title", default=Origin().title, help="heading of the dataset card (default %(default)s)"
    )
    _add_rules(parser.add_argument_group("rules (defaults: the authors')"))
    return parser


RULES = {
    "min_examples": "fewest images of a question",
    "min_per_answer": "fewest images of an answer; rarer answers are dropped",
    "min_answers": "fewest answers of a question",
    "support_fraction": "share of each answer's images for the support set",
    "task_fraction": "share of the tasks for training; the rest is the test split",
    "validation_fraction": "share of the training tasks held out for choosing models; 0: as in the paper",
    "seed": "of all shuffles",
    "excluded_words": "questions with one of these words are dropped",
    "answer_types": "VQA v2 answer types to keep",
    "split_images": "split images before questions: no image of a test task is in a training task",
}


def _add_rules(group: argparse._ArgumentGroup) -> None:
    for name, text in RULES.items():
        default = getattr(DEFAULTS, name)
        if isinstance(default, bool):
            group.add_argument("--" + name.replace("_", "-"), action="store_true", help=text)
            continue
        several = isinstance(default, tuple)
        group.add_argument(
            "--" + name.replace("_", "-"),
            type=str if several else type(default),
            nargs="*" if several else None,
            default=default,
            metavar="X",
            help=f"{text} (default {' '.join(default) if several else default})",
        )


@one_line_errors()
def main() -> None:
    arguments = parser().parse_args()
    values = vars(arguments)
    rules = Rules(**{name: values[name] for name in RULES})
    for folder in filter(None, (arguments.output_dir, arguments.export_json)):
        if Path(folder).exists() and not arguments.overwrite:  # before a minute is spent on reading
            raise InputError(f"{folder} exists already: remove it, choose another, or add --overwrite")
    given = read_templates(arguments.templates) if arguments.templates else {}
    origin = Origin(title=arguments.title, templates=_templates_from(arguments.templates))
    splits, origin = make(arguments, rules, templates_first(given), origin)
    save_meta_vqa(splits, arguments.output_dir, origin, arguments.overwrite)
    print(describe_meta_vqa(arguments.output_dir))
    print(f"Written to {arguments.output_dir}")
    if arguments.export_json:
        export_release(splits, arguments.export_json, rules.seed, arguments.overwrite)
        print(f"In the authors' format: {arguments.export_json}")


def make(
    arguments: argparse.Namespace, rules: Rules, template_of: Callable[[str], str], origin: Origin
) -> tuple[dict[str, list[Task]], Origin]:
    """Build the splits from whichever source was named."""
    if arguments.from_release:
        train, test = arguments.from_release
        splits, sources = read_release(train, test, rules.validation_fraction, rules.seed, template_of)
        held_out = f" Validation: {rules.validation_fraction} of its training tasks, seed {rules.seed}."
        return splits, replace(origin, sources=sources, description=RELEASED + held_out)
    if arguments.table:
        source: VqaTable | VqaV2 = VqaTable(arguments.table, progress=True)
        origin = replace(
            origin, description=TABLE, licence="that of the table's source", licence_id="unknown"
        )
    else:
        source = VqaV2(arguments.vqa_dir, progress=True)
    rows = tqdm(source, desc="collecting answers", unit=" rows", unit_scale=True, leave=False)
    splits = build_meta_vqa(rows, rules, template_of)
    return splits, replace(origin, rules=rules, sources=source.sources)


TABLE = (
    "Few-shot image classification tasks described by a question, made from a table with "
    "the rules of Meta-VQA."
)
RELEASED = (
    "Few-shot image classification tasks described by a question: the split released with Nava, "
    'Kobayashi et al., "Meta-Learning via Classifier(-free) Diffusion Guidance" (TMLR 2023).'
)


def _templates_from(path: str | None) -> str:
    made = Origin().templates
    return f"from {Path(path).name}; for questions that it lacks, {made}" if path else made


if __name__ == "__main__":
    main()
