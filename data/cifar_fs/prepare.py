"""Write CIFAR-FS, the few-shot split of CIFAR-100's classes, as memory-mapped few-shot images.

    python data/cifar_fs/prepare.py --parquet ../shared/data/cifar100 --output-dir runs/cifar_fs
    python data/cifar_fs/prepare.py --torchvision FOLDER --output-dir runs/cifar_fs

The first reads the Hub's Parquet files, the second torchvision's `cifar-100-python`. 20 seconds.
"""

import argparse

from weightgen.data.few_shot.cifar_fs import prepare_cifar_fs
from weightgen.data.photos.cifar import read_parquet, read_torchvision
from weightgen.errors import one_line_errors
from weightgen.storage.files import check_new


@one_line_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument(
        "--parquet", metavar="FOLDER", help="with train-*.parquet and test-*.parquet of the Hub"
    )
    source.add_argument("--torchvision", metavar="FOLDER", help="that holds cifar-100-python")
    parser.add_argument("--output-dir", required=True, help="folder to make")
    args = parser.parse_args()
    check_new(args.output_dir)
    photos = read_parquet(args.parquet) if args.parquet else read_torchvision(args.torchvision)
    prepare_cifar_fs(photos, args.output_dir)


if __name__ == "__main__":
    main()
