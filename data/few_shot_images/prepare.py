"""Write images of classes as memory-mapped few-shot images.

python data/few_shot_images/prepare.py --folder train=FOLDER test=FOLDER --size 84 --output-dir data/few_shot_images/mine
python data/few_shot_images/prepare.py --npz train=a.npz test=b.npz --output-dir data/few_shot_images/mine
python data/few_shot_images/prepare.py --mini-imagenet FOLDER --output-dir data/few_shot_images/mini
python data/few_shot_images/prepare.py --tiered-imagenet FOLDER --output-dir data/few_shot_images/tiered
"""

import argparse

from caches import prepare_from_mini_imagenet, prepare_from_tiered_imagenet

from weightgen.data.few_shot.folders import prepare_from_folders, prepare_from_npz
from weightgen.errors import InputError, one_line_errors


def named(words: list[str]) -> dict[str, str]:
    """`split=path` words as a dictionary."""
    for word in words:
        if not all(word.partition("=")):
            raise InputError(f"expected SPLIT=PATH, got {word!r}")
    return {word.partition("=")[0]: word.partition("=")[2] for word in words}


@one_line_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--folder", nargs="+", metavar="SPLIT=PATH", help="folders of class folders")
    source.add_argument("--npz", nargs="+", metavar="SPLIT=PATH", help="files with `images` and `labels`")
    source.add_argument("--mini-imagenet", metavar="FOLDER", help="its pickled caches")
    source.add_argument("--tiered-imagenet", metavar="FOLDER", help="its pickled caches")
    parser.add_argument("--output-dir", required=True, help="folder to make")
    parser.add_argument("--size", type=int, default=84, help="side of the images made from --folder")
    parser.add_argument("--grey", action="store_true", help="drop the colour of images from --folder")
    parser.add_argument("--background", default="white", help="colour behind what is transparent in --folder")
    args = parser.parse_args()
    if args.npz:
        prepare_from_npz(named(args.npz), args.output_dir)
    elif args.mini_imagenet:
        prepare_from_mini_imagenet(args.mini_imagenet, args.output_dir)
    elif args.tiered_imagenet:
        prepare_from_tiered_imagenet(args.tiered_imagenet, args.output_dir)
    else:
        skipped = prepare_from_folders(
            named(args.folder), args.output_dir, args.size, args.grey, args.background
        )
        if skipped:
            print(f"skipped {skipped} files that are no images, or were left by a system or an editor")


if __name__ == "__main__":
    main()
