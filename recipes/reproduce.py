"""The tables of the paper from one command: trains what is not there yet, scores every method, writes means over seeds.

    python recipes/reproduce.py dataset=runs/demo/scenes/dataset output=results/scenes seeds=3

Can be stopped and started again: finished stages are reused. On Scenes the small settings are trained (`configs/*/scenes*.yaml`), on any
other data set, so on a real Meta-VQA, the paper's (`configs/*/paper*.yaml`); `setting=` overrules that. `dry=true` only lists the
commands. What is written into `output`, after every seed, is described in `report_methods.py`.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from weightgen.data.features.store import find_features
from weightgen.data.meta_vqa.disk import load_meta_vqa
from weightgen.errors import InputError, one_line_errors
from weightgen.reports.stages import Stage, run, run_stages
from weightgen.storage.files import read_json, write_json
from weightgen.training.config import parse

ROOT = Path(__file__).resolve().parent.parent
SETTINGS = ("scenes", "paper")
# HVAE + HyperLDM as we have it, as the paper has it, and HNet + HyperLDM
DIFFUSION = {
    "scenes": ("scenes", "scenes_paper", "scenes_hnet"),
    "paper": ("paper_weightgen", "paper", "paper"),
}


@dataclass
class Config:
    dataset: str = MISSING
    output: str = MISSING  # folder of the tables and figures
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
    runs = runs_of(cfg) / f"seed{seed}"
    found: dict[str, Stage] = {}

    def add(name: str, recipe: str, variant: str, **settings: object) -> Path:
        words = [f"{key}={value}" for key, value in settings.items()]
        config = ["--config", f"recipes/configs/{recipe}/{variant}.yaml"]
        command = [f"recipes/{recipe}.py", *config, f"dataset={Path(cfg.dataset).resolve()}", *words]
        found[f"seed{seed}/{name}"] = Stage(runs / name, [*command, f"output={runs / name}", f"seed={seed}"])
        return runs / name

    multitask = add("multitask", "train_hypernet", setting)
    # Scenes is small, and training short: there all begin at the multitask weights, in the paper each at its own.
    start = {"start": multitask} if setting == "scenes" else {}
    maml, _, hnet = (
        add(name, "train_hypernet", f"{setting}_{name}", **start) for name in ("maml", "fomaml", "hnet_maml")
    )
    adapted = add("adapted", "adapt_tasks", setting, start=maml)
    adapted_hnet = add("adapted_hnet", "adapt_tasks", f"{setting}_hnet", start=hnet)
    hvae = add("hvae", "train_hvae", setting, adapted=adapted)
    ours, theirs, of_hnet = DIFFUSION[setting]
    for share in cfg.shares:
        part = {"questions": share / 100}
        for name, variant in (
            ("cond_multitask", "conditional"),
            ("film", "film"),
            ("cond_hnet_maml", "cond_hnet_maml"),
        ):
            add(f"{name}_{share}", "train_hypernet", f"{setting}_{variant}", **start, **part)
        add(f"hyperclip_{share}", "train_hyperclip", setting, adapted=adapted, hvae=hvae, **part)
        add(f"hyperclip_hnet_{share}", "train_hyperclip", setting, adapted=adapted_hnet, **part)
        add(f"hyperldm_{share}", "train_hyperldm", ours, adapted=adapted, hvae=hvae, **part)
        add(f"hyperldm_paper_{share}", "train_hyperldm", theirs, adapted=adapted, hvae=hvae, **part)
        add(f"hyperldm_hnet_{share}", "train_hyperldm", of_hnet, adapted=adapted_hnet, **part)
    scores, listed = runs / "scores.json", ",".join(map(str, cfg.shares))
    words = [f"dataset={Path(cfg.dataset).resolve()}", f"runs={runs}", f"output={scores}", f"seed={seed}"]
    config = ["--config", f"recipes/configs/score_methods/{setting}.yaml"]
    command = ["recipes/score_methods.py", *config, *words, f"shares=[{listed}]"]
    found[f"seed{seed}/scores"] = Stage(scores, command)
    return found


def check_data(cfg: Config) -> dict[str, Any]:
    """What tells this data set from others, and the setting that is trained on it.

    Raises:
        InputError: no features, a split that is missing, a task without a question, or an unknown setting.
    """
    splits, store = load_meta_vqa(cfg.dataset), find_features(cfg.dataset)
    if missing := [name for name in ("train", "validation", "test") if name not in splits]:
        raise InputError(
            f"{cfg.dataset} has no split {', '.join(missing)}: prepare it with a validation fraction"
        )
    for name, split in splits.items():
        if bare := [row for row, question in enumerate(split["question"]) if not question.strip()]:
            raise InputError(
                f"{cfg.dataset}: task {bare[0]} of {name} has no question, which conditional methods need"
            )
    setting = cfg.setting or ("scenes" if "novel_composition" in splits else "paper")
    if setting not in SETTINGS:
        raise InputError(f"expected setting to be one of {', '.join(SETTINGS)}, got {setting!r}")
    content = json.dumps(
        store.plan, sort_keys=True
    )  # digests of the encoder, and of the names of all it has embedded
    return {"dataset": hashlib.sha256(content.encode()).hexdigest()[:16], "setting": setting}


def claim(folders: Sequence[Path], here: dict[str, Any]) -> None:
    """Mark folders as those of a data set and a setting, if none is another one's.

    Raises:
        InputError: one holds results of another.
    """
    for folder in folders:
        origin = folder / "origin.json"
        if origin.is_file() and read_json(origin) != here:
            raise InputError(
                f"{folder} holds results of {read_json(origin)}, not of {here}: give another folder"
            )
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / "origin.json", here)


def forget_scores(found: dict[str, Stage]) -> None:
    """Remove scores that do not know all models."""
    *models, scores = found.values()
    if not all(stage.makes.exists() for stage in models):
        scores.makes.unlink(missing_ok=True)


def main(cfg: Config) -> None:
    if cfg.seeds < 1 or not cfg.shares or not all(0 < share <= 100 for share in cfg.shares):
        raise InputError(f"expected seeds from 1 up and shares in (0, 100], got {cfg.seeds} and {cfg.shares}")
    here, runs, output = check_data(cfg), runs_of(cfg), Path(cfg.output).resolve()
    if cfg.dry:
        for seed in range(cfg.seeds):
            for stage in stages(cfg, here["setting"], seed).values():
                print("python", *stage.command)
        return
    claim([runs, output], here)
    shares = f"shares=[{','.join(map(str, cfg.shares))}]"
    for seed in range(cfg.seeds):
        found = stages(cfg, here["setting"], seed)
        forget_scores(found)
        run_stages(found, ROOT, runs / f"seconds{seed}.json")
        report = [
            "recipes/report_methods.py",
            f"runs={runs}",
            f"output={output}",
            f"seeds={seed + 1}",
            shares,
        ]
        if run(report, ROOT):
            raise InputError("the tables could not be written, see above")


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
