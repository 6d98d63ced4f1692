"""Make the Photos data set: questions about real photographs, as few-shot tasks, from CIFAR-100.

    python data/photos/prepare.py --parquet ../shared/data/cifar100 --output-dir runs/photos
    python data/photos/prepare.py --torchvision ROOT --output-dir runs/photos       (ROOT/cifar-100-python)
    python data/photos/prepare.py --torchvision ROOT --download --output-dir runs/photos
    python data/photos/prepare.py --shipped --output-dir runs/photos                (the package's own, with features, without photos)

writes `images.zip` and `dataset/` (tasks with their card; a meaning is such as `covering/animal`).
Photos are split before questions: no photo of a held-out task is in a training task. 20 seconds.
"""

import argparse
import zipfile
from collections.abc import Sequence
from pathlib import Path

from weightgen.errors import needs, one_line_errors

with one_line_errors(), needs("train"):  # told in one line, before any work
    import datasets  # noqa: F401
    import msgspec  # noqa: F401

from weightgen.data.meta_vqa.disk import Origin, Task, describe_meta_vqa, save_meta_vqa
from weightgen.data.meta_vqa.templates import make_template
from weightgen.data.photos.build import Sizes, answer_alone, build_photo_tasks, photo_pools
from weightgen.data.photos.cifar import Photo, read_parquet, read_torchvision
from weightgen.data.photos.knowledge import load_knowledge
from weightgen.data.photos.shipped import unpack
from weightgen.data.photos.splits import Plan, plan_splits
from weightgen.errors import InputError
from weightgen.storage.files import check_new, written_beside

LICENCE = (
    "Questions and answers: MIT. The photos are CIFAR-100's (Krizhevsky, 2009), whose authors state no licence; "
    "they are not part of the project, and images.zip is for use on this machine only"
)
DESCRIPTION = (
    "Questions about photographs of 100 kinds of things: what is known of each kind (a table of attributes), asked "
    "of groups of them in many wordings. Photos are split before questions, so no photo of a held-out task is in a "
    "training task. Held out are random questions, novel compositions (the attribute is never asked of the group in "
    "training), unseen classes (20 in no training task) and novel attributes; `validation` unites the three "
    "`validation_…` splits, which choose settings."
)

ALONE = (
    "None: answers are embedded alone, so that the question can reach a classifier through its weights only."
)
STATEMENTS = "Made from the questions."


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--parquet", metavar="FOLDER", help="with train-*.parquet and test-*.parquet of the Hub"
    )
    source.add_argument("--torchvision", metavar="ROOT", help="with torchvision's cifar-100-python")
    source.add_argument("--shipped", action="store_true", help="the data set that comes with the package")
    parser.add_argument("--download", action="store_true", help="fetch cifar-100-python into ROOT first")
    parser.add_argument(
        "--statements", action="store_true", help="embed answers in statements that hold the question"
    )
    parser.add_argument("--output-dir", required=True, metavar="OUT", help="folder to make")
    for owner in (Sizes(), Plan()):
        for name, default in vars(owner).items():
            flag = "--" + name.replace("_", "-")
            parser.add_argument(flag, type=type(default), default=default, help=f"default {default}")
    return parser.parse_args()


def write_images(path: Path, photos: Sequence[Photo], used: set[str]) -> None:
    """Write the photos that some task uses, uncompressed: PNG files are compressed already."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for photo in sorted(photos):
            if photo.name in used:
                # A fixed date: the same photos give the same bytes.
                archive.writestr(zipfile.ZipInfo(f"{photo.name}.png", (2009, 4, 8, 0, 0, 0)), photo.png)


def names_used(tasks: dict[str, list[Task]]) -> set[str]:
    """The photos that some task has."""
    return {
        name for split in tasks.values() for task in split for name in task.support_images + task.query_images
    }


@one_line_errors()
def main() -> None:
    args = arguments()
    values = vars(args)
    sizes = Sizes(**{name: values[name] for name in vars(Sizes())})
    plan = Plan(**{name: values[name] for name in vars(Plan())})
    if args.download and not args.torchvision:
        raise InputError("--download fetches torchvision's files; write --torchvision ROOT --download")
    check_new(args.output_dir)
    if args.shipped:
        unpack(args.output_dir)
        print(f"Written to {args.output_dir}")
        return
    splits = plan_splits(load_knowledge(), plan)
    photos = (
        read_torchvision(args.torchvision, args.download) if args.torchvision else read_parquet(args.parquet)
    )
    template_of = make_template if args.statements else answer_alone
    tasks = build_photo_tasks(splits, photo_pools(photos, sizes), sizes, plan.seed, template_of)
    origin = Origin(
        "Photos", DESCRIPTION, LICENCE, "other", templates=STATEMENTS if args.statements else ALONE
    )
    with written_beside(args.output_dir) as partial:
        partial.mkdir()
        write_images(partial / "images.zip", photos, names_used(tasks))
        save_meta_vqa(tasks, partial / "dataset", origin)
    print(describe_meta_vqa(Path(args.output_dir) / "dataset"))
    print(f"Written to {args.output_dir}")


if __name__ == "__main__":
    main()
