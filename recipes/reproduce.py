"""The tables of the paper from one command: trains what is not there yet, scores every method, writes means over seeds.

    python recipes/reproduce.py dataset=runs/demo-scenes/scenes/dataset features=tokens output=results/scenes/tokens seeds=3

Can be stopped and started again: finished stages are reused. On Scenes and Photos small settings are trained (`configs/*/scenes*.yaml`, on
features of whole pictures or on image tokens, and `configs/*/photos*.yaml`), on any other data set, so on a real Meta-VQA, the paper's
(`configs/*/paper*.yaml`); `setting=` overrules that. `dry=true` only lists the commands. What is written into `output`, after every seed,
is described in `studies/report_methods.py`. Nava, Kobayashi et al., 2023: tables 1 and 4, figures 3 and 5. On Scenes and on Photos 15 to 20
minutes for each seed on one CPU thread.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.errors import InputError
from weightgen.reports.paper import SETTINGS, paper_stages
from weightgen.reports.splits import Splits, dataset_digest, load_splits
from weightgen.reports.stages import Stage, claim_folders, listed, run, run_stages

ROOT = Path(__file__).resolve().parent.parent


@dataclass
class Config:
    dataset: str = training.MISSING
    output: str = training.MISSING  # folder of the tables and figures
    features: str | None = None  # name of the features, where the data set has several
    runs: str | None = None  # folder of everything trained; by default runs/ and the name of `output`
    seeds: int = 3
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions
    setting: str | None = None  # one of SETTINGS; by default what fits the data set
    dry: bool = False  # list the commands and stop


def runs_of(cfg: Config) -> Path:
    """The folder of everything trained."""
    return Path(cfg.runs or f"runs/{Path(cfg.output).name}").resolve()


def stages(cfg: Config, setting: str, seed: int) -> dict[str, Stage]:
    """All that one seed needs."""
    source = {"dataset": Path(cfg.dataset).resolve(), **({"features": cfg.features} if cfg.features else {})}
    return paper_stages(runs_of(cfg) / f"seed{seed}", source, setting, seed, cfg.shares)


def fitting_setting(splits: Splits) -> str:
    """The setting for a data set, told by the splits that only Scenes and only Photos have."""
    store = splits["train"].store
    if "held_out_meanings" in splits:
        return "scenes_tokens" if store.dim("images") > store.dim("answers") else "scenes"
    return "photos" if "unseen_classes" in splits else "paper"


def check_data(cfg: Config) -> dict[str, Any]:
    """What tells this data set from others, and the setting that is trained on it.

    Raises:
        InputError: no features, a split that is missing, a task without a question, or an unknown setting.
    """
    splits = load_splits(cfg.dataset, cfg.features, train=True, needs=("train", "validation"), questions=True)
    setting = cfg.setting or fitting_setting(splits)
    if setting not in SETTINGS:
        raise InputError(f"expected setting to be one of {', '.join(SETTINGS)}, got {setting!r}")
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
