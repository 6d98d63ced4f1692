"""Make the model that comes with the package from a training run: weights in half precision, how pictures are read, and a card.

    python data/omniglot/ship.py --run runs/omniglot_1shot_8ch --results results/omniglot/1shot_8ch_random.json \
        --output-dir weightgen/models/omniglot-8ch-1shot

The card says what is in the JSON files of recipes/evaluate_episodes.py. An existing folder is replaced.
"""

import argparse
from pathlib import Path

from weightgen import training
from weightgen.errors import one_line_errors
from weightgen.hypernets import HyperTransformer
from weightgen.pipelines.picture_hypernet import SCALE, PictureHypernet
from weightgen.storage.files import read_json, read_tensors, write_json, write_tensors, written_beside

CARD = """---
library_name: weightgen
license: mit
tags:
- hypernetwork
- few-shot
---

# {name}

    weightgen write FOLDER --model {name} --output net.safetensors
    weightgen predict net.safetensors IMAGE...

A HyperTransformer (Zhmoginov et al., 2022) that was trained on drawings of Omniglot (Lake et al., 2015; MIT licence) with
`recipes/train_hypertransformer.py`: {episodes:,} episodes, {ways} classes with {shots} labelled drawing each.
From drawings of 2 to {ways} classes
it writes all weights of a CNN of 4 layers and {channels} channels, for drawings of {side} × {side} pixels, dark strokes on light paper.
The weights here are MIT, as the code, in half precision. Made by `data/omniglot/ship.py`.

It knows single characters that fill most of the picture, drawn with a pen about as wide as a thirtieth of it. Photographs, words and
drawings in colour are none of what it has seen: do not rely on its answers there. Other numbers of classes and drawings than in training
are possible, and were not measured.

## Scores

Accuracy in % over episodes of {ways} classes that were not trained on, ± the half of a 95 % interval over episodes; one training run.

| protocol | batch norms, queries | accuracy |
|---|---|---|
{rows}
`weightgen write` uses the statistics of the given pictures ("support statistics"), so that each picture is classified for itself;
"transductive" uses those of all query pictures.
"""


@one_line_errors()
def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--run", required=True, help="output of recipes/train_hypertransformer.py")
    parser.add_argument("--results", nargs="*", default=[], help="JSON files of recipes/evaluate_episodes.py")
    parser.add_argument("--output-dir", required=True, help="folder to make or to replace")
    args = parser.parse_args()
    source = Path(args.run)
    model, settings = PictureHypernet.load(source), training.read_facts(source)["settings"]
    trained = training.read_metrics(source / "metrics.jsonl")[-1]["episodes"]
    rows = ""
    for report in map(read_json, args.results):
        for how, found in report["results"].items():
            rows += f"| {report['protocol']} | {how} | {found['accuracy']} ± {found['interval']} |\n"
    with written_beside(args.output_dir, overwrite=True) as partial:
        model.hypernet.save_pretrained(partial)
        tensors = read_tensors(partial / "model.safetensors")
        write_tensors(partial / "model.safetensors", {name: value.half() for name, value in tensors.items()})
        write_json(partial / SCALE, model.scale._asdict())
        facts = {
            "episodes": int(trained),
            "channels": model.hypernet.network.channels,
            "side": model.scale.side,
        }
        named = {
            "name": Path(args.output_dir).name,
            "ways": settings["ways"],
            "shots": settings["shots"],
            "rows": rows,
        }
        (partial / "README.md").write_text(CARD.format(**facts, **named), encoding="utf-8")
    HyperTransformer.from_pretrained(args.output_dir)


if __name__ == "__main__":
    main()
