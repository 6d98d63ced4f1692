r"""Are low-rank adapters that are generated from a question as good as fine-tuned ones? A study on a transformer.

    python recipes/studies/generate_loras.py dataset=runs/demo-scenes/scenes/dataset output=results/zoo/lora

Adapters of the text tower of the small CLIP that sees Scenes are fine-tuned on the training tasks, written as PEFT folders, and imported
as a zoo; HVAE and HyperLDM learn from the zoo, and a hypernetwork from the loss of the tasks. What they write for the questions of held-out
meanings is scored as `peft` loads it. All that again for fits that do not begin at one point. Finished stages are reused. Writes
`output`.json and .md. An hour on a CPU core for two seeds.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import MISSING

from weightgen import training
from weightgen.reports.loras import lora_table
from weightgen.reports.splits import dataset_digest
from weightgen.reports.stages import Stage, add_recipe, claim_folders, run_stages
from weightgen.reports.tables import spread, versions, write_report
from weightgen.storage.files import read_json

ROOT = Path(__file__).resolve().parent.parent.parent
STARTS = {"common": True, "own": False}  # name of a zoo → whether its fits begin at one point


@dataclass
class Config:
    dataset: str = MISSING  # Meta-VQA folder of Scenes
    output: str = MISSING  # .json and .md are added
    features: str = "clip"  # of whole pictures
    runs: str = "runs/loras"  # folder of everything trained
    seeds: int = 2
    most: int | None = None  # training meanings whose adapters are fitted; by default all


def add_zoos(found: dict[str, Stage], cfg: Config, runs: Path, given: dict[str, Any]) -> None:
    """Fine-tuned adapters as PEFT folders, and a zoo of them, for both kinds of starts."""
    for name, common in STARTS.items():
        fit = {**given, "common_start": common} | ({"most": cfg.most} if cfg.most else {})
        add_recipe(found, f"fit_{name}", runs / name, "recipes/studies/fit_loras.py", settings=fit)
        zoo = runs / f"zoo_{name}"
        words = ["-m", "weightgen", "zoo", "import", f"{runs / name / 'adapters'}"]
        texts = ["--descriptions", f"{runs / name / 'texts.jsonl'}", "--output", f"{zoo}"]
        found[f"zoo_{name}"] = Stage(zoo, [*words, *texts], (f"fit_{name}",))


def stages(cfg: Config) -> dict[str, Stage]:
    """Everything that is trained, and the scores of each seed."""
    found: dict[str, Stage] = {}
    runs = Path(cfg.runs).resolve()
    data = Path(cfg.dataset).resolve()
    given = {"dataset": data, "features": cfg.features, "tower": runs / "tower"}
    add_zoos(found, cfg, runs, given)
    for seed in range(cfg.seeds):
        home, seeded = runs / f"seed{seed}", {"seed": seed}
        for name in STARTS:
            zoo, hvae = {"adapted": f"zoo_{name}"}, f"hvae_{name}_{seed}"
            add_recipe(
                found, hvae, home / f"hvae_{name}", "recipes/train_hvae.py", "train_hvae/loras", zoo, seeded
            )
            texts = {"text_encoder": data / "features" / cfg.features / "encoder", **seeded}
            script, config = "recipes/train_hyperldm.py", "train_hyperldm/loras"
            path = home / f"pipeline_{name}"
            add_recipe(found, f"pipeline_{name}_{seed}", path, script, config, {**zoo, "hvae": hvae}, texts)
        start = {"start": "fit_common"}
        script = "recipes/studies/write_loras.py"
        add_recipe(found, f"written_{seed}", home / "written", script, of=start, settings={**given, **seeded})
        scored = {key: value for key, value in given.items() if key != "tower"} | {"runs": runs, **seeded}
        script, path = "recipes/studies/score_loras.py", home / "scores.json"
        add_recipe(found, f"scores_{seed}", path, script, settings=scored, needs=tuple(found), cheap=True)
    return found


def main(cfg: Config) -> None:
    claim_folders([Path(cfg.runs)], {"dataset": dataset_digest(cfg.dataset, cfg.features)})
    chain = stages(cfg)
    seconds = run_stages(chain, ROOT, Path(cfg.runs, "seconds.json"))
    seeds = [read_json(chain[f"scores_{seed}"].makes) for seed in range(cfg.seeds)]
    rows = {
        row: {
            split: spread([seed["rows"][row][split] for seed in seeds])
            for split in seeds[0]["rows"]["chance"]
        }
        for row in seeds[0]["rows"]
    }
    scored = [seed["rows"] for seed in seeds]
    chosen = {
        row: [{key: seed[row][key] for key in ("chosen", "tried")} for seed in scored]
        for row in rows
        if "chosen" in scored[0][row]
    }
    fits = {name: read_json(chain[f"fit_{name}"].makes / "fits.json") for name in STARTS}
    facts = {"seeds": cfg.seeds, "variance": seeds[0]["variance"], "fits": fits, "chosen": chosen}
    facts |= {"seconds": round(sum(seconds.values())), "versions": versions()}
    write_report(cfg.output, {"rows": rows, **facts}, lora_table(rows, facts))


if __name__ == "__main__":
    training.run(main, Config, __doc__)
