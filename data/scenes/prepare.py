"""Make Scenes: synthetic pictures, questions and answers in VQA v2 format, and the Meta-VQA tasks built from them.

    python data/scenes/prepare.py --output-dir runs/scenes

writes `images/`, `vqa/`, `vqa_novel_compositions/` and, by the same rules and code as for the real VQA v2, `dataset/`:
a data set with the splits train, validation, test and novel_composition. The same seed gives the same bytes.
"""

import argparse
from pathlib import Path

from weightgen.data.meta_vqa.disk import Origin, Rules, build_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.vqa_v2 import VqaV2
from weightgen.data.scenes.vqa_files import write_scenes
from weightgen.errors import InputError, one_line_errors
from weightgen.storage.files import written_beside

LICENCE = "MIT: rendered by this package; no photograph and no human annotation is in it"

# Within a statement ("the star is {}") the answers would hold the question, and CLIP itself could answer: there would be little
# for generated weights to add, and nothing to tell by whether they heed their prompt.
ANSWER = "{}"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output-dir", type=Path, required=True, help="folder to make")
    parser.add_argument("--images", type=int, default=9000, help="pictures to render (default: %(default)s)")
    parser.add_argument(
        "--paraphrases", type=int, default=6, help="questions per meaning (default: %(default)s)"
    )
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of scenes and questions (default: %(default)s)"
    )
    parser.add_argument("--processes", type=int, default=2, help="renderers (default: %(default)s)")
    return parser.parse_args()


def build_dataset(folder: Path) -> str:
    """Build the tasks in `folder`/dataset from the VQA files in `folder`; return a line that counts them."""

    def template_of(_: str) -> str:
        return ANSWER

    usual, novel = VqaV2(folder / "vqa"), VqaV2(folder / "vqa_novel_compositions")
    rules = Rules()
    splits = build_meta_vqa(usual, rules, template_of)
    held_out = build_meta_vqa(novel, Rules(task_fraction=0.0, validation_fraction=0.0), template_of)
    splits["novel_composition"] = held_out["test"]
    origin = Origin(
        title="Scenes (synthetic)",
        description="Questions about rendered scenes of two to four objects. Synthetic: pictures, questions and answers are "
        "made by a program. `novel_composition` holds attribute-referent pairs that no other split asks about.",
        licence=LICENCE, licence_id="mit", rules=rules, sources=[*usual.sources, *novel.sources],
        templates="None: answers are embedded alone, so that the question can reach a classifier through its weights only",
    )  # fmt: skip
    save_meta_vqa(splits, folder / "dataset", origin)
    return ", ".join(f"{len(tasks)} {name}" for name, tasks in splits.items())


@one_line_errors()
def main() -> None:
    args = arguments()
    if args.images < 500 or args.paraphrases < 1:
        raise InputError(
            f"Scenes needs at least 500 images and 1 paraphrase to make tasks, got {args.images} and {args.paraphrases}"
        )
    with written_beside(args.output_dir) as partial:
        write_scenes(partial, args.images, args.paraphrases, args.seed, args.processes)
        made = build_dataset(partial)
    print(f"{args.output_dir}: {args.images} images; tasks: {made}")


if __name__ == "__main__":
    main()
