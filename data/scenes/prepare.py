"""Make Scenes: synthetic pictures, questions and answers in VQA v2 format, and the Meta-VQA tasks built from them.

    python data/scenes/prepare.py --output-dir runs/scenes

writes `images/`, `vqa_<split>/` and, by the same rules and code as for the real VQA v2, `dataset/`: a data set with the
splits train, validation, held_out_meanings and new_wordings. The same seed gives the same bytes.
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

from weightgen.errors import needs, one_line_errors

with one_line_errors(), needs("train"):  # told in one line, before any work
    import datasets  # noqa: F401
    import msgspec  # noqa: F401

from weightgen.data.meta_vqa.disk import Origin, Row, Rules, build_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.templates import make_template
from weightgen.data.meta_vqa.vqa_v2 import VqaV2
from weightgen.data.scenes.questions import meanings_of_questions
from weightgen.data.scenes.vqa_files import write_scenes
from weightgen.errors import InputError
from weightgen.storage.files import written_beside

LICENCE = "MIT: rendered by this package; no photograph and no human annotation is in it"
SPLITS = ("train", "validation", "held_out_meanings", "new_wordings")
# A split of Scenes is given, so each is built as one whole.
RULES = Rules(task_fraction=0.0, validation_fraction=0.0)
DESCRIPTION = (
    "Questions about rendered scenes of two to four objects. Synthetic: pictures, questions and answers are made by a program. "
    "No meaning of `validation` or `held_out_meanings` is asked about in another split, in any words; `new_wordings` asks about "
    "meanings of `train` in other words."
)
ALONE = (
    "None: answers are embedded alone, so that the question can reach a classifier through its weights only"
)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to make")
    parser.add_argument(
        "--images",
        type=int,
        default=9000,
        help="pictures to render (default: %(default)s); with fewer, meanings that apply to fewer than 21 are left out",
    )
    parser.add_argument(
        "--answers-alone",
        action="store_true",
        help='embed the answers alone ("red") and not in a statement ("the star is red"): isolates what the weights carry',
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of scenes and questions (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=2, help="renderers (default: %(default)s)")
    return parser.parse_args()


def build_dataset(folder: Path, answers_alone: bool) -> str:
    """Build the tasks in `folder`/dataset from the VQA files in `folder`; return a line that counts them."""
    meaning_of = meanings_of_questions()

    def with_meaning(source: VqaV2) -> Iterator[Row]:
        return (row._replace(meaning=meaning_of[row.question]) for row in source)

    def template_of(question: str) -> str:
        return "{}" if answers_alone else make_template(question)

    sources = {split: VqaV2(folder / f"vqa_{split}") for split in SPLITS}
    splits = {
        split: build_meta_vqa(with_meaning(source), RULES, template_of)["test"]
        for split, source in sources.items()
    }
    origin = Origin(
        title="Scenes (synthetic)",
        description=DESCRIPTION,
        licence=LICENCE,
        licence_id="mit",
        rules=RULES,
        sources=[file for source in sources.values() for file in source.sources],
        templates=ALONE if answers_alone else Origin.templates,
    )
    save_meta_vqa(splits, folder / "dataset", origin)
    return ", ".join(f"{len(tasks)} {name}" for name, tasks in splits.items())


@one_line_errors()
def main() -> None:
    args = arguments()
    if args.images < 500:
        raise InputError(f"Scenes needs at least 500 images to make tasks, got {args.images}")
    with written_beside(args.output_dir) as partial:
        write_scenes(partial, args.images, args.seed, args.processes)
        made = build_dataset(partial, args.answers_alone)
    print(f"{args.output_dir}: {args.images} images; tasks: {made}")


if __name__ == "__main__":
    main()
