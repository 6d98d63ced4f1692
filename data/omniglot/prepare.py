"""Write Omniglot as memory-mapped few-shot images.

python data/omniglot/prepare.py --npz omniglot28.npz --output-dir data/omniglot/arrays
"""

import argparse

from weightgen.data.omniglot import prepare_from_npz
from weightgen.errors import one_line_errors


@one_line_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--npz", required=True, help="array file with the split of Vinyals et al.")
    parser.add_argument("--output-dir", required=True, help="folder to make")
    args = parser.parse_args()
    prepare_from_npz(args.npz, args.output_dir)


if __name__ == "__main__":
    main()
