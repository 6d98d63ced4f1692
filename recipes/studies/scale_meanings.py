"""How many described tasks must be collected? Accuracy on held-out meanings against the number of training meanings.

    python recipes/studies/scale_meanings.py dataset=runs/demo-scenes/scenes/dataset output=results/scenes/meanings

Trains Cond. Multitask, and with `diffusion=true` HyperLDM, at equal steps on random parts of the training meanings, each seed on parts of
its own, on pooled features and on image tokens, and scores them beside chance and the encoder with the question. `dataset` has both
features, made with recipes/configs/embed/scenes.yaml and scenes_tokens.yaml. Finished stages are reused. Writes `output`.json with the
value of every seed, .md and .png. A training takes half a minute to a minute on a CPU core, HyperLDM three more.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from omegaconf import MISSING

from weightgen import WeightPipeline, training
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.errors import InputError
from weightgen.evaluation import chance_scores, encoder_scores, evaluate, zero_shot
from weightgen.reports.scaling import write_scaling
from weightgen.reports.splits import dataset_digest, load_splits
from weightgen.reports.stages import Stage, add_recipe, claim_folders, run_stages

ROOT = Path(__file__).resolve().parent.parent.parent
FEATURES = {"pooled": ("scenes", "clip"), "tokens": ("scenes_tokens", "tokens")}  # configs, features


@dataclass
class Config:
    dataset: str = MISSING  # Meta-VQA folder with both features
    output: str = MISSING  # .json, .md and .png are added
    runs: str = "runs/meanings"  # folder of everything trained
    meanings: list[int] = field(default_factory=lambda: [50, 100, 200, 400, 787])
    seeds: int = 3
    diffusion: bool = False  # whether HyperLDM is trained too


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
    if cfg.diffusion:
        add("adapted", "adapt_tasks", parts={"start": "cond_multitask"})
        add("hvae", "train_hvae", parts={"adapted": "adapted"})
        add("hyperldm", "train_hyperldm", parts={"adapted": "adapted", "hvae": "hvae"})


def stages(cfg: Config, seed: int) -> dict[str, Stage]:
    """Data sets, and for each of them a chain on each kind of features."""
    found: dict[str, Stage] = {}
    for count in cfg.meanings:
        folder = Path(cfg.runs, f"seed{seed}", str(count)).resolve()
        words = [f"dataset={Path(cfg.dataset).resolve()}", f"meanings={count}", f"seed={seed}"]
        take = ["recipes/studies/take_meanings.py", *words, f"output={folder / 'data'}"]
        found[f"data_{count}"] = Stage(folder / "data", take)
        for kind in FEATURES:
            add_chain(found, cfg, folder, kind, seed)
    return found


def scores(cfg: Config, seed: int) -> dict[str, dict[str, dict[str, float]]]:
    """Row → split → number of meanings → accuracy, of one seed."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for kind, (_, features) in FEATURES.items():
        parts = load_splits(cfg.dataset, features, ("validation",), questions=True)
        for split, part in parts.items():
            rows = {"chance": chance_scores(part), "encoder with the question": encoder_scores(part)}
            for count in map(str, cfg.meanings):
                folder = Path(cfg.runs, f"seed{seed}", count)
                network, hypernet = training.load_run(folder / f"cond_multitask_{kind}", "cpu")
                learned = evaluate(network, part, lambda batch, _, h=hypernet: h(batch.embeds))
                here = {**rows, f"Cond. Multitask, {kind}": learned}
                if cfg.diffusion:
                    pipe = WeightPipeline.from_pretrained(folder / f"hyperldm_{kind}")
                    here[f"HyperLDM, {kind}"] = zero_shot(pipe, part, guidance_scale=1.0)
                for row, score in here.items():
                    found.setdefault(row, {}).setdefault(split, {})[count] = score.macro
    return found


def main(cfg: Config) -> None:
    known = len(set(load_meta_vqa(cfg.dataset)["train"]["meaning"]))
    if cfg.seeds < 1 or not cfg.meanings or not all(1 <= count <= known for count in cfg.meanings):
        raise InputError(
            f"expected seeds from 1 up and meanings from 1 to {known}, got {cfg.seeds} and {cfg.meanings}"
        )
    origin = {"dataset": dataset_digest(cfg.dataset, "tokens"), "diffusion": cfg.diffusion}
    claim_folders([Path(cfg.runs)], origin)
    done = []
    for seed in range(cfg.seeds):
        run_stages(stages(cfg, seed), ROOT, Path(cfg.runs, f"seconds{seed}.json"))
        done.append(scores(cfg, seed))
        write_scaling(cfg.output, cfg.meanings, done)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
