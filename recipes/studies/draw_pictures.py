r"""Does a network that is sampled for a caption draw what the caption says? A study on pictures as networks.

    python recipes/studies/draw_pictures.py output=results/zoo/sines

A small sine network is fitted to each of 768 pictures of one object; HVAE and HyperLDM learn from the zoo of these networks, with the
difference of the drawn pictures as a score, and draw captions that no network was fitted to in training. The small CLIP that sees Scenes
says whether the picture shows its caption rather than one of 99 others. All that again, with one seed, for fits that do not begin at one
network. Finished stages are reused. Writes `output`.json, .md and .png. 30 minutes on a CPU core.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from weightgen import training
from weightgen.reports.stages import Stage, add_recipe, listed, run_stages
from weightgen.reports.tables import markdown_table, over_seeds, percent, spread, versions, write_report
from weightgen.storage.files import read_json

ROOT = Path(__file__).resolve().parent.parent.parent
STARTS = {"common": True, "own": False}  # name of a zoo → whether its fits begin at one network


@dataclass
class Config:
    output: str = training.MISSING  # .json, .md and .png are added
    clip: str = "data/scenes/clip"  # embeds captions, and judges pictures
    runs: str = "runs/sines"  # folder of everything trained
    seeds: int = 2
    fit: dict[str, Any] = field(default_factory=dict)  # further settings of fit_pictures.py


def stages(cfg: Config) -> dict[str, Stage]:
    """Fits, zoos, and generators of each seed."""
    found: dict[str, Stage] = {}
    runs, clip = Path(cfg.runs).resolve(), Path(cfg.clip).resolve()
    for name, common in STARTS.items():
        fit = {"common_start": common, **cfg.fit}
        add_recipe(found, f"fit_{name}", runs / name, "recipes/studies/fit_pictures.py", settings=fit)
        words = ["-m", "weightgen", "zoo", "import", f"{runs / name / 'networks'}"]
        texts = ["--descriptions", f"{runs / name / 'texts.jsonl'}", "--output", f"{runs / f'zoo_{name}'}"]
        found[f"zoo_{name}"] = Stage(runs / f"zoo_{name}", [*words, *texts], (f"fit_{name}",))
        for seed in range(cfg.seeds if common else 1):
            home, hvae = runs / f"seed{seed}", f"hvae_{name}_{seed}"
            given = ({"adapted": f"zoo_{name}"}, {"seed": seed})
            add_recipe(
                found, hvae, home / f"hvae_{name}", "recipes/train_hvae.py", "train_hvae/sines", *given
            )
            of, settings = {**given[0], "hvae": hvae}, {"text_encoder": clip, "seed": seed}
            script, config, path = (
                "recipes/train_hyperldm.py",
                "train_hyperldm/sines",
                home / f"pipeline_{name}",
            )
            add_recipe(found, f"pipeline_{name}_{seed}", path, script, config, of, settings)
    for seed in range(cfg.seeds):
        first = {"sheet": Path(f"{cfg.output}.png").resolve(), "zoos": listed(STARTS)}
        settings = {"runs": runs, "seed": seed} | ({"zoos": listed(["common"])} if seed else first)
        path, script, needs = (
            runs / f"seed{seed}/scores.json",
            "recipes/studies/score_pictures.py",
            tuple(found),
        )
        add_recipe(found, f"scores_{seed}", path, script, settings=settings, needs=needs, cheap=True)
    return found


def main(cfg: Config) -> None:
    chain = stages(cfg)
    seconds = run_stages(chain, ROOT, Path(cfg.runs, "seconds.json"))
    seeds = [read_json(chain[f"scores_{seed}"].makes) for seed in range(cfg.seeds)]
    fits = {name: read_json(chain[f"fit_{name}"].makes / "fits.json") for name in STARTS}
    count = seeds[0]["captions"]
    rows = {
        row: spread([seed["rows"][row] for seed in seeds if row in seed["rows"]]) for row in seeds[0]["rows"]
    }
    rows["chance"] = spread([1 / count] * cfg.seeds)
    table = markdown_table(
        ["picture", "right caption first"], [[row, percent(value)] for row, value in rows.items()]
    )
    head = f"How often CLIP ranks the right one of {count} held-out captions first, in %, {over_seeds(cfg.seeds)} (own starts: one).\n\n"
    errors = [[name, f"{fit['squared_error']:.4f}"] for name, fit in fits.items()]
    below = "\n" + markdown_table(["start of the fits", "squared error of the fitted pictures"], errors)
    facts = {"captions": count, "fits": fits, "zoos": [seed["zoos"] for seed in seeds]}
    facts |= {"seconds": round(sum(seconds.values())), "versions": versions()}
    write_report(cfg.output, {"rows": rows, **facts}, head + table + below)


if __name__ == "__main__":
    training.run(main, Config, __doc__)
