"""The tables of the paper from one command: trains what is not there yet, scores every method, writes means over seeds.

    python recipes/reproduce.py dataset=runs/demo-scenes/scenes/dataset features=clip output=results/scenes seeds=3

Can be stopped and started again: finished stages are reused. On Scenes the small settings are trained (`configs/*/scenes*.yaml`), on any
other data set, so on a real Meta-VQA, the paper's (`configs/*/paper*.yaml`); `setting=` overrules that. `dry=true` only lists the
commands. On Scenes, features of whole pictures are needed (`configs/embed/scenes.yaml`, features=clip). What is written into `output`,
after every seed, is described in `studies/report_methods.py`.
Nava, Kobayashi et al., 2023: tables 1 and 4, figures 3 and 5. On Scenes 50 minutes for each seed on one CPU thread.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.errors import InputError
from weightgen.reports.splits import dataset_digest, load_splits
from weightgen.reports.stages import Stage, add_recipe, claim_folders, listed, run, run_stages

ROOT = Path(__file__).resolve().parent.parent
# HVAE + HyperLDM as we have it, as the paper has it, and HNet + HyperLDM
DIFFUSION = {
    "scenes": ("scenes", "scenes_paper", "scenes_hnet"),
    "paper": ("paper_weightgen", "paper", "paper"),
}


@dataclass
class Config:
    dataset: str = training.MISSING
    output: str = training.MISSING  # folder of the tables and figures
    features: str | None = None  # name of the features, where the data set has several
    runs: str | None = None  # folder of everything trained; by default runs/ and the name of `output`
    seeds: int = 3
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions
    setting: str | None = None  # scenes or paper; by default what fits the data set
    dry: bool = False  # list the commands and stop


def runs_of(cfg: Config) -> Path:
    """The folder of everything trained."""
    return Path(cfg.runs or f"runs/{Path(cfg.output).name}").resolve()


def stages(cfg: Config, setting: str, seed: int) -> dict[str, Stage]:
    """All that one seed needs, shared between methods: one start of each kind, one set of adapted weights and of latents."""
    runs, data = runs_of(cfg) / f"seed{seed}", Path(cfg.dataset).resolve()
    found: dict[str, Stage] = {}
    source = {"dataset": data, **({"features": cfg.features} if cfg.features else {})}

    def add(name: str, recipe: str, variant: str, of: dict[str, str], **settings: object) -> None:
        paths = (runs / name, f"recipes/{recipe}.py", f"{recipe}/{variant}")
        add_recipe(found, name, *paths, of, {**source, "seed": seed, **settings})

    add("multitask", "train_hypernet", setting, {})
    # Scenes is small, and training short: there all begin at the multitask weights, in the paper each at its own.
    start = {"start": "multitask"} if setting == "scenes" else {}
    for name in ("maml", "fomaml", "hnet_maml"):
        add(name, "train_hypernet", f"{setting}_{name}", start)
    add("adapted", "adapt_tasks", setting, {"start": "maml"})
    add("adapted_hnet", "adapt_tasks", f"{setting}_hnet", {"start": "hnet_maml"})
    add("hvae", "train_hvae", setting, {"adapted": "adapted"})
    of_hvae, of_hnet = {"adapted": "adapted", "hvae": "hvae"}, {"adapted": "adapted_hnet"}
    ours, theirs, latents = DIFFUSION[setting]
    for share in cfg.shares:
        part = {"question_fraction": share / 100}
        add(f"cond_multitask_{share}", "train_hypernet", f"{setting}_conditional", start, **part)
        for name in ("film", "cond_hnet_maml"):
            add(f"{name}_{share}", "train_hypernet", f"{setting}_{name}", start, **part)
        add(f"hyperclip_{share}", "train_hyperclip", setting, of_hvae, **part)
        add(f"hyperclip_hnet_{share}", "train_hyperclip", setting, of_hnet, **part)
        add(f"hyperldm_{share}", "train_hyperldm", ours, of_hvae, **part)
        add(f"hyperldm_paper_{share}", "train_hyperldm", theirs, of_hvae, **part)
        add(f"hyperldm_hnet_{share}", "train_hyperldm", latents, of_hnet, **part)
    words = {**source, "runs": runs, "seed": seed, "shares": listed(cfg.shares)}
    script, config = "recipes/studies/score_methods.py", f"score_methods/{setting}"
    paths = (runs / "scores.json", script, config)
    add_recipe(found, "scores", *paths, settings=words, needs=tuple(found), cheap=True)
    return found


def check_data(cfg: Config) -> dict[str, Any]:
    """What tells this data set from others, and the setting that is trained on it.

    Raises:
        InputError: no features, a split that is missing, a task without a question, or an unknown setting.
    """
    splits = load_splits(cfg.dataset, cfg.features, train=True, needs=("train", "validation"), questions=True)
    setting = cfg.setting or ("scenes" if "held_out_meanings" in splits else "paper")
    if setting not in DIFFUSION:
        raise InputError(f"expected setting to be one of {', '.join(DIFFUSION)}, got {setting!r}")
    return {"dataset": dataset_digest(cfg.dataset, cfg.features), "setting": setting}


def main(cfg: Config) -> None:
    if cfg.seeds < 1 or not cfg.shares or not all(0 < share <= 100 for share in cfg.shares):
        raise InputError(f"expected seeds from 1 up and shares in (0, 100], got {cfg.seeds} and {cfg.shares}")
    here, runs, output = check_data(cfg), runs_of(cfg), Path(cfg.output).resolve()
    chains = [stages(cfg, here["setting"], seed) for seed in range(cfg.seeds)]
    if cfg.dry:
        for stage in (stage for chain in chains for stage in chain.values()):
            print("python", *stage.command)
        return
    claim_folders([runs, output], here)
    for seed, chain in enumerate(chains):
        run_stages(chain, ROOT, runs / f"seconds{seed}.json")
        words = [f"runs={runs}", f"output={output}", f"seeds={seed + 1}", f"shares={listed(cfg.shares)}"]
        if run(["recipes/studies/report_methods.py", *words], ROOT):
            raise InputError("the tables could not be written, see above")


if __name__ == "__main__":
    training.run(main, Config, __doc__)
