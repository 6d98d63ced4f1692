"""Make a data set that trains on a part of the meanings of another one; validation and test tasks stay as they are.

    python recipes/studies/take_meanings.py dataset=runs/demo-scenes/scenes/dataset meanings=100 output=runs/scenes100

All wordings of a chosen meaning are kept. With one seed, fewer meanings are a part of more. Features are linked, not copied.
A few seconds.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from weightgen import training
from weightgen.data.meta_vqa.disk import FACTS, Origin, Task, load_meta_vqa, save_meta_vqa
from weightgen.errors import InputError
from weightgen.storage.files import read_json
from weightgen.tasks import random_subset


@dataclass
class Config:
    dataset: str = MISSING
    output: str = MISSING  # folder to make
    meanings: int = MISSING  # how many of the training split to keep
    seed: int = 0  # of the choice


def chosen_rows(meanings: list[str], count: int, seed: int) -> list[int]:
    """The rows of `count` random meanings.

    Raises:
        InputError: fewer than one, or more than there are.
    """
    names = sorted(set(meanings))
    if not 1 <= count <= len(names):
        raise InputError(f"expected from 1 to {len(names)} meanings, got meanings={count}")
    kept = {names[number] for number in random_subset(len(names), count / len(names), seed)}
    return [row for row, meaning in enumerate(meanings) if meaning in kept]


def main(cfg: Config) -> None:
    splits = load_meta_vqa(cfg.dataset)
    if "train" not in splits:
        raise InputError(f"{cfg.dataset} has no split 'train', but {', '.join(splits)}")
    meanings = list(splits["train"]["meaning"])
    if not all(meanings):
        print("the training tasks have no meanings: every question counts as one", file=sys.stderr)
        meanings = list(splits["train"]["question"])
    tasks = {name: [Task(**row) for row in split] for name, split in splits.items()}
    tasks["train"] = [tasks["train"][row] for row in chosen_rows(meanings, cfg.meanings, cfg.seed)]
    facts = read_json(Path(cfg.dataset, FACTS))
    same = {name: facts[name] for name in ("title", "licence", "licence_id", "templates")}
    about = f"{facts['description']} Only {cfg.meanings} meanings of the training split are kept."
    save_meta_vqa(tasks, cfg.output, Origin(description=about, **same))
    features = Path(cfg.dataset, "features").resolve()
    if features.is_dir():
        Path(cfg.output, "features").symlink_to(features, target_is_directory=True)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
