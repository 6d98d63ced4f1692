"""How many described tasks must be collected? Accuracy on held-out meanings against the number of training meanings.

    python recipes/studies/scale_meanings.py dataset=runs/demo-scenes/scenes/dataset output=results/scenes/meanings

Trains at equal steps on random parts of the training meanings, each seed on parts of its own: Cond. Multitask on pooled features and on
image tokens, and HyperLDM on image tokens. Beside them stand chance, the encoder with the question, and the average of the adapted weights
of the nearest known questions. `dataset` has both features, made with recipes/configs/embed/scenes.yaml and scenes_tokens.yaml. Finished
stages are reused. Writes `output`.json with the value of every seed, .md and .png. A seed takes 20 minutes on a CPU core.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from weightgen import training
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.errors import InputError
from weightgen.reports.scaling import write_scaling
from weightgen.reports.splits import dataset_digest
from weightgen.reports.stages import Stage, add_recipe, claim_folders, listed, run_stages
from weightgen.storage.files import read_json

ROOT = Path(__file__).resolve().parent.parent.parent
FEATURES = {"pooled": ("scenes", "clip"), "tokens": ("scenes_tokens", "tokens")}  # configs, features


@dataclass
class Config:
    dataset: str = MISSING  # Meta-VQA folder with both features
    output: str = MISSING  # .json, .md and .png are added
    runs: str = "runs/meanings"  # folder of everything trained
    meanings: list[int] = field(default_factory=lambda: [100, 200, 400, 787])
    seeds: int = 3
    diffusion: bool = True  # whether HyperLDM is trained too


def add_chain(found: dict[str, Stage], cfg: Config, folder: Path, kind: str, seed: int) -> None:
    """The trainings on the data set in `folder`, on one kind of features."""
    config, features = FEATURES[kind]

    def add(name: str, recipe: str, variant: str = "", parts: Mapping[str, str] | None = None) -> None:
        of = {key: f"{other}_{kind}_{folder.name}" for key, other in (parts or {}).items()}
        paths = (folder / f"{name}_{kind}", f"recipes/{recipe}.py", f"{recipe}/{config}{variant}")
        settings = {"dataset": folder / "data", "features": features, "seed": seed}
        needs = (f"data_{folder.name}",)
        add_recipe(found, f"{name}_{kind}_{folder.name}", *paths, of, settings, needs)

    add("cond_multitask", "train_hypernet", "_conditional")
    if cfg.diffusion and kind == "tokens":
        add("adapted", "adapt_tasks", parts={"start": "cond_multitask"})
        add("hvae", "train_hvae", parts={"adapted": "adapted"})
        add("hyperldm", "train_hyperldm", parts={"adapted": "adapted", "hvae": "hvae"})


def stages(cfg: Config, seed: int) -> dict[str, Stage]:
    """Data sets, for each of them a chain on each kind of features, and the scores of all."""
    found: dict[str, Stage] = {}
    runs = Path(cfg.runs, f"seed{seed}").resolve()
    for count in cfg.meanings:
        folder = runs / str(count)
        words = [f"dataset={Path(cfg.dataset).resolve()}", f"meanings={count}", f"seed={seed}"]
        take = ["recipes/studies/take_meanings.py", *words, f"output={folder / 'data'}"]
        found[f"data_{count}"] = Stage(folder / "data", take)
        for kind in FEATURES:
            add_chain(found, cfg, folder, kind, seed)
    # One file for each choice of rows and columns: a longer study scores anew what a shorter one has trained.
    name = f"scores{'_diffusion' if cfg.diffusion else ''}_{'_'.join(map(str, cfg.meanings))}.json"
    paths = (runs / name, "recipes/studies/score_meanings.py")
    read: dict[str, object] = {"dataset": Path(cfg.dataset).resolve(), "runs": runs}
    read |= {"meanings": listed(cfg.meanings), "diffusion": cfg.diffusion}
    add_recipe(found, "scores", *paths, settings=read, needs=tuple(found), cheap=True)
    return found


def main(cfg: Config) -> None:
    known = len(set(load_meta_vqa(cfg.dataset)["train"]["meaning"]))
    if cfg.seeds < 1 or not cfg.meanings or not all(1 <= count <= known for count in cfg.meanings):
        raise InputError(
            f"expected seeds from 1 up and meanings from 1 to {known}, got {cfg.seeds} and {cfg.meanings}"
        )
    claim_folders([Path(cfg.runs)], {"dataset": dataset_digest(cfg.dataset, "tokens")})
    done = []
    for seed in range(cfg.seeds):
        chain = stages(cfg, seed)
        run_stages(chain, ROOT, Path(cfg.runs, f"seconds{seed}.json"))
        done.append(read_json(chain["scores"].makes)["rows"])
        write_scaling(cfg.output, cfg.meanings, done)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
