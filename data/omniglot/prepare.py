"""Write Omniglot as memory-mapped few-shot images.

    python data/omniglot/prepare.py --npz omniglot28.npz --output-dir runs/omniglot
    python data/omniglot/prepare.py --images FOLDER --output-dir runs/omniglot

FOLDER holds images_background.zip and images_evaluation.zip, or the two unpacked, or torchvision's omniglot-py, or is a
clone of the authors' repository, or a zip file of any of these. `--split random_characters` splits as the HyperTransformer's paper does.
"""

import argparse
from typing import get_args

from weightgen.data.few_shot.omniglot import Split, prepare_from_images, prepare_from_npz
from weightgen.errors import one_line_errors


@one_line_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--npz", help="array file with the split of Vinyals et al.")
    source.add_argument("--images", help="folder with the official zip files, or what they unpack to")
    parser.add_argument("--output-dir", required=True, help="folder to make")
    parser.add_argument("--size", type=int, default=28, help="side of the images made from --images")
    parser.add_argument("--split", choices=get_args(Split), default="alphabets", help="default: alphabets")
    parser.add_argument("--split-seed", type=int, default=2022, help="of random_characters (default: 2022)")
    args = parser.parse_args()
    if args.npz:
        prepare_from_npz(args.npz, args.output_dir, args.split, args.split_seed)
    else:
        prepare_from_images(args.images, args.output_dir, args.size, args.split, args.split_seed)


if __name__ == "__main__":
    main()
