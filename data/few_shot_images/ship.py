"""Make a model that comes with the package from a training run: weights in half precision, how pictures are read, and a card.

    python data/few_shot_images/ship.py --run runs/1shot_8ch_random --card data/omniglot/card.md \
        --results results/omniglot/1shot_8ch_random_characters.json --output-dir weightgen/models/omniglot-8ch-1shot

The card says what is in the JSON files of recipes/evaluate_episodes.py about this run. A folder that this script made is replaced.
"""

import argparse
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.errors import InputError, one_line_errors
from weightgen.hypernets import HyperTransformer
from weightgen.pipelines.picture_hypernet import SCALE, PictureHypernet
from weightgen.storage.files import read_json, read_tensors, write_json, write_tensors, written_beside

PLACES = {"output", "data", "start", "resume", "overwrite"}
"""Settings of a training that may differ between two files about it."""


def written_layers(hypernet: HyperTransformer) -> str:
    """Which weights of a CNN it writes, in words."""
    chosen, depth = sorted(map(int, hypernet.generators)), hypernet.network.depth
    if chosen == list(range(depth + 1)):
        return "all weights"
    return "the last layer" if chosen == [depth] else f"{len(chosen)} of {depth + 1} layers"


def rows_of(file: str, facts: dict[str, Any]) -> str:
    """The lines of a report on the run that `facts` are of."""
    report = read_json(file)
    if not isinstance(report, dict) or not {"protocol", "step", "results", "training"} <= report.keys():
        raise InputError(f"{file} is no report of recipes/evaluate_episodes.py that names its protocol")
    now, then = facts["settings"], report["training"]["settings"]
    other = [name for name in sorted(now.keys() & then.keys() - PLACES) if now[name] != then[name]]
    if report["step"] != facts["step"] or other:
        differing = "step" if report["step"] != facts["step"] else other[0]
        raise InputError(f"{file} is a report on another training: {differing} differs from that of the run")
    return "".join(
        f"| {report['protocol']} | {how} | {found['accuracy']} ± {found['interval']} |\n"
        for how, found in report["results"].items()
    )


def card(template: str, name: str, model: PictureHypernet, run: Path, results: list[str]) -> str:
    """The text of the card."""
    facts = training.read_facts(run)
    settings = facts["settings"]
    known = {
        "name": name,
        "episodes": facts["step"] * settings["batch_size"],
        "ways": settings["ways"],
        "shots": settings["shots"],
        "chance": 100 / settings["ways"],
        "channels": model.hypernet.network.channels,
        "side": model.scale.side,
        "written": written_layers(model.hypernet),
        "rows": "".join(rows_of(file, facts) for file in results),
    }
    try:
        return template.format_map(known)
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"the card holds a brace that is not one of {', '.join(known)}: {error}") from error


@one_line_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="output of recipes/train_hypertransformer.py")
    parser.add_argument("--card", required=True, help="card.md of the data set")
    parser.add_argument("--results", nargs="*", default=[], help="JSON files of recipes/evaluate_episodes.py")
    parser.add_argument("--output-dir", required=True, help="folder to make or to replace")
    args = parser.parse_args()
    if not Path(args.card).is_file():
        raise InputError(
            f"no file {args.card}: expected the card of a data set, such as data/omniglot/card.md"
        )
    if Path(args.output_dir).exists() and not (Path(args.output_dir) / SCALE).is_file():
        raise InputError(f"{args.output_dir} exists, and this script did not make it: choose another folder")
    model = PictureHypernet.load(args.run)
    text = card(
        Path(args.card).read_text(encoding="utf-8"),
        Path(args.output_dir).name,
        model,
        Path(args.run),
        args.results,
    )
    with written_beside(args.output_dir, overwrite=True) as partial:
        model.hypernet.save_pretrained(partial)
        tensors = read_tensors(partial / "model.safetensors")
        write_tensors(partial / "model.safetensors", {name: value.half() for name, value in tensors.items()})
        write_json(partial / SCALE, model.scale._asdict())
        (partial / "README.md").write_text(text, encoding="utf-8")
    HyperTransformer.from_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
