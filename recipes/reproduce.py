"""The tables of the paper from one command: trains what is not there yet, scores every method, writes means over seeds.

    python recipes/reproduce.py dataset=runs/demo/scenes/dataset output=results/scenes runs=runs/scenes seeds=3

Can be stopped and started again: finished stages are reused. With a real Meta-VQA and setting=paper the paper's sizes are trained.
Writes table1.{json,md} (zero-shot, by share of the questions) and table4.{json,md} (few-shot) into `output`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from omegaconf import MISSING

from weightgen.config import parse
from weightgen.errors import InputError, one_line_errors
from weightgen.files import read_json, write_json, written_beside
from weightgen.stages import Stage, run_stages

ROOT = Path(__file__).resolve().parent.parent
ZERO_SHOT = {
    "cond_multitask": "Cond. Multitask",
    "hyperclip": "HVAE + HyperCLIP guidance",
    "hyperldm_paper": "HVAE + HyperLDM (paper)",
    "hyperldm": "HVAE + HyperLDM (weightgen)",
}  # rows by share of the questions
UNCONDITIONAL = {
    "chance": "chance",
    "clip": "CLIP as base model",
    "clip_with_question": "CLIP, question in the answers' statements",
    "uncond_multitask": "Uncond. Multitask (floor)",
    "few_shot_maml": "few-shot MNet-MAML (ceiling)",
}
FEW_SHOT = {
    "clip": "CLIP as base model (floor)",
    "few_shot_multitask": "Uncond. Multitask",
    "few_shot_fomaml": "Uncond. MNet-FOMAML",
    "few_shot_maml": "Uncond. MNet-MAML",
}
SPLITS = {"test": "random questions", "novel_composition": "novel compositions"}


@dataclass
class Config:
    dataset: str = MISSING
    output: str = MISSING  # folder of the tables
    runs: str = MISSING  # folder of everything trained
    seeds: int = 3
    shares: list[int] = field(default_factory=lambda: [10, 50, 100])  # per cent of the questions


def stages(cfg: Config, seed: int) -> dict[str, Stage]:
    """All that one seed needs, shared between methods: one MAML start, one set of adapted weights, one autoencoder."""
    runs = Path(cfg.runs).resolve() / f"seed{seed}"
    found: dict[str, Stage] = {}

    def add(name: str, recipe: str, variant: str, **settings: object) -> None:
        words = [f"{key}={value}" for key, value in settings.items()]
        config = f"recipes/configs/{recipe}/{variant}.yaml"
        command = [
            f"recipes/{recipe}.py",
            "--config",
            config,
            f"dataset={Path(cfg.dataset).resolve()}",
            *words,
        ]
        found[f"seed{seed}/{name}"] = Stage(runs / name, [*command, f"output={runs / name}", f"seed={seed}"])

    multitask, adapted, hvae = (runs / name for name in ("multitask", "adapted", "hvae"))
    add("multitask", "train_hypernet", "scenes")
    add("maml", "train_hypernet", "scenes_maml", start=multitask)
    add("fomaml", "train_hypernet", "scenes_fomaml", start=multitask)
    add("adapted", "adapt_tasks", "scenes", start=runs / "maml")
    add("hvae", "train_hvae", "scenes", adapted=adapted)
    for share in cfg.shares:
        part = {"questions": share / 100}
        add(f"cond_multitask_{share}", "train_hypernet", "scenes_conditional", start=multitask, **part)
        add(f"hyperclip_{share}", "train_hyperclip", "scenes", adapted=adapted, hvae=hvae, **part)
        for name, variant in (("hyperldm", "scenes"), ("hyperldm_paper", "scenes_paper")):
            add(f"{name}_{share}", "train_hyperldm", variant, adapted=adapted, hvae=hvae, **part)
    scores = runs / "scores.json"
    words = [f"dataset={Path(cfg.dataset).resolve()}", f"runs={runs}", f"output={scores}", f"seed={seed}"]
    shares = f"shares=[{','.join(map(str, cfg.shares))}]"
    found[f"seed{seed}/scores"] = Stage(scores, ["recipes/score_methods.py", *words, shares])
    return found


def summary(scores: Sequence[Mapping[str, Any]], row: str) -> dict[str, dict[str, Any]]:
    """Mean and standard deviation over seeds of one row, by split."""
    values = {split: [score[row][split] for score in scores] for split in SPLITS if split in scores[0][row]}
    return {
        split: {"mean": fmean(v), "std": stdev(v) if len(v) > 1 else None, "seeds": v}
        for split, v in values.items()
    }


def cell(entry: Mapping[str, Any]) -> str:
    return f"{100 * entry['mean']:.1f}" + ("" if entry["std"] is None else f" ± {100 * entry['std']:.1f}")


def write_table(
    path: Path, title: str, rows: Mapping[str, Mapping[str, Any]], facts: Mapping[str, Any]
) -> None:
    """`path`.json and `path`.md with the same numbers."""
    write_json(path.with_suffix(".json"), {"title": title, **facts, "rows": rows})
    names = [name for name in SPLITS if any(name in row for row in rows.values())]
    lines = [f"{title} Accuracy in %, mean ± s.d. over {facts['seeds']} training seeds.", ""]
    lines += ["| | " + " | ".join(SPLITS[name] for name in names) + " |", "|---|" + "---|" * len(names)]
    lines += [
        f"| {label} | " + " | ".join(cell(row[name]) for name in names) + " |" for label, row in rows.items()
    ]
    with written_beside(path.with_suffix(".md"), overwrite=True) as partial:
        partial.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_tables(cfg: Config, scores: Sequence[Mapping[str, Any]], seconds: Mapping[str, float]) -> None:
    output = Path(cfg.output)
    output.mkdir(parents=True, exist_ok=True)
    command = f"python recipes/reproduce.py dataset={cfg.dataset} output={cfg.output} runs={cfg.runs} seeds={cfg.seeds}"
    versions = {name: version(name) for name in ("weightgen", "torch", "diffusers")}
    facts = {
        "seeds": len(scores),
        "command": command,
        "versions": versions,
        "seconds": round(sum(seconds.values())),
    }
    zero = {label: summary(scores, row) for row, label in UNCONDITIONAL.items()}
    for share in reversed(cfg.shares):
        zero |= {
            f"{label}, {share} % Q.": summary(scores, f"{row}_{share}") for row, label in ZERO_SHOT.items()
        }
    few = {label: summary(scores, row) for row, label in FEW_SHOT.items()}
    write_table(output / "table1", "Zero-shot (the paper's table 1).", zero, facts)
    write_table(output / "table4", "Few-shot, 50 gradient steps.", few, facts)


def main(cfg: Config) -> None:
    if cfg.seeds < 1 or not cfg.shares or not all(0 < share <= 100 for share in cfg.shares):
        raise InputError(f"expected seeds from 1 up and shares in (0, 100], got {cfg.seeds} and {cfg.shares}")
    origin = Path(cfg.runs) / "dataset.json"
    here = str(Path(cfg.dataset).resolve())
    if origin.is_file() and read_json(origin) != here:
        raise InputError(f"{cfg.runs} holds runs on {read_json(origin)}, not on {here}: give another folder")
    Path(cfg.runs).mkdir(parents=True, exist_ok=True)
    write_json(origin, here)
    scores, seconds = [], {}
    for seed in range(cfg.seeds):
        clock = Path(cfg.runs) / f"seconds{seed}.json"
        seconds |= run_stages(stages(cfg, seed), ROOT, clock)
        scores.append(read_json(Path(cfg.runs) / f"seed{seed}/scores.json"))
        write_tables(cfg, scores, seconds)
    print((Path(cfg.output) / "table1.md").read_text())
    print((Path(cfg.output) / "table4.md").read_text())


if __name__ == "__main__":
    with one_line_errors():
        main(parse(Config, __doc__))
